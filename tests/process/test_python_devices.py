# SPDX-License-Identifier: Apache-2.0
"""Device memory from Python, on emulated devices."""

from pathlib import Path

from emulated import World

LATE = "tangMemsetAsync delay 100000\n"


def test_devices(python, build_dir, tmp_path):
    world = World(build_dir, tmp_path, faults=LATE, trace=False)
    try:
        script = Path(__file__).with_name("python_devices.py")
        done = python("-X", "dev", "-W", "error", script, environment=world.environment, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", ""), done.stderr
    finally:
        world.dispose()
