#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures libfabric's providers for sockets (tcp and net, the better counts) and for processes of one machine (shm),
by libfabric.c, which is built where libfabric's headers are. Settings: as it comes; and with a congestion control that
does not pace. See program.py.
"""

import os
import sys

import program

SETTINGS = {"default": ({}, None), "reno": ({}, "reno")}


def be_initiator(options):
    congestion = SETTINGS[options.setting][1]
    if congestion:
        program.enter_namespace(congestion)
    binary = options.build / "bench/libfabric"
    names = ("via", "op", "size", "pages", "depth", "threads", "seconds", "buffer", "wait")
    words = [word for name in names for word in (f"--{name}", str(getattr(options, name)))]
    words += [f"--{name}" for name in ("ordinary", "verify") if getattr(options, name)]
    words += ["--congestion", congestion or "", *(["--workload", options.workload] if options.workload else [])]
    os.execv(binary, [str(binary), *words])


def main():
    options = program.parse(SETTINGS, __doc__)
    if options.role:
        be_initiator(options)
    if not (options.build / "bench/libfabric").exists():
        program.cannot("missing: bench/libfabric was not built, for want of libfabric's headers (libfabric-dev)")
    if options.via == "local":
        program.cannot("it has no way within one process")
    settings = SETTINGS if options.via == "tcp" else {"default": SETTINGS["default"]}
    if not options.there:
        program.run_settings(sys.executable, options, settings)


main()
