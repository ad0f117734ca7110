# SPDX-License-Identifier: Apache-2.0
"""Device memory from the allocator symbols, without torch: what they give and refuse, and that it can be registered and
sent from Python. The devices are emulated; what is in their memory is written and read by the runtime alone."""

import pytest

from dropin import dropins, script  # noqa: F401 (fixtures)
from emulated import World, need_devices

KIB = 1 << 10
MIB = 1 << 20

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def world(build_dir, tmp_path):
    made = World(build_dir, tmp_path)
    yield made
    made.dispose()


@pytest.fixture
def pair(world, dropins):
    """Two engines, each with memory of another device that came from the symbols; (sender, receiver, its address)."""
    sides, addresses = [], []
    for device in range(2):
        side = dropins(program="dropin_peer.py", base=world.environment)
        addresses.append(side.allocate(memory="d", length=4 * MIB, device=device)["address"])
        assert addresses[-1] and side.register(memory="d")["result"] == 0
        sides.append(side)
    return (*sides, addresses[1])


@pytest.mark.parametrize("length", [1, 8, 4096, 65537, 4 * MIB])
def test_memory_from_the_symbols_is_sent_and_read(pair, length):
    sender, receiver, there = pair
    sender.fill(memory="d", seed=1)
    assert sender.write(peer=receiver.engine, memory="d", remote=there, length=length)["result"] == 0
    assert receiver.compare(memory="d", seed=1, length=length)["different"] == 0
    receiver.fill(memory="d", seed=2)
    assert sender.read(peer=receiver.engine, memory="d", remote=there, length=length)["result"] == 0
    assert sender.compare(memory="d", seed=2, length=length)["different"] == 0


def test_pages_between_devices_of_two_processes(pair, world):
    sender, receiver, there = pair
    sender.fill(memory="d", seed=3)
    places = [i * 8 * KIB for i in range(400)]
    for op in ("write", "read"):
        answer = sender.transfer_many(
            op=op,
            peer=receiver.engine,
            memory="d",
            offsets=places,
            remotes=[there + place for place in places],
            lengths=[4 * KIB] * 400,
        )
        assert answer["result"] == 0
    for place in places:
        assert receiver.compare(memory="d", seed=3, offset=place, length=4 * KIB, position=place)["different"] == 0
    # The memory can be opened by other processes, so it went from device to device.
    assert sender.quit() == 0
    assert "tangIpcOpenMemHandle" in {call.symbol for call in world.calls(sender) if call.ok}


def test_bytes_in_and_out_of_device_memory(pair):
    assert pair[0].bytes_through_buffer(memory="d", text="straight into a device") == {
        "status": 0,
        "name": "OK",
        "text": "straight into a device",
        "result": 0,
    }


def test_transfers_in_the_order_of_a_stream(pair):
    sender, receiver, there = pair
    sender.fill(memory="d", seed=5)
    assert sender.on_stream(op="write", peer=receiver.engine, memory="d", remote=there, length=MIB)["result"] == 0
    assert receiver.compare(memory="d", seed=5, length=MIB)["different"] == 0
    receiver.fill(memory="d", seed=6)
    assert sender.on_stream(op="read", peer=receiver.engine, memory="d", remote=there, length=MIB)["result"] == 0
    assert sender.compare(memory="d", seed=6, length=MIB)["different"] == 0
    # One that fails is an exception of a later call; the process lives.
    sender.on_stream(op="write", peer=receiver.engine, memory="d", remote=there - 4096, length=8)
    with pytest.raises(Exception, match="an earlier transfer on a stream failed"):
        sender.on_stream(op="write", peer=receiver.engine, memory="d", remote=there, length=8)
    assert sender.on_stream(op="write", peer=receiver.engine, memory="d", remote=there, length=8)["result"] == 0


def test_the_current_device_stays(pair):
    sender, receiver, there = pair
    for device in (1, 0):
        sender.use_device(device=device)
        assert sender.allocate(memory="more", length=64 * KIB, device=1 - device)["address"]
        assert sender.register(memory="more")["result"] == 0
        sender.write(peer=receiver.engine, memory="more", remote=there, length=64 * KIB)
        sender.probe_backend(device=0)
        assert sender.unregister(memory="more")["result"] == 0
        sender.free(memory="more")
        assert sender.current_device()["device"] == device


def test_freed_memory_goes_back_to_the_runtime(pair, world):
    sender = pair[0]
    for _ in range(50):
        assert sender.allocate(memory="x", length=256 * MIB, device=0)["address"]
        sender.free(memory="x")
    sender.unregister(memory="d")
    sender.free(memory="d")
    assert sender.quit() == 0
    calls = [call for call in world.calls(sender) if call.ok]
    count = {name: sum(call.symbol == name for call in calls) for name in ("tangMalloc", "tangFree")}
    assert count["tangMalloc"] == count["tangFree"] >= 51


CALLS = """
import ctypes, sys, threading
from mooncake.allocator import MemoryBackend, NVLinkAllocator, library_path
assert "torch" not in sys.modules
symbols = ctypes.CDLL(library_path())
take, give, probe = symbols.mc_allocator_malloc, symbols.mc_allocator_free, symbols.mc_allocator_probe
for name in ("mc_nvlink_malloc", "mc_nvlink_free", "mc_probe_fabric_support"):
    getattr(symbols, name)
take.argtypes, take.restype = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p], ctypes.c_void_p
give.argtypes, give.restype = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p], None
"""

WITH_DEVICES = CALLS + """
assert [probe(0), probe(1), probe(2), probe(-1)] == [0, 0, -1, -1]
assert NVLinkAllocator.detect_mem_backend() is MemoryBackend.USE_CUDAMALLOC
for size, device in ((0, 0), (-1, 0), (-(1 << 62), 0), (100, -1), (100, 2), (100, 1 << 30), (1 << 60, 0)):
    assert take(size, device, None) is None, (size, device)
block = take(4096, 1, None)
assert block
give(block + 256, 4096, 1, None)  # not the start of one
give(ctypes.addressof(ctypes.create_string_buffer(16)), 16, 0, None)
give(None, 0, 0, None)
give(block, 1, 0, None)  # what it is, is known better here
give(block, 4096, 1, None)
def run():
    for i in range(100):
        address = take(4096 + i, i % 2, None)
        assert address
        give(address, 4096 + i, i % 2, None)
threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""

WITHOUT = CALLS + """
assert [probe(0), take(4096, 0, None)] == [-2, None]
assert NVLinkAllocator.detect_mem_backend() is MemoryBackend.UNSUPPORTED
give(4096, 1, 0, None)
try:
    NVLinkAllocator.get_allocator(0)
except ImportError as error:
    assert "torch" in str(error)
"""


@pytest.mark.parametrize("vendor", ["sunrise", "cuda"])
def test_what_the_symbols_refuse(build_dir, script, vendor):
    need_devices(build_dir)
    emulate = [
        build_dir / "bin/causeway",
        "emulate",
        f"--vendor={vendor}",
        "--devices=2",
        f"--world=allocator-{vendor}",
        "--",
    ]
    done = script(WITH_DEVICES, before=emulate)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("nvlink_allocator: ") for line in lines), done.stderr
    assert sum("was not allocated here" in line for line in lines) == 3, done.stderr
    assert sum("there is no device" in line for line in lines) == 3, done.stderr


def test_without_a_device(script):
    done = script(WITHOUT, environment={"MC_TANGRT_LIB_DIR": "/nonexistent"})
    assert done.returncode == 0, done.stderr
    assert "no device runtime is present" in done.stderr


TORCH = """
import enum, sys, types
class Allocator:
    def __init__(self, path, allocate, free): self.arguments = (path, allocate, free)
    def allocator(self): return self
torch, cuda, memory = types.ModuleType("torch"), types.ModuleType("torch.cuda"), types.ModuleType("torch.cuda.memory")
memory.CUDAPluggableAllocator, torch.cuda, cuda.memory = Allocator, cuda, memory
sys.modules.update({"torch": torch, "torch.cuda": cuda, "torch.cuda.memory": memory})
from mooncake.allocator import BarexAllocator, NVLinkAllocator, library_path
device = types.SimpleNamespace(type="cuda", index=1)
one = NVLinkAllocator.get_allocator(device)
assert one.arguments == (library_path(), "mc_allocator_malloc", "mc_allocator_free")
assert NVLinkAllocator.get_allocator(device) is one is NVLinkAllocator.get_allocator("cuda:1")
assert NVLinkAllocator.get_allocator("cuda:0") is not one
try:
    BarexAllocator.get_allocator(device)
    sys.exit("barex is not here")
except ImportError as error:
    assert "libaccl_barex.so" in str(error)
"""


def test_what_torch_is_given(script):
    """A stand-in for torch says how it was called."""
    done = script(TORCH)
    assert done.returncode == 0, done.stderr


FABRIC = CALLS + """
import os
fake = ctypes.CDLL("libcuda.so.1")
failing = int(os.environ.get("FAKE_FAIL", 0))
assert symbols.mc_probe_fabric_support(1) == (0 if 1 <= failing <= 5 else 1)
assert fake.fake_alive() == 0
if not failing:
    assert NVLinkAllocator.detect_mem_backend() is MemoryBackend.USE_CUMEMCREATE
blocks = [take(3 << 20, 1, None) for _ in range(2)]
assert (None in blocks) == bool(failing), blocks
if not failing:
    assert fake.fake_peers() == 2
    ctypes.memset(blocks[0], 7, 4 << 20)  # rounded up to what the device maps
for block in blocks:
    give(block, 0, 0, None)
give(blocks[0], 0, 0, None)
assert fake.fake_alive() == 0, fake.fake_alive()
"""


@pytest.mark.parametrize("failing", range(11))
def test_fabric_memory_is_made_and_undone_step_by_step(build_dir, script, failing):
    """The first five steps are those of the probe, the next five those of the first block. A failed probe leaves plain
    memory, which this driver has none of."""
    folder = build_dir / "tests/fake/cuda_fabric"
    if not folder.is_dir():
        pytest.skip("the fake drivers were not built")
    environment = {"LD_LIBRARY_PATH": str(folder), "MC_FORCE_MNNVL": "1"}
    done = script(FABRIC, environment=environment | ({"FAKE_FAIL": str(failing)} if failing else {}))
    assert done.returncode == 0, done.stderr
