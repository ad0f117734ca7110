# SPDX-License-Identifier: Apache-2.0
"""The console scripts of the drop-in, and what it tells of the machine and of itself."""

import json
import os
import socket
import subprocess
import sys
import venv

import pytest

from dropin import environment_of, python_path, script  # noqa: F401 (fixture)
from emulated import need_devices

pytestmark = pytest.mark.timeout(120)


DUMP = (
    "import sys; sys.argv[0] = 'dump'; from causeway.mooncake.programs import topology_dump; sys.exit(topology_dump())"
)


def dumped(done):
    assert done.returncode == 0, done.stderr
    head, _, document = done.stdout.partition("]: ")
    return head, json.loads(document)


def test_topology_dump(script, tmp_path):
    head, matrix = dumped(script(DUMP))
    assert head == "Local topology [te/discover"
    assert all(place.startswith("cpu:") for place in matrix) and matrix["cpu:0"] == [[], []]
    head, document = dumped(script(DUMP, "--backend", "tent"))
    assert head == "Local topology [tent/discover"
    assert document["mems"][0] == {"name": "cpu:0", "rank0": [], "rank1": [], "rank2": []}
    assert dumped(script(DUMP, environment={"MC_USE_TENT": "1"}))[0] == "Local topology [tent/discover"
    custom = tmp_path / "matrix.json"
    custom.write_text('{"cpu:0": [["mlx5_0", "mlx5_1"], ["mlx5_2"]]}')
    arguments = ["--custom-topo-json", custom, "--device-name", "mlx5_1,mlx5_2"]
    assert dumped(script(DUMP, *arguments)) == ("Local topology [te/custom", {"cpu:0": [["mlx5_1"], ["mlx5_2"]]})
    variables = {"MC_CUSTOM_TOPO_JSON": str(custom)}
    assert dumped(script(DUMP, "--use-custom-topo", environment=variables))[0] == "Local topology [te/custom"
    assert dumped(script(DUMP, environment=variables))[0] == "Local topology [te/discover"
    for text in ("[1]", "{", None):
        wrong = tmp_path / "wrong.json"
        wrong.unlink(missing_ok=True)
        if text is not None:
            wrong.write_text(text)
        done = script(DUMP, "--custom-topo-json", wrong)
        assert done.returncode == 1 and "wrong.json" in done.stderr and "Traceback" not in done.stderr


def test_topology_shows_devices(build_dir, script):
    need_devices(build_dir)
    emulate = [
        build_dir / "bin/causeway",
        "emulate",
        "--vendor=sunrise",
        "--devices=3",
        "--world=topology-python",
        "--",
    ]
    _, matrix = dumped(script(DUMP, before=emulate))
    assert {"sunrise:0", "sunrise:1", "sunrise:2"} < set(matrix)


PROGRAM = """
import os, sys
from causeway import _programs
from causeway.mooncake import programs
folder, call, sys.argv = sys.argv[1], sys.argv[2], sys.argv[3:]
_programs.path = lambda name: os.path.join(folder, name)
getattr(programs, call)()
"""


def test_the_metadata_server_takes_the_options_of_mooncake(build_dir, script):
    """A port that is taken, so that it ends: it says where it wanted to listen."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ["--host", "127.0.0.1", "--port", port, "--log-level", "DEBUG"]
        done = script(PROGRAM, build_dir / "bin", "http_metadata_server", "program", *options)
    assert done.returncode != 0 and str(port) in done.stderr, done.stderr
    done = script(PROGRAM, build_dir / "bin", "http_metadata_server", "program", "--log-level", "LOUD")
    assert done.returncode == 2 and "--log-level" in done.stderr


def test_the_benchmark_is_the_bundled_program(build_dir, script):
    done = script(PROGRAM, build_dir / "bin", "transfer_engine_bench", "transfer_engine_bench", "--help")
    assert "metadata_server" in done.stdout + done.stderr


def test_throughput_is_told_when_it_is_asked_for(script):
    source = """
import ctypes, logging, time
from mooncake.engine import TransferEngine
seen = []
logging.getLogger("causeway.mooncake").addHandler(handler := logging.Handler())
handler.emit = lambda record: seen.append(record.getMessage())
engine, block = TransferEngine(), ctypes.create_string_buffer(8192)
assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
address = ctypes.addressof(block)
assert engine.register_memory(address, 8192) == 0
deadline = time.monotonic() + 20
while not any("metric: " in line for line in seen):
    assert time.monotonic() < deadline
    assert engine.transfer_sync_write(f"127.0.0.1:{engine.get_rpc_port()}", address, address + 4096, 4096) == 0
"""
    done = script(source, environment={"MC_TE_METRIC": "1", "MC_TE_METRIC_INTERVAL_SECONDS": "0.1"})
    assert done.returncode == 0, done.stderr


def test_the_command_is_of_the_same_python(build_dir, tmp_path):
    """Although PATH has others, as where an environment is used without being activated."""
    (tmp_path / "bin").mkdir()
    for name in ("python3", "python", "serve"):
        program = tmp_path / "bin" / name
        program.write_text("#!/bin/sh\necho another\n")
        program.chmod(0o755)
    environment = environment_of(build_dir, PATH=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    environment["PYTHONPATH"] = python_path(build_dir)[1]
    own = tmp_path / "own"
    venv.create(own, with_pip=False)

    def run(*arguments):
        command = [own / "bin/python", "-m", "causeway.as_mooncake", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
        return done.stdout.strip() or done.stderr

    whose = "import sys, mooncake.engine; print(sys.prefix)"
    assert run("python", "-c", whose) == run("python3", "-c", whose) == run("-W", "error", "-c", whose) == str(own)
    assert run("serve") == "another"
    (own / "bin/serve").write_text("#!/bin/sh\necho own\n")
    (own / "bin/serve").chmod(0o755)
    assert run("serve") == "own"


@pytest.mark.parametrize("name", ["engine", "allocator"])
def test_another_python_is_told_what_it_lacks(build_dir, name):
    environment = {**os.environ, "PYTHONPATH": python_path(build_dir)[0]}
    done = subprocess.run(
        [sys.executable, "-c", f"import mooncake.{name}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert f"No module named 'causeway' in {sys.executable}: install" in done.stderr
