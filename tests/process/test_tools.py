# SPDX-License-Identifier: Apache-2.0
"""The command-line tools as their users meet them: options, formats, exit statuses, and bytes that are checked."""

import csv
import io
import json
import os
import re
import signal
import subprocess

import pytest

from mooncake_wheel import wheel_python, wheels  # noqa: F401 (fixtures)

TRANSPORTS = ["tcp", "shm"]
P2P = ["--metadata_server=P2PHANDSHAKE", "--protocol=tcp", "--local_server_name=127.0.0.1", "--buffer_size=8388608"]


def first_line(process):
    """The name behind "listening on" in the first line of a process's output."""
    line = process.stdout.readline()
    assert "listening on " in line, line
    return line.split("listening on ")[1].strip()


def interrupt(process):
    process.send_signal(signal.SIGINT)
    return process.wait(20)


# ------------------------------------------------------------------------------------------------ options


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "usage: causeway"),
        (["bnech"], "did you mean 'bench'?"),
        (["zzzzzz"], "unknown command 'zzzzzz'"),
        (["bench", "--thread", "2"], "did you mean --threads?"),
        (["bench", "--size"], "--size needs a value"),
        (["bench", "--size", "12q", "x"], "'12q' is not a value for --size"),
        (["bench", "--size", "8k-4k", "x"], "'8k-4k' is not a value for --size"),
        (["bench", "--op", "fly", "x"], "'fly' is not a value for --op: read|write|mixed"),
        (["bench", "--seconds", "nan", "x"], "'nan' is not a value for --seconds"),
        (["bench"], "give one of SEGMENT, --target, --loopback or --inside"),
        (["bench", "--target", "a"], "give one of SEGMENT, --target, --loopback or --inside"),
        (["bench", "a", "--peers", "2"], "--peers and --wait need --loopback"),
        (["bench", "a", "--depth", "0"], "'0' is not a value for --depth"),
        (["bench", "--loopback", "--peers", "0"], "--peers: 1 to 256"),
        (["bench", "--loopback", "--wait", "long"], "'long' is not a value for --wait: spin|target-parked|parked"),
        (["replay", "a", "b"], "unexpected 'b'"),
        (["path"], "missing operand: SEGMENT"),
        (["replay"], "give one of TRACE, --demo, --serve or --generate"),
        (["replay", "x", "--tokens-per-block", "513"], "at most 512"),
        (["replay", "--demo", "--each", ","], "--each names from 1 to 8 transports"),
        (["replay", "x", "--model", "llama-1b"], "llama-8b|llama-70b"),
        (["config", "--formt=json"], "did you mean --format?"),
    ],
)
def test_wrong_usage_is_named(run, arguments, message):
    result = run("causeway", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["bench", "replay", "transports", "path", "config", "doctor"])
def test_help(run, command):
    result = run("causeway", command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: causeway {command}")
    assert "--set KEY=VALUE" in result.stdout


@pytest.mark.parametrize("program", ["transfer_engine_bench", "transfer_engine_validator"])
def test_help_lists_the_known_flags(run, program):
    result = run(program, "--help")
    assert result.returncode == 0
    for flag in ["local_server_name", "metadata_server", "mode", "protocol", "device_name", "segment_id", "buffer_size",
                 "batch_size", "block_size", "duration", "threads", "auto_discovery", "report_unit",
                 "report_precision"]:
        assert f"--{flag} " in result.stdout
    assert ("--operation " in result.stdout) == (program == "transfer_engine_bench")


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "there is no transport yet for the protocol 'rdma'"),
        (["--protocol=smoke"], "unknown protocol 'smoke'"),
        (["--protocol=sunrise_link", "--metadata_server=P2PHANDSHAKE", "--gpu_id=-2"], "-1 stands for all"),
        (["--protocol=sunrise_link", "--gpu_id=0x"], "'0x' is not a value for --gpu_id"),
        (["--protocl=tcp"], "did you mean --protocol?"),
    ],
)
def test_flags_that_cannot_be(run, flags, message):
    result = run("transfer_engine_bench", *flags)
    assert result.returncode == 2
    assert message in result.stderr


# ------------------------------------------------------------------------------- config, transports, doctor


def test_config_tells_values_and_origins(run, tmp_path, monkeypatch):
    monkeypatch.setenv("CW_TCP_CONNECTIONS", "3")
    result = run("causeway", "config", "--format", "json", "--set", "batch/retries=5")
    assert result.returncode == 0, result.stderr
    rows = {row["key"]: row for row in json.loads(result.stdout)}
    assert rows["batch/retries"]["value"] == "5" and rows["batch/retries"]["origin"] == "options"
    assert rows["tcp/connections"]["value"] == "3" and rows["tcp/connections"]["origin"] == "environment"
    assert rows["control/port"]["origin"] == "default"
    assert all(row["help"] for row in rows.values())
    changed = run("causeway", "config", "--changed", "--format", "csv", "--set", "batch/retries=5")
    assert {row["key"] for row in csv.DictReader(io.StringIO(changed.stdout))} == {"batch/retries", "tcp/connections"}


def test_unknown_setting_is_an_error(run):
    result = run("causeway", "config", "--set", "tcp/conections=3")
    assert result.returncode == 1
    assert "tcp/connections" in result.stderr


def test_transports(run):
    result = run("causeway", "transports", "--format", "json", "--set", "transports/shm/enable=off")
    assert result.returncode == 0, result.stderr
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["tcp"]["state"] == "on" and rows["local"]["state"] == "on"
    assert rows["shm"]["state"] == "off" and rows["shm"]["why"]


def test_kinds_of_memory(run, monkeypatch):
    monkeypatch.setenv("MC_TANGRT_LIB_DIR", "/nowhere/at/all")
    result = run("causeway", "transports", "--memory", "--format", "json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [row["name"] for row in rows] == ["cuda", "sunrise", "host"]
    assert rows[1]["state"] == "off" and "/nowhere/at/all" in rows[1]["why"]
    assert rows[2]["state"] == "on"


def test_doctor(run):
    result = run("causeway", "doctor", "--format", "json")
    rows = json.loads(result.stdout)
    assert result.returncode == (1 if any(row["verdict"] == "BROKEN" for row in rows) else 0)
    assert {"memory", "memlock", "huge pages", "ptrace", "engine", "host name"} <= {row["subject"] for row in rows}
    assert result.returncode == 0, result.stdout


def test_doctor_finds_what_is_broken(run):
    result = run("causeway", "doctor", "--name", "203.0.113.77", "--format", "json")
    assert result.returncode == 1
    assert [row["subject"] for row in json.loads(result.stdout) if row["verdict"] == "BROKEN"] == ["engine"]


# -------------------------------------------------------------------------------------------------- bench


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("op", ["read", "write", "mixed"])
def test_bench_loopback_verifies(run, transport, op):
    result = run("causeway", "bench", "--loopback", "--op", op, "--size", "4k-64k", "--batch", "3", "--threads", "1-2",
                 "--seconds", "0.05", "--buffer", "4m", "--verify", "--transport", transport, "--format", "json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert len(rows) == 5 * 2
    assert {row["path"] for row in rows} == {transport}
    assert {row["verified"] for row in rows} == {"yes"}
    assert all(row["gigabytes_per_second"] >= 0 and 0 < row["p50_us"] <= row["p99_us"] <= row["max_us"] for row in rows)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_bench_scattered_pages(run, transport):
    result = run("causeway", "bench", "--loopback", "--pages", "64", "--page-size", "1000", "--batch", "2", "--seconds",
                 "0.05", "--buffer", "4m", "--verify", "--ordinary", "--transport", transport, "--format", "csv")
    assert result.returncode == 0, result.stderr
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    assert row["request_bytes"] == "64000" and row["pages"] == "64" and row["verified"] == "yes"


def bench_rows(run, *arguments):
    result = run("causeway", "bench", "--loopback", "--seconds", "0.05", "--buffer", "4m", "--verify", "--format",
                 "json", *arguments)
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {row["verified"] for row in rows} == {"yes"}
    return rows


@pytest.mark.parametrize("op", ["read", "write", "mixed"])
def test_bench_keeps_several_batches_in_flight(run, op):
    rows = bench_rows(run, "--op", op, "--size", "4k", "--batch", "2", "--depth", "1-8", "--threads", "2",
                      "--transport", "tcp")
    assert [row["depth"] for row in rows] == [1, 2, 4, 8]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("op", ["read", "write", "mixed"])
def test_bench_moves_slots_to_several_peers(run, transport, op):
    (row,) = bench_rows(run, "--op", op, "--peers", "3", "--pages", "16", "--page-size", "4k", "--depth", "2",
                        "--transport", transport)
    assert row["path"] == transport


@pytest.mark.parametrize("op", ["read", "write", "mixed"])
def test_bench_inside_one_process(run, op):
    result = run("causeway", "bench", "--inside", "--op", op, "--size", "1k-16k", "--buffer", "2m", "--seconds", "0.05",
                 "--verify", "--format", "json")
    assert result.returncode == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {(row["path"], row["verified"]) for row in rows} == {("local", "yes")} and len(rows) == 5


@pytest.mark.parametrize("wait", ["spin", "target-parked", "parked"])
def test_bench_who_sleeps(run, wait):
    (row,) = bench_rows(run, "--wait", wait, "--size", "4k", "--transport", "tcp")
    # With both sides asleep each batch puts each of them to sleep; a busy machine may find bytes there.
    if wait == "parked":
        assert row["switches_per_batch"] + row["target_switches_per_batch"] > 0.5


def test_bench_tells_what_both_sides_use(run):
    (row,) = bench_rows(run, "--size", "64k", "--transport", "tcp", "--calls")
    for side in ("", "target_"):
        assert row[side + "cpu_s_per_gb"] > 0 and row[side + "cpu_us_per_batch"] > 0
        assert row[side + "resident_mib"] > 4  # at least the buffer
        # Counting calls takes rights, so it may be unknown; a batch over TCP takes one on each side at least.
        assert row[side + "calls_per_batch"] is None or row[side + "calls_per_batch"] > 0.9


def test_bench_says_nothing_about_targets_of_others(run, spawn):
    target = spawn("causeway", "bench", "--target", "--buffer", "1m", text=True)
    other = spawn("causeway", "bench", "--target", "--buffer", "2m", text=True)
    result = run("causeway", "bench", first_line(target), first_line(other), "--size", "1k", "--seconds", "0.05",
                 "--verify", "--format", "json")
    assert result.returncode == 0, result.stderr
    (row,) = json.loads(result.stdout)
    assert row["verified"] == "yes" and row["cpu_s_per_gb"] > 0 and row["target_cpu_s_per_gb"] is None
    assert interrupt(target) == 0 and interrupt(other) == 0


def test_bench_against_a_target_in_text(run, spawn):
    target = spawn("causeway", "bench", "--target", "--buffer", "1m", text=True)
    name = first_line(target)
    result = run("causeway", "bench", name, "--size", "1k", "--seconds", "0.05")
    assert result.returncode == 0, result.stderr
    header, row = result.stdout.splitlines()
    assert "GB/s" in header and "p99.9 us" in header and row.startswith("write")
    path = run("causeway", "path", name, "--format", "json")
    assert path.returncode == 0, path.stderr
    chosen = [step for step in json.loads(path.stdout) if step["use"] == "chosen"]
    assert {step["op"] for step in chosen} == {"read", "write"}
    assert interrupt(target) == 0


def test_bench_without_a_target_fails_with_a_reason(run):
    result = run("causeway", "bench", "127.0.0.1:1", "--seconds", "0.05")
    assert result.returncode == 1
    assert "127.0.0.1:1" in result.stderr


# ------------------------------------------------------------------------------------------------- replay


@pytest.fixture
def trace(run, tmp_path):
    path = tmp_path / "trace.jsonl"
    path.write_text(run("causeway", "replay", "--generate", "60", "--seed", "7").stdout)
    return path


def expected(trace, limit=None):
    """Requests and blocks of a trace, read by another parser."""
    rows = [json.loads(line) for line in trace.read_text().splitlines()[:limit]]
    return len(rows), sum(len(row["hash_ids"]) for row in rows), len({h for row in rows for h in row["hash_ids"]})


def test_generated_trace_is_reproducible(run, trace):
    again = run("causeway", "replay", "--generate", "60", "--seed", "7").stdout
    assert again == trace.read_text()
    assert again != run("causeway", "replay", "--generate", "60", "--seed", "8").stdout
    requests, blocks, distinct = expected(trace)
    assert requests == 60 and distinct < blocks


def test_replay_over_each_transport(run, trace):
    result = run("causeway", "replay", str(trace), "--memory", "256m", "--each", ",".join(TRANSPORTS), "--format",
                 "json")
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    requests, blocks, distinct = expected(trace)
    scale = report["scale"]
    assert scale["pages_per_block"] == 64 and scale["block_bytes"] >= 32768
    assert [run["path"] for run in report["runs"]] == TRANSPORTS
    for one in report["runs"]:
        assert (one["requests"], one["blocks"]) == (requests, blocks)
        assert one["blocks_sent"] == distinct and one["blocks_evicted"] == 0
        assert one["pages"] == distinct * 64 and one["bytes"] == distinct * scale["block_bytes"]
        assert one["pages_verified"] >= one["pages"] and one["pages_wrong"] == 0 and one["error"] == ""


def test_demo_prints_one_table(run):
    result = run("causeway", "replay", "--demo", "--memory", "128m")
    assert result.returncode == 0, result.stderr
    assert re.search(r"^transports +shm +tcp$", result.stdout, re.M)
    assert re.search(r"^pages wrong +0 +0$", result.stdout, re.M)


def lru_misses(trace, capacity):
    """How many blocks one request after the other sends to an LRU cache."""
    cache, misses = {}, 0
    for line in trace.read_text().splitlines():
        for block in json.loads(line)["hash_ids"]:
            misses += block not in cache
            cache.pop(block, None)
            cache[block] = True
            if len(cache) > capacity:
                del cache[next(iter(cache))]
    return misses


def test_replay_evicts_and_sends_again(run, trace):
    capacity = 300
    result = run("causeway", "replay", str(trace), "--model", "llama-70b", "--tokens-per-block", "1",
                 "--capacity-blocks", str(capacity), "--staging-blocks", "50", "--transport", "shm", "--format", "json")
    assert result.returncode == 0, result.stderr
    (one,) = json.loads(result.stdout)["runs"]
    _, blocks, distinct = expected(trace)
    assert distinct > capacity
    assert one["blocks"] == blocks and one["blocks_sent"] > distinct
    assert one["blocks_sent"] - one["blocks_evicted"] <= capacity
    # Rounds of several requests are under way at once, so the order differs a little from one after the other.
    assert one["blocks_sent"] == pytest.approx(lru_misses(trace, capacity), rel=0.25)


def test_replay_joins_a_decode_process_twice(run, spawn, trace):
    decode = spawn("causeway", "replay", "--serve", text=True)
    name = first_line(decode)
    for _ in range(2):
        result = run("causeway", "replay", str(trace), "--decode", name, "--limit", "10", "--memory", "64m")
        assert result.returncode == 0, result.stderr
        assert re.search(r"^requests +10$", result.stdout, re.M)
    assert interrupt(decode) == 0


def test_replay_honours_time_stamps(run, tmp_path):
    trace = tmp_path / "slow.jsonl"
    rows = [{"timestamp": t, "input_length": 512, "output_length": 1, "hash_ids": [t]} for t in (0, 1000, 2000)]
    trace.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run("causeway", "replay", str(trace), "--memory", "16m", "--speed", "4", "--format", "json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["runs"][0]["wall_seconds"] >= 0.5


def test_replay_serve_refuses_more_than_its_memory(run, spawn, trace):
    decode = spawn("causeway", "replay", "--serve", "--memory", "16m", text=True)
    result = run("causeway", "replay", str(trace), "--decode", first_line(decode), "--memory", "64m")
    assert result.returncode == 1
    assert "--memory" in result.stderr
    assert interrupt(decode) == 0


GOOD = '{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": [1]}'


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        GOOD + " x",
        GOOD.replace("0", "-1", 1),
        GOOD.replace("0", '"0"', 1),
        GOOD.replace("0", "0.5", 1),
        GOOD.replace("[1]", "[-1]"),
        GOOD.replace("[1]", "1"),
        GOOD.replace("[1]", '["1"]'),
        GOOD.replace("[1]", "[99999999999999999999]"),
        GOOD.replace("hash_ids", "hashes"),
        GOOD.replace("1]", "1],"),
        GOOD.replace("[1]", "[[[[[[[[[[1]]]]]]]]]]"),
    ],
)
def test_a_bad_trace_is_refused_with_its_line(run, tmp_path, line):
    trace = tmp_path / "bad.jsonl"
    trace.write_text(GOOD + "\n" + line + "\n")
    result = run("causeway", "replay", str(trace))
    assert result.returncode == 1
    assert f"{trace}:2: " in result.stderr


# ------------------------------------------------------------------------------- the programs of Mooncake's users


@pytest.mark.parametrize("protocol", TRANSPORTS)
@pytest.mark.parametrize("program", ["transfer_engine_bench", "transfer_engine_validator"])
def test_transfer_engine_programs(run, spawn, program, protocol):
    common = ["--metadata_server=P2PHANDSHAKE", f"--protocol={protocol}", "-local_server_name", "127.0.0.1:12345",
              "--buffer_size=8m"]
    target = spawn(program, *common, "--mode=target", stderr=subprocess.PIPE, text=True)
    line = target.stderr.readline()
    assert "Transfer Engine RPC using P2P handshake, listening on 127.0.0.1:" in line
    name = line.split("listening on ")[1].strip()
    result = run(program, *common, f"--segment_id={name}", "--threads=2", "--batch_size", "4", "--block_size=4096",
                 "--duration=0.3", "--report_unit=MiB", "--report_precision=1", "--noauto_discovery")
    assert result.returncode == 0, result.stderr
    line = r"Test completed: duration 0\.\d\d, batch count [1-9]\d*, throughput [\d]+\.\d MiB/s$"
    assert re.search(line, result.stderr, re.M)
    passed = " Data validation passed" if program.endswith("validator") else ""
    for worker in (0, 1):
        assert re.search(rf"Worker {worker} stopped!{passed}$", result.stderr, re.M)
    assert interrupt(target) == 0


def test_hello(spawn, build_dir):
    receiver = spawn(build_dir / "examples/hello", text=True)
    name = receiver.stdout.readline().strip()
    sender = spawn(build_dir / "examples/hello", name, text=True)
    assert sender.wait(20) == 0
    out, _ = receiver.communicate(timeout=20)
    assert receiver.returncode == 0
    assert out.endswith("says: bytes from another process\n")


# --------------------------------------------------------------------------------------- a Mooncake engine as peer


@pytest.fixture
def mooncake(wheels):
    """The name of a Mooncake engine that offers 8 MiB."""
    peer = wheels()
    peer.map(memory="m", length=8 << 20)
    peer.register(memory="m")
    return peer.engine


def test_validator_against_mooncake(run, mooncake):
    result = run("transfer_engine_validator", *P2P, f"--segment_id={mooncake}", "--threads=2", "--batch_size=8",
                 "--duration=0.5")
    assert result.returncode == 0, result.stderr
    assert len(re.findall("Data validation passed", result.stderr)) == 2



@pytest.fixture
def their_bench(wheel_python):
    """Mooncake's own transfer_engine_bench, and the environment it wants."""
    # Not the script in bin/: that starts the program as a child, which nobody would end.
    program = next(wheel_python.parent.parent.glob("lib/python*/site-packages/mooncake/transfer_engine_bench"), None)
    if not program:
        pytest.skip("this wheel has no transfer_engine_bench")
    return str(program), {**os.environ, "MC_FORCE_TCP": "1"}


def listening(process):
    for line in process.stderr:
        if "listening on" in line:
            return line.split("listening on ")[1].strip()
    pytest.fail("the target did not start")


@pytest.mark.parametrize("operation", ["read", "write"])
def test_their_bench_measures_ours(spawn, their_bench, operation):
    program, environment = their_bench
    target = spawn("transfer_engine_bench", *P2P, "--mode=target", stderr=subprocess.PIPE, text=True)
    theirs = spawn(program, *P2P, f"--segment_id={listening(target)}", f"--operation={operation}", "--duration=1",
                   "--threads=2", "--batch_size=8", env=environment, stderr=subprocess.PIPE, text=True)
    _, log = theirs.communicate(timeout=60)
    assert re.search(r"Test completed: duration 1\.\d\d, batch count [1-9]", log), log
    assert interrupt(target) == 0


def test_our_validator_passes_with_theirs(run, spawn, their_bench):
    program, environment = their_bench
    target = spawn(program, *P2P, "--mode=target", env=environment, stderr=subprocess.PIPE, text=True)
    result = run("transfer_engine_validator", *P2P, f"--segment_id={listening(target)}", "--duration=0.5",
                 "--threads=2", "--batch_size=8")
    assert result.returncode == 0, result.stderr
    assert len(re.findall("Data validation passed", result.stderr)) == 2


def test_bench_against_mooncake(run, mooncake):
    result = run("causeway", "bench", mooncake, "--op", "mixed", "--size", "512-1m", "--batch", "4",
                 "--seconds", "0.02", "--buffer", "4m", "--verify", "--format", "json")
    assert result.returncode == 0, result.stderr
    assert {(row["path"], row["verified"]) for row in json.loads(result.stdout)} == {("tcp", "yes")}
