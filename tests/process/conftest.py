# SPDX-License-Identifier: Apache-2.0
"""What whole-process tests share: where the programs are, engines that end with their test, and bounded commands."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from peer import Peer

ROOT = Path(__file__).resolve().parents[2]


def pytest_addoption(parser):
    parser.addoption("--build-dir", default="build/release", help="where the programs were built")


@pytest.fixture(scope="session")
def build_dir(request):
    path = ROOT / request.config.getoption("--build-dir")
    if not (path / "bin/cwpeer").exists():
        pytest.exit(f"{path}/bin/cwpeer is missing; build first: ./do build", returncode=2)
    return path


@pytest.fixture
def peers(build_dir):
    """Makes engines: peers(name, **settings) starts and opens one. All are gone at the end of the test."""
    started = []

    def start(name="127.0.0.1", **settings):
        peer = Peer([build_dir / "bin/cwpeer"], **settings)
        started.append(peer)
        return peer.open(name)

    yield start
    for peer in started:
        peer.dispose()


@pytest.fixture
def run(build_dir):
    """Runs a program of the build to its end: run("causeway", "config", timeout=10) -> CompletedProcess."""

    def run_bounded(program, *arguments, timeout=60, **options):
        path = build_dir / "bin" / program
        options.setdefault("env", os.environ)
        return subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,
        )

    return run_bounded


@pytest.fixture
def python(build_dir):
    """Runs Debian's Python, which has numpy, with the package that was built:
    python("-c", "...") -> CompletedProcess."""
    if not list((build_dir / "python/causeway").glob("_causeway*.so")):
        pytest.skip("the Python package was not built: its headers (python3-dev) are missing")

    def run_bounded(*arguments, timeout=60, environment=None, **options):
        return subprocess.run(
            ["/usr/bin/python3", *map(str, arguments)],
            env={**os.environ, **(environment or {}), "PYTHONPATH": str(build_dir / "python")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **options,
        )

    return run_bounded


@pytest.fixture
def spawn(build_dir):
    """Starts a program of the build; what still runs at the end of the test is killed."""
    started = []

    def start(program, *arguments, **options):
        path = build_dir / "bin" / program
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.PIPE)
        process = subprocess.Popen([path, *arguments], **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream:
                stream.close()


@pytest.fixture
def free_port():
    """A TCP port that was free a moment ago, for the few tests that must know it before the engine does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
