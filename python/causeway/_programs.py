# SPDX-License-Identifier: Apache-2.0
"""Runs the command-line tools that lie in the package's folder bin/, each under its own name."""

import os
import sys
from typing import NoReturn, Optional


def path(name: str) -> str:
    """Where the tool lies; FileNotFoundError when this installation has none."""
    program = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", name)
    if not os.path.isfile(program):
        raise FileNotFoundError(f"{program}: this installation of causeway has no program of that name")
    return program


def run(name: Optional[str] = None) -> NoReturn:
    """Replaces this process with the tool that the command is named after."""
    program = path(name or os.path.basename(sys.argv[0]))
    os.execv(program, [program, *sys.argv[1:]])
