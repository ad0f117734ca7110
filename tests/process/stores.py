# SPDX-License-Identifier: Apache-2.0
"""Metadata stores for tests: real etcd and redis, and a foreign HTTP server, on loopback ports in temporary folders.

    from stores import any_store, start_etcd, start_http, start_redis  # noqa: F401 (fixtures)

start_redis(), start_etcd() and start_http() return a started server. What it offers:

    server.url              for the setting metadata/url (and Mooncake's connection string): "redis://127.0.0.1:4711"
    server.get(key)         bytes, or None; put(key, value), delete(key), keys() -> sorted list of str; all without
                            Causeway
    server.kill()           SIGKILL, returns when the process is gone
    server.restart(lost=False)  on the same port; lost=True: without its data (an HTTP server always forgets)
    server.stop(), server.resume()  SIGSTOP and SIGCONT: it accepts connections but does not answer

`any_store` is one such server; a test that uses it runs once for each kind. All are gone at the end of their test.

etcd and redis come from PATH, else from Debian's packages, which are unpacked, not installed, into
${XDG_CACHE_HOME:-~/.cache}/causeway/servers. Where they cannot be had the tests are skipped.
"""

import base64
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PACKAGES = ["etcd-server", "redis-server"]
PROGRAMS = ["etcd", "redis-server"]
START_SECONDS = 30
CALL_SECONDS = 10
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def execute(arguments, timeout=120, **options):
    """Runs to the end; returns its output. OSError with the reason when it fails."""
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False, **options
        )
    except subprocess.TimeoutExpired as error:
        raise OSError(str(error)) from error
    if done.returncode:
        raise OSError((done.stderr.strip().splitlines() or [f"{arguments[0]}: {done.returncode}"])[-1])
    return done.stdout


def unpack(folder):
    """Debian's packages of the servers, with what they need and is not installed, unpacked into folder/root."""
    folder.mkdir(parents=True, exist_ok=True)
    plan = execute(["apt-get", "install", "--simulate", "--no-install-recommends", *PACKAGES])
    names = re.findall(r"^Inst (\S+)", plan, re.M)
    try:
        execute(["apt-get", "download", *names], cwd=folder)
    except OSError:  # the lists are older than what the mirror has
        execute(["apt-get", "update"])
        execute(["apt-get", "download", *names], cwd=folder)
    for package in folder.glob("*.deb"):
        execute(["dpkg-deb", "-x", str(package), str(folder / "root")])
        package.unlink()


def programs_below(root):
    """The environment with which the servers of an unpacked tree run, and their paths."""
    libraries = [str(path) for path in root.glob("usr/lib/*-linux-gnu")] + [str(root / "usr/lib")]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")])}
    return environment, {name: root / "usr/bin" / name for name in PROGRAMS}


@pytest.fixture(scope="session")
def store_programs():
    """(environment, {"etcd": path, "redis-server": path})"""
    found = {name: shutil.which(name) for name in PROGRAMS}
    if all(found.values()):
        return dict(os.environ), found
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causeway"
    cache.mkdir(parents=True, exist_ok=True)
    try:
        with open(cache / "servers.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            environment, paths = programs_below(cache / "servers/root")
            if not all(path.exists() for path in paths.values()):
                unpack(cache / "servers")
                environment, paths = programs_below(cache / "servers/root")
        for path in paths.values():
            execute([str(path), "--version"], env=environment)
    except OSError as error:
        pytest.skip(f"Debian's {' and '.join(PACKAGES)} cannot be had: {error}")
    return environment, paths


def free_loopback_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """One server process. Kinds differ in command(), scheme and how keys are read and written."""

    scheme = path = ""

    def __init__(self, folder, environment=None):
        self.folder, self.environment = folder, environment
        self.port = free_loopback_port()
        self.process = None
        folder.mkdir()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def url(self):
        return f"{self.scheme}://{self.address}{self.path}"

    @property
    def pid(self):
        return self.process.pid

    def command(self):
        raise NotImplementedError

    def is_ready(self):
        raise NotImplementedError

    def start(self):
        """Returns when it answers. At first start another port is tried when somebody took the one it was given."""
        first, deadline = self.process is None, time.monotonic() + START_SECONDS
        self._launch()
        while True:
            with contextlib.suppress(OSError, EOFError):
                if self.is_ready():
                    return self
            if self.process.poll() is not None and first:
                self.port = free_loopback_port()
                self._launch()
            assert time.monotonic() < deadline, f"{self.url} did not start: {self.log()}"
            time.sleep(0.02)

    def _launch(self):
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.folder
            )

    def log(self):
        return (self.folder / "log").read_text(errors="replace")[-2000:]

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
        if self.process:
            self.process.wait(10)

    def stop(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def restart(self, lost=False):
        self.kill()
        if lost:
            shutil.rmtree(self.folder / "data", ignore_errors=True)
        return self.start()


def fetch(method, url, body=None):
    """(status, body) of an HTTP request."""
    request = urllib.request.Request(url, data=body, method=method)
    try:
        with DIRECT.open(request, timeout=CALL_SECONDS) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


class Http(Server):
    """http_store.py. Its data do not outlive it."""

    scheme, path = "http", "/metadata"

    def __init__(self, folder, variant="go"):
        super().__init__(folder)
        self.variant = variant

    def command(self):
        return [sys.executable, HERE / "http_store.py", "--port", str(self.port), "--variant", self.variant]

    def is_ready(self):
        return fetch("GET", f"http://{self.address}/requests")[0] == 200

    def behave(self, mode, key=None):
        """See http_store.py."""
        about = f"&key={urllib.parse.quote(key, safe='')}" if key else ""
        assert fetch("PUT", f"http://{self.address}/behave?mode={mode}{about}", b"")[0] == 200

    def requests(self):
        """[method, path, key] of all requests for keys so far."""
        return json.loads(fetch("GET", f"http://{self.address}/requests")[1])

    def _key(self, method, key, body=None):
        return fetch(method, f"{self.url}?key={urllib.parse.quote(key, safe='')}", body)

    def get(self, key):
        status, body = self._key("GET", key)
        assert status in (200, 404), (status, body)
        return body if status == 200 else None

    def put(self, key, value):
        self.delete(key)
        assert self._key("PUT", key, value)[0] == 200

    def delete(self, key):
        assert self._key("DELETE", key)[0] in (200, 404)

    def keys(self):
        """Those that were ever put and are there now."""
        asked = {key for method, _, key in self.requests() if method == "PUT"}
        return sorted(key for key in asked if self.get(key) is not None)


class Etcd(Server):
    """One member without a quorum to wait for; leases may be as short as one second."""

    scheme = "etcd"

    def __init__(self, folder, programs, user=None, password=None):
        super().__init__(folder, programs[0])
        self.program = programs[1]["etcd"]
        self.credentials, self.token = (user, password), None

    def command(self):
        client, peer = f"http://{self.address}", "http://127.0.0.1:0"
        options = {
            "data-dir": self.folder / "data",
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
            "heartbeat-interval": 20,
            "election-timeout": 200,
        }
        return [self.program, "--unsafe-no-fsync", *(f"--{name}={value}" for name, value in options.items())]

    def is_ready(self):
        return json.loads(fetch("GET", f"http://{self.address}/health")[1]).get("health") in ("true", True)

    def call(self, path, again=True, **members):
        """A request of the v3 JSON gateway; bytes are sent as base64."""
        body = {
            name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
            for name, value in members.items()
        }
        request = urllib.request.Request(
            f"http://{self.address}/v3/{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": self.token} if self.token else {},
        )
        try:
            with DIRECT.open(request, timeout=CALL_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                text = error.read().decode(errors="replace")
            if again and self.token and "invalid auth token" in text:
                self.log_in()
                return self.call(path, again=False, **members)
            raise OSError(f"{path}: {text}") from error

    def protect(self, user="root", password="secret"):
        """Turns authentication on; `user` may do everything, nobody else anything."""
        self.call("auth/user/add", name=user, password=password)
        if user != "root":
            self.call("auth/user/add", name="root", password=password)
            self.call("auth/user/grant", user=user, role="root")
        self.call("auth/role/add", name="root")
        for name in {"root", user}:
            self.call("auth/user/grant", user=name, role="root")
        self.call("auth/enable")
        self.credentials = (user, password)
        self.log_in()

    def log_in(self):
        self.token = None
        name, password = self.credentials
        self.token = self.call("auth/authenticate", name=name, password=password)["token"]

    def get(self, key):
        found = self.call("kv/range", key=key.encode()).get("kvs")
        return base64.b64decode(found[0].get("value", "")) if found else None

    def put(self, key, value):
        self.call("kv/put", key=key.encode(), value=value)

    def delete(self, key):
        self.call("kv/deleterange", key=key.encode())

    def keys(self):
        found = self.call("kv/range", key=b"\0", range_end=b"\0", keys_only=True).get("kvs", [])
        return sorted(base64.b64decode(item["key"]).decode() for item in found)

    def leases(self):
        """The ids of all leases."""
        return [lease["ID"] for lease in self.call("lease/leases").get("leases", [])]

    def revoke(self, lease):
        self.call("lease/revoke", ID=lease)


class Redis(Server):
    """Writes every change to its log before it answers, so that kill() loses nothing."""

    scheme = "redis"

    def __init__(self, folder, programs, password=None, user=None, options=()):
        super().__init__(folder, programs[0])
        self.program = programs[1]["redis-server"]
        self.password, self.user, self.options = password, user, options

    def command(self):
        (self.folder / "data").mkdir(exist_ok=True)
        given = ["--port", str(self.port), "--bind", "127.0.0.1", "--daemonize", "no", "--save", ""]
        given += ["--appendonly", "yes", "--appendfsync", "no", "--dir", str(self.folder / "data"), *self.options]
        if self.user:
            given += ["--user", self.user, "on", f">{self.password}", "~*", "+@all"]
        elif self.password:
            given += ["--requirepass", self.password]
        return [self.program, *given]

    def is_ready(self):
        return self.call("PING") == b"PONG"

    def call(self, *words, database=0):
        """One command; its answer as bytes, int, list or None. OSError with the server's text when it refuses."""
        with socket.create_connection(("127.0.0.1", self.port), CALL_SECONDS) as connection:
            stream = connection.makefile("rb")
            if self.password:
                self._ask(connection, stream, "AUTH", *([self.user] if self.user else []), self.password)
            if database:
                self._ask(connection, stream, "SELECT", str(database))
            return self._ask(connection, stream, *words)

    def _ask(self, connection, stream, *words):
        command = b"*%d\r\n" % len(words)
        for word in words:
            data = word if isinstance(word, bytes) else str(word).encode()
            command += b"$%d\r\n%s\r\n" % (len(data), data)
        connection.sendall(command)
        return self._answer(stream)

    def _answer(self, stream):
        line = stream.readline()
        if not line.endswith(b"\r\n"):
            raise EOFError("redis closed the connection")
        kind, rest = line[:1], line[1:-2]
        if kind == b"-":
            raise OSError(rest.decode())
        if kind == b":":
            return int(rest)
        if kind == b"$":
            return None if rest == b"-1" else stream.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self._answer(stream) for _ in range(int(rest))]
        return rest

    def get(self, key, database=0):
        return self.call("GET", key, database=database)

    def put(self, key, value):
        self.call("SET", key, value)

    def delete(self, key):
        self.call("DEL", key)

    def keys(self):
        return sorted(key.decode() for key in self.call("KEYS", "*"))


@pytest.fixture
def started_servers(tmp_path, monkeypatch):
    """started_servers(kind, ...) makes and starts a server; all are killed at the end of the test."""
    monkeypatch.setenv("no_proxy", "*")  # libcurl would ask a proxy for loopback addresses, too
    servers = []

    def start(kind, *arguments, **options):
        server = kind(tmp_path / f"server-{len(servers)}", *arguments, **options)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.kill()


@pytest.fixture
def start_http(started_servers):
    """start_http(variant="go" or "python")"""
    return lambda **options: started_servers(Http, **options)


@pytest.fixture
def start_etcd(started_servers, store_programs):
    """start_etcd()"""
    return lambda **options: started_servers(Etcd, store_programs, **options)


@pytest.fixture
def start_redis(started_servers, store_programs):
    """start_redis(password=None, user=None, options=())"""
    return lambda **options: started_servers(Redis, store_programs, **options)


@pytest.fixture(params=["http", "http-python", "etcd", "redis"])
def any_store(request):
    """A started server of each kind in turn."""
    kind, _, variant = request.param.partition("-")
    return request.getfixturevalue(f"start_{kind}")(**({"variant": variant} if variant else {}))
