# SPDX-License-Identifier: Apache-2.0
"""Life and death of device memory that another process has mapped: killed, stopped and restarted peers, copies that
never end, revocation, and closing in every order. The runtime itself counts what was left open."""

import itertools
import time

import pytest

from emulated import KIB, MIB, SECOND, World
from test_death import SLACK, assert_in_time
from test_device_matrix import assert_content, completed, make

LENGTH = 8 * MIB
SLOW = "tangMemcpyPeer* bytes=1048576 delay 20000\n"  # a large copy takes 20 ms longer


class Scene:
    """Two processes; "m" of the near one is on device 0, "m" of the far one on device 1, and mapped by the near one."""

    def __init__(self, build_dir, folder):
        self.build_dir, self.folder = build_dir, folder
        self.world = None

    def start(self, faults="", devices=2, **settings):
        self.world = World(self.build_dir, self.folder, faults=faults, devices=devices)
        self.settings = settings
        self.near, self.far = self.world.peer(**settings), self.world.peer(**settings)
        make(self.near, "m", "device 0", LENGTH)
        self.address = make(self.far, "m", "device 1", LENGTH)
        self.near.segment(segment="s", peer=self.far.engine)
        return self

    def mapped(self):
        self.near.fill(memory="m", seed=1)
        completed(self.write(64 * KIB))
        return self

    def write(self, length=LENGTH, **members):
        return self.near.transfer("write", "s", "m", self.address, length, **members)

    def submit(self, op="write", repeat=1, length=LENGTH, **members):
        request = {"op": op, "segment": "s", "memory": "m", "remote": self.address, "length": length}
        self.near.submit(batch="b", requests=[request], repeat=repeat, **members)

    def assert_still_works(self):
        other = self.world.peer(**self.settings)
        address = make(other, "m", "device 1", LENGTH)
        self.near.segment(segment="other", peer=other.engine)
        self.near.fill(memory="m", seed=77)
        completed(self.near.transfer("write", "other", "m", address))
        assert_content(other, "m", seed=77)

    def assert_nothing_left(self, *peers):
        """Ends these processes in good order; their runtimes count nothing that is still open."""
        for peer in peers:
            assert peer.quit() == 0
            report = self.world.report(peer)
            assert report["open_mappings"] == 0, report
            assert report["device_leaks"] == 0, report

    def opened(self, peer):
        """How many handles of other processes this one has opened and not closed."""
        calls = [call for call in self.world.trace(peer) if call.ok]
        return sum(call.symbol == "tangIpcOpenMemHandle" for call in calls) - sum(
            call.symbol == "tangIpcCloseMemHandle" for call in calls
        )


@pytest.fixture
def scene(build_dir, tmp_path):
    scene = Scene(build_dir, tmp_path)
    yield scene
    (tmp_path / "gate").touch()
    if scene.world:
        scene.world.dispose()


# ------------------------------------------------------------------------------------------------ death


def test_owner_killed_while_its_memory_is_mapped(scene):
    scene.start().mapped()
    assert scene.opened(scene.near) == 1
    scene.far.kill()
    scene.near.wait_for_event(kind="PEER", segment="s", state="DOWN")
    result = scene.write()
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_PEER_DOWN"), result
    assert result["local_quiet"] and scene.far.engine in result["why"]
    scene.assert_still_works()
    scene.near.close()
    scene.assert_nothing_left(scene.near)


@pytest.mark.parametrize("op", ["write", "read"])
def test_owner_killed_in_the_middle(scene, op):
    scene.start(SLOW).mapped()
    scene.submit(op, repeat=512)
    scene.near.wait_for_bytes("b")
    killed = time.monotonic_ns()
    scene.far.kill()
    result = scene.near.wait(batch="b", timeout_ms=20_000)
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_PEER_DOWN"), result
    assert result["local_quiet"] and result["ended_ns"] - killed < 5 * SECOND
    scene.near.unregister(memory="m")
    scene.near.register(memory="m")
    scene.assert_still_works()


def test_holder_killed(scene):
    """Its mapping died with it: the owner can take its memory back at once, and serve others."""
    scene.start(SLOW).mapped()
    scene.submit(repeat=512)
    scene.near.wait_for_bytes("b")
    scene.near.kill()
    scene.far.revoke(memory="m", timeout_ms=5000)
    scene.far.unregister(memory="m")
    scene.far.release_memory(memory="m")
    survivor = scene.world.peer()
    make(survivor, "m", "device 0", LENGTH)
    address = make(scene.far, "n", "device 1", LENGTH)
    survivor.segment(segment="s", peer=scene.far.engine)
    survivor.fill(memory="m", seed=2)
    completed(survivor.transfer("write", "s", "m", address))
    assert_content(scene.far, "n", seed=2)


def test_restarted_with_other_memory_at_the_same_address(scene):
    scene.start().mapped()
    scene.far.kill()
    restarted = scene.world.peer(scene.far.engine)
    assert restarted.engine == scene.far.engine
    address = make(restarted, "m", "device 1", LENGTH)
    if address != scene.address:
        pytest.skip("a sanitizer has taken the place where the emulator puts device memory")
    restarted.fill(memory="m", seed=3)

    deadline = time.monotonic() + 10
    while True:
        result = scene.write()
        assert result["state"] == "FAILED", result
        if result["cause"] == "ERR_PEER_RESTARTED":
            break
        assert result["cause"] == "ERR_PEER_DOWN" and time.monotonic() < deadline, result
    assert_content(restarted, "m", seed=3)

    scene.near.segment_close(segment="s")
    scene.near.segment(segment="s", peer=restarted.engine)
    completed(scene.near.transfer("read", "s", "m", address))
    assert_content(scene.near, "m", seed=3)
    scene.near.close()
    scene.assert_nothing_left(scene.near)


def test_memory_freed_and_allocated_anew_at_the_same_address(scene):
    """The same peer, the same address, another allocation: the old mapping must not be used for it."""
    scene.start().mapped()
    scene.far.unregister(memory="m")
    scene.far.release_memory(memory="m")
    result = scene.write()
    assert result["state"] == "FAILED", result
    assert result["cause"] in ("ERR_STALE_REGION", "ERR_NOT_REGISTERED"), result
    assert make(scene.far, "n", "device 1", LENGTH) == scene.address
    scene.far.fill(memory="n", seed=4)
    completed(scene.near.transfer("read", "s", "m", scene.address))
    assert_content(scene.near, "m", seed=4)


# ------------------------------------------------------------------------------------- a copy without end


@pytest.mark.parametrize("threshold", ["0", "1"], ids=["blocking", "async"])
@pytest.mark.parametrize("op", ["write", "read"])
def test_a_copy_that_never_ends(scene, op, threshold):
    gate = scene.folder / "gate"
    scene.start(
        f"tangMemcpyPeer* bytes=262145 hang {gate}\n",
        **{"transports/sunrise_link/async_memcpy_threshold": threshold},
    ).mapped()
    scene.far.fill(memory="m", seed=5)
    scene.near.fill(memory="m", seed=6)
    deadline = time.monotonic_ns() + SECOND
    scene.submit(op, deadline_ns=deadline)
    result = scene.near.wait(batch="b", timeout_ms=20_000)
    assert (result["state"], result["cause"], result["local_quiet"]) == ("TIMED_OUT", "ERR_TIMED_OUT", False), result
    assert_in_time(result, deadline)
    if op == "write":
        assert result["remote"] == "UNKNOWN", result

    # Quarantined: neither side gives the memory up while the copy may still run.
    assert scene.near.status_of("unregister", memory="m") == "BUSY"
    assert scene.far.status_of("revoke", memory="m", timeout_ms=100) == "BUSY"
    # A region in quarantine is closed to new requests, the engine is not.
    make(scene.near, "n", "device 0", MIB)
    make(scene.far, "n", "device 0", MIB)

    gate.touch()
    scene.near.wait_for_event(kind="QUIET")
    scene.near.unregister(memory="m")
    scene.far.revoke(memory="m", timeout_ms=10_000)
    scene.far.unregister(memory="m")
    scene.near.release(batch="b")
    scene.near.close()
    scene.far.close()
    scene.assert_nothing_left(scene.near, scene.far)


LATE = 300_000  # microseconds

BLIND = {
    "asking": ("1", "tangMemcpyPeerAsync", ["tangEventQuery fail 1"]),
    "recording": ("1", "tangMemcpyPeerAsync", ["tangEventRecord call=1 fail 1"]),
    "recording, draining": (
        "1",
        "tangMemcpyPeerAsync",
        ["tangEventRecord call=1 fail 1", "tangStreamSynchronize fail 1"],
    ),
    "nothing works": ("1", "tangMemcpyPeerAsync", ["tangEvent[RQS]* fail 1", "tangStreamSynchronize fail 1"]),
    "staged": (None, "tangMemcpyAsync", ["tangEventSynchronize fail 1"]),
    "staged, recording": (None, "tangMemcpyAsync", ["tangEventRecord call=1 fail 1"]),
}


@pytest.mark.parametrize("case", BLIND)
def test_a_copy_whose_end_nobody_tells(scene, case):
    """The runtime fails when it is asked whether a copy has ended, but the copy goes on: its memory is not given back
    before it has ended, whatever becomes of the batch."""
    threshold, copy, rules = BLIND[case]
    settings = {"transports/sunrise_link/async_memcpy_threshold": threshold}
    if threshold is None:
        settings = {"transports/sunrise_link/enable": "off"}
    scene.start("\n".join([f"{copy} call=1 delay {LATE}", *rules, ""]), **settings)
    scene.far.fill(memory="m", seed=5)
    scene.near.fill(memory="m", seed=6)
    result = scene.write()
    assert result["ended_ns"] - result["submitted_ns"] > LATE * 1000, result
    assert result["state"] in ("COMPLETED", "FAILED"), result
    if result["state"] == "COMPLETED":
        assert_content(scene.far, "m", seed=6)


def test_other_copies_go_on_beside_one_without_end(scene):
    gate = scene.folder / "gate"
    scene.start(f"tangMemcpyPeer bytes=262145 hang {gate}\n", devices=3).mapped()
    scene.submit(deadline_ns=time.monotonic_ns() + 2 * SECOND)
    make(scene.near, "other", "device 2", LENGTH)
    address = make(scene.far, "other", "device 2", LENGTH)
    scene.near.fill(memory="other", seed=8)
    completed(scene.near.transfer("write", "s", "other", address))
    assert_content(scene.far, "other", seed=8)
    result = scene.near.wait(batch="b", timeout_ms=20_000)
    assert (result["state"], result["local_quiet"]) == ("TIMED_OUT", False), result


# ------------------------------------------------------------------------------------------- revocation


def test_the_owner_waits_for_a_holder_that_is_stopped(scene):
    scene.start().mapped()
    scene.near.stop()
    assert scene.far.status_of("revoke", memory="m", timeout_ms=300) == "BUSY"
    assert scene.far.status_of("unregister", memory="m") == "BUSY"
    scene.near.resume()
    scene.far.revoke(memory="m", timeout_ms=10_000)
    scene.far.unregister(memory="m")
    assert scene.opened(scene.near) == 0
    result = scene.write()
    assert result["state"] == "FAILED", result
    assert result["cause"] in ("ERR_STALE_REGION", "ERR_NOT_REGISTERED"), result


def test_the_owner_waits_for_a_holder_that_dies(scene):
    scene.start().mapped()
    scene.near.stop()
    assert scene.far.status_of("revoke", memory="m", timeout_ms=300) == "BUSY"
    scene.near.kill()
    scene.far.revoke(memory="m", timeout_ms=10_000)
    scene.far.unregister(memory="m")


@pytest.mark.parametrize("op", ["write", "read"])
def test_revoked_under_traffic(scene, op):
    scene.start(SLOW).mapped()
    scene.submit(op, repeat=512)
    scene.near.wait_for_bytes("b")
    scene.far.revoke(memory="m", timeout_ms=10_000)
    assert scene.opened(scene.near) == 0
    scene.far.fill(memory="m", byte=0)
    result = scene.near.wait(batch="b", timeout_ms=20_000)
    assert (result["state"], result["cause"]) == ("FAILED", "ERR_STALE_REGION"), result
    assert result["local_quiet"]
    assert_content(scene.far, "m", byte=0)
    scene.far.unregister(memory="m")


def test_local_memory_revoked_under_traffic(scene):
    scene.start(SLOW).mapped()
    scene.submit("read", repeat=512)
    scene.near.wait_for_bytes("b")
    scene.near.revoke(memory="m", timeout_ms=10_000)
    scene.near.fill(memory="m", byte=0)
    assert scene.near.wait(batch="b", timeout_ms=20_000)["state"] == "FAILED"
    assert_content(scene.near, "m", byte=0)


def test_cancel_is_quiet(scene):
    scene.start(SLOW).mapped()
    scene.submit(repeat=512)
    scene.near.wait_for_bytes("b")
    asked = time.monotonic_ns()
    scene.near.cancel(batch="b")
    result = scene.near.wait(batch="b", timeout_ms=20_000)
    assert (result["state"], result["remote"], result["local_quiet"]) == ("CANCELED", "QUIET", True), result
    assert result["ended_ns"] - asked < 2 * SECOND + SLACK
    scene.far.fill(memory="m", byte=0)
    completed(scene.near.transfer("write", "s", "m", scene.address, 64))
    assert_content(scene.far, "m", byte=0, offset=64)


# ------------------------------------------------------------------------------------- cycles and ends


def test_ten_thousand_registrations(scene):
    scene.start().mapped()
    scene.near.unregister(memory="m")
    make(scene.near, "host", "mapped", LENGTH, register=False)
    for memory, count in (("m", 10_000), ("host", 1000)):
        scene.near.send("cycle", memory=memory, count=count)
        assert scene.near.receive(120)["status"] == 0
    scene.near.register(memory="m")
    completed(scene.write())
    scene.near.close()
    scene.far.close()
    scene.assert_nothing_left(scene.near, scene.far)


def test_registrations_that_a_peer_maps(scene):
    """Each is mapped by the peer, used, and taken back by the owner; the peer keeps nothing."""
    scene.start().mapped()
    scene.far.unregister(memory="m")
    for turn in range(100):
        scene.far.register(memory="m")
        scene.near.fill(memory="m", byte=turn, length=64)
        completed(scene.write(64))
        assert_content(scene.far, "m", byte=turn, length=64)
        scene.far.unregister(memory="m")
    assert scene.opened(scene.near) == 0
    scene.near.close()
    scene.far.close()
    scene.assert_nothing_left(scene.near, scene.far)


STEPS = {
    "segment": lambda scene: scene.near.segment_close(segment="s"),
    "near region": lambda scene: scene.near.unregister(memory="m"),
    "far region": lambda scene: scene.far.unregister(memory="m"),
    "far engine": lambda scene: scene.far.close(),
}


@pytest.mark.parametrize("order", list(itertools.permutations(STEPS)), ids="-".join)
def test_close_in_every_order(scene, order):
    """The near engine last; what an engine that is closed has taken with it is left out."""
    scene.start().mapped()
    for step in order:
        if step == "far region" and "far engine" in order[: order.index(step)]:
            continue
        STEPS[step](scene)
    scene.near.close()
    scene.assert_nothing_left(scene.near, scene.far)


@pytest.mark.parametrize("end", ["near", "far"])
@pytest.mark.parametrize("threshold", ["0", "1"], ids=["blocking", "async"])
def test_close_with_batches_in_flight(scene, end, threshold):
    scene.start(SLOW, **{"transports/sunrise_link/async_memcpy_threshold": threshold}).mapped()
    scene.submit(repeat=512)
    scene.near.wait_for_bytes("b")
    if end == "near":
        scene.near.close()
        scene.far.unregister(memory="m")
    else:
        scene.far.close()
        result = scene.near.wait(batch="b", timeout_ms=20_000)
        assert result["state"] == "FAILED" and result["local_quiet"], result
        scene.near.close()
    if end == "near":
        scene.far.close()
    scene.assert_nothing_left(scene.near, scene.far)


def test_process_ends_with_batches_in_flight(scene):
    """No engine is closed by the program; the process ends all the same, and the owner gets its memory back."""
    scene.start(SLOW).mapped()
    scene.submit(repeat=512)
    scene.near.wait_for_bytes("b")
    assert scene.near.quit() == 0
    scene.far.revoke(memory="m", timeout_ms=10_000)
    scene.far.unregister(memory="m")


# ---------------------------------------------------------------------------------------- several engines


@pytest.mark.parametrize("first", [0, 1])
def test_two_engines_of_a_process_share_a_mapping(scene, first):
    """Both use the same allocation of a peer: it is opened once, and stays open until the second of them is closed."""
    scene.start().mapped()
    near = scene.near
    near.call("open", engine=1, name="127.0.0.1", settings={})
    near.view(memory="again", of="m", offset=0, length=LENGTH)
    near.register(engine=1, memory="again")
    near.segment(engine=1, segment="s2", peer=scene.far.engine)
    completed(near.transfer("write", "s2", "again", scene.address, engine=1))
    assert scene.opened(near) == 1
    near.close(engine=first)
    other, segment, memory = ((1, "s2", "again"), (0, "s", "m"))[first]
    near.fill(memory=memory, seed=9)
    near.submit(
        engine=other,
        batch="last",
        requests=[{"op": "write", "segment": segment, "memory": memory, "remote": scene.address, "length": LENGTH}],
    )
    completed(near.wait(engine=other, batch="last", timeout_ms=10_000))
    assert_content(scene.far, "m", seed=9)
    assert scene.opened(near) == 1
    near.close(engine=other)
    assert scene.opened(near) == 0
    scene.far.unregister(memory="m")
    scene.far.close()
    scene.assert_nothing_left(near, scene.far)


def test_engines_of_one_process(scene):
    """They reach each other's device memory without any handle, also an allocation that both have registered."""
    scene.start()
    near = scene.near
    second = near.call("open", engine=1, name="127.0.0.1", settings={})["engine"]
    address = near.device_allocate(memory="second", device=1, length=LENGTH)["address"]
    near.register(engine=1, memory="second")
    near.view(memory="shared", of="second", offset=0, length=LENGTH)
    near.register(memory="shared")
    near.segment(segment="s2", peer=second)
    for memory, seed in (("m", 10), ("shared", 11)):
        near.fill(memory=memory, seed=seed)
        completed(near.transfer("write", "s2", memory, address))
        assert_content(near, "second", seed=seed)
    assert scene.opened(near) == 0
    near.close(engine=1)
    completed(scene.write())
