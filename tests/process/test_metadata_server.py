# SPDX-License-Identifier: Apache-2.0
"""`causeway metadata-server`: its protocol, limits and file, what hostile clients and kills do to it, and the real
Mooncake engine as its client."""

import http.client
import json
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
import urllib.parse
from pathlib import Path

import pytest

from mooncake_wheel import wheel_python  # noqa: F401 (fixture)

pytestmark = pytest.mark.timeout(120)
RPC_KEY = "mooncake/rpc_meta/host:1"


class MetadataServer:
    """A server on a free loopback port."""

    def __init__(self, spawn, *options):
        self.spawn, self.options = spawn, options
        self.start()

    def start(self):
        self.process = self.spawn(
            "causeway", "metadata-server", "--port", "0", *map(str, self.options), stderr=subprocess.PIPE, text=True
        )
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        line = self.process.stdout.readline() if ready else ""
        found = re.fullmatch(r"metadata server: http://(\[.*\]|[\d.]+):(\d+)(/\S*)\n", line)
        assert found, (line, self.process.poll() is not None and self.process.stderr.read())
        self.host, self.port, self.path = found[1].strip("[]"), int(found[2]), found[3]

    def connect(self):
        return socket.create_connection((self.host, self.port), timeout=10)

    def call(self, method, key=None, body=None, path=None, headers=None, **arguments):
        """(status, body) of one request, on a connection of its own."""
        query = urllib.parse.urlencode({**({"key": key} if key is not None else {}), **arguments})
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, f"{path or self.path}?{query}", body=body, headers=headers or {})
            answer = connection.getresponse()
            self.headers = answer.headers
            return answer.status, answer.read()
        finally:
            connection.close()

    def metrics(self):
        status, text = self.call("GET", path="/metrics")
        assert status == 200
        found = re.findall(r"^causeway_metadata_(\w+)(?:\{(.*)\})? (\d+)$", text.decode(), re.M)
        return {f"{name}{{{labels}}}" if labels else name: int(value) for name, labels, value in found}

    def end(self, number=signal.SIGTERM):
        """Ends it; returns (exit status, what it wrote to stderr)."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.fixture
def servers(spawn):
    return lambda *options: MetadataServer(spawn, *options)


def fill_until(server, stop, number):
    """Puts key after key until the server is gone; returns what it confirmed."""
    done = []
    while not stop.is_set():
        key = f"{number}/{len(done)}"
        try:
            if server.call("PUT", key, key * 50)[0] != 200:
                break
        except (OSError, http.client.HTTPException):
            break
        done.append(key)
    return done


def test_protocol(servers):
    server = servers()
    key = "mooncake/ram/10.0.0.1:12345 äöü+&%"
    assert server.call("GET", key) == (404, b"metadata not found")
    as_json = {"Content-Type": "application/json"}
    assert server.call("PUT", key, '{"a": 1}', headers=as_json) == (200, b"metadata updated")
    assert server.call("GET", key) == (200, b'{"a": 1}')
    assert server.headers["Content-Type"] == "application/json; charset=utf-8"
    assert server.call("PUT", key, "") == (200, b"metadata updated")
    assert server.call("GET", key) == (200, b"")
    assert server.call("PUT", key, bytes(range(256)))[0] == 200
    assert server.call("GET", key) == (200, bytes(range(256)))
    assert server.call("DELETE", key) == (200, b"metadata deleted")
    assert server.call("DELETE", key) == (404, b"metadata not found")
    assert server.call("GET", key)[0] == 404
    assert server.call("GET", path="/health") == (200, b"ok")
    assert server.end() == (0, "")


def test_refusals(servers):
    server = servers("--max-value", 1000)
    for method in ("GET", "PUT", "DELETE"):
        assert server.call(method, "") == (400, b"metadata key is required")
        assert server.call(method) == (400, b"metadata key is required")
        assert server.call(method, path="/other", key="a")[0] == 404
    assert server.call("GET", "x" * 5000) == (400, b"metadata key is too long")
    assert server.call("PUT", "a\0b", "1") == (400, b"metadata key must not contain a NUL byte")
    for method in ("POST", "PATCH", "OPTIONS", "BREW"):
        assert server.call(method, "a", "body") == (405, b"method not allowed")
        assert server.headers["Allow"] == "GET, PUT, DELETE"
    assert server.call("HEAD", "a")[0] == 405
    assert server.call("DELETE", path="/metrics")[0] == 405
    assert server.call("PUT", "a", "x" * 1000)[0] == 200
    assert server.call("PUT", "a", "x" * 1001)[0] == 413
    assert server.call("PUT", "a", (b"x" * 100 for _ in range(11)))[0] == 413
    waiting = b"PUT /metadata?key=a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    for length, wanted in ((1 << 40, b"HTTP/1.1 413 "), (5, b"HTTP/1.1 100 ")):
        with server.connect() as connection:
            connection.sendall(waiting % length)
            assert connection.recv(100).startswith(wanted)
    assert server.call("GET", "a") == (200, b"x" * 1000)
    assert server.end(signal.SIGINT) == (0, "")


@pytest.mark.parametrize("allowed", ["on", "off"])
def test_duplicates(servers, allowed):
    server = servers("--allow-duplicate", allowed)
    assert server.call("PUT", RPC_KEY, "1")[0] == 200
    second = server.call("PUT", RPC_KEY, "2")
    assert second == ((200, b"metadata updated") if allowed == "on" else (400, b"Duplicate rpc_meta key not allowed"))
    assert server.call("GET", RPC_KEY) == (200, b"2" if allowed == "on" else b"1")
    for value in ("3", "4"):  # other keys are always replaced
        assert server.call("PUT", "mooncake/ram/host:1", value)[0] == 200
    assert server.call("DELETE", RPC_KEY)[0] == 200
    assert server.call("PUT", RPC_KEY, "5")[0] == 200


def test_limits_and_metrics(servers):
    server = servers("--max-keys", 3, "--max-memory", "64k", "--max-value", "1m")
    for name in "abc":
        assert server.call("PUT", name, "1")[0] == 200
    status, text = server.call("PUT", "d", "1")
    assert status == 507 and b"--max-keys" in text
    assert server.call("PUT", "a", "2")[0] == 200
    status, text = server.call("PUT", "a", "x" * 100000)
    assert status == 507 and b"--max-memory" in text
    assert server.call("GET", "a") == (200, b"2")

    found = server.metrics()
    assert found["keys"] == 3 and found["file_bytes"] == 0 and found["uptime_seconds"] < 60
    assert found['requests_total{method="PUT",status="200"}'] == 4
    assert found['requests_total{method="PUT",status="507"}'] == 2
    before = found["bytes"]
    assert server.call("DELETE", "a")[0] == 200
    assert server.call("PUT", "a", "2")[0] == 200
    assert server.metrics()["bytes"] == before  # nothing stays behind of what was refused, replaced or deleted


def test_small_values_take_the_memory_that_is_counted(servers, build_dir):
    program = (build_dir / "bin/causeway").read_bytes()
    if any(name in program for name in (b"__asan_init", b"__tsan_init")):
        pytest.skip("sanitizers have much memory of their own")
    server = servers()
    connection = http.client.HTTPConnection(server.host, server.port, timeout=20)

    def resident():
        status = Path(f"/proc/{server.process.pid}/status").read_text(encoding="ascii")
        return int(re.search(r"^VmRSS:\s+(\d+) kB", status, re.M)[1]) << 10

    before = resident()
    for number in range(5000):
        connection.request("PUT", f"{server.path}?key={number}", body="x" * 100)
        assert connection.getresponse().read() == b"metadata updated"
    connection.close()
    counted = server.metrics()["bytes"]
    assert resident() - before < 3 * counted + (4 << 20), counted


def test_expiry(servers):
    server = servers("--expire", 0.2)
    assert server.call("PUT", "a", "1")[0] == 200
    deadline = time.monotonic() + 10
    while server.call("GET", "a")[0] == 200:
        assert time.monotonic() < deadline
    assert server.metrics()["keys"] == 0
    assert server.call("DELETE", "a")[0] == 404


def test_many_threads(servers):
    server = servers("--max-connections", 64)
    wrong = []

    def work(number):
        connection = http.client.HTTPConnection(server.host, server.port, timeout=20)
        for turn in range(40):
            body = json.dumps({"thread": number, "turn": turn})
            for method, data in (("PUT", body), ("GET", None), ("DELETE", None)):
                connection.request(method, f"{server.path}?key=k{number}", body=data)
                answer = connection.getresponse()
                text = answer.read().decode()
                if answer.status != 200 or (method == "GET" and text != body):
                    wrong.append((number, turn, method, answer.status, text))
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not wrong
    found = server.metrics()
    assert found["keys"] == 0
    assert found['requests_total{method="PUT",status="200"}'] == 16 * 40


HOSTILE = [
    b"",
    b"\r\n\r\n\r\n",
    b"\0" * 1000,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64),
    b"GET /metadata?key=" + b"x" * 100000 + b" HTTP/1.1\r\n\r\n",
    b"GET /metadata?key=%zz%0%%% HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /metadata?" + b"key&" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    b"PUT /metadata?key=h HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nx",
    b"PUT /metadata?key=h HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
    b"PUT /metadata?key=h HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nonly a part",
    b"PUT /metadata?key=h HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
    b"PUT /metadata?key=h HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nxxxxx\r\n0\r\n\r\n",
    b"GET /metadata?key=h HTTP/9.9\r\n" + b"A: b\r\n" * 20000 + b"\r\n",
    b"GET ../../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n",
]


def test_hostile_bytes(servers):
    server = servers("--max-value", "4k")
    assert server.call("PUT", "a", "1")[0] == 200
    before = server.metrics()["bytes"]
    for head in HOSTILE:
        with server.connect() as connection:
            try:
                connection.sendall(head)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError as error:  # it may close as soon as it has seen enough
                assert not isinstance(error, TimeoutError), head[:60]
        assert server.call("GET", "a") == (200, b"1"), head[:60]
    assert server.call("GET", "h")[0] == 404
    assert server.metrics()["bytes"] == before
    assert server.end() == (0, "")


def test_silent_connections_take_nothing_from_others(servers):
    server = servers("--max-connections", 64)
    silent = [server.connect() for _ in range(32)]
    for connection in silent[::2]:
        connection.sendall(b"PUT /metadata?key=slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
    for _ in range(20):
        assert server.call("PUT", "a", "1")[0] == 200
    silent += [server.connect() for _ in range(40)]  # more than it takes
    assert server.end() == (0, "")
    for connection in silent:
        connection.close()


def test_file_survives_a_kill(servers, tmp_path):
    """What was confirmed is there after SIGKILL in the middle of work, several times over."""
    server = servers("--persist", tmp_path / "metadata")
    confirmed = set()
    for turn in range(3):
        stop, results = threading.Event(), [[] for _ in range(4)]

        def work(number, turn=turn, stop=stop, results=results):
            results[number] = fill_until(server, stop, f"{turn}-{number}")

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + 20
        while server.metrics()["keys"] < len(confirmed) + 40:
            assert time.monotonic() < deadline
        server.end(signal.SIGKILL)
        stop.set()
        for thread in threads:
            thread.join(30)
        confirmed.update(*results)
        server.start()
        for key in confirmed:
            assert server.call("GET", key) == (200, (key * 50).encode())
    for key in list(confirmed)[:10]:
        assert server.call("DELETE", key)[0] == 200
        confirmed.remove(key)
    server.end(signal.SIGKILL)
    server.start()
    # A put that was cut off by the kill may have got in, without an answer: at most one of each thread.
    assert len(confirmed) <= server.metrics()["keys"] <= len(confirmed) + 12
    assert server.end()[0] == 0


def test_file_is_rewritten_when_it_is_history(servers, tmp_path):
    path = tmp_path / "metadata"
    server = servers("--persist", path)
    for turn in range(60):
        assert server.call("PUT", "a", f"{turn:03}" + "x" * 100000)[0] == 200
    assert path.stat().st_size < 3_000_000
    server.end(signal.SIGKILL)
    server.start()
    assert server.call("GET", "a")[1].startswith(b"059")
    assert not (tmp_path / "metadata.new").exists()


@pytest.mark.parametrize("damage", ["cut", "torn header", "overwritten", "zeros"])
def test_damaged_end_of_file(servers, tmp_path, damage):
    path = tmp_path / "metadata"
    server = servers("--persist", path)
    for name in "abc":
        assert server.call("PUT", name, "1" * 100)[0] == 200
    assert server.end() == (0, "")
    whole = path.read_bytes()
    record = (len(whole) - 8) // 3
    left = {
        "cut": whole[:-10],
        "torn header": whole[: -record + 5],
        "overwritten": whole[:-50] + b"?" + whole[-49:],
        "zeros": whole[:-record] + bytes(record),
    }[damage]
    path.write_bytes(left)

    server.start()
    assert [server.call("GET", name)[0] for name in "abc"] == [200, 200, 404]
    assert server.call("PUT", "d", "2")[0] == 200
    status, errors = server.end()
    assert status == 0 and len(errors.splitlines()) == 1 and str(path) in errors
    kept = tmp_path / "metadata.damaged"
    if damage in ("overwritten", "zeros"):
        assert kept.read_bytes() == left and str(kept) in errors
    else:
        assert not kept.exists()
    server.start()
    assert [server.call("GET", name)[0] for name in "abcd"] == [200, 200, 404, 200]
    assert server.end() == (0, "")


def test_expiry_counts_the_time_that_the_server_was_down(servers, tmp_path):
    server = servers("--persist", tmp_path / "metadata")
    assert server.call("PUT", "a", "1")[0] == 200
    put = time.time()
    assert server.end()[0] == 0
    while time.time() < put + 0.1:
        os.sched_yield()
    server.options = [*server.options, "--expire", 0.1]
    server.start()
    assert server.metrics()["keys"] == 0


def test_full_disk_is_told_and_leaves_the_file_whole(servers, tmp_path):
    """A limit on the size of files stands for a full disk."""
    path = tmp_path / "metadata"
    server = servers("--persist", path)
    assert server.call("PUT", "a", "1")[0] == 200
    subprocess.run(["prlimit", f"--pid={server.process.pid}", "--fsize=4096:4096"], check=True, timeout=10)
    status, text = server.call("PUT", "b", "x" * 10000)
    assert status == 500 and str(path).encode() in text
    assert server.call("PUT", "c", "2")[0] == 200
    server.end(signal.SIGKILL)
    server.start()
    assert [server.call("GET", name)[0] for name in "abc"] == [200, 404, 200]
    assert server.end() == (0, "")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (["--port", "70000"], "--port is from 0 to 65535"),
        (["--path", "metadata"], "not a value for --path"),
        (["--path", "/metrics"], "not a value for --path"),
        (["--max-value", "3g"], "--max-value"),
        (["--max-keys", "0"], "at least 1"),
        (["--allow-duplicate", "perhaps"], "off|on"),
        (["--host", "256.1.1.1"], "--host 256.1.1.1"),
        (["--persit", "x"], "did you mean --persist"),
    ],
)
def test_wrong_options(run, options, wanted):
    done = run("causeway", "metadata-server", *options)
    assert done.returncode in (1, 2) and wanted in done.stderr


def test_wrong_places(servers, run, tmp_path):
    path = tmp_path / "metadata"
    server = servers("--persist", path)
    again = run("causeway", "metadata-server", "--port", "0", "--persist", path)
    assert again.returncode == 1 and "in use by another" in again.stderr
    again = run("causeway", "metadata-server", "--port", str(server.port))
    assert again.returncode == 1 and "cannot listen on 127.0.0.1" in again.stderr and "--port" in again.stderr
    foreign = tmp_path / "foreign"
    foreign.write_text("precious, and not ours")
    again = run("causeway", "metadata-server", "--port", "0", "--persist", foreign)
    assert again.returncode == 1 and "is not a file of" in again.stderr
    assert foreign.read_text() == "precious, and not ours"


def test_without_the_library(build_dir, tmp_path):
    """One line that says what to install; the rest of the tool works."""
    (tmp_path / "libmicrohttpd.so.12").write_text("not a library")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(
        [build_dir / "bin/causeway", "metadata-server", "--port", "0"],
        env=environment, capture_output=True, text=True, timeout=20, check=False,
    )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1 and "libmicrohttpd12" in done.stderr


WHEEL_PROGRAM = """
import ctypes, sys
from mooncake.engine import TransferEngine
memory, engines = [], []
for name in ("127.0.0.1:{}".format(port) for port in sys.argv[2:]):
    engine = TransferEngine()
    assert engine.initialize(name, sys.argv[1], "tcp", "") == 0
    block = ctypes.create_string_buffer(65536)
    assert engine.register_memory(ctypes.addressof(block), 65536) == 0
    engines.append(engine)
    memory.append(block)
memory[0].raw = bytes(range(256)) * 256
there = engines[0].get_first_buffer_address("127.0.0.1:" + sys.argv[3])
assert there == ctypes.addressof(memory[1])
assert engines[0].transfer_sync_write("127.0.0.1:" + sys.argv[3], ctypes.addressof(memory[0]), there, 65536) == 0
assert memory[1].raw == memory[0].raw
print("moved", flush=True)
sys.stdin.read()
"""


def test_the_real_wheel_is_a_client(servers, wheel_python):  # noqa: F811
    server = servers()
    url = f"http://127.0.0.1:{server.port}{server.path}"
    names = ["1", "2"]
    process = subprocess.Popen(
        [wheel_python, "-c", WHEEL_PROGRAM, url, *names],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "MC_FORCE_TCP": "1"},
    )
    try:
        ready, _, _ = select.select([process.stdout], [], [], 60)
        assert ready and process.stdout.readline() == b"moved\n", process.communicate(timeout=20)[1].decode()[-2000:]
        for name in names:
            status, text = server.call("GET", f"mooncake/ram/127.0.0.1:{name}")
            assert status == 200 and json.loads(text)["name"] == f"127.0.0.1:{name}"
            status, text = server.call("GET", f"mooncake/rpc_meta/127.0.0.1:{name}")
            assert status == 200 and json.loads(text)["rpc_port"] > 0
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait(10)
