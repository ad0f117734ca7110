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


class Bridge:
    """Between one engine and one event loop, which knows of it only while somebody waits."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._engine: Optional[Engine] = engine
        self._queue: Optional[Queue] = _causeway.Queue(engine)
        self._tokens = itertools.count(1)
        self._ended: dict[int, tuple[asyncio.Future[None], Batch]] = {}
        self._notified: set[asyncio.Future[None]] = set()
        self._listeners = 0
        self._readers: set[int] = set()
        # The descriptor of an engine without threads also tells that it has something to do.
        self._drives = {setting.key: setting.value for setting in engine.settings()}["progress/threads"] == "0"
        self._fd = os.dup(self._queue.fileno())
        self._notify_fd = os.dup(engine._notification_fd())
        self._queue.poll()

    def _watch_descriptors(self) -> None:
        """Brings what the loop watches in line with who waits. On the loop, as all that is not about closing."""
        batches, drives = bool(self._ended), self._drives and bool(self._ended)
        wanted = {self._fd: batches, self._notify_fd: drives or self._listeners > 0}
        for fd, on in wanted.items():
            if on and fd not in self._readers:
                self._readers.add(fd)
                self.loop.add_reader(fd, self._batches_ended if fd == self._fd else self._notification_came)
            elif not on and fd in self._readers:
                self._readers.discard(fd)
                self.loop.remove_reader(fd)

    # ------------------------------------------------------------------------------------------ batches

    async def ended(self, batch: Batch) -> None:
        """Returns when the batch has ended, however it did."""
        queue, token = self._queue, next(self._tokens)
        if queue is None:
            return
        future: asyncio.Future[None] = self.loop.create_future()
        watch = queue.watch(batch, token)
        self._ended[token] = future, watch
        self._watch_descriptors()
        try:
            await future
        except asyncio.CancelledError:
            if not watch.released:
                watch.cancel()  # it ends at once, and its token is met for the last time
            raise

    def _batches_ended(self) -> None:
        queue = self._queue
        if queue is None:
            return
        try:
            tokens = queue.poll()
        except Error:  # another thread is closing the engine, and tells us when it has
            return
        for token in tokens:
            future, watch = self._ended.pop(token)
            watch.release()
            if not future.done():
                future.set_result(None)
        if not self._ended:
            self._watch_descriptors()

    # ------------------------------------------------------------------------------------ notifications

    async def next_notification(self) -> Notification:
        """The next one, waited for."""
        self._listen(1)
        try:
            while True:
                if self._engine is None:
                    raise Closed("this engine is closed")
                # When there is none, this arms the queue for whoever listens.
                notification = self._engine._take_notification()
                if notification is not None:
                    return notification
                future: asyncio.Future[None] = self.loop.create_future()
                self._notified.add(future)
                try:
                    await future
                finally:
                    self._notified.discard(future)
        finally:
            self._listen(-1)

    def _listen(self, change: int) -> None:
        self._listeners += change
        if self._engine is not None:
            self._engine._listen(change)
            self._watch_descriptors()

    def _notification_came(self) -> None:
        if self._drives and self._engine is not None:
            try:
                self._engine.progress()
            except Error:  # as above
                return
        self._wake()

    def _wake(self) -> None:
        for future in self._notified:
            if not future.done():
                future.set_result(None)

    # ------------------------------------------------------------------------------------------ closing

    def engine_closed(self) -> None:
        """The engine is closed, and every batch has ended with it. Any thread."""
        self._queue = None
        self._engine = None
        try:
            if asyncio._get_running_loop() is self.loop:
                self._finish()
            else:
                self.loop.call_soon_threadsafe(self._finish)
        except RuntimeError:  # the loop is closed
            self.loop_closed()

    def _finish(self) -> None:
        for fd in self._readers:
            self.loop.remove_reader(fd)
        self._readers.clear()
        self._wake()
        for future, _ in self._ended.values():
            if not future.done():
                future.set_result(None)
        self._ended.clear()
        self._close_descriptors()

    def loop_closed(self) -> None:
        """The loop is closed: nobody waits any more. Any thread."""
        try:
            for _, watch in self._ended.values():
                watch.cancel()
            if self._queue is not None:
                self._queue.poll()  # which nothing names any more
            if self._engine is not None:
                self._engine._listen(-self._listeners)
        except Error:  # the engine is being closed too
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
        raise Closed("the engine of this batch is closed")
    return batch._check()


def _await_batch(batch: Batch) -> Generator[object, object, BatchResult]:
    return _wait(batch).__await__()


_causeway.bind("await_batch", _await_batch)
