# SPDX-License-Identifier: Apache-2.0
"""The wheels that `./do wheel` makes, installed into a fresh environment; the check of their ELF files; and
`pip install ./python` from the tree.

build/wheel is made or brought up to date first. Tests are skipped where PyPI, from which the tools come, cannot be had.
"""

import csv
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/wheel.py"
TOOLS = ["causeway", "tebench", "transfer_engine_bench", "transfer_engine_validator"]
# What pip says when an index cannot be reached; anything else is a failure.
UNREACHABLE = re.compile(r"No matching distribution found|Failed to establish a new connection|Could not fetch URL")

pytestmark = pytest.mark.timeout(600)


def execute(*command, timeout=300, **options):
    return subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, timeout=timeout, check=False, **options,
    )


def succeed(*command, **options):
    done = execute(*command, **options)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="session")
def dist():
    """[the wheel of causeway, the wheel of causeway-mooncake]"""
    done = execute(sys.executable, SCRIPT)
    if done.returncode and UNREACHABLE.search(done.stdout):
        pytest.skip(f"PyPI cannot be had: {done.stdout.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout[-3000:]
    return [Path(line) for line in done.stdout.splitlines()[-2:]]


@pytest.fixture(scope="session")
def installed(dist, tmp_path_factory):
    """The bin folder of an environment in which both wheels are installed, and nothing else is needed."""
    environment = tmp_path_factory.mktemp("installed")
    succeed(sys.executable, "-m", "venv", environment)
    python = environment / "bin/python"
    succeed(python, "-m", "pip", "install", "--no-index", "--disable-pip-version-check", *dist)
    return environment / "bin"


def outside(**more):
    """The environment of a user: nothing of the build tree is in it."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LD_LIBRARY_PATH")}
    return {**kept, **more}


@pytest.fixture
def start(installed):
    """Starts a program of the environment; returns (process, first match of the pattern in its output)."""
    started = []

    def start_and_read(pattern, program, *arguments):
        process = subprocess.Popen(
            [installed / program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=outside(),
        )
        started.append(process)
        lines = ""
        while not (found := re.search(pattern, lines)):
            ready, _, _ = select.select([process.stdout], [], [], 20)
            line = process.stdout.readline() if ready else ""
            assert line, f"{program} said: {lines}"
            lines += line
        return process, found

    yield start_and_read
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait(10)
        process.stdout.close()


def test_what_is_in_the_wheels(dist):
    names, dropin = (set(zipfile.ZipFile(wheel).namelist()) for wheel in dist)
    assert re.fullmatch(r"causeway-[\d.]+-cp39-abi3-manylinux_2_28_\w+\.whl", dist[0].name)
    assert re.fullmatch(r"causeway_mooncake-[\d.]+-py3-none-any\.whl", dist[1].name)
    wanted = {"__init__.py", "_causeway.abi3.so", "py.typed", "lib/libcauseway.so.0", "include/causeway/causeway.h"}
    wanted |= {"lib/libtransfer_engine.so", "include/transfer_engine_c.h", "include/tent/transfer_engine.h"}
    wanted |= {f"bin/{tool}" for tool in TOOLS} | {"mooncake/nvlink_allocator.so"}
    assert {f"causeway/{name}" for name in wanted} <= names
    assert all(name.startswith(("causeway/", "causeway-")) for name in names)
    assert any(name.endswith("licenses/LICENSE.json-c") for name in names)

    sources = {
        str(path.relative_to(ROOT / "python"))
        for pattern in ("*.py", "*.pyi")
        for path in (ROOT / "python/causeway").rglob(pattern)
    }
    assert {name for name in names if name.endswith((".py", ".pyi"))} == sources

    code = {name for name in dropin if ".dist-info/" not in name}
    assert code == {"mooncake/engine/__init__.py", "mooncake/allocator/__init__.py"}
    metadata = zipfile.ZipFile(dist[0]).read(next(name for name in names if name.endswith("METADATA"))).decode()
    assert "Requires-Dist" not in metadata


def test_elf_files_need_an_old_c_library(dist, build_dir, tmp_path):
    """And the check can fail: it refuses what this system's compiler makes, and other systems' libraries."""
    assert execute(sys.executable, SCRIPT, "--examine", dist[0]).returncode == 0

    bad = tmp_path / dist[0].name
    with zipfile.ZipFile(bad, "w") as archive:
        archive.write(build_dir / "bin/causeway", "causeway/bin/causeway")
    done = execute(sys.executable, SCRIPT, "--examine", bad)
    assert done.returncode == 1
    assert re.search(r"causeway/bin/causeway: needs GLIBC_2\.3\d", done.stdout)
    assert "causeway/bin/causeway: needs libcauseway.so.0" in done.stdout

    empty = tmp_path / "causeway-0.1.0-cp39-abi3-linux_x86_64.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("causeway/__init__.py", "")
    done = execute(sys.executable, SCRIPT, "--examine", empty)
    assert done.returncode == 1
    assert "is not tagged" in done.stdout and "holds no ELF file" in done.stdout


RECEIVER = """
import causeway
with causeway.Engine("127.0.0.1") as engine:
    memory = bytearray(4096)
    with engine.register(memory) as region:
        print(engine.name, region.address, flush=True)
        note = engine.wait_notification(timeout=30)
        print(note.name, bytes(note.data).decode(), bytes(memory[:5]).decode(), flush=True)
"""
SENDER = """
import array, sys
import causeway, causeway.mooncake.allocator, causeway.mooncake.engine
with causeway.Engine("127.0.0.1") as engine:
    memory = bytearray(b"hello" * 10)
    with engine.register(memory) as region:
        segment = engine.open(sys.argv[1])
        places = array.array("Q", [int(sys.argv[2]) + i for i in range(5)])
        sources = array.array("Q", [region.address + i for i in range(5)])
        engine.write(segment, sources, places, 1, notify=("done", b"%d.%d" % sys.version_info[:2])).wait(20)
"""


def pythons():
    """Every Python here that the wheel is for: one of each minor version."""
    found = {}
    for path in [*Path.home().glob(".pyenv/versions/3.*/bin/python"), *Path("/usr/bin").glob("python3.*[0-9]")]:
        program = "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_config_var('SOABI'))"
        done = execute(path, "-c", program)
        words = done.stdout.split()
        # A Python without the GIL has another interface.
        if done.returncode == 0 and (int(words[0]), int(words[1])) >= (3, 9) and not words[2].endswith("t"):
            found[f"{words[0]}.{words[1]}"] = path
    return found


def test_every_python_sends_to_another_process(dist, installed, start, tmp_path):
    with zipfile.ZipFile(dist[0]) as archive:
        archive.extractall(tmp_path)
    for version, python in pythons().items():
        receiver, found = start(r"(\S+) (\d+)\n", "python", "-I", "-c", RECEIVER)
        succeed(python, "-c", SENDER, *found.groups(), env=outside(PYTHONPATH=str(tmp_path)), timeout=60)
        assert receiver.stdout.read() == f"done {version} hello\n"
        assert receiver.wait(20) == 0


def test_c_programs(installed, tmp_path):
    """A C program builds and runs against the headers and libraries in the package, Mooncake's included."""
    [package] = installed.parent.glob("lib/python*/site-packages/causeway")
    source = tmp_path / "program.c"
    source.write_text(
        "#include <causeway/causeway.h>\n#include <stdio.h>\n#include <transfer_engine_c.h>\n"
        'int main(void)\n{\n\ttransfer_engine_t engine = createTransferEngine("P2PHANDSHAKE", "127.0.0.1", "", 0, 1);\n'
        "\tif (!engine)\n\t\treturn 1;\n\tdestroyTransferEngine(engine);\n\treturn puts(cw_version()) < 0;\n}\n"
    )
    libraries = package / "lib"
    succeed(
        "cc", source, f"-I{package}/include", f"-L{libraries}", "-l:libtransfer_engine.so", "-l:libcauseway.so.0",
        f"-Wl,-rpath,{libraries}", "-o", tmp_path / "program",
    )
    assert re.search(r"^[\d.]+$", succeed(tmp_path / "program", env=outside()), re.M)


def test_import(installed):
    program = "import causeway, sys; print(causeway.version, causeway.__file__)"
    version, place = succeed(installed / "python", "-I", "-c", program, env=outside()).split()
    assert Path(place).is_relative_to(installed.parent)
    assert succeed(installed / "causeway", "--version", env=outside()).split() == ["causeway", version]


@pytest.mark.parametrize("transport", ["shm", "tcp"])
def test_tools_move_bytes_between_processes(installed, start, transport):
    target, found = start(r"(127\.0\.0\.1:\d+)", "causeway", "bench", "--target", "--buffer", "8m")
    output = succeed(
        installed / "causeway", "bench", found[1], "--transport", transport, "--size", "64k", "--seconds", "0.1",
        "--buffer", "8m", "--verify", "--format", "csv", env=outside(),
    )
    rows = list(csv.DictReader(io.StringIO(output)))
    assert [(row["path"], row["verified"]) for row in rows] == [(transport, "yes")]
    target.send_signal(signal.SIGTERM)
    assert target.wait(20) == 0


@pytest.mark.parametrize("program", ["transfer_engine_bench", "transfer_engine_validator"])
def test_mooncake_tools(installed, start, program):
    common = ["--metadata_server=P2PHANDSHAKE", "--protocol=tcp", "--local_server_name=127.0.0.1"]
    _, found = start(r"listening on (127\.0\.0\.1:\d+)", program, *common, "--mode=target")
    succeed(
        installed / program, *common, f"--segment_id={found[1]}", "--duration=1", "--threads=1", "--block_size=4096",
        "--batch_size=4", env=outside(),
    )


def test_metadata_server(installed, start):
    _, found = start(r"(http://\S+)", "mooncake_http_metadata_server", "--port", "0", "--host", "127.0.0.1")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    put = urllib.request.Request(f"{found[1]}?key=a", data=b'{"b": 1}', method="PUT")
    assert opener.open(put, timeout=10).status == 200
    assert json.load(opener.open(f"{found[1]}?key=a", timeout=10)) == {"b": 1}


def test_both_uninstall_cleanly(dist, tmp_path):
    """An installed mooncake.store stays, is importable in between, and nothing of ours is left."""
    environment = tmp_path / "environment"
    succeed(sys.executable, "-m", "venv", environment)
    python = environment / "bin/python"
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "mooncake").mkdir()
    (packages / "mooncake/store.py").write_text("value = 5\n")
    before = {str(path) for path in environment.rglob("*") if "__pycache__" not in str(path)}
    pip = [python, "-m", "pip", "--disable-pip-version-check"]
    succeed(*pip, "install", "--no-index", *dist)
    assert succeed(python, "-c", "import mooncake.store; print(mooncake.store.value)").strip() == "5"
    succeed(*pip, "uninstall", "--yes", "causeway", "causeway-mooncake")
    after = {str(path) for path in environment.rglob("*") if "__pycache__" not in str(path)}
    assert after == before


def test_pip_install_from_the_tree(tmp_path):
    """As a user does it, with the tools that pip finds itself; the tree stays as it was."""
    environment = tmp_path / "environment"
    succeed(sys.executable, "-m", "venv", environment)
    before = succeed("git", "status", "--porcelain", "--ignored", cwd=ROOT)
    pip = [environment / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    done = execute(*pip, "install", ROOT / "python", env=outside())
    if done.returncode and UNREACHABLE.search(done.stdout):
        pytest.skip("PyPI cannot be had, so pip has no build backend")
    assert done.returncode == 0, done.stdout[-3000:]
    assert succeed("git", "status", "--porcelain", "--ignored", cwd=ROOT) == before
    assert succeed(environment / "bin/causeway", "transports", env=outside()).count("tcp")
    program = "import causeway; print(causeway.version)"
    assert succeed(environment / "bin/python", "-I", "-c", program, env=outside()).strip()
