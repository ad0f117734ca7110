#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""./do bench: Causeway, the bare limit and the Mooncake wheel side by side; copies between emulated devices.

Every workload runs for each of them in turn, several rounds, on the same cores, and the medians and their ratios are
printed: on a machine that is shared or changes its speed only the ratios last. A peer that is missing is said to be so.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = "mooncake-transfer-engine-non-cuda"

# What a copy between devices through the engine may cost more than the runtime's call.
DEVICES = "device copies"
DEVICE_RATIO = 1.03
DEVICE_US = 2.0

# name, operation, bytes of a block, pieces it lies in, transport, what the bare program does, which figure counts
WORKLOADS = [
    ("TCP write 1 MiB", "write", 1 << 20, 1, "tcp", "spin", "speed"),
    ("TCP read 1 MiB", "read", 1 << 20, 1, "tcp", "spin", "speed"),
    ("TCP write 8 MiB", "write", 8 << 20, 1, "tcp", "spin", "speed"),
    ("TCP read 8 MiB", "read", 8 << 20, 1, "tcp", "spin", "speed"),
    ("TCP write 4 KiB", "write", 4096, 1, "tcp", "spin", "time"),
    ("TCP read 4 KiB", "read", 4096, 1, "tcp", "spin", "time"),
    ("TCP write 128 x 4 KiB", "write", 128 * 4096, 128, "tcp", "spin", "time"),
    ("TCP read 128 x 4 KiB", "read", 128 * 4096, 128, "tcp", "spin", "time"),
    ("shm write 1 MiB", "write", 1 << 20, 1, "shm", "memcpy", "speed"),
    ("shm write 8 MiB", "write", 8 << 20, 1, "shm", "memcpy", "speed"),
    ("shm write 4 KiB", "write", 4096, 1, "shm", "memcpy", "time"),
    ("shm write 128 x 4 KiB", "write", 128 * 4096, 128, "shm", "memcpy", "time"),
]


def run(command, environment=None):
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    if done.returncode:
        sys.exit(f"compare.py: {' '.join(map(str, command))}: {done.stderr.strip()}")
    return done.stdout


def causeway(build, workload, seconds):
    _, op, block, pieces, transport, _, _ = workload
    command = [build / "bin/causeway", "bench", "--loopback", "--op", op, "--transport", transport]
    command += ["--seconds", str(seconds), "--format", "json"]
    command += ["--size", str(block)] if pieces == 1 else ["--pages", str(pieces), "--page-size", str(block // pieces)]
    return json.loads(run(command))[0]


def bare(build, workload, seconds):
    _, op, block, pieces, transport, mode, _ = workload
    command = [build / "bench/bare", "--via", transport, "--op", op, "--mode", mode, "--seconds", str(seconds)]
    row = json.loads(run([*command, "--size", str(block // pieces), "--pages", str(pieces), "--lanes", "1"]))
    times = {f"{name}_us": value for name, value in row["latency_us"].items()}
    return {"gigabytes_per_second": row["gigabytes_per_second"], **times}


def wheel_python():
    """An environment with the wheel, made outside the checkout if needed; None when it cannot be had."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causeway"
    python = cache / "mooncake-venv/bin/python"

    def works():
        imports = [python, "-c", "import mooncake.engine"]
        return python.exists() and not subprocess.run(imports, capture_output=True).returncode

    if not works():
        cache.mkdir(parents=True, exist_ok=True)
        for command in (
            ["/usr/bin/python3", "-m", "venv", "--clear", python.parent.parent],
            [python, "-m", "pip", "install", "--quiet", PACKAGE],
        ):
            if subprocess.run(command, capture_output=True).returncode:
                return None
    return python if works() else None


def wheel(python, workload, seconds, pooled):
    _, op, block, pieces, transport, _, _ = workload
    if transport != "tcp":
        return None  # between processes the wheel has TCP only
    environment = {**os.environ, "MC_FORCE_TCP": "1"}
    if pooled:
        environment["MC_TCP_ENABLE_CONNECTION_POOL"] = "1"
    script = HERE / "wheel.py"
    with subprocess.Popen(
        [python, script, "target"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    ) as target:
        name, address = next(line for line in target.stdout if line.startswith("127.")).split()
        text = run([python, script, name, address, op, str(block), str(pieces), str(seconds)], environment)
        target.stdin.close()
        target.wait(30)
    return json.loads(next(line for line in text.splitlines() if line.startswith("{")))


def better(a, b, kind):
    if a is None or b is None:
        return a or b
    key = "gigabytes_per_second" if kind == "speed" else "p50_us"
    return max(a, b, key=lambda r: r[key]) if kind == "speed" else min(a, b, key=lambda r: r[key])


def middle(rows, key):
    return statistics.median(row[key] for row in rows)


def figure(rows, kind):
    if not rows:
        return "-"
    if kind == "speed":
        return f"{middle(rows, 'gigabytes_per_second'):.2f} GB/s"
    return f"{middle(rows, 'p50_us'):.1f} / {middle(rows, 'p99_us'):.1f} us"


def ratio(ours, theirs, kind):
    """How many times better we are: above 1 is faster."""
    if not theirs:
        return None
    if kind == "speed":
        return middle(ours, "gigabytes_per_second") / middle(theirs, "gigabytes_per_second")
    return middle(theirs, "p50_us") / middle(ours, "p50_us")


def devices(build, rounds):
    """Copies between devices through the engine and by the runtime's own call: what the engine adds. The emulated
    runtime copies by memcpy and is told no speeds, so the call costs what it costs on this machine. Undisturbed is
    the fastest tenth of the copies instead of the median: what other work on the machine changes least."""
    command = [build / "bin/causeway", "emulate", "--vendor", "sunrise", "--devices", "2", "--world",
               f"bench-{os.getpid()}", "--"]
    rows = json.loads(run([*command, build / "bench/device_overhead", str(rounds)]))
    print(f"\ndevice copies on the emulated runtime, no timing model: medians of {rounds} rounds of copies in turn; "
          f"target: {DEVICE_RATIO - 1:.0%} for large copies, {DEVICE_US} us for small ones\n")
    print(f"{'workload':<36}{'engine':>12}{'bare call':>12}{'difference':>13}{'ratio':>8}{'undisturbed':>20}"
          f"{'target':>9}")
    for row in rows:
        large = row["bytes"] > 1 << 20
        met = row["ratio"] <= DEVICE_RATIO if large else row["difference_us"] <= DEVICE_US
        calm = f"{row['undisturbed_difference_us']:+.2f} us {row['undisturbed_ratio']:.3f}"
        print(f"{row['workload']:<36}{row['engine_us']:>9.2f} us{row['bare_us']:>9.2f} us"
              f"{row['difference_us']:>+10.2f} us{row['ratio']:>8.3f}{calm:>20}{'met' if met else 'missed':>9}",
              flush=True)
    return rows


def side_by_side(arguments, workloads):
    """Prints the table row by row; returns every single measurement."""
    python = wheel_python()
    if python is None:
        print(f"missing: {PACKAGE} cannot be installed or imported here; its column is empty")
    with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as file:
        print(f"congestion control {file.read().strip()}, {os.cpu_count()} cores, {arguments.rounds} rounds, medians; "
              "times are p50 / p99; a ratio above 1 means Causeway is faster\n")
    print(f"{'workload':<24}{'causeway':>20}{'bare':>20}{'mooncake':>20}{'/ bare':>9}{'/ mooncake':>12}", flush=True)
    record = []
    for workload in workloads:
        name, kind = workload[0], workload[-1]
        ours, limit, peer = [], [], []
        for _ in range(arguments.rounds):
            ours.append(causeway(arguments.build, workload, arguments.seconds))
            limit.append(bare(arguments.build, workload, arguments.seconds))
            if python:
                each = [wheel(python, workload, arguments.seconds, pooled) for pooled in (False, True)]
                peer += [row for row in [better(*each, kind)] if row]
        ratios = [ratio(ours, limit, kind), ratio(ours, peer, kind)]
        shown = ["-" if r is None else f"{r:.2f}" for r in ratios]
        print(f"{name:<24}{figure(ours, kind):>20}{figure(limit, kind):>20}{figure(peer, kind):>20}"
              f"{shown[0]:>9}{shown[1]:>12}", flush=True)
        record.append({"workload": name, "causeway": ours, "bare": limit, "mooncake": peer})
    return record


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=Path, default=HERE.parent / "build/release")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--json", type=Path, help="write every single measurement there")
    arguments = parser.parse_args()

    workloads = [workload for workload in WORKLOADS if arguments.only in workload[0]]
    record = side_by_side(arguments, workloads) if workloads else []
    if arguments.only in DEVICES:
        record.append({"workload": DEVICES, "devices": devices(arguments.build, arguments.rounds)})
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


main()
