# SPDX-License-Identifier: Apache-2.0
"""From measurements to figures: medians, spread, ratios of pairs, and whether a target is met.

A result is {"workload": ..., "group": ..., "figure": ..., "sides": {name: [measurement...]}}, where each measurement
also has the number of its round. A side that was measured with several settings is judged by its best one.
"""

import statistics


def value(measurement, figure):
    if figure in ("p50", "p99", "p999"):
        return (measurement.get("latency_us") or {}).get(figure)
    return measurement.get(figure)


def median(measurements, figure):
    values = [v for v in (value(m, figure) for m in measurements) if v is not None]
    return statistics.median(values) if values else None


def larger_is_better(figure):
    return figure == "gigabytes_per_second"


def best(result, side):
    """The measurements of this side with the setting that has the best median. The bare program's settings are its
    modes, of which each round has the best one: all of them count."""
    measurements = result["sides"].get(side, [])
    if side == "bare" or not measurements:
        return measurements
    groups = {}
    for measurement in measurements:
        groups.setdefault(measurement["setting"], []).append(measurement)
    choose = max if larger_is_better(result["figure"]) else min
    known = [group for group in groups.values() if median(group, result["figure"]) is not None]
    return choose(known, key=lambda group: median(group, result["figure"])) if known else []


def best_peer(result):
    """The name of the peer that is best at this, or None."""
    found = {name: median(best(result, name), result["figure"]) for name in result["sides"]
             if name not in ("causeway", "bare")}
    found = {name: figure for name, figure in found.items() if figure is not None}
    if not found:
        return None
    return (max if larger_is_better(result["figure"]) else min)(found, key=found.get)


def ratios(result, figure, against, side="causeway"):
    """Causeway's figure (or another side's) divided by the other's, round by round."""
    name = best_peer(result) if against == "peers" else against
    theirs = {m["round"]: value(m, figure) for m in best(result, name)} if name else {}
    pairs = ((value(m, figure), theirs.get(m["round"])) for m in best(result, side))
    return [ours / other for ours, other in pairs if ours and other]


def ratio(result, figure, against):
    found = ratios(result, figure, against)
    return statistics.median(found) if found else None


def speeds(result, against="bare", side="causeway"):
    """How many times as fast as the other this side is, round by round: above 1 is faster, whatever the figure."""
    found = ratios(result, result["figure"], against, side)
    return found if larger_is_better(result["figure"]) else [1 / one for one in found]


def speed(result, against="bare", side="causeway"):
    found = speeds(result, against, side)
    return statistics.median(found) if found else None


def verdict(result, target):
    """{"target", "value", "met"}; met is None where it cannot be told or does not hold."""
    if target.against:
        found = ratio(result, target.figure, target.against)
    else:
        found = median(best(result, "causeway"), target.figure)
    met = None
    if found is not None:
        met = found >= target.least if target.least is not None else found <= target.most
    if target.unless_peer_above is not None:
        peer, bare = best_peer(result), median(best(result, "bare"), target.figure)
        theirs = median(best(result, peer), target.figure) if peer else None
        if not theirs or not bare or theirs / bare >= target.unless_peer_above:
            met = None
    return {"target": target.text(), "value": found, "met": met}


def judge(result, targets):
    result["targets"] = [verdict(result, target) for target in targets]
    result["speed_to_bare"] = speed(result)
    result["speed_to_peers"] = speed(result, "peers")
    result["best_peer"] = best_peer(result)
