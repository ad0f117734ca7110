# SPDX-License-Identifier: Apache-2.0
"""An initiator of the native protocol in plain Python, from docs/protocol.md: well-behaved unless told otherwise."""

import contextlib
import os
import socket
import struct
import time

from classic_peer import TIMEOUT, receive, split

CONTROL_MAGIC, DATA_MAGIC = b"CWCTRL1\0", b"CWDATA1\0"
PROBE, RESOLVE, LIST, NOTIFY, MESSAGE, CANCEL = 1, 2, 3, 4, 5, 6
REPLY = 0x8000
WRITE, READ, DONE, DATA = 1, 2, 3, 4
CONTROL_HEADER = struct.Struct("<HHIQiI")
DATA_HEADER = struct.Struct("<IBBHIIQQiIQQQQII")
PIECE = struct.Struct("<QQ")
FRAME_MAGIC = 0x31465743
INSTANCE = os.urandom(16)


def text(value):
    return struct.pack("<H", len(value)) + value.encode()


def hello(magic, instance=INSTANCE, connection=0, transport="", version=1, expected=bytes(16)):
    """A whole hello, magic and length included."""
    body = struct.pack("<HHQ", version, 0, 0) + instance + expected + bytes(16)
    body += struct.pack("<QIIQQ", time.monotonic_ns(), os.getpid(), 0, connection, 0) + bytes(32)
    body += text("127.0.0.1:1") + text(transport)
    return magic + struct.pack("<I", len(body)) + body


def control_frame(kind, body=b"", sequence=1, flags=0, length=None):
    return CONTROL_HEADER.pack(kind, flags, len(body) if length is None else length, sequence, 0, 0) + body


def data_frame(kind, pieces, payload=b"", region=0, key=0, **changed):
    """A whole WRITE or READ frame; changed replaces members of its header: magic, such as flags or length."""
    header = {
        "magic": FRAME_MAGIC,
        "flags": 0,
        "piece_count": len(pieces),
        "id": 1,
        "length": sum(length for _, length in pieces),
        "not_after": 0,
        **changed,
    }
    return (
        DATA_HEADER.pack(
            header["magic"],
            kind,
            header["flags"],
            1,
            header["piece_count"],
            0,
            header["id"],
            header["length"],
            0,
            0,
            region,
            key,
            header["not_after"],
            0,
            0,
            0,
        )
        + b"".join(PIECE.pack(*piece) for piece in pieces)
        + payload
    )


def receive_welcome(connection):
    """(status, body) of a welcome, or None when the target closed instead."""
    prefix = receive(connection, 12)
    if prefix is None:
        return None
    body = bytes(receive(connection, struct.unpack_from("<I", prefix, 8)[0]))
    return struct.unpack_from("<i", body)[0], body


class NativeInitiator:
    """A control connection to an engine, and data connections on request."""

    def __init__(self, name):
        self.name = name
        self.instance = os.urandom(16)
        self.control = socket.create_connection(split(name), TIMEOUT)
        self.control.sendall(hello(CONTROL_MAGIC, self.instance))
        status, body = receive_welcome(self.control)
        assert status == 0, status
        # After status, version, reserved, pid, features, instance and machine.
        (self.clock,) = struct.unpack_from("<Q", body, 52)
        self.sequence = 0
        self.connections = 0

    def close(self):
        self.control.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def ask(self, kind, body=b""):
        """(status, body) of the reply."""
        self.sequence += 1
        self.control.sendall(control_frame(kind, body, self.sequence))
        while True:
            header = CONTROL_HEADER.unpack(receive(self.control, CONTROL_HEADER.size))
            answer = receive(self.control, header[2]) if header[2] else b""
            if header[0] == kind | REPLY and header[3] == self.sequence:
                return header[4], bytes(answer)

    def resolve(self, address, length):
        """(region, key) of the region that holds the range."""
        status, body = self.ask(RESOLVE, struct.pack("<IIQQ", 0, 0, address, length))
        assert status == 0, status
        return struct.unpack_from("<QQ", body)

    @contextlib.contextmanager
    def data(self):
        """A new data connection."""
        self.connections += 1
        with socket.create_connection(split(self.name), TIMEOUT) as connection:
            connection.sendall(hello(DATA_MAGIC, self.instance, self.connections, "tcp"))
            status, _ = receive_welcome(connection)
            assert status == 0, status
            yield connection


def receive_answer(connection):
    """(kind, id, status, payload) of one DONE or DATA frame, or None when the target closed."""
    data = receive(connection, DATA_HEADER.size)
    if data is None:
        return None
    _, kind, _, _, _, _, ident, length, status, *_ = DATA_HEADER.unpack(data)
    return kind, ident, status, bytes(receive(connection, length)) if length else b""
