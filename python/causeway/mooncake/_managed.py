# SPDX-License-Identifier: Apache-2.0
"""Managed buffers: registered host memory by the piece, cut from a few large regions so that peers map few."""

from __future__ import annotations

import operator
import threading
from typing import Dict, List

import causeway

SMALLEST = 8 << 10
LARGEST_PIECE = 4 << 20  # longer ones are regions of their own
ARENA = 32 << 20


def piece_size(length: int) -> int:
    """The power of two that a buffer takes up."""
    return max(SMALLEST, 1 << (length - 1).bit_length())


class ManagedBuffers:
    """Pieces are powers of two. A freed piece serves the next buffer of its size; arenas stay until the engine ends."""

    def __init__(self, engine: causeway.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._arenas: List[causeway.Region] = []
        self._unused = range(0)  # addresses of the newest arena that no piece has had yet
        self._free: Dict[int, List[int]] = {}  # by size
        self._taken: Dict[int, int | causeway.Region] = {}  # address: size of the piece, or its own region

    def allocate(self, length: int) -> int:
        """The address of a new buffer of `length` bytes; raises causeway.Error when there is no memory."""
        length = operator.index(length)
        if length <= 0:
            raise ValueError(f"length must be positive, not {length}")
        size = piece_size(length)
        if size > LARGEST_PIECE:
            region = self._engine.allocate(length)
            with self._lock:
                self._taken[region.address] = region
            return region.address
        with self._lock:
            free = self._free.setdefault(size, [])
            address = free.pop() if free else self._cut(size)
            self._taken[address] = size
        return address

    def free(self, address: int) -> None:
        """Raises ValueError for an address that is not that of a buffer."""
        address = operator.index(address)
        with self._lock:
            taken = self._taken.pop(address, None)
            if taken is None:
                raise ValueError(f"{address:#x} is no managed buffer, or is free already")
            if isinstance(taken, int):
                self._free.setdefault(taken, []).append(address)
                return
        try:
            taken.free()
        except causeway.Error:
            with self._lock:
                self._taken[address] = taken  # a peer still holds it: it can be freed later
            raise

    def _cut(self, size: int) -> int:
        if len(self._unused) < size:
            self._keep_rest()
            arena = self._engine.allocate(ARENA)
            self._arenas.append(arena)
            self._unused = range(arena.address, arena.address + ARENA)
        address = self._unused.start
        self._unused = self._unused[size:]
        return address

    def _keep_rest(self) -> None:
        """What is left of the arena becomes free pieces."""
        size = LARGEST_PIECE
        while size >= SMALLEST:
            while len(self._unused) >= size:
                self._free.setdefault(size, []).append(self._unused.start)
                self._unused = self._unused[size:]
            size //= 2
