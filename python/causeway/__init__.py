# SPDX-License-Identifier: Apache-2.0
"""Moves bytes between memories, host or GPU: between processes on one machine, or between machines.

    import causeway

    with causeway.Engine() as engine:
        memory = engine.allocate(1 << 20)
        segment = engine.open("10.0.0.2:41827")
        remote = segment.regions()[0]
        engine.write(segment, memory, remote.address, 4096).wait()

An Engine owns everything; a Region is registered local memory; a Segment is what a peer offers; a Batch is a set of
requests in flight, waited for or awaited. Sizes, lengths and offsets are bytes, times are seconds (nanoseconds where a
name ends in _ns). Every failure of the library is a causeway.Error; wrong types are TypeError, impossible values
ValueError or OverflowError. Calls that may wait release the GIL.
"""

from causeway._causeway import Batch, Counter, Region, Segment, status_name, version
from causeway._engine import Engine
from causeway._errors import (
    AccessDenied,
    BadAddress,
    Busy,
    Canceled,
    ChecksumMismatch,
    Closed,
    ConfigError,
    ConnectFailed,
    Error,
    Forked,
    InternalError,
    InvalidArgument,
    LimitReached,
    LocationMismatch,
    NoPath,
    NotFound,
    NotifyUnknown,
    NotRegistered,
    OutOfMemory,
    Overlap,
    PeerDown,
    PeerRestarted,
    PermissionDenied,
    PrerequisiteFailed,
    ProtocolError,
    StaleRegion,
    TimedOut,
    Timeout,
    TransferError,
    Unsupported,
)
from causeway._records import (
    Access,
    BatchResult,
    BatchState,
    Delivery,
    MemoryKind,
    Notification,
    Notify,
    Op,
    Part,
    PathStep,
    PeerState,
    Priority,
    RemoteRegion,
    RemoteState,
    Request,
    Scope,
    SegmentInfo,
    Setting,
    Status,
)

__version__ = version

__all__ = [
    "Access",
    "AccessDenied",
    "BadAddress",
    "Batch",
    "BatchResult",
    "BatchState",
    "Busy",
    "Canceled",
    "ChecksumMismatch",
    "Closed",
    "ConfigError",
    "ConnectFailed",
    "Counter",
    "Delivery",
    "Engine",
    "Error",
    "Forked",
    "InternalError",
    "InvalidArgument",
    "LimitReached",
    "LocationMismatch",
    "MemoryKind",
    "NoPath",
    "NotFound",
    "NotRegistered",
    "Notification",
    "Notify",
    "NotifyUnknown",
    "Op",
    "OutOfMemory",
    "Overlap",
    "Part",
    "PathStep",
    "PeerDown",
    "PeerRestarted",
    "PeerState",
    "PermissionDenied",
    "PrerequisiteFailed",
    "Priority",
    "ProtocolError",
    "Region",
    "RemoteRegion",
    "RemoteState",
    "Request",
    "Scope",
    "Segment",
    "SegmentInfo",
    "Setting",
    "StaleRegion",
    "TimedOut",
    "Status",
    "Timeout",
    "TransferError",
    "Unsupported",
    "status_name",
    "version",
]
