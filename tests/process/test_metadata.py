# SPDX-License-Identifier: Apache-2.0
"""Engines that find each other by names in a metadata store: what they keep there, and what happens when the store, or
the engine behind a name, goes away and comes back."""

import json
import time

import pytest

import classic_peer as classic
from file_store import file_store  # noqa: F401 (fixture)
from peer import Peer, PeerError, pattern

pytestmark = pytest.mark.timeout(60)

LENGTH = 1 << 20
BASE = 0x7F00_0000_0003
REFRESH_MS = 100


@pytest.fixture
def named(build_dir, tmp_path, file_store):  # noqa: F811
    """named("alpha", **settings) opens an engine under that name in the store, with memory "m" registered; its log is
    in engine.lines()."""
    started = []

    def start(name=None, memory=True, host="127.0.0.1", open_it=True, **settings):
        log = tmp_path / f"engine-{len(started)}.log"
        with open(log, "wb") as stream:
            peer = Peer([build_dir / "bin/cwpeer"], stderr=stream)
        started.append(peer)
        peer.lines = lambda: log.read_text().splitlines()
        peer.settings = {
            **file_store.settings,
            "metadata/refresh": str(REFRESH_MS),
            "metadata/timeout": "2000",
            **({"metadata/name": name} if name else {}),
            **settings,
        }
        if open_it:
            peer.open(host)
            if memory:
                peer.address = peer.map(memory="m", length=LENGTH, skew=3)["address"]
                peer.register(memory="m")
        return peer

    yield start
    for peer in started:
        peer.dispose()


def eventually(question, seconds=10):
    """The first true answer of question()."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def document(store, key):
    value = store.get(key)
    return value and json.loads(value)


def ranges(store, name):
    return [(each["addr"], each["length"]) for each in document(store, f"mooncake/ram/{name}")["buffers"]]


def moves_bytes(initiator, target, segment="s", seed=7):
    """Writes a pattern and reads it back."""
    initiator.fill(memory="m", seed=seed)
    result = initiator.transfer("write", segment, "m", target.address, LENGTH)
    assert result["state"] == "COMPLETED", result
    assert target.compare(memory="m", seed=seed)["different"] == 0
    assert initiator.transfer("read", segment, "m", target.address, LENGTH)["state"] == "COMPLETED"


def refused(engine, command, **members):
    """(name of the status, text, seconds) of a command that must fail."""
    begin = time.monotonic()
    with pytest.raises(PeerError) as error:
        engine.call(command, **members)
    return error.value.name, error.value.text, time.monotonic() - begin


# ------------------------------------------------------------------------------------------------ entries


def test_entries_of_an_engine(named, file_store):
    engine = named("alpha")
    assert engine.engine == "alpha"
    port = document(file_store, "mooncake/rpc_meta/alpha")["rpc_port"]
    assert document(file_store, "mooncake/rpc_meta/alpha") == {"ip_or_host_name": "127.0.0.1", "rpc_port": port}
    descriptor = document(file_store, "mooncake/ram/alpha")
    assert descriptor["name"] == "alpha"
    assert descriptor["protocol"] == "tcp"
    assert descriptor["tcp_proto_version"] == 2
    assert descriptor["buffers"] == [{"addr": engine.address, "length": LENGTH, "name": "alpha"}]
    assert classic.probe(f"127.0.0.1:{port}") == {"status": "success"}
    assert engine.quit() == 0
    assert file_store.keys() == []


def test_without_a_name_it_is_the_address_with_the_real_port(named, file_store):
    engine = named()
    host, port = classic.split(engine.engine)
    assert document(file_store, f"mooncake/rpc_meta/{engine.engine}") == {"ip_or_host_name": host, "rpc_port": port}


def test_cluster_and_folders_are_part_of_the_key(named, file_store):
    named("alpha", **{"metadata/cluster": "blue"})
    named("rack/7", **{"metadata/cluster": "blue"})
    assert file_store.keys() == [
        "mooncake/blue/rack/7",
        "mooncake/blue/ram/alpha",
        "mooncake/blue/rpc_meta/alpha",
        "mooncake/blue/rpc_meta/rack/7",
    ]


def test_advertised_address_is_published(named, file_store):
    named("alpha", host="0.0.0.0", **{"engine/advertise": "127.0.0.9,10.1.1.1"})
    assert document(file_store, "mooncake/rpc_meta/alpha")["ip_or_host_name"] == "127.0.0.9"
    nameless = named("beta", open_it=False)
    status, text, _ = refused(nameless, "open", name="0.0.0.0", settings=nameless.settings)
    assert status == "ADDRESS" and "engine/advertise" in text


def test_region_list_is_published_before_calls_return(named, file_store):
    engine = named("alpha")
    second = engine.map(memory="second", length=8192)["address"]
    engine.register(memory="second")
    assert sorted(ranges(file_store, "alpha")) == sorted([(engine.address, LENGTH), (second, 8192)])
    engine.unregister(memory="m")
    assert ranges(file_store, "alpha") == [(second, 8192)]
    engine.map(memory="own", length=4096)
    engine.register(memory="own", access=0)
    assert ranges(file_store, "alpha") == [(second, 8192)]


def test_list_that_the_store_does_not_take(named, file_store):
    file_store.behave("short")
    engine = named("alpha")
    for i in range(60):
        engine.map(memory=f"more{i}", length=4096)
        engine.register(memory=f"more{i}")
    assert ranges(file_store, "alpha") == []
    assert sum("takes no list" in line for line in engine.lines()) == 1
    reader = named("beta")
    reader.segment(segment="s", peer="alpha")
    moves_bytes(reader, engine)


@pytest.mark.parametrize("name", ["with space", "ümlaut", "n" * 256], ids=["space", "umlaut", "long"])
def test_names_that_cannot_be_keys(named, name):
    engine = named(name, open_it=False)
    assert refused(engine, "open", name="127.0.0.1", settings=engine.settings)[0] in ("ADDRESS", "CONFIG")
    other = named("beta")
    assert refused(other, "segment", segment="s", peer=name)[0] in ("ADDRESS", "INVALID")


# ------------------------------------------------------------------------------------------------ our own


def test_ours_find_each_other(named):
    alpha, beta = named("alpha"), named("beta")
    beta.segment(segment="s", peer="alpha")
    moves_bytes(beta, alpha)
    beta.probe(segment="s", timeout_ms=5000)
    beta.notify(segment="s", name="label", data="text", timeout_ms=5000)
    event = alpha.wait_for_event(kind="NOTIFY")
    assert (event["sender"], event["name"], event["data"]) == ("beta", "label", "text")
    assert not beta.segment_info(segment="s")["classic"]
    beta.segment(segment="same", peer="/alpha")  # a leading slash is not part of a name
    moves_bytes(beta, alpha, "same")


def test_without_classic_messages(named):
    """The store says all that is needed to greet the peer."""
    alpha = named("alpha", **{"control/classic": "off", "tcp/classic": "off"})
    beta = named("beta")
    beta.segment(segment="s", peer="alpha")
    moves_bytes(beta, alpha)


def test_own_name_opens_itself(named):
    alpha = named("alpha")
    alpha.segment(segment="s", peer="alpha")
    alpha.fill(memory="m", seed=1, length=LENGTH // 2)
    half = alpha.address + LENGTH // 2
    assert alpha.transfer("write", "s", "m", half, LENGTH // 2)["state"] == "COMPLETED"
    assert alpha.compare(memory="m", seed=1, offset=LENGTH // 2)["different"] == 0


def test_killed_engine_comes_back_under_its_name(named, file_store):
    alpha, beta = named("alpha"), named("beta")
    beta.segment(segment="s", peer="alpha")
    moves_bytes(beta, alpha)
    alpha.kill()
    beta.wait_for_event(kind="PEER", state="DOWN")
    assert beta.transfer("write", "s", "m", alpha.address, 10)["cause"] == "ERR_PEER_DOWN"
    # Its entries are still there, but nobody answers.
    assert refused(beta, "segment", segment="t", peer="alpha")[0] == "CONNECT"

    again = named("alpha")
    beta.segment(segment="t", peer="alpha")
    moves_bytes(beta, again, "t")
    # Who holds the old segment learns that it is another engine now.
    eventually(
        lambda: beta.transfer("write", "s", "m", again.address, 10)["cause"] == "ERR_PEER_RESTARTED"
    )
    assert document(file_store, "mooncake/ram/alpha")["buffers"][0]["addr"] == again.address


def test_closed_engine_is_unknown(named):
    alpha, beta = named("alpha"), named("beta")
    assert alpha.quit() == 0
    status, text, _ = refused(beta, "segment", segment="s", peer="alpha")
    assert status == "NOT_FOUND"
    assert "'alpha'" in text and "mooncake/ram/alpha" in text


def test_another_engine_at_the_published_place(named, file_store):
    beta = named("beta")
    named("alpha")
    for folder in ("ram", "rpc_meta"):
        file_store.put(f"mooncake/{folder}/gamma", file_store.get(f"mooncake/{folder}/alpha"))
    status, text, _ = refused(beta, "segment", segment="s", peer="gamma")
    assert status == "CONNECT" and '"alpha" answers there' in text


def test_two_engines_of_one_name(named, file_store):
    first = named("alpha")
    own = file_store.get("mooncake/rpc_meta/alpha")
    second = named("alpha")
    eventually(lambda: any("another engine" in line for line in first.lines() + second.lines()))
    # Whoever leaves does not take the other's entries away for good.
    second.quit()
    eventually(lambda: file_store.get("mooncake/rpc_meta/alpha") == own)
    eventually(lambda: ranges(file_store, "alpha") == [(first.address, LENGTH)])


@pytest.mark.parametrize(
    "key, value, status",
    [
        ("ram", b"[]", "PROTOCOL"),
        ("ram", b'{"name":"alpha"}', "PROTOCOL"),
        ("ram", None, "NOT_FOUND"),
        ("rpc_meta", b'{"ip_or_host_name":"127.0.0.1","rpc_port":0}', "PROTOCOL"),
        ("rpc_meta", b'{"ip_or_host_name":"no-such-host.invalid","rpc_port":1}', "ADDRESS"),
        ("rpc_meta", None, "NOT_FOUND"),
    ],
)
def test_entries_that_lead_nowhere(named, file_store, key, value, status):
    beta = named("beta")
    with classic.ClassicTarget({BASE: bytearray(10)}, name="alpha") as mooncake:
        mooncake.put_into(file_store)
        if value is None:
            file_store.delete(f"mooncake/{key}/alpha")
        else:
            file_store.put(f"mooncake/{key}/alpha", value)
        found, text, _ = refused(beta, "segment", segment="s", peer="alpha")
    assert found == status
    assert "alpha" in text


# ------------------------------------------------------------------------------------- the store goes away


def test_store_that_lost_everything_gets_it_again(named, file_store):
    alpha, beta = named("alpha"), named("beta")
    before = file_store.keys()
    file_store.restart(lost=True)
    eventually(lambda: file_store.keys() == before)
    assert ranges(file_store, "alpha") == [(alpha.address, LENGTH)]
    beta.segment(segment="s", peer="alpha")
    moves_bytes(beta, alpha)


def test_known_peers_go_on_while_the_store_is_down(named, file_store):
    alpha, beta = named("alpha"), named("beta")
    beta.segment(segment="s", peer="alpha")
    file_store.kill()
    moves_bytes(beta, alpha)
    status, text, seconds = refused(beta, "segment", segment="t", peer="gamma")
    assert status == "CONNECT" and "gamma" in text and seconds < 4
    # A registration succeeds, and is published when the store is back.
    eventually(lambda: any("does not work" in line for line in alpha.lines()))
    more = alpha.map(memory="more", length=4096)["address"]
    alpha.register(memory="more")
    beta.transfer("write", "s", "m", more, 4096)
    file_store.restart()
    eventually(lambda: (more, 4096) in ranges(file_store, "alpha"))
    eventually(lambda: any("works again; 'alpha'" in line for line in alpha.lines()))
    assert len(alpha.lines()) == 2, alpha.lines()


def test_store_that_is_down_at_the_start(named, file_store):
    file_store.kill()
    alpha = named("alpha")
    assert sum("does not work" in line for line in alpha.lines()) == 1
    file_store.restart()
    eventually(lambda: document(file_store, "mooncake/rpc_meta/alpha"))
    beta = named("beta")
    beta.segment(segment="s", peer="alpha")
    moves_bytes(beta, alpha)


def test_store_that_is_required_at_the_start(named, file_store):
    file_store.kill()
    alpha = named("alpha", open_it=False)
    settings = {**alpha.settings, "metadata/required": "on"}
    status, text, _ = refused(alpha, "open", name="127.0.0.1", settings=settings)
    assert status == "CONNECT" and "there is no folder" in text


def test_store_that_refuses_us(named, file_store):
    file_store.behave("refuse")
    alpha = named("alpha", open_it=False)
    assert refused(alpha, "open", name="127.0.0.1", settings=alpha.settings)[0] == "PERMISSION"
    file_store.behave("refuse", on=False)
    alpha.open()
    assert file_store.keys() == ["mooncake/ram/alpha", "mooncake/rpc_meta/alpha"]


def test_close_while_the_store_is_down(named, file_store):
    alpha = named("alpha")
    file_store.kill()
    begin = time.monotonic()
    assert alpha.quit() == 0
    assert time.monotonic() - begin < 4
    # What stays behind is in nobody's way.
    file_store.restart()
    assert file_store.keys() != []
    again = named("alpha")
    assert ranges(file_store, "alpha") == [(again.address, LENGTH)]


# ------------------------------------------------------------------------------------------ classic peers


@pytest.fixture
def mooncake(file_store):
    """A Mooncake engine that is known to the store as "mooncake-1"."""
    with classic.ClassicTarget({BASE: bytearray(LENGTH)}, name="mooncake-1") as target:
        target.put_into(file_store)
        yield target


def classic_write(peer, target, seed):
    peer.fill(memory="m", seed=seed)
    result = peer.transfer("write", "s", "m", BASE, LENGTH)
    return result["state"] == "COMPLETED" and bytes(target.buffers[BASE]) == pattern(seed, LENGTH)


def test_classic_peer(named, mooncake):
    beta = named("beta")
    beta.segment(segment="s", peer="mooncake-1")
    assert classic_write(beta, mooncake, 1)
    mooncake.buffers[BASE][:] = pattern(2, LENGTH)
    assert beta.transfer("read", "s", "m", BASE, LENGTH)["state"] == "COMPLETED"
    assert beta.compare(memory="m", seed=2)["different"] == 0
    probes = mooncake.probes
    beta.probe(segment="s", timeout_ms=5000)
    beta.notify(segment="s", name="label", data="text", timeout_ms=5000)
    assert mooncake.notes == [("label", "text")]
    assert mooncake.probes == probes + 1
    assert beta.segment_info(segment="s")["classic"]
    assert mooncake.descriptions == 0  # the store was asked, not the peer


def test_classic_peer_registers_more(named, mooncake, file_store):
    beta = named("beta")
    beta.segment(segment="s", peer="mooncake-1")
    other = BASE + 16 * LENGTH
    assert beta.transfer("write", "s", "m", other, LENGTH)["state"] == "FAILED"
    mooncake.buffers[other] = bytearray(LENGTH)
    mooncake.put_into(file_store)
    assert beta.transfer("write", "s", "m", other, LENGTH)["state"] == "COMPLETED"
    file_store.kill()
    assert beta.transfer("write", "s", "m", other, LENGTH)["state"] == "COMPLETED"
    result = beta.transfer("write", "s", "m", other + 16 * LENGTH, LENGTH)
    assert result["state"] == "FAILED"
    assert mooncake.descriptions == 0


def test_classic_peer_comes_back_with_other_ports(named, mooncake, file_store):
    beta = named("beta")
    beta.segment(segment="s", peer="mooncake-1")
    assert classic_write(beta, mooncake, 1)
    mooncake.close()
    assert not classic_write(beta, mooncake, 2)
    with classic.ClassicTarget({BASE: bytearray(LENGTH)}, name="mooncake-1") as again:
        again.put_into(file_store)
        eventually(lambda: classic_write(beta, again, 3))
        beta.notify(segment="s", name="to", data="the new one", timeout_ms=5000)
        assert again.notes == [("to", "the new one")]


def test_classic_peer_that_is_gone(named, mooncake):
    beta = named("beta")
    mooncake.close()
    status, text, _ = refused(beta, "segment", segment="s", peer="mooncake-1")
    assert status == "CONNECT" and "mooncake-1" in text


def test_we_are_found_by_classic_peers(named, file_store):
    """The way of a Mooncake engine: descriptor, then rpc_meta, then its host and the data port of the descriptor."""
    alpha = named("alpha")
    descriptor = document(file_store, "mooncake/ram/alpha")
    listener = document(file_store, "mooncake/rpc_meta/alpha")
    place = f"{listener['ip_or_host_name']}:{listener['rpc_port']}"
    with classic.data_connection({**descriptor, "name": place}) as connection:
        classic.write(connection, alpha.address, pattern(5, LENGTH))
    assert alpha.compare(memory="m", seed=5)["different"] == 0
    classic.notify(place, "label", "text")
    assert alpha.wait_for_event(kind="NOTIFY")["name"] == "label"
