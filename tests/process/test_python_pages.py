# SPDX-License-Identifier: Apache-2.0
"""Many pages at once from Python."""

import json
from pathlib import Path

ARRAYS_MS = 20
LISTS_FACTOR = 5


def test_hundred_thousand(python):
    """Submitted in under 20 ms from arrays, and from lists in at most five times what arrays take."""
    done = python(Path(__file__).with_name("python_pages.py"), timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    best = json.loads(done.stdout)
    assert max(best["arrays"], best["pages"], best["two lengths"]) < ARRAYS_MS, best
    assert best["lists"] < LISTS_FACTOR * best["arrays"], best
