# SPDX-License-Identifier: Apache-2.0
"""The fixture `wheels`: real Mooncake engines from PyPI, each in a process of its own (wheel_peer.py).

The wheel is installed once into ${XDG_CACHE_HOME:-~/.cache}/causeway/mooncake-venv. Where it cannot be had the tests
are skipped.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peer import Peer

PACKAGE = "mooncake-transfer-engine-non-cuda"
HERE = Path(__file__).resolve().parent


def last_line(text):
    return (text.strip().splitlines() or ["no output"])[-1]


def command(arguments, timeout):
    """Runs to the end; returns the reason of a failure, or None."""
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None if done.returncode == 0 else last_line(done.stderr or done.stdout)


@pytest.fixture(scope="session")
def wheel_python():
    """The Python of an environment that can import the wheel."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causeway"
    cache.mkdir(parents=True, exist_ok=True)
    environment = cache / "mooncake-venv"
    python = environment / "bin/python"
    imports = [python, "-c", "import mooncake.engine"]
    with open(cache / "mooncake-venv.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if command(imports, 60) is not None:
            reason = command([sys.executable, "-m", "venv", "--clear", environment], 120) or command(
                [python, "-m", "pip", "install", "--quiet", PACKAGE], 600
            )
            if reason:
                pytest.skip(f"{PACKAGE} cannot be installed: {reason}")
        reason = command(imports, 60)
    if reason:
        pytest.skip(f"{PACKAGE} cannot be imported: {reason}")
    return python


@pytest.fixture
def wheels(wheel_python, tmp_path):
    """Makes Mooncake engines: wheels(name, metadata=url) starts and opens one. All are gone at the end of the test."""
    started = []
    environment = {**os.environ, "MC_FORCE_TCP": "1"}

    def start(name="127.0.0.1", variables=None, **settings):
        # Its log is kept for a failure's sake; a pipe that nobody reads would stop it.
        with open(tmp_path / f"wheel-{len(started)}.log", "wb") as log:
            environment_of_it = {**environment, **(variables or {})}
            peer = Peer([wheel_python, HERE / "wheel_peer.py"], environment=environment_of_it, stderr=log)
        started.append(peer)
        return peer.open(name, **settings)

    yield start
    for peer in started:
        peer.dispose()
