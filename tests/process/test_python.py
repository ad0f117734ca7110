# SPDX-License-Identifier: Apache-2.0
"""The Python package: each case of python_cases.py in a process of its own, in Python's development mode."""

import re
from pathlib import Path

import pytest

CASES = Path(__file__).with_name("python_cases.py")


@pytest.mark.parametrize("case", re.findall(r"^def case_(\w+)", CASES.read_text(encoding="utf-8"), re.M))
def test_case(python, case):
    done = python("-X", "dev", "-W", "error", CASES, case, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", ""), done.stderr
