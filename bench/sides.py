# SPDX-License-Identifier: Apache-2.0
"""How each side of the comparison is started: Causeway, the bare programs, the peers that are there.

A side moves what a Transfer of bench/workloads.py says and returns measurements: dictionaries with program, setting,
workload, bytes, operations, seconds, gigabytes_per_second, latency_us, cpu_seconds_per_gigabyte,
system_calls_per_operation and resident_mib; what is not known is None. Cannot is raised where a side has no way to do
it; that is no failure.
"""

import json
import os
import re
import subprocess

PYTHON = "/usr/bin/python3"
INSTALL_SECONDS = 600
CANNOT = 3  # the exit status of the bare and peer programs for what they cannot do


class Cannot(Exception):
    """This side has no way to do this; says why."""


class Failed(Exception):
    """It should have worked."""


def run(command, timeout, environment=None):
    """The standard output of a command. The whole process group ends with it, also when its time is up."""
    with subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.communicate()
            raise Failed(f"{command[0]}: no end after {timeout} s") from None
    reason = (err.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
    if process.returncode == CANNOT:
        raise Cannot(reason)
    if process.returncode:
        raise Failed(f"{' '.join(map(str, command))}: {reason}")
    return out


def lines(text):
    """The JSON objects among the lines of a program's output."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def measurements(text):
    """Those of a bare or peer program, with the CPU time of an operation, which follows from that of a GB."""
    found = lines(text)
    for one in found:
        cpu = one["cpu_seconds_per_gigabyte"] or {}
        one["cpu_us_per_operation"] = {side: None if seconds is None else seconds * one["bytes"] / 1e3
                                       for side, seconds in cpu.items()}  # fmt: skip
    return found


def timeout(row, seconds):
    return 60 + 40 * seconds + row.size * row.pages / 1e8


class Causeway:
    """`causeway bench --loopback`, which starts its own target."""

    name = "causeway"

    def __init__(self, build):
        self.program = build / "bin/causeway"

    def measure(self, row, seconds, calls=False):
        command = [self.program, "bench", "--format", "json", "--seconds", seconds, "--buffer", row.buffer]
        command += ["--inside"] if row.via == "local" else ["--loopback", "--transport", row.via, "--wait", row.wait]
        command += ["--op", row.op, "--pages", row.pages, "--page-size", row.size]
        command += ["--depth", row.depth, "--threads", row.threads]
        command += ["--ordinary"] if row.ordinary else []
        command += ["--calls"] if calls else []
        point = json.loads(run(command, timeout(row, seconds)))[0]
        if point["path"] != row.via:
            raise Failed(f"{row.name}: the bytes went over {point['path']}")
        return [self.measurement(row, point)]

    def measurement(self, row, point):
        def both(key):
            pair = {"initiator": point[key], "target": point["target_" + key]}
            return pair if pair["initiator"] is not None else None

        return {
            "program": self.name,
            "setting": "",
            "workload": row.name,
            "bytes": point["request_bytes"] * point["batch"],
            "operations": point["batches"],
            "seconds": point["seconds"],
            "gigabytes_per_second": point["gigabytes_per_second"],
            "latency_us": {"p50": point["p50_us"], "p99": point["p99_us"], "p999": point["p999_us"]},
            "cpu_seconds_per_gigabyte": both("cpu_s_per_gb"),
            "cpu_us_per_operation": both("cpu_us_per_batch"),
            "context_switches_per_operation": both("switches_per_batch"),
            "system_calls_per_operation": both("calls_per_batch"),
            "resident_mib": point["resident_mib"],
        }


def common_options(row, seconds):
    options = ["--via", row.via, "--op", row.op, "--size", row.size, "--pages", row.pages, "--depth", row.depth]
    options += ["--threads", row.threads, "--buffer", row.buffer, "--seconds", seconds, "--workload", row.name]
    if row.via == "tcp":
        options += ["--wait", row.wait if row.group == "b" else "any"]
    return options + (["--ordinary"] if row.ordinary else [])


class Bare:
    """The limit: the bare program, which tries all of its modes for a moment and then measures the best one."""

    name = "bare"

    def __init__(self, build):
        self.program = build / "bench/bare"
        self.modes = {}

    def pin(self, row, setting):
        """From now on this one, which saves the trials: "spin, 2 connections, reno"."""
        lanes = re.search(r"(\d+) (connections|threads a copy)", setting)
        self.modes[row.name] = ["--mode", setting.split(",")[0], "--lanes", lanes[1] if lanes else "1"]

    def measure(self, row, seconds):
        command = [self.program, *common_options(row, seconds), *self.modes.get(row.name, [])]
        return measurements(run(command, 2 * timeout(row, seconds)))


class Peer:
    """Another engine, by a program of bench/peers/, which measures with each of its settings."""

    def __init__(self, script):
        self.name, self.script = script.stem, script

    def why_missing(self):
        """None when it is there; it is installed where that is possible."""
        try:
            run([PYTHON, self.script, "--there"], INSTALL_SECONDS)
        except (Cannot, Failed) as reason:
            return str(reason)
        return None

    def measure(self, row, seconds):
        return measurements(run([PYTHON, self.script, *common_options(row, seconds)], 4 * timeout(row, seconds)))


def peers(folder):
    """Those that are there, and {name: why not} of the others."""
    scripts = (path for path in sorted(folder.glob("*.py")) if path.stem != "program")
    reasons = {peer: peer.why_missing() for peer in map(Peer, scripts)}
    there = [peer for peer, why in reasons.items() if not why]
    return there, {peer.name: why for peer, why in reasons.items() if why}
