# SPDX-License-Identifier: Apache-2.0
"""The peers of one engine by the names that Mooncake's calls carry: each is opened once and shared by all threads."""

from __future__ import annotations

import threading
import time
from typing import Dict, List, Tuple

import causeway

from ._report import once

TRUST_SECONDS = 0.1  # no peer is gone and back in that time
FORGET_SECONDS = 600.0  # what is kept of a peer that is down, since it worked last
ALIVE = (causeway.PeerState.UP, causeway.PeerState.SUSPECT)

# Mooncake's names for transports, as hints of a call, and what carries the same bytes here.
HINTS = {
    "": None,
    "unspec": None,
    "rdma": None,
    "mnnvl": None,
    "gds": None,
    "io_uring": None,
    "ascend": None,
    "tcp": "tcp",
    "shm": "shm",
    "nvlink": "nvlink_intra",
    "sunrise_link": "sunrise_link",
}


class UnknownHint(ValueError):
    """The transport hint of a call names no transport of Mooncake."""


class _Opening:
    """Who opens a name, and how the last attempt failed."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.failed_at = 0.0
        self.error: causeway.Error | None = None


class Peers:
    """Segments by (name, hint). A segment is never closed by hand: another thread may be in a call with it, so it goes
    with its last reference."""

    def __init__(self, engine: causeway.Engine, timeout: float) -> None:
        self._engine = engine
        self._timeout = timeout
        self._segments: Dict[Tuple[str, str], causeway.Segment] = {}
        self._worked_at: Dict[Tuple[str, str], float] = {}
        self._openings: Dict[Tuple[str, str], _Opening] = {}

    def get(self, name: str, hint: str = "") -> causeway.Segment:
        """The segment of a name. One that restarted is opened anew: this call's addresses are meant for whoever has the
        name now. Raises causeway.Error when nobody answers within the time that opening may take."""
        segment = self._segments.get((name, hint))
        if segment is not None:
            if time.monotonic() - self._worked_at.get((name, hint), 0.0) < TRUST_SECONDS:
                return segment
            state = segment.info().state
            if state in ALIVE:
                return segment
            if state == causeway.PeerState.DOWN:
                try:
                    segment.probe(self._timeout)
                    return segment
                except causeway.PeerRestarted:
                    pass
            self._drop(name, hint, segment)
        return self._open(name, hint)

    def worked(self, name: str, hint: str = "") -> None:
        """It was opened, or a transfer completed, just now: no need to look at the peer before the next one."""
        self._worked_at[(name, hint)] = time.monotonic()

    def probe(self, name: str) -> None:
        """Raises causeway.Error unless the peer, or the one that has its name now, gives a sign of life."""
        segment = self.get(name)
        try:
            segment.probe(self._timeout)
        except causeway.PeerRestarted:
            self._drop(name, "", segment)
            self.get(name).probe(self._timeout)

    def _drop(self, name: str, hint: str, segment: causeway.Segment) -> None:
        self._worked_at.pop((name, hint), None)
        if self._segments.get((name, hint)) is segment:
            self._segments.pop((name, hint), None)

    def _open(self, name: str, hint: str) -> causeway.Segment:
        if not isinstance(name, str):
            raise TypeError(f"a peer is named by a str, not {type(name).__name__}")
        transports = self._transports(hint)
        opening = self._openings.setdefault((name, hint), _Opening())
        asked_at = time.monotonic()
        with opening.lock:
            segment = self._segments.get((name, hint))
            if segment is not None:
                return segment
            # Whoever waited here while the attempt failed shares its end; else the waits would add up.
            if opening.error is not None and opening.failed_at > asked_at:
                raise opening.error.with_traceback(None)
            try:
                segment = self._engine.open(name, timeout=self._timeout, transports=transports)
            except causeway.Error as error:
                opening.error, opening.failed_at = error, time.monotonic()
                raise
            finally:  # who waits has it; names that nobody has are not kept
                self._openings.pop((name, hint), None)
            self._segments[(name, hint)] = segment
            self.worked(name, hint)
        self._forget_the_gone()
        return segment

    def _forget_the_gone(self) -> None:
        """Peers of a fleet come and go under ever new names."""
        long_ago = time.monotonic() - FORGET_SECONDS
        for key, segment in list(self._segments.items()):
            if self._worked_at.get(key, long_ago) > long_ago or segment.info().state in ALIVE:
                continue
            self._drop(*key, segment)

    def _transports(self, hint: str) -> str | None:
        """The list of transports for a hint: the one that it names, then the others; None = the engine decides."""
        if not isinstance(hint, str):
            raise TypeError(f"transport_hint is a str, not {type(hint).__name__}")
        if hint.lower() not in HINTS:
            raise UnknownHint(f"transport_hint {hint!r}: one of {', '.join(filter(None, HINTS))}, or none")
        wanted = HINTS[hint.lower()]
        names: List[str] = [part.name for part in self._engine.transports() if part.on]
        if wanted not in names:
            if hint and hint != "unspec":
                once(f"transport_hint {hint!r} names no transport that is on here; the engine chooses")
            return None
        return ",".join([wanted] + [name for name in names if name != wanted])
