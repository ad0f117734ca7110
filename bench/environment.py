# SPDX-License-Identifier: Apache-2.0
"""A Python environment with packages that Debian's Python does not have, made outside the checkout."""

import fcntl
import os
import subprocess
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"


def environment_with(name, packages, module):
    """The Python of an environment that can import the module, made if needed; None when that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causeway"
    python = cache / name / "bin/python"

    def works():
        imports = [python, "-c", f"import {module}"]
        return python.exists() and not subprocess.run(imports, capture_output=True, check=False).returncode

    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if works():
            return python
        for command in (
            [SYSTEM_PYTHON, "-m", "venv", "--clear", python.parent.parent],
            [python, "-m", "pip", "install", "--quiet", *packages],
        ):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return None
    return python if works() else None
