# SPDX-License-Identifier: Apache-2.0
"""A call of the runtime that never returns, whichever it is: every batch ends in time, callers come back, engines
close, processes end, and where the call is about one device the others go on.

Each function that the emulated libraries export hangs from its first or second call on, in both processes. The programs
make no calls of the runtime themselves.
"""

import concurrent.futures
import pathlib
import re
import time

import pytest

from emulated import KIB, MIB, SECOND, World, need_devices

EMULATORS = pathlib.Path(__file__).parents[2] / "emulators"

DEADLINE = 0.5
GRACE = 0.15
PATIENCE = 0.2  # with calls that a caller waits for; three times that while libraries are loaded
SLACK = 1.0  # a busy machine
CALL = 2.0  # any call of the library but opening and closing an engine
OPENING = 6.0
CLOSING = 6.0

SETTINGS = {
    "batch/grace": str(round(GRACE * 1000)),
    "engine/device_timeout": str(round(PATIENCE * 1000)),
    "transports/shm/enable": "off",
}

# Functions that every engine calls in this scene, so that a rule about them must fire.
USED = {
    "tangEventCreateWithFlags",
    "tangEventRecord",
    "tangGetDevice",
    "tangGetDeviceCount",
    "tangIpcGetMemHandle",
    "tangMalloc",
    "tangMemcpy",
    "tangMemsetAsync",
    "tangPointerGetAttributes",
    "tangStreamCreateWithFlags",
    "ptmlInit",
    "ptmlPtlinkPhytopoDetect",
}

# Functions whose calls are about one device, wherever they are made.
OF_A_DEVICE = (
    "tangEventCreateWithFlags",
    "tangEventDestroy",
    "tangEventQuery",
    "tangEventRecord",
    "tangEventSynchronize",
    "tangFree",
    "tangIpcGetMemHandle",
    "tangMalloc",
    "tangMemcpy",
    "tangMemcpyAsync",
    "tangMemcpyPeer",
    "tangMemcpyPeerAsync",
    "tangStreamCreateWithFlags",
    "tangStreamDestroy",
)

NEAR = {"host": None, "a": "sunrise:0", "b": "sunrise:0", "c": "sunrise:1", "d": "sunrise:2", "e": "sunrise:2"}
FAR = {"f": "sunrise:1", "g": "sunrise:2"}

# name: operation, segment, memory here, memory there
WAYS = {
    "same device": ("write", "self", "a", "b"),
    "two devices": ("write", "self", "a", "c"),
    "from the host": ("write", "self", "host", "a"),
    "to the host": ("read", "self", "host", "b"),
    "other process": ("write", "link", "a", "f"),
    "staged write": ("write", "tcp", "a", "f"),
    "staged read": ("read", "tcp", "c", "f"),
    "other device": ("write", "self", "d", "e"),
    "other device, process": ("write", "link", "d", "g"),
}


def exported():
    """What the emulated libraries export, from their own lists."""
    names = []
    for face, macro in (("tang", "TANG"), ("ptml", "PTML")):
        text = (EMULATORS / face / "symbols.def").read_text(encoding="utf-8")
        names += re.findall(rf"^{macro}\((\w+)", text, re.MULTILINE)
    assert len(names) > 50
    return names


class Stuck:
    """One run: what went wrong with it, as text."""

    def __init__(self, build_dir, folder, rule, threshold):
        folder.mkdir()
        self.gate = folder / "gate"
        self.only_one = "device=0" in rule
        self.wrong = []
        self.addresses = {}
        self.settings = {**SETTINGS, "transports/sunrise_link/async_memcpy_threshold": threshold}
        self.world = World(build_dir, folder, faults=f"{rule} hang {self.gate}\n", devices=3)
        # What a call that does not return may still touch is left as it is, for good.
        leaks = [self.world.environment.get("ASAN_OPTIONS"), "detect_leaks=0"]
        self.world.environment["ASAN_OPTIONS"] = ":".join(filter(None, leaks))

    def ask_all(self, peers, command, within, **members):
        """The answers to a command that all these peers are given at once; they must come in time."""
        began = time.monotonic()
        for peer in peers:
            peer.send(command, **members)
        answers = [peer.receive(within + 10) for peer in peers]
        took = time.monotonic() - began
        if took > within:
            self.wrong.append(f"{command} {members} took {took:.2f} s")
        return answers

    def ask(self, asked, command, within, **members):
        return self.ask_all([asked], command, within, **members)[0]

    def start(self):
        """The near one and the far one."""
        peers = [self.world.peer(opened=False) for _ in range(2)]
        answers = self.ask_all(peers, "open", OPENING, name="127.0.0.1", settings=self.settings)
        for peer, answer in zip(peers, answers, strict=True):
            assert answer["status"] == 0, answer
            peer.engine = answer["engine"]
        return peers

    def allocate(self, peer, memories):
        """What can be had: a device that does not answer gives nothing."""
        for memory, location in memories.items():
            place = {"location": location} if location else {}
            answer = self.ask(peer, "allocate", CALL, memory=memory, length=2 * MIB, **place)
            if answer["status"] == 0:
                self.addresses[memory] = answer["address"]
            elif not location or (self.only_one and location != "sunrise:0"):
                self.wrong.append(f"allocate {memory}: {answer}")

    def submit(self, near):
        deadlines = {}
        for length in (4 * KIB, 2 * MIB):
            for way, (op, segment, here, there) in WAYS.items():
                if here not in self.addresses or there not in self.addresses:
                    continue
                batch = f"{way}, {length}"
                request = {"op": op, "segment": segment, "memory": here, "remote": self.addresses[there]}
                deadlines[batch] = time.monotonic_ns() + round(DEADLINE * SECOND)
                answer = self.ask(
                    near,
                    "submit",
                    SLACK,
                    batch=batch,
                    requests=[{**request, "length": length}],
                    deadline_ns=deadlines[batch],
                )
                assert answer["status"] == 0, answer
        return deadlines

    def look(self, batch, result, deadline):
        late = (result["ended_ns"] - deadline) / SECOND
        if result["state"] not in ("COMPLETED", "TIMED_OUT", "FAILED") or late > GRACE + SLACK:
            self.wrong.append(f"{batch}: {late:.2f} s late: {result}")
        if not result["local_quiet"] and (result["state"], result["cause"]) != ("TIMED_OUT", "ERR_TIMED_OUT"):
            self.wrong.append(f"{batch}: {result}")
        if self.only_one and batch.startswith("other device") and result["state"] != "COMPLETED":
            self.wrong.append(f"{batch}: {result}")
        if result["state"] != "COMPLETED" and "127.0.0.1" not in result["why"]:
            self.wrong.append(f"{batch}: no peer is named: {result}")

    def run(self):
        near, far = self.start()
        self.allocate(near, NEAR)
        self.allocate(far, FAR)
        for segment, peer in (("self", near), ("link", far), ("tcp", far)):
            only = {"transports": "tcp"} if segment == "tcp" else {}
            answer = self.ask(near, "segment", CALL, segment=segment, peer=peer.engine, **only)
            assert answer["status"] == 0, answer
        deadlines = self.submit(near)
        for batch, deadline in deadlines.items():
            result = self.ask(near, "wait", DEADLINE + GRACE + CALL, batch=batch, timeout_ms=10_000)
            self.look(batch, result, deadline)
        fired = 0
        self.ask_all((near, far), "close", CLOSING)
        self.gate.touch()
        for peer in (near, far):
            self.again(peer)
        for peer in (near, far):
            if peer.quit():
                self.wrong.append("a process ended badly")
            fired += self.world.report(peer)["faults_fired"]
        return fired

    def again(self, peer):
        """The calls have come back, to engines that are closed. A new one finds a device that works."""
        give_up = time.monotonic() + 5
        while True:
            answer = self.ask(peer, "open", OPENING, name="127.0.0.1", settings=self.settings)
            assert answer["status"] == 0, answer
            answers = [
                self.ask(peer, "allocate", CALL, memory=memory, length=64 * KIB, location="sunrise:0")
                for memory in ("first", "second")
            ]
            if not any(answer["status"] for answer in answers):
                break
            self.ask(peer, "close", CLOSING)
            assert time.monotonic() < give_up, answers
        peer.segment(segment="self", peer=answer["engine"])
        result = peer.transfer("write", "self", "first", answers[1]["address"])
        if result["state"] != "COMPLETED":
            self.wrong.append(f"afterwards: {result}")
        self.ask(peer, "close", CLOSING)

    def dispose(self):
        self.gate.touch()
        self.world.dispose()


def cases():
    """name: (rule, asynchronous threshold, must it fire?)"""
    rows = {}
    for name in exported():
        rows[f"{name} from 1"] = (f"{name} from=1", "0", name in USED)
        rows[f"{name} from 2"] = (f"{name} from=2", "1", False)
    for name in OF_A_DEVICE:
        threshold = "1" if "Query" in name or "Async" in name else "0"
        rows[f"{name} of device 0"] = (f"{name} device=0 from=2", threshold, False)
    return rows


CASES = cases()


@pytest.fixture(scope="module")
def outcomes(build_dir, tmp_path_factory, request):
    """Runs the cases that were asked for, two at a time: most of them spend their time waiting."""
    need_devices(build_dir)
    folder = tmp_path_factory.mktemp("stuck")
    wanted = [item.callspec.params["case"] for item in request.session.items if item.module is request.module]

    def run(number, case):
        rule, threshold, _ = CASES[case]
        stuck = Stuck(build_dir, folder / str(number), rule, threshold)
        try:
            return stuck.run(), stuck.wrong
        finally:
            stuck.dispose()

    with concurrent.futures.ThreadPoolExecutor(max_workers=2) as pool:
        futures = {case: pool.submit(run, number, case) for number, case in enumerate(wanted)}
        yield futures
        for future in futures.values():
            future.cancel()


@pytest.mark.parametrize("case", CASES)
def test_a_call_that_never_returns(outcomes, case):
    fired, wrong = outcomes[case].result(timeout=120)
    assert not wrong
    assert fired or not CASES[case][2], "the rule did not fire"
