# SPDX-License-Identifier: Apache-2.0
"""A network namespace with nothing but loopback, on which any addresses live: what users type with the addresses of
their machines runs here letter by letter. Run as a program inside of it, this file sets the addresses up."""

import fcntl
import os
import select
import socket
import struct
import subprocess
import sys

SIOCSIFADDR, SIOCSIFFLAGS, IFF_UP = 0x8916, 0x8914, 1


class Unavailable(Exception):
    """No namespace can be made here; says why."""


class LoopbackNet:
    def __init__(self, *addresses):
        rights = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        self.holder = subprocess.Popen(
            ["unshare", *rights, "--net", sys.executable, __file__, *addresses],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        ready, _, _ = select.select([self.holder.stdout], [], [], 20)
        line = self.holder.stdout.readline() if ready else ""
        if line != "ready\n":
            self.holder.kill()
            _, error = self.holder.communicate()
            raise Unavailable((error.strip().splitlines() or ["it does not start"])[-1])
        enter = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.enter = ["nsenter", f"--target={self.holder.pid}", *enter, "--net"]

    def close(self):
        self.holder.stdin.close()
        self.holder.wait(10)
        self.holder.stdout.close()
        self.holder.stderr.close()


def set_up(addresses):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", IFF_UP))
        for number, address in enumerate(addresses):
            name = f"lo:{number}".encode()
            place = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(control, SIOCSIFADDR, struct.pack("16s16s", name, place))


if __name__ == "__main__":
    set_up(sys.argv[1:])
    print("ready", flush=True)
    sys.stdin.read()
