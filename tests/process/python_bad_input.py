# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments of every kind: each row is answered by its exception within its time, and the engine works after it.
Run by test_python_bad_input.py."""

import re
import threading
import time

import causeway
import numpy
from python_cases import FakeTensor, Pair

SECONDS = 2  # for whoever need not ask a peer
LOOKUP_SECONDS = 20  # names that a resolver has to give up

pair = Pair(1 << 16)
near, segment, here, there = pair.near, pair.segment, pair.here, pair.there.address
HUGE = 1 << 64
freed = near.allocate(4096)
freed_address = freed.address
freed.free()
gone = bytearray(4096)
unregistered = near.register(gone)
unregistered.unregister()
closed_segment = near.open(pair.far.name)
closed_segment.close()
other = Pair(4096)
counter = near.counter()
ended = near.write(segment, here, there)
ended.wait()
released = near.write(segment, here, there)
released.wait()
released.release()
uint64 = numpy.uint64


class Raises:
    """An object whose faces all fail."""

    def __index__(self):
        raise ZeroDivisionError

    def __len__(self):
        return 3

    def __getitem__(self, place):
        raise ZeroDivisionError


class BadDLPack:
    def __init__(self, answer):
        self.answer = answer

    def __dlpack__(self):
        return self.answer

    def __dlpack_device__(self):
        return (1, 0)


class BadTensor(FakeTensor):
    nbytes = "many"


class NegativeTensor(FakeTensor):
    nbytes = -5


class BadCuda:
    def __init__(self, **members):
        self.__cuda_array_interface__ = {"data": (1, False), "shape": (4,), "typestr": "<f4", **members}


class ShrinkingInt:
    """Makes the list that it is in shorter while that is read."""

    def __init__(self, rows):
        self.rows = rows

    def __index__(self):
        self.rows.clear()
        return 1


def shrinking():
    rows = []
    rows.extend([1, ShrinkingInt(rows), 3])
    return rows


def write(*arguments, **options):
    return lambda: near.write(segment, *arguments, **options)


plain = numpy.zeros(64, dtype=numpy.float32)
ROWS = [
    # types
    ("no arguments", lambda: near.write(), TypeError),
    ("too many", lambda: near.write(segment, 1, 2, 3, 4), TypeError),
    ("twice", lambda: near.write(segment, 1, 2, 3, segment=segment), TypeError),
    ("unknown option", write(here, there, colour=1), TypeError),
    ("segment None", lambda: near.write(None, 1, 2, 3), TypeError),
    ("segment is an engine", lambda: near.write(near, 1, 2, 3), TypeError),
    ("local None", write(None, there, 1), TypeError),
    ("local float", write(1.5, there, 1), TypeError),
    ("local str", write("abc", there, 1), TypeError),
    ("local list of str", write(["a"], [there], 1), TypeError),
    ("local list of None", write([None], [there], 1), TypeError),
    ("local raises", write(Raises(), there, 1), (TypeError, ZeroDivisionError)),
    ("remote str", write(here, "x", 1), TypeError),
    ("remote float array", write([1], numpy.zeros(1), 1), TypeError),
    ("remote 4 bytes", write([1], numpy.zeros(1, dtype=numpy.uint32), 1), TypeError),
    ("remote two dimensions", write([1], numpy.zeros((1, 1), dtype=uint64), 1), TypeError),
    ("remote big endian", write([1], numpy.zeros(1, dtype=">u8"), 1), TypeError),
    ("length str", write(here, there, "1"), TypeError),
    ("length missing", write(here.address, there), TypeError),
    ("lengths of None", write([here.address], [there], [None]), TypeError),
    # numbers
    ("local negative", write(-1, there, 1), ValueError),
    ("remote negative", write(here, -there, 1), ValueError),
    ("length negative", write(here, there, -1), ValueError),
    ("row negative", write([here.address, -2], [there, there], 1), ValueError),
    ("array negative", write(numpy.array([-7]), [there], 1), ValueError),
    ("local huge", write(HUGE, there, 1), OverflowError),
    ("length huge", write(here, there, HUGE), OverflowError),
    ("row huge", write([HUGE + 5], [there], 1), OverflowError),
    ("local at the end", write(HUGE - 1, there, 1), (causeway.NotRegistered, causeway.InvalidArgument)),
    ("local wraps", write(HUGE - 1, there, 100), causeway.InvalidArgument),
    ("remote wraps", write(here.address, HUGE - 1, 100), causeway.InvalidArgument),
    ("rows wrap", write([here.address] * 2, [HUGE - 1] * 2, 100), causeway.InvalidArgument),
    ("length of all memory", write(here.address, there, HUGE - 1), (causeway.NotRegistered, causeway.InvalidArgument)),
    ("length 0", write(here.address, there, 0), causeway.InvalidArgument),
    ("row of length 0", write([here.address] * 2, [there] * 2, [1, 0]), causeway.InvalidArgument),
    ("past the region", write(here.address, there, here.length + 1), causeway.NotRegistered),
    ("not registered", write(0x1000, there, 1), causeway.NotRegistered),
    ("rows not registered", write([here.address, 0x1000], [there, there], 1), causeway.NotRegistered),
    ("remote not registered", lambda: near.write(segment, here, 0x1000).wait(), causeway.NotRegistered),
    ("remote past the region", lambda: near.write(segment, here, there + 1).wait(), causeway.NotRegistered),
    # lists
    ("unequal", write([here.address], [there, there], 1), ValueError),
    ("unequal lengths", write([here.address] * 2, [there] * 2, [1]), ValueError),
    ("one and many", write(here.address, [there], 1), ValueError),
    ("many and one", write([here.address], there, 1), ValueError),
    ("many lengths of one", write(here.address, there, [1, 2]), ValueError),
    ("an integer array is addresses", write(numpy.zeros(64, dtype=uint64), there), (TypeError, ValueError)),
    ("shrinks", write(shrinking(), [1, 2, 3], 1), (IndexError, ValueError)),
    ("empty", lambda: near.write(segment, [], [], []).wait(), None),
    ("empty arrays", lambda: near.read(segment, numpy.zeros(0, uint64), numpy.zeros(0, uint64), 5).wait(), None),
    ("nothing", lambda: near.submit([]).wait(), None),
    ("no pages", lambda: near.write_pages(segment, here, there, 64, [], []).wait(), None),
    # pages
    ("page size 0", lambda: near.write_pages(segment, here, there, 0, [1], [1]), ValueError),
    ("pages unequal", lambda: near.write_pages(segment, here, there, 64, [1], [1, 2]), ValueError),
    ("pages scalar", lambda: near.write_pages(segment, here, there, 64, 1, 2), TypeError),
    ("pages float", lambda: near.write_pages(segment, here, there, 64, numpy.zeros(3), [1, 2, 3]), TypeError),
    ("pages negative", lambda: near.write_pages(segment, here, there, 64, [-1], [1]), ValueError),
    ("pages negative i4", lambda: near.write_pages(segment, here, there, 64, numpy.array([-1], "i4"), [1]), ValueError),
    ("pages outside", lambda: near.write_pages(segment, here, there, 64, [1 << 40], [1]), causeway.NotRegistered),
    ("pages wrap", lambda: near.write_pages(segment, here, there, 64, [1 << 60], [1]), causeway.InvalidArgument),
    ("pages without a count", lambda: near.write_pages(segment, here.address, there, 64), TypeError),
    ("pages of many bases", lambda: near.write_pages(segment, [here.address], [there], 64, [1], [1]), ValueError),
    ("stride huge", lambda: near.write_pages(segment, here, there, 64, [1], [1], local_stride=HUGE), OverflowError),
    # requests
    ("requests int", lambda: near.submit(5), TypeError),
    ("requests of int", lambda: near.submit([5]), TypeError),
    ("requests of short tuples", lambda: near.submit([("write", segment)]), TypeError),
    ("requests op", lambda: near.submit([("move", segment, 1, 2, 3)]), ValueError),
    ("requests op 7", lambda: near.submit([(7, segment, 1, 2, 3)]), ValueError),
    ("requests of columns", lambda: near.submit([("write", segment, [1], 2, 3)]), ValueError),
    ("requests read only", lambda: near.submit([("read", segment, b"12345678", there, 8)]), ValueError),
    # buffers
    ("freed region", write(freed, there), causeway.Closed),
    ("freed address", write(freed_address, there, 10), causeway.NotRegistered),
    ("unregistered buffer", write(gone, there), causeway.NotRegistered),
    ("unregistered twice", unregistered.unregister, causeway.Closed),
    ("freed twice", freed.free, causeway.Closed),
    ("its location", lambda: freed.location, causeway.Closed),
    ("view of freed", lambda: memoryview(freed), causeway.Closed),
    ("read into bytes", lambda: near.read(segment, b"12345678", there, 8), ValueError),
    ("not contiguous", write(plain[::2], there), ValueError),
    ("not registered buffer", write(plain, there), causeway.NotRegistered),
    ("register None", lambda: near.register(None), TypeError),
    ("register str", lambda: near.register("abc"), TypeError),
    ("register without length", lambda: near.register(here.address), TypeError),
    ("register nothing", lambda: near.register(b""), causeway.InvalidArgument),
    ("register length 0", lambda: near.register(1 << 20, 0), causeway.InvalidArgument),
    ("register NULL", lambda: near.register(0, 100), causeway.InvalidArgument),
    ("register negative", lambda: near.register(-4096, 100), ValueError),
    ("register huge", lambda: near.register(4096, HUGE - 1), causeway.InvalidArgument),
    ("register unmapped", lambda: near.register(4096, 4096), (causeway.InvalidArgument, causeway.Unsupported)),
    ("register more than there is", lambda: near.register(plain, 257), ValueError),
    ("register overlap", lambda: near.register(here.address + 8, 100), causeway.Overlap),
    ("register elsewhere", lambda: near.register(plain, location="cuda:0"), causeway.Error),
    ("register nowhere", lambda: near.register(plain, location="moon:0"), causeway.Error),
    ("register access", lambda: near.register(plain, access=9), ValueError),
    ("register bad tensor", lambda: near.register(BadTensor(plain)), TypeError),
    ("register negative tensor", lambda: near.register(NegativeTensor(plain)), ValueError),
    ("register bad DLPack", lambda: near.register(BadDLPack(5)), (TypeError, ValueError)),
    ("register bad shape", lambda: near.register(BadCuda(shape=(-1,))), ValueError),
    ("register huge shape", lambda: near.register(BadCuda(shape=(1 << 62, 1 << 62))), ValueError),
    ("register no data", lambda: near.register(BadCuda(data=None)), TypeError),
    ("register bad type", lambda: near.register(BadCuda(typestr="?")), TypeError),
    ("allocate negative", lambda: near.allocate(-1), ValueError),
    ("allocate 0", lambda: near.allocate(0), causeway.InvalidArgument),
    ("allocate everything", lambda: near.allocate(HUGE - 4096), causeway.Error),
    ("allocate on the moon", lambda: near.allocate(10, location="moon:0"), causeway.Error),
    ("region at nothing", lambda: near.region_at(1), causeway.NotRegistered),
    ("region at the end", lambda: near.region_at(HUGE - 1, HUGE - 1), causeway.Error),
    ("revoke outside", lambda: here.revoke(1 << 40, 1), causeway.InvalidArgument),
    ("revoke negative", lambda: here.revoke(-1), ValueError),
    # objects
    ("closed segment", lambda: near.write(closed_segment, here, there), causeway.Closed),
    ("probe of closed", closed_segment.probe, causeway.Closed),
    ("foreign segment", lambda: near.write(other.segment, here, there), causeway.InvalidArgument),
    ("foreign region", write(other.here, there), causeway.NotRegistered),
    ("released batch", released.wait, causeway.Closed),
    ("after released", write(here, there, after=[released]), causeway.Closed),
    ("after int", write(here, there, after=[5]), TypeError),
    ("after foreign", write(here, there, after=[other.near.submit([])]), causeway.InvalidArgument),
    ("no such request", lambda: ended.request_status(1), IndexError),
    ("request negative", lambda: ended.request_status(-1), ValueError),
    ("made by hand", causeway.Batch, TypeError),
    ("region by hand", causeway.Region, TypeError),
    ("counter of nothing", lambda: causeway.Counter(None), TypeError),
    ("opened twice", lambda: near.__init__(), RuntimeError),
    ("not opened", lambda: causeway.Engine.__new__(causeway.Engine).stats(), causeway.Closed),
    # options
    ("deadline str", write(here, there, deadline="soon"), TypeError),
    ("deadline negative", write(here, there, deadline=-1), ValueError),
    ("deadline nan", write(here, there, deadline=float("nan")), ValueError),
    ("deadline 0", lambda: near.write(segment, here, there, deadline=0).wait(), causeway.TimedOut),
    ("deadline never", lambda: near.write(segment, here, there, deadline=float("inf")).wait(), None),
    ("counter alone", write(here, there, counter=counter), TypeError),
    ("counter negative", write(here, there, counter=(counter, -1)), ValueError),
    ("notify int", write(here, there, notify=5), TypeError),
    ("notify str", write(here, there, notify="abc"), TypeError),
    ("notify short", write(here, there, notify=("a",)), TypeError),
    ("notify name", write(here, there, notify=(5, b"")), TypeError),
    ("notify data", write(here, there, notify=("a", 5)), TypeError),
    ("notify NUL", write(here, there, notify=("a\0b", b"")), ValueError),
    ("notify long name", write(here, there, notify=("a" * 300, b"")), causeway.Error),
    ("notify long", write(here, there, notify=("a", bytes(1 << 17))), causeway.LimitReached),
    ("priority", write(here, there, priority=3), ValueError),
    ("delivery", write(here, there, delivery=HUGE), OverflowError),
    ("device_after", write(here, there, device_after=[5]), TypeError),
    ("device_after kind", write(here, there, device_after=[("cuda:0", 1, "river")]), ValueError),
    ("device_after nowhere", write(here, there, device_after=[("cuda:0", 1, "event")]), causeway.Error),
    ("wait str", lambda: ended.wait("x"), TypeError),
    ("fence nowhere", lambda: ended.fence("cuda:0", 1), causeway.Error),
    # names
    ("name int", lambda: near.open(5), TypeError),
    ("name empty", lambda: near.open(""), causeway.InvalidArgument),
    ("name NUL", lambda: near.open("a\0:1"), ValueError),
    ("no port", lambda: near.open("127.0.0.1"), causeway.Error),
    ("port 0", lambda: near.open("127.0.0.1:0"), causeway.Error),
    ("port 70000", lambda: near.open("127.0.0.1:70000"), causeway.BadAddress),
    ("port text", lambda: near.open("127.0.0.1:http"), causeway.BadAddress),
    ("IPv6 without brackets", lambda: near.open("::1:5"), causeway.Error),
    ("IPv6 without port", lambda: near.open("[::1]"), causeway.Error),
    ("IPv6 nobody", lambda: near.open("[::1]:1"), causeway.Error),
    ("IPv6 broken", lambda: near.open("[::1:1"), causeway.BadAddress),
    ("nobody listens", lambda: near.open("127.0.0.1:1"), causeway.ConnectFailed),
    ("nobody has the name", lambda: near.open("nobody.invalid:1"), (causeway.BadAddress, causeway.Error)),
    ("no answer", lambda: near.open("192.0.2.1:9", timeout=0.2), causeway.Error),
    ("timeout negative", lambda: near.open(pair.far.name, timeout=-1), ValueError),
    ("transports", lambda: near.open(pair.far.name, transports=["tcp", "pigeon"]), causeway.InvalidArgument),
    ("transports int", lambda: near.open(pair.far.name, transports=5), TypeError),
    ("engine name", lambda: causeway.Engine(5), TypeError),
    ("engine name empty host", lambda: causeway.Engine(":5"), causeway.BadAddress),
    ("engine elsewhere", lambda: causeway.Engine("192.0.2.1:0"), causeway.Error),
    ("settings list", lambda: causeway.Engine(settings=["a"]), (TypeError, AttributeError)),
    ("settings key", lambda: causeway.Engine(settings={5: "a"}), TypeError),
    ("settings value", lambda: causeway.Engine(settings={"tcp/slice": 1.5}), TypeError),
    ("settings negative", lambda: causeway.Engine(settings={"tcp/connections": -1}), causeway.ConfigError),
    ("settings NUL", lambda: causeway.Engine(settings={"tcp/slice": "1\0"}), ValueError),
    ("config missing", lambda: causeway.Engine(config="/nowhere/causeway.json"), causeway.ConfigError),
    ("path op", lambda: segment.path(here, there, 1, "move"), ValueError),
    ("path nowhere", lambda: segment.path(0x1000, there, 1), causeway.NotRegistered),
    ("notify closed", lambda: near.notify(closed_segment, b""), causeway.Closed),
    ("notify None", lambda: near.notify(segment, None), TypeError),
]


def check(name, call, expected):
    begun = time.monotonic()
    try:
        result = call()
        problem = f"no exception but {result!r}" if expected else None
    except Exception as error:
        kinds = expected if isinstance(expected, tuple) else (expected,)
        good = expected and isinstance(error, kinds) and (str(error) or isinstance(error, ZeroDivisionError))
        problem = None if good else f"{type(error).__name__}: {error}"
    took = time.monotonic() - begun
    if took > (LOOKUP_SECONDS if re.search("name|answer|IPv6", name) else SECONDS):
        problem = f"took {took:.1f} s"
    if problem:
        print(f"{name}: {problem}")


for row in ROWS:
    check(*row)
# What was refused left nothing behind: all at once from many threads, then an ordinary transfer.
threads = [
    threading.Thread(target=lambda: [check(*row) for row in ROWS if "no" not in row[0] and "name" not in row[0]])
    for _ in range(4)
]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
near.write(segment, here, there).wait(10)
stats = near.stats()
near.close()
pair.far.close()
other.close()
print(f"{len(ROWS)} rows")
