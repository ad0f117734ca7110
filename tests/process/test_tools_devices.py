# SPDX-License-Identifier: Apache-2.0
"""tebench, transfer_engine_bench and transfer_engine_validator with memory of emulated devices."""

import json
import re
import signal
import subprocess
import uuid

import pytest

DEVICES = 4
BENCH = ["--metadata_server=P2PHANDSHAKE", "--local_server_name=127.0.0.1", "--buffer_size=4m"]
TEBENCH = ["--seg_name=127.0.0.1", "--total_buffer_size=4m"]
SHORT = ["--duration=0.05", "--warmup=0.02", "--start_block_size=4096", "--max_block_size=262144",
         "--check_consistency"]
PROTOCOLS = {"sunrise_link": "sunrise", "nvlink_intra": "cuda"}  # and the vendor whose devices they are for


class World:
    """Programs of the build on the emulated devices of one vendor."""

    def __init__(self, build_dir, trace, protocol):
        self.bin, self.trace, self.started = build_dir / "bin", trace, []
        self.emulate = [self.bin / "causeway", "emulate", "--vendor", PROTOCOLS[protocol],
                        "--devices", str(DEVICES), "--world",
                        f"tools-{uuid.uuid4().hex[:12]}", "--trace", trace, "--"]

    def run(self, program, *arguments):
        return subprocess.run([*self.emulate, self.bin / program, *arguments], stdin=subprocess.DEVNULL, timeout=120,
                              capture_output=True, text=True, check=False)

    def target(self, program, *arguments):
        """Starts a target; gives the name by which it is reached."""
        process = subprocess.Popen([*self.emulate, self.bin / program, *arguments], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started.append(process)
        text = ""
        for line in process.stdout:
            if match := re.search(r"(?:^Segment name: |listening on )(\S+)$", line):
                return match[1]
            text += line
        pytest.fail(f"the target did not start:\n{text}")

    def close(self):
        for process in self.started:
            process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()

    def check(self):
        """What the emulator says about each process: nobody touched device memory by CPU, or left anything behind."""
        reports = [json.loads(path.read_text()) for path in self.trace.glob("report-*.json")]
        for report in reports:
            for count in ("host_touches", "wrong_device", "wrong_stream", "device_leaks", "live_allocations",
                          "live_host_allocations", "open_mappings", "live_streams", "live_events"):
                assert report[count] == 0, report
        return len(reports)


@pytest.fixture
def worlds(build_dir, tmp_path):
    started = []

    def start(protocol="sunrise_link"):
        started.append(World(build_dir, tmp_path / "trace", protocol))
        return started[-1]

    yield start
    for world in started:
        world.close()
    for world in started:
        assert world.check() > 0


def rows(result):
    assert result.returncode == 0, result.stderr + result.stdout
    return [int(size) for size in re.findall(r"^(\d+) +\d+ +\d+\.\d{6} ", result.stdout, re.M)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("op", ["read", "write", "mix"])
def test_tebench_moves_every_byte(worlds, protocol, op):
    world = worlds(protocol)
    common = [*TEBENCH, f"--xport_type={protocol}", "--seg_type=VRAM"]
    name = world.target("tebench", *common, "--local_gpu_id=-1")
    result = world.run("tebench", *common, f"--target_seg_name={name}", f"--op_type={op}", "--local_gpu_id=1",
                       "--target_gpu_id=3", "--start_num_threads=2", "--max_num_threads=2", "--max_batch_size=2",
                       *SHORT)
    assert rows(result) == [4096 << i for i in range(7) for _ in range(2)]


@pytest.mark.parametrize(
    "transport, target_type, own_type",
    [("sunrise_link", "VRAM", "DRAM"), ("shm", "DRAM", "VRAM"), ("tcp", "VRAM", "VRAM"), ("tcp", "VRAM", "DRAM"),
     ("tcp", "DRAM", "VRAM"), (None, "VRAM", "DRAM"), (None, "DRAM", "VRAM")],
)
def test_device_and_host_memory(worlds, transport, target_type, own_type):
    world = worlds()
    name = world.target("tebench", *TEBENCH, f"--seg_type={target_type}")
    only = [f"--xport_type={transport}"] if transport else []
    result = world.run("tebench", *TEBENCH, f"--seg_type={own_type}", *only, "--op_type=mix",
                       f"--target_seg_name={name}", *SHORT)
    assert rows(result) == [4096 << i for i in range(7)]


def test_a_transport_that_cannot_reach_the_memory_is_an_error(worlds):
    world = worlds()
    name = world.target("tebench", *TEBENCH)
    result = world.run("tebench", *TEBENCH, "--seg_type=VRAM", "--xport_type=sunrise_link",
                       f"--target_seg_name={name}", *SHORT)
    assert result.returncode == 1
    assert "by no transport: sunrise_link: host memory of another process" in result.stderr


def test_seeded_device_memory_is_verified_by_another_process(worlds):
    world = worlds()
    common = [*TEBENCH, "--seg_type=VRAM", *SHORT]
    name = world.target("tebench", *TEBENCH, "--seg_type=VRAM", "--local_gpu_id=2")
    there = [f"--target_seg_name={name}", "--target_gpu_id=2"]
    assert world.run("tebench", *common, *there, "--op_type=read_verify").returncode == 1
    assert rows(world.run("tebench", *common, *there, "--op_type=write_seed"))
    assert rows(world.run("tebench", *common, *there, "--op_type=read_verify", "--local_gpu_id=3"))


def test_devices_that_are_not_there_are_named(worlds):
    world = worlds()
    name = world.target("tebench", *TEBENCH, "--seg_type=VRAM", "--local_gpu_id=1")
    result = world.run("tebench", *TEBENCH, "--seg_type=VRAM", f"--target_seg_name={name}")
    assert result.returncode == 1
    assert "the target offers no memory of GPU 0; it has sunrise:1" in result.stderr
    result = world.run("tebench", *TEBENCH, "--seg_type=VRAM", "--local_gpu_id=9")
    assert result.returncode == 1
    assert f"there is no GPU 9: sunrise has {DEVICES}" in result.stderr


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("gpu", [0, -1])
@pytest.mark.parametrize("program", ["transfer_engine_bench", "transfer_engine_validator"])
def test_transfer_engine_programs(worlds, program, gpu, protocol):
    world = worlds(protocol)
    common = [*BENCH, f"--protocol={protocol}", f"--gpu_id={gpu}"]
    name = world.target(program, *common, "--mode=target")
    result = world.run(program, *common, f"--segment_id={name}", "--threads=3", "--batch_size=4",
                       "--block_size=65536", "--duration=0.2")
    assert result.returncode == 0, result.stderr
    assert re.search(r"Test completed: duration \d\.\d\d, batch count [1-9]", result.stderr)
    if program.endswith("validator"):
        assert len(re.findall("Data validation passed", result.stderr)) == 3


def test_validator_over_tcp_with_device_memory(worlds):
    world = worlds()
    common = [*BENCH, "--protocol=tcp", "--use_vram", "--gpu_id=1"]
    name = world.target("transfer_engine_validator", *common, "--mode=target")
    result = world.run("transfer_engine_validator", *common, f"--segment_id={name}", "--threads=2", "--batch_size=4",
                       "--duration=0.2")
    assert result.returncode == 0, result.stderr
    assert len(re.findall("Data validation passed", result.stderr)) == 2


def test_blocks_share_places_where_the_target_has_no_room(worlds):
    world = worlds()
    common = [*BENCH, "--protocol=sunrise_link"]
    name = world.target("transfer_engine_bench", *common, "--mode=target", "--threads=1", "--batch_size=1")
    large = [f"--segment_id={name}", "--threads=2", "--batch_size=8", "--block_size=1m", "--duration=0.1"]
    result = world.run("transfer_engine_bench", *common, *large)
    assert result.returncode == 0, result.stderr
    assert "room for 4 of 16 blocks: several use the same place" in result.stderr
    result = world.run("transfer_engine_validator", *common, *large)
    assert result.returncode == 1
    assert "too few for block_size * batch_size * threads" in result.stderr
