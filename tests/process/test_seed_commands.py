# SPDX-License-Identifier: Apache-2.0
"""The two pairs of commands in the user documentation of Sunrise Link, typed into two shells as they stand there, on
the emulated runtime. Only the port is put in, as the documentation says."""

import os
import re
import select
import signal
import subprocess
import time
import uuid

import pytest

from loopback_net import LoopbackNet, Unavailable

BENCH_TARGET = r"""./transfer_engine_bench \
  --mode=target \
  --protocol=sunrise_link \
  --local_server_name=10.0.0.2 \
  --metadata_server=P2PHANDSHAKE \
  --gpu_id=0
"""
BENCH_INITIATOR = r"""./transfer_engine_bench \
  --mode=initiator \
  --protocol=sunrise_link \
  --metadata_server=P2PHANDSHAKE \
  --segment_id=10.0.0.2:$PORT \
  --gpu_id=0 \
  --block_size=8388608 \
  --batch_size=32
"""
TEBENCH_TARGET = r"""./tebench --backend=tent --metadata_type=p2p --xport_type=sunrise_link \
--seg_type=VRAM --local_gpu_id=0
"""
TEBENCH_INITIATOR = r"""./tebench --backend=tent --metadata_type=p2p --xport_type=sunrise_link \
--seg_type=VRAM --target_seg_name=192.168.172.52:$PORT \
--local_gpu_id=1 --target_gpu_id=0
"""


class Shell:
    """A shell in the folder of the programs, in a world of emulated devices; what is typed runs in it."""

    def __init__(self, build_dir, world, enter):
        emulate = ["./causeway", "emulate", "--vendor", "sunrise", "--devices", "2", "--world", world, "--"]
        self.process = subprocess.Popen([*enter, *emulate, "bash"], cwd=build_dir / "bin", stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        self.text = ""

    def type(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def read_until(self, pattern, seconds):
        """The match of a pattern in what was printed."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text, re.M)):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 65536) if ready else b""
            if not more:
                pytest.fail(f"no {pattern!r} {'in time' if not ready else 'to the end'}:\n{self.text[-4000:]}")
            self.text += more.decode(errors="replace")
        return match

    def press_control_c(self):
        os.killpg(self.process.pid, signal.SIGINT)

    def status(self, seconds=30):
        """Of the last command, which ends within so many seconds."""
        self.type("echo status=$?\n")
        return int(self.read_until(r"^status=(\d+)$", seconds)[1])

    def close(self):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        self.process.stdout.close()


@pytest.fixture
def shells(build_dir):
    """shells(enter) gives a new shell in the world of this test; enter runs it somewhere else."""
    world, started = f"seed-{uuid.uuid4().hex[:12]}", []

    def start(enter=()):
        started.append(Shell(build_dir, world, enter))
        return started[-1]

    yield start
    for shell in started:
        shell.close()


@pytest.fixture
def as_typed(shells):
    """as_typed(address) gives two shells on a network where the address exists."""
    nets = []

    def start(address):
        try:
            nets.append(LoopbackNet(address))
        except (Unavailable, OSError) as why:
            pytest.skip(f"not shown here: no network namespace, so {address} cannot be typed: {why}")
        return shells(nets[-1].enter), shells(nets[-1].enter)

    yield start
    for net in nets:
        net.close()


def run_bench(target, initiator, target_text, initiator_text, seconds):
    target.type(target_text)
    port = target.read_until(r"Transfer Engine RPC using P2P handshake, listening on [\d.]+:(\d+)$", 120)[1]
    initiator.type(initiator_text.replace("$PORT", port))
    done = initiator.read_until(r"Test completed: duration (\d+\.\d\d), batch count (\d+), throughput (\S+) GB/s$", 300)
    assert float(done[1]) >= seconds and int(done[2]) > 0 and float(done[3]) > 0
    assert initiator.status() == 0
    target.press_control_c()
    assert target.status() in (0, 130)  # 130: the shell's own, for a command that was interrupted


def run_tebench(target, initiator, target_text, initiator_text, rows):
    target.type(target_text)
    port = target.read_until(r"^Segment name: [\d.]+:(\d+)$", 120)[1]
    initiator.type(initiator_text.replace("$PORT", port))
    assert initiator.status(240) == 0
    sizes = [int(size) for size in re.findall(r"^(\d+) +1 +\d+\.\d{6} ", initiator.text, re.M)]
    assert sizes == rows, initiator.text
    target.press_control_c()
    assert target.status() in (0, 130)


def test_transfer_engine_bench_as_typed(as_typed):
    run_bench(*as_typed("10.0.0.2"), BENCH_TARGET, BENCH_INITIATOR, 10)


def test_tebench_as_typed(as_typed):
    """All 15 block sizes with their warm-up and five seconds each."""
    target, initiator = as_typed("192.168.172.52")
    run_tebench(target, initiator, TEBENCH_TARGET, TEBENCH_INITIATOR, [4096 << i for i in range(15)])


def here(text):
    return text.replace("10.0.0.2", "127.0.0.1").replace("192.168.172.52", "127.0.0.1")


def test_transfer_engine_bench_on_this_host(shells):
    """The same with the loopback address and less time, for machines that make no namespaces."""
    run_bench(shells(), shells(), here(BENCH_TARGET).rstrip() + " --buffer_size=64m\n",
              here(BENCH_INITIATOR).rstrip() + " --threads=2 --duration=0.5 --local_server_name=127.0.0.1\n", 0.5)


def test_tebench_on_this_host(shells):
    short = " --seg_name=127.0.0.1 --total_buffer_size=64m --duration=0.1 --warmup=0.02\n"
    run_tebench(shells(), shells(), here(TEBENCH_TARGET).rstrip() + short, here(TEBENCH_INITIATOR).rstrip() + short,
                [4096 << i for i in range(15)])


@pytest.mark.parametrize(
    "command",
    [["transfer_engine_bench", "--mode=target", "--protocol=sunrise_link", "--metadata_server=P2PHANDSHAKE"],
     ["tebench", "--xport_type=sunrise_link", "--seg_type=VRAM"],
     ["tebench", "--xport_type=sunrise_link", "--seg_type=VRAM", "--target_seg_name=127.0.0.1:1"]],
)
def test_without_the_runtime_one_line_says_why(run, command, monkeypatch, tmp_path):
    monkeypatch.setenv("MC_TANGRT_LIB_DIR", str(tmp_path))
    result = run(*command)
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if "sunrise_link" in line]
    assert len(lines) == 1 and lines[0].startswith(f"{command[0]}: sunrise_link is off: "), result.stderr
    assert str(tmp_path) in lines[0]
