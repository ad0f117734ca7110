# SPDX-License-Identifier: Apache-2.0
"""What a TransferEngine has once initialize() succeeded."""

from __future__ import annotations

import contextlib
import ctypes
import operator
import os
import weakref
from typing import Any, Optional, Tuple

import causeway
from causeway import _causeway

from . import _metric
from ._managed import ManagedBuffers
from ._peers import Peers
from ._regions import Registrations
from ._report import once
from ._streams import Streams
from ._types import InnerTransferEngine, TransferNotify, TransferOpcode

CONNECT_SECONDS = 5.0  # Mooncake's, and that of control/connect_timeout
BYTES_PER_SECOND = 1 << 30  # what a deadline allows for


def _total(lengths: Any) -> int:
    """The sum of one length, a list or an array, without a loop in Python. The engine names the impossible ones."""
    if isinstance(lengths, int):
        total = lengths
    else:
        add = getattr(lengths, "sum", None)
        total = int(add() if add else sum(lengths))
    return min(max(total, 0), 1 << 63)


def _plain(values: Any) -> Any:
    """Numbers in a form that the engine takes: an array of other than native 64-bit integers becomes a list."""
    if isinstance(values, (int, list, tuple, memoryview)) or not hasattr(values, "tolist"):
        return values
    try:
        with memoryview(values) as view:
            fits = view.ndim == 1 and view.itemsize == 8 and view.format in ("q", "Q", "l", "L", "n", "N")
    except (TypeError, ValueError):
        fits = False
    return values if fits else values.tolist()


def _without_empty(local: Any, remote: Any, length: Any) -> Optional[Tuple[Any, Any, Any]]:
    """The rows that have bytes; None when all do."""
    if not hasattr(length, "__len__"):
        return ([], [], []) if length == 0 else None
    rows = [row for row in zip(local, remote, length) if row[2]]
    if len(rows) == len(length):
        return None
    return [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]


def _stays(region: causeway.Region) -> bool:
    """Host memory that the program cannot have freed."""
    return region.engine_owned and region.device < 0


class Opened:
    """An engine, and what this face of it keeps beside it. It is closed with the last reference."""

    def __init__(self, name: str, metadata_server: str) -> None:
        setup = _causeway.mooncake_setup(metadata_server, name)
        for line in setup["notices"]:
            once(line)
        milliseconds = setup["settings"].get("control/connect_timeout")
        self.timeout: Optional[float] = setup["transfer_timeout"] or None  # seconds; None = the engine's default
        self._process = os.getpid()
        self.engine = causeway.Engine(setup["name"], settings=setup["settings"])
        with self.engine.open(self.engine.name) as itself:  # in a store, the name need not have the port
            self.port = int(itself.info().address.rpartition(":")[2])
        self.peers = Peers(self.engine, float(milliseconds) / 1000 if milliseconds else CONNECT_SECONDS)
        self.registrations = Registrations(self.engine)
        self.managed = ManagedBuffers(self.engine)
        self.streams = Streams(self.engine)
        self._inner: Optional[weakref.ref[InnerTransferEngine]] = None
        if setup["metric_interval"]:
            _metric.start(self.engine, setup["metric_interval"])

    def __del__(self) -> None:
        engine = self.__dict__.get("engine")
        if engine is not None:
            with contextlib.suppress(causeway.Error, BufferError):  # the end of a process asks nobody
                engine.close()

    def check(self) -> None:
        """Raises Forked in a child of the process that it belongs to, whose locks nobody there may ever open."""
        if os.getpid() != self._process:
            raise causeway.Forked("this engine belongs to the parent process; make one in the child")

    def inner(self) -> InnerTransferEngine:
        """What get_engine() returns: the same one as long as somebody has it."""
        inner = self._inner() if self._inner is not None else None
        if inner is None:
            inner = InnerTransferEngine(self)
            self._inner = weakref.ref(inner)
        return inner

    def submit(
        self,
        opcode: int,
        target: str,
        local: Any,
        remote: Any,
        length: Any,
        hint: str,
        notify: Optional[TransferNotify] = None,
        **options: Any,
    ) -> causeway.Batch:
        """Starts a transfer of one range, or of lists of them; those of no bytes need nothing, not even addresses.
        Raises what engine.write() does, and UnknownHint."""
        if not isinstance(opcode, int):
            raise TypeError(f"opcode is a TransferOpcode, not {type(opcode).__name__}")
        if opcode not in (TransferOpcode.Read, TransferOpcode.Write):
            raise ValueError(f"opcode {opcode}: there are Read and Write")
        if notify is not None and not isinstance(notify, TransferNotify):
            raise TypeError(f"notify is a TransferNotify, not {type(notify).__name__}")
        local, remote, length = _plain(local), _plain(remote), _plain(length)
        if self.timeout is not None:
            options["deadline"] = self.timeout + _total(length) / BYTES_PER_SECOND
        segment = self.peers.get(target, hint)
        if notify is not None:
            options["notify"] = notify.to_notify(segment)
        move = self.engine.write if opcode == TransferOpcode.Write else self.engine.read
        try:
            return move(segment, local, remote, length, **options)
        except causeway.InvalidArgument:
            rest = _without_empty(local, remote, length)
            if rest is None:
                raise
            return move(segment, *rest, **options)

    # --------------------------------------------------------------------------------- bytes in and out

    def put(self, address: int, data: bytes) -> None:
        """Copies data to registered memory."""
        address = operator.index(address)
        if _stays(self.engine.region_at(address, len(data))):
            ctypes.memmove(address, data, len(data))
        else:
            self._copy(TransferOpcode.Write, address, bytearray(data))

    def get(self, address: int, length: int) -> bytes:
        """The bytes of registered memory."""
        address, length = operator.index(address), operator.index(length)
        if _stays(self.engine.region_at(address, length)):
            return ctypes.string_at(address, length)
        data = bytearray(length)
        self._copy(TransferOpcode.Read, address, data)
        return bytes(data)

    def _copy(self, opcode: TransferOpcode, address: int, data: bytearray) -> None:
        """Between memory and data as a transfer of the engine to itself, which sees whether the memory is there."""
        with self.engine.register(data) as region:
            self.submit(opcode, self.engine.name, region.address, address, len(data), "").wait()
