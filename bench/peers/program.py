# SPDX-License-Identifier: Apache-2.0
"""What the programs that measure other engines share: their options, the environment that they run in, which bytes are
moved, and the figures that they print.

    PEER.py [OPTION...]   measures with each of the peer's settings in turn and prints a line of JSON for each
    PEER.py --there       says whether the peer is there, and installs it where that is possible

Exit status 3: the peer is missing or cannot do this; the last line of standard error says why.
"""

import argparse
import ctypes
import fcntl
import json
import math
import mmap
import os
import random
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
if str(HERE) in sys.path:
    sys.path.remove(str(HERE))  # its mooncake.py and nixl.py are not the packages of that name

CANNOT = 3
HERE = Path(__file__).resolve().parent
SYSTEM_PYTHON = "/usr/bin/python3"
PREPARED = 65536  # blocks of all batches that are laid out beforehand
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
CONGESTION = "/proc/sys/net/ipv4/tcp_congestion_control"


def cannot(why):
    print(f"{Path(sys.argv[0]).name}: {why}", file=sys.stderr)
    sys.exit(CANNOT)


def parse(settings, description):
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--via", choices=["tcp", "shm", "local"], default="tcp")
    parser.add_argument("--op", choices=["read", "write"], default="write")
    parser.add_argument("--size", type=int, default=1 << 20, help="bytes of a block")
    parser.add_argument("--pages", type=int, default=1, help="blocks of a batch, scattered, no two adjacent")
    parser.add_argument("--depth", type=int, default=1, help="batches in flight")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--buffer", type=int, default=256 << 20, help="memory on each side")
    parser.add_argument("--wait", choices=["any", "spin", "target-parked", "parked"], default="any")
    parser.add_argument("--ordinary", action="store_true", help="memory of the program's own, not the engine's")
    parser.add_argument("--workload", default="", help="printed as it is")
    parser.add_argument("--verify", action="store_true", help="compare what arrived with what was sent")
    parser.add_argument("--build", type=Path, default=HERE.parents[1] / "build/release", help="where things were built")
    parser.add_argument("--setting", choices=list(settings), help="only this one")
    parser.add_argument("--there", action="store_true", help="only say whether the peer is there")
    parser.add_argument("--role", choices=["initiator", "target"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if min(options.size, options.pages, options.depth, options.threads) < 1 or not 0 < options.seconds <= 600:
        cannot("a number is out of range")
    return options


# ---------------------------------------------------------------------------------------- where it runs


def environment_with(name, packages, module, pip_options=()):
    """The Python of an environment with these packages, made outside the checkout if needed; None when that fails."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "causeway"
    python = cache / name / "bin/python"

    def works():
        imports = [python, "-I", "-c", f"import {module}"]
        return python.exists() and not subprocess.run(imports, capture_output=True, check=False).returncode

    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if works():
            return python
        for command in (
            [SYSTEM_PYTHON, "-m", "venv", "--clear", python.parent.parent],
            [python, "-m", "pip", "install", "--quiet", *pip_options, *packages],
        ):
            if subprocess.run(command, capture_output=True, check=False).returncode:
                return None
    return python if works() else None


def in_namespace(command):
    """The command in a network namespace of its own, which has a congestion control of its own too."""
    rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *rights, "--net", *command]


def enter_namespace(congestion):
    """Inside: brings loopback up and sets the congestion control of all connections."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
    with open(CONGESTION, "w", encoding="ascii") as file:
        file.write(congestion)


def end_with_parent():
    """The process ends when the one that started it does (PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)


def run_settings(python, options, settings):
    """Runs this program as initiator for each setting, in a process of its own: {name: (environment, congestion)}.
    A congestion control is set in a network namespace, which the initiator enters by enter_namespace()."""
    reasons, printed = [], False
    for name, (environment, congestion) in settings.items():
        if options.setting not in (None, name):
            continue
        command = [python, *sys.argv, "--role", "initiator", "--setting", name]
        command = in_namespace(command) if congestion else command
        limit = 60 + 20 * options.seconds
        done = subprocess.run(
            list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit,
            check=False, env={**os.environ, **environment})  # fmt: skip
        rows = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode == 0 and rows:
            print("\n".join(rows), flush=True)
            printed = True
        else:
            text = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            reasons.append((done.returncode, f"{name}: {text[-1]}"))
    failed = [reason for status, reason in reasons if status != CANNOT]
    for reason in failed:
        print(f"{Path(sys.argv[0]).name}: {reason}", file=sys.stderr)
    if not printed:
        if failed:
            sys.exit(1)
        cannot(reasons[0][1] if reasons else "no such setting")


# ---------------------------------------------------------------------------------------- which bytes


class Memory:
    """The buffer of one side, touched. To be verified, the source's bytes are random, the others zero."""

    def __init__(self, options, source):
        self.size = options.size
        self.length = max(options.buffer, buffer_needed(options))
        self.map = mmap.mmap(-1, self.length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.bytes = (ctypes.c_char * self.length).from_buffer(self.map)
        self.address = ctypes.addressof(self.bytes)
        ctypes.memset(self.address, 1 if source else 0, self.length)
        if source and options.verify:
            content = random.Random(options.op)
            for at in range(0, self.length, 1 << 20):
                part = min(1 << 20, self.length - at)
                self.map[at : at + part] = content.randbytes(part)

    def sums(self, offsets):
        view = memoryview(self.map)
        return [zlib.crc32(view[at : at + self.size]) for at in offsets]


def spacing(options):
    return 2 * options.size if options.pages > 1 else options.size


def buffer_needed(options):
    return spacing(options) * options.pages * options.threads


def lay_out(options, seed):
    """Offsets of the blocks of each batch, in random order: no two blocks of a batch touch each other."""
    places = max(options.buffer, buffer_needed(options)) // spacing(options)
    batches = max(min(places, PREPARED) // options.pages, options.threads)
    order = random.Random(seed).sample(range(places), batches * options.pages)
    offsets = [place * spacing(options) for place in order]
    return [offsets[at : at + options.pages] for at in range(0, len(offsets), options.pages)]


# ---------------------------------------------------------------------------------------- the other process


class Target:
    """This program once more, as target: what it says first is `hello`, then it answers requests for checksums."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, *sys.argv[: sys.argv.index("--role")], "--role", "target", *setting_of(sys.argv)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=end_with_parent)  # fmt: skip
        self.hello = self.answer()

    def answer(self):
        for line in self.process.stdout:
            if line.startswith("="):
                return json.loads(line[1:])
        sys.exit("the target does not start")

    def sums(self, offsets):
        self.process.stdin.write(json.dumps(offsets) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def cpu(self):
        return time.clock_gettime((~self.process.pid << 3) | 2)  # the clock of another process

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def setting_of(words):
    at = words.index("--setting") if "--setting" in words else None
    return words[at : at + 2] if at is not None else []


def serve(memory, hello):
    """The target's side of Target."""
    print("=" + json.dumps(hello), flush=True)
    for line in sys.stdin:
        print("=" + json.dumps(memory.sums(json.loads(line))), flush=True)


# ---------------------------------------------------------------------------------------- figures


def percentile(ordered, share):
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] if ordered else None


def measure(options, name, setting, target, move, each=1):
    """Calls move(thread, number) again and again; each call moves `each` batches. Prints the figures; returns how many
    calls each thread has made."""
    done, clocks = [], []

    def clock():
        clocks.append((time.process_time(), target.cpu() if target else 0))

    ready = threading.Barrier(options.threads, action=clock, timeout=60)

    def work(thread):
        samples = []
        move(thread, 0)  # connections are made here
        ready.wait()
        begin = at = time.perf_counter()
        while at - begin < options.seconds:
            move(thread, len(samples) + 1)
            after = time.perf_counter()
            samples.append(after - at)
            at = after
        done.append((begin, at, samples))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(options.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock()
    samples = [sample for _, _, some in done for sample in some]
    if len(done) < options.threads or not samples:
        print("a transfer failed", file=sys.stderr, flush=True)
        os._exit(1)  # at once, so that this is the last line
    seconds = max(row[1] for row in done) - min(row[0] for row in done)
    cpu = [end - begin for begin, end in zip(*clocks)]
    report(options, name, setting, samples, len(samples) * each, seconds, (cpu[0], cpu[1] if target else None))
    return [len(some) + 1 for _, _, some in done]


def report(options, name, setting, samples, operations, seconds, cpu):
    """Prints the line. `samples` are the seconds of single operations, or the figures of their latency in seconds."""
    size = options.size * options.pages
    moved = size * operations / 1e9
    if not isinstance(samples, dict):
        samples.sort()
        shares = {"p50": 0.5, "p99": 0.99, "p999": 0.999}
        samples = {key: percentile(samples, share) for key, share in shares.items()}
    row = {
        "program": name,
        "setting": setting,
        "workload": options.workload or f"{options.via} {options.op} {options.pages} x {options.size}",
        "bytes": size,
        "operations": operations,
        "seconds": seconds,
        "gigabytes_per_second": moved / seconds,
        "latency_us": {key: samples.get(key) and samples[key] * 1e6 for key in ("p50", "p99", "p999")},
        "cpu_seconds_per_gigabyte": cpu and {
            "initiator": cpu[0] / moved, "target": None if cpu[1] is None else cpu[1] / moved},
        "system_calls_per_operation": None,
        "resident_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }  # fmt: skip
    if not all(math.isfinite(row[key]) for key in ("seconds", "gigabytes_per_second")):
        sys.exit("no figures")
    print(json.dumps(row), flush=True)


def check(options, sums, near, far):
    """Whether the blocks of these batches are the same on both sides and not empty; `sums` tells those of each side."""
    if not options.verify:
        return
    here, there = (side([offset for batch in batches for offset in batch]) for side, batches in zip(sums, (near, far)))
    if here != there or zlib.crc32(bytes(options.size)) in here:
        print("what arrived is not what was sent", file=sys.stderr, flush=True)
        os._exit(1)
