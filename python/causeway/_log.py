# SPDX-License-Identifier: Apache-2.0
"""Lines of engines' logs on their way to the functions of their users.

Engines log from threads that must not wait for the interpreter, so the extension keeps the lines; one daemon thread,
started with the first engine that has a function, hands them over.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
from typing import Callable, Optional

from causeway import _causeway

LogFunction = Callable[[int, str], object]

_functions: dict[int, LogFunction] = {}
_keys = itertools.count(1)
_lock = threading.Lock()
_thread: Optional[threading.Thread] = None


def add(function: LogFunction) -> int:
    """The key under which the lines of an engine find their function."""
    global _thread
    with _lock:
        key = next(_keys)
        _functions[key] = function
        if _thread is None:
            _thread = threading.Thread(target=_run, name="causeway-log", daemon=True)
            _thread.start()
    return key


def remove(key: int) -> None:
    """Hands over what is left, then forgets the function."""
    deliver(wait=False)
    _functions.pop(key, None)


def deliver(wait: bool) -> bool:
    """Hands over the lines that are there. False = the process ends."""
    lines = _causeway.log_wait(wait)
    for key, level, text in lines:
        function = _functions.get(key)
        if function is None:
            continue
        try:
            function(level, text)
        except Exception:
            sys.excepthook(*sys.exc_info())
    return bool(lines) or not wait


def _run() -> None:
    while deliver(wait=True):
        pass


def _stop() -> None:
    _causeway.log_stop()
    thread = _thread
    if thread is not None and thread is not threading.current_thread():
        thread.join(1)
    deliver(wait=False)


def _forked() -> None:
    global _thread, _lock
    _thread = None
    _lock = threading.Lock()
    _functions.clear()
    _causeway.log_reset()


atexit.register(_stop)
os.register_at_fork(after_in_child=_forked)
