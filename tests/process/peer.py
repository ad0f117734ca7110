# SPDX-License-Identifier: Apache-2.0
"""The tests' end of cwpeer (peer.c): one engine in one process, driven by method calls, gone after the test."""

import contextlib
import functools
import json
import os
import select
import signal
import subprocess
import time

PATTERN_PERIOD = 65521
ANSWER_SECONDS = 60


@functools.lru_cache(maxsize=64)
def pattern_table(seed):
    """The same table as in peer_memory.c."""
    state = (seed * 2654435761 + 1) & 0xFFFFFFFF
    table = bytearray(PATTERN_PERIOD)
    for i in range(PATTERN_PERIOD):
        state = (state * 1664525 + 1013904223) & 0xFFFFFFFF
        table[i] = state >> 24
    return bytes(table)


def pattern(seed, length, position=0):
    """The bytes [position, position + length) of the pattern of seed."""
    start = position % PATTERN_PERIOD
    table = pattern_table(seed)
    return (table * ((start + length) // PATTERN_PERIOD + 1))[start : start + length]


class PeerError(Exception):
    """A command that failed: its status name (without "ERR_") and text."""

    def __init__(self, command, answer):
        self.name = answer["name"].removeprefix("ERR_")
        self.text = answer["text"]
        super().__init__(f"{command}: {answer['name']}: {self.text}")


class Peer:
    """A process that answers commands, cwpeer above all. Commands are methods: peer.segment(segment="s", peer=name)."""

    def __init__(self, arguments, environment=None, stderr=None, **settings):
        self.settings = settings
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=environment
        )
        self.pid = self.process.pid
        self.engine = None
        self._buffer = b""

    def send(self, command, **members):
        """Sends a command without waiting for its answer; receive() gets it."""
        line = json.dumps({"do": command, **members}) + "\n"
        self.process.stdin.write(line.encode())
        self.process.stdin.flush()

    def receive(self, timeout=ANSWER_SECONDS):
        """The next answer, as it is."""
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError(f"process {self.pid} did not answer within {timeout} s")
            data = os.read(self.process.stdout.fileno(), 1 << 16)
            if not data:
                raise EOFError(f"process {self.pid} ended with {self.process.wait(5)}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer = json.loads(line)
        assert "moved_from" not in answer or answer.get("moves"), f"the current device changed: {answer}"
        return answer

    def call(self, command, **members):
        """Runs a command; returns its answer or raises PeerError."""
        self.send(command, **members)
        answer = self.receive()
        if answer["status"] != 0:
            raise PeerError(command, answer)
        return answer

    def __getattr__(self, command):
        if command.startswith("_"):
            raise AttributeError(command)
        return functools.partial(self.call, command)

    def open(self, name="127.0.0.1", **settings):
        """Opens the engine; its name is kept in self.engine."""
        answer = self.call("open", name=name, settings={**self.settings, **settings})
        self.engine = answer["engine"]
        return self

    def status_of(self, command, **members):
        """Runs a command that may fail; returns the name of its status, "OK" or such as "STALE_REGION"."""
        self.send(command, **members)
        return self.receive()["name"].removeprefix("ERR_")

    def transfer(self, op, segment, memory, remote, length=None, offset=0, timeout_ms=30000, **members):
        """One plain request as a batch, waited for; returns its result."""
        request = {"op": op, "segment": segment, "memory": memory, "remote": remote, "offset": offset}
        if length is not None:
            request["length"] = length
        return self.batch([request], timeout_ms=timeout_ms, **members)

    def batch(self, requests, timeout_ms=30000, **members):
        """Submits, waits, releases; returns the result."""
        self.submit(batch="transfer", requests=requests, **members)
        try:
            return self.wait(batch="transfer", timeout_ms=timeout_ms)
        finally:
            self.release(batch="transfer")

    def wait_for_bytes(self, batch, count=1, timeout=30):
        """Returns once the batch has moved that many bytes; fails when it ends before."""
        deadline = time.monotonic() + timeout
        while True:
            result = self.result(batch=batch)
            if result["bytes_completed"] >= count:
                return result
            assert result["state"] in ("WAITING", "ACTIVE"), result
            assert time.monotonic() < deadline, result

    def wait_for_event(self, timeout=10, **wanted):
        """The first event that has these members; others before it are dropped."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            assert left > 0, f"no event {wanted} within {timeout} s"
            self.send("events", timeout_ms=int(left * 1000) + 1)
            for event in self.receive(timeout + 5).get("events", []):
                if all(event.get(key) == value for key, value in wanted.items()):
                    return event

    def stop(self):
        """SIGSTOP; returns when the process is stopped."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self):
        """SIGKILL; returns when the process is gone."""
        self.process.kill()
        self.process.wait(10)

    def quit(self):
        """Ends in good order; returns the exit status."""
        self.process.stdin.close()
        return self.process.wait(20)

    def dispose(self):
        """Whatever its state, gone afterwards."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        with contextlib.suppress(BrokenPipeError):  # a command that a killed process did not read
            self.process.stdin.close()
        self.process.stdout.close()
