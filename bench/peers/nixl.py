#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures NIXL with its UCX backend, from its wheel: two agents on loopback, or one that writes to itself. Requests
are prepared beforehand and posted again and again, which is the fastest way that it has.

Settings: as it comes, with a progress thread in the target, which sleeps; and tuned, with targets that poll and a
congestion control that does not pace. The initiator polls in both. See program.py.
"""

import base64
import os
import sys
import threading

import program

PACKAGES = ["nixl-cu12", "numpy"]  # without what they ask for besides: several GB for GPUs
SETTINGS = {"default": ({}, None), "polling": ({}, None), "polling, reno": ({}, "reno")}
POSTED = 4096  # requests that are prepared


def start(options, source):
    from nixl_cu12._api import nixl_agent, nixl_agent_config  # pylint: disable=import-outside-toplevel

    config = nixl_agent_config(enable_prog_thread=options.setting == "default", backends=["UCX"])
    agent = nixl_agent(f"{options.role}-{os.getpid()}", config)
    memory = program.Memory(options, source)
    if not agent.register_memory([(memory.address, memory.length, 0, "")], "DRAM"):
        sys.exit("the memory cannot be registered")
    return agent, memory


def be_target(options):
    agent, memory = start(options, options.op == "read")
    hello = [base64.b64encode(agent.get_agent_metadata()).decode(), memory.address]
    answers = threading.Thread(target=program.serve, args=(memory, hello))
    answers.start()
    while options.setting != "default" and answers.is_alive():
        agent.get_new_notifs()
    answers.join()
    os._exit(0)


def requests(agent, options, memory, remote, peer):
    """What is posted, and which blocks that moves on each side."""
    near, far = program.lay_out(options, 1), program.lay_out(options, 2)
    near, far = near[:POSTED], far[:POSTED]
    made = []
    for here, there in zip(near, far):
        local = agent.get_xfer_descs([(memory.address + offset, options.size, 0) for offset in here], "DRAM")
        others = agent.get_xfer_descs([(remote + offset, options.size, 0) for offset in there], "DRAM")
        made.append(agent.initialize_xfer(options.op.upper(), local, others, peer))
    return near, far, made


def be_initiator(options):
    if SETTINGS[options.setting][1]:
        program.enter_namespace(SETTINGS[options.setting][1])
    if options.via == "tcp":
        os.environ["UCX_TLS"] = "tcp"
    target = None if options.via == "local" else program.Target()
    agent, memory = start(options, options.op == "write")
    if target:
        peer, remote, sums = agent.add_remote_agent(base64.b64decode(target.hello[0])), target.hello[1], target.sums
    else:
        others = program.Memory(options, options.op == "read")
        agent.register_memory([(others.address, others.length, 0, "")], "DRAM")
        peer, remote, sums = agent.name, others.address, others.sums
    near, far, made = requests(agent, options, memory, remote, peer)
    depth = min(options.depth, len(made))

    def post(number):
        request = made[number % len(made)]
        return request if agent.transfer(request) != "DONE" else None

    flight = [post(number) for number in range(depth - 1)]

    def move(_thread, number):
        flight.append(post(number + depth - 1))
        request = flight.pop(0)
        while request and (state := agent.check_xfer_state(request)) != "DONE":
            if state == "ERR":
                sys.exit("a transfer failed")

    calls = program.measure(options, "nixl", options.setting, target, move)
    for request in flight:
        while request and agent.check_xfer_state(request) == "PROC":
            pass
    moved = min(calls[0], len(made))
    program.check(options, (memory.sums, sums), near[:moved], far[:moved])
    if target:
        target.close()
    sys.stdout.flush()
    os._exit(0)  # its threads do not always end


def main():
    options = program.parse(SETTINGS, __doc__)
    if options.role == "target":
        be_target(options)
    elif options.role == "initiator":
        be_initiator(options)
    else:
        if options.wait == "parked":
            program.cannot("its initiator polls")
        if options.threads > 1:
            program.cannot("its Python package holds one lock over all threads")
        python = program.environment_with("nixl-venv", PACKAGES, "nixl_cu12._api", ["--no-deps"])
        if not python:
            program.cannot(f"missing: {' and '.join(PACKAGES)} cannot be installed or imported here")
        ways = {"spin": ["polling", "polling, reno"], "target-parked": ["default"], "any": ["default", "polling, reno"]}
        chosen = ways[options.wait] if options.via == "tcp" else ["default", "polling"]
        if not options.there:
            program.run_settings(python, options, {name: SETTINGS[name] for name in chosen})


main()
