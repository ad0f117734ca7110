# SPDX-License-Identifier: Apache-2.0
"""The harness of ./do bench: how figures are made of measurements, when a target is met, when the guard fails."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
sys.path.insert(0, str(BENCH))

import figures  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import run as harness  # noqa: E402
import sides  # noqa: E402
import workloads  # noqa: E402

sys.path.remove(str(BENCH))


def measurement(number, speed, setting="", p50=None):
    return {"round": number, "setting": setting, "gigabytes_per_second": speed, "cpu_seconds_per_gigabyte": None,
            "latency_us": {"p50": p50, "p99": p50, "p999": p50}, "resident_mib": None}  # fmt: skip


def result(figure="gigabytes_per_second", **sides_of):
    return {"workload": "w", "group": "a", "figure": figure, "sides": sides_of, "cannot": {}}


def rounds(*values, setting="", figure="gigabytes_per_second"):
    if figure == "p50":
        return [measurement(i, 1, setting, value) for i, value in enumerate(values)]
    return [measurement(i, value, setting) for i, value in enumerate(values)]


def test_ratios_are_of_the_same_round():
    # The medians are 4 and 4, but in each round Causeway was at half or at a quarter of the bare limit.
    found = result(causeway=rounds(1, 4, 5), bare=rounds(4, 8, 10)) | {}
    assert figures.speed(found) == 0.5
    assert figures.speeds(found) == [0.25, 0.5, 0.5]


def test_faster_is_above_one_for_times_too():
    found = result("p50", causeway=rounds(10, 10, figure="p50"), bare=rounds(5, 5, figure="p50"))
    assert figures.speed(found) == 0.5 and figures.ratio(found, "p50", "bare") == 2


def test_a_round_that_one_side_did_not_have_counts_for_nothing():
    found = result(causeway=rounds(1, 2, 3), bare=rounds(2))
    assert figures.speeds(found) == [0.5]
    assert figures.speed(result(causeway=rounds(1))) is None


def test_the_better_setting_of_a_peer_counts():
    peer = rounds(1, 1, 9, setting="default") + rounds(3, 3, 3, setting="pool")
    found = result(causeway=rounds(6, 6, 6), bare=rounds(6, 6, 6), a=peer, b=rounds(2, 2, 2))
    assert figures.best_peer(found) == "a" and figures.speed(found, "peers") == 2


@pytest.mark.parametrize(
    ("target", "met"),
    [
        (workloads.Target("gigabytes_per_second", "bare", least=0.8), True),
        (workloads.Target("gigabytes_per_second", "bare", least=0.81), False),
        (workloads.Target("p50", most=7), True),
        (workloads.Target("p50", most=6), False),
        (workloads.Target("p99", "bare", most=1), None),  # the bare program has no such figure here
        (workloads.Target("gigabytes_per_second", "peers", least=3, unless_peer_above=0.6), True),
        (workloads.Target("gigabytes_per_second", "peers", least=5, unless_peer_above=0.6), False),
        (workloads.Target("gigabytes_per_second", "peers", least=5, unless_peer_above=0.1), None),
    ],
)
def test_targets(target, met):
    found = result(causeway=[measurement(0, 8, p50=7)], bare=[measurement(0, 10)], peer=[measurement(0, 2)])
    assert figures.verdict(found, target)["met"] is met


@pytest.mark.parametrize(("value", "met"), [(99, True), (101, False), (None, None)])
def test_bounds_of_programs(value, met):
    point = {"workload": "after-256", "used_per_peer": {"resident_kib": value}}
    assert programs.Bound("after-256", "used_per_peer.resident_kib", most=100).verdict(point)["met"] is met


def guard(monkeypatch, speeds):
    """What the guard says when the speeds are these, run after run, and 0.9 is recorded."""
    row = SimpleNamespace(name="w")
    left = iter(speeds)

    def again(_):
        return result() | {"speed_to_bare": next(left)}

    monkeypatch.setattr(harness, "recorded", lambda: {"w": {"speed": 0.9, "bare": "spin"}})
    failed = harness.guard(SimpleNamespace(results=[again(row)], transfer=again), [row])
    return failed, len(list(left))


@pytest.mark.parametrize(
    ("speeds", "failed", "unused"),
    [
        ([0.9], 0, 0),
        ([0.61, 0.1], 0, 1),  # two thirds of 0.9 is 0.6
        ([0.5, 0.5, 0.5, 0.7, 0.1], 0, 1),  # one good run is enough
        ([0.5, 0.5, 0.5, 0.5, 0.9], 1, 1),
    ],
)
def test_the_guard_fails_when_all_reruns_agree(monkeypatch, speeds, failed, unused):
    assert guard(monkeypatch, speeds) == (failed, unused)


def test_what_is_recorded_is_measured_by_the_quick_form():
    quick = {row.name for row in workloads.TRANSFERS if row.quick}
    assert set(harness.recorded()) == quick


def test_names_are_unique():
    names = [row.name for row in (*workloads.TRANSFERS, *programs.PROGRAMS)]
    assert len(names) == len(set(names))


def test_a_side_that_cannot_says_why(tmp_path):
    program = tmp_path / "peer.py"
    program.write_text("import sys\nprint('not this way', file=sys.stderr)\nsys.exit(3)\n", encoding="utf-8")
    with pytest.raises(sides.Cannot, match="not this way"):
        sides.Peer(program).measure(workloads.TRANSFERS[0], 0.01)
    program.write_text("raise SystemExit('broken')", encoding="utf-8")
    with pytest.raises(sides.Failed, match="broken"):
        sides.Peer(program).measure(workloads.TRANSFERS[0], 0.01)
    program.write_text("import time\ntime.sleep(60)", encoding="utf-8")
    with pytest.raises(sides.Failed, match="no end after 0.2 s"):
        sides.run(["/usr/bin/python3", program], 0.2)


@pytest.mark.parametrize("name", ["tcp write 128 x 4 KiB", "shm, any memory read 8 MiB", "local write 4 KiB, warm"])
def test_causeway_and_the_bare_program_move_a_workload(build_dir, name):
    row = next(row for row in workloads.TRANSFERS if row.name == name)
    bare = sides.Bare(build_dir)
    found = result(row.figure)
    for side in (sides.Causeway(build_dir), bare):
        found["sides"][side.name] = [one | {"round": 0} for one in side.measure(row, 0.02)]
    figures.judge(found, row.targets)
    assert found["speed_to_bare"] > 0
    assert "GB/s" in report.line(found) or " us" in report.line(found)
    assert any("bare" in line for line in report.costs(found))
    bare.pin(row, found["sides"]["bare"][0]["setting"])
    (again,) = bare.measure(row, 0.02)
    assert again["setting"] == found["sides"]["bare"][0]["setting"]
    json.dumps(found)
