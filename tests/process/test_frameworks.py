# SPDX-License-Identifier: Apache-2.0
"""The call sequences of the frameworks that use mooncake.engine (framework_peer.py), between processes."""

import random

import pytest

from dropin import dropins  # noqa: F401 (fixture)
from emulated import World
from peer import PeerError

KIB = 1 << 10
MIB = 1 << 20
PAGE = 4 * KIB
LAYERS = 8
KV = 2 * MIB  # of a layer
AUX = 64  # bytes of an aux record; there are as many as requests
NOBODY = "127.0.0.1:1"

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def world(build_dir, tmp_path):
    worlds = World(build_dir, tmp_path, trace=False)
    yield worlds
    worlds.dispose()


def kv_names():
    return [f"kv{layer}" for layer in range(LAYERS)]


def map_kv(peer):
    """Layers, aux records and state; returns their addresses."""
    addresses = {name: peer.map(memory=name, length=KV)["address"] for name in kv_names()}
    addresses["aux"] = peer.map(memory="aux", length=256 * AUX)["address"]
    addresses["state"] = peer.map(memory="state", length=16)["address"]
    return addresses


def everything(addresses):
    return list(addresses)


def paged(addresses, pages):
    """All layers: page i of ours goes to page pages[i] of theirs."""
    return [
        [(name, i * PAGE, addresses[name] + page * PAGE, PAGE) for i, page in enumerate(pages)] for name in kv_names()
    ]


def check_pages(target, pages):
    for seed, name in enumerate(kv_names(), 1):
        for i, page in enumerate(pages):
            answer = target.compare(memory=name, seed=seed, offset=page * PAGE, length=PAGE, position=i * PAGE)
            assert answer["different"] == 0, (name, page)


def fill_kv(peer):
    for seed, name in enumerate(kv_names(), 1):
        peer.fill(memory=name, seed=seed)
    peer.fill(memory="aux", seed=77)


# -------------------------------------------------------------------------------------------------- SGLang


@pytest.fixture
def sglang(dropins):
    """(prefill, decode, addresses of the decode side)"""
    prefill, decode = dropins(kind="SGLang"), dropins(kind="SGLang")
    map_kv(prefill)
    there = map_kv(decode)
    assert prefill.start_manager(memories=everything(there))["result"] == 0
    assert decode.start_manager(memories=everything(there))["result"] == 0
    fill_kv(prefill)
    return prefill, decode, there


def test_sglang_prefill_writes_pages_and_aux(sglang):
    prefill, decode, there = sglang
    pages = random.Random(1).sample(range(KV // PAGE), 40)
    aux = ("aux", 3 * AUX, there["aux"] + 5 * AUX, AUX)
    assert prefill.send_kvcache(session=decode.engine, layers=paged(there, pages), aux=aux)["result"] == 0
    check_pages(decode, pages)
    assert decode.compare(memory="aux", seed=77, offset=5 * AUX, length=AUX, position=3 * AUX)["different"] == 0
    answer = prefill.send_by_layer(session=decode.engine, layers=paged(there, pages[::-1]))
    assert answer["results"] == [0] * LAYERS
    check_pages(decode, pages[::-1])
    assert prefill.share()["same"] and decode.share()["same"]


def test_sglang_registers_what_is_there_twice_once(dropins):
    peer = dropins(kind="SGLang")
    there = map_kv(peer)
    assert peer.start_manager(memories=everything(there) * 2)["result"] == 0
    assert peer.stop_manager()["result"] == 0


def test_sglang_roles_are_switched_in_running_processes(sglang):
    prefill, decode, there = sglang
    pages = list(range(20))
    assert prefill.send_kvcache(session=decode.engine, layers=paged(there, pages))["result"] == 0
    for peer in (prefill, decode):
        assert peer.stop_manager()["result"] == 0
    # Nothing is offered any more, also to those that had it.
    assert prefill.send_kvcache(session=decode.engine, layers=paged(there, pages))["result"] == -1
    here = map_kv(prefill)
    map_kv(decode)
    for peer in (prefill, decode):
        assert peer.start_manager(memories=everything(here))["result"] == 0
    fill_kv(decode)
    aux = ("aux", 0, here["aux"], 1)
    assert decode.send_kvcache(session=prefill.engine, layers=paged(here, pages), aux=aux)["result"] == 0
    check_pages(prefill, pages)


def test_sglang_leaves_a_failed_session_alone_until_a_probe_succeeds(sglang):
    prefill, decode, there = sglang
    assert prefill.send_kvcache(session=NOBODY, layers=paged(there, [0]))["result"] == -1
    assert prefill.send_kvcache(session=NOBODY, layers=paged(there, [0]))["result"] == -2
    assert prefill.recover(session=NOBODY)["blocked"]
    wrong = [[("kv0", 0, there["kv0"] + KV, PAGE)]]
    assert prefill.send_kvcache(session=decode.engine, layers=wrong)["result"] == -1
    assert not prefill.recover(session=decode.engine)["blocked"]
    assert prefill.send_kvcache(session=decode.engine, layers=paged(there, [1]))["result"] == 0
    decode.kill()
    assert prefill.send_kvcache(session=decode.engine, layers=paged(there, [1]))["result"] == -1
    assert prefill.recover(session=decode.engine)["blocked"]


def test_sglang_a_decode_that_dies_in_the_middle(sglang):
    prefill, decode, there = sglang
    pages = list(range(KV // PAGE))
    assert prefill.send_kvcache(session=decode.engine, layers=paged(there, pages))["result"] == 0
    prefill.send("send_by_layer", session=decode.engine, layers=paged(there, pages) * 16)
    decode.kill()
    results = prefill.receive()["results"]
    assert set(results) <= {0, -1} and results[-1] == -1, results


def test_sglang_on_ipv6(dropins):
    prefill, decode = dropins("::1", kind="SGLang"), dropins("::1", kind="SGLang")
    map_kv(prefill)
    there = map_kv(decode)
    for peer in (prefill, decode):
        assert peer.start_manager(memories=everything(there))["result"] == 0
    fill_kv(prefill)
    assert decode.engine.startswith("[::1]:")
    assert prefill.send_kvcache(session=decode.engine, layers=paged(there, [3, 1, 2]))["result"] == 0
    check_pages(decode, [3, 1, 2])


@pytest.mark.parametrize("force", ["", "1"])
def test_sglang_aux_records_in_host_memory_beside_pages_on_devices(world, dropins, force):
    """One engine holds both; small host records and device pages travel in one batch and in calls of their own."""
    environment = {"MC_FORCE_TCP": force} if force else {}
    prefill, decode = (
        dropins(program="dropin_peer.py", base=world.environment, environment=environment) for _ in range(2)
    )
    addresses = {}
    for device, peer in enumerate((prefill, decode)):
        kv = peer.allocate(memory="kv", length=MIB, device=device)["address"]
        aux = peer.map(memory="aux", length=32 * AUX, skew=5)["address"]
        assert kv and peer.register(memory="kv")["result"] == 0 and peer.register(memory="aux")["result"] == 0
        addresses[peer] = (kv, aux)
    kv, aux = addresses[decode]
    prefill.fill(memory="kv", seed=1)
    prefill.fill(memory="aux", seed=2)
    for i in range(32):
        assert (
            prefill.write(peer=decode.engine, memory="kv", remote=kv + i * PAGE, length=PAGE, offset=i * PAGE)["result"]
            == 0
        )
        length = 1 + i * 2
        assert (
            prefill.write(peer=decode.engine, memory="aux", remote=aux + i * AUX, length=length, offset=i * AUX)[
                "result"
            ]
            == 0
        )
        assert decode.compare(memory="aux", seed=2, offset=i * AUX, length=length, position=i * AUX)["different"] == 0
    assert decode.compare(memory="kv", seed=1, length=32 * PAGE)["different"] == 0
    both = prefill.transfer_mixed(
        peer=decode.engine,
        pieces=[("kv", i * PAGE, kv + (255 - i) * PAGE, PAGE) for i in range(100)]
        + [("aux", i * AUX, aux + (31 - i) * AUX, 8) for i in range(32)],
    )
    assert both["result"] == 0
    for i in range(100):
        answer = decode.compare(memory="kv", seed=1, offset=(255 - i) * PAGE, length=PAGE, position=i * PAGE)
        assert answer["different"] == 0
    for i in range(32):
        answer = decode.compare(memory="aux", seed=2, offset=(31 - i) * AUX, length=8, position=i * AUX)
        assert answer["different"] == 0


# ------------------------------------------------------------------------------------------------ the others


def test_vllm_workers_write_blocks_of_many_requests(dropins):
    producer, consumer = dropins(kind="VLLM"), dropins(kind="VLLM")
    there = map_kv(consumer)
    map_kv(producer)
    for peer in (producer, consumer):
        peer.register_kv_caches(memories=kv_names())
    fill_kv(producer)
    requests = [
        {
            "memory": name,
            "offsets": [block * PAGE for block in range(64)],
            "remotes": [there[name] + (511 - block) * PAGE for block in range(64)],
            "lengths": [PAGE] * 64,
        }
        for name in kv_names()
    ]
    assert producer.send_requests(session=consumer.engine, requests=requests * 4)["results"] == [0] * 32
    for seed, name in enumerate(kv_names(), 1):
        for block in range(64):
            answer = consumer.compare(
                memory=name, seed=seed, offset=(511 - block) * PAGE, length=PAGE, position=block * PAGE
            )
            assert answer["different"] == 0
    # An aborted request: its blocks are not offered any more.
    requests[0]["remotes"][7] = there["state"]
    assert producer.send_requests(session=consumer.engine, requests=requests[:2])["results"] == [-1, 0]
    # Neither end says goodbye: their destructors run while the interpreter ends.
    assert producer.quit() == 0 and consumer.quit() == 0


def test_lmcache_channel_configured_by_variables(dropins):
    environment = {"MC_LOCAL_HOSTNAME": "127.0.0.1", "MC_PROTOCOL": "tcp"}
    sender, receiver = dropins(kind="LMCache", environment=environment), dropins(
        kind="LMCache", environment=environment
    )
    for peer in (sender, receiver):
        peer.map(memory="pool", length=MIB)
    base = receiver.register_buffer(memory="pool")["base"]
    sender.register_buffer(memory="pool")
    sender.fill(memory="pool", seed=4)
    pages = random.Random(3).sample(range(64), 40)
    assert (
        sender.batched_write(session=receiver.engine, memory="pool", base=base, page=PAGE, pages=pages)["result"] == 0
    )
    for page in pages:
        answer = receiver.compare(memory="pool", seed=4, offset=page * PAGE, length=PAGE, position=page * PAGE)
        assert answer["different"] == 0
    without = dropins(kind="LMCache")
    assert without.engine.startswith("localhost:")


def test_lmdeploy_has_an_engine_for_each_link(dropins):
    decoder = dropins(kind="LMDeploy")
    decoder.map(memory="kv", length=KV)
    prefills = []
    for link in range(3):
        prefill = dropins(kind="LMDeploy")
        remote = prefill.map(memory="kv", length=KV)["address"]
        endpoint = prefill.open_link(link="0", host="127.0.0.1")["endpoint"]
        prefill.register_on_link(link="0", memory="kv")
        prefill.fill(memory="kv", seed=link)
        decoder.open_link(link=str(link), host="127.0.0.1")
        decoder.register_on_link(link=str(link), memory="kv")
        prefills.append((prefill, remote, endpoint))
    for link, (_, remote, endpoint) in enumerate(prefills):
        begin = link * 64 * PAGE
        pages = [(begin + i * PAGE, remote + begin + i * PAGE, PAGE) for i in range(64)]
        decoder.migrate(link=str(link), endpoint=endpoint, memory="kv", pages=pages)
        answer = decoder.compare(memory="kv", seed=link, offset=begin, length=64 * PAGE, position=begin)
        assert answer["different"] == 0
    decoder.close_link(link="0")
    _, remote, endpoint = prefills[1]
    decoder.migrate(link="1", endpoint=endpoint, memory="kv", pages=[(0, remote, 1)])
    with pytest.raises(PeerError):
        decoder.migrate(link="1", endpoint=endpoint, memory="kv", pages=[(0, remote + KV, 1)])


def test_vllm_ascend_pulls_and_pushes(dropins):
    producer, consumer = dropins("127.0.0.1:20001:npu_0", kind="Ascend"), dropins("127.0.0.1", kind="Ascend")
    for peer in (producer, consumer):
        peer.map(memory="kv", length=KV)
        assert peer.register_all(memories=["kv"])["store_engine"] == "InnerTransferEngine"
    there = producer.first_address(peer=consumer.engine)["address"]
    here = consumer.first_address(peer=producer.engine)["address"]
    producer.fill(memory="kv", seed=1)
    places = {"offsets": [0, PAGE, 7 * PAGE], "lengths": [PAGE, 1, 3 * PAGE]}
    remotes = [here + offset for offset in places["offsets"]]
    assert consumer.pull(session=producer.engine, memory="kv", remotes=remotes, **places)["result"] == 0
    for offset, length in zip(places["offsets"], places["lengths"]):
        assert consumer.compare(memory="kv", seed=1, offset=offset, length=length, position=offset)["different"] == 0
    producer.fill(memory="kv", seed=2)
    remotes = [there + offset for offset in places["offsets"]]
    assert producer.push_layer(session=consumer.engine, memory="kv", remotes=remotes, **places)["result"] == 0
    assert consumer.compare(memory="kv", seed=2, length=PAGE)["different"] == 0
    for session, remote in ((NOBODY, there), (consumer.engine, there + KV)):
        with pytest.raises(PeerError):
            producer.push_layer(session=session, memory="kv", offsets=[0], remotes=[remote], lengths=[1])


def test_weights_are_read_by_many_and_taken_by_flag(dropins):
    owner, readers = dropins(kind="Weights"), [dropins(kind="Weights") for _ in range(3)]
    bucket, small, flag = (
        owner.map(memory=name, length=n)["address"] for name, n in (("w", 8 * MIB), ("b", 8), ("f", 4))
    )
    names = ["w", "b", "f"]
    assert owner.register_named(memories=names)["pointers"] == [bucket, small, flag]
    owner.fill(memory="w", seed=9)
    owner.fill(memory="b", seed=10)
    for reader in readers:
        for name, length in (("w", 8 * MIB), ("b", 8), ("f", 4)):
            reader.map(memory=name, length=length)
        reader.register_named(memories=names)
    places = [i * MIB for i in range(8)]
    for reader in readers:  # at once
        reader.send(
            "read_buckets",
            session=owner.engine,
            memory="w",
            offsets=places,
            remotes=[bucket + place for place in places],
            lengths=[MIB] * 8,
        )
    for reader in readers:
        assert reader.receive()["status"] == 0
        assert reader.compare(memory="w", seed=9)["different"] == 0
    for magic, reader in enumerate(readers, 0x5EED):
        reader.take_bucket(
            session=owner.engine, memory="b", remote=small, length=8, magic=magic, flag="f", remote_flag=flag
        )
        assert reader.compare(memory="b", seed=10)["different"] == 0
        owner.await_flag(flag="f", magic=magic)
    owner.unregister_named(memories=names)
    with pytest.raises(PeerError):
        readers[0].read_buckets(session=owner.engine, memory="w", offsets=[0], remotes=[bucket], lengths=[1])


def test_asynchronous_ids_and_notifications(dropins):
    sender, receiver = dropins(kind="Notifier"), dropins(kind="Notifier")
    there = receiver.map(memory="m", length=MIB)["address"]
    sender.map(memory="m", length=MIB)
    for peer in (sender, receiver):
        peer.register(memory="m")
    sender.fill(memory="m", seed=1)
    answer = sender.poll_many(session=receiver.engine, memory="m", remote=there, length=64 * KIB, count=16)
    assert answer["ends"] == [1] * 16
    assert receiver.compare(memory="m", seed=1)["different"] == 0
    # The last one does not fit: it alone fails.
    answer = sender.poll_many(session=receiver.engine, memory="m", remote=there + KIB, length=64 * KIB, count=16)
    assert answer["ends"] == [1] * 15 + [-1]
    for i in range(5):
        assert (
            sender.write_and_tell(session=receiver.engine, memory="m", remote=there, length=1, text=str(i))["result"]
            == 0
        )
    assert receiver.notes(count=5)["notes"] == [["done", str(i)] for i in range(5)]
    assert (
        sender.write_and_tell(session=receiver.engine, memory="m", remote=there - 1, length=1, text="no")["result"]
        == -1
    )
    assert receiver.notes(count=1, timeout=0.2)["notes"] == []


# ------------------------------------------------------------------------------------------ sixteen threads


def test_sixteen_threads_at_once_to_several_targets(dropins):
    source = dropins(kind="VLLM")
    targets = [dropins(kind="VLLM") for _ in range(2)]
    source.map(memory="m", length=4 * MIB)
    source.register_kv_caches(memories=["m"])
    source.fill(memory="m", seed=6)
    addresses = []
    for target in targets:
        addresses.append(target.map(memory="m", length=4 * MIB)["address"])
        target.register_kv_caches(memories=["m"])
    answer = source.storm(
        sessions=[target.engine for target in targets], memory="m", remotes=addresses, threads=16, page=PAGE, rounds=8
    )
    assert answer["failures"] == 0 and answer["calls"] == 16 * 8
    for target in targets:
        assert target.compare(memory="m", seed=6)["different"] == 0
