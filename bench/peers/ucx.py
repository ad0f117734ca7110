#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures UCX by its own ucx_perftest: single puts over TCP, put and get over POSIX shared memory. Both sides spin. It
moves one block to and from the same place, so all of it is warm: that flatters it.

Where the target is passive, ucx_perftest 1.13 answers late over TCP: a get takes 1.1 ms whatever its size. That is no
figure of UCX, so these are refused; nixl.py has UCX over TCP. See program.py.
"""

import os
import shutil
import subprocess
import sys
import time

import program

SETTINGS = {"default": ({}, None), "reno": ({}, "reno")}
WAYS = {"tcp": "tcp", "shm": "posix"}


def command_of(options):
    """The test, and how often a figure of its latency counts: a ping-pong reports half of its round trip."""
    if options.op == "read":
        return "ucp_get", 1
    return ("ucp_put_lat", 2) if options.depth == 1 and options.size < 65536 else ("ucp_put_bw", 1)


def perftest(options, test, iterations):
    """Runs both processes; the figures: iterations, microseconds (median, average of late, average of all), ..."""
    depth = ["-O", str(options.depth)] if test != "ucp_put_lat" else []
    words = ["ucx_perftest", "-t", test, "-s", str(options.size), "-n", str(iterations), "-w", "100", "-f", "-v"]
    environment = {**os.environ, "UCX_TLS": WAYS[options.via], "UCX_WARN_UNUSED_ENV_VARS": "n"}
    port = ["-p", str(20000 + os.getpid() % 10000)]
    with subprocess.Popen(
        [*words, *depth, *port], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment,
        preexec_fn=program.end_with_parent) as server:  # fmt: skip
        for _ in range(50):
            time.sleep(0.1)
            done = subprocess.run(
                [*words, *depth, *port, "127.0.0.1"], capture_output=True, text=True, timeout=60, check=False,
                env=environment)  # fmt: skip
            lines = [line for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
            if done.returncode == 0 and lines:
                break
        else:
            server.kill()
            sys.exit((done.stderr.strip().splitlines() or ["no figures"])[-1])
        server.wait(20)
    return [float(word) for word in lines[-1].split(",")]


def be_initiator(options):
    if SETTINGS[options.setting][1]:
        program.enter_namespace(SETTINGS[options.setting][1])
    test, halves = command_of(options)
    each = perftest(options, test, 300)[3] * halves / 1e6  # seconds, roughly
    iterations = max(int(options.seconds / max(each, 1e-8)), 300)
    figures = perftest(options, test, iterations)
    seconds = figures[3] * halves / 1e6 * iterations
    waits = options.depth == 1 and test != "ucp_put_bw"
    median = {"p50": figures[1] * halves / 1e6} if waits else {}
    program.report(options, "ucx", f"{options.setting}, warm", median, iterations, seconds, None)


def main():
    options = program.parse(SETTINGS, __doc__)
    if options.role:
        be_initiator(options)
        return
    if not shutil.which("ucx_perftest"):
        program.cannot("missing: ucx_perftest is not installed (ucx-utils)")
    if options.there:
        return
    for reason, why in (
        (options.via == "local", "ucx_perftest has two processes"),
        (options.pages > 1, "ucx_perftest does not move scattered blocks"),
        (options.threads > 1, "measured with one thread only"),
        (options.wait not in ("any", "spin"), "both of its sides spin"),
        (options.via == "tcp" and command_of(options)[0] != "ucp_put_lat", "its passive side answers late over TCP"),
        (options.verify, "ucx_perftest does not show its bytes"),
    ):
        if reason:
            program.cannot(why)
    settings = SETTINGS if options.via == "tcp" else {"default": SETTINGS["default"]}
    program.run_settings(sys.executable, options, settings)


main()
