#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""./do bench: Causeway, the bare limit and the peers that are there, side by side; docs/benchmark.md explains it.

Every workload runs for each of them in turn, several rounds, on the same cores; what is printed are medians, and
ratios of figures from the same round: on a machine that is shared or changes its speed only the ratios last. Results
go to build/bench/results.json and, as one page, to build/bench/results.html.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import figures
import programs
import report
import sides
import workloads
from environment import environment_with

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
OUT = ROOT / "build/bench"
RECORDED = HERE / "recorded.json"
FREE_ROUNDS = 2  # in which the bare program chooses its mode; then it is that of the better one
CALLS_SECONDS = 0.2
LOSS = 2 / 3  # of the recorded figure: less in each of RERUNS more runs is a failure of the quick form
RERUNS = 3


def machine():
    def first(path, key=""):
        with open(path, encoding="utf-8") as file:
            return next((line.split(":")[-1].strip() for line in file if line.startswith(key)), "")

    return {
        "processor": first("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "virtual": "hypervisor" in first("/proc/cpuinfo", "flags"),
        "kernel": platform.release(),
        "congestion_control": first("/proc/sys/net/ipv4/tcp_congestion_control"),
        "date": time.strftime("%Y-%m-%d"),
        "others_busy": round(others_busy(), 2),
    }


def others_busy():
    """How much of the processors others use just now: 0 to 1."""

    def ticks():
        with open("/proc/stat", encoding="ascii") as file:
            return [int(word) for word in file.readline().split()[1:]]

    before = ticks()
    time.sleep(0.5)
    spent = [after - then for after, then in zip(ticks(), before)]
    return 1 - (spent[3] + spent[4]) / max(sum(spent[:8]), 1)


class Session:
    """One run of the harness: which sides there are, and what is known so far."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.causeway = sides.Causeway(arguments.build)
        self.bare = sides.Bare(arguments.build)
        alone = arguments.quick or arguments.record or arguments.no_peers
        self.peers, self.missing = ([], {}) if alone else sides.peers(HERE / "peers")
        self.results, self.measured = [], []  # of transfers, of programs

    def all_sides(self):
        return [self.causeway, self.bare, *self.peers]

    def once(self, side, row, number, result):
        """One measurement of one side; what it cannot do is noted and not tried again."""
        if side.name in result["cannot"]:
            return
        try:
            found = side.measure(row, row.seconds or self.arguments.seconds)
        except sides.Cannot as cannot:
            result["cannot"][side.name] = str(cannot)
            return
        except sides.Failed as failed:
            if side in (self.causeway, self.bare):
                sys.exit(f"bench: {failed}")
            result["cannot"][side.name] = f"failed: {failed}"
            return
        for measurement in found:
            measurement["round"] = number
        result["sides"].setdefault(side.name, []).extend(found)

    def transfer(self, row):
        """All rounds of one row; the sides take turns."""
        result = {"workload": row.name, "group": row.group, "figure": row.figure, "sides": {}, "cannot": {},
                  "via": row.via, "op": row.op, "size": row.size, "pages": row.pages, "depth": row.depth,
                  "threads": row.threads, "wait": row.wait, "buffer": row.buffer, "ordinary": row.ordinary}
        for number in range(self.arguments.rounds):
            for side in self.all_sides():
                self.once(side, row, number, result)
            if number + 1 == FREE_ROUNDS:
                self.pin_bare(row, result)
        if not self.arguments.quick and not self.arguments.record:
            self.count_calls(row, result)
        figures.judge(result, row.targets)
        return result

    def pin_bare(self, row, result):
        choose = max if row.larger_is_better else min
        known = result["sides"].get("bare", [])
        if known and row.name not in self.bare.modes:
            self.bare.pin(row, choose(known, key=lambda m: figures.value(m, row.figure))["setting"])

    def count_calls(self, row, result):
        """In a run of its own: counting makes calls slower."""
        (counted,) = self.causeway.measure(row, CALLS_SECONDS, calls=True)
        for measurement in result["sides"]["causeway"]:
            measurement["system_calls_per_operation"] = counted["system_calls_per_operation"]

    def transfers(self, rows):
        if rows:
            print(report.HEAD, flush=True)
        for row in rows:
            self.results.append(self.transfer(row))
            print(report.line(self.results[-1]), flush=True)


    def programs(self, rows):
        for row in rows:
            try:
                self.measured.append(programs.measure(self, row))
            except (sides.Cannot, sides.Failed) as reason:
                self.missing[row.name] = str(reason)
                print(f"{row.name}: {reason}", flush=True)
                continue
            for point in self.measured[-1]["points"]:
                print(report.point(point), flush=True)


def chosen(arguments):
    """The transfers and programs that were asked for."""

    def asked(row):
        return arguments.only in row.name and (not arguments.group or row.group in arguments.group)

    transfers = [row for row in workloads.TRANSFERS if asked(row)]
    if arguments.quick or arguments.record:
        return [row for row in transfers if row.quick], []
    if arguments.readme:
        return [row for row in transfers if row.readme], []
    return transfers, [row for row in programs.PROGRAMS if asked(row)]


def conditions(arguments, session, about):
    print(f"{about['processor']}, {about['cores']} cores{', virtual' if about['virtual'] else ''}; loopback; Linux "
          f"{about['kernel']}, congestion control {about['congestion_control']}")
    print(f"{arguments.rounds} rounds of {arguments.seconds:g} s, medians; times are p50 / p99; x bare: how many times "
          "as fast as it in the same round, above 1 is faster; spread: the lowest and highest")
    for name, why in session.missing.items():
        print(f"missing: {name}: {why}")
    if about["others_busy"] > 0.1:
        print(f"warning: other work takes {about['others_busy']:.0%} of this machine; sides that spin suffer first")
    print(flush=True)


def recorded():
    """{workload: {"speed", "bare"}}, of the machine on which --record ran."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))["workloads"] if RECORDED.exists() else {}


def record(session):
    known = recorded() | {result["workload"]: {"speed": round(result["speed_to_bare"], 3),
                                  "bare": figures.best(result, "bare")[-1]["setting"]} for result in session.results}
    RECORDED.write_text(json.dumps({"machine": machine(), "workloads": known}, indent=1) + "\n", encoding="utf-8")
    print(f"\nrecorded in {RECORDED.relative_to(ROOT)}")


def lost(result, known):
    """What is left of the recorded speed against the bare limit; 1 or more is no loss."""
    return result["speed_to_bare"] / known["speed"]


def guard(session, rows):
    """The quick form's verdict: how many rows lost more than a third of what is recorded, in three reruns too."""
    known = recorded()
    failed = 0
    for row, result in zip(rows, list(session.results)):
        if row.name not in known:
            print(f"{row.name}: no recorded figure (./do bench --record)")
            continue
        factors = [lost(result, known[row.name])]
        while factors[-1] < LOSS and len(factors) <= RERUNS:
            factors.append(lost(session.transfer(row), known[row.name]))
        if min(factors) < LOSS:
            print(f"{row.name}: {', '.join(f'{f:.2f}' for f in factors)} of the recorded "
                  f"{known[row.name]['speed']:.2f}", flush=True)
        failed += len(factors) > RERUNS and max(factors) < LOSS
    factors = [lost(result, known[result["workload"]]) for result in session.results if result["workload"] in known]
    if factors:
        print(f"\nagainst the recorded figures: {statistics.median(factors):.2f} in the middle, {failed} lost")
    return failed


def write(session, about):
    OUT.mkdir(parents=True, exist_ok=True)
    everything = {"machine": about, "rounds": session.arguments.rounds, "seconds": session.arguments.seconds,
                  "missing": session.missing, "transfers": session.results, "programs": session.measured}
    (OUT / "results.json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten: {(OUT / 'results.json').relative_to(ROOT)}", flush=True)


def draw(*arguments):
    """Runs page.py, where matplotlib is; it is installed outside the checkout where that is possible."""
    python = environment_with("plots-venv", ["matplotlib"], "matplotlib")
    if not python:
        print("no page: matplotlib cannot be installed or imported here")
        return False
    done = subprocess.run([python, HERE / "page.py", OUT / "results.json", *arguments], timeout=300, check=False)
    return done.returncode == 0


def show(arguments):
    """The page, and the part of README.md."""
    if arguments.readme:
        drawn = draw("--readme", ROOT / "README.md", ROOT / "docs/bench.svg")
        print("written: README.md, docs/bench.svg" if drawn else "README.md is as it was")
        return drawn
    drawn = draw(OUT / "results.html")
    if drawn:
        print(f"written: {(OUT / 'results.html').relative_to(ROOT)}")
    return drawn


def parse():
    parser = argparse.ArgumentParser(prog="./do bench", description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=ROOT / "build/release")
    parser.add_argument("--rounds", type=int, help="of each workload (5; quick: 3)")
    parser.add_argument("--seconds", type=float, help="of each measurement (0.5; quick: 0.2)")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--group", default="", help="only these groups, such as abc")
    parser.add_argument("--trace", type=Path, help="replay this one, not a synthetic one")
    parser.add_argument("--no-peers", action="store_true", help="only Causeway and the bare limit")
    parser.add_argument("--quick", action="store_true", help="under two minutes, as ./do check bench runs it")
    parser.add_argument("--record", action="store_true", help="make today's ratios those that --quick compares with")
    parser.add_argument("--readme", action="store_true", help="measure what README.md shows, and write it there")
    parser.add_argument("--draw", action="store_true", help="only draw the last results once more")
    parser.add_argument("--list", action="store_true", help="name the workloads and end")
    arguments = parser.parse_args()
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 5)
    arguments.seconds = arguments.seconds or (0.2 if arguments.quick or arguments.record else 0.5)
    return arguments


def main():
    arguments = parse()
    if arguments.draw:
        return 0 if show(arguments) else 1
    rows, others = chosen(arguments)
    if arguments.list:
        print("\n".join(f"{row.group}  {row.name}" for row in (*rows, *others)))
        return 0
    if not rows and not others:
        sys.exit("bench: no workload has this name (--list)")
    session, about = Session(arguments), machine()
    if arguments.quick:
        for row in rows:
            if row.name in recorded():
                session.bare.pin(row, recorded()[row.name]["bare"])
    conditions(arguments, session, about)
    session.transfers(rows)
    if arguments.quick:
        return 1 if guard(session, rows) else 0
    if arguments.record:
        record(session)
        return 0
    if session.results:
        print(report.COSTS_HEAD)
    for result in session.results:
        print("\n".join(report.costs(result)))
    session.programs(others)
    write(session, about)
    return 0 if show(arguments) else 1


if __name__ == "__main__":
    sys.exit(main())
