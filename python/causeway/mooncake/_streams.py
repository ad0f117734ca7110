# SPDX-License-Identifier: Apache-2.0
"""Transfers in the order of a device's stream: whose stream it is, and how those ended that nobody waits for."""

from __future__ import annotations

import collections
import sys
from typing import Any, Deque

import causeway


class Streams:
    """The transfers on streams of one engine that may still run."""

    def __init__(self, engine: causeway.Engine) -> None:
        self._engine = engine
        self._running: Deque[causeway.Batch] = collections.deque()

    def look_back(self) -> None:
        """Forgets those that ended; raises RuntimeError for the first that failed."""
        for _ in range(len(self._running)):
            try:
                batch = self._running.popleft()
            except IndexError:
                return
            if not batch.done:
                self._running.append(batch)
                continue
            result = batch.result()
            batch.release()
            if result.state != causeway.BatchState.COMPLETED:
                raise RuntimeError(f"an earlier transfer on a stream failed: {result.text}")

    def hold(self, batch: causeway.Batch, location: str, stream: int) -> None:
        """Lets the stream go on when the batch has ended."""
        self._running.append(batch)
        try:
            batch.fence(location, stream)
        except causeway.Error:
            batch.cancel()
            raise

    def location_of(self, address: int) -> str:
        """The device whose stream it is: that of the buffer; for host memory torch's current one, or the first."""
        region = self._engine.region_at(address)
        if region.device >= 0:
            return region.location
        platform = next((part.name for part in self._engine.platforms() if part.on and part.name != "host"), None)
        if platform is None:
            raise ValueError("no device runtime is present, so there are no streams")
        return f"{platform}:{_current_device()}"


def _current_device() -> int:
    """torch's, when the program uses torch on a device; else 0."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return int(torch.cuda.current_device())
    return 0
