# SPDX-License-Identifier: Apache-2.0
"""Waiting in asyncio's event loops: each case of python_await.py in a process of its own."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("python_await.py")
QUIET_SECONDS = 5


@pytest.mark.parametrize(
    "case", [name for name in re.findall(r"^(?:async )?def case_(\w+)", CASES.read_text(), re.M) if name != "thousand"]
)
def test_case(python, case):
    done = python("-X", "dev", "-W", "error", CASES, case, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", ""), done.stderr


def switches(pid):
    """How often each thread of a process gave up its processor by itself."""
    counts = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as lines:
            counts[thread] = next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return counts


def asleep(pid):
    """Returns when no thread of the process runs, and its counts then."""
    before = switches(pid)
    for _ in range(200):
        time.sleep(0.05)
        now = switches(pid)
        if now == before:
            return now
        before = now
    raise AssertionError(f"process {pid} never rests: {before}")


def test_thousand_batches_without_polling(python, build_dir):
    """1,000 batches are awaited in one loop: the engine's thread is the only other one, and nobody wakes up."""
    process = subprocess.Popen(
        ["/usr/bin/python3", CASES, "thousand"],
        env={**os.environ, "PYTHONPATH": str(build_dir / "python")},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "pending 2 1000\n"
        before = asleep(process.pid)
        time.sleep(QUIET_SECONDS)
        assert switches(process.pid) == before and len(before) == 2
        output, errors = process.communicate("go\n", timeout=30)
        assert (process.returncode, output, errors) == (0, "ok\n", "")
    finally:
        process.kill()
        process.wait(10)
