# SPDX-License-Identifier: Apache-2.0
"""Beside and after transfers: probes are answered, notifications come once and after their data, idle costs nothing."""

import time

import pytest

MIB = 1 << 20
GIB = 1 << 30
ANSWERED_WITHIN_MS = 100
WAYS = {
    "tcp": ({"transports/shm/enable": "off"}, "map"),
    "granted": ({"transports/tcp/enable": "off"}, "allocate"),
    "attach": ({"transports/tcp/enable": "off"}, "map"),
}


@pytest.fixture(params=WAYS)
def pair(request, peers):
    """(initiator, target): memory "m" of 64 MiB each, the target open as "s", its address in target.address."""
    settings, kind = WAYS[request.param]
    engines = []
    for _ in range(2):
        peer = peers(**settings)
        peer.address = peer.call(kind, memory="m", length=64 * MIB)["address"]
        if kind == "map":
            peer.register(memory="m")
        engines.append(peer)
    initiator, target = engines
    initiator.segment(segment="s", peer=target.engine)
    return initiator, target


@pytest.mark.parametrize("op", ["read", "write"])
def test_probe_is_answered_while_4_gib_move(pair, peers, op):
    initiator, target = pair
    other = peers(**initiator.settings)
    other.segment(segment="s", peer=target.engine)
    request = {"op": op, "segment": "s", "memory": "m", "remote": target.address}
    initiator.submit(batch="b", requests=[request], repeat=4 * GIB // (64 * MIB))
    worst, slowest, probes = 0, 0, 0
    while initiator.result(batch="b")["state"] in ("WAITING", "ACTIVE"):
        for peer in (initiator, other):
            start = time.monotonic()
            answer = peer.probe(segment="s", timeout_ms=10_000)
            returned = (time.monotonic() - start) * 1e3
            worst, slowest = max(worst, answer["round_trip_ns"] / 1e6), max(slowest, returned)
            probes += 1
    assert initiator.result(batch="b")["state"] == "COMPLETED"
    assert probes >= 4
    assert worst < ANSWERED_WITHIN_MS, f"{worst:.1f} ms, the worst of {probes}"
    # And the call came back when the answer did, not with its timeout.
    assert slowest < 2 * ANSWERED_WITHIN_MS, f"{slowest:.1f} ms, the slowest return of {probes}"


def test_notifications_follow_their_data_and_come_once(pair):
    initiator, target = pair
    for i in range(20):
        initiator.fill(memory="m", seed=i, length=MIB)
        notify = {"name": "turn", "data": str(i)}
        result = initiator.transfer("write", "s", "m", target.address, MIB, notify=notify)
        assert result["state"] == "COMPLETED", result
        event = target.wait_for_event(kind="NOTIFY")
        assert (event["name"], event["data"]) == ("turn", str(i))
        assert target.compare(memory="m", seed=i, length=MIB)["different"] == 0
    assert target.status_of("events", timeout_ms=0) in ("OK", "AGAIN")
    assert target.stats()["notifications_received"] == 20


def test_idle_engines_sleep(pair):
    initiator, target = pair
    assert initiator.transfer("write", "s", "m", target.address)["state"] == "COMPLETED"
    initiator.probe(segment="s", timeout_ms=5000)
    # Whatever is still to be put away after a transfer has this long; then there must be nothing.
    time.sleep(0.5)
    before = [peer.stats()["wakeups"] for peer in pair]
    time.sleep(3)
    after = [peer.stats()["wakeups"] for peer in pair]
    assert [b - a for a, b in zip(before, after)] == [0, 0]


@pytest.mark.parametrize("page, count", [(64, 4096), (4096, 1024), (65537, 100)])
def test_pages_land_where_they_belong(pair, page, count):
    initiator, target = pair
    initiator.fill(memory="m", seed=1)
    target.fill(memory="m", byte=0)
    # A permutation, as 7 divides no count.
    there = [(i * 7) % count for i in range(count)]
    request = {
        "op": "write",
        "segment": "s",
        "memory": "m",
        "remote": target.address,
        "page_size": page,
        "remote_stride": page + 3,
        "local_pages": list(range(count)),
        "remote_pages": there,
    }
    assert initiator.batch([request])["state"] == "COMPLETED"
    for here in range(0, count, 37):
        answer = target.compare(memory="m", seed=1, offset=there[here] * (page + 3), length=page, position=here * page)
        assert answer["different"] == 0
        gap = target.compare(memory="m", byte=0, offset=there[here] * (page + 3) + page, length=3)
        assert gap["different"] == 0


def test_path_names_the_way(pair, request):
    initiator, target = pair
    steps = initiator.path(segment="s", memory="m", remote=target.address, length=MIB)["steps"]
    chosen = [step["transport"] for step in steps if step["chosen"]]
    assert chosen == ["tcp" if "tcp" in request.node.callspec.id else "shm"]
    assert all(step["why"] for step in steps if not step["usable"])
