# SPDX-License-Identifier: Apache-2.0
"""Programs of ours that measure by themselves: how they are run, and which of their points have a target.

A point is a dictionary with at least workload and setting; what else is in it, the program knows.
"""

import json
import os
import re
import statistics
from dataclasses import dataclass

import sides


@dataclass(frozen=True)
class Bound:
    """A target: `key` ("a.b" is b in a) of each point whose workload matches is at least or at most so much."""

    workload: str
    key: str
    least: float | None = None
    most: float | None = None

    def verdict(self, point):
        found = point
        for word in self.key.split("."):
            found = (found or {}).get(word)
        bound, sign = (self.least, ">=") if self.least is not None else (self.most, "<=")
        met = None if found is None else found >= bound if self.least is not None else found <= bound
        return {"target": f"{self.key} {sign} {bound:g}", "value": found, "met": met}


@dataclass(frozen=True)
class Program:
    name: str
    group: str
    command: tuple  # below the build folder; {rounds}, {seconds}, {trace} and {pid} are filled in
    bounds: tuple = ()
    measure: str = "lines"
    timeout: int = 300


DEVICES = ("bin/causeway", "emulate", "--vendor", "sunrise", "--devices", "2", "--world", "bench-{pid}", "--",
           "bench/device_overhead", "{rounds}")  # fmt: skip
PEERS = ("bench/many_peers", "--idle", "1", "--seconds", "{seconds}", "--peers")
PEERS_BOUNDS = (
    Bound(r"peers-256-", "against_one_peer", least=0.9),
    Bound(r"after-256", "used_per_peer.resident_kib", most=100),
    Bound(r"connect-256", "wakeups_per_second.initiator", most=0),
    Bound(r"idle-engine", "wakeups_per_second", most=0),
    Bound(r"idle-engine", "resident_mib", most=2),
)

PROGRAMS = (
    Program("16 peers", "e", (*PEERS, "16"), PEERS_BOUNDS),
    Program("256 peers", "e", (*PEERS, "256"), PEERS_BOUNDS),
    Program("256 peers, read", "e", (*PEERS, "256", "--op", "read"), PEERS_BOUNDS),
    Program("registration", "f", ("bench/engine_costs", "--part", "register")),
    Program("look-up", "f", ("bench/engine_costs", "--part", "lookup"), (
        Bound(r"look-up, random(, while|$)", "nanoseconds", most=100),
        Bound(r"look-up, random and dependent", "nanoseconds", most=300),
        Bound(r"registration of one more", "beyond_kernel_nanoseconds", most=2000),
    )),
    Program("first byte", "g", ("bench/first_byte",), (Bound(r"first byte", "latency_us.p50", most=500),)),
    Program("replay", "h", ("bin/causeway", "replay", "--each", "shm,tcp", "--format", "json", "{trace}"),
            measure="replay"),
    Program("engine overhead", "i", ("bench/engine_costs", "--part", "overhead"), (
        Bound(r"overhead, batches of 128, 1 thread$", "nanoseconds", most=150),
        Bound(r"overhead, batches of 128, 8 threads", "times_one_thread", least=1.7),
        Bound(r"overhead, batches of 128,", "allocations_per_operation", most=0),
        Bound(r"overhead, batches of 128,", "system_calls_per_operation.initiator", most=0),
    )),
    Program("device copies", "x", DEVICES, (
        Bound(r"[0-9] MiB", "ratio", most=1.03),
        Bound(r"[0-9] KiB", "difference_us", most=2.0),
    ), "devices"),
)  # fmt: skip


def output(session, program):
    arguments = session.arguments
    fill = {"rounds": arguments.rounds, "seconds": arguments.seconds, "trace": arguments.trace or "--demo",
            "pid": os.getpid()}  # fmt: skip
    words = [word.format(**fill) for word in program.command]
    paths = [arguments.build / word if word.startswith(("bin/", "bench/")) else word for word in words]
    if not paths[0].exists():
        raise sides.Cannot(f"{words[0]} was not built")
    return sides.run(paths, program.timeout)


def lines(session, program):
    return sides.lines(output(session, program))


def devices(session, program):
    """Copies between devices through the engine and by the runtime's own call: what the engine adds. The emulated
    runtime copies by memcpy and is told no speeds, so the call costs what it costs on this machine."""
    rows = json.loads(output(session, program))
    return [{**row, "setting": "emulated, no timing model"} for row in rows]


def bare_pages(session, path, scale):
    """The bare program with one block's pages in a batch and as many batches in flight as the replay has."""
    command = [session.bare.program, "--via", path, "--size", scale["page_bytes"], "--pages", scale["pages_per_block"]]
    command += ["--depth", "4", "--seconds", session.arguments.seconds]
    (point,) = sides.lines(sides.run(command, 120))
    return point["gigabytes_per_second"]


def replay(session, program):
    """A whole trace, in turns with the bare program. The replay also fills and verifies every page, on the same cores,
    which the bare program does not."""
    rounds = {}
    for _ in range(session.arguments.rounds):
        result = json.loads(output(session, program))
        for run in result["runs"]:
            if run["error"] or run["pages_wrong"]:
                raise sides.Failed(f"replay over {run['path']}: {run['error']}, {run['pages_wrong']} pages wrong")
            run["bare"] = bare_pages(session, run["path"], result["scale"])
            rounds.setdefault(run["path"], []).append(run)
    return [
        {
            "workload": f"replay over {path}",
            "setting": session.arguments.trace.name if session.arguments.trace else "demonstration",
            "gigabytes_per_second": statistics.median(run["gigabytes_per_second"] for run in runs),
            "bare_gigabytes_per_second": statistics.median(run["bare"] for run in runs),
            "ratio": statistics.median(run["gigabytes_per_second"] / run["bare"] for run in runs),
            "request_p50_ms": statistics.median(run["request_p50_ms"] for run in runs),
            "request_p99_ms": statistics.median(run["request_p99_ms"] for run in runs),
        }
        for path, runs in rounds.items()
    ]  # fmt: skip


MEASURES = {"lines": lines, "devices": devices, "replay": replay}


def measure(session, program):
    """{"workload", "group", "points": [...]}; each point with the verdicts on it."""
    points = MEASURES[program.measure](session, program)
    for point in points:
        ours = point.get("program", "causeway") == "causeway"
        point["targets"] = [bound.verdict(point) for bound in program.bounds
                            if ours and re.search(bound.workload, point["workload"])]  # fmt: skip
    return {"workload": program.name, "group": program.group, "points": points}
