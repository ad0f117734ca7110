# SPDX-License-Identifier: Apache-2.0
"""What the vendor's documents leave open, and what differs between installations: the emulated runtime behaves in each
of the possible ways, and bytes are right in all of them."""

import pytest

from emulated import KIB, MIB, SECOND, World
from test_device_matrix import assert_content, completed, make

LENGTH = 4 * MIB
PARTS = [(0, 100), (4096, 200 * KIB), (MIB + 1, 2 * MIB + 3)]  # offset, length: one after the other
PAIRS = [
    ("device 0", "device 1"),
    ("device 1", "device 1"),
    ("host", "device 0"),
    ("mapped", "device 1"),
    ("device 0", "host"),
]
OPTIONS = [
    "context_sensitive",
    "attribute_base",
    "host_query=host",
    "host_query=error",
    "ipc_interior=no",
    "ipc_interior=distinct",
    "reopen=second",
    "reopen=error",
    "same_device_ipc_write=fail",
    "same_device_ipc_write=drop",
    "strict=no,ipc_self,mapped_address=same",
    "d2d=late",
    "d2d_across",
    "peer_without_link",
    "init_again=ok",
    "context_sensitive,attribute_base,ipc_interior=no,reopen=error,d2d=late,host_query=error",
]


@pytest.fixture
def make_world(build_dir, tmp_path):
    worlds = []

    def start(**members):
        worlds.append(World(build_dir, tmp_path, **members))
        return worlds[-1]

    yield start
    for world in worlds:
        world.dispose()


def move_everything(near, far, pairs, op):
    """Parts of memory of each pair; the far side is a tensor inside an allocation. Looks at every byte."""
    for number, (local, remote) in enumerate(pairs):
        here, whole, there = f"here {number} {op}", f"whole {number} {op}", f"there {number} {op}"
        make(near, here, local, LENGTH)
        make(far, whole, remote, LENGTH + 8192, register=False)
        address = far.view(memory=there, of=whole, offset=4097, length=LENGTH)["address"]
        far.register(memory=there)
        (source, source_memory), (target, target_memory) = ends = [(near, here), (far, there)]
        if op == "read":
            (target, target_memory), (source, source_memory) = ends
        source.fill(memory=source_memory, seed=31)
        target.fill(memory=target_memory, byte=0x5A)
        request = {"op": op, "segment": "s", "memory": here}
        completed(
            near.batch(
                [
                    {**request, "offset": offset, "remote": address + offset, "length": length}
                    for offset, length in PARTS
                ]
            )
        )
        end = 0
        for offset, length in PARTS:
            assert_content(target, target_memory, byte=0x5A, offset=end, length=offset - end)
            assert_content(target, target_memory, seed=31, position=offset, offset=offset, length=length)
            end = offset + length
        assert_content(target, target_memory, byte=0x5A, offset=end)


@pytest.mark.parametrize("threshold", ["0", "1"], ids=["blocking", "async"])
@pytest.mark.parametrize("options", OPTIONS)
def test_bytes_are_right(make_world, options, threshold):
    world = make_world(options=options)
    settings = {"transports/sunrise_link/async_memcpy_threshold": threshold}
    near, far = world.peer(**settings), world.peer(**settings)
    near.segment(segment="s", peer=far.engine)
    for op in ("write", "read"):
        move_everything(near, far, PAIRS, op)
    for peer in (near, far):
        peer.close()
        assert peer.quit() == 0
        report = world.report(peer)
        assert (report["open_mappings"], report["device_leaks"], report["host_touches"]) == (0, 0, 0), report


def test_without_mapped_host_memory(make_world):
    """As without an IOMMU: the application cannot have any, and the engine does not need it."""
    world = make_world(options="host_mapped=no")
    near, far = world.peer(), world.peer()
    assert near.status_of("host_allocate", memory="m", length=MIB) == "IO"
    near.segment(segment="s", peer=far.engine)
    move_everything(near, far, [("device 0", "device 1"), ("device 0", "host")], "write")


@pytest.mark.parametrize("topology", ["ring", "islands"])
def test_devices_without_a_link(make_world, topology):
    """Not each device is linked with each other: bytes arrive all the same, as the report says."""
    world = make_world(topology=topology, devices=8)
    near, far = world.peer(), world.peer()
    near.segment(segment="s", peer=far.engine)
    pairs = [(f"device {local}", f"device {remote}") for local, remote in ((0, 1), (0, 4), (7, 2), (3, 3))]
    for op in ("write", "read"):
        move_everything(near, far, pairs, op)


@pytest.mark.parametrize("near_sees, far_sees", [("1:0", "0:1"), ("3:2", "0:2:3"), ("1", "1:3")])
def test_processes_that_count_devices_differently(make_world, near_sees, far_sees):
    """Device numbers are each process's own: the same device has another number elsewhere, or none."""
    world = make_world(devices=4)
    near = world.peer(options=f"visible={near_sees}")
    far = world.peer(options=f"visible={far_sees}")
    near.segment(segment="s", peer=far.engine)
    pairs = [
        (f"device {local}", f"device {remote}")
        for local in range(near.device()["count"])
        for remote in range(far.device()["count"])
    ]
    for op in ("write", "read"):
        move_everything(near, far, pairs, op)


@pytest.mark.parametrize("op", ["write", "read"])
def test_a_device_is_lost_in_the_middle(make_world, op):
    """Every batch ends, nothing hangs, and what does not need the device goes on."""
    world = make_world(faults="tangMemcpyPeer bytes=1048576 call=3 removed 1\n", devices=3)
    near, far = world.peer(), world.peer()
    near.segment(segment="s", peer=far.engine)
    make(near, "m", "device 0", 8 * MIB)
    address = make(far, "m", "device 1", 8 * MIB)
    request = {"op": op, "segment": "s", "memory": "m", "remote": address, "length": 8 * MIB}
    result = near.batch([request] * 8)
    assert result["state"] == "FAILED" and result["local_quiet"], result
    assert result["ended_ns"] - result["submitted_ns"] < 5 * SECOND
    result = near.batch([request])
    assert result["state"] == "FAILED"
    assert "sunrise_link: " in result["why"], result
    move_everything(near, far, [("device 0", "device 2"), ("host", "device 2"), ("device 2", "device 0")], op)
    near.unregister(memory="m")
    far.unregister(memory="m")
    near.close()
    far.close()
    assert (near.quit(), far.quit()) == (0, 0)
