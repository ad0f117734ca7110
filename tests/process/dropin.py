# SPDX-License-Identifier: Apache-2.0
"""Mooncake's Python names as Causeway gives them, as `python -m causeway.as_mooncake` does: `mooncake` is the module
mooncake.engine in this process, `dropins` makes engines in processes of their own (wheel_peer.py)."""

import ctypes
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peer import Peer, pattern

HERE = Path(__file__).resolve().parent


def python_path(build_dir):
    """The folders for PYTHONPATH: mooncake's names first, then the package."""
    package = build_dir / "python"
    if not list((package / "causeway").glob("_causeway.*.so")):
        pytest.skip("the Python package was not built")
    return [str(package / "causeway/_as_mooncake"), str(package)]


def environment_of(build_dir, base=None, **members):
    """For a process that imports mooncake.engine; the tests' own modules can be imported too."""
    base = dict(os.environ if base is None else base)
    return {**base, "PYTHONPATH": os.pathsep.join([*python_path(build_dir), str(HERE)]), **members}


@pytest.fixture
def mooncake(build_dir):
    """The module mooncake.engine."""
    for folder in reversed(python_path(build_dir)):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    return importlib.import_module("mooncake.engine")


@pytest.fixture
def dropins(build_dir):
    """Makes engines: dropins(name, metadata=..., environment=...) starts and opens one. All are gone after the test."""
    started = []

    def start(name="127.0.0.1", program="wheel_peer.py", kind=None, environment=None, base=None, **settings):
        """kind: the class of framework_peer.py; base: the environment of an emulated world."""
        variables = environment_of(build_dir, base, **(environment or {}))
        arguments = [HERE / "framework_peer.py", kind] if kind else [HERE / program]
        peer = Peer([sys.executable, *arguments], environment=variables, **settings)
        started.append(peer)
        return peer.open(name)

    yield start
    for peer in started:
        peer.dispose()


@pytest.fixture
def script(build_dir):
    """Runs a program in which `mooncake` is Causeway's: script(source or path, *arguments) -> CompletedProcess."""

    def run(source, *arguments, timeout=60, environment=None, base=None, before=()):
        """before: a command that runs the program."""
        variables = environment_of(build_dir, base, **(environment or {}))
        program = [str(source)] if isinstance(source, Path) else ["-c", source]
        return subprocess.run(
            [*before, sys.executable, *program, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env=variables,
        )

    return run


MIB = 1 << 20


class Memory:
    """Bytes at a known address."""

    def __init__(self, length):
        self.block = ctypes.create_string_buffer(length)
        self.address, self.length = ctypes.addressof(self.block), length

    def fill(self, seed):
        self.block[:] = pattern(seed, self.length)

    def holds(self, seed, length=None, offset=0):
        wanted = pattern(seed, self.length if length is None else length)
        return self.block[offset : offset + len(wanted)] == wanted


class Side:
    """An engine with registered memory."""

    def __init__(self, module, length=MIB):
        self.engine = module.TransferEngine()
        assert self.engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
        self.name = f"127.0.0.1:{self.engine.get_rpc_port()}"
        self.memory = Memory(length)
        self.address = self.memory.address
        assert self.engine.register_memory(self.address, length) == 0


@pytest.fixture
def here(mooncake):
    return Side(mooncake)


@pytest.fixture
def there(mooncake):
    return Side(mooncake)
