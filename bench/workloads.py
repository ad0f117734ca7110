# SPDX-License-Identifier: Apache-2.0
"""What `./do bench` moves from one process to another, and what that should show: one table.

The letters are groups: a large blocks, b latency, c pages of a KV cache, d threads. Those that programs of their own
measure, such as many peers (e) or the set-up (g), are in programs.py. docs/benchmark.md explains them.
"""

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
COLD = 256 * MIB  # of each side: far more than this processor's own caches, as the memory of a KV cache is


@dataclass(frozen=True)
class Target:
    """A goal: `figure` of Causeway, divided by that of `against` where there is one, is at least or at most so much."""

    figure: str
    against: str = ""  # "bare" or "peers" (the best of them)
    least: float | None = None
    most: float | None = None
    unless_peer_above: float | None = None  # holds only where that peer is below so much of the bare limit

    def text(self):
        bound, sign = (self.least, ">=") if self.least is not None else (self.most, "<=")
        name = {"gigabytes_per_second": "GB/s"}.get(self.figure, self.figure)
        return f"{name} {sign} {bound:g}" + (f" x {self.against}" if self.against else " us")


@dataclass(frozen=True)
class Transfer:
    """Blocks moved between two processes (or, via local, in one): each side of bench/sides.py knows how."""

    name: str
    group: str
    via: str
    op: str
    size: int
    pages: int = 1
    depth: int = 1
    threads: int = 1
    wait: str = "spin"  # who sleeps meanwhile: spin, target-parked, parked
    buffer: int = COLD
    ordinary: bool = False  # memory of the program's own, not the engine's
    figure: str = "gigabytes_per_second"  # that which the ratios are made of; or p50, p99
    targets: tuple = ()
    quick: bool = False
    readme: bool = False
    seconds: float = 0.0  # 0 = as the run says

    @property
    def larger_is_better(self):
        return self.figure == "gigabytes_per_second"


def bytes_text(count):
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} B"


def speed(least, against="bare"):
    return Target("gigabytes_per_second", against, least=least)


BEATS_PEERS = Target("gigabytes_per_second", "peers", least=1.5, unless_peer_above=0.6)
OPS = ("write", "read")


def large_blocks():
    """(a) 1, 8, 64 MiB, and smaller ones for the plot of throughput over size."""
    ways = (
        ("tcp", "tcp", False, (speed(0.95), BEATS_PEERS)),
        ("shm", "shm", False, (speed(0.95),)),
        ("shm, any memory", "shm", True, (speed(0.95),)),
        ("local", "local", False, (speed(0.95),)),
    )
    for label, via, ordinary, targets in ways:
        for op in OPS if via != "local" else ("write",):
            for size in (16 * KIB, 64 * KIB, 256 * KIB, MIB, 8 * MIB, 64 * MIB):  # 4 KiB: latency()
                large = size >= MIB
                yield Transfer(
                    f"{label} {op} {bytes_text(size)}", "a", via, op, size, ordinary=ordinary,
                    buffer=max(COLD, 8 * size), targets=targets if large else (), readme=size in (MIB, 8 * MIB),
                    quick=via != "local" and (size == 8 * MIB or (via == "tcp" and size == MIB)),
                )  # fmt: skip
            for size in (MIB, 8 * MIB):
                yield Transfer(f"{label} {op} {bytes_text(size)}, 8 in flight", "a", via, op, size, depth=8,
                               ordinary=ordinary, targets=targets)
            yield Transfer(f"{label} {op} 1 MiB, warm", "a", via, op, MIB, ordinary=ordinary, buffer=2 * MIB,
                           targets=targets)


def latency():
    """(b) 4 KiB, one at a time."""
    exact = (Target("p50", "bare", most=1.10), Target("p99", "bare", most=1.3))
    for op in OPS:
        for wait, label, targets in (
            ("spin", "both spin", exact),
            ("target-parked", "target parked", (Target("p50", "bare", most=1.10),)),
            ("parked", "both parked", (Target("p50", "bare", most=1.10),)),
        ):
            yield Transfer(f"tcp {op} 4 KiB, {label}", "b", "tcp", op, 4 * KIB, wait=wait, figure="p50",
                           targets=targets, quick=wait == "spin", readme=wait != "parked")
    for label, via, ordinary in (("shm", "shm", False), ("shm, any memory", "shm", True), ("local", "local", False)):
        most = {"shm": 0.3, "local": 0.15}.get(label)
        for op in OPS if via == "shm" else ("write",):
            targets = (Target("p50", most=most),) if most else ()
            yield Transfer(f"{label} {op} 4 KiB, warm", "b", via, op, 4 * KIB, ordinary=ordinary, buffer=256 * KIB,
                           figure="p50", targets=targets, quick=op == "write" and not ordinary, readme=op == "write")
            yield Transfer(f"{label} {op} 4 KiB", "b", via, op, 4 * KIB, ordinary=ordinary, figure="p50")


def pages():
    """(c) scattered blocks, no two adjacent on either side."""
    for label, via, ordinary in (("tcp", "tcp", False), ("shm", "shm", False), ("shm, any memory", "shm", True)):
        for op in OPS:
            for count, size in ((128, 4), (128, 16), (128, 64), (10000, 4), (10000, 16), (10000, 64)):
                named = (count, size) in ((128, 4), (10000, 16))
                targets = ()
                if via == "tcp" and named:
                    targets = (speed(0.9),)
                elif via == "shm" and size == 16 and not ordinary:
                    targets = (speed(0.95),)
                quick = (label, count, size) in (("tcp", 128, 4), ("shm", 128, 16))
                yield Transfer(
                    f"{label} {op} {count} x {size} KiB", "c", via, op, size * KIB, pages=count, ordinary=ordinary,
                    buffer=max(COLD, 3 * count * size * KIB), targets=targets, quick=quick,
                    readme=named and (via == "tcp" or (not ordinary and op == "write")),
                    seconds=1.0 if count * size * KIB > COLD else 0.0,
                )  # fmt: skip


def threads():
    """(d) threads on one engine."""
    for via in ("tcp", "shm"):
        for size in (4 * KIB, MIB):
            for count in (1, 8, 64):
                name = f"{via} write {bytes_text(size)}, {count} thread{'s' if count > 1 else ''}"
                yield Transfer(name, "d", via, "write", size, threads=count)


TRANSFERS = (*large_blocks(), *latency(), *pages(), *threads())
