# SPDX-License-Identifier: Apache-2.0
"""Our engine and a real Mooncake engine (the released wheel), each as initiator and as target of the other."""

import pytest

from mooncake_wheel import wheel_python, wheels  # noqa: F401 (fixtures)

MIB = 1 << 20
SIZES = [1, 7, 4096, 65537, MIB, 64 * MIB]
LENGTH = 64 * MIB + 16

pytestmark = pytest.mark.timeout(700)


@pytest.fixture
def pair(peers, wheels):
    """(ours, theirs, their address, our address): memory "m" at odd addresses; ours has theirs open as "s"."""
    ours, theirs = peers(), wheels()
    addresses = []
    for peer, skew in ((theirs, 3), (ours, 5)):
        addresses.append(peer.map(memory="m", length=LENGTH, skew=skew)["address"])
        peer.register(memory="m")
    ours.segment(segment="s", peer=theirs.engine)
    return ours, theirs, *addresses


def test_we_write_and_read(pair):
    ours, theirs, there, _ = pair
    for seed, size in enumerate(SIZES, 1):
        ours.fill(memory="m", seed=seed, offset=1, length=size)
        assert ours.transfer("write", "s", "m", there + 3, size, offset=1)["state"] == "COMPLETED"
        assert theirs.compare(memory="m", seed=seed, offset=3, length=size)["different"] == 0

        theirs.fill(memory="m", seed=seed + 100, offset=3, length=size)
        assert ours.transfer("read", "s", "m", there + 3, size, offset=1)["state"] == "COMPLETED"
        assert ours.compare(memory="m", seed=seed + 100, offset=1, length=size)["different"] == 0
    assert ours.segment_info(segment="s")["classic"]


def test_they_write_and_read(pair):
    ours, theirs, _, here = pair
    for seed, size in enumerate(SIZES, 1):
        theirs.fill(memory="m", seed=seed, offset=1, length=size)
        assert theirs.write(peer=ours.engine, memory="m", remote=here + 3, length=size, offset=1)["result"] == 0
        assert ours.compare(memory="m", seed=seed, offset=3, length=size)["different"] == 0

        ours.fill(memory="m", seed=seed + 100, offset=3, length=size)
        assert theirs.read(peer=ours.engine, memory="m", remote=here + 3, length=size, offset=1)["result"] == 0
        assert theirs.compare(memory="m", seed=seed + 100, offset=1, length=size)["different"] == 0


def test_we_send_batches(pair):
    ours, theirs, there, _ = pair
    ours.fill(memory="m", seed=1)
    requests = [
        {"op": "write", "segment": "s", "memory": "m", "offset": i * 5001, "length": 4999, "remote": there + i * 5003}
        for i in range(128)
    ]
    assert ours.batch(requests)["state"] == "COMPLETED"
    for i in range(128):
        assert theirs.compare(memory="m", seed=1, offset=i * 5003, length=4999, position=i * 5001)["different"] == 0


def test_they_send_batches(pair):
    ours, theirs, _, here = pair
    theirs.fill(memory="m", seed=1)
    for op in ("write", "read"):
        answer = theirs.transfer_many(
            op=op,
            peer=ours.engine,
            memory="m",
            offsets=[i * 5001 for i in range(128)],
            remotes=[here + i * 5003 for i in range(128)],
            lengths=[4999] * 128,
        )
        assert answer["result"] == 0
    for i in range(128):
        assert ours.compare(memory="m", seed=1, offset=i * 5003, length=4999, position=i * 5001)["different"] == 0
        assert theirs.compare(memory="m", seed=1, offset=i * 5001, length=4999, position=i * 5001)["different"] == 0


def test_we_notify_and_probe(pair):
    ours, theirs, there, _ = pair
    assert (
        ours.transfer("write", "s", "m", there, 1000, notify={"name": "layer", "data": "seventeen"})["state"]
        == "COMPLETED"
    )
    ours.notify(segment="s", name="alone", data="by itself", timeout_ms=5000)
    assert theirs.notes(count=2)["notes"] == [["layer", "seventeen"], ["alone", "by itself"]]
    ours.probe(segment="s", timeout_ms=5000)


def test_they_notify_and_probe(pair):
    ours, theirs, _, here = pair
    assert theirs.first_address(peer=ours.engine)["address"] == here
    answer = theirs.write_and_notify(
        peer=ours.engine, memory="m", remote=here, length=1000, name="layer", text="seventeen"
    )
    assert answer["result"] == 0
    event = ours.wait_for_event(kind="NOTIFY")
    assert (event["name"], event["data"]) == ("layer", "seventeen")
    assert theirs.probe(peer=ours.engine)["result"] == 0


def test_they_refuse_our_unknown_address(pair):
    ours, theirs, there, _ = pair
    result = ours.transfer("write", "s", "m", there - 1, 10)
    assert result["state"] == "FAILED", result
    assert ours.transfer("write", "s", "m", there, 10)["state"] == "COMPLETED"

    # Their buffer goes away behind our back: their own refusal ends the request.
    theirs.unregister(memory="m")
    assert ours.transfer("write", "s", "m", there, 10)["state"] == "FAILED"


def test_we_refuse_their_unknown_address(pair):
    ours, theirs, _, here = pair
    assert theirs.write(peer=ours.engine, memory="m", remote=here - 1, length=10)["result"] != 0
    assert theirs.read(peer=ours.engine, memory="m", remote=here + LENGTH - 9, length=10)["result"] != 0
    assert theirs.write(peer=ours.engine, memory="m", remote=here, length=10)["result"] == 0


def test_two_of_theirs_are_served_at_once(peers, wheels):
    ours = peers()
    here = ours.map(memory="m", length=32 * MIB)["address"]
    ours.register(memory="m")
    pairs = []
    for i in range(2):
        theirs = wheels()
        theirs.map(memory="m", length=16 * MIB)
        theirs.register(memory="m")
        theirs.fill(memory="m", seed=i)
        pairs.append(theirs)
    for i, theirs in enumerate(pairs):
        theirs.send("write", peer=ours.engine, memory="m", remote=here + i * 16 * MIB, length=16 * MIB)
    for i, theirs in enumerate(pairs):
        assert theirs.receive()["result"] == 0
        assert ours.compare(memory="m", seed=i, offset=i * 16 * MIB, length=16 * MIB)["different"] == 0
