# SPDX-License-Identifier: Apache-2.0
"""The results as one self-contained page, and as the plot and table of README.md.

    page.py RESULTS.json PAGE.html          writes the page
    page.py RESULTS.json --readme README.md docs/bench.svg
                                            writes the block between the two comments, and the plot

It needs matplotlib, so run.py starts it in an environment that has it. Plots are black on white, and sides differ by
marker, line and hatch: they are to be read on paper too.
"""

import html
import io
import json
import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter  # noqa: E402

import figures  # noqa: E402
import report  # noqa: E402
from workloads import bytes_text  # noqa: E402

BEGIN, END = "<!-- bench: begin, made by ./do bench --readme -->", "<!-- bench: end -->"

# marker, line, grey of the fill, hatch
LOOKS = {
    "causeway": ("o", "-", "0.0", ""),
    "bare": ("s", "--", "1.0", "////"),
    "mooncake": ("^", "-.", "0.45", ""),
    "nixl": ("v", ":", "0.7", ""),
    "ucx": ("D", (0, (5, 1, 1, 1)), "0.85", "xxx"),
    "libfabric": ("P", (0, (1, 3)), "0.92", "..."),
}
OTHER = ("X", (0, (3, 3)), "0.6", "")

plt.rcParams.update({
    "font.family": "sans-serif", "font.size": 9, "svg.fonttype": "none", "svg.hashsalt": "causeway",
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "axes.ymargin": 0.02, "grid.color": "0.85", "grid.linewidth": 0.5, "legend.frameon": False,
    "lines.linewidth": 1.1, "lines.markersize": 4.5, "hatch.linewidth": 0.5,
})  # fmt: skip


def look(side):
    return LOOKS.get(side, OTHER)


def svg_of(figure):
    text = io.StringIO()
    figure.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)
    return re.sub(r"^.*?(?=<svg)", "", text.getvalue(), flags=re.S)


def sides_of(results):
    """Causeway, bare, then the peers."""
    found = {side for result in results for side in result["sides"]}
    return sorted(found, key=lambda side: (list(LOOKS).index(side) if side in LOOKS else 99, side))


def curve(results, side):
    """(size, GB/s, lowest, highest) of one side, by size."""
    rows = []
    for result in results:
        values = [figures.value(m, "gigabytes_per_second") for m in figures.best(result, side)]
        if values:
            median = figures.median(figures.best(result, side), "gigabytes_per_second")
            rows.append((result["size"], median, min(values), max(values)))
    return sorted(rows)


def families(results):
    """Plain blocks, cold, one in flight, by way and operation: {title: results}."""
    found = {}
    for result in results:
        plain = result["pages"] == result["depth"] == result["threads"] == 1 and result["buffer"] >= 1 << 28
        if plain and result["wait"] == "spin" and result["group"] in "ab":
            memory = "" if result["via"] != "shm" else ", any memory" if result["ordinary"] else ", engine memory"
            found.setdefault(f"{result['via']}{memory}, {result['op']}", []).append(result)
    return {title: rows for title, rows in found.items() if len(rows) > 1}


def draw_throughput(axes, title, results):
    for side in sides_of(results):
        rows = curve(results, side)
        if not rows:
            continue
        marker, line, grey, _ = look(side)
        sizes, medians, lows, highs = zip(*rows)
        axes.plot(sizes, medians, linestyle=line, marker=marker, color="black", markerfacecolor=grey, label=side)
        axes.vlines(sizes, lows, highs, color="black", linewidth=0.6)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_title(title, fontsize=9)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: bytes_text(int(value))))
    axes.set_xticks(sorted({result["size"] for result in results})[::2])
    axes.minorticks_off()
    axes.set_ylabel("GB/s")


def grid(count, width=3.5, height=2.5, columns=2):
    rows = max(1, -(-count // columns))
    figure, axes = plt.subplots(rows, min(columns, max(count, 1)), squeeze=False, layout="constrained",
                                figsize=(width * min(columns, max(count, 1)), height * rows))  # fmt: skip
    every = [axis for row in axes for axis in row]
    for axis in every[count:]:
        axis.set_visible(False)
    return figure, every[:count]


def throughput(results):
    found = families(results)
    if not found:
        return ""
    figure, axes = grid(len(found))
    for axis, (title, rows) in zip(axes, found.items()):
        draw_throughput(axis, title, rows)
    named = {}
    for axis in axes:
        named.update(zip(*reversed(axis.get_legend_handles_labels())))
    figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=6)
    return svg_of(figure)


def name_rows(axes, rows):
    """A line for each (workload, side, ...), from above; the workload is named at its first side."""
    names = []
    for i, (name, side, _) in enumerate(rows):
        names.append(f"{name}  –  {side}" if not i or rows[i - 1][0] != name else side)
    axes.set_yticks(range(len(rows)), names, fontsize=7.5)
    axes.invert_yaxis()


def latency(results):
    """p50, p99 and p99.9 of each side, a row for each workload and side."""
    rows = []
    for result in results:
        if result["figure"] != "p50":
            continue
        for side in sides_of([result]):
            measurements = figures.best(result, side)
            values = [figures.median(measurements, key) for key in ("p50", "p99", "p999")]
            if measurements and None not in values:
                rows.append((result["workload"], side, values))
    if not rows:
        return ""
    figure, (axes,) = grid(1, width=7.2, height=0.6 + 0.19 * len(rows), columns=1)
    for at, (_, side, values) in enumerate(rows):
        axes.plot([values[0], values[2]], [at, at], color="black", linewidth=0.8)
        axes.plot(values[0], at, marker="o", color="black", markerfacecolor=look(side)[2])
        axes.plot(values[1], at, marker="|", markersize=8, color="black")
        axes.plot(values[2], at, marker="x", markersize=4, color="black")
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    name_rows(axes, rows)
    axes.set_xlabel("microseconds: o p50, | p99, x p99.9")
    return svg_of(figure)


def costs(results):
    """CPU seconds for each GB, the initiator's and on top of them the target's."""
    rows = []
    for result in results:
        if result["group"] not in "ac" or result["size"] * result["pages"] < 1 << 19 or result["buffer"] < 1 << 28:
            continue
        if result["depth"] > 1 or (result["group"] == "a" and result["size"] != 8 << 20):
            continue
        for side in sides_of([result]):
            initiator, target = report.both(figures.best(result, side), "cpu_seconds_per_gigabyte")
            if initiator is not None:
                rows.append((result["workload"], side, (initiator, target or 0)))
    if not rows:
        return ""
    figure, (axes,) = grid(1, width=7.2, height=0.6 + 0.19 * len(rows), columns=1)
    for at, (_, _, (initiator, target)) in enumerate(rows):
        axes.barh(at, initiator, color="0.35", edgecolor="black", linewidth=0.5, label="" if at else "initiator")
        axes.barh(at, target, left=initiator, color="1.0", hatch="////", edgecolor="black", linewidth=0.5,
                  label="" if at else "target")  # fmt: skip
    name_rows(axes, rows)
    axes.set_xlabel("CPU seconds for each GB")
    figure.legend(loc="outside upper center", ncols=2)
    return svg_of(figure)


# ---------------------------------------------------------------------------------------------- tables


def cell(text, tag="td"):
    return f"<{tag}>{html.escape(str(text))}</{tag}>"


def table(head, rows):
    lines = ["<table>", "<tr>" + "".join(cell(text, "th") for text in head) + "</tr>"]
    lines += ["<tr>" + "".join(cell(text) for text in row) + "</tr>" for row in rows]
    return "\n".join([*lines, "</table>"])


def peer_text(result):
    peer = result["best_peer"]
    if not peer:
        return "-"
    measurements = figures.best(result, peer)
    setting = measurements[0]["setting"]
    return f"{report.shown(measurements, result['figure'])} ({peer}{', ' + setting if setting else ''})"


def settings_text(result):
    modes = [m["setting"] for m in figures.best(result, "bare")]
    return max(set(modes), key=modes.count) if modes else "-"


def transfer_rows(results):
    for result in results:
        yield (
            result["workload"],
            *(report.shown(figures.best(result, side), result["figure"]) for side in ("causeway", "bare")),
            settings_text(result), report.number(result["speed_to_bare"]), report.spread(result), peer_text(result),
            report.number(result["speed_to_peers"]), report.verdicts(result),
        )  # fmt: skip


def cost_rows(results):
    for result in results:
        for side in sides_of([result]):
            measurements = figures.best(result, side)
            if not measurements:
                continue
            resident = figures.median(measurements, "resident_mib")
            yield (
                result["workload"], side, report.pair(measurements, "cpu_seconds_per_gigabyte"),
                report.pair(measurements, "cpu_us_per_operation"),
                report.pair(measurements, "context_switches_per_operation"),
                report.pair(measurements, "system_calls_per_operation"), "-" if resident is None else f"{resident:.0f}",
            )  # fmt: skip


def point_rows(measured):
    for program in measured:
        for point in program["points"]:
            yield point["workload"], point["setting"], report.point_figures(point), report.verdicts(point)


def counted(everything):
    """How many targets were met, missed, and could not be told."""
    verdicts = [v["met"] for r in everything["transfers"] for v in r["targets"]]
    verdicts += [v["met"] for p in everything["programs"] for point in p["points"] for v in point["targets"]]
    return verdicts.count(True), verdicts.count(False), verdicts.count(None)


def where(everything):
    machine = everything["machine"]
    cores = {1: "one core", 2: "two cores"}.get(machine["cores"], f"{machine['cores']} cores")
    return (
        f"{machine['processor']}{', virtual' if machine['virtual'] else ''}, loopback, {cores}, Linux "
        f"{machine['kernel']}, {machine['date']}; medians of {everything['rounds']} interleaved rounds of "
        f"{everything['seconds']:g} s"
    )


STYLE = """
body { font: 10pt/1.4 sans-serif; color: black; background: white; max-width: 62em; margin: 2em auto; padding: 0 1em }
table { border-collapse: collapse; font-size: 8.5pt; margin: 1em 0 }
th, td { border-bottom: 0.5pt solid #bbb; padding: 0.15em 0.8em 0.15em 0; text-align: left; vertical-align: top }
th { border-bottom: 1pt solid black }
svg { max-width: 100%; height: auto; display: block; margin: 1em 0 }
h2 { margin-top: 2em; break-after: avoid }
@media print { body { margin: 0; max-width: none } tr, svg { break-inside: avoid } }
"""


def section(title, text, body):
    return f"<h2>{title}</h2>\n<p>{text}</p>\n{body}\n" if body else ""


def page(everything):
    results = everything["transfers"]
    met, missed, unknown = counted(everything)
    absent = [f"{name}: {why}" for name, why in everything["missing"].items()]
    absent += sorted({f"{side}: {why}" for result in results for side, why in result["cannot"].items()})
    parts = [
        section("Throughput over block size", "One block at a time, each complete when it is visible at the target; "
                "buffers are far larger than the caches. Vertical lines reach from the slowest round to the fastest.",
                throughput(results)),
        section("Latency", "4 KiB, one at a time.", latency(results)),
        section("Processor time", "Of both processes, for each GB moved. Who spins pays for the time, not for the "
                "bytes.", costs(results)),
        section("Transfers", "Times are p50 / p99. x bare is how many times as fast as the bare program Causeway is in "
                "the same round, above 1 is faster; the spread is the lowest and the highest round. The bare program "
                "is the simplest that does the same work, at the best of its settings.",
                table(("workload", "Causeway", "bare", "its setting", "x bare", "spread", "best peer", "x peer",
                       "targets"), transfer_rows(results)) if results else ""),
        section("Other measurements", "", table(("what", "setting", "figures", "targets"),
                                                point_rows(everything["programs"])) if everything["programs"] else ""),
        section("What it took", "Initiator + target. An operation is one batch. Causeway's system calls were counted "
                "in a run of their own.", table(("workload", "side", "CPU s/GB", "CPU us/operation", "context switches",
                                            "system calls", "resident MiB"), cost_rows(results)) if results else ""),
        section("Not measured", "Peers that are missing, and what the others cannot do.",
                f"<ul>{''.join(cell(text, 'li') for text in absent)}</ul>" if absent else ""),
    ]  # fmt: skip
    return (
        f"<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Causeway: ./do bench</title>\n"
        f"<style>{STYLE}</style></head>\n<body>\n<h1>Causeway: ./do bench</h1>\n<p>{html.escape(where(everything))}. "
        f"Targets: {met} met, {missed} missed, {unknown} that cannot be told or do not apply.</p>\n{''.join(parts)}"
        "</body></html>\n"
    )


# ---------------------------------------------------------------------------------------------- README


def readme_table(everything):
    lines = ["| workload | Causeway | bare | best peer | x bare | x peer |", "|" + " --- |" * 6]
    for result in everything["transfers"]:
        peer = result["best_peer"]
        theirs = f"{report.shown(figures.best(result, peer), result['figure'])} ({peer})" if peer else "-"
        ours, bare = (report.shown(figures.best(result, side), result["figure"]) for side in ("causeway", "bare"))
        speeds = (report.number(result[key]) for key in ("speed_to_bare", "speed_to_peers"))
        lines.append(f"| {' | '.join((result['workload'], ours, bare, theirs, *speeds))} |")
    return "\n".join(lines)


def readme_plot(everything):
    """How many times as fast as the bare limit Causeway and the best peer are."""
    rows = []
    for result in everything["transfers"]:
        ours, peer = figures.speed(result), result["best_peer"]
        if ours is not None:
            rows.append((result["workload"], ours, figures.speed(result, side=peer) if peer else 0))
    figure, (axes,) = grid(1, width=7.2, height=0.7 + 0.3 * len(rows), columns=1)
    for at, (_, ours, theirs) in enumerate(rows):
        axes.barh(at - 0.2, ours, height=0.36, color="0.25", edgecolor="black", linewidth=0.5,
                  label="" if at else "Causeway")  # fmt: skip
        axes.barh(at + 0.2, theirs, height=0.36, color="1.0", hatch="////", edgecolor="black", linewidth=0.5,
                  label="" if at else "best peer")  # fmt: skip
    axes.axvline(1, color="black", linewidth=1, linestyle="--", label="bare limit")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows], fontsize=7.5)
    axes.set_xlim(left=0)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as the bare limit; longer is faster")
    figure.legend(loc="outside upper center", ncols=3)
    return svg_of(figure)


def readme(everything, path, plot):
    text = path.read_text(encoding="utf-8")
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    missing = "".join(f" Missing: {name} ({why})." for name, why in everything["missing"].items())
    link = plot.resolve().relative_to(path.resolve().parent).as_posix()
    block = (
        f"\n{where(everything)}.{missing}\n\n{readme_table(everything)}\n\n"
        f"![Causeway and the best peer as parts of the bare limit]({link})\n"
    )
    path.write_text(text[:start] + block + text[end:], encoding="utf-8")
    plot.write_text('<?xml version="1.0" encoding="utf-8"?>\n' + readme_plot(everything), encoding="utf-8")


def main(arguments):
    everything = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    if arguments[1] == "--readme":
        readme(everything, Path(arguments[2]), Path(arguments[3]))
    else:
        Path(arguments[1]).write_text(page(everything), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
