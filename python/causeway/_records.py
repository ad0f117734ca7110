# SPDX-License-Identifier: Apache-2.0
"""The values that go into calls and come out of them. Times are seconds or, where the name ends in _ns, nanoseconds."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple, Optional, Union

from causeway import _causeway

if TYPE_CHECKING:
    from causeway._causeway import Segment

    _Local = Union[int, "_causeway.Region", "_causeway.Memory"]


class Access(enum.IntFlag):
    """What peers may do with a region."""

    LOCAL = 0
    REMOTE_READ = 1
    REMOTE_WRITE = 2
    REMOTE = 3


class MemoryKind(enum.IntEnum):
    """What a region is made of."""

    HOST = 0
    DEVICE = 1
    FILE = 2
    POOL = 3


class Op(enum.IntEnum):
    """READ moves remote to local, WRITE local to remote."""

    READ = 0
    WRITE = 1


class Priority(enum.IntEnum):
    """The class of a batch: lower ones go when there is room."""

    LATENCY = 0
    BULK = 1
    BACKGROUND = 2


class Delivery(enum.IntEnum):
    """When a write counts as completed."""

    VISIBLE = 0
    DELIVERED = 1
    LOCAL = 2


class BatchState(enum.IntEnum):
    """WAITING is for prerequisites; the last four are final."""

    WAITING = 0
    ACTIVE = 1
    COMPLETED = 2
    FAILED = 3
    CANCELED = 4
    TIMED_OUT = 5


class RemoteState(enum.IntEnum):
    """What is known about the target's memory after a failure.

    QUIET: nothing of the batch will land any more. FENCED: nothing lands after fence_ns. UNKNOWN: what was sent may
    still land.
    """

    QUIET = 0
    FENCED = 1
    UNKNOWN = 2


class PeerState(enum.IntEnum):
    """What is known about a peer now."""

    UP = 0
    SUSPECT = 1
    DOWN = 2
    RESTARTED = 3


class Scope(enum.IntEnum):
    """The largest thing that a failure concerns."""

    REQUEST = 0
    PATH = 1
    PEER = 2
    ENGINE = 3


class Status(enum.IntEnum):
    """The library's statuses; OK is 0, failures are negative. Each failure has an exception class."""

    OK = 0
    INVALID = -1
    NO_MEMORY = -2
    NOT_FOUND = -3
    BUSY = -4
    AGAIN = -5
    OVERLAP = -6
    NOT_REGISTERED = -7
    ACCESS = -8
    STALE_REGION = -9
    NO_PATH = -10
    UNSUPPORTED = -11
    TIMED_OUT = -12
    CANCELED = -13
    PEER_DOWN = -14
    PEER_RESTARTED = -15
    PROTOCOL = -16
    IO = -17
    CONNECT = -18
    ADDRESS = -19
    FORKED = -20
    CLOSED = -21
    LIMIT = -22
    LOCATION = -23
    NOTIFY_UNKNOWN = -24
    CHECKSUM = -25
    PERMISSION = -26
    CONFIG = -27
    PREREQUISITE = -28
    INTERNAL = -29


class BatchResult(NamedTuple):
    """How a batch ended; before its end, its counts so far."""

    state: BatchState
    status: int
    """0, or that of the first request that failed."""
    scope: Scope
    retryable: bool
    local_quiet: bool
    """False: something may still touch local memory."""
    remote: RemoteState
    fence_ns: int
    """For FENCED: time.monotonic_ns() after which nothing lands."""
    requests_completed: int
    requests_failed: int
    bytes_completed: int
    submitted_ns: int
    ended_ns: int
    text: str
    """One line: peer, transport, cause; empty when COMPLETED."""


class SegmentInfo(NamedTuple):
    """A segment and the peer behind it."""

    name: str
    address: str
    """The one of the advertised addresses that answered."""
    instance: bytes
    """16 bytes; all zero for a classic peer."""
    classic: bool
    """A Mooncake engine."""
    same_host: bool
    same_process: bool
    state: PeerState
    transports: str
    """What the peer offers, a comma list."""
    region_count: int
    """In a classic peer's last list, or of the engine itself; else 0."""


class RemoteRegion(NamedTuple):
    """A region that a peer offers. address and length are bytes in the peer's address space."""

    address: int
    length: int
    access: Access
    kind: MemoryKind
    device: int
    location: str


class PathStep(NamedTuple):
    """What one transport could do for a request."""

    transport: str
    chosen: bool
    usable: bool
    rails: int
    rails_down: int
    staged: bool
    """Device memory goes through buffers in host memory."""
    gigabytes_per_second: float
    checks: str
    why: str


class Notification(NamedTuple):
    """A message from a peer, which came after its data."""

    sender: str
    """The name by which the sender can be opened."""
    name: str
    data: bytes


class Notify(NamedTuple):
    """A message that is sent when every request of a batch is visible at its target.

    name: at most 255 bytes. data: at most 65536 bytes; to a Mooncake engine it must be text without NUL.
    segment: which of several targets; None = the only one.
    """

    name: str
    data: Union[bytes, bytearray, memoryview, str]
    segment: Optional["Segment"] = None


class Request(NamedTuple):
    """One range to move. local is an address, a Region, a buffer or a tensor inside a region; remote is an address in
    the peer; length is bytes, None = all of local."""

    op: Union[Op, str]
    segment: "Segment"
    local: "_Local"
    remote: int
    length: Optional[int] = None


class Part(NamedTuple):
    """A transport or platform: what it does, or why it is off."""

    name: str
    on: bool
    why: str


class Setting(NamedTuple):
    """One setting of an engine. origin: default, file, environment or options."""

    key: str
    value: str
    origin: str
    help: str


for _made in (
    Access,
    MemoryKind,
    BatchState,
    RemoteState,
    PeerState,
    Scope,
    BatchResult,
    SegmentInfo,
    RemoteRegion,
    PathStep,
    Notification,
    Part,
    Setting,
):
    _causeway.bind(_made.__name__, _made)
