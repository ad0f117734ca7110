# SPDX-License-Identifier: Apache-2.0
"""Death and time: peers killed, stopped and restarted, batches canceled, regions that go away under traffic.

Every batch must end by its deadline plus the grace time, say what can be promised about both sides, and keep that
promise; each case looks at the bytes.
"""

import time

import pytest

import classic_peer as classic

MIB = 1 << 20
LENGTH = 64 * MIB
REPEAT = 256  # 16 GiB in one batch over 64 MiB of memory: it does not end before the test interferes
SECOND = 1_000_000_000
GRACE = SECOND  # the default of batch/grace
SLACK = SECOND // 2  # for a busy machine

# How the bytes go, and what memory that needs at the target.
WAYS = {
    "tcp": ({"transports/shm/enable": "off"}, "map"),
    "granted": ({"transports/tcp/enable": "off"}, "allocate"),
    "attach": ({"transports/tcp/enable": "off"}, "map"),
}


class Scene:
    """An initiator and a target with memory "m" each, connected; "s" is the target's segment."""

    def __init__(self, peers, way):
        self.peers = peers
        self.settings, self.kind = WAYS[way]
        self.initiator = self.engine("map")
        self.target = self.engine(self.kind)
        self.connect(self.initiator)

    def engine(self, kind, name="127.0.0.1"):
        peer = self.peers(name, **self.settings)
        peer.address = self.memory(peer, "m", kind)
        return peer

    @staticmethod
    def memory(peer, name, kind, length=LENGTH):
        """Registered memory; its address."""
        address = peer.call(kind, memory=name, length=length)["address"]
        if kind == "map":
            peer.register(memory=name)
        return address

    def connect(self, initiator):
        initiator.segment(segment="s", peer=self.target.engine)
        assert initiator.transfer("write", "s", "m", self.target.address)["state"] == "COMPLETED"

    def start(self, op, initiator=None, repeat=REPEAT, **members):
        """Submits a batch of one small request, whose end shows that it is on its way, and so many large ones."""
        small = {"op": op, "segment": "s", "memory": "m", "remote": self.target.address, "length": 4096}
        large = {**small, "length": LENGTH}
        (initiator or self.initiator).submit(batch="b", requests=[small] + [large] * repeat, **members)

    def end(self, initiator=None, timeout_ms=40_000):
        return (initiator or self.initiator).wait(batch="b", timeout_ms=timeout_ms)

    def assert_still_works(self, initiator=None):
        """The engine of the initiator is none the worse: it reaches a new peer."""
        initiator = initiator or self.initiator
        other = self.engine(self.kind)
        other.fill(memory="m", seed=99)
        initiator.segment(segment="other", peer=other.engine)
        assert initiator.transfer("read", "other", "m", other.address)["state"] == "COMPLETED"
        assert initiator.compare(memory="m", seed=99)["different"] == 0

    def assert_nothing_lands(self):
        """Clears the target's memory, gives anything late a chance to land, and looks."""
        self.target.fill(memory="m", byte=0)
        address = self.memory(self.target, "aside", self.kind, MIB)
        for _ in range(20):
            self.initiator.probe(segment="s", timeout_ms=5000)
            assert self.initiator.transfer("write", "s", "m", address, MIB)["state"] == "COMPLETED"
        assert self.target.compare(memory="m", byte=0)["different"] == 0


def assert_in_time(result, deadline_ns):
    late = result["ended_ns"] - deadline_ns - GRACE
    assert late <= SLACK, f"ended {late / 1e9:.3f} s after deadline and grace: {result}"


@pytest.fixture(params=WAYS)
def way(request):
    return request.param


@pytest.fixture
def scene(peers, way):
    return Scene(peers, way)


def test_target_killed_in_mid_write(scene):
    scene.start("write")
    scene.initiator.wait_for_bytes("b")
    killed = time.monotonic_ns()
    scene.target.kill()
    result = scene.end()
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_PEER_DOWN"), result
    assert result["local_quiet"] and result["retryable"]
    assert scene.target.engine in result["why"]
    assert result["ended_ns"] - killed < 5 * SECOND
    scene.initiator.wait_for_event(kind="PEER", segment="s", state="DOWN")
    scene.assert_still_works()


def test_target_killed_in_mid_read(scene):
    scene.start("read")
    scene.initiator.wait_for_bytes("b")
    scene.target.kill()
    result = scene.end()
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_PEER_DOWN"), result
    assert result["local_quiet"]
    scene.assert_still_works()


@pytest.mark.parametrize("op", ["read", "write"])
def test_initiator_killed(scene, op):
    scene.start(op)
    scene.initiator.wait_for_bytes("b")
    scene.initiator.kill()

    survivor = scene.engine("map")
    scene.connect(survivor)
    # Nothing of the dead one lands any more, and nothing that it held keeps the region.
    scene.target.fill(memory="m", byte=0)
    survivor.probe(segment="s", timeout_ms=5000)
    assert scene.target.compare(memory="m", byte=0)["different"] == 0
    assert scene.target.status_of("revoke", memory="m", timeout_ms=5000) == "OK"


def test_peer_restarted_on_the_same_port(scene):
    scene.target.kill()
    restarted = scene.engine(scene.kind, scene.target.engine)
    assert restarted.engine == scene.target.engine

    # Until it has met the new one, all that the initiator can know is that the old one is gone.
    deadline = time.monotonic() + 10
    while True:
        result = scene.initiator.transfer("write", "s", "m", scene.target.address)
        assert result["state"] == "FAILED", result
        if result["cause"] == "ERR_PEER_RESTARTED":
            break
        assert result["cause"] == "ERR_PEER_DOWN" and time.monotonic() < deadline, result
    scene.initiator.wait_for_event(kind="PEER", segment="s", state="RESTARTED")

    scene.initiator.segment_close(segment="s")
    scene.target = restarted
    scene.initiator.fill(memory="m", seed=1)
    scene.connect(scene.initiator)
    assert restarted.compare(memory="m", seed=1)["different"] == 0


@pytest.mark.parametrize("way, op", [("tcp", "write"), ("tcp", "read"), ("attach", "write")])
def test_stopped_past_the_deadline(scene, op):
    scene.target.fill(memory="m", byte=0)
    scene.initiator.fill(memory="m", seed=2)
    scene.target.stop()
    deadline = time.monotonic_ns() + SECOND
    scene.start(op, repeat=4, deadline_ns=deadline)
    result = scene.end()
    assert (result["state"], result["cause"]) == ("TIMED_OUT", "ERR_TIMED_OUT"), result
    assert_in_time(result, deadline)
    assert result["local_quiet"]

    scene.initiator.fill(memory="m", seed=3)
    if op == "write":
        assert result["remote"] == "FENCED", result
        # What is in the target's sockets now is past its time when the target sees it.
        while time.monotonic_ns() <= result["fence_ns"]:
            time.sleep(0.01)
    scene.target.resume()
    scene.initiator.probe(segment="s", timeout_ms=10_000)
    if op == "write":
        assert scene.target.compare(memory="m", byte=0)["different"] == 0
        scene.assert_nothing_lands()
    else:
        assert scene.initiator.compare(memory="m", seed=3)["different"] == 0


@pytest.mark.parametrize("way, op", [("granted", "write"), ("granted", "read"), ("attach", "read")])
def test_stopped_target_whose_processor_is_not_needed(scene, op):
    scene.target.fill(memory="m", seed=4)
    scene.initiator.fill(memory="m", seed=5)
    scene.target.stop()
    scene.start(op, repeat=1)
    result = scene.end()
    scene.target.resume()
    assert result["state"] == "COMPLETED", result
    wanted = 5 if op == "write" else 4
    assert scene.initiator.compare(memory="m", seed=wanted)["different"] == 0
    assert scene.target.compare(memory="m", seed=wanted)["different"] == 0


def test_cancel_of_a_large_write_is_quiet(scene):
    scene.start("write")
    scene.initiator.wait_for_bytes("b")
    asked = time.monotonic_ns()
    scene.initiator.cancel(batch="b")
    result = scene.end()
    assert (result["state"], result["cause"], result["remote"]) == ("CANCELED", "ERR_CANCELED", "QUIET"), result
    assert result["local_quiet"]
    assert_in_time(result, asked)
    scene.assert_nothing_lands()


@pytest.mark.parametrize("way", ["tcp", "attach"])
def test_cancel_towards_a_stopped_target_is_fenced(scene):
    scene.target.fill(memory="m", byte=0)
    scene.target.stop()
    scene.start("write", repeat=4, deadline_ns=time.monotonic_ns() + 3 * SECOND)
    asked = time.monotonic_ns()
    scene.initiator.cancel(batch="b")
    result = scene.end()
    assert (result["state"], result["remote"]) == ("CANCELED", "FENCED"), result
    assert result["local_quiet"]
    assert_in_time(result, asked)
    while time.monotonic_ns() <= result["fence_ns"]:
        time.sleep(0.01)
    scene.target.resume()
    scene.initiator.probe(segment="s", timeout_ms=10_000)
    assert scene.target.compare(memory="m", byte=0)["different"] == 0
    scene.assert_nothing_lands()


def test_cancel_towards_a_classic_target_is_unknown(peers):
    base = 0x7F00_0000_0001
    with classic.ClassicTarget({base: bytearray(LENGTH)}) as mooncake:
        mooncake.gate.clear()
        peer = peers()
        peer.map(memory="m", length=LENGTH)
        peer.register(memory="m")
        peer.segment(segment="s", peer=mooncake.name)
        peer.submit(batch="b", requests=[{"op": "write", "segment": "s", "memory": "m", "remote": base}])
        deadline = time.monotonic() + 10
        while not mooncake.requests:
            assert time.monotonic() < deadline, "the request did not arrive"
        asked = time.monotonic_ns()
        peer.cancel(batch="b")
        result = peer.wait(batch="b", timeout_ms=20_000)
        assert (result["state"], result["remote"], result["local_quiet"]) == ("CANCELED", "UNKNOWN", True), result
        assert_in_time(result, asked)


@pytest.mark.parametrize("op", ["read", "write"])
def test_revoke_and_unmap_under_traffic(scene, op):
    scene.start(op)
    scene.initiator.wait_for_bytes("b")
    scene.target.revoke(memory="m", timeout_ms=10_000)
    scene.target.fill(memory="m", byte=0)
    result = scene.end()
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_STALE_REGION"), result
    assert result["local_quiet"]
    assert scene.target.compare(memory="m", byte=0)["different"] == 0

    scene.target.release_memory(memory="m")
    if scene.kind == "map":
        scene.target.unregister(memory="m")
    scene.initiator.probe(segment="s", timeout_ms=5000)
    result = scene.initiator.transfer(op, "s", "m", scene.target.address)
    assert (result["state"], result["cause"] in ("ERR_STALE_REGION", "ERR_NOT_REGISTERED")) == ("FAILED", True), result
    # Another region of the same peer is as good as before.
    address = scene.memory(scene.target, "n", scene.kind)
    assert scene.initiator.transfer(op, "s", "m", address)["state"] == "COMPLETED"


def test_revoke_of_local_memory_under_traffic(scene):
    scene.start("read")
    scene.initiator.wait_for_bytes("b")
    scene.initiator.revoke(memory="m", timeout_ms=10_000)
    scene.initiator.fill(memory="m", byte=0)
    result = scene.end()
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_STALE_REGION"), result
    assert scene.initiator.compare(memory="m", byte=0)["different"] == 0
    scene.initiator.release_memory(memory="m")
    scene.initiator.unregister(memory="m")
    scene.initiator.probe(segment="s", timeout_ms=5000)
