# SPDX-License-Identifier: Apache-2.0
"""Each metadata store alone (store_driver.c) against real servers: what is put can be got, by everybody, and leases."""

import ctypes
import ctypes.util
import os
import re
import time

import pytest

from peer import Peer, PeerError
from stores import any_store, start_etcd, start_http, start_redis  # noqa: F401 (fixtures)
from stores import started_servers, store_programs  # noqa: F401 (fixtures)

SLACK_MS = 500  # how much later than its timeout a call may end


class Store(Peer):
    """The driver with an open store. Values are bytes."""

    def __init__(self, build_dir, url, libraries=None, preload=None, **settings):
        """libraries: a folder that is searched first."""
        wanted = {"LD_LIBRARY_PATH": libraries, "LD_PRELOAD": preload}
        environment = {**os.environ, **{name: str(value) for name, value in wanted.items() if value}}
        super().__init__([build_dir / "bin/cwstore"], environment=environment)
        self.attach(url, **settings)

    def attach(self, url, **settings):
        self.call("attach", url=url, settings={f"metadata/{name}": value for name, value in settings.items()})

    def get(self, key, **members):
        return bytes.fromhex(self.call("get", key=key, **members)["value"])

    def put(self, key, value, **members):
        return self.call("put", key=key, value=value.hex(), **members)

    def answer(self, command, **members):
        """Its answer, whatever it is."""
        self.send(command, **members)
        return self.receive()

    def has(self, key):
        return self.status_of("get", key=key) == "OK"


@pytest.fixture
def open_store(build_dir):
    """open_store(url, lease=1000, password=...) is a store in a process of its own."""
    opened = []

    def start(url, **settings):
        opened.append(Store(build_dir, url, **settings))
        return opened[-1]

    yield start
    try:
        for store in opened:
            assert store.process.poll() is not None or store.quit() == 0
    finally:
        for store in opened:
            store.dispose()


def until(condition, seconds=15):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


# ------------------------------------------------------------------------------------------------ every store


def test_what_is_put_can_be_got_until_it_is_removed(any_store, open_store):  # noqa: F811
    store = open_store(any_store.url)
    assert store.status_of("get", key="mooncake/ram/a") == "NOT_FOUND"
    store.put("mooncake/ram/a", b"one")
    assert any_store.get("mooncake/ram/a") == store.get("mooncake/ram/a") == b"one"
    store.put("mooncake/ram/a", b"two")
    assert any_store.get("mooncake/ram/a") == store.get("mooncake/ram/a") == b"two"
    assert any_store.keys() == ["mooncake/ram/a"]
    store.call("del", key="mooncake/ram/a")
    store.call("del", key="mooncake/ram/a")
    assert store.status_of("get", key="mooncake/ram/a") == "NOT_FOUND"
    assert any_store.keys() == []


def test_keys_and_values_arrive_as_they_are(any_store, open_store):  # noqa: F811
    store = open_store(any_store.url)
    values = {
        "mooncake/ram/[::1]:12001": bytes(range(256)) * 3,
        "mooncake/cluster-1/rpc_meta/10.0.0.1:12001": b'{"ip_or_host_name":"10.0.0.1","rpc_port":12001}',
        "a&b=c?d#e%20f+g/h\"i\\j'k~": b"\r\n\0\r\n",
        "empty": b"",
        "k" * 512: b"\xff",
    }
    for key, value in values.items():
        store.put(key, value)
    for key, value in values.items():
        assert (store.get(key), any_store.get(key)) == (value, value), key
    assert any_store.keys() == sorted(values)
    any_store.put("from another", b"\0\1")
    assert store.get("from another") == b"\0\1"
    assert store.status_of("put", key="k" * 513, value="00") == "LIMIT"
    assert store.status_of("get", key="") == "LIMIT"


def test_a_large_value_and_many_keys(any_store, open_store):  # noqa: F811
    store = open_store(any_store.url)
    large = os.urandom(1 << 20)
    store.put("large", large)
    assert store.get("large") == large == any_store.get("large")
    for number in range(1000):
        store.put(f"mooncake/many/{number}", b"%d" % number)
    for number in range(1000):
        assert store.get(f"mooncake/many/{number}") == b"%d" % number
    if any_store.scheme != "http":
        store.call("keep")


def test_what_a_crashed_engine_left_is_replaced(any_store, open_store):  # noqa: F811
    store = open_store(any_store.url)
    store.put("mooncake/rpc_meta/node1", b"old")
    store.kill()
    store = open_store(any_store.url)
    store.put("mooncake/rpc_meta/node1", b"new")
    assert any_store.get("mooncake/rpc_meta/node1") == b"new"


def test_many_threads_at_once_while_the_server_is_killed(any_store, open_store):  # noqa: F811
    store = open_store(any_store.url, lease=60000)
    store.call("load", threads=8, timeout_ms=3000)
    for _ in range(2):
        until(lambda: any_store.get("mooncake/load/3") is not None)
        any_store.kill()
        any_store.restart()
    until(lambda: any_store.get("mooncake/load/3") is not None)
    done = store.call("rest")
    assert done["wrong"] == 0 and done["failed"] > 0, done
    assert done["slowest_ms"] < 3000 + SLACK_MS, done
    assert any_store.address in done["failure"], done
    # Afterwards all is as before: nothing remembers the failures.
    store.call("load", threads=8, timeout_ms=3000)
    until(lambda: any_store.get("mooncake/load/7") is not None)
    done = store.call("rest")
    assert (done["wrong"], done["failed"]) == (0, 0), done


def test_a_server_that_is_down_is_named_at_once(any_store, open_store):  # noqa: F811
    store = open_store(any_store.url)
    store.put("a", b"b")
    any_store.kill()
    for command in ("get", "put", "del"):
        answer = store.answer(command, key="a", timeout_ms=3000)
        assert answer["name"] == "ERR_CONNECT", answer
        assert answer["text"] == f"{any_store.scheme} {any_store.address}: connection refused"
        assert answer["ms"] < SLACK_MS
    any_store.restart(lost=True)
    assert store.status_of("get", key="a") == "NOT_FOUND"
    store.put("a", b"c")
    assert any_store.get("a") == b"c"


def test_a_server_that_does_not_answer_costs_its_timeout_and_no_more(any_store, open_store):  # noqa: F811
    store = open_store(any_store.url)
    store.put("a", b"b")
    any_store.stop()
    for command, key in (("get", "a"), ("put", "b"), ("del", "c")):
        answer = store.answer(command, key=key, timeout_ms=300)
        assert answer["name"] == "ERR_TIMED_OUT", answer
        assert any_store.address in answer["text"]
        assert 250 < answer["ms"] < 300 + SLACK_MS
    any_store.resume()
    assert store.get("a") == b"b"


def test_a_host_that_cannot_be_found(any_store, open_store):  # noqa: F811
    name = f"no-such-host.invalid:{any_store.port}"
    store = open_store(any_store.url.replace(any_store.address, name))
    answer = store.answer("get", key="a", timeout_ms=2000)
    assert answer["name"] in ("ERR_CONNECT", "ERR_TIMED_OUT"), answer
    assert name in answer["text"] and answer["ms"] < 2000 + SLACK_MS


def curl_waits_for_name_servers():
    """Older ones do, whatever the timeout is."""
    library = ctypes.util.find_library("curl") or ctypes.util.find_library("curl-gnutls")
    if not library:
        return False
    version = ctypes.CDLL(library).curl_version
    version.restype = ctypes.c_char_p
    found = re.match(rb"libcurl/(\d+)\.(\d+)", version())
    return (int(found[1]), int(found[2])) < (7, 87)


@pytest.mark.parametrize("url", ["http://name:1/metadata", "etcd://name:1", "redis://name:1"])
def test_a_name_server_that_does_not_answer(build_dir, open_store, url):
    if not url.startswith("redis") and curl_waits_for_name_servers():
        pytest.skip("this libcurl waits for name servers")
    store = open_store(url, preload=build_dir / "tests/fake/silent_names/libsilent_names.so")
    for _ in range(2):
        answer = store.answer("get", key="a", timeout_ms=300)
        assert answer["name"] == "ERR_TIMED_OUT" and answer["ms"] < 300 + SLACK_MS, answer


@pytest.mark.parametrize(
    "url, part",
    [
        ("http://", "no host"),
        ("http:", "no host"),
        ("http://me:secret@127.0.0.1/x", "metadata/user"),
        ("http://127.0.0.1:99999/x", "HOST:PORT"),
        ("http://127.0.0.1/a b", "%XX"),
        ("http://127.0.0.1/a#b", "fragment"),
        ("http://127.0.0.1/" + 2100 * "a", "too long"),
        ("etcd", "no host"),
        ("etcd://", "no host"),
        ("etcd://me:secret@127.0.0.1:2379", "metadata/user"),
        ("etcd://127.0.0.1:2379/x", "etcd://HOST:PORT"),
        ("etcd://" + ",".join(20 * ["127.0.0.1"]), "too many"),
        ("redis://", "no host"),
        ("redis://:secret@127.0.0.1", "metadata/user"),
        ("redis://127.0.0.1:6379/3", "metadata/database"),
    ],
)
def test_a_url_that_is_wrong_is_refused_with_a_reason(build_dir, url, part):
    with pytest.raises(PeerError) as caught:
        Store(build_dir, url)
    assert caught.value.name == "CONFIG" and part in caught.value.text
    assert "secret" not in caught.value.text


@pytest.mark.parametrize(
    "url, sonames, advice",
    [
        ("http://127.0.0.1:1", ["libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4"], "install libcurl4"),
        (
            "redis://127.0.0.1:1",
            [f"libhiredis.so.{version}" for version in ("0.13", "0.14", "1", "1.0.0", "1.1.0", "1.2.0", "1.3.0")],
            "install libhiredis",
        ),
    ],
)
def test_a_library_that_cannot_be_had_is_asked_for(build_dir, tmp_path, url, sonames, advice):
    for name in sonames:
        (tmp_path / name).write_text("no library")
    with pytest.raises(PeerError) as caught:
        Store(build_dir, url, libraries=tmp_path)
    assert advice in caught.value.text and "\n" not in caught.value.text


def test_both_layouts_of_hiredis_are_known_and_no_other(build_dir, start_redis):  # noqa: F811
    server = start_redis()
    store = Store(build_dir, server.url, libraries=build_dir / "tests/fake/hiredis_1", lease=60000)
    try:
        store.put("a", b"one\0two")
        assert store.get("a") == b"one\0two"
        store.call("keep")
        store.call("del", key="a")
        assert store.status_of("get", key="a") == "NOT_FOUND"
    finally:
        store.dispose()
    with pytest.raises(PeerError, match="not known"):
        Store(build_dir, server.url, libraries=build_dir / "tests/fake/hiredis_unknown")


# ------------------------------------------------------------------------------------------------ leases


@pytest.fixture(params=["etcd", "redis"])
def lease_store(request):
    return request.getfixturevalue(f"start_{request.param}")()


def test_keys_end_with_their_lease_unless_they_are_kept(lease_store, open_store):
    kept, left = open_store(lease_store.url, lease=1500), open_store(lease_store.url, lease=1500)
    kept.put("kept", b"1")
    left.put("left", b"2")

    def left_is_gone():
        kept.call("keep")
        return lease_store.get("left") is None

    until(left_is_gone)
    assert lease_store.get("kept") == b"1"
    assert left.status_of("keep") == "NOT_FOUND"
    left.put("left", b"3")
    left.call("keep")
    assert lease_store.get("left") == b"3"


def test_a_crashed_engine_leaves_nothing_for_long(lease_store, open_store):
    store = open_store(lease_store.url, lease=1000)
    store.put("mooncake/ram/a", b"1")
    store.kill()
    until(lambda: lease_store.keys() == [])


def test_keep_tells_that_the_store_lost_its_data(lease_store, open_store):
    store = open_store(lease_store.url, lease=60000)
    store.put("a", b"1")
    store.put("b", b"2")
    store.call("keep")
    lease_store.restart()
    store.call("keep")
    assert lease_store.keys() == ["a", "b"]
    lease_store.restart(lost=True)
    answer = store.answer("keep")
    assert answer["name"] == "ERR_NOT_FOUND", answer
    assert answer["text"] == f"{lease_store.scheme} {lease_store.address}: it has lost keys, all have to be put again"
    store.put("a", b"1")
    assert store.status_of("keep") == "NOT_FOUND"  # one is still missing
    store.put("b", b"2")
    store.call("keep")
    assert lease_store.keys() == ["a", "b"]


@pytest.mark.parametrize("lease", [0, 60000])
def test_keep_looks_at_each_key(lease_store, open_store, lease):
    store = open_store(lease_store.url, lease=lease)
    store.call("keep")  # nothing was put
    for number in range(200):
        store.put(f"k{number}", b"x")
    store.call("keep")
    lease_store.delete("k150")
    assert store.status_of("keep") == "NOT_FOUND"
    store.put("k150", b"y")
    store.call("keep")
    store.call("del", key="k0")
    store.call("keep")


def test_keep_and_a_server_that_is_down(lease_store, open_store):
    store = open_store(lease_store.url, lease=60000)
    store.put("a", b"1")
    lease_store.kill()
    answer = store.answer("keep", timeout_ms=1000)
    assert answer["name"] == "ERR_CONNECT" and "connection refused" in answer["text"]
    lease_store.restart()
    store.call("keep")


def test_without_a_lease_keys_stay(lease_store, open_store):
    store = open_store(lease_store.url, lease=0)
    store.put("a", b"1")
    store.kill()
    if lease_store.scheme == "redis":
        assert lease_store.call("PTTL", "a") == -1
    else:
        assert lease_store.leases() == []


def test_a_put_after_the_lease_was_revoked_makes_a_new_one(start_etcd, open_store):  # noqa: F811
    server = start_etcd()
    store = open_store(server.url, lease=60000)
    store.put("a", b"1")
    store.put("b", b"2")
    server.revoke(server.leases()[0])
    assert server.keys() == []
    store.put("a", b"3")
    assert server.get("a") == b"3"
    assert store.status_of("keep") == "NOT_FOUND"  # b went with the old one
    store.put("b", b"4")
    store.call("keep")
    store.call("del", key="a")
    store.call("del", key="b")
    assert server.leases() == []  # nothing is left of us


def test_the_lease_goes_with_the_last_key_only(start_etcd, open_store):  # noqa: F811
    server = start_etcd()
    store = open_store(server.url, lease=60000)
    for round_ in range(3):
        store.put("a", b"%d" % round_)
        store.put("b", b"x")
        assert len(server.leases()) == 1
        store.call("del", key="a")
        assert len(server.leases()) == 1
        store.call("del", key="b")
        assert server.leases() == []


# --------------------------------------------------------------------------------------- etcd's members


def test_another_member_of_etcd_is_asked_when_one_is_down_or_silent(start_etcd, open_store):  # noqa: F811
    dead, alive = start_etcd(), start_etcd()
    store = open_store(f"etcd://{dead.address},{alive.address}", lease=60000)
    dead.kill()
    store.put("a", b"1")
    assert alive.get("a") == b"1"
    dead.restart()
    dead.put("a", b"other")
    assert store.get("a") == b"1"  # the one that answered is asked first
    alive.stop()
    answer = store.answer("get", key="a", timeout_ms=1000)
    assert bytes.fromhex(answer["value"]) == b"other" and 400 < answer["ms"] < 1000 + SLACK_MS
    dead.stop()
    answer = store.answer("get", key="a", timeout_ms=600)
    assert answer["name"] == "ERR_TIMED_OUT" and answer["ms"] < 600 + SLACK_MS
    alive.resume()
    dead.resume()
    dead.kill()
    assert store.get("a") == b"1"


# ------------------------------------------------------------------------------------ passwords, databases


def test_etcd_with_users(start_etcd, open_store):  # noqa: F811
    server = start_etcd()
    server.protect(user="cw", password="hunter2")
    server.put("a", b"1")
    store = open_store(server.url)
    answer = store.answer("get", key="a")
    assert answer["name"] == "ERR_PERMISSION"
    assert answer["text"] == f"etcd {server.address}: it wants a user: set metadata/user and metadata/password"
    store = open_store(server.url, user="cw", password="hunter3")
    answer = store.answer("get", key="a")
    assert answer["name"] == "ERR_PERMISSION"
    assert answer["text"] == f"etcd {server.address}: metadata/user or metadata/password is wrong"
    store = open_store(server.url, user="cw", password="hunter2", lease=60000)
    assert store.get("a") == b"1"
    store.put("b", b"2")
    store.call("keep")
    server.restart()  # forgets the tokens
    assert store.get("b") == b"2"
    store.call("keep")
    store = open_store(start_etcd().url, user="cw", password="hunter2")
    answer = store.answer("get", key="a")
    assert answer["name"] == "ERR_PERMISSION" and "has no users" in answer["text"]


def test_a_password_without_a_user_is_not_for_etcd(build_dir):
    with pytest.raises(PeerError, match="without metadata/user"):
        Store(build_dir, "etcd://127.0.0.1:1", password="x")


@pytest.mark.parametrize("user", [None, "cw"])
def test_redis_with_a_password(start_redis, open_store, user):  # noqa: F811
    name = {"user": user} if user else {}
    server = start_redis(password="hunter2", **name)
    server.put("a", b"1")
    assert open_store(server.url, password="hunter2", **name).get("a") == b"1"
    answer = open_store(server.url, password="hunter3", **name).answer("get", key="a")
    assert answer["name"] == "ERR_PERMISSION", answer
    assert answer["text"] == f"redis {server.address}: WRONGPASS: metadata/user or metadata/password is wrong"
    if not user:
        answer = open_store(server.url).answer("get", key="a")
        assert answer["name"] == "ERR_PERMISSION", answer
        assert answer["text"] == f"redis {server.address}: NOAUTH: set metadata/password"
    answer = open_store(start_redis().url, password="hunter2").answer("get", key="a")
    assert answer["name"] == "ERR_PERMISSION" and "leave metadata/password empty" in answer["text"]


def test_a_password_that_the_server_repeats_is_not_shown(start_redis, open_store):  # noqa: F811
    server = start_redis(options=["--rename-command", "AUTH", ""])
    answer = open_store(server.url, password="hunter2").answer("get", key="a")
    assert answer["name"] == "ERR_PROTOCOL" and "hunter2" not in answer["text"], answer


def test_databases_of_redis_are_apart(start_redis, open_store):  # noqa: F811
    server = start_redis()
    store = open_store(server.url, database=7)
    store.put("a", b"7")
    assert (server.get("a"), server.get("a", database=7)) == (None, b"7")
    server.restart()
    assert store.get("a") == b"7"
    answer = open_store(server.url, database=200).answer("get", key="a")
    assert answer["name"] == "ERR_PERMISSION" and "metadata/database" in answer["text"], answer


def test_a_key_that_holds_something_else_and_a_full_server(start_redis, open_store):  # noqa: F811
    server = start_redis()
    server.call("LPUSH", "list", "x")
    store = open_store(server.url)
    answer = store.answer("get", key="list")
    assert answer["name"] == "ERR_PROTOCOL" and "WRONGTYPE" in answer["text"]
    store.put("list", b"now a text")
    server.call("CONFIG", "SET", "maxmemory", "1")
    answer = store.answer("put", key="a", value="00")
    assert answer["name"] == "ERR_LIMIT" and "OOM" in answer["text"]


def test_a_value_that_is_too_long_for_etcd(start_etcd, open_store):  # noqa: F811
    answer = open_store(start_etcd().url).answer("put", key="a", value="00" * (2 << 20), timeout_ms=10000)
    assert answer["name"] == "ERR_LIMIT" and "max-request-bytes" in answer["text"], answer


# ---------------------------------------------------------------------------------------- strange web servers


@pytest.mark.parametrize(
    "mode, name, part",
    [
        ("silent", "TIMED_OUT", "no answer within 400 ms"),
        ("trickle", "TIMED_OUT", "no answer within 400 ms"),
        ("endless_headers", None, ""),  # newer curls have a limit on headers
        ("garbage", "PROTOCOL", "does not speak HTTP"),
        ("early", "IO", "middle of its answer"),
        ("hangup", "IO", "without an answer"),
        ("error", "IO", "answered GET with 500 (out of order)"),
        ("unauthorized", "PERMISSION", "set metadata/user and metadata/password"),
        ("redirect", "PROTOCOL", "answered GET with 302"),
    ],
)
def test_a_web_server_that_misbehaves(start_http, open_store, mode, name, part):  # noqa: F811
    server = start_http()
    store = open_store(server.url)
    store.put("a", b"1")
    server.behave(mode)
    answer = store.answer("get", key="a", timeout_ms=400)
    assert answer["name"] == f"ERR_{name}" or name is None and answer["status"] < 0, answer
    assert answer["text"].startswith(f"http {server.address}: ") and part in answer["text"], answer
    assert answer["ms"] < 400 + SLACK_MS, answer
    assert store.status_of("put", key="a", value="00", timeout_ms=400) != "OK"
    assert store.status_of("del", key="a", timeout_ms=400) != "OK"
    server.behave("good")
    assert store.get("a") == b"1"


def test_an_endless_answer_is_cut(start_http, open_store):  # noqa: F811
    server = start_http()
    store = open_store(server.url)
    server.behave("huge")
    answer = store.answer("get", key="a", timeout_ms=10000)
    assert answer["name"] in ("ERR_LIMIT", "ERR_TIMED_OUT"), answer
    answer = store.answer("put", key="a", value="00", timeout_ms=10000)
    assert answer["name"] == "ERR_LIMIT" and "longer than 65536 bytes" in answer["text"], answer


def test_a_call_that_waits_does_not_hold_up_the_others(start_http, open_store):  # noqa: F811
    server = start_http()
    store = open_store(server.url)
    server.behave("silent", key="silent")
    store.call("load", threads=4, timeout_ms=3000)
    assert store.status_of("get", key="silent", timeout_ms=1500) == "TIMED_OUT"
    done = store.call("rest")
    assert done["failed"] == 0 and done["calls"] > 50 and done["slowest_ms"] < 1000, done


def test_web_requests_are_as_mooncake_s(start_http, open_store):  # noqa: F811
    server = start_http(variant="python")
    store = open_store(server.url)
    store.put("mooncake/rpc_meta/a", b"1")
    store.put("mooncake/rpc_meta/a", b"2")
    store.get("mooncake/rpc_meta/a")
    store.call("del", key="mooncake/rpc_meta/a")
    asked = ["PUT", "PUT", "DELETE", "PUT", "GET", "DELETE"]
    assert server.requests() == [[method, "/metadata", "mooncake/rpc_meta/a"] for method in asked]


# ------------------------------------------------------------------------------------------------- engines


@pytest.mark.parametrize("kind", ["etcd", "redis"])
def test_an_engine_with_a_password_does_not_tell_it(request, run, build_dir, kind, tmp_path):
    if kind == "etcd":
        server = request.getfixturevalue("start_etcd")()
        server.protect(user="cw", password="hunter2")
    else:
        server = request.getfixturevalue("start_redis")(user="cw", password="hunter2")
    settings = {"metadata/url": server.url, "metadata/user": "cw", "metadata/name": "alpha"}
    log = tmp_path / "log"
    with open(log, "wb") as stream:
        engine = Peer([build_dir / "bin/cwpeer"], stderr=stream)
    try:
        engine.open("127.0.0.1", **settings, **{"metadata/password": "hunter2", "log/level": "trace"})
        assert server.keys() == ["mooncake/ram/alpha", "mooncake/rpc_meta/alpha"]
        assert engine.quit() == 0
        assert server.keys() == []
    finally:
        engine.dispose()
    assert b"hunter2" not in log.read_bytes()
    environment = {**os.environ, "CW_METADATA_URL": server.url, "CW_METADATA_USER": "cw"}
    done = run("causeway", "config", env={**environment, "CW_METADATA_PASSWORD": "hunter2"})
    assert done.returncode == 0 and "***" in done.stdout and "hunter2" not in done.stdout + done.stderr
    done = run("causeway", "config", env={**environment, "CW_METADATA_PASSWORD": "hunter3"})
    assert "hunter3" not in done.stdout + done.stderr and "metadata/password is wrong" in done.stderr
