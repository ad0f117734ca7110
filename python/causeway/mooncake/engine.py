# SPDX-License-Identifier: Apache-2.0
"""`mooncake.engine`: Mooncake's transfer engine for Python, over Causeway.

Addresses, lengths and sizes are ints, in bytes. Lists of them are lists of ints, or arrays of 64-bit integers (numpy,
array('Q')); they are not looked at in Python, so a call with 100,000 of them costs no loop here.

Calls return 0 for success and a negative number for failure, never a positive one, and ids above 0, where 0 is a failure.
They raise TypeError for arguments of a wrong type, ValueError for an unknown transport_hint, and nothing else, but where a
method says so. Why a call failed is written to the logger "causeway.mooncake", once for each kind of failure, then at
most every ten seconds. All calls may be made from any thread, and let others run while they wait.
"""

from __future__ import annotations

import collections
import ctypes
import enum
import functools
import itertools
import logging
import threading
import weakref
from typing import Any, Callable, Deque, Dict, List, Optional, Sequence, TypeVar, Union, cast

import causeway
from causeway import _causeway

from ._absent import (
    CoroRPCInterface,
    ReceivedData,
    ReceivedTensor,
    RpcInterface,
    SharedSegment,
    create_rpc_client,
    create_rpc_server,
)
from ._managed import ManagedBuffers
from ._peers import Peers, UnknownHint
from ._report import failed, logger, once
from ._topology import matrix

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

CONNECT_SECONDS = 5.0  # Mooncake's, and that of control/connect_timeout
BYTES_PER_SECOND = 1 << 30  # what a deadline allows for

Numbers = Union[Sequence[int], Any]
Call = TypeVar("Call", bound=Callable[..., Any])


class TransferOpcode(enum.IntEnum):
    """The direction of a transfer: from the peer to local memory, or from local memory to the peer."""

    Read = 0
    Write = 1


Read = TransferOpcode.Read
Write = TransferOpcode.Write


class TransferNotify:
    """A message to the target of a transfer, which gets it after the data: two texts, which may be set again."""

    __slots__ = ("name", "msg")

    def __init__(self, name: str = "", msg: str = "") -> None:
        self.name = name
        self.msg = msg

    def __repr__(self) -> str:
        return f"TransferNotify(name={self.name!r}, msg={self.msg!r})"


class InnerTransferEngine:
    """What get_engine() returns: it keeps the engine alive, and offers nothing. Mooncake's own C++ Store does not accept
    it, because there is no C++ object behind it."""

    def __init__(self, engine: causeway.Engine) -> None:
        self._engine = engine


class NotInitialized(RuntimeError):
    """A call came before initialize(), or after one that failed."""


# What a call answers for, unless it is a wrong type or the hint.
FAILURES = (causeway.Error, NotInitialized, ValueError, OverflowError)


def _code(error: BaseException) -> int:
    """The negative number of Mooncake for a failure."""
    status = error.status if isinstance(error, causeway.Error) else causeway.Status.INVALID
    return _causeway.mooncake_code(int(status)) or -1


def _answers(failure: Any) -> Callable[[Call], Call]:
    """A method that answers a failure with a value, or with Mooncake's number for it when `failure` is _code."""

    def decorate(method: Call) -> Call:
        @functools.wraps(method)
        def call(self: TransferEngine, *arguments: Any, **named: Any) -> Any:
            try:
                return method(self, *arguments, **named)
            except UnknownHint:
                raise
            except FAILURES as error:
                failed((method.__name__, type(error), _first_text(arguments)), f"{method.__name__}: {error}")
                return failure(error) if callable(failure) else failure

        return cast(Call, call)

    return decorate


def _first_text(arguments: Sequence[Any]) -> Optional[str]:
    """The peer's name, so that the failures of one peer do not hide those of another."""
    return arguments[0] if arguments and isinstance(arguments[0], str) else None


def _text(value: Union[str, bytes], what: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{what} of a TransferNotify is a str, not {type(value).__name__}")
    return value.encode("utf-8", "surrogateescape")


def _total(lengths: Any) -> int:
    """The sum of one length, a list or an array, without a loop in Python."""
    if isinstance(lengths, int):
        return lengths
    add = getattr(lengths, "sum", None)
    return int(add() if add else sum(lengths))


class TransferEngine:
    """One engine of this process; there may be several, also over the same memory."""

    TransferOpcode = TransferOpcode

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards initialising, _regions and _batches
        self._engine: Optional[causeway.Engine] = None
        self._peers: Optional[Peers] = None
        self._inner: Optional[InnerTransferEngine] = None
        self._managed: Optional[ManagedBuffers] = None
        self._timeout: Optional[float] = None  # of MC_TRANSFER_TIMEOUT, in seconds; None = the engine's default
        self._regions: Dict[int, List[causeway.Region]] = {}  # by address, once for each registration
        self._batches: Dict[int, causeway.Batch] = {}
        self._ids = itertools.count(1)
        self._on_streams: Deque[causeway.Batch] = collections.deque()

    def __del__(self) -> None:
        engine = self.__dict__.get("_engine")
        if engine is not None:
            engine.close()

    # ---------------------------------------------------------------------------------------- the engine

    def initialize(
        self,
        local_hostname: Optional[str] = None,
        metadata_server: str = "P2PHANDSHAKE",
        protocol: Optional[str] = "",
        device_name: Optional[str] = "",
        *,
        hostname: Optional[str] = None,
    ) -> int:
        """Opens the engine: binds its port and starts its transports. 0, or a negative number; it can be tried again then.

        local_hostname (or hostname): "host", "host:port", "[v6]:port", an IPv6 address with or without brackets.
        metadata_server: "P2PHANDSHAKE" = peers are named "host:port"; or "http://...", "etcd://...", "redis://...".
        protocol: one that is not built is named once in a warning, with what is used instead. The transport is chosen for
        each pair of memories; MC_FORCE_TCP=1 leaves TCP only. device_name: RDMA devices, of which there is no use yet.
        """
        return self.initialize_ext(local_hostname or hostname, metadata_server, protocol, device_name, "")

    @_answers(_code)
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
        """As initialize(); metadata_type ("etcd", "http", "redis", "p2p") names the kind of a server without "kind://"."""
        name = local_hostname or hostname
        for value in (name, metadata_server, protocol or "", device_name or "", metadata_type or ""):
            if not isinstance(value, str):
                raise TypeError(f"initialize() takes texts, not {type(value).__name__}")
        if metadata_type and metadata_type not in ("p2p", "P2PHANDSHAKE") and "://" not in metadata_server:
            metadata_server = f"{metadata_type}://{metadata_server}"
        elif metadata_type in ("p2p", "P2PHANDSHAKE"):
            metadata_server = "P2PHANDSHAKE"
        self._choose(protocol or "")
        if device_name:
            once(f"device_name {device_name!r} names RDMA devices, which no transport uses yet", logging.INFO)
        with self._lock:
            if self._engine is not None:
                raise ValueError("the engine is initialized already")
            self._open(cast(str, name), metadata_server)
        return 0

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

    def _open(self, name: str, metadata_server: str) -> None:
        setup = _causeway.mooncake_setup(metadata_server, name)
        for line in setup["notices"]:
            once(line)
        engine = causeway.Engine(setup["name"], settings=setup["settings"])
        milliseconds = setup["settings"].get("control/connect_timeout")
        self._timeout = setup["transfer_timeout"] or None
        self._peers = Peers(engine, float(milliseconds) / 1000 if milliseconds else CONNECT_SECONDS)
        self._managed = ManagedBuffers(engine)
        self._inner = InnerTransferEngine(engine)
        self._engine = engine
        if setup.get("metric_interval"):
            _start_metric(engine, setup["metric_interval"])

    def _ready(self) -> causeway.Engine:
        if self._engine is None:
            raise NotInitialized("initialize() did not succeed yet")
        return self._engine

    def get_rpc_port(self) -> int:
        """The port that peers name this engine by, in "host:port"; 0 before initialize()."""
        return int(self._engine.name.rpartition(":")[2]) if self._engine else 0

    def get_engine(self) -> Optional[InnerTransferEngine]:
        """An object that keeps the engine alive; always the same one. None before initialize()."""
        return self._inner

    def get_engine_ptr(self) -> int:
        """0: there is no C++ engine for Mooncake's EP and PG backends to use."""
        once("get_engine_ptr(): there is no C++ engine behind this one; Mooncake's EP and PG cannot use it")
        return 0

    def get_local_topology(self, device_name: Optional[str] = None) -> str:
        """JSON {"cpu:0": [[preferred], [others]], ...}: each place of memory with the RDMA devices near it, of which
        there is no use yet, so the lists are empty. Works before initialize()."""
        del device_name
        if self._engine is not None:
            return matrix(self._engine)
        with causeway.Engine() as engine:
            return matrix(engine)

    @_answers(-1)
    def warmup_efa_segment(self, segment_name: str) -> int:
        """0: there is nothing to warm up."""
        if not isinstance(segment_name, str):
            raise TypeError(f"segment_name is a str, not {type(segment_name).__name__}")
        return 0

    # -------------------------------------------------------------------------------------------- memory

    @_answers(_code)
    def register_memory(self, buffer_addr: int, capacity: int, location: str = "*") -> int:
        """Makes [buffer_addr, buffer_addr + capacity) known: transfers may use it, and peers may read and write it.
        The same range again is counted. location ("cpu:0", "cuda:1") is a hint. 0, -7 for any other overlap, or another
        negative number."""
        self._register(buffer_addr, capacity, location)
        return 0

    def _register(self, address: int, length: int, location: str) -> None:
        engine = self._ready()
        if not isinstance(location, str):
            raise TypeError(f"location is a str, not {type(location).__name__}")
        known = None if location in ("", "*") or location.startswith("segments:") else location
        try:
            region = engine.register(address, length, location=known)
        except (causeway.LocationMismatch, causeway.NotFound) as error:
            if known is None:
                raise
            once(f"register_memory(): location {location!r} does not fit and is ignored: {error}", logging.INFO)
            region = engine.register(address, length)
        with self._lock:
            self._regions.setdefault(region.address, []).append(region)

    @_answers(_code)
    def unregister_memory(self, buffer_addr: int) -> int:
        """Takes back one registration. After the last one nothing touches the memory any more: when this returns 0, not
        before. A negative number: it is not registered, or a peer that does not answer still holds it; try again."""
        self._ready()
        self._unregister(buffer_addr)
        return 0

    def _unregister(self, address: int) -> None:
        with self._lock:
            regions = self._regions.get(address)
            if not regions:
                raise causeway.NotRegistered(f"{address:#x} is not the start of registered memory")
            region = regions.pop()
            if not regions:
                del self._regions[address]
        try:
            region.unregister()
        except causeway.Error:
            with self._lock:
                self._regions.setdefault(address, []).append(region)
            raise

    @_answers(_code)
    def batch_register_memory(self, buffer_addresses: Numbers, capacities: Numbers, location: str = "*") -> int:
        """register_memory() for each pair; all, or on a failure none."""
        if len(buffer_addresses) != len(capacities):
            raise ValueError(f"{len(buffer_addresses)} addresses, but {len(capacities)} capacities")
        self._ready()
        done: List[int] = []
        try:
            for address, capacity in zip(buffer_addresses, capacities):
                self._register(address, capacity, location)
                done.append(int(address))
        except BaseException:
            for address in reversed(done):
                self._unregister(address)
            raise
        return 0

    @_answers(_code)
    def batch_unregister_memory(self, buffer_addresses: Numbers) -> int:
        """unregister_memory() for each, whether others fail or not; 0 when all succeeded."""
        self._ready()
        first: Optional[causeway.Error] = None
        for address in buffer_addresses:
            try:
                self._unregister(address)
            except causeway.Error as error:
                first = first or error
        if first is not None:
            raise first
        return 0

    @_answers(0)
    def allocate_managed_buffer(self, length: int) -> int:
        """Host memory of at least `length` bytes that is registered already. Its address, or 0."""
        self._ready()
        return cast(ManagedBuffers, self._managed).allocate(length)

    @_answers(-1)
    def free_managed_buffer(self, buffer_addr: int, length: int) -> int:
        """Gives a managed buffer back. 0, or -1 for any other address."""
        del length
        self._ready()
        cast(ManagedBuffers, self._managed).free(buffer_addr)
        return 0

    @_answers(-1)
    def write_bytes_to_buffer(self, dest_address: int, data: bytes, length: int) -> int:
        """Copies the first `length` bytes of data to registered memory, host or device. 0; -1 when it is not registered or
        data is shorter."""
        source = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        if not 0 <= length <= len(source):
            raise ValueError(f"length {length}, but the data has {len(source)} bytes")
        if not length:
            return 0
        if self._ready().region_at(dest_address, length).device < 0:
            ctypes.memmove(dest_address, bytes(source[:length]), length)
        else:
            self._copy(TransferOpcode.Write, dest_address, bytearray(source[:length]))
        return 0

    def read_bytes_from_buffer(self, source_address: int, length: int) -> bytes:
        """The bytes of registered memory, host or device. Raises ValueError when it is not registered: no bytes could
        stand for that."""
        if length == 0:
            return b""
        try:
            if self._ready().region_at(source_address, length).device < 0:
                return ctypes.string_at(source_address, length)
            data = bytearray(length)
            self._copy(TransferOpcode.Read, source_address, data)
        except FAILURES as error:
            raise ValueError(f"read_bytes_from_buffer: {error}") from error
        return bytes(data)

    def _copy(self, opcode: TransferOpcode, address: int, data: bytearray) -> None:
        """Between device memory and data, as a transfer of the engine to itself."""
        engine = self._ready()
        segment = cast(Peers, self._peers).get(engine.name)
        with engine.register(data) as region:
            move = engine.write if opcode == TransferOpcode.Write else engine.read
            move(segment, region.address, address, len(data)).wait()

    # ----------------------------------------------------------------------------------------- transfers

    def _submit(
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
        engine = self._ready()
        if not isinstance(opcode, int):
            raise TypeError(f"opcode is a TransferOpcode, not {type(opcode).__name__}")
        if opcode not in (TransferOpcode.Read, TransferOpcode.Write):
            raise ValueError(f"opcode {opcode}: there are Read and Write")
        if notify is not None:
            if not isinstance(notify, TransferNotify):
                raise TypeError(f"notify is a TransferNotify, not {type(notify).__name__}")
            options["notify"] = (_text(notify.name, "name").decode("utf-8", "replace"), _text(notify.msg, "msg"))
        if self._timeout is not None:
            options["deadline"] = self._timeout + _total(length) / BYTES_PER_SECOND
        segment = cast(Peers, self._peers).get(target, hint)
        move = engine.write if opcode == TransferOpcode.Write else engine.read
        return move(segment, local, remote, length, **options)

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

    @classmethod
    def _wait(cls, call: str, target: str, batch: causeway.Batch) -> int:
        result = cls._finish(batch)
        if result.state == causeway.BatchState.COMPLETED:
            return 0
        failed((call, result.status, target), f"{call} to {target}: {result.text}")
        return -1

    @_answers(-1)
    def transfer_sync_write(
        self, target_hostname: str, buffer: int, peer_buffer_address: int, length: int, transport_hint: str = ""
    ) -> int:
        """Writes local memory to the peer and waits until the peer would see it. 0 / -1."""
        batch = self._submit(Write, target_hostname, buffer, peer_buffer_address, length, transport_hint)
        return self._wait("transfer_sync_write", target_hostname, batch)

    @_answers(-1)
    def transfer_sync_read(
        self, target_hostname: str, buffer: int, peer_buffer_address: int, length: int, transport_hint: str = ""
    ) -> int:
        """Reads memory of the peer into local memory and waits for it. 0 / -1."""
        batch = self._submit(Read, target_hostname, buffer, peer_buffer_address, length, transport_hint)
        return self._wait("transfer_sync_read", target_hostname, batch)

    @_answers(-1)
    def transfer_sync(
        self,
        target_hostname: str,
        buffer: int,
        peer_buffer_address: int,
        length: int,
        opcode: TransferOpcode,
        notify: Optional[TransferNotify] = None,
        transport_hint: str = "",
    ) -> int:
        """transfer_sync_read() or transfer_sync_write(); notify is sent to the peer after the data. 0 / -1."""
        batch = self._submit(opcode, target_hostname, buffer, peer_buffer_address, length, transport_hint, notify)
        return self._wait("transfer_sync", target_hostname, batch)

    @_answers(-1)
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
        batch = self._submit(Write, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)
        return self._wait("batch_transfer_sync_write", target_hostname, batch)

    @_answers(-1)
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
        batch = self._submit(Read, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)
        return self._wait("batch_transfer_sync_read", target_hostname, batch)

    @_answers(-1)
    def batch_transfer_sync(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        opcode: TransferOpcode,
        notify: Optional[TransferNotify] = None,
        transport_hint: str = "",
    ) -> int:
        """As the two above; notify is sent to the peer after all data, also when there is none. 0 / -1."""
        if self._is_empty(buffers, peer_buffer_addresses, lengths) and notify is None:
            return 0
        batch = self._submit(
            opcode, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint, notify
        )
        return self._wait("batch_transfer_sync", target_hostname, batch)

    def _keep(self, batch: causeway.Batch) -> int:
        number = next(self._ids)
        self._batches[number] = batch
        return number

    @_answers(0)
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
        return self._keep(
            self._submit(Write, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)
        )

    @_answers(0)
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
        return self._keep(self._submit(Read, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint))

    @_answers(0)
    def batch_transfer_async(
        self,
        target_hostname: str,
        buffers: Numbers,
        peer_buffer_addresses: Numbers,
        lengths: Numbers,
        opcode: TransferOpcode,
        transport_hint: str = "",
    ) -> int:
        """Starts one of the two. An id above 0, or 0."""
        self._is_empty(buffers, peer_buffer_addresses, lengths)
        return self._keep(
            self._submit(opcode, target_hostname, buffers, peer_buffer_addresses, lengths, transport_hint)
        )

    @_answers(0)
    def transfer_submit_write(
        self, target_hostname: str, buffer: int, peer_buffer_address: int, length: int, transport_hint: str = ""
    ) -> int:
        """Starts a transfer_sync_write(). An id above 0 for transfer_check_status(), or 0."""
        return self._keep(self._submit(Write, target_hostname, buffer, peer_buffer_address, length, transport_hint))

    @_answers(-1)
    def get_batch_transfer_status(self, batch_ids: Sequence[int]) -> int:
        """Waits until all of these have ended, and forgets them. 0 when all completed, -1 when one did not or is unknown."""
        answer = 0
        for number in batch_ids:
            batch = self._batches.pop(number, None)
            if batch is None:
                failed("unknown id", f"get_batch_transfer_status: there is no batch {number}")
                answer = -1
            elif self._wait("get_batch_transfer_status", f"batch {number}", batch):
                answer = -1
        return answer

    @_answers(-1)
    def transfer_check_status(self, batch_id: int) -> int:
        """Never waits. 0: it runs. It is forgotten with 1 (completed), -1 (failed, or unknown) and -2 (timed out)."""
        batch = self._batches.get(batch_id)
        if batch is not None and not batch.done:
            return 0
        batch = self._batches.pop(batch_id, None)
        if batch is None:
            raise ValueError(f"there is no batch {batch_id}")
        result = self._finish(batch)
        if result.state == causeway.BatchState.COMPLETED:
            return 1
        failed(("transfer_check_status", result.status), f"transfer_check_status: {result.text}")
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
        self._on_stream(
            Write, target_hostname, buffers, peer_buffer_addresses, lengths, stream_ptr, transport_hint
        )

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
            self._look_back()
            if not isinstance(local, int) and self._is_empty(local, remote, length):
                return
            location = self._location_of(int(local) if isinstance(local, int) else int(local[0]))
            batch = self._submit(
                opcode, target, local, remote, length, hint, device_after=[(location, stream, "stream")]
            )
            self._on_streams.append(batch)
            try:
                batch.fence(location, stream)
            except causeway.Error:
                batch.cancel()
                raise
        except UnknownHint:
            raise
        except FAILURES as error:
            raise RuntimeError(f"transfer on a stream: {error}") from error

    def _look_back(self) -> None:
        """Forgets transfers on streams that ended; raises RuntimeError for the first that failed."""
        for _ in range(len(self._on_streams)):
            try:
                batch = self._on_streams.popleft()
            except IndexError:
                return
            if not batch.done:
                self._on_streams.append(batch)
                continue
            result = self._finish(batch)
            if result.state != causeway.BatchState.COMPLETED:
                raise RuntimeError(f"an earlier transfer on a stream failed: {result.text}")

    def _location_of(self, address: int) -> str:
        """The device whose stream it is: that of the buffer; for host memory torch's current one, or the first."""
        engine = self._ready()
        region = engine.region_at(address)
        if region.device >= 0:
            return region.location
        platform = next((part.name for part in engine.platforms() if part.on and part.name != "host"), None)
        if platform is None:
            raise ValueError("no device runtime is present, so there are no streams")
        return f"{platform}:{_current_device()}"

    # ------------------------------------------------------------------------------------ peers, messages

    @_answers(-1)
    def send_probe(self, peer_server_name: str) -> int:
        """0 when the peer is there and serves; -1 after at most MC_HANDSHAKE_CONNECT_TIMEOUT (5 s)."""
        self._ready()
        cast(Peers, self._peers).probe(peer_server_name)
        return 0

    @_answers(0)
    def get_first_buffer_address(self, segment_name: str) -> int:
        """The address of the peer's first registered memory, or 0."""
        self._ready()
        regions = cast(Peers, self._peers).get(segment_name).regions()
        return regions[0].address if regions else 0

    def get_notifies(self) -> List[TransferNotify]:
        """The messages that came since the last call, oldest first. Bytes that are no text are escaped as Python's
        "surrogateescape" does."""
        try:
            found = self._ready().notifications()
        except FAILURES as error:
            failed("get_notifies", f"get_notifies: {error}")
            return []
        return [TransferNotify(note.name, bytes(note.data).decode("utf-8", "surrogateescape")) for note in found]


def _current_device() -> int:
    """torch's, when the program uses torch on a device; else 0."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.current_device())
    return 0


def _start_metric(engine: causeway.Engine, seconds: float) -> None:
    """MC_TE_METRIC: a line of throughput at each interval in which there was some, while the engine lives."""
    reference = weakref.ref(engine)
    stop = threading.Event()
    weakref.finalize(engine, stop.set)

    def report() -> None:
        before = None
        while not stop.wait(seconds):
            alive = reference()
            if alive is None or alive.closed:
                return
            stats = alive.stats()
            del alive
            if before and stats != before:
                moved = [(stats[key] - before[key]) / seconds / 1e6 for key in ("bytes_written", "bytes_read", "bytes_served")]
                done = stats["batches_completed"] - before["batches_completed"]
                logger.warning(
                    "metric: written %.2f MB/s, read %.2f MB/s, served %.2f MB/s, %d batches completed", *moved, done
                )
            before = stats

    threading.Thread(target=report, name="causeway-metric", daemon=True).start()
