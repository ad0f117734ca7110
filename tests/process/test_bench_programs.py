# SPDX-License-Identifier: Apache-2.0
"""The programs that the benchmark compares with: each way moves the bytes that it says, and what cannot be is refused.
How fast they are is not looked at here."""

import json
import os
import subprocess

import pytest

FIGURES = {
    "program", "setting", "workload", "bytes", "operations", "seconds", "gigabytes_per_second", "latency_us",
    "cpu_seconds_per_gigabyte", "system_calls_per_operation", "resident_mib",
}  # fmt: skip
SHORT = ["--seconds", "0.02", "--buffer", "2m"]


@pytest.fixture(scope="module")
def bare(build_dir):
    """Runs bare: bare("--via", "tcp") -> CompletedProcess."""
    program = build_dir / "bench/bare"

    def run_bounded(*arguments):
        return subprocess.run(
            [program, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )

    return run_bounded


def rows_of(done):
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    for row in rows:
        assert set(row) == FIGURES
        assert row["program"] == "bare"
        assert row["operations"] > 0
        assert row["gigabytes_per_second"] > 0
        assert 0 < row["latency_us"]["p50"] <= row["latency_us"]["p99"] <= row["latency_us"]["p999"]
    return rows


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize(
    "via, work",
    [
        ("tcp", ["--size", "4k"]),
        ("tcp", ["--size", "1m", "--depth", "3"]),
        ("tcp", ["--size", "4k", "--pages", "128"]),
        ("tcp", ["--size", "1000", "--pages", "3", "--depth", "4"]),
        ("tcp", ["--size", "4k", "--pages", "100", "--vectors", "7"]),
        ("tcp", ["--size", "64k", "--socket-buffer", "64k", "--congestion", "cubic"]),
        ("shm", ["--size", "4k"]),
        ("shm", ["--size", "1001", "--pages", "5"]),
        ("shm", ["--size", "16k", "--threads", "2"]),
        ("shm", ["--size", "256k", "--lanes", "2", "--huge"]),
        ("shm", ["--ordinary", "--size", "4k", "--pages", "100", "--vectors", "64"]),
        ("shm", ["--ordinary", "--size", "256k"]),
        ("local", ["--size", "4k"]),
        ("local", ["--size", "40000", "--lanes", "4"]),
    ],
)
def test_all_ways_move_the_bytes(bare, via, op, work):
    rows = rows_of(bare("--all", "--verify", "--via", via, "--op", op, *work, *SHORT))
    assert len({row["setting"] for row in rows}) == len(rows)


@pytest.mark.parametrize("op", ["read", "write"])
@pytest.mark.parametrize(
    "mode, work",
    [
        ("epoll", ["--size", "4k", "--peers", "256"]),
        ("epoll", ["--size", "4k", "--peers", "4", "--threads", "2", "--depth", "2"]),
        ("blocking", ["--size", "4k", "--threads", "4"]),
        ("setup", ["--size", "4k"]),
        ("setup-spin", ["--size", "4k"]),
        ("ping-pong", ["--via", "shm", "--size", "4k"]),
        ("ping-pong-target-parked", ["--via", "shm", "--size", "4k", "--pages", "10"]),
        ("ping-pong-parked", ["--via", "shm", "--size", "4k"]),
    ],
)
def test_special_ways(bare, op, mode, work):
    (row,) = rows_of(bare("--mode", mode, "--verify", "--op", op, *work, *SHORT))
    assert row["setting"].split(",")[0] == mode


def test_the_best_is_one(bare):
    (row,) = rows_of(bare("--via", "local", "--size", "64k", "--workload", "words", *SHORT))
    assert row["workload"] == "words"
    assert row["bytes"] == 65536
    assert row["cpu_seconds_per_gigabyte"]["target"] is None


@pytest.mark.parametrize("wait", ["spin", "target-parked", "parked"])
def test_manners_of_waiting(bare, wait):
    rows = rows_of(bare("--all", "--verify", "--size", "4k", "--wait", wait, *SHORT))
    ways = {
        "spin": {"spin", "splice"},
        "target-parked": {"spin-blocking", "spin-epoll"},
        "parked": {"blocking", "epoll"},
    }
    assert {row["setting"].split(",")[0] for row in rows} == ways[wait]


@pytest.mark.parametrize(
    "mode, via", [("epoll", "tcp"), ("setup", "tcp"), ("memcpy", "shm"), ("attach", "shm"), ("memcpy", "local")]
)
@pytest.mark.parametrize("op", ["read", "write"])
def test_damage_is_noticed(bare, mode, via, op):
    done = bare("--mode", mode, "--via", via, "--op", op, "--size", "4k", "--verify", "--spoil", *SHORT)
    assert done.returncode == 1
    assert "what arrived is not what was sent" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--mode", "teleport"], "no mode of this name"),
        (["--mode", "memcpy"], "does not go this way"),
        (["--mode", "spin", "--wait", "parked"], "another manner"),
        (["--mode", "blocking", "--lanes", "2"], "too many lanes"),
        (["--mode", "blocking", "--peers", "2"], "has one connection"),
        (["--mode", "setup", "--depth", "2"], "one block goes over one new connection"),
        (["--via", "shm", "--peers", "2"], "no connections"),
        (["--via", "shm", "--threads", "2", "--lanes", "2"], "splits its copies"),
        (["--via", "shm", "--mode", "memcpy", "--ordinary"], "both processes map"),
        (["--via", "shm", "--mode", "pull", "--op", "read"], "fetches what is written"),
        (["--size", "0"], "out of range"),
        (["--seconds", "nan"], "out of range"),
        (["--pages", "10", "--lanes", "3"], "so many lanes"),
        (["--size", "1g", "--pages", "1g"], "so much memory"),
        (["--threads", "1000"], "so many threads"),
    ],
)
def test_refused(bare, arguments, message):
    done = bare(*arguments)
    assert done.returncode == 3
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments", [["--size", "12q"], ["--size", "-1"], ["--op", "fly"], ["--via", "air"], ["--frob"], ["word"]]
)
def test_misuse(bare, arguments):
    assert bare(*arguments).returncode == 2


def test_list_and_help(bare):
    listed = bare("--list").stdout
    for mode in ("blocking", "epoll", "nt-avx2", "attach", "ping-pong", "setup"):
        assert f" {mode} " in listed
    assert bare("--help").stdout.startswith("usage: bare")


def test_nothing_is_left(bare):
    before = set(os.listdir("/dev/shm"))
    rows_of(bare("--via", "shm", "--size", "4k", *SHORT))
    assert set(os.listdir("/dev/shm")) <= before
