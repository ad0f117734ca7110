# SPDX-License-Identifier: Apache-2.0
"""Results as lines of text."""

import figures


def shown(measurements, figure):
    """The medians of one side: GB/s, or p50 / p99 in microseconds."""
    if not measurements:
        return "-"
    if figures.larger_is_better(figure):
        return f"{figures.median(measurements, figure):.2f} GB/s"
    p50, p99 = (figures.median(measurements, key) for key in ("p50", "p99"))
    digits = 1 if p50 >= 10 else 2
    return f"{p50:.{digits}f} / {p99:.{digits}f} us"


def spread(result):
    """The lowest and the highest of the rounds."""
    found = figures.speeds(result)
    return f"{min(found):.2f}-{max(found):.2f}" if found else "-"


def number(value):
    return "-" if value is None else f"{value:.2f}"


def verdicts(result):
    known = [verdict for verdict in result.get("targets", []) if verdict["met"] is not None]
    texts = [f"{'met' if v['met'] else 'MISSED'}: {v['target']}, is {number(v['value'])}" for v in known]
    return "; ".join(texts) or "-"


HEAD = (
    f"{'workload':<38}{'causeway':>22}{'bare':>22}{'best peer':>34}{'x bare':>8}{'spread':>12}{'x peer':>8}  targets"
)


def line(result):
    figure = result["figure"]
    peer = result["best_peer"]
    theirs = f"{shown(figures.best(result, peer), figure)} {peer}" if peer else "-"
    return (
        f"{result['workload']:<38}{shown(figures.best(result, 'causeway'), figure):>22}"
        f"{shown(figures.best(result, 'bare'), figure):>22}{theirs:>34}{number(result['speed_to_bare']):>8}"
        f"{spread(result):>12}{number(result['speed_to_peers']):>8}  {verdicts(result)}"
    )


def both(measurements, key):
    """The medians of a figure that each process has, initiator and target; None where it is not known."""
    return [figures.median([m[key] for m in measurements if m.get(key)], side) for side in ("initiator", "target")]


def pair(measurements, key):
    found = both(measurements, key)
    if found[0] is None:
        return "-"
    return " + ".join("?" if one is None else f"{one:.3g}" if one < 1000 else f"{one:.0f}" for one in found)


COSTS_HEAD = f"\n{'what it took':<38}{'side':<12}{'CPU s/GB':>18}{'CPU us/op':>20}{'switches/op':>20}{'calls/op':>20}" \
             f"{'resident MiB':>14}"


def costs(result):
    """Lines on what both processes used, initiator + target."""
    for side in result["sides"]:
        measurements = figures.best(result, side)
        if not measurements:
            continue
        resident = figures.median(measurements, "resident_mib")
        yield (
            f"{result['workload']:<38}{side:<12}{pair(measurements, 'cpu_seconds_per_gigabyte'):>18}"
            f"{pair(measurements, 'cpu_us_per_operation'):>20}"
            f"{pair(measurements, 'context_switches_per_operation'):>20}"
            f"{pair(measurements, 'system_calls_per_operation'):>20}"
            f"{'-' if resident is None else f'{resident:.0f}':>14}"
        )


POINT_FIGURES = (
    ("gigabytes_per_second", "{:.2f} GB/s"),
    ("nanoseconds", "{:.0f} ns"),
    ("latency_us.p50", "p50 {:.1f} us"),
    ("latency_us.p99", "p99 {:.1f} us"),
    ("engine_us", "engine {:.2f} us"),
    ("bare_us", "bare {:.2f} us"),
    ("bare_gigabytes_per_second", "bare {:.2f} GB/s"),
    ("times_one_thread", "{:.2f} times one thread"),
    ("against_one_peer", "{:.2f} of one peer"),
    ("seconds_to_connect", "{:.3f} s"),
    ("used_per_peer.resident_kib", "{:.1f} KiB a peer"),
    ("socket_buffers_kib_per_peer", "{:.1f} KiB of socket buffers a peer"),
    ("wakeups_per_second", "{:.2f} wake-ups/s"),
    ("resident_mib", "{:.1f} MiB"),
)


def member(point, key):
    for word in key.split("."):
        point = point.get(word) if isinstance(point, dict) else None
    return point


def point_figures(point):
    """The figures of a program's point that a reader looks for first."""
    known = ((member(point, key), form) for key, form in POINT_FIGURES)
    return ", ".join(form.format(value) for value, form in known if isinstance(value, (int, float)))


def point(measured):
    name = f"{measured['workload']}{', ' + measured['setting'] if measured['setting'] else ''}"
    return f"{name:<64}{point_figures(measured)}  {verdicts(measured)}"
