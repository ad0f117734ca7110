# SPDX-License-Identifier: Apache-2.0
"""tebench over host memory: roles, sweep, the table that scripts parse, checks that can fail, what is refused."""

import re
import signal
import subprocess

import pytest

HEAD = [("BlkSize (B)", 14), ("Batch", 8), ("BW (GB/s)", 14), ("Avg Inst GB/s", 18), ("Avg Lat (us)", 14),
        ("Avg Tx (us)", 14), ("P99 Tx (us)", 14), ("P999 Tx (us)", 14)]
FLAGS = """seg_name seg_type seg_type_mix target_seg_name op_type check_consistency total_buffer_size start_block_size
max_block_size start_batch_size max_batch_size duration start_num_threads max_num_threads target_offset
target_range_size qos_classes qos_classes_json workload_classes_json qos_link_capacity_gbps request_interval_us
deadline_us deadline_tight_threads deadline_bw_arbitration local_gpu_id target_gpu_id metadata_type metadata_url_list
rpc_server_port xport_type backend notifi tent_transport_hint tent_intent_type qos_output_jsonl""".split()
HERE = ["--seg_name=127.0.0.1", "--total_buffer_size=1m"]
SHORT = ["--duration=0.05", "--warmup", "0.02", "--start_block_size=4096", "--max_block_size", "4096"]
ROW = re.compile(r"^(\d+) +(\d+) +(\d+\.\d{6}) +(\d+\.\d{6}) +(\d+\.\d) +(\d+\.\d) +(\d+\.\d) +(\d+\.\d) *$")


@pytest.fixture
def target(spawn):
    """Starts a target: target("--seg_type=DRAM") -> (process, name)."""

    def start(*arguments):
        process = spawn("tebench", *HERE, *arguments, text=True, stderr=subprocess.PIPE)
        lines = [process.stdout.readline().rstrip("\n") for _ in range(4)]
        name = lines[0].removeprefix("Segment name: ")
        assert re.fullmatch(r"127\.0\.0\.1:\d+", name), lines
        assert lines[1] == "To start initiators, run"
        assert lines[2].startswith(f"  ./tebench --target_seg_name={name} --seg_type=")
        assert lines[3] == "Press Ctrl-C to terminate"
        return process, name

    return start


def end(process, how=signal.SIGINT):
    process.send_signal(how)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


def rows_of(result):
    assert result.returncode == 0, result.stderr
    head, rule, *rows = result.stdout.splitlines()
    assert head == "".join(f"{title:<{width}}" for title, width in HEAD)
    assert rule == "-" * 160
    matches = [ROW.match(row) for row in rows]
    assert all(matches), result.stdout
    return [[float(field) for field in match.groups()] for match in matches]


def test_help_lists_every_flag(run):
    result = run("tebench", "--help")
    assert result.returncode == 0
    for flag in FLAGS:
        assert re.search(rf"^  --{flag}( |$)", result.stdout, re.M), flag


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--blub=1"], "unknown option --blub"),
        (["--target_seg_nam", "x"], "did you mean --target_seg_name?"),
        (["--op_type=fly"], "'fly' is not a value for --op_type: read|write|mix|write_seed|read_verify"),
        (["--seg_type=DISK"], "'DISK' is not a value for --seg_type: DRAM|VRAM"),
        (["--backend=other"], "'other' is not a value for --backend: tent|classic"),
        (["--metadata_type=etcd"], "--metadata_url_list"),
        (["--qos_classes=a:1:0:1"], "--qos_classes does not work yet"),
        (["--workload_classes_json=[]"], "--workload_classes_json does not work yet"),
        (["--seg_type_mix=DRAM,VRAM"], "use --seg_type"),
        (["--start_block_size=8k", "--max_block_size=4k"], "starts above its end"),
        (["--start_batch_size=0"], "must not be 0"),
        (["--rpc_server_port=65536"], "at most 65535"),
        (["--local_gpu_id=-2"], "-1 stands for all"),
    ],
)
def test_flags_that_cannot_be(run, flags, message):
    result = run("tebench", *flags)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("transport", ["tcp", "shm"])
def test_sweep_doubles_and_rows_are_consistent(run, target, transport):
    process, name = target(f"--xport_type={transport}", "--backend=classic")
    result = run("tebench", *HERE, "--target_seg_name", name, "-backend=tent", "--metadata_type=p2p", "--duration=0.1",
                 "--warmup=0", "--start_block_size=4096", "--max_block_size=16384", "--max_batch_size=2",
                 "--max_num_threads=2", f"--xport_type={transport}")
    rows = rows_of(result)
    expected = [(block, batch) for block in (4096, 8192, 16384) for batch in (1, 2)]
    assert [(row[0], row[1]) for row in rows] == 2 * expected
    for threads, part in ((1, rows[:6]), (2, rows[6:])):
        for block, batch, speed, instant, latency, transfer, p99, p999 in part:
            # Bandwidth and latency tell the same time: both count from the durations of the threads.
            assert latency == pytest.approx(block * batch * threads / speed / 1e3, rel=0.001, abs=0.051)
            assert 0 < transfer <= latency + 0.1 and p99 <= p999 and instant > 0
    assert end(process)[0] == 0


@pytest.mark.parametrize("op", ["read", "write", "mix", "write_seed", "read_verify"])
def test_operations_with_check(run, target, op):
    process, name = target()
    if op == "read_verify":
        rows_of(run("tebench", *HERE, "--target_seg_name", name, *SHORT, "--op_type=write_seed"))
    rows = rows_of(run("tebench", *HERE, "--target_seg_name", name, *SHORT, f"--op_type={op}", "--check_consistency"))
    assert len(rows) == 1
    assert end(process, signal.SIGTERM)[0] == 0


def test_read_verify_sees_what_was_not_seeded(run, target):
    _, name = target()
    verify = ["tebench", *HERE, "--target_seg_name", name, "--op_type=read_verify"]
    result = run(*verify, *SHORT)
    assert result.returncode == 1
    assert "the data is wrong in the block at 0x" in result.stderr
    rows_of(run("tebench", *HERE, "--target_seg_name", name, *SHORT, "--op_type=write_seed"))
    rows_of(run(*verify, *SHORT))
    # Blocks of another size hold the same bytes; those beyond the seeded ones do not.
    rows_of(run(*verify, *SHORT[:3], "--start_block_size=1024", "--max_block_size=2048"))
    assert run(*verify, *SHORT, "--target_offset=4096").returncode == 1
    # A write of anything else is seen too.
    rows_of(run("tebench", *HERE, "--target_seg_name", name, *SHORT, "--op_type=write", "--check_consistency"))
    assert run(*verify, *SHORT).returncode == 1


def test_initiators_with_ranges_of_their_own_run_at_once(spawn, target):
    _, name = target()
    initiators = [
        spawn("tebench", *HERE, "--target_seg_name", name, "--duration=0.5", "--warmup=0", "--op_type=mix",
              "--check_consistency", "--start_block_size=32k", "--max_block_size=32k", "--max_batch_size=2",
              "--start_num_threads=2", "--max_num_threads=2", f"--target_offset={i * 131072}",
              "--target_range_size=128k", text=True, stderr=subprocess.PIPE)
        for i in range(3)
    ]
    for initiator in initiators:
        out, err = initiator.communicate(timeout=60)
        assert initiator.returncode == 0, err
        assert len(out.splitlines()) == 2 + 2


def test_points_that_do_not_fit_are_skipped(run, target):
    _, name = target()
    common = ["--target_seg_name", name, "--duration=0.02", "--warmup=0", "--start_block_size=64k"]
    result = run("tebench", *HERE, *common, "--max_block_size=1m", "--target_range_size=128k")
    assert [row[0] for row in rows_of(result)] == [65536, 131072]
    assert result.stderr.count("skipped: ") == 3
    result = run("tebench", *HERE, *common, "--start_batch_size=32", "--max_batch_size=32", "--max_block_size=64k")
    assert result.returncode == 1 and "skipped: " in result.stderr
    result = run("tebench", *HERE, *common, "--target_offset=1m")
    assert result.returncode == 1 and "reach beyond a buffer of 1048576 bytes" in result.stderr


def test_notifications_name_the_address(run, target):
    process, name = target()
    rows_of(run("tebench", *HERE, "--target_seg_name", name, *SHORT, "--op_type=write", "--notifi=true"))
    status, out, err = end(process)
    assert status == 0, err
    assert re.fullmatch(r"[1-9]\d* notifications, 0 of them wrong\n", out)


def test_intervals_and_deadlines(run, target):
    _, name = target()
    common = ["--target_seg_name", name, *SHORT, "--xport_type=tcp"]
    (row,) = rows_of(run("tebench", *HERE, *common, "--request_interval_us=5000"))
    assert row[4] >= 5000 > row[5]
    result = run("tebench", *HERE, *common, "--deadline_us=1")
    assert result.returncode == 1 and "not one batch ended in time" in result.stderr
    result = run("tebench", *HERE, *common, "--deadline_us=10000000", "--deadline_tight_threads=1",
                 "--start_num_threads=2", "--max_num_threads=2")
    assert result.returncode == 0, result.stderr
    groups = re.findall(r"^  \[deadline-(\w+)\] threads=(\d) deadline_us=(\d+) operations=[1-9]\d* throughput=\d+\.\d+ "
                        r"GB/s$", result.stdout, re.M)
    assert groups == [("tight", "1", "10000000"), ("loose", "1", "0")]


def test_what_is_not_there_is_named(run, target):
    _, name = target()
    for arguments in ([], ["--target_seg_name", name]):
        result = run("tebench", *HERE, "--xport_type=warp", *arguments)
        assert result.returncode == 1
        assert "unknown transport 'warp'; there are local, " in result.stderr
    result = run("tebench", *HERE, "--target_seg_name", "127.0.0.1:1")
    assert result.returncode == 1 and "127.0.0.1:1" in result.stderr


def test_a_transport_that_is_off_says_why(run, target, monkeypatch):
    _, name = target()
    monkeypatch.setenv("CW_TRANSPORTS_SHM_ENABLE", "off")
    result = run("tebench", *HERE, "--xport_type=shm", "--target_seg_name", name)
    assert result.returncode == 1
    assert re.search(r"^tebench: shm is off: .", result.stderr, re.M)


def test_a_signal_ends_the_sweep_in_order(spawn, target):
    _, name = target()
    process = spawn("tebench", *HERE, "--target_seg_name", name, "--warmup=0", "--duration=60", "--max_block_size=4096",
                    text=True, stderr=subprocess.PIPE)
    assert process.stdout.readline().startswith("BlkSize")
    status, out, err = end(process)
    assert status == 0, err
    assert "rror" not in err and len(out.splitlines()) <= 2


def test_a_target_that_dies_is_named(spawn, target):
    process, name = target()
    initiator = spawn("tebench", *HERE, "--target_seg_name", name, "--warmup=0", "--duration=0.2", "--xport_type=tcp",
                      "--max_block_size=16k", text=True, stderr=subprocess.PIPE)
    for _ in range(3):
        initiator.stdout.readline()
    process.kill()
    _, err = initiator.communicate(timeout=60)
    assert initiator.returncode == 1
    assert "bytes x 1 x 1 threads: " in err
