# SPDX-License-Identifier: Apache-2.0
"""The trace of the emulated runtime shows how Sunrise Link moves bytes: which call for which pair of memories, what
comes next when one fails, under which locks, on which streams, and which calls are never made for a request."""

import time

import pytest

from emulated import COPIES, KIB, MIB, World, need_devices
from test_device_matrix import KINDS, assert_content, completed, make

LENGTH = 8 * MIB
H2D, D2H, D2D = 1, 2, 3

# Questions about memory that belong to registration, and what is made once and kept.
NEVER_FOR_A_REQUEST = {
    "tangPointerGetAttributes",
    "tangIpcGetMemHandle",
    "tangHostGetDevicePointer",
    "tangMalloc",
    "tangHostAlloc",
    "tangGetDeviceCount",
    "tangDeviceGetPCIBusId",
    "tangDeviceSynchronize",
    "tangStreamSynchronize",
}
ONCE = {"tangIpcOpenMemHandle", "tangIpcCloseMemHandle", "tangStreamCreateWithFlags", "tangEventCreateWithFlags"}


class Scene:
    """Two processes (or one) with memory of each kind, in a world with a trace."""

    def __init__(self, world, two=True, **settings):
        self.world = world
        self.near = world.peer(**settings)
        self.far = world.peer(**settings) if two else self.near
        self.near.set_device(device=1)  # whatever the engine does must not be seen here
        self.far.set_device(device=1)
        self.near.segment(segment="s", peer=self.far.engine)
        self.addresses = {}

    def memory(self, end, kind, length=LENGTH):
        """The name of that memory; made when it is asked for first."""
        name = f"{end} {kind}"
        if name not in self.addresses:
            self.addresses[name] = make(self.near if end == "near" else self.far, name, kind, length)
        return name

    def request(self, op, local, remote, length, offset=0):
        return {
            "op": op,
            "segment": "s",
            "memory": self.memory("near", local),
            "offset": offset,
            "remote": self.addresses[self.memory("far", remote)] + offset,
            "length": length,
        }

    def calls(self, requests, peer=None, **members):
        """Runs the requests as a batch; the result, and what the near process called meanwhile."""
        since = time.monotonic_ns()
        result = self.near.batch(requests, **members)
        return result, self.world.trace(peer or self.near, since, time.monotonic_ns())

    def moved(self, op, local, remote, length, peer=None, **members):
        """Moves bytes, looks at each, and returns the calls."""
        request = self.request(op, local, remote, length)
        source, target = (self.near, self.memory("near", local)), (self.far, self.memory("far", remote))
        if op == "read":
            source, target = target, source
        source[0].fill(memory=source[1], seed=21)
        target[0].fill(memory=target[1], byte=0)
        result, calls = self.calls([request], peer, **members)
        completed(result)
        assert_content(*target, seed=21, length=length)
        assert_content(*target, byte=0, offset=length)
        return calls


@pytest.fixture
def make_world(build_dir, tmp_path):
    worlds = []

    def start(**members):
        folder = tmp_path / str(len(worlds))
        folder.mkdir()
        worlds.append(World(build_dir, folder, **members))
        return worlds[-1]

    yield start
    for world in worlds:
        world.dispose()


def forbidden(calls, made):
    """Of these calls, the symbols that no request may lead to. A look at the default stream is how a blocking copy
    makes sure that it is over; the streams that were made are never asked as a whole."""
    asked = {call.symbol for call in calls if call.symbol == "tangStreamQuery" and call.arguments["stream"] in made}
    return NEVER_FOR_A_REQUEST & set(names(calls)) | asked


def streams(calls):
    """The device of each stream that was made."""
    return {call.arguments["stream"]: call.device for call in calls if call.symbol == "tangStreamCreateWithFlags"}


def copies(calls):
    return [call for call in calls if call.symbol in COPIES]


def names(calls):
    return [call.symbol for call in calls]


# (local, remote, op): what the copy is called up to the threshold, above it, and its kind.
LADDER = {
    ("device 0", "device 0", "write"): ("tangMemcpy", "tangMemcpyAsync", D2D),
    ("device 1", "device 1", "read"): ("tangMemcpy", "tangMemcpyAsync", D2D),
    ("device 0", "device 1", "write"): ("tangMemcpyPeer", "tangMemcpyPeerAsync", None),
    ("device 0", "device 1", "read"): ("tangMemcpyPeer", "tangMemcpyPeerAsync", None),
    ("host", "device 1", "write"): ("tangMemcpy", "tangMemcpyAsync", H2D),
    ("host", "device 0", "read"): ("tangMemcpy", "tangMemcpyAsync", D2H),
    ("mapped", "device 1", "write"): ("tangMemcpy", "tangMemcpyAsync", H2D),
    ("mapped", "device 0", "read"): ("tangMemcpy", "tangMemcpyAsync", D2H),
}


def prove(scene, device):
    """The first write into another process's memory on the same device is looked at: some runtimes drop it."""
    calls = copies(scene.moved("write", device, device, 100))
    assert [call.arguments["kind"] for call in calls] == [D2H, D2H, D2D, D2H], calls


@pytest.mark.parametrize("two", [True, False], ids=["two processes", "one"])
@pytest.mark.parametrize("pair", LADDER, ids="-".join)
def test_which_call(make_world, pair, two):
    local, remote, op = pair
    blocking, streamed, kind = LADDER[pair]
    scene = Scene(make_world(), two, **{"transports/sunrise_link/async_memcpy_threshold": "1"})

    if two and local == remote and op == "write":
        prove(scene, local)
    for length in (100, 200 * KIB, MIB):  # a threshold is not exceeded by a copy of its size
        calls = copies(scene.moved(op, local, remote, length))
        assert set(names(calls)) == {blocking}, calls
        assert all(call.ok for call in calls)
        assert sum(call.arguments["size"] for call in calls) == length
        if kind is not None:
            assert {call.arguments["kind"] for call in calls} == {kind}

    calls = scene.moved(op, local, remote, 4 * MIB)
    assert set(names(copies(calls))) == {streamed}, calls
    assert sum(call.arguments["size"] for call in copies(calls)) == 4 * MIB
    if kind is not None:
        assert {call.arguments["kind"] for call in copies(calls)} == {kind}
    assert "tangEventRecord" in names(calls)
    assert {"tangEventQuery", "tangEventSynchronize"} & set(names(calls))
    assert not (NEVER_FOR_A_REQUEST | {"tangStreamQuery"}) & set(names(calls)), names(calls)


@pytest.mark.parametrize("address", ["same", "other"])
def test_mapped_memory_is_host_memory(make_world, address):
    """Wherever devices see it, and although the runtime gives it a device's address: the direction is the host's."""
    scene = Scene(make_world(options=f"mapped_address={address}"))
    for op, kind in (("write", H2D), ("read", D2H)):
        calls = copies(scene.moved(op, "mapped", "device 1", MIB))
        assert {(call.symbol, call.arguments["kind"]) for call in calls} == {("tangMemcpy", kind)}, calls


def test_the_threshold_is_off_by_default(make_world):
    scene = Scene(make_world())
    calls = scene.moved("write", "device 0", "device 1", LENGTH)
    assert set(names(copies(calls))) == {"tangMemcpyPeer"}
    assert "tangEventQuery" not in names(calls)


def test_the_owner_of_the_memory_does_nothing(make_world):
    scene = Scene(make_world())
    scene.moved("write", "device 0", "device 1", MIB)
    for op in ("write", "read"):
        _, calls = scene.calls([scene.request(op, "device 0", "device 1", MIB)], scene.far)
        assert names(calls) == []


@pytest.mark.parametrize("threshold", ["0", "1"])
def test_no_question_on_the_way_of_a_request(make_world, threshold):
    """After each pair was used once, requests make no call but those that move bytes."""
    scene = Scene(make_world(), **{"transports/sunrise_link/async_memcpy_threshold": threshold})
    pairs = [(local, remote) for local in KINDS for remote in ("device 0", "device 1")]
    kinds = [(op, length) for op in ("write", "read") for length in (64, 2 * MIB)]
    requests = [scene.request(op, *pair, length) for pair in pairs for op, length in kinds]
    for request in requests:  # bytes do not matter here: one after the other, since they overlap
        completed(scene.calls([request])[0])
    made = streams(scene.world.trace(scene.near))
    for request in requests:
        result, calls = scene.calls([request])
        completed(result)
        assert copies(calls)
        assert not forbidden(calls, made), names(calls)
        assert not ONCE & set(names(calls)), names(calls)


def test_a_handle_is_opened_once(make_world):
    """Two tensors of one allocation, several devices and requests: one mapping, closed when the last region is gone."""
    world = make_world()
    scene = Scene(world)
    make(scene.far, "whole", "device 1", LENGTH, register=False)
    for name, offset in (("first", MIB), ("second", 4 * MIB)):
        view = scene.far.view(memory=f"far {name}", of="whole", offset=offset, length=MIB)
        scene.addresses[f"far {name}"] = view["address"]
        scene.far.register(memory=f"far {name}")
    for local in ("device 0", "device 1", "host"):
        for name in ("first", "second"):
            completed(scene.near.batch([scene.request("write", local, name, MIB)]))
    opened = [call for call in world.trace(scene.near) if call.symbol == "tangIpcOpenMemHandle"]
    assert len(opened) == 1 and opened[0].ok, opened
    assert opened[0].device == 1  # current device: that of the memory
    for name in ("first", "second"):
        scene.far.unregister(memory=f"far {name}")
    closed = [call for call in world.trace(scene.near) if call.symbol == "tangIpcCloseMemHandle"]
    assert len(closed) == 1 and closed[0].ok, closed


# ------------------------------------------------------------------------------------------- fallbacks

PEER, PEER_2, VIEW = "tangMemcpyPeer", "tangMemcpyPeer_v2", "tangDeviceGetPeerPointer"


def fails(*symbols):
    """A fault script: each call of these fails."""
    return "".join(f"{symbol} fail 801\n" for symbol in symbols)


def steps(calls):
    """The copies and what leads to them, as (symbol, succeeded), repetitions left out."""
    row = [(call.symbol, call.ok) for call in calls if call.symbol in (*COPIES, VIEW)]
    return [step for i, step in enumerate(row) if i == 0 or row[i - 1] != step]


LADDER_STEPS = {
    (): [(PEER, True)],
    (PEER,): [(PEER, False), (PEER_2, True)],
    (PEER, PEER_2): [(PEER, False), (PEER_2, False), (VIEW, True), ("tangMemcpy", True)],
}


@pytest.mark.parametrize("op", ["write", "read"])
@pytest.mark.parametrize("broken", LADDER_STEPS, ids=lambda broken: "+".join(broken) or "none")
def test_the_ladder(make_world, broken, op):
    scene = Scene(make_world(faults=fails(*broken)))
    calls = scene.moved(op, "device 0", "device 1", MIB)
    assert steps(calls)[: len(LADDER_STEPS[broken])] == LADDER_STEPS[broken], steps(calls)
    assert not [call for call in copies(calls) if call.symbol == "tangMemcpy" and call.arguments["kind"] != D2D]


def test_the_other_end_of_the_link(make_world):
    """Device 0 does not tell its ports: from 0 to 1 the copy is made from where device 1 sees the source."""
    scene = Scene(make_world(faults=fails(PEER, PEER_2) + "ptmlPtlinkPhytopoDetect device=0 fail 9\n"))
    for op in ("write", "read"):
        calls = scene.moved(op, "device 0", "device 1", MIB)
        views = [call for call in calls if call.symbol == VIEW]
        assert {(call.arguments["source_device"], call.ok) for call in views} == {(1, True)}, views
        moves = [call for call in copies(calls) if call.symbol == "tangMemcpy"]
        assert moves and {(call.device, call.arguments["kind"], call.ok) for call in moves} == {(1, D2D, True)}, moves


def test_another_transport_is_the_last_resort(make_world):
    scene = Scene(make_world(faults=fails(PEER, PEER_2, VIEW)))
    calls = scene.moved("write", "device 0", "device 1", MIB)
    assert steps(calls)[:3] == [(PEER, False), (PEER_2, False), (VIEW, False)]
    assert D2H in {call.arguments.get("kind") for call in copies(calls)}  # to a buffer in host memory


def test_strict_fails_rather(make_world):
    scene = Scene(make_world(faults=fails(PEER, PEER_2, VIEW)))
    scene.near.segment(segment="strict", peer=scene.far.engine, transports="sunrise_link", strict=1)
    request = {**scene.request("write", "device 0", "device 1", MIB), "segment": "strict"}
    result, _ = scene.calls([request])
    assert result["state"] == "FAILED" and result["local_quiet"], result
    assert "sunrise_link" in result["why"] and scene.far.engine in result["why"], result


def test_a_failure_that_passes(make_world):
    """One call fails once: the copy is made by the next step, and later ones by the first again or the next; exact."""
    scene = Scene(make_world(faults=f"{PEER} call=1 fail 999\n"))
    scene.moved("write", "device 0", "device 1", MIB)
    scene.moved("read", "device 0", "device 1", MIB)


@pytest.mark.parametrize("op", ["write", "read"])
def test_an_old_runtime(make_world, op):
    """Without the symbols that are optional, everything works that does not need them."""
    faults = "tangMemsetAsync delay 200000\n"
    scene = Scene(make_world(old=True, faults=faults), **{"transports/sunrise_link/async_memcpy_threshold": "1"})
    for length in (MIB, 4 * MIB):  # there is no asynchronous copy between devices
        assert set(names(copies(scene.moved(op, "device 0", "device 1", length)))) == {PEER}
    if op == "write":
        prove(scene, "device 0")
    assert set(names(copies(scene.moved(op, "device 0", "device 0", 4 * MIB)))) == {"tangMemcpyAsync"}
    for stream in ("producer", "consumer"):
        scene.near.stream(stream=stream, device=0)
    scene.near.stream_fill(stream="producer", memory="near device 0", byte=1)
    scene.near.submit(batch="b", requests=[], after=[{"stream": "producer"}])
    assert scene.near.status_of("fence", batch="b", stream="consumer") == "UNSUPPORTED"
    completed(scene.near.wait(batch="b", timeout_ms=5000))


@pytest.mark.parametrize("op", ["write", "read"])
def test_an_old_runtime_whose_peer_copy_fails(make_world, op):
    scene = Scene(make_world(old=True, faults=fails(PEER)))
    calls = scene.moved(op, "device 0", "device 1", MIB)
    assert (PEER, False) in steps(calls) and not {PEER_2, VIEW} & set(names(calls))
    assert D2D not in {call.arguments.get("kind") for call in copies(calls)}


# --------------------------------------------------------------------------------------- locks, streams


def devices_of(call):
    """The devices whose locks such a call needs."""
    if "to_device" in call.arguments:
        return {call.arguments["to_device"], call.arguments["from_device"]}
    return {call.device}


@pytest.mark.parametrize("two", [True, False], ids=["two processes", "one"])
def test_both_directions_at_once(make_world, two):
    """Threads copy from 0 to 1 and from 1 to 0 at the same time: all end, and no two calls hold one device at once."""
    scene = Scene(make_world(), two)
    part = MIB // 2
    pairs = [("device 0", "device 1"), ("device 1", "device 0"), ("device 0", "device 0"), ("host", "device 1")]
    lists = []
    for number, (local, remote) in enumerate(pairs):
        for op in ("write", "read"):
            requests = [
                scene.request(op, local, remote, length, offset=number * 2 * part)
                for length in (64, 4 * KIB, part)
            ]
            lists.append({"requests": requests})
    since = time.monotonic_ns()
    answer = scene.near.storm(lists=lists, turns=10)
    calls = copies(scene.world.trace(scene.near, since, time.monotonic_ns()))
    assert (answer["ended"], answer["failed"], answer["moved"]) == (80, 0, 0), answer

    assert len({call.thread for call in calls}) >= 4
    for device in (0, 1):
        mine = [call for call in calls if device in devices_of(call)]
        assert len(mine) >= 80
        for earlier, later in zip(mine, mine[1:]):
            assert earlier.end <= later.begin, (earlier, later)


def test_mixed_devices_in_one_batch(make_world):
    """Each request of a batch goes on a stream of its own source device, its event too."""
    scene = Scene(make_world(), **{"transports/sunrise_link/async_memcpy_threshold": "1"})
    pairs = [
        ("write", "device 0", "device 1"),
        ("write", "device 1", "device 0"),
        ("read", "mapped", "device 0"),
        ("read", "host", "device 1"),
    ]
    requests = [scene.request(op, local, remote, 2 * MIB, offset=3 * MIB) for op, local, remote in pairs]
    requests += [scene.request(op, local, remote, 64 * KIB) for op, local, remote in pairs]
    since = time.monotonic_ns()
    completed(scene.near.batch(requests))
    calls = scene.world.trace(scene.near, since, time.monotonic_ns())
    everything = scene.world.trace(scene.near)
    made = streams(everything)
    made_events = {
        call.arguments["event"]: call.device for call in everything if call.symbol == "tangEventCreateWithFlags"
    }

    streamed = [call for call in copies(calls) if call.symbol.endswith("Async")]
    assert {call.symbol for call in streamed} == {"tangMemcpyAsync", "tangMemcpyPeerAsync"}
    used = set()
    for call in streamed:
        stream_device = made[call.arguments["stream"]]
        used.add(stream_device)
        assert call.device == stream_device, call
        if "from_device" in call.arguments:
            assert call.arguments["from_device"] == stream_device, call
    assert used == {0, 1}
    # Blocking copies may look at the default stream, which nobody made.
    recorded = [call for call in calls if call.symbol == "tangEventRecord" and call.arguments["stream"] in made]
    assert {call.arguments["stream"] for call in recorded} == {call.arguments["stream"] for call in streamed}
    for call in recorded:
        device = made[call.arguments["stream"]]
        assert made_events[call.arguments["event"]] == device and call.device == device, call


def test_the_current_device_stays(make_world):
    """Around every command so far the peers compared it; here the runtime's own count, over the life of a process."""
    world = make_world()
    scene = Scene(world, **{"transports/sunrise_link/async_memcpy_threshold": "1"})
    for op in ("write", "read"):
        scene.moved(op, "device 0", "device 1", 100)
        scene.moved(op, "device 1", "device 1", 4 * MIB)
        scene.moved(op, "host", "device 0", 4 * MIB)
    for peer in (scene.near, scene.far):
        peer.close()
        peer.set_device(device=0)  # what the program itself leaves is not counted
        assert peer.quit() == 0
        report = world.report(peer)
        assert report["device_leaks"] == 0, report
        assert report["host_touches"] == 0, report


# ------------------------------------------------------------------------------------------------- off


def test_without_the_runtime(build_dir, peers, tmp_path, monkeypatch):
    need_devices(build_dir)
    monkeypatch.setenv("MC_TANGRT_LIB_DIR", str(tmp_path))
    peer = peers()
    row = next(row for row in peer.transports()["transports"] if row["name"] == "sunrise_link")
    assert not row["on"] and str(tmp_path) in row["why"] and ".so" in row["why"], row
    peer.map(memory="m", length=MIB)
    assert peer.status_of("register", memory="m", location="sunrise:0") in ("LOCATION", "UNSUPPORTED")
