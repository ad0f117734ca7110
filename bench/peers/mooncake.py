#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures the Mooncake Transfer Engine from its wheel: two engines on loopback, or one that writes to itself.

Its target never spins, its initiator waits in the call, and neither can be changed. Settings: as it comes; and tuned,
with its connection pool and a congestion control that does not pace. See program.py.
"""

import os
import sys

import program

PACKAGE = "mooncake-transfer-engine-non-cuda"
SETTINGS = {
    "default": ({"MC_FORCE_TCP": "1"}, None),
    "pool, reno": ({"MC_FORCE_TCP": "1", "MC_TCP_ENABLE_CONNECTION_POOL": "1"}, "reno"),
}


def start(options, source):
    from mooncake import engine as mooncake  # pylint: disable=import-outside-toplevel

    engine = mooncake.TransferEngine()
    if engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", ""):
        sys.exit("the engine does not start")
    memory = program.Memory(options, source)
    if engine.register_memory(memory.address, memory.length):
        sys.exit("the memory cannot be registered")
    return engine, memory


def be_target(options):
    engine, memory = start(options, options.op == "read")
    program.serve(memory, [f"127.0.0.1:{engine.get_rpc_port()}", memory.address])


def be_initiator(options):
    if SETTINGS[options.setting][1]:
        program.enter_namespace(SETTINGS[options.setting][1])
    target = program.Target() if options.via == "tcp" else None
    engine, memory = start(options, options.op == "write")
    if target:
        (name, remote), sums = target.hello, target.sums
    else:
        others = program.Memory(options, options.op == "read")
        if engine.register_memory(others.address, others.length):
            sys.exit("the memory cannot be registered")
        name, remote, sums = f"127.0.0.1:{engine.get_rpc_port()}", others.address, others.sums
    one = getattr(engine, f"transfer_sync_{options.op}")
    many = getattr(engine, f"batch_transfer_sync_{options.op}")
    near, far = program.lay_out(options, 1), program.lay_out(options, 2)
    depth = min(options.depth, max(len(near) // options.threads, 1))  # batches of one call: they are in flight together
    rows = []
    for at in range(0, len(near) - depth + 1, depth):
        here = [memory.address + offset for batch in near[at : at + depth] for offset in batch]
        there = [remote + offset for batch in far[at : at + depth] for offset in batch]
        rows.append((here, there, [options.size] * len(here)))

    def move(thread, number):
        here, there, lengths = rows[(number * options.threads + thread) % len(rows)]
        if one(name, here[0], there[0], lengths[0]) if len(here) == 1 else many(name, here, there, lengths):
            sys.exit("a transfer failed")

    calls = program.measure(options, "mooncake", options.setting, target, move, depth)
    moved = min(min(calls) * options.threads, len(rows)) * depth
    program.check(options, (memory.sums, sums), near[:moved], far[:moved])
    if target:
        target.close()
    os._exit(0)  # its threads do not always end


def main():
    options = program.parse(SETTINGS, __doc__)
    if options.role == "target":
        be_target(options)
    elif options.role == "initiator":
        be_initiator(options)
    else:
        if options.via == "shm":
            program.cannot("it has no way between processes but TCP")
        if options.wait == "spin":
            program.cannot("its target does not spin")
        python = program.environment_with("mooncake-venv", [PACKAGE], "mooncake.engine")
        if not python:
            program.cannot(f"missing: {PACKAGE} cannot be installed or imported here")
        if not options.there:
            program.run_settings(python, options, SETTINGS)


main()
