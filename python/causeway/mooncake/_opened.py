# SPDX-License-Identifier: Apache-2.0
"""What a TransferEngine has once initialize() succeeded."""

from __future__ import annotations

import ctypes
from typing import Any, Optional

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
    """The sum of one length, a list or an array, without a loop in Python."""
    if isinstance(lengths, int):
        return lengths
    add = getattr(lengths, "sum", None)
    return int(add() if add else sum(lengths))


class Opened:
    """An engine, and what this face of it keeps beside it."""

    def __init__(self, name: str, metadata_server: str) -> None:
        setup = _causeway.mooncake_setup(metadata_server, name)
        for line in setup["notices"]:
            once(line)
        milliseconds = setup["settings"].get("control/connect_timeout")
        self.timeout: Optional[float] = setup["transfer_timeout"] or None  # seconds; None = the engine's default
        self.engine = causeway.Engine(setup["name"], settings=setup["settings"])
        self.peers = Peers(self.engine, float(milliseconds) / 1000 if milliseconds else CONNECT_SECONDS)
        self.registrations = Registrations(self.engine)
        self.managed = ManagedBuffers(self.engine)
        self.streams = Streams(self.engine)
        self.inner = InnerTransferEngine(self.engine)
        if setup["metric_interval"]:
            _metric.start(self.engine, setup["metric_interval"])

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
        """Starts a transfer of one range, or of lists of them. Raises what engine.write() does, and UnknownHint."""
        if not isinstance(opcode, int):
            raise TypeError(f"opcode is a TransferOpcode, not {type(opcode).__name__}")
        if opcode not in (TransferOpcode.Read, TransferOpcode.Write):
            raise ValueError(f"opcode {opcode}: there are Read and Write")
        if notify is not None and not isinstance(notify, TransferNotify):
            raise TypeError(f"notify is a TransferNotify, not {type(notify).__name__}")
        if self.timeout is not None:
            options["deadline"] = self.timeout + _total(length) / BYTES_PER_SECOND
        segment = self.peers.get(target, hint)
        if notify is not None:
            options["notify"] = notify.to_notify(segment)
        move = self.engine.write if opcode == TransferOpcode.Write else self.engine.read
        return move(segment, local, remote, length, **options)

    # --------------------------------------------------------------------------------- bytes in and out

    def put(self, address: int, data: bytes) -> None:
        """Copies data to registered memory."""
        if self.engine.region_at(address, len(data)).device < 0:
            ctypes.memmove(address, data, len(data))
        else:
            self._copy(TransferOpcode.Write, address, bytearray(data))

    def get(self, address: int, length: int) -> bytes:
        """The bytes of registered memory."""
        if self.engine.region_at(address, length).device < 0:
            return ctypes.string_at(address, length)
        data = bytearray(length)
        self._copy(TransferOpcode.Read, address, data)
        return bytes(data)

    def _copy(self, opcode: TransferOpcode, address: int, data: bytearray) -> None:
        """Between device memory and data, as a transfer of the engine to itself."""
        with self.engine.register(data) as region:
            self.submit(opcode, self.engine.name, region.address, address, len(data), "").wait()
