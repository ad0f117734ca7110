# SPDX-License-Identifier: Apache-2.0
"""MC_TE_METRIC: what an engine moves, as a line now and then."""

from __future__ import annotations

import threading
import weakref

import causeway

from ._report import logger

COUNTS = ("bytes_written", "bytes_read", "bytes_served")


def start(engine: causeway.Engine, seconds: float) -> None:
    """A line of throughput at each interval in which there was some, while the engine lives."""
    reference = weakref.ref(engine)
    stop = threading.Event()
    weakref.finalize(engine, stop.set)

    def report() -> None:
        before = None
        while not stop.wait(seconds):
            alive = reference()
            if alive is None or alive.closed:
                return
            stats = alive.stats()
            del alive
            if before and stats != before:
                moved = [(stats[key] - before[key]) / seconds / 1e6 for key in COUNTS]
                done = stats["batches_completed"] - before["batches_completed"]
                logger.warning(
                    "metric: written %.2f MB/s, read %.2f MB/s, served %.2f MB/s, %d batches completed", *moved, done
                )
            before = stats

    threading.Thread(target=report, name="causeway-metric", daemon=True).start()
