# SPDX-License-Identifier: Apache-2.0
"""`causeway emulate`: the program that it runs, worlds that come and go with their users, topology files."""

import itertools
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

FOLDER = Path("/dev/shm")
counter = itertools.count()


def file_of(world):
    return FOLDER / f"causeway-emulate-{os.geteuid()}-{world}"


@pytest.fixture
def world():
    """The name of a world of this test alone; nothing of it may be left at the end."""
    name = f"test-{os.getpid()}-{next(counter)}"
    yield name
    assert not file_of(name).exists()


@pytest.fixture
def emulate(run, world):
    """emulate("--devices", "4", "--", "true"): runs a program in the test's world."""

    def run_in_world(*arguments, **options):
        return run("causeway", "emulate", "--vendor", "sunrise", "--world", world, *arguments, **options)

    return run_in_world


@pytest.fixture
def stay(spawn, world):
    """Starts a program that stays in the world until its standard input ends; returns when it is there."""

    def start(*arguments):
        process = spawn(
            "causeway",
            *("emulate", "--vendor", "sunrise", "--world", world, *arguments, "--", "sh", "-c", "echo here; cat"),
            stdin=subprocess.PIPE,
        )
        assert process.stdout.readline() == b"here\n"
        return process

    return start


def leave(process):
    process.stdin.close()
    assert process.wait(20) == 0


# ---------------------------------------------------------------------------------------------- program


@pytest.mark.parametrize(
    "script, status", [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)]
)
def test_exit_status(emulate, script, status):
    assert emulate("--", "sh", "-c", script).returncode == status


def test_program_that_cannot_be_started(emulate, tmp_path):
    (tmp_path / "plain").write_text("not a program")
    assert emulate("--", tmp_path / "missing").returncode == 127
    result = emulate("--", tmp_path / "plain")
    assert result.returncode == 126
    assert "Permission denied" in result.stderr


def test_environment(emulate, build_dir, world, tmp_path):
    (tmp_path / "faults").write_text("")
    result = emulate(
        *("--faults", "faults", "--trace", "trace", "--options", "strict,ipc_interior=no", "--", "env"),
        cwd=tmp_path,
        env={**os.environ, "LD_LIBRARY_PATH": "/elsewhere", "CAUSEWAY_EMULATE_OPTIONS": "of before"},
    )
    assert result.returncode == 0, result.stderr
    environment = dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    libraries = str(build_dir.resolve() / "emulators/sunrise")
    assert environment["MC_TANGRT_LIB_DIR"] == libraries
    assert environment["LD_LIBRARY_PATH"] == libraries + ":/elsewhere"
    assert environment["CAUSEWAY_EMULATE_WORLD"] == str(file_of(world))
    assert environment["CAUSEWAY_EMULATE_FAULTS"] == str(tmp_path / "faults")
    assert environment["CAUSEWAY_EMULATE_TRACE"] == str(tmp_path / "trace")
    assert environment["CAUSEWAY_EMULATE_OPTIONS"] == "strict,ipc_interior=no"
    assert (tmp_path / "trace").is_dir()


def test_what_is_not_given_is_not_inherited(emulate):
    names = ("FAULTS", "TRACE", "OPTIONS")
    before = {**os.environ, **{f"CAUSEWAY_EMULATE_{name}": "of before" for name in names}}
    assert "of before" not in emulate("--", "env", env=before).stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(spawn, world, number):
    code = (
        "import signal, sys\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(42))\n"
        "print('here', flush=True)\n"
        "while True: signal.pause()\n"
    )
    process = spawn(
        *("causeway", "emulate", "--vendor", "sunrise", "--world", world, "--", sys.executable, "-c", code)
    )
    assert process.stdout.readline() == b"here\n"
    process.send_signal(number)
    assert process.wait(20) == 42


def test_program_does_not_outlive_us(spawn, run, world):
    process = spawn(
        *("causeway", "emulate", "--vendor", "sunrise", "--world", world, "--", "sh", "-c", "echo $$; exec cat"),
        stdin=subprocess.PIPE,
    )
    child = int(process.stdout.readline())
    process.kill()
    process.wait(20)
    # Its end of our pipe is closed when it is gone.
    assert process.stdout.read() == b""
    assert not Path(f"/proc/{child}/exe").exists()
    # A world whose users were killed is removed by the next start of any.
    assert run("causeway", "emulate", "--vendor", "sunrise", "--world", world + "x", "--", "true").returncode == 0


@pytest.mark.parametrize(
    "arguments, status, message",
    [
        (["--", "true"], 2, "--vendor is missing: sunrise|cuda|all"),
        (["--vendor", "sunrise"], 2, "missing operand: -- COMMAND"),
        (["--vendor", "other", "--", "true"], 2, "'other' is not a value for --vendor"),
        (["--vendor", "sunrise", "--world", "../x", "--", "true"], 2, "no name of a world"),
        (["--vendor", "sunrise", "--memory", "0", "--", "true"], 2, "--memory must not be 0"),
        (["--vendor", "sunrise", "--devices", "0", "--", "true"], 125, "a world has 1 to 64 devices, not 0"),
        (["--vendor", "sunrise", "--devices", "65", "--", "true"], 125, "a world has 1 to 64 devices, not 65"),
        (["--vendor", "sunrise", "--devices", "12", "--", "true"], 125, "needs 11 ports a device, there are 10"),
        (["--vendor", "sunrise", "--topology", "mesh:3", "--", "true"], 125, "needs 21 ports a device, there are 10"),
        (["--vendor", "sunrise", "--topology", "star", "--", "true"], 125, "neither mesh, ring nor islands"),
        (["--vendor", "sunrise", "--topology", "/no/file", "--", "true"], 125, "/no/file: No such file"),
        (["--vendor", "sunrise", "--bandwidth", "disk=2g", "--", "true"], 125, "names neither link, host nor inside"),
        (["--vendor", "sunrise", "--bandwidth", "2x", "--", "true"], 125, "'2x' is no number of bytes a second"),
        (["--vendor", "sunrise", "--latency", "5", "--", "true"], 125, "'5' is no time such as 5us"),
        (["--vendor", "sunrise", "--faults", "/no/file", "--", "true"], 125, "/no/file: No such file"),
        (["--vendor", "sunrise", "--faults", __file__, "--", "true"], 125, "line 2 means nothing"),
        (["--vendor", "sunrise", "--options", "d2d=late,strict=perhaps", "--", "true"], 125, '"strict=perhaps" means'),
        (["--vendor", "cuda", "--options", "stirct=no", "--", "true"], 125, '"stirct=no" means nothing'),
        (["--vendor", "sunrise", "--trace", "/no/folder/x", "--", "true"], 125, "/no/folder/x: No such file"),
    ],
)
def test_wrong_usage(run, world, arguments, status, message):
    chosen = [] if "--world" in arguments else ["--world", world]
    result = run("causeway", "emulate", *chosen, *arguments)
    assert (result.returncode, message in result.stderr) == (status, True), result.stderr


# ----------------------------------------------------------------------------------------------- worlds


def test_world_is_there_as_long_as_somebody_uses_it(stay, world):
    first = stay()
    second = stay()
    inode = file_of(world).stat().st_ino
    leave(first)
    assert file_of(world).stat().st_ino == inode
    third = stay()
    leave(second)
    assert file_of(world).stat().st_ino == inode
    leave(third)
    assert not file_of(world).exists()


@pytest.mark.parametrize(
    "first, second, message",
    [
        (["--devices", "4"], ["--devices", "5"], "has devices=4, not 5"),
        (["--devices", "4"], ["--topology", "ring"], "has topology=mesh, not ring"),
        (["--devices", "2"], ["--topology", "mesh:4"], "has topology=mesh, not mesh:4"),
        ([], ["--memory", "1g"], "has memory=default, not 1073741824"),
        (["--bandwidth", "2g"], ["--bandwidth", "3g"], "has bandwidth=2g, not 3g"),
        (["--latency", "2us"], ["--latency", "3us"], "has latency=2us, not 3us"),
        (["--devices", "4"], [], None),
        (["--devices", "4"], ["--devices", "4", "--topology", "mesh"], None),
        (["--devices", "12", "--topology", "ring:2"], ["--devices", "12"], None),
        (["--memory", "1g", "--latency", "2us"], ["--memory", "1024m", "--latency", "2us"], None),
    ],
)
def test_second_start(stay, emulate, first, second, message):
    process = stay(*first)
    result = emulate(*second, "--", "true")
    if message:
        assert result.returncode == 125
        assert message in result.stderr and "is in use" in result.stderr
    else:
        assert (result.returncode, result.stderr) == (0, "")
    leave(process)


def test_many_come_and_go_at_once(emulate):
    """Whoever leaves last removes the file under those who come: nobody may be refused, or find another's rest."""
    failures = []

    def come_and_go():
        for _ in range(40):
            result = emulate("--devices", "3", "--", "sh", "-c", "test -s $CAUSEWAY_EMULATE_WORLD")
            if result.returncode:
                failures.append(result)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert failures == []


def test_leftovers_are_not_joined(emulate, world):
    """What a killed maker left half done, or of another version, is made anew when nobody uses it."""
    for content in (b"", b"x" * 100):
        file_of(world).write_bytes(content)
        assert emulate("--", "sh", "-c", "test $(stat -c %s $CAUSEWAY_EMULATE_WORLD) -gt 1000").returncode == 0


def test_link_in_place_of_the_file_is_refused(emulate, world, tmp_path):
    (tmp_path / "precious").write_text("precious")
    file_of(world).symlink_to(tmp_path / "precious")
    try:
        assert emulate("--", "true").returncode == 125
        assert (tmp_path / "precious").read_text() == "precious"
    finally:
        file_of(world).unlink()


# -------------------------------------------------------------------------------------- topology files

GOOD = """\
# Two devices, a strange numbering
device 0 chip 7 pci 0000:3b:00.0 numa 0 memory 1g
device 1 chip 2 pci 0001:5e:1f.7 numa 1   # the other one

link 0:0 1:3 up bandwidth 50g latency 2us
link 0:9 1:* down
host * bandwidth 12.5g
inside 1 bandwidth 300g latency 200ns
access none
access 0 1 yes
timing on
"""


def test_topology_file(emulate, tmp_path):
    (tmp_path / "good").write_text(GOOD)
    result = emulate("--topology", tmp_path / "good", "--", "true")
    assert (result.returncode, result.stderr) == (0, "")
    result = emulate("--topology", tmp_path / "good", "--devices", "3", "--", "true")
    assert result.returncode == 125
    assert "good has 2 devices, not the 3 of --devices" in result.stderr


def test_topology_file_that_changed(stay, emulate, tmp_path):
    path = tmp_path / "box.topology"
    path.write_text(GOOD)
    process = stay("--topology", path)
    assert emulate("--topology", path, "--", "true").returncode == 0
    path.write_text(GOOD + "# only a comment\n")
    assert emulate("--topology", path, "--", "true").returncode == 0
    path.write_text(GOOD.replace("50g", "51g"))
    result = emulate("--topology", path, "--", "true")
    assert result.returncode == 125
    assert "has topology=box.topology@" in result.stderr
    leave(process)


TWO = "device 0\ndevice 1\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", ":0: there is no device"),
        ("node 0\n", ":1: 'node' is not known; there are device, link, host, inside, access and timing"),
        ("device\n", ":1: device needs its number"),
        ("device x\n", ":1: device needs its number"),
        ("device 1\n", ":1: device 1 is not the next one"),
        (TWO + "device 1\n", ":3: device 1 is not the next one"),
        ("device 0 chip\n", ":1: 'chip' has no value"),
        ("device 0 chip 255\n", ":1: '255' is no chip id"),
        ("device 0 chip -1\n", ":1: '-1' is no chip id"),
        ("device 0\ndevice 1 chip 0\n", ":2: device 1 has the chip id of another one"),
        ("device 0 pci 3b:00.0\n", ":1: '3b:00.0' is no PCI address"),
        ("device 0 pci 0000:3b:00.8\n", ":1: '0000:3b:00.8' is no PCI address"),
        ("device 0 pci 0000:3b:00.0\ndevice 1 pci 0000:3b:00.0\n", ":2: another device has the PCI address"),
        ("device 0 numa x\n", ":1: 'x' is no NUMA node"),
        ("device 0 memory 0\n", ":1: '0' is no size"),
        ("device 0 colour red\n", ":1: a device has no 'colour'"),
        (TWO + "link 0:0\n", ":3: a link needs two ends"),
        (TWO + "link 0:0 1\n", ":3: '1' is no end of a link"),
        (TWO + "link 0:0 2:0\n", ":3: there is no device '2'"),
        (TWO + "link 0:10 1:0\n", ":3: '10' is no port"),
        (TWO + "link 0:0 0:1\n", ":3: device 0 cannot be linked to itself"),
        (TWO + "link 0:0 1:0\n\nlink 0:0 1:1\n", ":5: a port of this link is in use already"),
        (TWO + "link 0:0 1:0 broken\n", ":3: 'broken' is not known of links"),
        (TWO + "link 0:0 1:0 bandwidth\n", ":3: 'bandwidth' has no value"),
        (TWO + "link 0:0 1:0 bandwidth fast\n", ":3: 'fast' is no bandwidth"),
        (TWO + "link 0:0 1:0 latency 5\n", ":3: '5' is no time"),
        (TWO + "link 0:0 1:0\ndevice 2\n", ":4: 'device' lines come before links"),
        (TWO + "host\n", ":3: 'host' needs a device"),
        (TWO + "inside 5 bandwidth 2g\n", ":3: there is no device '5'"),
        (TWO + "host 0 speed 2g\n", ":3: 'speed' is not known here"),
        (TWO + "access some\n", ":3: access is none, linked or all, not 'some'"),
        (TWO + "access 0 1\n", ":3: 'access' is none, linked or all; or two devices and yes or no"),
        (TWO + "access 0 1 maybe\n", ":3: 'maybe' is neither yes nor no"),
        (TWO + "timing fast\n", ":3: timing is on or off"),
        ("device 0 " + "x " * 40 + "\n", ":1: too many words"),
        ("device 0 " + "#" * 2000 + "\n", ":1: the line is too long"),
        ("".join(f"device {i}\n" for i in range(65)), ":65: device needs its number, 0 to 63"),
    ],
)
def test_wrong_topology_file(emulate, tmp_path, text, message):
    path = tmp_path / "wrong.topology"
    path.write_text(text)
    result = emulate("--topology", path, "--", "true")
    assert result.returncode == 125
    assert f"{path}{message}" in result.stderr


# ------------------------------------------------------------------------------------------------ devices

TANG = """\
import ctypes, os, sys
tang = ctypes.CDLL(os.environ["MC_TANGRT_LIB_DIR"] + "/libtangrt_shared.so")
class Handle(ctypes.Structure):
    _fields_ = [("words", ctypes.c_ulong * 8)]
def check(result):
    if result:
        sys.exit(f"the runtime said {result}")
memory = ctypes.c_void_p()
"""

OWNER = (
    TANG
    + """
check(tang.tangSetDevice(1))
check(tang.tangMalloc(ctypes.byref(memory), ctypes.c_size_t(4096)))
check(tang.tangMemset(memory, 0x5a, ctypes.c_size_t(4096)))
handle = Handle()
check(tang.tangIpcGetMemHandle(ctypes.byref(handle), memory))
print(bytes(handle).hex(), flush=True)
sys.stdin.read()
"""
)

BORROWER = (
    TANG
    + """
handle = Handle.from_buffer_copy(bytes.fromhex(sys.argv[1]))
check(tang.tangSetDevice(1))
check(tang.tangIpcOpenMemHandle(ctypes.byref(memory), handle, 1))
here = ctypes.create_string_buffer(4096)
check(tang.tangMemcpy(here, memory, ctypes.c_size_t(4096), 2))
print(here.raw == b"\x5a" * 4096)
"""
)


def test_programs_of_two_shells_share_devices(spawn, emulate, run, world):
    owner = spawn(
        *("causeway", "emulate", "--vendor", "sunrise", "--world", world, "--", sys.executable, "-c", OWNER),
        stdin=subprocess.PIPE,
    )
    handle = owner.stdout.readline().decode().strip()
    result = emulate("--", sys.executable, "-c", BORROWER, handle)
    assert (result.stdout, result.stderr) == ("True\n", "")
    # In another world there is no such memory.
    result = run(
        *("causeway", "emulate", "--vendor", "sunrise", "--world", world + "-other"),
        *("--", sys.executable, "-c", BORROWER, handle),
    )
    assert result.returncode == 1 and "the runtime said" in result.stderr
    leave(owner)
    result = emulate("--", sys.executable, "-c", BORROWER, handle)
    assert result.returncode == 1 and "the runtime said" in result.stderr


BACKGROUND = (
    """\
import os
ready, tell = os.pipe()
if os.fork():
    os._exit(0 if os.read(ready, 1) else 1)
"""
    + TANG
    + """
count = ctypes.c_int()
check(tang.tangGetDeviceCount(ctypes.byref(count)))
os.write(tell, b"x")
sys.stdin.read()
"""
)


def test_program_that_goes_on_in_the_background_keeps_its_world(spawn, world):
    """Its devices are there as long as it lives, though nobody runs `causeway emulate` any more."""
    process = spawn(
        *("causeway", "emulate", "--vendor", "sunrise", "--world", world, "--", sys.executable, "-c", BACKGROUND),
        stdin=subprocess.PIPE,
    )
    assert process.wait(20) == 0
    assert file_of(world).exists()
    process.stdin.close()
    assert process.stdout.read() == b""  # the background program has ended


def test_memory_of_a_device_is_limited(emulate):
    code = TANG + "print(tang.tangMalloc(ctypes.byref(memory), ctypes.c_size_t(int(sys.argv[1]))))"
    assert emulate("--memory", "1m", "--", sys.executable, "-c", code, str(1 << 20)).stdout == "0\n"
    assert emulate("--memory", "1m", "--", sys.executable, "-c", code, str((1 << 20) + 1)).stdout == "2\n"


def test_cuda(emulate, run, world):
    """The driver is found by its file name, as programs look for it; with `all`, both vendors are."""
    code = "import ctypes; n = ctypes.c_int(); cuda = ctypes.CDLL('libcuda.so.1')\n"
    code += "print(cuda.cuInit(0), cuda.cuDeviceGetCount(ctypes.byref(n)), n.value)"
    result = run(
        *("causeway", "emulate", "--vendor", "cuda", "--world", world, "--devices", "3"),
        *("--", sys.executable, "-c", code),
    )
    assert (result.stdout, result.stderr) == ("0 0 3\n", "")
    code += "\ntang = ctypes.CDLL('libtangrt_shared.so'); print(tang.tangGetDeviceCount(ctypes.byref(n)), n.value)"
    result = run(
        *("causeway", "emulate", "--vendor", "all", "--world", world, "--devices", "3"),
        *("--", sys.executable, "-c", code),
    )
    assert (result.stdout, result.stderr) == ("0 0 3\n0 3\n", "")


def test_two_programs_over_the_cuda_driver(run, spawn, build_dir, world):
    """The other vendor of the one table: device memory of one process is read by another, each byte checked."""
    programs = build_dir.resolve() / "bin"
    start = ["emulate", "--vendor", "cuda", "--world", world, "--devices", "2", "--"]
    common = ["--backend=tent", "--metadata_type=p2p", "--xport_type=nvlink_intra", "--seg_type=VRAM"]
    common += ["--total_buffer_size=16m"]
    target = spawn("causeway", *start, programs / "tebench", *common, "--seg_name=127.0.0.1", "--local_gpu_id=0")
    name = target.stdout.readline().decode().split("Segment name: ")[1].strip()
    result = run(
        *("causeway", *start, programs / "tebench", *common, f"--target_seg_name={name}", "--local_gpu_id=1"),
        *("--target_gpu_id=0", "--duration=0.1", "--warmup=0", "--start_block_size=1m", "--max_block_size=1m"),
        *("--check_consistency", "--op_type=mix"),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert "1048576" in result.stdout
    target.send_signal(signal.SIGTERM)
    target.wait(20)
