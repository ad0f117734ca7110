# SPDX-License-Identifier: Apache-2.0
"""The engine as users see it: the extension's, with event loops, the log, and an end in good order."""

from __future__ import annotations

import atexit
import os
import weakref
from typing import TYPE_CHECKING, Mapping, Optional, Union

from causeway import _aio, _causeway, _log
from causeway._errors import Error

if TYPE_CHECKING:
    from types import TracebackType

    from causeway._records import Notification

_open: weakref.WeakSet[Engine] = weakref.WeakSet()


class Engine(_causeway.Engine):
    """Owns regions, segments and batches, and moves bytes for them.

    name: "host", "host:port" or "[v6]:port": what peers open; None = 127.0.0.1, any port. `engine.name` has the port.
    settings: such as {"transports/shm/enable": False}, `causeway config` lists them; they override config and
    environment. memory/verify is on unless they say otherwise: memory that was freed while it is registered is then
    an error, no crash.
    config: path of a JSON file with settings.
    environment: also read the CW_* variables; they override the file.
    log: called as log(level, line), in a thread of its own: 0 error, 1 warning, 2 info, 3 debug, 4 trace. None =
    stderr.

    Opens at once; raises ConfigError, BadAddress, TransferError (the port is taken), LimitReached. A context manager:
    leaving it closes the engine. One that is never closed is closed when the interpreter exits.

    Threads: any; an engine can be used by several at once. In a forked child every call raises Forked.
    """

    def __init__(
        self,
        name: Optional[str] = None,
        *,
        settings: Optional[Mapping[str, Union[str, int, bool]]] = None,
        config: Union[str, os.PathLike[str], None] = None,
        environment: bool = False,
        log: Optional[_log.LogFunction] = None,
    ) -> None:
        self._log_key = _log.add(log) if log is not None else 0
        try:
            settings = {"memory/verify": True, **(settings or {})}
            super().__init__(name, settings=settings, config=config, environment=environment, log_key=self._log_key)
        except BaseException:
            _log.remove(self._log_key)
            raise
        self._bridges = _aio.Bridges()
        _open.add(self)

    def close(self, timeout: Optional[float] = None) -> None:
        """Ends every batch (Canceled), says goodbye to peers and frees what the engine has.

        Calls of other threads come back with Closed; it waits for them, up to timeout seconds (Busy; None = as long
        as it takes). Awaited batches end. Memory of allocate() is freed, so BufferError is raised while numpy arrays or
        other views of it exist. Closing a closed engine does nothing.
        """
        if self.closed:
            return
        super().close(timeout)
        self._bridges.close()
        _log.remove(self._log_key)

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: Optional[type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<causeway.Engine {self.name}{' closed' if self.closed else ''}>"

    def counter(self, initial: int = 0) -> _causeway.Counter:
        """A counter that batches can wait for: engine.write(..., counter=(counter, value))."""
        return _causeway.Counter(self, initial)

    async def next_notification(self) -> Notification:
        """The next notification from a peer, waited for in the running event loop without polling.

        Each notification goes to one taker, whether it waits here, in wait_notification() or calls notifications().
        Raises Closed when the engine is closed meanwhile.
        """
        notification = self._take_notification()
        if notification is None:
            notification = await self._bridges.get(self).next_notification()
        return notification


def _close_all() -> None:
    for engine in list(_open):
        try:
            engine.close(timeout=5)
        except (Error, BufferError):
            pass  # the process ends anyway


atexit.register(_close_all)
