# SPDX-License-Identifier: Apache-2.0
"""A Mooncake engine that runs TCP, as its peers see it: both roles, in plain Python, from the description of the wire.

ClassicTarget serves a control port and a data port. The functions above it are an initiator. docs/protocol.md,
"Classic".
"""

import contextlib
import datetime
import json
import socket
import struct
import threading

CONNECTION, METADATA, NOTIFY, PROBE = 0, 1, 2, 3
READ, WRITE, ACKNOWLEDGED = 0x00, 0x01, 0x80
STATUS_MAGIC = 0x4D435456
STATUS_OK, STATUS_REJECTED = 0, 1
DATA_HEADER = struct.Struct("<QQB7x")
TIMEOUT = 10
LENGTH_MAX = 1 << 20


class Rejected(Exception):
    """The target refused the address: status 1 (version 2), or a closed connection (version 1)."""


def receive(connection, count):
    """Exactly count bytes; None at a clean end, EOFError in the middle."""
    data = bytearray(count)
    view, got = memoryview(data), 0
    while got < count:
        n = connection.recv_into(view[got:])
        if n == 0:
            if got == 0:
                return None
            raise EOFError(f"{got} of {count} bytes")
        got += n
    return data


def encode(document):
    return (json.dumps(document, separators=(",", ":"), sort_keys=True) + "\n").encode()


def send_frame(connection, kind, document):
    """kind None = an old-style frame, without a type byte."""
    body = encode(document)
    if kind is not None:
        body = bytes([kind]) + body
    connection.sendall(struct.pack("<Q", len(body)) + body)


def receive_frame(connection, old_style=False):
    """(kind, document); None when the connection ended."""
    header = receive(connection, 8)
    if header is None:
        return None
    (length,) = struct.unpack("<Q", header)
    if not 0 < length <= LENGTH_MAX:
        raise ValueError(f"frame of {length} bytes")
    body = receive(connection, length)
    if body is None:
        raise EOFError("a length without a body")
    if old_style or 3 < body[0] < 0x80:
        return None, json.loads(body)
    return body[0], json.loads(body[1:])


def split(name):
    host, _, port = name.rpartition(":")
    return host.strip("[]"), int(port)


# ------------------------------------------------------------------------------------------------ initiator


def ask(name, kind, document):
    """One control request; its answer, or None when the engine closed the connection instead."""
    with socket.create_connection(split(name), TIMEOUT) as connection:
        send_frame(connection, kind, document)
        answer = receive_frame(connection, old_style=kind is None)
    if answer is None:
        return None
    if answer[0] != kind:
        raise ValueError(f"asked {kind}, answered {answer[0]}")
    return answer[1]


def describe(name):
    return ask(name, METADATA, {})


def notify(name, label, text):
    return ask(name, NOTIFY, {"name": label, "notify_msg": text})


def probe(name):
    return ask(name, PROBE, {})


@contextlib.contextmanager
def data_connection(descriptor):
    host, _ = split(descriptor["name"])
    with socket.create_connection((host, descriptor["tcp_data_port"]), TIMEOUT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def expect_ok(connection):
    frame = receive(connection, 8)
    if frame is None:
        raise Rejected("closed without a status")
    code, magic = struct.unpack("<II", frame)
    if magic != STATUS_MAGIC:
        raise ValueError(f"not a status frame: {frame.hex()}")
    if code != STATUS_OK:
        raise Rejected(f"status {code}")


def write(connection, address, data, version=2):
    """One WRITE. Version 1 has no acknowledgement: it may not have landed yet when this returns."""
    flags = WRITE | (ACKNOWLEDGED if version == 2 else 0)
    connection.sendall(DATA_HEADER.pack(len(data), address, flags))
    if version == 1:
        connection.sendall(data)
        return
    # The target may refuse before it has the body, and closes then.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.sendall(data)
    expect_ok(connection)


def read(connection, address, length, version=2):
    flags = READ | (ACKNOWLEDGED if version == 2 else 0)
    connection.sendall(DATA_HEADER.pack(length, address, flags))
    if version == 2:
        expect_ok(connection)
    data = receive(connection, length)
    if data is None:
        raise Rejected("closed without data")
    return bytes(data)


# --------------------------------------------------------------------------------------------------- target


class ClassicTarget:
    """Serves buffers, a dict of address -> bytearray, until close(). What came is in notes, requests and connections.

    version is what the descriptor says; 1 leaves tcp_proto_version out, as old engines do, and cannot acknowledge.
    data_host: where the data port is, if elsewhere. name: for one that is known by a name in a metadata store;
    put_into() puts it there.
    """

    def __init__(self, buffers, version=2, host="127.0.0.1", extra=None, name=None, data_host=None):
        self.buffers = buffers
        self.version = version
        self.extra = extra or {}
        self.notes = []
        self.probes = self.descriptions = 0
        self.connections = []
        self.requests = []  # (flags, address, length) of each data header
        self.gate = threading.Event()  # cleared = data requests stall after their header
        self.gate.set()
        self._open = set()
        self._lock = threading.Lock()
        self._control = socket.create_server((host, 0))
        self._data = socket.create_server((data_host or host, 0))
        shown = f"[{host}]" if ":" in host else host
        self.control_port = self._control.getsockname()[1]
        self.name = name or f"{shown}:{self.control_port}"
        self.data_port = self._data.getsockname()[1]
        for server, serve in ((self._control, self._serve_control), (self._data, self._serve_data)):
            threading.Thread(target=self._accept, args=(server, serve), daemon=True).start()

    def close(self):
        self.gate.set()
        with self._lock:
            sockets = [self._control, self._data, *self._open]
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def descriptor(self):
        document = {
            "name": self.name,
            "protocol": "tcp",
            "tcp_data_port": self.data_port,
            "timestamp": datetime.datetime.now().strftime("%Y-%m-%d %H:%M:%S.%f"),
            "buffers": [
                {"name": self.name, "addr": address, "length": len(data)} for address, data in self.buffers.items()
            ],
        }
        if self.version >= 2:
            document["tcp_proto_version"] = self.version
        return {**document, **self.extra}

    def put_into(self, store, host="127.0.0.1"):
        """As Mooncake engines publish themselves: what they offer, and where their control port is."""
        folder = "" if "/" in self.name else "ram/"
        store.put(f"mooncake/{folder}{self.name}", encode(self.descriptor()))
        listener = {"ip_or_host_name": host, "rpc_port": self.control_port}
        store.put(f"mooncake/rpc_meta/{self.name}", encode(listener))

    def _accept(self, server, serve):
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with self._lock:
                self._open.add(connection)
            threading.Thread(target=self._run, args=(serve, connection), daemon=True).start()

    def _run(self, serve, connection):
        with connection, contextlib.suppress(OSError, EOFError, ValueError):
            serve(connection)
        with self._lock:
            self._open.discard(connection)

    def _serve_control(self, connection):
        frame = receive_frame(connection)
        if frame is None:
            return
        kind, document = frame
        send_frame(connection, kind, self._answer(kind, document))
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(TIMEOUT)
        connection.recv(1)

    def _answer(self, kind, document):
        if kind == METADATA:
            self.descriptions += 1
            return self.descriptor()
        if kind == NOTIFY:
            self.notes.append((document["name"], document["notify_msg"]))
            return {"name": "", "notify_msg": "success"}
        if kind == PROBE:
            self.probes += 1
            return {"status": "success"}
        if kind in (CONNECTION, None):
            self.connections.append(document)
            return {
                "local_gid": "",
                "local_lid": 0,
                "local_nic_path": "",
                "payload": "",
                "peer_nic_path": "",
                "qp_num": [],
                "reply_msg": "",
            }
        raise ValueError(f"unknown type {kind}")

    def _range(self, address, length):
        """A view of [address, address + length) when one buffer holds it."""
        for start, data in self.buffers.items():
            if length > 0 and start <= address and address + length <= start + len(data):
                return memoryview(data)[address - start : address - start + length]
        return None

    def _serve_data(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            header = receive(connection, DATA_HEADER.size)
            if header is None:
                return
            length, address, flags = DATA_HEADER.unpack(header)
            self.requests.append((flags, address, length))
            self.gate.wait()
            # A version 1 engine compares the whole byte: it takes an acknowledged write for a read.
            acknowledged = self.version >= 2 and flags & ACKNOWLEDGED
            operation = flags & 0x7F if self.version >= 2 else flags
            view = self._range(address, length)
            if view is None:
                if acknowledged:
                    connection.sendall(struct.pack("<II", STATUS_REJECTED, STATUS_MAGIC))
                return
            if operation == WRITE:
                body = receive(connection, length)
                if body is None:
                    return
                view[:] = body
                if acknowledged:
                    connection.sendall(struct.pack("<II", STATUS_OK, STATUS_MAGIC))
            else:
                if acknowledged:
                    connection.sendall(struct.pack("<II", STATUS_OK, STATUS_MAGIC))
                connection.sendall(view)
