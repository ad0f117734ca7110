# SPDX-License-Identifier: Apache-2.0
"""Cases of the Python package, each run by test_python.py in a process of its own: python_cases.py NAME.

What a case prints and how its process ends counts too: nothing but "ok", status 0.
"""

import array
import ctypes
import gc
import itertools
import os
import pickle
import signal
import socket
import sys
import threading
import time

import causeway
import numpy

LENGTH = 1 << 16


class Pair:
    """Two engines, memory on both sides, a segment from one to the other."""

    def __init__(self, length=LENGTH, **options):
        self.near, self.far = causeway.Engine(**options), causeway.Engine()
        self.here, self.there = self.near.allocate(length), self.far.allocate(length)
        self.segment = self.near.open(self.far.name)

    def view(self, region):
        return numpy.frombuffer(region, dtype=numpy.uint8)

    def close(self):
        self.near.close()
        self.far.close()


def raises(kind, call, *arguments, **options):
    try:
        result = call(*arguments, **options)
    except kind as error:
        return error
    raise AssertionError(f"{call} gave {result!r}, not {kind.__name__}")


# ------------------------------------------------------------------------------------------ moving


def case_moves():
    pair = Pair()
    here, there = pair.view(pair.here), pair.view(pair.there)
    here[:] = numpy.arange(LENGTH) % 251
    result = pair.near.write(pair.segment, pair.here, pair.there.address).wait()
    assert result.state == causeway.BatchState.COMPLETED and result.bytes_completed == LENGTH
    assert (here == there).all()
    there[:100] = 7
    pair.near.read(pair.segment, pair.here.address, pair.there.address, 100).wait()
    assert (here[:100] == 7).all() and here[100] == 100
    # A part of a region by its buffer; the result of one that already ended.
    batch = pair.near.write(pair.segment, here[:10], pair.there.address + 50, 10)
    assert batch.wait().requests_completed == 1 and batch.done and batch.request_status(0) == (0, 10)
    assert batch.result() == batch.finish(0) == batch.wait(0)
    del here, there
    pair.close()


def case_columns():
    pair = Pair()
    here, there = pair.view(pair.here), pair.view(pair.there)
    count, size = 512, 64
    order = numpy.random.default_rng(1).permutation(count)
    local = pair.here.address + numpy.arange(count, dtype=numpy.uint64) * numpy.uint64(size)
    remote = pair.there.address + order.astype(numpy.uint64) * numpy.uint64(size)
    wide = numpy.zeros((count, 2), dtype=numpy.uint64)
    wide[:, 0] = remote
    forms = [
        (local, remote, size),
        (local.tolist(), remote.tolist(), [size] * count),
        (array.array("Q", local.tolist()), tuple(remote.tolist()), size),
        (local.astype(numpy.int64), wide[:, 0], numpy.full(count, size, dtype=numpy.uint64)),
        (list(local), memoryview(remote), size),
    ]
    for seed, (left, right, length) in enumerate(forms):
        here[: count * size] = numpy.random.default_rng(seed).integers(0, 256, count * size, dtype=numpy.uint8)
        there[:] = 0
        assert pair.near.write(pair.segment, left, right, length).wait().bytes_completed == count * size
        rows = there[: count * size].reshape(count, size)
        assert (rows[order] == here[: count * size].reshape(count, size)).all(), seed
    # Lengths that differ.
    lengths = [1 + i % 7 for i in range(count)]
    there[:] = 0
    here[:] = 9
    pair.near.write(pair.segment, local, remote, lengths).wait()
    assert int(there.sum()) == 9 * sum(lengths)
    for kind in (list, lambda rows: numpy.array(rows, dtype=numpy.uint64)):
        result = pair.near.read(pair.segment, kind([]), kind([]), kind([])).wait()
        assert result.state == causeway.BatchState.COMPLETED and result.requests_completed == 0
    del here, there, rows
    pair.close()


def case_regions_on_both_sides():
    """Rows that lie in several regions, here and there, in any order."""
    near, far = causeway.Engine(), causeway.Engine()
    here = [near.allocate(4096 * 4) for _ in range(3)]
    there = [far.allocate(4096 * 3) for _ in range(4)]
    local = [region.address + 4096 * i for region in here for i in range(4)]
    remote = [region.address + 4096 * i for i in range(3) for region in there]
    for number, address in enumerate(local):
        ctypes.memset(address, number + 1, 4096)
    segment = near.open(far.name)
    near.write(segment, local, remote, 4096).wait()
    assert [ctypes.string_at(address, 1)[0] for address in remote] == list(range(1, 13))
    near.close()
    far.close()


def case_pages():
    pair = Pair()
    here, there = pair.view(pair.here), pair.view(pair.there)
    here[:] = numpy.repeat(numpy.arange(LENGTH // 256) % 256, 256)
    for kind in (numpy.int32, numpy.uint32, numpy.int64, numpy.uint64, list):
        left, right = [5, 0, 9, 31], [2, 30, 4, 7]
        if kind is not list:
            left, right = numpy.array(left, dtype=kind), numpy.array(right, dtype=kind)
        there[:] = 255
        pair.near.write_pages(pair.segment, pair.here, pair.there.address, 256, left, right).wait()
        assert (there.reshape(-1, 256)[list(right), 0] == list(left)).all() and (there != 255).sum() == 4 * 256
    # Numbers on one side only, and strides.
    there[:] = 255
    pair.near.write_pages(
        pair.segment, pair.here.address, pair.there.address, 256, None, [3, 1], local_stride=512, remote_stride=1024
    ).wait()
    assert there[3 * 1024] == 0 and there[1024] == 2 and (there != 255).sum() == 512
    pair.near.write_pages(pair.segment, pair.here, pair.there.address, 256).wait()
    assert (here == there).all()
    there[512] = 77
    pair.near.read_pages(pair.segment, pair.here, pair.there.address, 256, [4], [2]).wait()
    assert here[1024] == 77
    assert pair.near.write_pages(pair.segment, pair.here, 1, 256, [], []).wait().requests_completed == 0
    del here, there
    pair.close()


def case_requests():
    pair = Pair()
    request = causeway.Request
    batch = pair.near.submit(
        [
            request("write", pair.segment, pair.here.address, pair.there.address, 100),
            request(causeway.Op.READ, pair.segment, pair.here.address + 200, pair.there.address, 100),
            (1, pair.segment, pair.here, pair.there.address, None),
            request("write", pair.segment, pair.here.address, 0x1000, 10),
        ]
    )
    error = raises(causeway.NotRegistered, batch.wait, 10)
    assert error.result.requests_completed == 3 and error.result.requests_failed == 1, error.result
    assert [batch.request_status(i)[0] for i in range(4)] == [0, 0, 0, causeway.Status.NOT_REGISTERED]
    raises(IndexError, batch.request_status, 4)
    assert pair.near.submit([]).wait().state == causeway.BatchState.COMPLETED
    pair.close()


def case_options():
    pair = Pair()
    with pair.near.counter() as counter:
        first = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 2))
        bulk = causeway.Priority.BULK
        second = pair.near.write(pair.segment, pair.here, pair.there.address, after=[first], priority=bulk)
        assert first.state == second.state == causeway.BatchState.WAITING
        raises(causeway.Timeout, second.wait, 0.01)
        assert second.finish(0) is None
        counter.add()
        assert not first.done
        counter.add(5)
        second.wait(10)
        late = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 100), deadline=0.02)
        assert isinstance(raises(causeway.TimedOut, late.wait, 10), TimeoutError)
        stopped = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 100))
        stopped.cancel()
        assert raises(causeway.Canceled, stopped.wait, 10).result.state == causeway.BatchState.CANCELED
        behind = pair.near.write(pair.segment, pair.here, pair.there.address, after=stopped)
        raises(causeway.PrerequisiteFailed, behind.wait, 10)
        orphan = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 100))
    raises(causeway.PrerequisiteFailed, orphan.wait, 10)
    pair.near.write(
        pair.segment, pair.here, pair.there.address, fail_fast=True, strict=True, checksum=True, delivery=2, deadline=9
    ).wait()
    pair.close()


def case_notifications():
    pair = Pair()
    assert pair.far.notifications() == [] and pair.far.wait_notification(0) is None
    pair.near.write(pair.segment, pair.here, pair.there.address, notify=("one", b"a\0b")).wait()
    assert pair.far.wait_notification(10) == (pair.near.name, "one", b"a\0b")
    several = [causeway.Notify("two", bytearray(b"x")), ("three", "text", pair.segment)]
    pair.near.write(pair.segment, [], [], [], notify=several[1]).wait()
    pair.near.write(pair.segment, pair.here, pair.there.address, notify=several).wait()
    pair.near.notify(pair.segment, b"alone")
    got = []
    while len(got) < 4:
        got += [(note.name, note.data) for note in pair.far.notifications()]
    assert sorted(got) == [("", b"alone"), ("three", b"text"), ("three", b"text"), ("two", b"x")], got
    raises(causeway.LimitReached, pair.near.notify, pair.segment, bytes(70000))
    pair.close()


# ---------------------------------------------------------------------------------------- memory


class FakeTensor:
    """What of torch.Tensor is used, over numpy."""

    def __init__(self, array, contiguous=True):
        self.array, self.contiguous, self.device = array, contiguous, "cpu"

    def data_ptr(self):
        return self.array.ctypes.data

    def is_contiguous(self):
        return self.contiguous

    def numel(self):
        return self.array.size

    def element_size(self):
        return self.array.itemsize


class NewTensor(FakeTensor):
    @property
    def nbytes(self):
        return self.array.nbytes


class OnlyDLPack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OnlyCuda:
    def __init__(self, array, strides=None):
        self.__cuda_array_interface__ = {
            "data": (array.ctypes.data, False),
            "shape": array.shape,
            "typestr": array.dtype.str,
            "strides": strides,
            "version": 3,
        }


def case_memory():
    engine = causeway.Engine()
    plain = numpy.zeros((64, 100), dtype=numpy.float32)
    forms = [
        (plain, plain.ctypes.data, plain.nbytes),
        (plain[3:5], plain[3:].ctypes.data, 800),
        (plain.T, plain.ctypes.data, plain.nbytes),
        (memoryview(plain), plain.ctypes.data, plain.nbytes),
        (FakeTensor(plain), plain.ctypes.data, plain.nbytes),
        (NewTensor(plain), plain.ctypes.data, plain.nbytes),
        (OnlyDLPack(plain), plain.ctypes.data, plain.nbytes),
        (OnlyDLPack(plain[2:4]), plain[2:].ctypes.data, 800),
        (OnlyCuda(plain), plain.ctypes.data, plain.nbytes),
    ]
    for memory, address, length in forms:
        before = sys.getrefcount(plain)
        with engine.register(memory) as region:
            assert (region.address, region.length) == (address, length)
            assert region.kind == causeway.MemoryKind.HOST and region.device == -1
            assert region.location.startswith("cpu:") and region.access == causeway.Access.REMOTE
        assert region.closed and sys.getrefcount(plain) == before, type(memory)
    with engine.register(plain, 100) as region:
        assert region.length == 100
    for wrong in (plain[:, :50], FakeTensor(plain, False), OnlyDLPack(plain[:, :50]), OnlyCuda(plain, (400, 8))):
        raises(ValueError, engine.register, wrong)
    fixed = bytes(4096)
    assert engine.register(fixed).access == causeway.Access.REMOTE_READ
    raises(ValueError, engine.register, bytes(100), access=causeway.Access.REMOTE)
    engine.close()


def case_buffers_stay():
    """A registered buffer cannot be resized, and lives on without its Region."""
    engine = causeway.Engine()
    memory = bytearray(4096)
    region = engine.register(memory)
    raises(BufferError, memory.extend, b"x")
    address = region.address
    del region
    gc.collect()
    raises(BufferError, memory.extend, b"x")
    found = engine.region_at(address + 5)
    assert (found.address, found.length, found.registrations) == (address, 4096, 1)
    # The identical range counts.
    again = engine.register(memoryview(memory))
    assert again.registrations == 2
    again.unregister()
    assert found.registrations == 1 and not found.closed
    found.unregister()
    assert found.closed and again.closed
    raises(causeway.NotRegistered, engine.region_at, address)
    memory.extend(b"x")
    del again, found
    other = bytearray(8192)
    engine.register(other)
    engine.close()
    other.extend(b"x")


def case_allocated():
    engine = causeway.Engine()
    region = engine.allocate(8192, access=causeway.Access.REMOTE_READ)
    assert region.engine_owned and len(memoryview(region)) == 8192 and region.access == causeway.Access.REMOTE_READ
    view = numpy.frombuffer(region, dtype=numpy.uint64)
    view[0] = 5
    del region  # the view keeps it
    gc.collect()
    region = engine.region_at(view.ctypes.data)
    raises(BufferError, region.free)
    raises(BufferError, engine.close)
    assert view[0] == 5 and not engine.closed
    del view
    region.free()
    raises(causeway.Closed, memoryview, region)
    with engine.allocate(100, shareable=False, huge=True) as small:
        assert small.length == 100
    assert small.closed
    raises(causeway.InvalidArgument, engine.allocate(4096).unregister)
    raises(BufferError, memoryview, engine.register(bytearray(100)))
    engine.close()


def case_revoke():
    pair = Pair()
    raises(causeway.InvalidArgument, pair.there.revoke, LENGTH, 1)
    pair.there.revoke(0, 4096)
    pair.near.write(pair.segment, pair.here.address, pair.there.address + 4096, 100).wait()
    raises(causeway.StaleRegion, pair.near.write(pair.segment, pair.here.address, pair.there.address, 100).wait)
    pair.there.revoke(timeout=5)
    pair.close()


# ----------------------------------------------------------------------------------- what it tells


def case_tells():
    pair = Pair()
    info = pair.segment.info()
    assert info.name == pair.segment.name == pair.far.name and info.state == causeway.PeerState.UP
    assert info.same_process and info.same_host and not info.classic and len(info.instance) == 16
    (row,) = [row for row in pair.segment.regions() if row.address == pair.there.address]
    assert row.length == LENGTH and row.access == causeway.Access.REMOTE and row.kind == causeway.MemoryKind.HOST
    assert 0 < pair.segment.probe() < 5
    steps = pair.segment.path(pair.here, pair.there.address, 4096, "read")
    assert steps[0].chosen and steps[0].usable and {step.transport for step in steps} >= {"shm", "tcp", "local"}
    assert any(part.name == "tcp" and part.on for part in pair.near.transports()) and pair.near.platforms()
    rows = {row.key: row for row in pair.near.settings()}
    assert rows["tcp/slice"].origin == "default" and rows["tcp/slice"].help
    assert pair.near.stats()["segments"] >= 1 and set(pair.near.topology()) == {"devices", "links"}
    only = pair.near.open(pair.far.name, transports=["tcp"], timeout=5, strict=True)
    assert [step.transport for step in only.path(pair.here, pair.there.address, 1) if step.usable] == ["tcp"]
    pair.close()


def case_settings():
    with causeway.Engine(settings={"tcp/connections": 3, "transports/shm/enable": False, "tcp/slice": "2m"}) as engine:
        rows = {row.key: (row.value, row.origin) for row in engine.settings()}
        assert rows["tcp/connections"] == ("3", "options") and rows["transports/shm/enable"] == ("off", "options")
    error = raises(causeway.ConfigError, causeway.Engine, settings={"tcp/conections": 3})
    assert "tcp/connections" in error.text and error.status == causeway.Status.CONFIG
    raises(causeway.BadAddress, causeway.Engine, "not a name:")
    with causeway.Engine() as engine:
        port = engine.name.rpartition(":")[2]
        raises(causeway.TransferError, causeway.Engine, f"127.0.0.1:{port}")
    os.environ["CW_TCP_CONNECTIONS"] = "5"
    for environment, expected in ((False, "2"), (True, "5")):
        with causeway.Engine(environment=environment) as engine:
            assert {row.key: row.value for row in engine.settings()}["tcp/connections"] == expected


def case_statuses():
    """Each status of the library has its name here and its class."""
    number = 0
    while causeway.status_name(number) != "UNKNOWN":
        name = causeway.status_name(number).removeprefix("ERR_")
        assert causeway.Status(number).name == name
        if number:
            kind = causeway._errors.CLASSES[number]
            assert getattr(causeway, kind.__name__) is kind and kind().status == number and str(kind())
        number -= 1
    assert len(causeway.Status) == len(causeway._errors.CLASSES) + 1 == -number
    error = pickle.loads(pickle.dumps(causeway.PeerDown("gone", retryable=True)))
    assert (error.text, error.status, error.retryable) == ("gone", causeway.Status.PEER_DOWN, True)


def case_log():
    """Lines come in a thread of their own; what a function raises goes to sys.excepthook."""
    lines, errors, told, failed = [], [], threading.Event(), threading.Event()

    def keep(level, line):
        lines.append((level, line))
        told.set()

    def fail(level, line):
        raise ZeroDivisionError

    def hook(kind, *rest):
        errors.append(kind)
        failed.set()

    ordinary, sys.excepthook = sys.excepthook, hook
    engines = [causeway.Engine(settings={"log/level": "info"}, log=log) for log in (keep, fail)]
    for engine in engines:
        host, _, port = engine.name.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as stranger:
            stranger.sendall(b"\xff" * 64)
    came = told.wait(10) and failed.wait(10)
    sys.excepthook = ordinary
    assert came, (lines, errors)
    assert lines[0][0] == 2 and "refused" in lines[0][1] and set(errors) == {ZeroDivisionError}
    for engine in engines:
        engine.close()


# -------------------------------------------------------------------------------------- ends of life


def case_closed():
    pair = Pair()
    batch = pair.near.write(pair.segment, pair.here, pair.there.address)
    batch.wait()
    counter = pair.near.counter()
    waiting = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 1))
    address = pair.there.address
    pair.near.close()
    pair.near.close()
    engine, segment, region = pair.near, pair.segment, pair.here
    assert engine.closed and segment.closed and region.closed and counter.closed
    calls = [
        (engine.register, bytearray(10)),
        (engine.allocate, 10),
        (engine.region_at, 10),
        (engine.open, "127.0.0.1:1"),
        (engine.write, segment, 1, 2, 3),
        (engine.write, segment, region, 2),
        (engine.write_pages, segment, 1, 2, 3, [1]),
        (engine.submit, []),
        (engine.notify, segment, b""),
        (engine.notifications,),
        (engine.wait_notification, 1),
        (engine.stats,),
        (engine.transports,),
        (engine.platforms,),
        (engine.settings,),
        (engine.topology,),
        (engine.progress,),
        (engine.counter,),
        (region.unregister,),
        (region.free,),
        (region.revoke,),
        (memoryview, region),
        (segment.info,),
        (segment.regions,),
        (segment.probe,),
        (segment.path, 1, 2, 3),
        (counter.add,),
    ]
    for call, *arguments in calls:
        raises(causeway.Closed, call, *arguments)
    raises(causeway.Closed, lambda: region.location)
    # Batches outlive the engine.
    assert batch.done and batch.wait().state == causeway.BatchState.COMPLETED
    assert isinstance(waiting.finish(1), causeway.BatchResult)
    assert waiting.state in (causeway.BatchState.CANCELED, causeway.BatchState.FAILED)
    batch.release()
    batch.release()
    for look in (batch.wait, batch.result, batch.cancel, lambda: batch.state, lambda: batch.done):
        raises(causeway.Closed, look)
    with pair.far.open(pair.far.name) as own:
        pass
    raises(causeway.Closed, own.probe)
    raises(causeway.Closed, pair.far.write, own, address, address, 1)
    pair.far.close()


def case_other_engines():
    """Objects of one engine are refused by another."""
    one, two = Pair(), Pair()
    raises(causeway.InvalidArgument, one.near.write, two.segment, one.here, one.there.address)
    raises(causeway.InvalidArgument, one.near.write, one.segment, one.here, 1, counter=(two.near.counter(), 1))
    batch = two.near.write(two.segment, two.here, two.there.address)
    raises(causeway.InvalidArgument, one.near.write, one.segment, one.here, 1, after=[batch])
    raises(causeway.NotRegistered, one.near.write, one.segment, two.here, 1)
    one.close()
    two.close()


def case_any_order():
    """Objects go in every order, with and without their engines being closed."""
    for order in itertools.permutations(range(5)):
        pair = Pair(4096)
        counter = pair.near.counter()
        batch = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 1))
        objects = [pair.near, pair.here, pair.segment, counter, batch]
        del pair.near, pair.here, pair.segment, counter, batch
        for place in order:
            objects[place] = None
        del objects, pair
    gc.collect()


def case_nothing_closed():
    """The interpreter exits with everything open and threads at work."""
    pair = Pair()
    counter = pair.near.counter()
    batch = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 1))
    globals()["kept"] = [pair, counter, batch, pair.view(pair.there)]
    busy = causeway.Engine(settings={"log/level": "trace"}, log=lambda level, line: None)
    segment, memory = busy.open(pair.far.name), busy.allocate(4096)

    def work():
        try:
            while True:
                busy.write(segment, memory, pair.there.address).wait()
        except causeway.Error:
            pass

    for target in (work, work, batch.wait, pair.far.wait_notification):

        def quietly(call=target):
            try:
                call()
            except causeway.Error:
                pass

        threading.Thread(target=quietly, daemon=True).start()
    while not busy.stats()["batches_completed"]:
        time.sleep(0.001)


def case_threads_and_close():
    """An engine that is closed while others are in its calls: they come back with Closed, or the end of their batch."""
    for _ in range(5):
        pair = Pair()
        counter = pair.near.counter()
        batch = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 1))
        started, ends = threading.Barrier(9), []

        def run(call, *arguments, started=started, ends=ends):
            started.wait()
            try:
                while True:
                    call(*arguments)
            except causeway.Error as error:
                ends.append(type(error))

        def write(pair=pair):
            return pair.near.write(pair.segment, pair.here, pair.there.address).wait().state

        calls = [(batch.wait,), (pair.near.wait_notification,), (pair.segment.probe,), (pair.segment.regions,)]
        calls += [(write,)] * 4
        threads = [threading.Thread(target=run, args=call) for call in calls]
        for thread in threads:
            thread.start()
        started.wait()
        time.sleep(0.02)
        pair.near.close()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert len(ends) == 8 and set(ends) <= {causeway.Closed, causeway.Canceled, causeway.PrerequisiteFailed}, ends
        pair.far.close()


def case_fork():
    pair = Pair()
    batch = pair.near.write(pair.segment, pair.here, pair.there.address)
    batch.wait()
    counter = pair.near.counter()
    child = os.fork()
    if not child:
        calls = [
            (pair.near.stats,),
            (pair.near.write, pair.segment, pair.here, 1),
            (pair.segment.probe,),
            (pair.here.free,),
            (batch.wait,),
            (counter.add,),
        ]
        for call, *arguments in calls:
            raises(causeway.Forked, call, *arguments)
        pair.close()
        with causeway.Engine() as own:  # a child may have engines of its own
            own.allocate(4096)
        del pair, batch, counter
        gc.collect()
        sys.exit(0)  # with all the ends of the interpreter
    assert os.waitpid(child, 0)[1] == 0
    pair.near.write(pair.segment, pair.here, pair.there.address).wait()
    pair.close()


def case_signals():
    """Control-C reaches a thread that waits."""
    pair = Pair()
    counter = pair.near.counter()
    batch = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 1))
    for wait in (batch.wait, pair.far.wait_notification):
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        raises(KeyboardInterrupt, wait, 30)
    pair.close()


def case_gil():
    """Other threads run while one waits."""
    pair = Pair()
    counter = pair.near.counter()
    batch = pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, 1))
    for wait in (batch.wait, pair.near.wait_notification):
        thread = threading.Thread(target=wait, args=(10,), daemon=True)
        thread.start()
        steps, until = 0, time.monotonic() + 0.1
        while time.monotonic() < until:
            steps += 1
        assert steps > 1000
        counter.add()
        pair.far.notify(pair.far.open(pair.near.name), b"")
        thread.join(10)
        assert not thread.is_alive()
    pair.close()


def case_sixteen_threads():
    pair = Pair(1 << 20)
    there = pair.view(pair.there)
    failures = []

    def work(number):
        try:
            memory = pair.near.register(bytearray([number + 1]) * 4096)
            for step in range(50):
                place = pair.there.address + (number * 16 + step % 16) * 4096
                pair.near.write(pair.segment, memory, place).wait()
            memory.unregister()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures, failures
    assert (there.reshape(16, -1) == numpy.arange(1, 17)[:, None]).all()
    del there
    pair.close()


def case_imported_twice():
    """A module that Python forgot and imports again has the same classes; other interpreters are refused."""
    engine = causeway.Engine()
    for name in [name for name in sys.modules if name.startswith("causeway")]:
        del sys.modules[name]
    import causeway as again

    assert again is not causeway and again.Region is causeway.Region
    with again.Engine() as other:
        engine.open(other.name).probe()
    engine.close()
    try:
        import _xxsubinterpreters as interpreters
    except ImportError:
        return
    stranger = interpreters.create()
    code = f"""if True:
        import sys
        sys.path[:] = {sys.path!r}
        try:
            import causeway
        except ImportError as error:
            assert "one interpreter" in str(error)
        else:
            raise AssertionError
    """
    interpreters.run_string(stranger, code)
    interpreters.destroy(stranger)


def case_no_leak():
    """Objects that come and go leave nothing behind."""
    pair = Pair()

    def once():
        region = pair.near.register(bytearray(4096))
        pair.near.write(pair.segment, region, pair.there.address).wait()
        pair.near.write(pair.segment, [region.address] * 3, [pair.there.address] * 3, 8, notify=("a", b"b")).wait()
        pair.far.notifications()
        raises(causeway.NotRegistered, pair.near.write, pair.segment, 1, 2, 3)
        raises(ValueError, pair.near.write, pair.segment, [1], [-2], 3, after=[])
        region.unregister()

    for _ in range(200):
        once()
    gc.collect()
    before = sum(len(gc.get_objects(generation)) for generation in range(3)), sys.getallocatedblocks()
    for _ in range(400):
        once()
    gc.collect()
    after = sum(len(gc.get_objects(generation)) for generation in range(3)), sys.getallocatedblocks()
    assert after[0] - before[0] < 100 and after[1] - before[1] < 200, (before, after)
    pair.close()


if __name__ == "__main__":
    globals()[f"case_{sys.argv[1]}"]()
    print("ok")
