# SPDX-License-Identifier: Apache-2.0
"""Bad input against the running listeners.

Each is refused cleanly, while a well-behaved peer is served within 100 ms; memory and descriptors return to where they
were.
"""

import contextlib
import os
import re
import socket
import struct
import time
from pathlib import Path

import pytest

import classic_peer as classic
import native_peer as native

KIB = 1 << 10
MIB = 1 << 20
SERVED_WITHIN = 0.1
IDLE_MS = 1000
U64 = struct.Struct("<Q")


def body(kind, text):
    """A classic frame with a right length."""
    return U64.pack(len(text) + 1) + bytes([kind]) + text


CLASSIC_CONTROL = {
    "length zero": U64.pack(0),
    "length above the limit": U64.pack((1 << 20) + 1) + b"x",
    "length negative": U64.pack(2**64 - 1) + b"x",
    "truncated length": b"\x10\0\0",
    "truncated body": U64.pack(100) + b"\x01{",
    "unknown type": body(0x90, b"{}"),
    "not JSON": body(classic.NOTIFY, b"hello"),
    "two documents": body(classic.NOTIFY, b'{"name":"a","notify_msg":"b"}{}'),
    "wrong type of a member": body(classic.NOTIFY, b'{"name":[1],"notify_msg":"x"}'),
    "not an object": body(classic.NOTIFY, b"[1]"),
    "a queue pair that is text": body(classic.CONNECTION, b'{"qp_num":["x"]}'),
    "deep nesting": body(classic.NOTIFY, b"[" * 200_000),
    "duplicate keys": body(classic.NOTIFY, b'{"name":"a","name":"b","notify_msg":"x"}'),
    "invalid UTF-8": body(classic.NOTIFY, b'{"name":"\xff\xfe","notify_msg":"x"}'),
    "old style, not JSON": U64.pack(5) + b"hello",
}

NATIVE_CONTROL = {
    "hello of length zero": native.CONTROL_MAGIC + struct.pack("<I", 0),
    "hello of a huge length": native.CONTROL_MAGIC + struct.pack("<I", 2**32 - 1) + b"x",
    "truncated hello": native.hello(native.CONTROL_MAGIC)[:40],
    "version zero": native.hello(native.CONTROL_MAGIC, version=0),
    "another instance expected": native.hello(native.CONTROL_MAGIC, expected=b"x" * 16),
    "a transport on a control connection": native.hello(native.CONTROL_MAGIC, transport="tcp"),
    "unknown type": native.hello(native.CONTROL_MAGIC) + native.control_frame(77),
    "flags": native.hello(native.CONTROL_MAGIC) + native.control_frame(native.PROBE, flags=1),
    "a huge body": native.hello(native.CONTROL_MAGIC) + native.control_frame(native.NOTIFY, length=2**32 - 1),
    "a body where none belongs": native.hello(native.CONTROL_MAGIC) + native.control_frame(native.PROBE, b"x"),
    "truncated resolve": native.hello(native.CONTROL_MAGIC) + native.control_frame(native.RESOLVE, b"x"),
    "truncated notify": native.hello(native.CONTROL_MAGIC) + native.control_frame(native.NOTIFY, b"xxxxxxxxxxx"),
    "data for a transport that does not exist": native.hello(native.DATA_MAGIC, connection=1, transport="nothing"),
    "data without a transport": native.hello(native.DATA_MAGIC, connection=1),
}

# Changes to a good WRITE of 100 bytes at the start of the region; the target ends the connection.
NATIVE_DATA_MALFORMED = {
    "wrong magic": {"magic": 1},
    "unknown flags": {"flags": 0x80},
    "no pieces": {"piece_count": 0},
    "too many pieces": {"piece_count": 2**32 - 1},
    "length zero": {"length": 0},
    "length huge": {"length": 2**64 - 1},
    "length is not that of the pieces": {"length": 101},
}


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid):
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii")).group(1)) * KIB


class Scene:
    """A target with a region, and a bystander whose probes show whether it is still served."""

    def __init__(self, peers):
        self.target = peers(**{"control/idle_timeout": str(IDLE_MS), "transports/shm/enable": "off"})
        self.address = self.target.map(memory="m", length=64 * KIB)["address"]
        self.target.register(memory="m")
        self.bystander = peers(**{"transports/shm/enable": "off"})
        self.bystander.map(memory="m", length=64 * KIB)
        self.bystander.register(memory="m")
        self.bystander.segment(segment="s", peer=self.target.engine)
        self.assert_served()
        self.descriptors = descriptors(self.target.pid)
        self.resident = resident(self.target.pid)

    def assert_served(self):
        assert self.bystander.transfer("write", "s", "m", self.address)["state"] == "COMPLETED"
        round_trip = self.bystander.probe(segment="s", timeout_ms=5000)["round_trip_ns"]
        assert round_trip < SERVED_WITHIN * 1e9, f"{round_trip / 1e6:.1f} ms"

    def assert_as_before(self):
        self.assert_served()
        deadline = time.monotonic() + 10
        while descriptors(self.target.pid) > self.descriptors:
            assert time.monotonic() < deadline, f"{descriptors(self.target.pid)} descriptors, were {self.descriptors}"
            time.sleep(0.01)
        grown = resident(self.target.pid) - self.resident
        assert grown < 16 * MIB, f"{grown / MIB:.1f} MiB more"

    def connect(self, port=None):
        host, control = classic.split(self.target.engine)
        return socket.create_connection((host, port or control), classic.TIMEOUT)


@pytest.fixture
def scene(peers):
    made = Scene(peers)
    yield made
    made.assert_as_before()


def assert_closed(connection):
    """The engine ends the connection; what it may say before (a refusal) does not matter."""
    connection.settimeout(IDLE_MS / 1000 + 5)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass


@pytest.mark.parametrize("name", CLASSIC_CONTROL)
def test_classic_control(scene, name):
    with scene.connect() as connection:
        connection.sendall(CLASSIC_CONTROL[name])
        scene.assert_served()
        assert_closed(connection)


@pytest.mark.parametrize("name", NATIVE_CONTROL)
def test_native_control(scene, name):
    with scene.connect() as connection:
        connection.sendall(NATIVE_CONTROL[name])
        scene.assert_served()
        assert_closed(connection)


@pytest.mark.parametrize("name", NATIVE_DATA_MALFORMED)
def test_native_data_malformed(scene, name):
    with native.NativeInitiator(scene.target.engine) as initiator, initiator.data() as connection:
        region, key = initiator.resolve(scene.address, 100)
        pieces = [(scene.address, 100)]
        frame = native.data_frame(native.WRITE, pieces, bytes(100), region, key, **NATIVE_DATA_MALFORMED[name])
        connection.sendall(frame)
        scene.assert_served()
        assert_closed(connection)


@pytest.mark.parametrize("kind", [native.WRITE, native.READ])
@pytest.mark.parametrize(
    "name",
    ["one byte beyond", "one byte before", "wrap", "wrong key", "wrong region", "second piece outside", "too late"],
)
def test_native_data_refused(scene, kind, name):
    """What is well-formed but not allowed is answered with a status, and the connection goes on."""
    with native.NativeInitiator(scene.target.engine) as initiator, initiator.data() as connection:
        region, key = initiator.resolve(scene.address, 100)
        pieces, not_after = [(scene.address, 100)], 0
        if name == "one byte beyond":
            pieces = [(scene.address + 64 * KIB - 99, 100)]
        elif name == "one byte before":
            pieces = [(scene.address - 1, 100)]
        elif name == "wrap":
            pieces = [(2**64 - 100, 100)]
        elif name == "wrong key":
            key ^= 1
        elif name == "wrong region":
            region ^= 1 << 40
        elif name == "second piece outside":
            pieces = [(scene.address, 50), (scene.address + 64 * KIB, 50)]
        elif name == "too late":
            not_after = 1
        scene.target.fill(memory="m", seed=1)
        payload = b"\xee" * 100 if kind == native.WRITE else b""
        connection.sendall(native.data_frame(kind, pieces, payload, region, key, not_after=not_after))
        answer = native.receive_answer(connection)
        assert answer is not None and answer[2] < 0 and answer[3] == b"", answer
        assert scene.target.compare(memory="m", seed=1)["different"] == 0

        region, key = initiator.resolve(scene.address, 100)
        connection.sendall(native.data_frame(native.WRITE, [(scene.address, 3)], b"abc", region, key, id=2))
        assert native.receive_answer(connection)[:3] == (native.DONE, 2, 0)


def test_native_write_of_a_read_only_region(scene):
    address = scene.target.map(memory="r", length=4096)["address"]
    scene.target.register(memory="r", access=1)
    scene.target.fill(memory="r", seed=2)
    with native.NativeInitiator(scene.target.engine) as initiator, initiator.data() as connection:
        region, key = initiator.resolve(address, 100)
        connection.sendall(native.data_frame(native.WRITE, [(address, 100)], bytes(100), region, key))
        assert native.receive_answer(connection)[2] < 0
        connection.sendall(native.data_frame(native.READ, [(address, 100)], b"", region, key, id=2))
        assert native.receive_answer(connection)[:3] == (native.DATA, 2, 0)
    assert scene.target.compare(memory="r", seed=2)["different"] == 0


def test_hundred_silent_connections(scene):
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(scene.connect()) for _ in range(100)]
        scene.assert_served()
        assert classic.probe(scene.target.engine) == {"status": "success"}
        for connection in silent:
            assert_closed(connection)


def test_hundred_silent_data_connections(scene):
    """A classic data connection may be silent between requests for ever, but takes nothing from others."""
    port = classic.describe(scene.target.engine)["tcp_data_port"]
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(scene.connect(port))
        scene.assert_served()


@pytest.mark.parametrize("message", [body(classic.PROBE, b"{}" + b" " * 64), native.hello(native.CONTROL_MAGIC)])
def test_a_byte_at_a_time(scene, message):
    """Slow is not the same as silent: the whole message has a deadline, whatever trickles in."""
    start = time.monotonic()
    with scene.connect() as connection:
        connection.settimeout(0.1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for byte in message[:-1]:
                connection.sendall(bytes([byte]))
                scene.assert_served()
                with contextlib.suppress(TimeoutError):
                    if connection.recv(100) == b"":
                        break
            else:
                pytest.fail("was listened to until the end")
    assert time.monotonic() - start < IDLE_MS / 1000 + 3


def test_connections_that_come_and_go(scene):
    for i in range(500):
        with scene.connect() as connection:
            connection.sendall(native.CONTROL_MAGIC[: i % 9])
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    scene.assert_served()
