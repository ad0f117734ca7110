# SPDX-License-Identifier: Apache-2.0
"""Programs that were written for Mooncake's C interfaces, against libtransfer_engine.so.

cwexchange is compiled with the installed headers, cwexchange_declared with declarations of its own: each as either end,
with each other and with the real wheel. cwtensorrt does what TensorRT-LLM does. What the environment changes, and how
processes end, is here too.
"""

import os
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

from conftest import ROOT
from mooncake_wheel import wheel_python, wheels  # noqa: F401 (fixtures)
from stores import start_http, started_servers  # noqa: F401

EXCHANGES = ("cwexchange", "cwexchange_declared")
LINE_SECONDS = 30


class Program:
    """A running program that is talked to in lines."""

    def __init__(self, process):
        self.process = process
        self._buffer = b""

    def line(self, timeout=LINE_SECONDS):
        deadline = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise TimeoutError(f"no line within {timeout} s")
            data = os.read(self.process.stdout.fileno(), 4096)
            if not data:
                raise EOFError(f"ended with {self.process.wait(10)}")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode()

    def say(self, text=""):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()


@pytest.fixture
def program(spawn):
    def start(name, *arguments, **options):
        options.setdefault("stdin", subprocess.PIPE)
        return Program(spawn(name, *arguments, **options))

    return start


# ---------------------------------------------------------------------------------------------- the interface


def functions_of(text):
    return set(re.findall(r"^(?!typedef)[a-z][\w \*]*?\b(\w+)\(", re.sub(r"/\*.*?\*/", "", text, flags=re.S), re.M))


def test_exports_exactly_what_programs_know(build_dir):
    """The table is the program's own declarations, not the project's headers."""
    declared = functions_of((ROOT / "tests/compat/declarations.h").read_text())
    output = subprocess.run(
        ["nm", "-D", "--defined-only", build_dir / "lib/libtransfer_engine.so"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    exported = {line.split()[2] for line in output.splitlines()}
    assert len(declared) == 60
    assert exported == declared


def test_needs_only_causeway_and_libc(build_dir):
    output = subprocess.run(
        ["readelf", "-d", build_dir / "lib/libtransfer_engine.so"],
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    ).stdout
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", output)
    assert all(name.startswith(("libcauseway.so", "libc.so", "ld-linux", "libm.so")) for name in needed), needed
    assert re.findall(r"\(RUNPATH\).*\[(.*)\]", output) == ["$ORIGIN"]


@pytest.mark.skipif(not shutil.which("g++"), reason="there is no C++ compiler")
def test_both_headers_in_one_cpp_file(build_dir, tmp_path):
    source = tmp_path / "both.cpp"
    source.write_text(
        """#include <transfer_engine_c.h>
        #include <tent/transfer_engine.h>
        #include <cstdio>
        int main() {
            transfer_request request = {OPCODE_WRITE, nullptr, LOCAL_SEGMENT, 0, 0};
            tent_request other = {};
            batch_id_t batch = INVALID_BATCH;
            tent_status_t status = {STATUS_CANCELED, 0};
            segment_id_t segment = openSegment(nullptr, "a");
            std::printf("%d %d %d %d\\n", segment, tent_available(nullptr), (int)request.length + (int)other.length,
                        status.status + (batch == INVALID_BATCH));
            return 0;
        }"""
    )
    lib = build_dir / "lib"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    flags += [f"-I{ROOT}/compat/mooncake/include", f"-L{lib}"]
    program = tmp_path / "both"
    subprocess.run(
        ["g++", *flags, source, "-ltransfer_engine", f"-Wl,-rpath,{lib}", f"-Wl,-rpath-link,{lib}", "-o", program],
        check=True,
        timeout=60,
    )
    assert subprocess.run([program], capture_output=True, text=True, check=True, timeout=20).stdout == "-1 0 0 4\n"


# -------------------------------------------------------------------------------------------------- two ends


@pytest.mark.parametrize("face", ["", "tent-"])
@pytest.mark.parametrize("initiator", EXCHANGES)
@pytest.mark.parametrize("target", EXCHANGES)
def test_two_programs(program, run, target, initiator, face):
    other = program(target, face + "target")
    done = run(initiator, face + "initiator", *other.line().split(), timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert other.process.wait(30) == 0


@pytest.mark.parametrize("forced", ["1", ""])
def test_classic_and_tent_understand_each_other(program, run, forced):
    environment = {**os.environ, "MC_FORCE_TCP": forced} if forced else None
    other = program("cwexchange", "tent-target", env=environment)
    done = run("cwexchange", "initiator", *other.line().split(), timeout=60, env=environment or os.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert other.process.wait(30) == 0


def test_with_the_wheel(wheels, program):  # noqa: F811
    """Our program writes to the wheel and reads back, then the wheel writes what it got to another program of ours."""
    wheel = wheels()
    address = wheel.map(memory="m", length=1 << 20)["address"]
    assert wheel.register(memory="m")["result"] == 0
    initiator = program("cwexchange_declared", "initiator", wheel.engine, str(address), str(1 << 20))
    (note,) = wheel.notes(count=1, timeout=30)["notes"]
    assert note[0] == "done"
    place = wheel.first_address(peer=note[1])["address"]
    answer = {"memory": "m", "remote": place, "length": 1, "name": "seen", "text": "all of it"}
    assert wheel.write_and_notify(peer=note[1], **answer)["result"] == 0
    assert initiator.process.wait(30) == 0

    target = program("cwexchange", "target")
    name, place, length = target.line().split()
    everything = {"memory": "m", "remote": int(place), "length": int(length), "name": "done", "text": wheel.engine}
    assert wheel.write_and_notify(peer=name, **everything)["result"] == 0
    assert target.process.wait(30) == 0
    assert wheel.notes(count=1)["notes"] == [["seen", "all of it"]]


# --------------------------------------------------------------------------------------------- through a store


def named(store, name):
    return {
        **os.environ,
        "METADATA_SERVER": store.url,
        "LOCAL_NAME": name,
        "MC_TCP_BIND_ADDRESS": "127.0.0.1",
    }


@pytest.fixture
def store(start_http):  # noqa: F811
    return start_http(variant="go")


@pytest.mark.parametrize("face", ["", "tent-"])
def test_two_programs_by_names_in_a_store(program, run, store, face):
    other = program("cwexchange", face + "target", env=named(store, "decode-7"))
    name, address, length = other.line().split()
    assert name == "decode-7"
    done = run("cwexchange_declared", face + "initiator", name, address, length, env=named(store, "10.9.8.7:12345"))
    assert (done.returncode, done.stderr) == (0, "")
    assert other.process.wait(30) == 0
    assert store.keys() == []


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "exit"])
def test_ends_of_processes_leave_no_names(program, store, how):
    running = program("cwgraceful", "default", env=named(store, "prefill"))
    assert running.line().startswith("127.0.0.1:")
    assert store.keys() != []
    if how == "exit":
        running.say("exit")
        assert running.process.wait(20) == 0
    else:
        running.process.send_signal(getattr(signal, how))
        assert running.process.wait(20) == -getattr(signal, how)
    assert store.keys() == []


# ------------------------------------------------------------------------------------------------ TensorRT-LLM


@pytest.mark.parametrize("kind", ["cwtensorrt", "cwtensorrt_declared"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_tensorrt_sequence(program, kind, host):
    receiver = program(kind, "receiver", host)
    try:
        name, address = receiver.line().split()
    except EOFError:
        pytest.skip(f"nothing can listen at {host}")
    assert len(name) < 64 and name.startswith("[::1]:" if ":" in host else host)
    sender = program(kind, "sender", host, name, address)
    for number in range(5):
        sender.say()
        assert sender.line() == "ok"
        peer, received, whole = receiver.line().split()
        assert (received, whole) == (str(number), "whole")
        assert peer != name
    sender.process.stdin.close()
    assert sender.process.wait(30) == 0


@pytest.mark.parametrize("forced", ["", "1"])
def test_tensorrt_sees_a_dead_receiver_as_failed(program, forced):
    """Killed in the middle of a round: FAILED, soon; later rounds fail too, and destroying works."""
    environment = {**os.environ, "MC_FORCE_TCP": forced} if forced else None
    receiver = program("cwtensorrt", "receiver", "127.0.0.1", env=environment)
    name, address = receiver.line().split()
    sender = program("cwtensorrt", "sender", "127.0.0.1", name, address, env=environment, stderr=subprocess.DEVNULL)
    sender.say()
    assert sender.line() == "ok"
    receiver.process.send_signal(signal.SIGSTOP)
    sender.say()
    receiver.process.kill()
    receiver.process.wait(10)
    for _ in range(2):
        outcome, seconds = sender.line().split()
        assert outcome == "failed" and float(seconds) < 10
        assert sender.line() == "refused"
        sender.say()
    sender.line(), sender.line()
    sender.process.stdin.close()
    assert sender.process.wait(30) == 0


# -------------------------------------------------------------------------------------- what the environment says


def start_with(run, **variables):
    """How an engine starts and ends with these variables: (exit status, lines)."""
    done = run("cwgraceful", "off", env={**os.environ, **variables}, timeout=30)
    return done.returncode, done.stderr.splitlines()


def test_quiet(run):
    assert start_with(run) == (0, [])


def test_variables_that_exclude_each_other(run):
    status, lines = start_with(run, MC_FORCE_MNNVL="1", MC_INTRANODE_NVLINK="1")
    assert status == 1
    errors = [line for line in lines if line.startswith("causeway: error:")]
    assert len(errors) == 1 and "MC_FORCE_MNNVL" in errors[0] and "MC_INTRANODE_NVLINK" in errors[0]


def test_what_has_no_effect_is_named_once(run):
    status, lines = start_with(run, MC_GID_INDEX="3", MOONCAKE_PROTOCOL="rdma")
    assert status == 0
    assert len([line for line in lines if "MC_GID_INDEX" in line]) == 1
    assert len([line for line in lines if "rdma" in line and "tcp" in line]) == 1
    assert len(lines) == 2


def test_log_level(run):
    assert start_with(run, MC_GID_INDEX="3", MC_LOG_LEVEL="ERROR") == (0, [])


def test_metric_lines(program):
    environment = {**os.environ, "MC_TE_METRIC": "1", "MC_TE_METRIC_INTERVAL_SECONDS": "0.1"}
    with open(os.devnull, "wb") as nowhere:
        running = program("cwgraceful", "off", env=environment, stderr=subprocess.PIPE, stdout=nowhere)
        try:
            lines = [running.process.stderr.readline().decode() for _ in range(2)]
        finally:
            running.process.stdin.close()
    for line in lines:
        assert re.fullmatch(
            r"causeway: metric: 127\.0\.0\.1:\d+: 0\.00 MB/s written, 0\.00 MB/s read, 0\.00 MB/s served, "
            r"0 batches failed, in \d\.\d s\n",
            line,
        ), line
    assert running.process.wait(20) == 0


def test_only_the_thread_of_the_engine(program):
    running = program("cwgraceful", "off")
    running.line()
    assert len(os.listdir(f"/proc/{running.process.pid}/task")) == 2
    assert not any("Sig" in line and int(line.split()[1], 16) & 0x4002 for line in signals_caught(running.process.pid))


def signals_caught(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return [line for line in status if line.startswith("SigCgt")]


# -------------------------------------------------------------------------------------------- how processes end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_and_kills(program, number):
    running = program("cwgraceful", "default")
    running.line()
    running.process.send_signal(number)
    assert running.process.wait(20) == -number


def test_earlier_handler_comes_after_the_close(program):
    running = program("cwgraceful", "handler")
    running.line()
    running.process.send_signal(signal.SIGTERM)
    assert running.line() == "own handler: closed"
    running.process.send_signal(signal.SIGTERM)
    assert running.line() == "own handler: closed"
    running.say("state")
    assert running.line() == "closed"
    running.say("exit")
    assert running.process.wait(20) == 0


def test_ignored_signals_stay_ignored(program):
    running = program("cwgraceful", "ignore")
    running.line()
    running.process.send_signal(signal.SIGINT)
    running.say("state")
    assert running.line() == "open"
    running.say("exit")
    assert running.process.wait(20) == 0


def test_a_forked_child_leaves_the_parent_alone(program):
    running = program("cwgraceful", "fork")
    running.line()
    assert running.line() == f"child {signal.SIGTERM.value}"
    running.say("state")
    assert running.line() == "open"
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(20) == -signal.SIGTERM
