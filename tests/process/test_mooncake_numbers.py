# SPDX-License-Identifier: Apache-2.0
"""mooncake.engine with numbers as programs have them: numpy's, arrays of any width, ranges of no bytes; and what it
says and keeps when calls fail or the program goes on without the engine."""

import array
import copy
import gc
import importlib
import json
import pickle
import urllib.parse
import urllib.request

import pytest

import classic_peer
from dropin import Memory, here, mooncake, script, there  # noqa: F401 (fixtures)
from stores import start_http, started_servers  # noqa: F401

numpy = pytest.importorskip("numpy")

MIB = 1 << 20
NOBODY = "127.0.0.1:1"  # refuses connections

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def nothing_was_said(mooncake):
    """Other tests of this process may just have failed for the same reason, which is then kept back."""
    importlib.import_module("causeway.mooncake._report")._failures.clear()


def test_numbers_of_numpy_are_numbers(here, there):
    engine, memory, number = here.engine, Memory(4096), numpy.int64
    assert engine.register_memory(number(memory.address), number(4096)) == 0
    assert engine.batch_register_memory(numpy.array([memory.address]), numpy.array([4096])) == 0
    memory.fill(1)
    remote = number(there.address)
    assert engine.transfer_sync_write(there.name, number(memory.address), remote, number(4096)) == 0
    assert there.memory.holds(1, 4096)
    assert engine.unregister_memory(number(memory.address)) == 0
    assert engine.batch_unregister_memory(numpy.array([memory.address])) == 0
    assert engine.unregister_memory(memory.address) < 0, "all registrations are taken back"
    address = number(engine.allocate_managed_buffer(number(100)))
    assert engine.write_bytes_to_buffer(address, b"abcdef", number(3)) == 0
    assert engine.read_bytes_from_buffer(address, number(3)) == b"abc"
    assert engine.free_managed_buffer(address, number(100)) == 0


def test_memory_is_named_by_an_address_only(here):
    for value in (b"x" * 64, bytearray(64), None, 1.5, "1", [here.address], numpy.float64(4096)):
        for call in (
            lambda: here.engine.register_memory(value, 64),
            lambda: here.engine.batch_register_memory([value], [64]),
            lambda: here.engine.unregister_memory(value),
            lambda: here.engine.batch_unregister_memory([value]),
            lambda: here.engine.allocate_managed_buffer(value),
            lambda: here.engine.free_managed_buffer(value, 64),
        ):
            with pytest.raises(TypeError):
                call()


@pytest.mark.parametrize(
    "form",
    [
        lambda values: numpy.array(values, dtype=">u8"),
        lambda values: numpy.array(values, dtype=object),
        lambda values: numpy.array(values, dtype=numpy.uint64)[::-1][::-1],
        lambda values: array.array("Q", values),
        lambda values: [numpy.uint64(value) for value in values],
    ],
    ids=["big-endian", "object", "strided", "array", "list"],
)
def test_lists_in_any_form(here, there, form):
    here.memory.fill(2)
    places = [0, 5000, 90000, MIB - 100]
    local, remote = ([side.address + place for place in places] for side in (here, there))
    lengths = numpy.array([1, 100, 7, 100], dtype=numpy.int32)
    assert here.engine.batch_transfer_sync_write(there.name, form(local), form(remote), lengths) == 0
    for place, length in zip(places, lengths):
        assert there.memory.block[place : place + int(length)] == here.memory.block[place : place + int(length)]


def test_ranges_of_no_bytes_are_done(here, there, mooncake):
    """As Mooncake does it: nothing is sent, and nobody looks at the addresses."""
    engine, name = here.engine, there.name
    here.memory.fill(3)
    for call in (engine.transfer_sync_write, engine.transfer_sync_read):
        assert call(name, here.address, there.address, 0) == 0
        assert call(name, 4096, 4096, 0) == 0
        assert call(NOBODY, here.address, there.address, 0) == -1
    local, remote = [here.address, 0, here.address + 50], [there.address, 0, there.address + 50]
    for form in (list, numpy.array):
        assert engine.batch_transfer_sync_write(name, form(local), form(remote), form([10, 0, 20])) == 0
        number = engine.batch_transfer_async_write(name, form(local), form(remote), form([0, 0, 0]))
        assert number > 0 and engine.get_batch_transfer_status([number]) == 0
        assert engine.batch_transfer_sync_write(name, form(local), form(remote), form([10, 8, 20])) == -1
    assert there.memory.block[:10] == here.memory.block[:10]
    assert there.memory.block[50:70] == here.memory.block[50:70]
    notify = mooncake.TransferNotify("after", "nothing")
    assert engine.transfer_sync(name, here.address, there.address, 0, mooncake.Write, notify) == 0
    assert [(note.name, note.msg) for note in there.engine.get_notifies()] == [("after", "nothing")]


def test_failures_of_batches_are_counted_by_peer(here, there, caplog):
    for _ in range(50):
        number = here.engine.batch_transfer_async_write(there.name, [here.address], [4096], [8])
        assert here.engine.get_batch_transfer_status([number]) == -1
    assert len(caplog.records) <= 2 and there.name in caplog.text, caplog.text


def test_another_reason_is_said_at_once(here, caplog):
    assert here.engine.register_memory(here.address + 1, 8) < 0
    assert here.engine.register_memory(here.address, 0) < 0
    assert here.engine.register_memory(here.address + 2, 8) < 0
    assert "overlaps" in caplog.text and "0 bytes" in caplog.text and len(caplog.records) == 2, caplog.text


def test_no_memory_is_told_for_what_it_is(here, caplog):
    assert here.engine.send_probe(NOBODY) == -1
    caplog.clear()
    assert here.engine.allocate_managed_buffer(1 << 62) == 0
    assert "cannot be allocated" in caplog.text and NOBODY not in caplog.text, caplog.text


def test_get_engine_keeps_it_alive(mooncake, there):
    engine, memory = mooncake.TransferEngine(), Memory(4096)
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    assert engine.register_memory(memory.address, 4096) == 0
    name = f"127.0.0.1:{engine.get_rpc_port()}"
    kept = engine.get_engine()
    assert engine.get_engine() is kept
    del engine
    gc.collect()
    assert there.engine.transfer_sync_write(name, there.address, memory.address, 4096) == 0
    del kept
    gc.collect()
    assert there.engine.transfer_sync_write(name, there.address, memory.address, 4096) == -1


def test_an_engine_is_not_copied(here, there):
    for call in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            call(here.engine)
    gc.collect()
    assert here.engine.transfer_sync_write(there.name, here.address, there.address, 8) == 0


CHILD = """
import os, sys, threading, time
from dropin import Memory
from mooncake.engine import TransferEngine
engine, memory = TransferEngine(), Memory(4096)
assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
assert engine.register_memory(memory.address, 4096) == 0
# A peer that never answers: its name is being opened, so a lock is held, when the child is made.
import socket
silent = socket.create_server(("127.0.0.1", 0))
name = "127.0.0.1:%d" % silent.getsockname()[1]
threading.Thread(target=engine.send_probe, args=(name,), daemon=True).start()
silent.accept()
child = os.fork()
if not child:
    answers = [engine.send_probe(name), engine.transfer_sync_write(name, memory.address, memory.address, 8)]
    own = TransferEngine()
    answers.append(own.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", ""))
    os._exit(answers != [-1, -1, 0])
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_waits_for_no_lock_of_its_parent(script):
    done = script(CHILD, timeout=30)
    assert done.returncode == 0, done.stderr


INTERRUPTED = """
import random, signal
from dropin import Memory
from mooncake.engine import TransferEngine
def side():
    engine, memory = TransferEngine(), Memory(4096)
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    assert engine.register_memory(memory.address, 4096) == 0
    return engine, memory
def interrupt(*unused):
    raise KeyboardInterrupt
(engine, memory), (there, remote) = side(), side()
name = "127.0.0.1:%d" % there.get_rpc_port()
signal.signal(signal.SIGALRM, interrupt)
for _ in range(500):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 1e-3))
        while True:
            engine.transfer_sync_write(name, memory.address, remote.address, 4096)
    except KeyboardInterrupt:
        pass
assert engine.transfer_sync_write(name, memory.address, remote.address, 4096) == 0
"""


def test_an_interrupt_is_an_interrupt_wherever_it_comes(script):
    done = script(INTERRUPTED, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["nodeA", "nodeA:12345", "127.0.0.1", "[::1]:777"])
def test_the_port_of_a_name_that_is_in_a_store(mooncake, start_http, name):
    engine = mooncake.TransferEngine()
    url = start_http().url
    assert engine.initialize(name, url, "tcp", "") == 0
    key = urllib.parse.quote(f"mooncake/rpc_meta/{name}", safe="")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}?key={key}", timeout=5) as answer:
        assert engine.get_rpc_port() == json.load(answer)["rpc_port"]


def test_a_message_that_is_no_text_is_nothing_for_a_mooncake_engine(here, mooncake, caplog):
    with classic_peer.ClassicTarget({4711: bytearray(100)}) as target:
        for name, message in (("name", "\udc80"), ("name", "a\0b"), ("na\udc80me", "text")):
            note = mooncake.TransferNotify(name, message)
            answer = here.engine.transfer_sync(target.name, here.address, 4711, 100, mooncake.Write, note)
            assert answer == (0 if message == "text" else -1), "a name may be changed, a message not"
        assert "UTF-8 text" in caplog.text and target.notes == [("na\N{REPLACEMENT CHARACTER}me", "text")]


FREED = """
import ctypes, mmap, os, sys
from mooncake.engine import TransferEngine
free = ctypes.CDLL(None).munmap
free.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
kept = []
def side(length):
    engine, memory = TransferEngine(), mmap.mmap(-1, max(length, mmap.PAGESIZE))
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    assert engine.register_memory(address, length) == 0
    kept.append(memory)
    return engine, address, f"127.0.0.1:{engine.get_rpc_port()}"
length, hint = int(sys.argv[1]), sys.argv[2]
(near, here, self), (far, there, peer), (third, loose, other) = side(length), side(length), side(length)
def all_calls(expected, memory):
    for name in (self, peer):
        remote = here if name == self else there
        assert near.transfer_sync_write(name, memory, remote, length, hint) == expected, name
        assert near.transfer_sync_read(name, memory, remote, length, hint) == expected, name
all_calls(0, here)
assert near.transfer_sync_write(other, here, loose, length, hint) == 0
free(loose, length)
assert near.transfer_sync_write(other, here, loose, length, hint) == -1
assert near.transfer_sync_read(other, here, loose, length, hint) == -1
free(here, length)
all_calls(-1, here)
assert near.write_bytes_to_buffer(here, b"x", 1) == -1
try:
    sys.exit(near.read_bytes_from_buffer(here, 1))
except ValueError:
    pass
assert near.unregister_memory(here) == 0
assert far.transfer_sync_read(peer, there, there, length) == 0, "nothing else is broken"
os._exit(0)  # without freeing memory twice
"""


@pytest.mark.parametrize("hint", ["", "tcp"])
@pytest.mark.parametrize("length", [64, 65536, MIB])
@pytest.mark.parametrize("force", [{}, {"MC_FORCE_TCP": "1"}], ids=["any", "force"])
def test_memory_that_was_freed_while_it_is_registered(script, length, hint, force):
    """A program of Mooncake's that forgets unregister_memory() gets -1, and so does a peer that writes there."""
    done = script(FREED, length, hint, environment=force)
    assert done.returncode == 0, done.stderr
