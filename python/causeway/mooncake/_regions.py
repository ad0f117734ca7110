# SPDX-License-Identifier: Apache-2.0
"""Registered memory by its address, which is all that Mooncake's calls name it by; each registration is counted."""

from __future__ import annotations

import logging
import operator
import threading
from typing import Any, Dict, List, Optional

import causeway

from ._report import once


class Registrations:
    """The memory that the program registered with one engine."""

    def __init__(self, engine: causeway.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._regions: Dict[int, List[causeway.Region]] = {}  # once for each registration

    def add(self, address: int, length: int, location: str) -> None:
        """Registers a range. A location that does not fit is ignored: to Mooncake it is a hint."""
        if not isinstance(location, str):
            raise TypeError(f"location is a str, not {type(location).__name__}")
        address, length = operator.index(address), operator.index(length)
        known = None if location in ("", "*") or location.startswith("segments:") else location
        try:
            region = self._engine.register(address, length, location=known)
        except (causeway.LocationMismatch, causeway.NotFound) as error:
            if known is None:
                raise
            once(f"register_memory(): location {location!r} does not fit and is ignored: {error}", logging.INFO)
            region = self._engine.register(address, length)
        with self._lock:
            self._regions.setdefault(region.address, []).append(region)

    def remove(self, address: int) -> None:
        """Takes back one registration. One that fails can be taken back later."""
        address = operator.index(address)
        with self._lock:
            regions = self._regions.get(address)
            if not regions:
                raise causeway.NotRegistered(f"{address} is not the start of registered memory")
            region = regions.pop()
            if not regions:
                del self._regions[address]
        try:
            region.unregister()
        except causeway.Error:
            with self._lock:
                self._regions.setdefault(address, []).append(region)
            raise

    def add_all(self, addresses: Any, lengths: Any, location: str) -> None:
        """All, or on a failure none."""
        done: List[int] = []
        try:
            for address, length in zip(addresses, lengths):
                self.add(address, length, location)
                done.append(address)
        except BaseException:
            for address in reversed(done):
                self.remove(address)
            raise

    def remove_all(self, addresses: Any) -> None:
        """Each, whether others fail or not; raises the first failure."""
        first: Optional[causeway.Error] = None
        for address in [operator.index(each) for each in addresses]:
            try:
                self.remove(address)
            except causeway.Error as error:
                first = first or error
        if first is not None:
            raise first
