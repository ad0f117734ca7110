# SPDX-License-Identifier: Apache-2.0
"""Waiting for batches and notifications in asyncio's event loops, without a task or thread that polls.

Each pair of an engine and a loop has a Bridge: a queue of the library whose descriptor the loop watches. The loop gets
duplicates of descriptors, so that the engine can be closed by any thread at any time. A bridge is used by the thread
of its loop only, but for closing.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from typing import TYPE_CHECKING, Generator, Optional

from causeway import _causeway
from causeway._errors import Closed, Error

if TYPE_CHECKING:
    from causeway._causeway import Batch, Queue
    from causeway._engine import Engine
    from causeway._records import BatchResult, Notification

_CLOSED = -21


class Bridge:
    """Between one engine and one event loop."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._engine: Optional[Engine] = engine
        self._queue: Optional[Queue] = _causeway.Queue(engine)
        self._tokens = itertools.count(1)
        self._ended: dict[int, tuple[asyncio.Future[None], Batch]] = {}
        self._notified: set[asyncio.Future[None]] = set()
        self._listeners = 0
        self._fd = os.dup(self._queue.fileno())
        self._notify_fd = os.dup(engine._notification_fd())
        self._queue.poll()
        loop.add_reader(self._fd, self._batches_ended)

    # ------------------------------------------------------------------------------------------ batches

    async def ended(self, batch: Batch) -> None:
        """Returns when the batch has ended, however it did."""
        assert self._queue is not None
        token = next(self._tokens)
        future: asyncio.Future[None] = self._loop.create_future()
        self._ended[token] = (future, self._queue.watch(batch, token))
        try:
            await future
        finally:
            # One that nobody waits for any more ends with its batch; its token is then met for the last time.
            if future.cancelled() and token in self._ended:
                self._ended[token][1].cancel()

    def _batches_ended(self) -> None:
        if self._queue is None:
            return
        for token in self._queue.poll():
            future, watch = self._ended.pop(token)
            watch.release()
            if not future.done():
                future.set_result(None)

    # ------------------------------------------------------------------------------------ notifications

    async def next_notification(self) -> Notification:
        """The next one, waited for."""
        self._listen()
        try:
            while True:
                if self._engine is None:
                    raise Closed(_CLOSED, "this engine is closed")
                # When there is none, this arms the queue for whoever listens.
                notification = self._engine._take_notification()
                if notification is not None:
                    return notification
                future: asyncio.Future[None] = self._loop.create_future()
                self._notified.add(future)
                try:
                    await future
                finally:
                    self._notified.discard(future)
        finally:
            self._deafen()

    def _wake(self) -> None:
        for future in self._notified:
            if not future.done():
                future.set_result(None)

    def _listen(self) -> None:
        self._listeners += 1
        if self._listeners == 1 and self._engine is not None:
            self._engine._listen(1)
            self._loop.add_reader(self._notify_fd, self._wake)

    def _deafen(self) -> None:
        self._listeners -= 1
        if self._listeners == 0 and self._engine is not None:
            self._engine._listen(-1)
            self._loop.remove_reader(self._notify_fd)

    # ------------------------------------------------------------------------------------------ closing

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    def engine_closed(self) -> None:
        """The engine is closed, and every batch has ended with it. Any thread."""
        self._queue = None
        self._engine = None
        try:
            if asyncio._get_running_loop() is self._loop:
                self._finish()
            else:
                self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # the loop is closed
            self.loop_closed()

    def _finish(self) -> None:
        self._loop.remove_reader(self._fd)
        self._loop.remove_reader(self._notify_fd)
        self._wake()
        for future, _ in self._ended.values():
            if not future.done():
                future.set_result(None)
        self._ended.clear()
        self._close_descriptors()

    def loop_closed(self) -> None:
        """The loop is closed: nobody waits any more."""
        if self._listeners and self._engine is not None:
            self._engine._listen(-1)
        for _, watch in self._ended.values():
            try:
                watch.cancel()
            except Error:
                pass
        self._ended.clear()
        self._queue = None
        self._engine = None
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        fds, self._fd, self._notify_fd = (self._fd, self._notify_fd), -1, -1
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        self._close_descriptors()


class Bridges:
    """Those of one engine."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_loop: dict[int, Bridge] = {}

    def get(self, engine: Engine) -> Bridge:
        """That of the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            bridge = self._by_loop.get(id(loop))
            if bridge is not None and bridge.loop is loop:
                return bridge
            self._sweep()
            bridge = self._by_loop[id(loop)] = Bridge(engine, loop)
        return bridge

    def _sweep(self) -> None:
        for key, bridge in list(self._by_loop.items()):
            if bridge.loop.is_closed():
                del self._by_loop[key]
                bridge.loop_closed()

    def close(self) -> None:
        """The engine is closed."""
        with self._lock:
            bridges = list(self._by_loop.values())
            self._by_loop.clear()
        for bridge in bridges:
            bridge.engine_closed()


async def _wait(batch: Batch) -> BatchResult:
    if not batch.done:
        engine: Engine = batch.engine  # type: ignore[assignment]
        try:
            await engine._bridges.get(engine).ended(batch)
        except asyncio.CancelledError:
            try:
                batch.cancel()
            except Error:
                pass
            raise
    if not batch.done:
        raise Closed(_CLOSED, "the engine of this batch is closed")
    return batch._check()


def _await_batch(batch: Batch) -> Generator[object, object, BatchResult]:
    return _wait(batch).__await__()


_causeway.bind("await_batch", _await_batch)
