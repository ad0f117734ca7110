# SPDX-License-Identifier: Apache-2.0
"""One exception class for each status of the library, below Error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from causeway import _causeway
from causeway._records import Scope

if TYPE_CHECKING:
    from causeway._records import BatchResult


class Error(Exception):
    """A call or a batch that failed.

    status: the library's number, negative; status_name(status) names it.
    text: one line that says what was wrong or what to do.
    scope: the largest thing that the failure concerns, and so what to throw away before trying again.
    retryable: whether the same call may succeed later without a change by the caller.
    result: how the batch ended, when it is one that failed.
    """

    def __init__(
        self,
        status: int,
        text: str,
        scope: int = Scope.REQUEST,
        retryable: bool = False,
        result: BatchResult | None = None,
    ) -> None:
        super().__init__(status, text, scope, retryable)
        self.status = status
        self.text = text
        self.scope = Scope(scope)
        self.retryable = bool(retryable)
        self.result = result

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.status, self.text, int(self.scope), self.retryable, self.result)


class InvalidArgument(Error, ValueError):
    """A malformed request, a wrong range, an object of another engine."""


class OutOfMemory(Error, MemoryError):
    """Memory is short."""


class NotFound(Error):
    """There is no such object."""


class Busy(Error):
    """Something still uses it; try again."""


class Timeout(Error, TimeoutError):
    """The time that the caller wanted to wait is over; the batch still runs."""


class Overlap(Error):
    """The range overlaps a registered region that is not the same."""


class NotRegistered(Error):
    """The address is not inside a registered region, here or at the peer."""


class AccessDenied(Error):
    """The region's access rights forbid this."""


class StaleRegion(Error):
    """The region was unregistered, revoked or replaced."""


class NoPath(Error):
    """No transport can carry this request; the text says what each lacks."""


class Unsupported(Error):
    """Not supported here."""


class TimedOut(Error, TimeoutError):
    """A deadline passed."""


class Canceled(Error):
    """The batch was canceled."""


class PeerDown(Error, ConnectionError):
    """The peer cannot be reached."""


class PeerRestarted(Error, ConnectionError):
    """The peer was restarted; open its segment again."""


class ProtocolError(Error):
    """The peer broke the protocol."""


class TransferError(Error, OSError):
    """Input or output failed."""


class ConnectFailed(Error, ConnectionError):
    """No connection to the peer."""


class BadAddress(Error, ValueError):
    """A name that cannot be parsed or resolved."""


class Forked(Error):
    """The engine belongs to the parent process; open one after fork()."""


class Closed(Error):
    """The object, or its engine, is closed."""


class LimitReached(Error):
    """A configured limit is reached."""


class WrongLocation(Error):
    """The memory is not where the caller says."""


class NotifyUnknown(Error):
    """The connection was lost before the notification was acknowledged: it may have arrived or not."""


class ChecksumMismatch(Error):
    """The bytes that arrived are not those that were sent."""


class PermissionDenied(Error, PermissionError):
    """The operating system refused."""


class ConfigError(Error):
    """An unknown setting, or a value that cannot be used."""


class PrerequisiteFailed(Error):
    """A batch or counter that was waited for did not complete."""


class InternalError(Error):
    """A defect of the library."""


#: The class of each status; the test of the bindings compares it with the library's list.
CLASSES: dict[int, type[Error]] = {
    -1: InvalidArgument,
    -2: OutOfMemory,
    -3: NotFound,
    -4: Busy,
    -5: Timeout,
    -6: Overlap,
    -7: NotRegistered,
    -8: AccessDenied,
    -9: StaleRegion,
    -10: NoPath,
    -11: Unsupported,
    -12: TimedOut,
    -13: Canceled,
    -14: PeerDown,
    -15: PeerRestarted,
    -16: ProtocolError,
    -17: TransferError,
    -18: ConnectFailed,
    -19: BadAddress,
    -20: Forked,
    -21: Closed,
    -22: LimitReached,
    -23: WrongLocation,
    -24: NotifyUnknown,
    -25: ChecksumMismatch,
    -26: PermissionDenied,
    -27: ConfigError,
    -28: PrerequisiteFailed,
    -29: InternalError,
}


def _error(status: int, text: str, scope: int, retryable: int) -> Error:
    return CLASSES.get(status, Error)(status, text, scope, bool(retryable))


def _failure(result: BatchResult) -> Error:
    text = result.text or _causeway.status_text(result.status)
    return CLASSES.get(result.status, Error)(result.status, text, result.scope, result.retryable, result)


_causeway.bind("error", _error)
_causeway.bind("failure", _failure)
