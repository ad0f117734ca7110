# SPDX-License-Identifier: Apache-2.0
"""Every pair of memory kinds, on emulated devices: between two processes and inside one, read and write, over Sunrise
Link, and through buffers in host memory over tcp and shm.

Contents are written and looked at by calls of the runtime that the programs make themselves. Every byte of the
destination is looked at: those that had to come, and those around them.
"""

import dataclasses
import random

import pytest

from emulated import KIB, MIB, World

KINDS = ("host", "device 0", "device 1", "mapped")

LINK_OFF = {"transports/sunrise_link/enable": "off"}

# How the bytes go: settings of all engines, and whether there is a second process.
WAYS = {
    "link": ({}, True),
    "inside": ({}, False),
    "async": ({"transports/sunrise_link/async_memcpy_threshold": "1"}, True),
    "tcp": ({**LINK_OFF, "transports/shm/enable": "off"}, True),
    "shm": (LINK_OFF, True),
}

# (length, offset at the source, offset at the destination); neither overlaps with the next row.
ROWS = [
    (1, 0, 3),
    (3, 5, 4),
    (255, 10, 1021),
    (4097, 301, 4096),
    (65537, 4999, 8201),
    (256 * KIB, 80_001, 80_007),
    (256 * KIB + 1, 350_000, 350_001),
    (3 * MIB + 11, 700_001, 700_000),
]
LENGTH = 4 * MIB
PAGE_ROWS = [(100, 512), (4096, 96), (65537, 24)]  # page size, pages


class Scene:
    """Memory of each kind at the near process (which submits) and at the far one, which may be the same."""

    def __init__(self, world, settings, two):
        self.settings = settings
        self.two = two
        self.near = world.peer(**settings)
        self.far = world.peer(**settings) if two else self.near
        self.near.segment(segment="s", peer=self.far.engine)
        self.addresses = {}
        for end, peer in (("near", self.near), ("far", self.far)):
            for kind in KINDS:
                self.addresses[end, kind] = make(peer, f"{end} {kind}", kind, LENGTH)

    def ends(self, op, local, remote):
        """Peer and memory of the source and of the destination."""
        near, far = (self.near, f"near {local}"), (self.far, f"far {remote}")
        return (near, far) if op == "write" else (far, near)


def make(peer, memory, kind, length, skew=0, register=True):
    """Memory of that kind; its address."""
    members = {"memory": memory, "length": length, "skew": skew}
    if kind == "host":
        address = peer.map(**members)["address"]
    elif kind == "mapped":
        address = peer.host_allocate(**members)["address"]
    else:
        address = peer.device_allocate(device=int(kind.split()[1]), **members)["address"]
    if register:
        peer.register(memory=memory)
    return address


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    return request.param


@pytest.fixture(scope="module")
def scene(build_dir, tmp_path_factory, way):
    world = World(build_dir, tmp_path_factory.mktemp("world"), trace=False)
    try:
        yield Scene(world, *WAYS[way])
    finally:
        world.dispose()


@pytest.fixture
def world(build_dir, tmp_path):
    world = World(build_dir, tmp_path, trace=False)
    yield world
    world.dispose()


def completed(result):
    assert result["state"] == "COMPLETED", result


def assert_content(peer, memory, **members):
    found = peer.compare(memory=memory, **members)
    assert found["different"] == 0, (memory, members, found)


@pytest.mark.parametrize("op", ["write", "read"])
@pytest.mark.parametrize("remote", KINDS)
@pytest.mark.parametrize("local", KINDS)
def test_every_pair(scene, local, remote, op):
    (source, source_memory), (target, target_memory) = scene.ends(op, local, remote)
    source.fill(memory=source_memory, seed=7)
    target.fill(memory=target_memory, byte=0xA5)
    requests = []
    for length, from_offset, to_offset in ROWS:
        here, there = (from_offset, to_offset) if op == "write" else (to_offset, from_offset)
        requests.append(
            {
                "op": op,
                "segment": "s",
                "memory": f"near {local}",
                "offset": here,
                "remote": scene.addresses["far", remote] + there,
                "length": length,
            }
        )
    completed(scene.near.batch(requests))

    end = 0
    for length, from_offset, to_offset in ROWS:
        assert_content(target, target_memory, byte=0xA5, offset=end, length=to_offset - end)
        assert_content(target, target_memory, seed=7, position=from_offset, offset=to_offset, length=length)
        end = to_offset + length
    assert_content(target, target_memory, byte=0xA5, offset=end)
    assert_content(source, source_memory, seed=7)


@pytest.mark.parametrize("op", ["write", "read"])
@pytest.mark.parametrize(
    "local, remote",
    [("device 0", "device 1"), ("device 1", "device 1"), ("host", "device 0"), ("device 0", "mapped")],
)
def test_pages(scene, local, remote, op):
    shuffle = random.Random(f"{local}{remote}{op}").shuffle
    (source, source_memory), (target, target_memory) = scene.ends(op, local, remote)
    source.fill(memory=source_memory, seed=8)
    target.fill(memory=target_memory, byte=0)
    for size, count in PAGE_ROWS:
        here, there = list(range(count)), list(range(count))
        shuffle(here)
        shuffle(there)
        stride = size + 61
        completed(
            scene.near.batch(
                [
                    {
                        "op": op,
                        "segment": "s",
                        "memory": f"near {local}",
                        "offset": 1,
                        "remote": scene.addresses["far", remote] + 3,
                        "page_size": size,
                        "local_stride": stride,
                        "local_pages": here,
                        "remote_pages": there,
                    }
                ]
            )
        )
        for page_here, page_there in zip(here, there):
            at_near, at_far = 1 + page_here * stride, 3 + page_there * size
            from_offset, to_offset = (at_near, at_far) if op == "write" else (at_far, at_near)
            assert_content(target, target_memory, seed=8, position=from_offset, offset=to_offset, length=size)


# What the report has to say for (way, local, remote): the transport and whether it is staged. None: not looked at.
def expected(way, local, remote):
    here, there = local.startswith("device"), remote.startswith("device")
    if way in ("tcp", "shm"):
        return ("tcp" if way == "tcp" else None), here or there
    if way == "inside":
        return ("sunrise_link", False) if here or there else ("local", False)
    if there:
        return "sunrise_link", False
    return "shm", here


@pytest.mark.parametrize("op", [0, 1], ids=["read", "write"])
@pytest.mark.parametrize("remote", KINDS)
@pytest.mark.parametrize("local", KINDS)
def test_the_report_names_the_way(scene, way, local, remote, op):
    steps = scene.near.path(
        segment="s", memory=f"near {local}", remote=scene.addresses["far", remote], length=MIB, op=op
    )["steps"]
    chosen = next(step for step in steps if step["chosen"])
    transport, staged = expected(way, local, remote)
    assert transport in (None, chosen["transport"]), steps
    assert chosen["staged"] == staged, steps
    assert chosen["rails"] > 0 and chosen["checks"], steps
    assert all(step["why"] for step in steps), steps


@pytest.mark.parametrize("remote", ["device 0", "device 1"])
@pytest.mark.parametrize("op", ["write", "read"])
def test_tensors_inside_one_allocation(scene, op, remote):
    """Two tensors, registered one by one, at odd places of one allocation; a third one is registered by nobody."""
    base = make(scene.far, "whole", remote, LENGTH, register=False)
    tensors = {"first": (MIB + 3, MIB + 5), "second": (3 * MIB + 17, 300_001)}
    try:
        for name, (offset, length) in tensors.items():
            scene.far.view(memory=name, of="whole", offset=offset, length=length)
            scene.far.register(memory=name)
        scene.far.fill(memory="whole", seed=9)
        scene.near.fill(memory="near device 0", seed=10)
        for offset, length in tensors.values():
            completed(
                scene.near.transfer(op, "s", "near device 0", base + offset + 1, length - 2, offset=offset + 1)
            )
        for offset, length in tensors.values():
            inside = {"offset": offset + 1, "length": length - 2, "position": offset + 1}
            if op == "read":
                assert_content(scene.near, "near device 0", seed=9, **inside)
            else:
                assert_content(scene.far, "whole", seed=10, **inside)
        edges = [edge for offset, length in tensors.values() for edge in (offset + 1, offset + length - 1)]
        for start, end in zip([0, *edges[1::2]], [*edges[::2], LENGTH]):
            if op == "write":
                assert_content(scene.far, "whole", seed=9, offset=start, position=start, length=end - start)
            else:
                assert_content(scene.near, "near device 0", seed=10, offset=start, position=start, length=end - start)
        result = scene.near.transfer(op, "s", "near device 0", base + 64, 64)
        assert (result["state"], result["cause"]) == ("FAILED", "ERR_NOT_REGISTERED"), result
    finally:
        for name in tensors:
            scene.far.unregister(memory=name)
            scene.far.release_memory(memory=name)
        scene.far.release_memory(memory="whole")


@dataclasses.dataclass
class Big:
    way: str
    local: str
    remote: str
    op: str


BIG = [
    Big("link", "device 0", "device 1", "write"),
    Big("link", "device 1", "device 1", "read"),
    Big("link", "host", "device 0", "read"),
    Big("async", "device 1", "device 0", "read"),
    Big("async", "host", "device 1", "write"),
    Big("inside", "device 0", "host", "write"),
    Big("tcp", "device 0", "device 1", "write"),
]


@pytest.mark.parametrize("case", BIG, ids=lambda case: f"{case.way}-{case.local}-{case.remote}-{case.op}")
def test_256_mib(world, case):
    settings, two = WAYS[case.way]
    near = world.peer(**settings)
    far = world.peer(**settings) if two else near
    length = 256 * MIB
    make(near, "here", case.local, length + 8, skew=1)
    address = make(far, "there", case.remote, length + 8, skew=3)
    near.segment(segment="s", peer=far.engine)
    source, target = ((near, "here"), (far, "there")) if case.op == "write" else ((far, "there"), (near, "here"))
    source[0].fill(memory=source[1], seed=11)
    completed(near.transfer(case.op, "s", "here", address + 5, length, offset=5))
    assert_content(*target, seed=11, offset=5, position=5, length=length)


def test_engine_owned_device_memory(world):
    near, far = world.peer(), world.peer()
    near.allocate(memory="here", length=MIB, location="sunrise:0")
    address = far.allocate(memory="there", length=MIB, location="sunrise:1")["address"]
    assert near.region(memory="here")["location"] == "sunrise:0"
    assert far.region(memory="there")["location"] == "sunrise:1"
    assert_content(near, "here", byte=0)
    near.fill(memory="here", seed=12)
    near.segment(segment="s", peer=far.engine)
    completed(near.transfer("write", "s", "here", address))
    assert_content(far, "there", seed=12)
    near.segment_close(segment="s")
    far.release_memory(memory="there")
    near.release_memory(memory="here")


def test_only_shm(world):
    """It fills a peer's device memory, but cannot read it; the failure says which transport lacks what."""
    settings = {**LINK_OFF, "transports/tcp/enable": "off"}
    near, far = world.peer(**settings), world.peer(**settings)
    near.segment(segment="s", peer=far.engine)
    make(near, "here", "device 0", MIB)
    address = make(far, "there", "device 1", MIB)
    near.fill(memory="here", seed=13)
    completed(near.transfer("write", "s", "here", address, MIB))
    assert_content(far, "there", seed=13)
    result = near.transfer("read", "s", "here", address, MIB)
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_NO_PATH"), result
    assert far.engine in result["why"] and "shm: cross-memory attach does not reach" in result["why"], result


@pytest.mark.parametrize(
    "location, kind, status",
    [
        ("sunrise:0", "device 0", "OK"),
        ("cuda:0", "device 0", "OK"),
        ("npu:1", "device 1", "OK"),
        ("sunrise:1", "device 0", "LOCATION"),
        ("cuda:1", "device 0", "LOCATION"),
        ("sunrise:7", "device 0", "LOCATION"),
        ("cpu:0", "device 0", "LOCATION"),
        ("sunrise:0", "host", "LOCATION"),
        ("*", "device 1", "OK"),
        ("cpu:*", "mapped", "OK"),
    ],
)
def test_locations(world, location, kind, status):
    peer = world.peer()
    make(peer, "m", kind, MIB, skew=3, register=False)
    assert peer.status_of("register", memory="m", location=location) == status
    if status == "OK" and kind.startswith("device"):
        assert peer.region(memory="m")["location"] == f"sunrise:{kind[-1]}"
