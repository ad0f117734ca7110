# SPDX-License-Identifier: Apache-2.0
"""Runs a program with Causeway in the place of Mooncake's transfer engine, without installing anything:

    python -m causeway.as_mooncake COMMAND [ARGUMENT...]
    python -m causeway.as_mooncake script.py [ARGUMENT...]
    python -m causeway.as_mooncake -m module [ARGUMENT...]

Programs of Python find `mooncake.engine` and `mooncake.allocator` of Causeway, and everything else of `mooncake` where
it is installed; their child processes do too. It works by PYTHONPATH, so not for `python -I` or `-E`. The program's
Python must be able to import causeway.
"""

from __future__ import annotations

import os
import sys
from typing import Dict, List, Mapping


def folder() -> str:
    """The folder that must come first on PYTHONPATH."""
    return os.path.join(os.path.dirname(os.path.abspath(__file__)), "_as_mooncake")


def environment(base: Mapping[str, str]) -> Dict[str, str]:
    """A copy of an environment with the folder first on PYTHONPATH."""
    rest = [path for path in base.get("PYTHONPATH", "").split(os.pathsep) if path and path != folder()]
    return {**base, "PYTHONPATH": os.pathsep.join([folder(), *rest])}


def command_line(arguments: List[str]) -> List[str]:
    """What to run: a script, -m and other options of Python, and "python", are for this Python; programs that were
    installed with it come first, because those of another cannot import causeway."""
    command, *rest = arguments
    if command.startswith("-") or command.endswith(".py"):
        return [sys.executable, *arguments]
    if command in ("python", "python3"):
        return [sys.executable, *rest]
    beside = os.path.join(os.path.dirname(sys.executable), command)
    if os.sep not in command and os.access(beside, os.X_OK):
        return [beside, *rest]
    return arguments


def main() -> int:
    """Becomes the command; returns only when it cannot be run."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip(), file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    command = command_line(arguments)
    try:
        os.execvpe(command[0], command, environment(os.environ))
    except OSError as error:
        print(f"causeway.as_mooncake: {command[0]}: {error.strerror}", file=sys.stderr)
    return 127


if __name__ == "__main__":
    sys.exit(main())
