# SPDX-License-Identifier: Apache-2.0
"""One exception class for each status of the library, below Error."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Optional

from causeway import _causeway
from causeway._records import Scope

if TYPE_CHECKING:
    from causeway._records import BatchResult


class Error(Exception):
    """A call or a batch that failed.

    text: one line that says what was wrong or what to do.
    status: the library's number, negative; status_name(status) names it. That of its class unless given.
    scope: the largest thing that the failure concerns, and so what to throw away before trying again.
    retryable: whether the same call may succeed later without a change by the caller.
    result: how the batch ended, when it is one that failed.
    """

    #: The status of the class.
    number: ClassVar[int] = -29

    def __init__(
        self,
        text: str = "",
        status: Optional[int] = None,
        scope: int = Scope.REQUEST,
        retryable: bool = False,
        result: Optional[BatchResult] = None,
    ) -> None:
        super().__init__(text)
        self.status = self.number if status is None else status
        self.text = text or _causeway.status_text(self.status)
        self.scope = Scope(scope)
        self.retryable = bool(retryable)
        self.result = result

    def __str__(self) -> str:
        return self.text

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.text, self.status, int(self.scope), self.retryable, self.result)


class InvalidArgument(Error, ValueError):
    """A malformed request, a wrong range, an object of another engine."""

    number = -1


class OutOfMemory(Error, MemoryError):
    """Memory is short."""

    number = -2


class NotFound(Error):
    """There is no such object."""

    number = -3


class Busy(Error):
    """Something still uses it; try again."""

    number = -4


class Timeout(Error, TimeoutError):
    """The time that the caller wanted to wait is over; the batch still runs."""

    number = -5


class Overlap(Error):
    """The range overlaps a registered region that is not the same."""

    number = -6


class NotRegistered(Error):
    """The address is not inside a registered region, here or at the peer."""

    number = -7


class AccessDenied(Error):
    """The region's access rights forbid this."""

    number = -8


class StaleRegion(Error):
    """The region was unregistered, revoked or replaced."""

    number = -9


class NoPath(Error):
    """No transport can carry this request; the text says what each lacks."""

    number = -10


class Unsupported(Error):
    """Not supported here."""

    number = -11


class TimedOut(Error, TimeoutError):
    """A deadline passed."""

    number = -12


class Canceled(Error):
    """The batch was canceled."""

    number = -13


class PeerDown(Error, ConnectionError):
    """The peer cannot be reached."""

    number = -14


class PeerRestarted(Error, ConnectionError):
    """The peer was restarted; open its segment again."""

    number = -15


class ProtocolError(Error):
    """The peer broke the protocol."""

    number = -16


class TransferError(Error, OSError):
    """Input or output failed."""

    number = -17


class ConnectFailed(Error, ConnectionError):
    """No connection to the peer."""

    number = -18


class BadAddress(Error, ValueError):
    """A name that cannot be parsed or resolved."""

    number = -19


class Forked(Error):
    """The engine belongs to the parent process; open one after fork()."""

    number = -20


class Closed(Error):
    """The object, or its engine, is closed."""

    number = -21


class LimitReached(Error):
    """A configured limit is reached."""

    number = -22


class LocationMismatch(Error):
    """The memory is not where the caller says."""

    number = -23


class NotifyUnknown(Error):
    """The connection was lost before the notification was acknowledged: it may have arrived or not."""

    number = -24


class ChecksumMismatch(Error):
    """The bytes that arrived are not those that were sent."""

    number = -25


class PermissionDenied(Error, PermissionError):
    """The operating system refused."""

    number = -26


class ConfigError(Error):
    """An unknown setting, or a value that cannot be used."""

    number = -27


class PrerequisiteFailed(Error):
    """A batch or counter that was waited for did not complete."""

    number = -28


class InternalError(Error):
    """A defect of the library."""

    number = -29


#: The class of each status.
CLASSES: dict[int, type[Error]] = {kind.number: kind for kind in Error.__subclasses__()}


def _error(status: int, text: str, scope: int, retryable: int) -> Error:
    return CLASSES.get(status, Error)(text, status, scope, bool(retryable))


def _failure(result: BatchResult) -> Error:
    return CLASSES.get(result.status, Error)(result.text, result.status, result.scope, result.retryable, result)


_causeway.bind("error", _error)
_causeway.bind("failure", _failure)
