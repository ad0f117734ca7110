# SPDX-License-Identifier: Apache-2.0
"""The Python package with wrong arguments: exceptions that name them, and never a crash."""

import re
from pathlib import Path


def test_rows(python):
    done = python("-X", "dev", "-W", "error", Path(__file__).with_name("python_bad_input.py"), timeout=120)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr + done.stdout
    assert re.fullmatch(r"1\d\d rows\n", done.stdout), done.stdout
