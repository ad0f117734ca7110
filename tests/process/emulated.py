# SPDX-License-Identifier: Apache-2.0
"""Engines on emulated devices: a world of its own for each test, what happens in it on request, and its trace."""

import dataclasses
import itertools
import json
import os
import subprocess
import time

import pytest

from peer import Peer

KIB = 1 << 10
MIB = 1 << 20
SECOND = 1_000_000_000

_serial = itertools.count()

# Tells the environment, then holds the world until its input ends.
HOLD = "env -0; printf '\\001'; exec cat"

# Calls that put bytes on their way or move them.
COPIES = (
    "tangMemcpy",
    "tangMemcpyAsync",
    "tangMemcpyPeer",
    "tangMemcpyPeer_v2",
    "tangMemcpyPeerAsync",
    "tangMemcpyPeerAsync_v2",
)


@dataclasses.dataclass(frozen=True)
class Call:
    """One line of a trace: a call of the emulated runtime."""

    symbol: str
    thread: int
    begin: int
    end: int
    device: int
    result: int
    arguments: dict

    @property
    def ok(self):
        return self.result == 0


def need_devices(build_dir):
    """Skips the test when this build has no emulated devices."""
    if not (build_dir / "emulators/sunrise").is_dir():
        pytest.skip("the emulated devices were not built")


class World:
    """Programs started here share emulated Sunrise devices, and nothing with other worlds. `causeway emulate` makes the
    world and says which environment programs need in it."""

    def __init__(self, build_dir, folder, *, faults="", options=None, trace=True, old=False, **members):
        need_devices(build_dir)
        self.build_dir = build_dir
        self.trace_folder = folder / "trace"
        self.peers = []
        (folder / "faults").write_text(faults)
        members.setdefault("devices", 2)
        members["world"] = f"test-{os.getpid()}-{next(_serial)}"
        members["faults"] = folder / "faults"
        if options:
            members["options"] = options
        if trace:
            members["trace"] = self.trace_folder
        arguments = [f"--{name}={value}" for name, value in members.items()]
        self.holder = subprocess.Popen(
            [build_dir / "bin/causeway", "emulate", "--vendor=sunrise", *arguments, "--", "sh", "-c", HOLD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.environment = self._environment()
        if old:
            self.environment["MC_TANGRT_LIB_DIR"] = f"{build_dir}/emulators/sunrise-old"

    def _environment(self):
        data = b""
        while not data.endswith(b"\1"):
            part = os.read(self.holder.stdout.fileno(), 1 << 16)
            assert part, "causeway emulate made no world"
            data += part
        return dict(row.decode().split("=", 1) for row in data[:-1].split(b"\0") if row)

    def peer(self, name="127.0.0.1", opened=True, options=None, **settings):
        """A cwpeer in this world, with an open engine unless told otherwise; options: other ones than the world's."""
        environment = self.environment | ({"CAUSEWAY_EMULATE_OPTIONS": options} if options else {})
        peer = Peer([self.build_dir / "bin/cwpeer"], environment=environment, **settings)
        self.peers.append(peer)
        return peer.open(name) if opened else peer

    def dispose(self):
        for peer in self.peers:
            peer.dispose()
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait(10)

    # ------------------------------------------------------------------------------------------- reading

    def trace(self, peer, since=0, until=None):
        """The calls of a process that began in [since, until), in the order in which they began."""
        now = time.monotonic_ns()
        calls = self.calls(peer)
        # Lines are written from time to time, with a call: when one of now is there, those before are.
        while peer.process.poll() is None and not any(call.begin >= now for call in calls):
            time.sleep(0.005)
            peer.device()
            calls = self.calls(peer)
        calls = [call for call in calls if call.begin >= since and (until is None or call.begin < until)]
        return sorted(calls, key=lambda call: call.begin)

    def calls(self, peer):
        """Those that were written so far, in the order in which they ended."""
        calls = []
        with open(self.trace_folder / f"trace-{peer.pid}.jsonl", encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # being written
                row = json.loads(line)
                fixed = {name: row.pop(name) for name in ("symbol", "thread", "begin", "end", "device", "result")}
                calls.append(Call(arguments=row, **fixed))
        return calls

    def report(self, peer):
        """What the runtime reports at the end of a process, which must have ended in good order."""
        return json.loads((self.trace_folder / f"report-{peer.pid}.json").read_text())
