# SPDX-License-Identifier: Apache-2.0
"""Device work before and after a batch: a producer that writes late, a consumer that must not be early, and a
notification behind its data. Each case without its prerequisite or fence must show wrong bytes, or it proves
nothing."""

import pytest

from emulated import KIB, MIB, World
from test_device_matrix import LINK_OFF, assert_content, completed, make

COUNT = 10_000
LENGTH = 256
SLOTS = 16

# Every fill in a stream is done so many microseconds after its turn.
LATE = "tangMemsetAsync delay 50\n"
VERY_LATE = "tangMemsetAsync delay 500\n"
LATE_CONSUMER = "tangMemcpyAsync delay 500\n"
LATE_COPY = "tangMemcpyPeer delay 300\n"


class Scene:
    def __init__(self, build_dir, folder, settings, faults=LATE):
        self.world = World(build_dir, folder, faults=faults, trace=False)
        self.near, self.far = self.world.peer(**settings), self.world.peer(**settings)
        self.near.segment(segment="s", peer=self.far.engine)
        make(self.near, "ring", "device 0", SLOTS * LENGTH)
        make(self.near, "results", "device 0", COUNT * LENGTH, register=False)
        self.remote = make(self.far, "m", "device 1", COUNT * LENGTH)
        for stream in ("producer", "consumer"):
            self.near.stream(stream=stream, device=0)

    def wrong_bytes(self, op, count, prerequisite, fence):
        """How many bytes are not what they must be after so many transfers."""
        self.near.fill(memory="ring", byte=0xFF)
        self.near.fill(memory="results", byte=0xFE)
        if op == "read":
            self.far.fill(memory="m", step=LENGTH)
        else:
            self.far.fill(memory="m", byte=0xFD)
        self.near.send(
            "order",
            memory="ring",
            results="results",
            segment="s",
            remote=self.remote,
            length=LENGTH,
            count=count,
            op=["read", "write"].index(op),
            producer="producer",
            consumer="consumer",
            prerequisite=prerequisite,
            fence=int(fence),
        )
        answer = self.near.receive(120)
        assert answer["status"] == 0 and answer["failed"] == 0 and answer["ended"] == count, answer
        peer, memory = (self.far, "m") if op == "write" else (self.near, "results")
        return peer.compare(memory=memory, step=LENGTH, length=count * LENGTH)["different"]


@pytest.fixture
def scene(build_dir, tmp_path, request):
    scene = Scene(build_dir, tmp_path, getattr(request, "param", {}))
    yield scene
    scene.world.dispose()


@pytest.mark.parametrize("prerequisite", ["stream", "event"])
@pytest.mark.parametrize("op", ["write", "read"])
def test_nothing_is_early(scene, op, prerequisite):
    assert scene.wrong_bytes(op, COUNT, prerequisite, fence=True) == 0


@pytest.mark.parametrize(
    "op, prerequisite, fence, faults",
    [
        ("write", "none", True, VERY_LATE),
        ("write", "stream", False, LATE_COPY),
        ("read", "none", True, LATE_CONSUMER),
        ("read", "event", False, LATE_COPY),
    ],
)
def test_without_it_bytes_are_wrong(build_dir, tmp_path, op, prerequisite, fence, faults):
    scene = Scene(build_dir, tmp_path, {}, faults)
    try:
        assert scene.wrong_bytes(op, 1000, prerequisite, fence) > 0
    finally:
        scene.world.dispose()


@pytest.mark.parametrize("scene", [{**LINK_OFF, "transports/shm/enable": "off"}], ids=["tcp"], indirect=True)
@pytest.mark.parametrize("op", ["write", "read"])
def test_nothing_is_early_through_host_memory(scene, op):
    assert scene.wrong_bytes(op, 2000, "event", fence=True) == 0


@pytest.mark.parametrize(
    "settings",
    [{}, {"transports/sunrise_link/async_memcpy_threshold": "1"}, LINK_OFF],
    ids=["link", "async", "staged"],
)
def test_a_notification_is_behind_its_data(build_dir, tmp_path, settings):
    """The copies themselves are late too. The receiver looks at its device memory as soon as it is told."""
    faults = LATE + "tangMemcpyPeer* delay 500\ntangMemcpyAsync delay 300\n"
    world = World(build_dir, tmp_path, faults=faults, trace=False)
    try:
        near, far = world.peer(**settings), world.peer(**settings)
        near.segment(segment="s", peer=far.engine)
        length = 3 * MIB
        make(near, "m", "device 0", length)
        address = make(far, "m", "device 1", length)
        near.stream(stream="producer", device=0)
        for turn in range(40):
            part = (4 * KIB, length)[turn % 2]
            near.stream_fill(stream="producer", memory="m", byte=1 + turn, length=part)
            near.submit(
                batch="b",
                requests=[{"op": "write", "segment": "s", "memory": "m", "remote": address, "length": part}],
                after=[{"stream": "producer"}],
                notify={"segment": "s", "name": str(turn)},
            )
            far.wait_for_event(kind="NOTIFY", name=str(turn))
            assert_content(far, "m", byte=1 + turn, length=part)
            completed(near.wait(batch="b", timeout_ms=10_000))
            near.release(batch="b")
    finally:
        world.dispose()


def test_several_prerequisites(scene):
    """A batch waits for a stream of one device and an event of another; each alone would be too early."""
    near = scene.near
    make(near, "other", "device 1", 64)
    near.stream(stream="second", device=1)
    for turn in range(1, 200):
        near.stream_fill(stream="producer", memory="ring", byte=turn)
        near.stream_fill(stream="second", memory="other", byte=turn)
        near.event(event="e", stream="second")
        request = {"op": "write", "segment": "s", "length": 64}
        completed(
            near.batch(
                [
                    {**request, "memory": "ring", "remote": scene.remote},
                    {**request, "memory": "other", "remote": scene.remote + 64},
                ],
                after=[{"stream": "producer"}, {"event": "e"}],
            )
        )
        assert_content(scene.far, "m", byte=turn, length=128)


def test_a_fence_ends_with_a_batch_that_failed(scene):
    """The consumer goes on however the batch ended; a batch that never ran does not block the stream for ever."""
    near = scene.near
    near.submit(
        batch="b",
        requests=[{"op": "write", "segment": "s", "memory": "ring", "remote": 64, "length": 64}],
    )
    near.fence(batch="b", stream="consumer")
    near.stream_fill(stream="consumer", memory="ring", byte=7)
    near.stream_wait(stream="consumer")
    assert near.wait(batch="b", timeout_ms=5000)["state"] == "FAILED"
    assert_content(near, "ring", byte=7)


def test_a_cancel_before_the_prerequisite(build_dir, tmp_path):
    """A batch that waits for a stream can be canceled, and its memory given up, before the stream comes so far."""
    gate = tmp_path / "gate"
    scene = Scene(build_dir, tmp_path, {}, faults=f"tangMemsetAsync hang {gate}\n")
    try:
        near = scene.near
        near.stream_fill(stream="producer", memory="ring", byte=1)
        scene.far.fill(memory="m", byte=9)
        near.submit(
            batch="b",
            requests=[{"op": "write", "segment": "s", "memory": "ring", "remote": scene.remote, "length": 64}],
            after=[{"stream": "producer"}],
        )
        assert near.wait(batch="b", timeout_ms=100)["state"] == "WAITING"
        near.cancel(batch="b")
        result = near.wait(batch="b", timeout_ms=5000)
        assert (result["state"], result["local_quiet"], result["remote"]) == ("CANCELED", True, "QUIET"), result
        near.unregister(memory="ring")
        gate.touch()
        near.stream_wait(stream="producer")
        assert_content(scene.far, "m", byte=9)
    finally:
        gate.touch()
        scene.world.dispose()


@pytest.mark.parametrize(
    "after",
    [[{"location": "sunrise:9"}], [{"location": "nothing:0"}], [{"kind": 7}]],
    ids=["no such device", "no such platform", "no such kind"],
)
def test_bad_prerequisites_are_refused(scene, after):
    request = {"op": "write", "segment": "s", "memory": "ring", "remote": scene.remote, "length": 64}
    rows = [{"stream": "producer", **row} for row in after]
    assert scene.near.status_of("submit", batch="b", requests=[request], after=rows) == "INVALID"
