# SPDX-License-Identifier: Apache-2.0
"""Engines on emulated devices: a world of its own for each test, what happens in it on request, and its trace."""

import dataclasses
import itertools
import json
import os
import time

import pytest

from peer import Peer

KIB = 1 << 10
MIB = 1 << 20
SECOND = 1_000_000_000

_serial = itertools.count()

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

    pid: int
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
    """Programs started here share emulated Sunrise devices, and nothing with other worlds."""

    def __init__(self, build_dir, folder, *, devices=2, topology=None, faults="", options="", trace=True, old=False):
        need_devices(build_dir)
        self.build_dir = build_dir
        self.folder = folder
        self.name = f"test-{os.getpid()}-{next(_serial)}-{time.monotonic_ns()}"
        self.faults = folder / "faults"
        self.faults.write_text(faults)
        self.trace_folder = folder / "trace"
        self.trace_folder.mkdir()
        self.arguments = ["--vendor", "sunrise", "--world", self.name, "--faults", self.faults]
        if topology:
            (folder / "topology").write_text(topology)
            self.arguments += ["--topology", folder / "topology"]
        else:
            self.arguments += ["--devices", str(devices)]
        self.environment = {**os.environ, "CAUSEWAY_EMULATE_OPTIONS": options}
        if trace:
            self.environment["CAUSEWAY_EMULATE_TRACE"] = str(self.trace_folder)
        self.old = old
        self.peers = []

    def peer(self, name="127.0.0.1", opened=True, **settings):
        """A cwpeer in this world, with an open engine unless told otherwise."""
        peer = Peer(self.command(self.build_dir / "bin/cwpeer"), environment=self.environment, **settings)
        self.peers.append(peer)
        return peer.open(name) if opened else peer

    def command(self, *command):
        """That command, in this world."""
        inside = ["env", f"MC_TANGRT_LIB_DIR={self.build_dir}/emulators/sunrise-old"] if self.old else []
        return [self.build_dir / "bin/causeway", "emulate", *self.arguments, "--", *inside, *command]

    def dispose(self):
        for peer in self.peers:
            peer.dispose()

    # ------------------------------------------------------------------------------------------- reading

    def trace(self, peer, since=0, until=None):
        """The calls of a process that began in [since, until), in the order in which they began."""
        calls = []
        with open(self.trace_folder / f"trace-{peer.pid}.jsonl", encoding="utf-8") as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # being written
                row = json.loads(line)
                begin = row.pop("begin")
                if begin < since or (until is not None and begin >= until):
                    continue
                calls.append(
                    Call(
                        peer.pid,
                        row.pop("symbol"),
                        row.pop("thread"),
                        begin,
                        row.pop("end"),
                        row.pop("device"),
                        row.pop("result"),
                        row,
                    )
                )
        return sorted(calls, key=lambda call: call.begin)

    def report(self, peer):
        """What the runtime reports at the end of a process, which must have ended in good order."""
        return json.loads((self.trace_folder / f"report-{peer.pid}.json").read_text())
