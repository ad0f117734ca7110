# SPDX-License-Identifier: Apache-2.0
# What the extension offers, and the only place where it is described: the build puts these texts into it.
import os
from types import TracebackType
from typing import Any, Generator, Iterable, Mapping, Protocol, Sequence, TypedDict, Union, overload

from typing_extensions import Buffer, Self, Unpack

from causeway._records import (
    Access,
    BatchResult,
    BatchState,
    MemoryKind,
    Notification,
    Notify,
    Part,
    PathStep,
    RemoteRegion,
    Request,
    SegmentInfo,
    Setting,
)

version: str

class Tensor(Protocol):
    """torch.Tensor and what looks like it, also in the memory of a device. It must be contiguous."""

    def data_ptr(self) -> int: ...
    @property
    def nbytes(self) -> int: ...

class DLPackTensor(Protocol):
    """What exchanges its memory by DLPack."""

    def __dlpack__(self, *, stream: Any = ...) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...

class CudaArray(Protocol):
    """What has the array interface of CUDA."""

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]: ...

Memory = Union[Buffer, Tensor, DLPackTensor, CudaArray]
#: A number, or one for each row: an array of 8-byte integers or a sequence of ints.
Integers = Union[int, Buffer, Sequence[int]]
Message = Union[Notify, tuple[str, Union[Buffer, str]], tuple[str, Union[Buffer, str], "Segment | None"]]
DeviceSync = Union[tuple[str, int | None], tuple[str, int | None, str]]

class BatchOptions(TypedDict, total=False):
    deadline: float | None
    after: Batch | Iterable[Batch] | None
    counter: tuple[Counter, int] | None
    notify: Message | Iterable[Message] | None
    device_after: Iterable[DeviceSync] | None
    fail_fast: bool
    strict: bool
    checksum: bool
    priority: int
    delivery: int

class Engine:
    def __init__(
        self,
        name: str | None = None,
        *,
        settings: Mapping[str, str | int | bool] | None = None,
        config: str | os.PathLike[str] | None = None,
        environment: bool = False,
        log_key: int = 0,
    ) -> None: ...
    @property
    def name(self) -> str:
        """The name by which peers open this engine: "host:port"."""
    @property
    def closed(self) -> bool:
        """Whether the engine is closed."""
    def close(self, timeout: float | None = None) -> None:
        """Closes the engine; see causeway.Engine.close()."""
    def progress(self) -> None:
        """Does what is ready, for an engine with {"progress/threads": 0}. Does not wait. Threads: any."""
    def register(
        self,
        memory: int | Memory,
        length: int | None = None,
        *,
        location: str | None = None,
        access: Access | None = None,
    ) -> Region:
        """Registers memory: requests can use it, and peers with a right can reach it.

        memory: an address, with length bytes; or a buffer (bytes, memoryview, numpy array), a tensor with data_ptr(),
        an object with __dlpack__ or __cuda_array_interface__. They must be contiguous; length may be less than they
        have. location: "cpu:0", "cuda:1", "sunrise:0" where the memory must be; None = find out. access: what peers may
        do; None = Access.REMOTE, for read-only buffers Access.REMOTE_READ.

        The object is kept, and its buffer stays exported, until unregister() or the end of the engine, whether or not
        the Region is kept. Memory at an address must stay mapped so long. The identical range with the same rights can
        be registered again, and then needs as many unregister() calls.

        Raises Overlap, LocationMismatch, InvalidArgument (not mapped, length 0), Unsupported (memory that no platform
        knows). Releases the GIL. Threads: any.
        """
    def region_at(self, address: int, length: int = 1) -> Region:
        """The region that holds [address, address + length). Raises NotRegistered. Threads: any."""
    def allocate(
        self,
        length: int,
        *,
        location: str | None = None,
        shareable: bool = True,
        huge: bool = False,
        access: Access | None = None,
    ) -> Region:
        """Allocates and registers length bytes, zeroed and the engine's until Region.free().

        location: "cpu:N" on a NUMA node, "sunrise:N", "cuda:N" on a device; None = anywhere in host memory. shareable:
        peers on this machine can map it, the fastest way between processes. huge: huge pages when there are any.
        access: what peers may do; None = Access.REMOTE. In host memory the Region is a buffer:
        numpy.frombuffer(region, dtype=...).

        Raises Unsupported (nobody allocates there), OutOfMemory, InvalidArgument. Releases the GIL. Threads: any.
        """
    def open(
        self,
        name: str,
        *,
        timeout: float | None = None,
        strict: bool = False,
        transports: str | Iterable[str] | None = None,
    ) -> Segment:
        """Opens what a peer offers.

        name: "host:port" or "[v6]:port"; the engine's own name opens itself. timeout: seconds for all of it; None = the
        setting control/connect_timeout. strict: requests fail rather than change to another transport. transports: those
        that may be used, the preferred first.

        Raises BadAddress, ConnectFailed, TimedOut, ProtocolError, NoPath. Releases the GIL. Threads: any.
        """
    def write(
        self,
        segment: Segment,
        local: Integers | Region | Memory,
        remote: Integers,
        length: Integers | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Starts to move local memory to a peer. Returns at once with a Batch to wait for.

        One range: local is an address, a Region, or a buffer or tensor inside one; remote an address of the peer; length
        is bytes, None = all of local. Many: local and remote are columns of n addresses, length one of n or a number for
        all. A column is an array of 8-byte integers, shape (n,), read without a loop in Python, or a sequence of ints;
        an array of 8-byte integers is always a column, so give such data as a Region or as bytes. Rows of one length
        in one local region travel together as one request of up to 1024. No rows: a batch of nothing, which completes.

        The memory must stay as it is until the batch has ended.

        Options, of every way to submit a batch:
        deadline: seconds from now until it is TIMED_OUT; None = 30 s and 1 s for each GiB. after: batches that must
        be COMPLETED first. counter: (Counter, value) that must be reached first. device_after: (location, handle, "stream"
        or "event") of devices that must have come so far. notify: Notify, (name, data) or several, sent when all is
        visible at its target. fail_fast: the first failure ends the rest. strict: no other transport when the chosen one
        fails. checksum: verify end to end where the transport can. priority: Priority. delivery: Delivery.

        Raises NotRegistered (local is in no region), InvalidArgument, ValueError (unequal columns, negative numbers),
        Unsupported, LimitReached. Releases the GIL for more than 512 rows. Threads: any.
        """
    def read(
        self,
        segment: Segment,
        local: Integers | Region | Memory,
        remote: Integers,
        length: Integers | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Starts to move memory of a peer to local memory. As write(); a buffer as local must be writable."""
    def write_pages(
        self,
        segment: Segment,
        local: int | Region | Memory,
        remote: int,
        page_size: int,
        local_pages: Buffer | Sequence[int] | None = None,
        remote_pages: Buffer | Sequence[int] | None = None,
        *,
        local_stride: int = 0,
        remote_stride: int = 0,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Starts to move pages to a peer, by their numbers.

        Page i of the batch goes from local + local_pages[i] * local_stride to remote + remote_pages[i] * remote_stride
        and has page_size bytes. local_pages, remote_pages: integers of 4 or 8 bytes, shape (n,), or sequences of ints;
        None = 0, 1, 2, ...; when both are None, local says how many. strides: bytes; 0 = page_size. All local pages lie
        in one region. Options and errors as of write().
        """
    def read_pages(
        self,
        segment: Segment,
        local: int | Region | Memory,
        remote: int,
        page_size: int,
        local_pages: Buffer | Sequence[int] | None = None,
        remote_pages: Buffer | Sequence[int] | None = None,
        *,
        local_stride: int = 0,
        remote_stride: int = 0,
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Starts to move pages of a peer to local memory, by their numbers. As write_pages()."""
    def submit(
        self,
        requests: Iterable[Request | tuple[int | str, Segment, int | Region | Memory, int, int | None]],
        **options: Unpack[BatchOptions],
    ) -> Batch:
        """Starts requests that may differ in everything: Request(op, segment, local, remote, length).

        Batch.request_status(i) tells about the i-th. Options and errors as of write(). Threads: any.
        """
    def notify(self, segment: Segment, data: Buffer | str, *, name: str = "", timeout: float | None = None) -> None:
        """Sends a message without data and waits for the peer's acknowledgement.

        data: at most 65536 bytes. name: at most 255. timeout: seconds; None = 5. Raises TimedOut (it was not sent),
        NotifyUnknown (it may have arrived or not), PeerDown, PeerRestarted, Unsupported, LimitReached. Releases the GIL.
        Threads: any.
        """
    def notifications(self) -> list[Notification]:
        """The notifications that have come, in their order. Never waits. Threads: any; each goes to one taker."""
    def wait_notification(self, timeout: float | None = None) -> Notification | None:
        """The next notification, or None after timeout seconds (None = as long as it takes). Releases the GIL."""
    def stats(self) -> dict[str, int]:
        """Counts of what the engine did; see cw_engine_stats_get(3). Threads: any."""
    def transports(self) -> list[Part]:
        """Every transport: what it does, or why it is off."""
    def platforms(self) -> list[Part]:
        """Every platform, a kind of memory that the engine knows, or why it does not."""
    def settings(self) -> list[Setting]:
        """Every setting: its value, and where that came from."""
    def topology(self) -> dict[str, list[dict[str, Any]]]:
        """The devices that transports know and the links between them: {"devices": [...], "links": [...]}. Releases the
        GIL."""
    def _take_notification(self) -> Notification | None: ...
    def _notification_fd(self) -> int: ...
    def _listen(self, change: int, /) -> None: ...

class Region:
    """Registered memory of an engine: from Engine.register(), allocate() or region_at(). The engine keeps it registered,
    also when no Region object is left. A context manager: leaving it unregisters or frees it. A buffer, when it was
    allocated in host memory. Threads: any."""

    @property
    def address(self) -> int:
        """Of the first byte, in this process."""
    @property
    def length(self) -> int:
        """In bytes."""
    @property
    def closed(self) -> bool:
        """Whether it is unregistered."""
    @property
    def engine(self) -> Engine:
        """The engine that it belongs to."""
    @property
    def location(self) -> str:
        """ "cpu:0", "sunrise:1"; "cpu:*" when no page has a NUMA node yet."""
    @property
    def kind(self) -> MemoryKind:
        """What it is made of."""
    @property
    def device(self) -> int:
        """The number of its device; -1 for host memory."""
    @property
    def numa_node(self) -> int:
        """Of the first page; -1 = unknown."""
    @property
    def access(self) -> Access:
        """What peers may do with it."""
    @property
    def registrations(self) -> int:
        """How many unregister() calls it needs."""
    @property
    def engine_owned(self) -> bool:
        """Whether allocate() made it."""
    def unregister(self) -> None:
        """Takes back one registration. After the last one nothing touches the memory any more.

        Waits up to the setting batch/grace. Raises Busy (a request or a peer still holds it: nobody new gets at it, the
        Region stays valid, try again), Closed, InvalidArgument (memory of allocate(): use free()). Releases the GIL.
        """
    def free(self) -> None:
        """Frees memory of allocate(). Raises BufferError while views of it exist, such as numpy arrays, and else as
        unregister(). Releases the GIL."""
    def revoke(self, offset: int = 0, length: int = 0, timeout: float | None = None) -> None:
        """Ends all access of peers and requests to [offset, offset + length); length 0 = up to the end.

        Nothing touches the range when this has returned. There is no way back but unregister(). timeout: seconds, None =
        as long as it takes. Raises Busy (something still holds it; call again to wait on), InvalidArgument, LimitReached.
        Releases the GIL.
        """
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Segment:
    """What a peer offers: from Engine.open(). A context manager: leaving it closes it. Threads: any."""

    @property
    def name(self) -> str:
        """As it was opened."""
    @property
    def engine(self) -> Engine:
        """The engine that it belongs to."""
    @property
    def closed(self) -> bool:
        """Whether it, or its engine, is closed."""
    def info(self) -> SegmentInfo:
        """What is known about the peer now; asks nobody."""
    def regions(self) -> list[RemoteRegion]:
        """The regions of the peer that others may use. Asks it, and waits up to the setting control/connect_timeout.
        Raises TimedOut, PeerDown, PeerRestarted, ProtocolError. Releases the GIL."""
    def probe(self, timeout: float | None = None) -> float:
        """Asks for a sign of life; returns the seconds that it took. timeout: seconds, None = 5. Raises TimedOut,
        PeerDown, PeerRestarted. Releases the GIL."""
    def path(self, local: int | Region, remote: int, length: int, op: str = "write") -> list[PathStep]:
        """Which way a request would go: a row for each transport, the chosen one first. op: "read" or "write". May ask
        the peer. Raises NotRegistered, StaleRegion, PeerDown, TimedOut, AccessDenied. Releases the GIL."""
    def close(self) -> None:
        """Gives the segment back; requests in flight run on. Closing a closed one does nothing."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class Batch:
    """Requests in flight. `await batch` in an event loop, or wait(). May be dropped at any time: it runs on.

    Awaiting gives the BatchResult, or raises its failure; it uses no task or thread that polls, in any number of loops
    and threads at once. When the task that awaits is canceled, so is the batch; local memory is free again when
    finish() returns. Threads: any.
    """

    @property
    def state(self) -> BatchState:
        """Now; makes no system call."""
    @property
    def done(self) -> bool:
        """Whether it has ended, however it did."""
    @property
    def engine(self) -> Engine:
        """The engine that it belongs to."""
    @property
    def released(self) -> bool:
        """Whether release() was called."""
    def wait(self, timeout: float | None = None) -> BatchResult:
        """Waits for the end. Returns its result, or raises what it failed with: error.result has the details.

        timeout: seconds, None = as long as it takes (every batch has a deadline); then raises Timeout, and the batch
        runs on. Releases the GIL.
        """
    @overload
    def finish(self, timeout: float) -> BatchResult | None: ...
    @overload
    def finish(self, timeout: None = None) -> BatchResult:
        """As wait(), but a failure is returned too, and None when the time is over."""
    def result(self) -> BatchResult:
        """How it ended, or its counts so far. Never waits, never raises its failure."""
    def request_status(self, index: int, /) -> tuple[int, int]:
        """The status and the bytes of one request of Engine.submit(): 0 = completed, Status.AGAIN = it runs. Raises
        IndexError."""
    def cancel(self) -> None:
        """Asks for the end, within the setting batch/grace. One that has ended stays as it is."""
    def release(self) -> None:
        """Gives back what the library keeps of it; it is of no use then. Dropping the object does the same."""
    def fence(self, location: str, stream: int = 0) -> None:
        """Makes a stream of a device wait for the end: what is put into it from now on runs after that. stream: the
        runtime's handle, 0 = the default one. Look at the result before the data is used."""
    def __await__(self) -> Generator[Any, Any, BatchResult]: ...
    def _check(self) -> BatchResult: ...

class Counter:
    """A number that batches can wait for; from Engine.counter(). Threads: any."""

    def __init__(self, engine: Engine, initial: int = 0) -> None: ...
    @property
    def engine(self) -> Engine:
        """The engine that it belongs to."""
    @property
    def closed(self) -> bool:
        """Whether it, or its engine, is closed."""
    def add(self, n: int = 1) -> None:
        """Adds; batches that wait for a value that is reached now start. It stops at 2**64 - 1."""
    def close(self) -> None:
        """Closes it. Batches that still wait for it fail with PrerequisiteFailed."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...

class Queue:
    """Tells one event loop when batches end; for causeway/_aio.py."""

    def __init__(self, engine: Engine, /) -> None: ...
    @property
    def closed(self) -> bool: ...
    def fileno(self) -> int: ...
    def watch(self, batch: Batch, token: int, /) -> Batch: ...
    def poll(self) -> list[int]: ...

def status_name(status: int, /) -> str:
    """The name of a status, such as "ERR_BUSY"; "UNKNOWN" for unknown numbers."""

def status_text(status: int, /) -> str:
    """What a status means, in one line."""

def bind(name: str, made: object, /) -> None: ...
def log_wait(wait: bool, /) -> list[tuple[int, int, str]]: ...
def log_stop() -> None: ...
def log_reset() -> None: ...
def mooncake_setup(metadata_server: str, local_hostname: str, file: str | None = None, /) -> dict[str, Any]: ...
def mooncake_protocol(name: str, /) -> tuple[str | None, str]: ...
def mooncake_code(status: int, /) -> int: ...
