# SPDX-License-Identifier: Apache-2.0
"""mooncake.engine as Causeway gives it: its surface, what calls return, and that nothing that is passed in can hurt."""

import array
import inspect
import json
import logging
import random
import threading
import time

import pytest

from dropin import Memory, Side, dropins, here, mooncake, script, there  # noqa: F401 (fixtures)
from peer import pattern

KIB = 1 << 10
MIB = 1 << 20
NOBODY = "127.0.0.1:1"  # refuses connections
BOUND = 8  # seconds in which a call about an unknown peer must be over; opening may take 5

pytestmark = pytest.mark.timeout(120)

# Method, its parameters with their defaults.
TARGET = ["target_hostname", "buffer", "peer_buffer_address", "length"]
TARGETS = ["target_hostname", "buffers", "peer_buffer_addresses", "lengths"]
HINT = [("transport_hint", "")]
SURFACE = [
    ("get_rpc_port", []),
    ("register_memory", ["buffer_addr", "capacity", ("location", "*")]),
    ("unregister_memory", ["buffer_addr"]),
    ("batch_register_memory", ["buffer_addresses", "capacities", ("location", "*")]),
    ("batch_unregister_memory", ["buffer_addresses"]),
    ("transfer_sync_write", TARGET + HINT),
    ("transfer_sync_read", TARGET + HINT),
    ("transfer_sync", TARGET + ["opcode", ("notify", None)] + HINT),
    ("batch_transfer_sync_write", TARGETS + HINT),
    ("batch_transfer_sync_read", TARGETS + HINT),
    ("batch_transfer_sync", TARGETS + ["opcode", ("notify", None)] + HINT),
    ("batch_transfer_async_write", TARGETS + HINT),
    ("batch_transfer_async_read", TARGETS + HINT),
    ("batch_transfer_async", TARGETS + ["opcode"] + HINT),
    ("get_batch_transfer_status", ["batch_ids"]),
    ("transfer_submit_write", TARGET + HINT),
    ("transfer_check_status", ["batch_id"]),
    ("transfer_write_on_cuda", TARGET + [("stream_ptr", 0)] + HINT),
    ("transfer_read_on_cuda", TARGET + [("stream_ptr", 0)] + HINT),
    ("batch_transfer_write_on_cuda", TARGETS + [("stream_ptr", 0)] + HINT),
    ("batch_transfer_read_on_cuda", TARGETS + [("stream_ptr", 0)] + HINT),
    ("allocate_managed_buffer", ["length"]),
    ("free_managed_buffer", ["buffer_addr", "length"]),
    ("write_bytes_to_buffer", ["dest_address", "data", "length"]),
    ("read_bytes_from_buffer", ["source_address", "length"]),
    ("get_first_buffer_address", ["segment_name"]),
    ("get_local_topology", [("device_name", None)]),
    ("get_notifies", []),
    ("send_probe", ["peer_server_name"]),
    ("warmup_efa_segment", ["segment_name"]),
    ("get_engine", []),
    ("get_engine_ptr", []),
]


# ------------------------------------------------------------------------------------------------- surface


def test_the_module_has_every_name(mooncake):
    assert mooncake.Read is mooncake.TransferOpcode.Read and mooncake.Write is mooncake.TransferOpcode.Write
    assert mooncake.TransferEngine.TransferOpcode is mooncake.TransferOpcode
    assert (int(mooncake.Read), mooncake.Write + 0, mooncake.TransferOpcode(1)) == (0, 1, mooncake.Write)
    assert (mooncake.Write.name, mooncake.Write.value) == ("Write", 1)
    for flag in ("EFA", "HIP", "MNNVL", "MUSA", "INTRA_NVLINK", "CUDA"):
        assert isinstance(getattr(mooncake, f"SUPPORT_{flag}"), bool)
    for name in ("RpcInterface", "CoroRPCInterface", "ReceivedData", "ReceivedTensor", "SharedSegment"):
        assert isinstance(getattr(mooncake, name), type)
    note = mooncake.TransferNotify()
    assert (note.name, note.msg) == ("", "")
    note = mooncake.TransferNotify("a", "b")
    note.msg = "c"
    assert (note.name, note.msg) == ("a", "c")
    assert set(mooncake.__all__) <= set(dir(mooncake))


@pytest.mark.parametrize("name, parameters", SURFACE, ids=[name for name, _ in SURFACE])
def test_parameters_have_their_names_and_defaults(mooncake, name, parameters):
    signature = inspect.signature(getattr(mooncake.TransferEngine, name))
    found = [
        (each.name, each.default) if each.default is not inspect.Parameter.empty else each.name
        for each in list(signature.parameters.values())[1:]
    ]
    assert found == parameters


def test_what_is_not_there_says_so(mooncake):
    assert mooncake.SharedSegment.supported() is False
    assert mooncake.RpcInterface().stop_server() is None
    for call in (
        lambda: mooncake.SharedSegment.create("name", 4096, 2, 0),
        lambda: mooncake.RpcInterface().initialize(),
        lambda: mooncake.CoroRPCInterface().send_data("127.0.0.1:1", b""),
        mooncake.create_rpc_client,
        mooncake.create_rpc_server,
        mooncake.ReceivedData,
    ):
        with pytest.raises(NotImplementedError, match="is not part of Causeway"):
            call()


# --------------------------------------------------------------------------------------------- initialize


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost", "127.0.0.1:0", "127.0.0.1:54321", "::1", "[::1]", "[::1]:0"]
)
def test_names_of_this_machine(mooncake, name):
    engine = mooncake.TransferEngine()
    assert engine.initialize(name, "P2PHANDSHAKE", "rdma", "mlx5_0,mlx5_1") == 0
    port = engine.get_rpc_port()
    assert 0 < port < 65536
    host = "[::1]" if "::1" in name else name.split(":")[0]
    other = mooncake.TransferEngine()
    assert other.initialize(name, "P2PHANDSHAKE", "tcp", "") == 0
    assert other.send_probe(f"{host}:{port}") == 0


def test_ways_to_pass_the_name(mooncake):
    for arguments, named in (
        ((), {"hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "protocol": "tcp", "device_name": ""}),
        ((), {"local_hostname": "127.0.0.1", "metadata_server": "P2PHANDSHAKE", "protocol": "tcp", "device_name": ""}),
        (("127.0.0.1", "P2PHANDSHAKE", "tcp", None), {}),
    ):
        assert mooncake.TransferEngine().initialize(*arguments, **named) == 0
    assert mooncake.TransferEngine().initialize_ext("127.0.0.1", "P2PHANDSHAKE", "tcp", "", "p2p") == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("127.0.0.1", "P2PHANDSHAKE", "xgmi", ""),
        ("127.0.0.1", "nonsense://127.0.0.1:1", "tcp", ""),
        ("not a host", "P2PHANDSHAKE", "tcp", ""),
        ("", "P2PHANDSHAKE", "tcp", ""),
        ("a" * 5000, "P2PHANDSHAKE", "tcp", ""),
        ("127.0.0.1:99999", "P2PHANDSHAKE", "tcp", ""),
        ("127.0.0.1", "", "tcp", ""),
    ],
)
def test_what_cannot_be_initialized_is_negative_and_can_be_tried_again(mooncake, arguments):
    engine = mooncake.TransferEngine()
    assert engine.initialize(*arguments) < 0
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") < 0, "a second time"
    assert engine.get_rpc_port() > 0


def test_before_initialize_everything_answers(mooncake):
    engine = mooncake.TransferEngine()
    memory = Memory(64)
    lists = [NOBODY, [memory.address], [1], [1]]
    for answer, call in (
        (0, lambda: engine.get_rpc_port()),
        (-1, lambda: engine.register_memory(memory.address, 64)),
        (-1, lambda: engine.unregister_memory(memory.address)),
        (-1, lambda: engine.batch_register_memory([memory.address], [64])),
        (-1, lambda: engine.batch_unregister_memory([memory.address])),
        (-1, lambda: engine.transfer_sync_write(NOBODY, memory.address, 1, 1)),
        (-1, lambda: engine.batch_transfer_sync_read(*lists)),
        (0, lambda: engine.batch_transfer_async_write(*lists)),
        (0, lambda: engine.transfer_submit_write(NOBODY, memory.address, 1, 1)),
        (-1, lambda: engine.get_batch_transfer_status([1])),
        (-1, lambda: engine.transfer_check_status(1)),
        (0, lambda: engine.allocate_managed_buffer(10)),
        (-1, lambda: engine.free_managed_buffer(memory.address, 10)),
        (-1, lambda: engine.write_bytes_to_buffer(memory.address, b"x", 1)),
        (-1, lambda: engine.send_probe(NOBODY)),
        (0, lambda: engine.get_first_buffer_address(NOBODY)),
        ([], lambda: engine.get_notifies()),
        (None, lambda: engine.get_engine()),
        (0, lambda: engine.get_engine_ptr()),
    ):
        assert call() == answer
    with pytest.raises(RuntimeError):
        engine.transfer_write_on_cuda(NOBODY, memory.address, 1, 1)
    with pytest.raises(ValueError):
        engine.read_bytes_from_buffer(memory.address, 1)
    assert list(json.loads(engine.get_local_topology())["cpu:0"]) == [[], []]


# ----------------------------------------------------------------------------------------------- registration


def test_registrations_are_counted(here):
    memory = Memory(64 * KIB)
    engine, address = here.engine, memory.address
    for _ in range(3):
        assert engine.register_memory(address, memory.length, "cpu:0") == 0
    for _ in range(3):
        assert engine.unregister_memory(address) == 0
    assert engine.unregister_memory(address) < 0


def test_bad_registrations(here):
    engine, memory = here.engine, Memory(64 * KIB)
    assert engine.register_memory(memory.address, memory.length) == 0
    assert engine.register_memory(memory.address + 1, 100) == -7, "an overlap"
    assert engine.register_memory(memory.address, memory.length - 1) == -7
    for address, length in (
        (memory.address, 0),
        (0, 100),
        (-5, 100),
        (memory.address, -1),
        (4096, 1 << 70),
        (2**64 - 4096, 8192),
    ):
        assert engine.register_memory(address, length) < 0, (address, length)
        assert engine.batch_register_memory([address], [length]) < 0, (address, length)
    for address in (memory.address + 1, 0, -1, 1 << 70):
        assert engine.unregister_memory(address) < 0
    assert engine.unregister_memory(memory.address) == 0


def test_a_batch_of_registrations_is_all_or_nothing(here):
    engine, first, second = here.engine, Memory(4096), Memory(4096)
    assert engine.batch_register_memory([first.address, second.address, first.address + 8], [4096, 4096, 8]) == -7
    assert engine.unregister_memory(first.address) < 0, "it was taken back"
    assert engine.batch_register_memory([first.address], [4096, 4096]) < 0
    assert engine.batch_register_memory([], []) == 0
    assert engine.batch_register_memory([first.address, second.address], [4096, 4096], "cpu:0") == 0
    assert engine.batch_unregister_memory([first.address, 4711, second.address]) < 0
    assert engine.batch_unregister_memory([]) == 0
    assert engine.batch_register_memory([first.address, second.address], [4096, 4096]) == 0, "both were unregistered"
    assert engine.batch_unregister_memory([first.address, second.address]) == 0


def test_a_location_is_a_hint(here):
    for location in ("*", "", "cpu:0", "cpu:77", "cuda:3", "npu:0", "segments:4096:0,1", "anything"):
        memory = Memory(4096)
        assert here.engine.register_memory(memory.address, 4096, location) == 0, location
        assert here.engine.unregister_memory(memory.address) == 0


# ------------------------------------------------------------------------------------------------- transfers


@pytest.mark.parametrize("length", [1, 7, 4096, 65537, MIB])
def test_sync_transfers(mooncake, here, there, length):
    here.memory.fill(1)
    assert here.engine.transfer_sync_write(there.name, here.address, there.address, length) == 0
    assert there.memory.holds(1, length)
    there.memory.fill(2)
    assert here.engine.transfer_sync_read(there.name, here.address, there.address, length) == 0
    assert here.memory.holds(2, length)
    here.memory.fill(3)
    write, read = mooncake.TransferOpcode.Write, mooncake.TransferOpcode.Read
    assert here.engine.transfer_sync(there.name, here.address, there.address, length, write) == 0
    assert there.memory.holds(3, length)
    there.memory.fill(4)
    assert here.engine.transfer_sync(there.name, here.address, there.address, length, opcode=read) == 0
    assert here.memory.holds(4, length)


def as_list(numbers):
    return list(numbers)


def as_array(numbers):
    return array.array("Q", numbers)


def as_numpy(numbers):
    return pytest.importorskip("numpy").array(list(numbers), dtype="uint64")


@pytest.mark.parametrize("form", [as_list, as_array, as_numpy, tuple])
def test_batches_from_lists_and_arrays(here, there, form):
    order = random.Random(5).sample(range(256), 100)
    local = form(here.address + i * 4096 for i in order)
    remote = form(there.address + i * 4096 for i in reversed(order))
    lengths = form(1 + i % 4096 for i in order)
    here.memory.fill(6)
    for write in (here.engine.batch_transfer_sync_write, here.engine.batch_transfer_async_write):
        there.memory.fill(7)
        number = write(there.name, local, remote, lengths)
        if write == here.engine.batch_transfer_async_write:
            assert number > 0 and here.engine.get_batch_transfer_status([number]) == 0
        else:
            assert number == 0
        for source, target, length in zip(order, reversed(order), lengths):
            wanted = pattern(6, int(length), source * 4096)
            assert there.memory.block[target * 4096 : target * 4096 + int(length)] == wanted
    here.memory.fill(8)
    assert here.engine.batch_transfer_sync_read(there.name, local, remote, lengths) == 0
    for source, length in zip(order, lengths):
        wanted = pattern(6, int(length), source * 4096)
        assert here.memory.block[source * 4096 : source * 4096 + int(length)] == wanted


def test_lists_that_are_empty_or_unequal(mooncake, here, there):
    engine, write = here.engine, mooncake.TransferOpcode.Write
    for name in (there.name, NOBODY):
        assert engine.batch_transfer_sync_write(name, [], [], []) == 0
        assert engine.batch_transfer_sync_read(name, [], [], []) == 0
        assert engine.batch_transfer_sync(name, [], [], [], write) == 0
    number = engine.batch_transfer_async_write(there.name, [], [], [])
    assert number > 0 and engine.get_batch_transfer_status([number]) == 0
    assert engine.get_batch_transfer_status([]) == 0
    one, two = [here.address], [here.address, here.address]
    for lists in ((one, one, [1, 1]), (two, one, [1]), (one, two, [1]), ([], one, [1]), (one, one, [])):
        assert engine.batch_transfer_sync_write(there.name, *lists) == -1
        assert engine.batch_transfer_sync_read(there.name, *lists) == -1
        assert engine.batch_transfer_sync(there.name, *lists, write) == -1
        assert engine.batch_transfer_async_write(there.name, *lists) == 0
        assert engine.batch_transfer_async(there.name, *lists, write) == 0


def test_what_is_in_no_registered_memory(here, there):
    engine, loose = here.engine, Memory(4096)
    for local, remote, length in (
        (loose.address, there.address, 10),
        (here.address - 1, there.address, 10),
        (here.address + MIB - 9, there.address, 10),
        (here.address, there.address - 1, 10),
        (here.address, there.address + MIB - 9, 10),
        (here.address, loose.address, 10),
        (here.address, 0, 10),
        (0, there.address, 10),
        (here.address, there.address, 2 * MIB),
        (here.address, there.address, 1 << 63),
        (here.address, there.address, (1 << 64) - 1),
        (2**64 - 1, there.address, 2),
        (here.address, 2**64 - 1, 2),
        (-1, there.address, 1),
        (here.address, -1, 1),
        (here.address, there.address, -1),
        (here.address, there.address, 1 << 70),
    ):
        assert engine.transfer_sync_write(there.name, local, remote, length) == -1, (local, remote, length)
        assert engine.transfer_sync_read(there.name, local, remote, length) == -1
        assert engine.batch_transfer_sync_write(there.name, [local], [remote], [length]) == -1
        number = engine.transfer_submit_write(there.name, local, remote, length)
        assert number == 0 or engine.get_batch_transfer_status([number]) == -1
    assert engine.transfer_sync_write(there.name, here.address, there.address, 10) == 0, "nothing is broken"


def test_memory_that_was_taken_back(here, there):
    engine, name = here.engine, there.name
    assert engine.transfer_sync_write(name, here.address, there.address, 100) == 0
    assert there.engine.unregister_memory(there.address) == 0
    assert engine.transfer_sync_write(name, here.address, there.address, 100) == -1
    assert there.engine.register_memory(there.address, MIB) == 0
    assert engine.transfer_sync_write(name, here.address, there.address, 100) == 0
    assert engine.unregister_memory(here.address) == 0
    assert engine.transfer_sync_write(name, here.address, there.address, 100) == -1


UNKNOWN = {
    "refused": NOBODY,
    "no port": "127.0.0.1",
    "no such host": "nosuchhost.invalid:12345",
    "IPv6": "[::1]:1",
    "empty": "",
    "no number": "host:port",
    "colons": ":::",
    "long": "x" * 3000,
    "port 0": "127.0.0.1:0",
    "port 70000": "127.0.0.1:70000",
    "NUL": "127.0.0.1\0:1",
}


@pytest.mark.parametrize("name", UNKNOWN.values(), ids=UNKNOWN)
def test_an_unknown_peer_is_refused_in_time(here, name):
    begin = time.monotonic()
    assert here.engine.transfer_sync_write(name, here.address, 4096, 10) == -1
    assert here.engine.transfer_submit_write(name, here.address, 4096, 10) == 0
    assert here.engine.send_probe(name) == -1
    assert here.engine.get_first_buffer_address(name) == 0
    assert time.monotonic() - begin < 4 * BOUND


def test_many_threads_ask_for_an_unknown_peer(here):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(here.engine.transfer_sync_read(NOBODY, here.address, 1, 1)))
        for _ in range(16)
    ]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [-1] * 16 and time.monotonic() - begin < BOUND


# ------------------------------------------------------------------------------------------------------- ids


def test_ids_and_their_status(mooncake, here, there):
    engine = here.engine
    lists = (there.name, [here.address], [there.address], [1000])
    numbers = [
        engine.batch_transfer_async_write(*lists),
        engine.batch_transfer_async_read(*lists),
        engine.batch_transfer_async(*lists, mooncake.TransferOpcode.Read),
        engine.transfer_submit_write(there.name, here.address, there.address, 1000),
    ]
    assert all(number > 0 for number in numbers) and len(set(numbers)) == 4
    assert engine.get_batch_transfer_status(numbers) == 0
    for number in (*numbers, 0, -1, 1 << 70, 4711):
        assert engine.get_batch_transfer_status([number]) == -1, "forgotten, or never there"
        assert engine.transfer_check_status(number) == -1


def test_check_status_until_it_is_done(here, there):
    number = here.engine.transfer_submit_write(there.name, here.address, there.address, MIB)
    deadline = time.monotonic() + 30
    while (status := here.engine.transfer_check_status(number)) == 0:
        assert time.monotonic() < deadline
    assert status == 1 and here.engine.transfer_check_status(number) == -1
    number = here.engine.transfer_submit_write(there.name, here.address, there.address - 64, 8)
    while (status := here.engine.transfer_check_status(number)) == 0:
        assert time.monotonic() < deadline
    assert status == -1


def test_one_failure_among_many_is_seen(here, there):
    good = here.engine.transfer_submit_write(there.name, here.address, there.address, 10)
    bad = here.engine.transfer_submit_write(there.name, here.address, there.address - 10, 10)
    assert here.engine.get_batch_transfer_status([bad, good]) == -1
    assert here.engine.get_batch_transfer_status([good]) == -1, "both were forgotten"


def test_a_peer_that_does_not_answer_times_out_and_others_run(script, dropins):
    """One process, because MC_TRANSFER_TIMEOUT is read from the environment: 5 s is the least."""
    target = dropins()
    address = target.map(memory="m", length=MIB)["address"]
    target.register(memory="m")
    source = """
import ctypes, os, signal, sys, threading, time
from mooncake.engine import TransferEngine
name, address, pid = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
engine, block = TransferEngine(), ctypes.create_string_buffer(4096)
assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
assert engine.register_memory(ctypes.addressof(block), 4096) == 0
assert engine.transfer_sync_write(name, ctypes.addressof(block), address, 4096) == 0
def stopped():
    threads = os.listdir(f"/proc/{pid}/task")
    return all(open(f"/proc/{pid}/task/{thread}/stat").read().split()[2] == "T" for thread in threads)
os.kill(pid, signal.SIGSTOP)
while not stopped(): time.sleep(0.001)
try:
    begin, turns = time.monotonic(), 0
    number = engine.transfer_submit_write(name, ctypes.addressof(block), address, 4096)
    assert number > 0 and engine.transfer_check_status(number) == 0
    result = []
    thread = threading.Thread(
        target=lambda: result.append(engine.transfer_sync_read(name, ctypes.addressof(block), address, 4096)))
    thread.start()
    while thread.is_alive():
        turns += 1
        thread.join(0.001)
    took = time.monotonic() - begin
    assert result == [-1], result
    assert 4 < took < 9, took
    assert turns > 500, turns  # this thread ran while the other one waited
    while (status := engine.transfer_check_status(number)) == 0:
        time.sleep(0.01)
    assert status == -2, status
finally:
    os.kill(pid, signal.SIGCONT)
"""
    environment = {"MC_TRANSFER_TIMEOUT": "5", "MC_FORCE_TCP": "1"}
    done = script(source, target.engine, address, target.pid, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "transfer_sync_read to" in done.stderr, "the operator sees why"


# ------------------------------------------------------------------------------------------ peers and messages


def test_notifications(mooncake, here, there):
    note = mooncake.TransferNotify
    write = mooncake.TransferOpcode.Write
    assert here.engine.transfer_sync(there.name, here.address, there.address, 10, write, note("one", "first")) == 0
    assert (
        here.engine.batch_transfer_sync(
            there.name, [here.address], [there.address], [10], write, notify=note("two", "zwölf \udcff")
        )
        == 0
    )
    assert here.engine.batch_transfer_sync(there.name, [], [], [], write, note("three", "alone")) == 0
    assert here.engine.transfer_sync(there.name, here.address, there.address - 9, 10, write, note("no", "failed")) == -1
    found = [(each.name, each.msg) for each in there.engine.get_notifies()]
    assert found == [("one", "first"), ("two", "zwölf \udcff"), ("three", "alone")]
    assert there.engine.get_notifies() == []


def test_probe_and_first_buffer(here, there):
    assert here.engine.send_probe(there.name) == 0
    assert here.engine.send_probe(here.name) == 0, "itself"
    assert here.engine.get_first_buffer_address(there.name) == there.address
    assert here.engine.get_first_buffer_address(here.name) == here.address
    assert here.engine.warmup_efa_segment(there.name) == 0


def test_a_peer_that_dies_and_one_that_takes_its_name(here, dropins, free_port):
    environment = {"MC_LEGACY_RPC_PORT_BINDING": "1", "MC_MIN_RPC_PORT": "15000"}

    def start():
        peer = dropins(f"127.0.0.1:{free_port}", environment=environment)
        address = peer.map(memory="m", length=4096)["address"]
        assert peer.register(memory="m")["result"] == 0
        return peer, address

    name = f"127.0.0.1:{free_port}"
    first, address = start()
    here.memory.fill(1)
    assert here.engine.transfer_sync_write(name, here.address, address, 4096) == 0
    first.kill()
    assert here.engine.send_probe(name) == -1
    assert here.engine.transfer_sync_write(name, here.address, address, 4096) == -1
    second, address = start()
    deadline = time.monotonic() + 20
    while here.engine.send_probe(name) != 0:
        assert time.monotonic() < deadline, "the new one is not found"
        time.sleep(0.05)
    assert here.engine.transfer_sync_write(name, here.address, address, 4096) == 0
    assert second.compare(memory="m", seed=1)["different"] == 0


def test_one_that_takes_the_name_while_nobody_looked(here, dropins, free_port):
    environment = {"MC_LEGACY_RPC_PORT_BINDING": "1"}
    name = f"127.0.0.1:{free_port}"
    for seed in (1, 2):
        peer = dropins(name, environment=environment)
        address = peer.map(memory="m", length=4096)["address"]
        assert peer.register(memory="m")["result"] == 0
        here.memory.fill(seed)
        deadline = time.monotonic() + 20
        while here.engine.transfer_sync_write(name, here.address, address, 4096) != 0:
            assert seed == 2 and time.monotonic() < deadline
            time.sleep(0.05)
        assert peer.compare(memory="m", seed=seed)["different"] == 0
        peer.kill()


def test_hints(here, there):
    for hint in (
        "",
        "unspec",
        "tcp",
        "TCP",
        "shm",
        "rdma",
        "nvlink",
        "mnnvl",
        "gds",
        "io_uring",
        "ascend",
        "sunrise_link",
    ):
        assert here.engine.transfer_sync_write(there.name, here.address, there.address, 10, hint) == 0, hint
    for hint in ("pigeon", " ", "tcp,shm"):
        with pytest.raises(ValueError, match="transport_hint"):
            here.engine.transfer_sync_write(there.name, here.address, there.address, 10, transport_hint=hint)


# --------------------------------------------------------------------------------------- log, engines, the end


def test_a_failure_is_said_once_for_its_kind(here, there, caplog):
    with caplog.at_level(logging.ERROR, "causeway.mooncake"):
        for _ in range(50):
            assert here.engine.transfer_sync_write(there.name, here.address, there.address - 1, 10) == -1
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1 and there.name in lines[0], lines
        assert here.engine.transfer_sync_write("127.0.0.1:3", here.address, 1, 10) == -1
        assert len(caplog.records) == 2, "another peer, another line"


def test_a_protocol_that_is_not_there_is_named_once(script):
    source = """
from mooncake.engine import TransferEngine
for _ in range(3):
    assert TransferEngine().initialize("127.0.0.1", "P2PHANDSHAKE", "rdma", "") == 0
"""
    done = script(source)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("rdma") == 1 and "tcp" in done.stderr, done.stderr


def test_variables_that_exclude_each_other(script):
    source = """
from mooncake.engine import TransferEngine
assert TransferEngine().initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") < 0
"""
    done = script(source, environment={"MC_FORCE_MNNVL": "1", "MC_INTRANODE_NVLINK": "1"})
    assert done.returncode == 0, done.stderr
    assert "MC_FORCE_MNNVL" in done.stderr and "MC_INTRANODE_NVLINK" in done.stderr


def test_several_engines_share_memory(mooncake):
    memory = Memory(64 * KIB)
    engines = []
    for _ in range(8):
        engine = mooncake.TransferEngine()
        assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
        assert engine.register_memory(memory.address, memory.length) == 0
        engines.append(engine)
    assert len({engine.get_rpc_port() for engine in engines}) == 8
    memory.fill(1)
    half = memory.length // 2
    for engine in engines:
        name = f"127.0.0.1:{engines[0].get_rpc_port()}"
        assert engine.transfer_sync_write(name, memory.address, memory.address + half, half) == 0
        assert memory.block[half:] == memory.block[:half]
    inner = engines[0].get_engine()
    assert inner is engines[0].get_engine() and type(inner).__name__ == "InnerTransferEngine"


def test_an_engine_that_is_dropped_is_gone(mooncake, here):
    other = Side(mooncake)
    name = other.name
    assert here.engine.send_probe(name) == 0
    del other
    assert here.engine.send_probe(name) == -1


@pytest.mark.parametrize("how", ["global", "cycle", "in flight", "daemon", "exit", "__del__"])
def test_the_interpreter_ends_at_any_time(script, dropins, how):
    target = dropins()
    address = target.map(memory="m", length=MIB)["address"]
    target.register(memory="m")
    source = """
import ctypes, os, sys, threading
from mooncake.engine import TransferEngine
name, address, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
block = ctypes.create_string_buffer(1 << 20)
engine = TransferEngine()
assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
assert engine.register_memory(ctypes.addressof(block), 1 << 20) == 0
def write(): return engine.transfer_sync_write(name, ctypes.addressof(block), address, 1 << 20)
assert write() == 0
class Connector:
    def __init__(self): self.engine, self.me = engine, self
    def __del__(self): self.engine.unregister_memory(ctypes.addressof(block)); self.engine.get_rpc_port()
if how == "cycle": connector = [engine]; connector.append(connector); del engine
if how == "in flight": assert engine.transfer_submit_write(name, ctypes.addressof(block), address, 1 << 20) > 0
if how == "daemon":
    def forever():
        while True: write()
    for _ in range(4): threading.Thread(target=forever, daemon=True).start()
    assert write() == 0
if how == "__del__": connector = Connector()
if how == "exit": sys.exit(0)
"""
    done = script(source, target.engine, address, how)
    assert done.returncode == 0 and done.stderr == "", done.stderr


def test_a_forked_child_gets_errors(script):
    source = """
import ctypes, os
from mooncake.engine import TransferEngine
block = ctypes.create_string_buffer(4096)
engine = TransferEngine()
assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
assert engine.register_memory(ctypes.addressof(block), 4096) == 0
name = f"127.0.0.1:{engine.get_rpc_port()}"
assert engine.transfer_sync_write(name, ctypes.addressof(block), ctypes.addressof(block), 10) in (0, -1)
pid = os.fork()
if pid == 0:
    good = engine.transfer_sync_write(name, ctypes.addressof(block), ctypes.addressof(block), 10) == -1
    good = good and engine.register_memory(ctypes.addressof(block), 4096) < 0 and engine.send_probe(name) == -1
    fresh = TransferEngine()
    good = good and fresh.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
    del engine
    os._exit(0 if good else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert engine.send_probe(name) == 0
"""
    done = script(source)
    assert done.returncode == 0, done.stderr
