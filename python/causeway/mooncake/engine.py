# SPDX-License-Identifier: Apache-2.0
"""`mooncake.engine`: Mooncake's transfer engine for Python, over Causeway.

Addresses, lengths and sizes are ints, in bytes. Lists of them are lists of ints, or arrays of 64-bit integers (numpy,
array('Q')); they are not looked at in Python, so a call with 100,000 of them costs no loop here.

Calls return 0 for success and a negative number for failure, never a positive one, and ids above 0, where 0 is a
failure. They raise TypeError for arguments of a wrong type, ValueError for an unknown transport_hint, and nothing else,
but where a method says so. Why a call failed is written to the logger "causeway.mooncake", once for each kind of
failure, then at most every ten seconds. All calls may be made from any thread, and let others run while they wait.
"""

from __future__ import annotations

import itertools
import logging
import threading
from typing import Any, Dict, List, NoReturn, Optional, Sequence, Tuple, Union

import causeway
from causeway import _causeway

from . import _types
from ._absent import (
    CoroRPCInterface,
    ReceivedData,
    ReceivedTensor,
    RpcInterface,
    SharedSegment,
    create_rpc_client,
    create_rpc_server,
)
from ._calls import FAILURES, NotInitialized, answers, code
from ._opened import Opened
from ._peers import UnknownHint
from ._report import failed, once
from ._topology import matrix
from ._types import InnerTransferEngine, TransferNotify, TransferOpcode

__all__ = [
    "CoroRPCInterface",
    "InnerTransferEngine",
    "Read",
    "ReceivedData",
    "ReceivedTensor",
    "RpcInterface",
    "SUPPORT_CUDA",
    "SUPPORT_EFA",
    "SUPPORT_HIP",
    "SUPPORT_INTRA_NVLINK",
    "SUPPORT_MNNVL",
    "SUPPORT_MUSA",
    "SharedSegment",
    "TransferEngine",
    "TransferNotify",
    "TransferOpcode",
    "Write",
    "create_rpc_client",
    "create_rpc_server",
]

# What this build can do where the vendor's driver is present; one build serves every machine.
SUPPORT_CUDA = True
SUPPORT_INTRA_NVLINK = True
SUPPORT_EFA = False
SUPPORT_HIP = False
SUPPORT_MNNVL = False
SUPPORT_MUSA = False

Numbers = Union[Sequence[int], Any]

Read = TransferOpcode.Read
Write = TransferOpcode.Write


class TransferEngine:
    """One engine of this process; there may be several, also over the same memory."""

    TransferOpcode = TransferOpcode

    def __init__(self) -> None:
        self._lock = threading.Lock()  # of initialize()
        self._opened: Optional[Opened] = None
        self._batches: Dict[int, Tuple[causeway.Batch, str]] = {}  # and the peer
        self._ids = itertools.count(1)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TransferEngine can neither be copied nor sent to another process")

    # ---------------------------------------------------------------------------------------- the engine

    @answers(code)
    def initialize(
        self,
        local_hostname: Optional[str] = None,
        metadata_server: str = "P2PHANDSHAKE",
        protocol: Optional[str] = "",
        device_name: Optional[str] = "",
        *,
        hostname: Optional[str] = None,
    ) -> int:
        """Opens the engine: binds its port and starts its transports. 0, or a negative number; then try again.

        local_hostname (or hostname): "host", "host:port", "[v6]:port", an IPv6 address with or without brackets.
        metadata_server: "P2PHANDSHAKE" = peers are named "host:port"; or "http://...", "etcd://...", "redis://...".
        protocol: one that is not built is named once in a warning, with what is used instead. The transport is chosen
        for each pair of memories; MC_FORCE_TCP=1 leaves TCP only. device_name: RDMA devices, of no use yet.
        """
        self._open(hostname if local_hostname is None else local_hostname, metadata_server, protocol, device_name, "")
        return 0

    @answers(code)
    def initialize_ext(
        self,
        local_hostname: Optional[str] = None,
        metadata_server: str = "P2PHANDSHAKE",
        protocol: Optional[str] = "",
        device_name: Optional[str] = "",
        metadata_type: str = "",
        *,
        hostname: Optional[str] = None,
    ) -> int:
        """As initialize(); metadata_type ("etcd", "http", "redis", "p2p"): the kind of a server without "kind://"."""
        name = hostname if local_hostname is None else local_hostname
        self._open(name, metadata_server, protocol, device_name, metadata_type)
        return 0

    def _open(
        self,
        name: Optional[str],
        metadata_server: str,
        protocol: Optional[str],
        device_name: Optional[str],
        metadata_type: str,
    ) -> None:
        for value in (metadata_server, protocol or "", device_name or "", metadata_type or ""):
            if not isinstance(value, str):
                raise TypeError(f"initialize() takes texts, not {type(value).__name__}")
        if not isinstance(name, str):
            raise TypeError(f"local_hostname is a str, not {type(name).__name__}")
        if metadata_type and metadata_type not in ("p2p", "P2PHANDSHAKE") and "://" not in metadata_server:
            metadata_server = f"{metadata_type}://{metadata_server}"
        elif metadata_type in ("p2p", "P2PHANDSHAKE"):
            metadata_server = "P2PHANDSHAKE"
        self._choose(protocol or "")
        if device_name:
            once(f"device_name {device_name!r} names RDMA devices, which no transport uses yet", logging.INFO)
        with self._lock:
            if self._opened is not None:
                raise ValueError("the engine is initialized already")
            self._opened = Opened(name, metadata_server)

    @staticmethod
    def _choose(protocol: str) -> None:
        """Says what is used instead of a protocol that is not there. The engine chooses by itself, whatever it is."""
        if protocol == "xgmi":
            raise ValueError('protocol "xgmi" is not supported, as in Mooncake')
        if not protocol:
            return
        transports, instead = _causeway.mooncake_protocol(protocol)
        if transports is None:
            once(f"protocol {protocol!r} is unknown; the engine chooses among those it has")
        elif instead:
            once(f"protocol {protocol!r} is not available in this build; {instead} is used")

    def _ready(self) -> Opened:
        if self._opened is None:
            raise NotInitialized("initialize() did not succeed yet")
        self._opened.check()
        return self._opened

    def get_rpc_port(self) -> int:
        """The port that this engine listens on; without a store it is part of its name. 0 before initialize()."""
        return self._opened.port if self._opened else 0

    def get_engine(self) -> Optional[InnerTransferEngine]:
        """An object that keeps the engine alive, the same one for all who have it. None before initialize()."""
        return self._opened.inner() if self._opened else None

    def get_engine_ptr(self) -> int:
        """0: there is no C++ engine for Mooncake's EP and PG backends to use."""
        once("get_engine_ptr(): there is no C++ engine behind this one; Mooncake's EP and PG cannot use it")
        return 0

    def get_local_topology(self, device_name: Optional[str] = None) -> str:
        """JSON {"cpu:0": [[preferred], [others]], ...}: each place of memory with the RDMA devices near it, of which
        there is no use yet, so the lists are empty. Works before initialize()."""
        del device_name
        if self._opened is not None:
            return matrix(self._opened.engine)
        with causeway.Engine() as engine:
            return matrix(engine)

    @answers(-1)
    def warmup_efa_segment(self, segment_name: str) -> int:
        """0: there is nothing to warm up."""
        if not isinstance(segment_name, str):
            raise TypeError(f"segment_name is a str, not {type(segment_name).__name__}")
        return 0

    # -------------------------------------------------------------------------------------------- memory

    @answers(code)
    def register_memory(self, buffer_addr: int, capacity: int, location: str = "*") -> int:
        """Makes [buffer_addr, buffer_addr + capacity) known: transfers may use it, and peers may read and write it.
        The same range again is counted. location ("cpu:0", "cuda:1") is a hint. 0, -7 for any other overlap, or another
        negative number."""
        self._ready().registrations.add(buffer_addr, capacity, location)
        return 0

    @answers(code)
    def unregister_memory(self, buffer_addr: int) -> int:
        """Takes back one registration. After the last one nothing touches the memory any more: when this returns 0, not
        before. A negative number: it is not registered, or a peer that does not answer still holds it; try again."""
        self._ready().registrations.remove(buffer_addr)
        return 0

    @answers(code)
    def batch_register_memory(self, buffer_addresses: Numbers, capacities: Numbers, location: str = "*") -> int:
        """register_memory() for each pair; all, or on a failure none."""
        if len(buffer_addresses) != len(capacities):
            raise ValueError(f"{len(buffer_addresses)} addresses, but {len(capacities)} capacities")
        self._ready().registrations.add_all(buffer_addresses, capacities, location)
        return 0

    @answers(code)
    def batch_unregister_memory(self, buffer_addresses: Numbers) -> int:
        """unregister_memory() for each, whether others fail or not; 0 when all succeeded."""
        self._ready().registrations.remove_all(buffer_addresses)
        return 0

    @answers(0)
    def allocate_managed_buffer(self, length: int) -> int:
        """Host memory of at least `length` bytes that is registered already. Its address, or 0."""
        return self._ready().managed.allocate(length)

    @answers(-1)
    def free_managed_buffer(self, buffer_addr: int, length: int) -> int:
        """Gives a managed buffer back. 0, or -1 for any other address."""
        del length
        self._ready().managed.free(buffer_addr)
        return 0

    @answers(-1)
    def write_bytes_to_buffer(self, dest_address: int, data: bytes, length: int) -> int:
        """Copies the first `length` bytes of data to registered memory, host or device. 0; -1 when it is not registered
        or data is shorter."""
        source = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        if not 0 <= length <= len(source):
            raise ValueError(f"length {length}, but the data has {len(source)} bytes")
        if length:
            self._ready().put(dest_address, bytes(source[:length]))
        return 0

    def read_bytes_from_buffer(self, source_address: int, length: int) -> bytes:
        """The bytes of registered memory, host or device. Raises ValueError when it is not registered: no bytes could
        stand for that."""
        if length == 0:
            return b""
        try:
            return self._ready().get(source_address, length)
        except FAILURES as error:
            raise ValueError(f"read_bytes_from_buffer: {error}") from error

    # ----------------------------------------------------------------------------------------- transfers

    @staticmethod
    def _is_empty(local: Any, remote: Any, lengths: Any) -> bool:
        """For the lists of a batch call: whether they are empty. Raises ValueError when they are not of one length."""
        counts = {len(local), len(remote), len(lengths)}
        if len(counts) > 1:
            raise ValueError(f"{len(local)} buffers, {len(remote)} peer addresses and {len(lengths)} lengths")
        return not counts.pop()

    @staticmethod
    def _finish(batch: causeway.Batch) -> causeway.BatchResult:
        result = batch.finish()
        batch.release()
        return result

    def _wait(self, call: str, target: str, batch: causeway.Batch, hint: Optional[str] = None) -> int:
        """hint: that of the call, when target is a peer's name."""
        result = self._finish(batch)
        if result.state == causeway.BatchState.COMPLETED:
            if hint is not None:
                self._ready().peers.worked(target, hint)
            return 0
        if result.state != causeway.BatchState.CANCELED:  # by the end of the interpreter; nobody else cancels
            failed((call, result.status, target), f"{call} to {target}: {result.text}")
        return -1

    @answers(-1)
    def transfer_sync_write(
        self, target_hostname: str, buffer: int, peer_buffer_address: int, length: int, transport_hint: str = ""
    ) -> int:
        """Writes local memory to the peer and waits until the peer would see it. 0 / -1."""
        batch = self._ready().submit(Write, target_hostname, buffer, peer_buffer_address, length, transport_hint)
        return self._wait("transfer_sync_write", target_hostname, batch, transport_hint)

    @answers(-1)
    def transfer_sync_read(
        self, target_hostname: str, buffer: int, peer_buffer_address: int, length: int, transport_hint: str = ""
    ) -> int:
        """Reads memory of the peer into local memory and waits for it. 0 / -1."""
        batch = self._ready().submit(Read, target_hostname, buffer, peer_buffer_address, length, transport_hint)
        return self._wait("transfer_sync_read", target_hostname, batch, transport_hint)

    @answers(-1)
    def transfer_sync(
        self,
        target_hostname: str,
        buffer: int,
        peer_buffer_address: int,
        length: int,
        opcode: _types.TransferOpcode,
        notify: Optional[TransferNotify] = None,
        transport_hint: str = "",
    ) -> int:
        """transfer_sync_read() or transfer_sync_write(); notify is sent to the peer after the data. 0 / -1."""
        batch = self._ready().submit(
            opcode, target_hostname, buffer, peer_buffer_address, length, transport_hint, notify
        )
        return self._wait("transfer_sync", target_hostname, batch, transport_hint)

    @answers(-1)
    def batch_transfer_sync_write(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        transport_hint: str = "",
    ) -> int:
        """Writes each buffers[i] to peer_buffer_addresses[i], lengths[i] bytes, and waits for all. 0 / -1."""
        if self._is_empty(buffers, peer_buffer_addresses, lengths):
            return 0
        batch = self._ready().submit(Write, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)
        return self._wait("batch_transfer_sync_write", target_hostname, batch, transport_hint)

    @answers(-1)
    def batch_transfer_sync_read(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        transport_hint: str = "",
    ) -> int:
        """Reads each peer_buffer_addresses[i] into buffers[i], lengths[i] bytes, and waits for all. 0 / -1."""
        if self._is_empty(buffers, peer_buffer_addresses, lengths):
            return 0
        batch = self._ready().submit(Read, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)
        return self._wait("batch_transfer_sync_read", target_hostname, batch, transport_hint)

    @answers(-1)
    def batch_transfer_sync(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        opcode: _types.TransferOpcode,
        notify: Optional[TransferNotify] = None,
        transport_hint: str = "",
    ) -> int:
        """As the two above; notify is sent to the peer after all data, also when there is none. 0 / -1."""
        if self._is_empty(buffers, peer_buffer_addresses, lengths) and notify is None:
            return 0
        batch = self._ready().submit(
            opcode, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint, notify
        )
        return self._wait("batch_transfer_sync", target_hostname, batch, transport_hint)

    def _start(self, opcode: int, target: str, local: Any, remote: Any, length: Any, hint: str) -> int:
        """The id of a batch that is waited for later."""
        batch = self._ready().submit(opcode, target, local, remote, length, hint)
        number = next(self._ids)
        self._batches[number] = (batch, target)
        return number

    @answers(0)
    def batch_transfer_async_write(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        transport_hint: str = "",
    ) -> int:
        """Starts a batch_transfer_sync_write(). An id above 0 for get_batch_transfer_status(), or 0."""
        self._is_empty(buffers, peer_buffer_addresses, lengths)
        return self._start(Write, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)

    @answers(0)
    def batch_transfer_async_read(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        transport_hint: str = "",
    ) -> int:
        """Starts a batch_transfer_sync_read(). An id above 0, or 0."""
        self._is_empty(buffers, peer_buffer_addresses, lengths)
        return self._start(Read, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)

    @answers(0)
    def batch_transfer_async(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        opcode: _types.TransferOpcode,
        transport_hint: str = "",
    ) -> int:
        """Starts one of the two. An id above 0, or 0."""
        self._is_empty(buffers, peer_buffer_addresses, lengths)
        return self._start(opcode, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)

    @answers(0)
    def transfer_submit_write(
        self, target_hostname: str, buffer: int, peer_buffer_address: int, length: int, transport_hint: str = ""
    ) -> int:
        """Starts a transfer_sync_write(). An id above 0 for transfer_check_status(), or 0."""
        return self._start(Write, target_hostname, buffer, peer_buffer_address, length, transport_hint)

    @answers(-1)
    def get_batch_transfer_status(self, batch_ids: Sequence[int]) -> int:
        """Waits until all of these have ended, and forgets them. 0 when all completed, else -1, as for unknown ids."""
        answer = 0
        for number in batch_ids:
            batch, target = self._batches.pop(number, (None, ""))
            if batch is None:
                failed("unknown id", f"get_batch_transfer_status: there is no batch {number}")
                answer = -1
            elif self._wait("get_batch_transfer_status", target, batch):
                answer = -1
        return answer

    @answers(-1)
    def transfer_check_status(self, batch_id: int) -> int:
        """Never waits. 0: it runs. It is forgotten with 1 (completed), -1 (failed, or unknown) and -2 (timed out)."""
        batch, target = self._batches.get(batch_id, (None, ""))
        if batch is not None and not batch.done:
            return 0
        if batch is None or self._batches.pop(batch_id, None) is None:
            raise ValueError(f"there is no batch {batch_id}")
        result = self._finish(batch)
        if result.state == causeway.BatchState.COMPLETED:
            return 1
        failed(("transfer_check_status", target), f"transfer_check_status of one to {target}: {result.text}")
        return -2 if result.state == causeway.BatchState.TIMED_OUT else -1

    # --------------------------------------------------------------------------------------- on a stream

    def transfer_write_on_cuda(
        self,
        target_hostname: str,
        buffer: int,
        peer_buffer_address: int,
        length: int,
        stream_ptr: int = 0,
        transport_hint: str = "",
    ) -> None:
        """Writes when the stream has come so far, and lets the stream go on after the end. stream_ptr: cudaStream_t,
        tangStream_t; 0 = the default stream of the buffer's device. Returns at once. Raises RuntimeError when it cannot
        be started, or when one that was started before has failed; the process never ends for it."""
        self._on_stream(Write, target_hostname, buffer, peer_buffer_address, length, stream_ptr, transport_hint)

    def transfer_read_on_cuda(
        self,
        target_hostname: str,
        buffer: int,
        peer_buffer_address: int,
        length: int,
        stream_ptr: int = 0,
        transport_hint: str = "",
    ) -> None:
        """As transfer_write_on_cuda(), the other way."""
        self._on_stream(Read, target_hostname, buffer, peer_buffer_address, length, stream_ptr, transport_hint)

    def batch_transfer_write_on_cuda(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        stream_ptr: int = 0,
        transport_hint: str = "",
    ) -> None:
        """As transfer_write_on_cuda(), with lists."""
        self._on_stream(Write, target_hostname, buffers, peer_buffer_addresses, lengths, stream_ptr, transport_hint)

    def batch_transfer_read_on_cuda(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        stream_ptr: int = 0,
        transport_hint: str = "",
    ) -> None:
        """As transfer_write_on_cuda(), with lists, the other way."""
        self._on_stream(Read, target_hostname, buffers, peer_buffer_addresses, lengths, stream_ptr, transport_hint)

    def _on_stream(
        self, opcode: int, target: str, local: Any, remote: Any, length: Any, stream: int, hint: str
    ) -> None:
        try:
            opened = self._ready()
            opened.streams.look_back()
            if not isinstance(local, int) and self._is_empty(local, remote, length):
                return
            location = opened.streams.location_of(int(local if isinstance(local, int) else local[0]))
            after = [(location, stream, "stream")]
            batch = opened.submit(opcode, target, local, remote, length, hint, device_after=after)
            opened.streams.hold(batch, location, stream)
        except UnknownHint:
            raise
        except FAILURES as error:
            raise RuntimeError(f"transfer on a stream: {error}") from error

    # ------------------------------------------------------------------------------------ peers, messages

    @answers(-1)
    def send_probe(self, peer_server_name: str) -> int:
        """0 when the peer is there and serves; -1 after at most MC_HANDSHAKE_CONNECT_TIMEOUT (5 s)."""
        self._ready().peers.probe(peer_server_name)
        return 0

    @answers(0)
    def get_first_buffer_address(self, segment_name: str) -> int:
        """The address of the peer's first registered memory, or 0."""
        regions = self._ready().peers.get(segment_name).regions()
        return regions[0].address if regions else 0

    def get_notifies(self) -> List[TransferNotify]:
        """The messages that came since the last call, oldest first. Bytes that are no text are escaped as Python's
        "surrogateescape" does."""
        try:
            found = self._ready().engine.notifications()
        except FAILURES as error:
            failed("get_notifies", f"get_notifies: {error}")
            return []
        return [TransferNotify(note.name, bytes(note.data).decode("utf-8", "surrogateescape")) for note in found]
