# SPDX-License-Identifier: Apache-2.0
"""mooncake.engine as Causeway gives it: buffers of its own, and what is passed in that cannot be meant."""

import pytest

from dropin import Memory, here, mooncake, there  # noqa: F401 (fixtures)
from peer import pattern

MIB = 1 << 20

pytestmark = pytest.mark.timeout(120)


# --------------------------------------------------------------------------------------------------- buffers


def test_managed_buffers(here, there):
    engine = here.engine
    lengths = [1, 8192, 8193, MIB, 5 * MIB, 4 * MIB, 3]
    addresses = [engine.allocate_managed_buffer(length) for length in lengths]
    assert all(addresses) and len(set(addresses)) == len(addresses)
    for i, (address, length) in enumerate(zip(addresses, lengths)):
        data = pattern(i, min(length, MIB))
        assert engine.write_bytes_to_buffer(address, data, len(data)) == 0
    for i, (address, length) in enumerate(zip(addresses, lengths)):
        data = pattern(i, min(length, MIB))
        assert engine.read_bytes_from_buffer(address, len(data)) == data
        assert engine.transfer_sync_write(there.name, address, there.address, len(data)) == 0
        assert there.memory.block[: len(data)] == data
    for address, length in zip(addresses, lengths):
        assert engine.free_managed_buffer(address, length) == 0
        assert engine.free_managed_buffer(address, length) == -1, "twice"
    assert engine.free_managed_buffer(here.address, 10) == -1
    again = [engine.allocate_managed_buffer(length) for length in lengths]
    assert all(again)
    assert set(again[:3]) <= set(addresses), "memory is used again"
    for length in (0, -1, 1 << 62, 1 << 70):
        assert engine.allocate_managed_buffer(length) == 0


def test_bytes_stay_inside_registered_memory(here):
    engine, loose = here.engine, Memory(64)
    assert engine.write_bytes_to_buffer(here.address, b"hello", 5) == 0
    assert engine.write_bytes_to_buffer(here.address + 5, "world", 3) == 0
    assert engine.read_bytes_from_buffer(here.address, 8) == b"hellowor"
    for address, data, length in (
        (here.address, b"ab", 3),
        (here.address, b"ab", -1),
        (here.address + MIB - 1, b"ab", 2),
        (loose.address, b"ab", 2),
        (0, b"ab", 2),
        (-1, b"ab", 2),
        (1 << 70, b"ab", 2),
    ):
        assert engine.write_bytes_to_buffer(address, data, length) == -1
    for address, length in (
        (here.address + MIB - 1, 2),
        (loose.address, 1),
        (0, 1),
        (here.address, -1),
        (here.address, 1 << 70),
    ):
        with pytest.raises(ValueError):
            engine.read_bytes_from_buffer(address, length)
    assert engine.read_bytes_from_buffer(here.address, 0) == b""


# ------------------------------------------------------------------------------------------------- bad input


WRONG_TYPES = [
    lambda e, a: e.initialize(1, "P2PHANDSHAKE", "tcp", ""),
    lambda e, a: e.initialize("127.0.0.1", None, "tcp", ""),
    lambda e, a: e.register_memory("x", 10),
    lambda e, a: e.register_memory(a, "10"),
    lambda e, a: e.register_memory(1.5, 10),
    lambda e, a: e.register_memory(None, 10),
    lambda e, a: e.register_memory(a, 10, 7),
    lambda e, a: e.register_memory(),
    lambda e, a: e.batch_register_memory(5, [10]),
    lambda e, a: e.batch_register_memory(["x"], [10]),
    lambda e, a: e.transfer_sync_write(7, a, a, 1),
    lambda e, a: e.transfer_sync_write(None, a, a, 1),
    lambda e, a: e.transfer_sync_write("127.0.0.1:1", a, a, 1, 5),
    lambda e, a: e.transfer_sync("127.0.0.1:1", a, a, 1, "Write"),
    lambda e, a: e.batch_transfer_sync_write("127.0.0.1:1", a, a, 1),
    lambda e, a: e.batch_transfer_sync_write("127.0.0.1:1", None, None, None),
    lambda e, a: e.write_bytes_to_buffer(a, 5, 1),
    lambda e, a: e.write_bytes_to_buffer(a, b"x", "1"),
    lambda e, a: e.get_batch_transfer_status(5),
    lambda e, a: e.send_probe(5),
    lambda e, a: e.warmup_efa_segment(None),
]


@pytest.mark.parametrize("call", WRONG_TYPES)
def test_wrong_types_are_type_errors(here, call):
    with pytest.raises(TypeError):
        call(here.engine, here.address)


PEER_TYPES = [
    lambda e, n, a: e.transfer_sync_write(n, "x", a, 1),
    lambda e, n, a: e.transfer_sync_write(n, a, None, 1),
    lambda e, n, a: e.transfer_sync_write(n, a, a, 1.5),
    lambda e, n, a: e.transfer_sync_write(n, a, a, "1"),
    lambda e, n, a: e.batch_transfer_sync_write(n, ["x"], [a], [1]),
    lambda e, n, a: e.batch_transfer_sync_write(n, [a], [1.5], [1]),
    lambda e, n, a: e.batch_transfer_sync_write(n, [a], [a], [None]),
    lambda e, n, a: e.transfer_sync(n, a, a, 1, 1, "notify"),
    lambda e, n, a: e.batch_transfer_async_read(n, [object()], [a], [1]),
]


@pytest.mark.parametrize("call", PEER_TYPES)
def test_wrong_types_towards_a_peer(here, there, call):
    with pytest.raises(TypeError):
        call(here.engine, there.name, here.address)
    assert here.engine.transfer_sync_write(there.name, here.address, there.address, 1) == 0


def test_a_notification_that_is_no_text(mooncake, here, there):
    note = mooncake.TransferNotify("name", "text")
    note.msg = 5
    with pytest.raises(TypeError):
        here.engine.transfer_sync(there.name, here.address, there.address, 1, mooncake.Write, note)
    too_long = mooncake.TransferNotify("name", "x" * (1 << 20))
    assert here.engine.transfer_sync(there.name, here.address, there.address, 1, mooncake.Write, too_long) == -1
    assert here.engine.transfer_sync(there.name, here.address, there.address, 1, 2) == -1, "no such opcode"


def test_on_cuda_without_a_device_is_an_exception(here, there):
    for call in (here.engine.transfer_write_on_cuda, here.engine.transfer_read_on_cuda):
        with pytest.raises(RuntimeError):
            call(there.name, here.address, there.address, 10)
    with pytest.raises(RuntimeError):
        here.engine.batch_transfer_write_on_cuda(there.name, [here.address], [there.address], [10, 20], 0)
    assert here.engine.batch_transfer_read_on_cuda(there.name, [], [], []) is None
