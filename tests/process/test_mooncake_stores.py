# SPDX-License-Identifier: Apache-2.0
"""Engines that know each other by names in real metadata servers: ours, the released wheel, and a Mooncake engine made
from a description, each as either end, through HTTP, etcd and redis."""

import json
import re
import subprocess
import time

import pytest

import classic_peer as classic
from mooncake_wheel import wheel_python, wheels  # noqa: F401 (fixtures)
from peer import PeerError, pattern
from stores import any_store, start_etcd, start_http, start_redis, started_servers, store_programs  # noqa: F401

LENGTH = 4 << 20
BASE = 0x7F00_0000_0003

pytestmark = pytest.mark.timeout(700)


@pytest.fixture
def store(any_store):  # noqa: F811
    return any_store


@pytest.fixture
def ours(peers, store):
    """ours(name) opens our engine under that name, with memory "m" registered."""

    def start(name, **settings):
        peer = peers(
            **{
                "metadata/url": store.url,
                "metadata/name": name,
                "metadata/refresh": "200",
                "metadata/lease": "3000",
                "log/level": "error",
                **settings,
            }
        )
        peer.address = peer.map(memory="m", length=LENGTH, skew=5)["address"]
        peer.register(memory="m")
        return peer

    return start


@pytest.fixture
def theirs(wheels, store):  # noqa: F811
    """theirs(name) opens the wheel's engine under that name, with memory "m" registered."""
    if store.url.startswith("redis"):
        pytest.skip("the released wheel is built without redis; it aborts when it is given a redis url")

    def start(name):
        peer = wheels(name, variables={"MC_TCP_BIND_ADDRESS": "127.0.0.1"}, metadata=store.url)
        peer.address = peer.map(memory="m", length=LENGTH, skew=3)["address"]
        assert peer.register(memory="m")["result"] == 0
        return peer

    return start


def eventually(question, seconds=20):
    """The first true answer of question()."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def we_move_bytes(initiator, target, segment="s", seed=1):
    initiator.fill(memory="m", seed=seed)
    result = initiator.transfer("write", segment, "m", target.address, LENGTH)
    assert result["state"] == "COMPLETED", result
    assert target.compare(memory="m", seed=seed)["different"] == 0
    target.fill(memory="m", seed=seed + 100)
    assert initiator.transfer("read", segment, "m", target.address, LENGTH)["state"] == "COMPLETED"
    assert initiator.compare(memory="m", seed=seed + 100)["different"] == 0


def entries(store):
    return [key for key in store.keys() if key.startswith("mooncake/")]


def document(store, key):
    value = store.get(key)
    return value and json.loads(value)


# --------------------------------------------------------------------------------------- with the wheel


def test_we_use_the_wheel(ours, theirs):
    wheel = theirs("wheel-1")
    engine = ours("ours-1")
    engine.segment(segment="s", peer="wheel-1")
    we_move_bytes(engine, wheel)
    engine.probe(segment="s", timeout_ms=5000)
    assert engine.segment_info(segment="s")["classic"]
    engine.transfer("write", "s", "m", wheel.address, 1000, notify={"name": "layer", "data": "seventeen"})
    engine.notify(segment="s", name="alone", data="by itself", timeout_ms=5000)
    assert wheel.notes(count=2)["notes"] == [["layer", "seventeen"], ["alone", "by itself"]]


def test_the_wheel_uses_us(ours, theirs):
    engine = ours("ours-1")
    wheel = theirs("wheel-1")
    wheel.fill(memory="m", seed=1)
    assert wheel.write(peer="ours-1", memory="m", remote=engine.address, length=LENGTH)["result"] == 0
    assert engine.compare(memory="m", seed=1)["different"] == 0
    engine.fill(memory="m", seed=2)
    assert wheel.read(peer="ours-1", memory="m", remote=engine.address, length=LENGTH)["result"] == 0
    assert wheel.compare(memory="m", seed=2)["different"] == 0
    assert wheel.first_address(peer="ours-1")["address"] == engine.address
    assert wheel.probe(peer="ours-1")["result"] == 0
    answer = wheel.write_and_notify(
        peer="ours-1", memory="m", remote=engine.address, length=1000, name="layer", text="seventeen"
    )
    assert answer["result"] == 0
    event = engine.wait_for_event(kind="NOTIFY")
    assert (event["name"], event["data"]) == ("layer", "seventeen")


def test_the_wheel_registers_more(ours, theirs):
    wheel = theirs("wheel-1")
    engine = ours("ours-1")
    engine.segment(segment="s", peer="wheel-1")
    more = wheel.map(memory="more", length=LENGTH)["address"]
    wheel.register(memory="more")
    engine.fill(memory="m", seed=3)
    assert engine.transfer("write", "s", "m", more, LENGTH)["state"] == "COMPLETED"
    assert wheel.compare(memory="more", seed=3)["different"] == 0


def test_the_wheel_restarts_under_its_name(ours, theirs, store):
    wheel = theirs("wheel-1")
    engine = ours("ours-1")
    engine.segment(segment="s", peer="wheel-1")
    we_move_bytes(engine, wheel)
    wheel.kill()
    for key in ("ram", "rpc_meta"):  # a server may refuse to the wheel what it left behind itself
        store.delete(f"mooncake/{key}/wheel-1")
    again = theirs("wheel-1")
    engine.fill(memory="m", seed=9)
    eventually(lambda: engine.transfer("write", "s", "m", again.address, LENGTH)["state"] == "COMPLETED")
    assert again.compare(memory="m", seed=9)["different"] == 0


# ------------------------------------------------------------------- with a Mooncake engine from a description


def test_a_described_engine_and_ours(ours, store):
    with classic.ClassicTarget({BASE: bytearray(LENGTH)}, name="mooncake-1") as mooncake:
        mooncake.put_into(store)
        engine = ours("ours-1")
        engine.segment(segment="s", peer="mooncake-1")
        engine.fill(memory="m", seed=1)
        assert engine.transfer("write", "s", "m", BASE, LENGTH)["state"] == "COMPLETED"
        assert bytes(mooncake.buffers[BASE]) == pattern(1, LENGTH)
        engine.notify(segment="s", name="label", data="text", timeout_ms=5000)
        assert mooncake.notes == [("label", "text")]

    listener = document(store, "mooncake/rpc_meta/ours-1")
    place = f"{listener['ip_or_host_name']}:{listener['rpc_port']}"
    descriptor = {**document(store, "mooncake/ram/ours-1"), "name": place}
    with classic.data_connection(descriptor) as connection:
        classic.write(connection, engine.address, pattern(2, LENGTH))
    assert engine.compare(memory="m", seed=2)["different"] == 0
    assert classic.notify(place, "label", "text") == {"name": "", "notify_msg": "success"}


# ------------------------------------------------------------------------------------------------- ours


def test_ours_and_the_life_of_their_entries(ours, store):
    alpha, beta = ours("alpha"), ours("beta")
    beta.segment(segment="s", peer="alpha")
    we_move_bytes(beta, alpha)
    assert entries(store) == [
        "mooncake/ram/alpha",
        "mooncake/ram/beta",
        "mooncake/rpc_meta/alpha",
        "mooncake/rpc_meta/beta",
    ]
    beta.segment_close(segment="s")
    assert alpha.quit() == 0
    assert beta.status_of("segment", segment="t", peer="alpha") == "NOT_FOUND"
    assert entries(store) == ["mooncake/ram/beta", "mooncake/rpc_meta/beta"]


def test_killed_engine_comes_back_under_its_name(ours, store):
    alpha, beta = ours("alpha"), ours("beta")
    beta.segment(segment="s", peer="alpha")
    we_move_bytes(beta, alpha)
    alpha.kill()
    again = ours("alpha")
    beta.wait_for_event(kind="PEER", state="DOWN")
    beta.segment(segment="t", peer="alpha")
    we_move_bytes(beta, again, "t")
    eventually(lambda: beta.transfer("write", "s", "m", again.address, 10)["cause"] == "ERR_PEER_RESTARTED")


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
def test_store_is_killed_and_restarted_in_the_middle_of_work(ours, store, lost):
    alpha, beta = ours("alpha"), ours("beta")
    beta.segment(segment="s", peer="alpha")
    store.kill()
    we_move_bytes(beta, alpha)
    begin = time.monotonic()
    with pytest.raises(PeerError) as error:
        beta.segment(segment="t", peer="beta-2")
    assert error.value.name in ("CONNECT", "TIMED_OUT") and time.monotonic() - begin < 5
    store.restart(lost=lost)
    eventually(lambda: len(entries(store)) == 4)
    eventually(lambda: beta.status_of("segment", segment="t", peer="beta-2") == "NOT_FOUND")
    gamma = ours("gamma")
    gamma.segment(segment="s", peer="alpha")
    we_move_bytes(gamma, alpha)


def test_store_that_does_not_answer(ours, store):
    alpha, beta = ours("alpha"), ours("beta", **{"metadata/timeout": "500"})
    beta.segment(segment="s", peer="alpha")
    store.stop()
    begin = time.monotonic()
    assert beta.status_of("segment", segment="t", peer="gamma") in ("TIMED_OUT", "CONNECT")
    assert time.monotonic() - begin < 3
    we_move_bytes(beta, alpha)
    begin = time.monotonic()
    assert beta.quit() == 0
    assert time.monotonic() - begin < 3
    store.resume()


# ------------------------------------------------------------------------------------ the command-line tools


@pytest.mark.parametrize("program", ["transfer_engine_bench", "transfer_engine_validator"])
def test_transfer_engine_programs(run, spawn, store, program):
    common = [f"--metadata_server={store.url}", "--protocol=tcp", "--buffer_size=8m"]
    target = spawn(
        program, *common, "--mode=target", "--local_server_name=127.0.0.1:12345", stderr=subprocess.PIPE, text=True
    )
    assert "is known to the metadata server as 127.0.0.1:12345" in target.stderr.readline()
    more = ["--threads=2", "--batch_size=4", "--block_size=4096", "--duration=0.2"]
    result = run(program, *common, "--local_server_name=127.0.0.1", "--segment_id=127.0.0.1:12345", *more)
    assert result.returncode == 0, result.stderr
    assert re.search(r"Test completed: duration 0\.\d\d, batch count [1-9]\d*", result.stderr)


def test_tebench(run, spawn, store):
    kind, _, place = store.url.partition("://")
    common = [f"--metadata_type={kind}", f"--metadata_url_list={place}", "--total_buffer_size=8m", "--backend=classic"]
    target = spawn("tebench", *common, "--seg_name=bench-target", text=True)
    assert target.stdout.readline() == "Segment name: bench-target\n"
    sizes = ["--max_block_size=4096", "--duration=0.1", "--warmup=0"]
    result = run("tebench", *common, "--target_seg_name=bench-target", *sizes)
    assert result.returncode == 0, result.stderr
    result = run("tebench", *common, "--target_seg_name=nobody", *sizes)
    assert result.returncode == 1
    assert "has no key mooncake/ram/nobody" in result.stderr


def test_causeway_commands(run, store, ours):
    ours("ours-1")
    result = run("causeway", "path", "--set", f"metadata/url={store.url}", "ours-1")
    assert result.returncode == 0, result.stderr
    assert "tcp" in result.stdout


@pytest.mark.parametrize(
    "url, text", [("gopher://x", "no scheme that is known"), ("etcd://127.0.0.1:1", "127.0.0.1:1")]
)
def test_metadata_servers_that_cannot_be(run, url, text):
    result = run("transfer_engine_bench", "--protocol=tcp", f"--metadata_server={url}", "--mode=target")
    assert result.returncode == 1
    assert text in result.stderr
