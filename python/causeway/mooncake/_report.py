# SPDX-License-Identifier: Apache-2.0
"""What an operator sees of calls that only return a number: one line for each kind of failure, then now and then."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from typing import Dict, Hashable, List, Set

QUIET_SECONDS = 10.0  # between two lines of one kind
KINDS_MAX = 4096  # that are remembered; then all are forgotten

_NUMBER = re.compile(r"0x[0-9a-f]+|\d+")

logger = logging.getLogger("causeway.mooncake")

_lock = threading.Lock()  # a new one in a forked child
_said: Set[str] = set()
_failures: Dict[Hashable, List[float]] = {}  # kind: [when the next line may come, how many were kept back]


def once(line: str, level: int = logging.WARNING) -> None:
    """Says a line the first time only."""
    with _lock:
        if line in _said:
            return
        _said.add(line)
    logger.log(level, "%s", line)


def failed(kind: Hashable, line: str) -> None:
    """Says why a call failed, unless the last line of this kind is recent; `line` then counts for the next one.
    Lines of one kind differ in numbers only: another reason is always said."""
    now = time.monotonic()
    kind = (kind, _NUMBER.sub("#", line))
    with _lock:
        if len(_failures) > KINDS_MAX:
            _failures.clear()
        entry = _failures.setdefault(kind, [0.0, 0])
        if now < entry[0]:
            entry[1] += 1
            return
        kept_back, entry[0], entry[1] = int(entry[1]), now + QUIET_SECONDS, 0
    more = f" ({kept_back} more like this before)" if kept_back else ""
    logger.error("%s%s", line, more)


def _forked() -> None:
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_forked)
