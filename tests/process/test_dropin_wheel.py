# SPDX-License-Identifier: Apache-2.0
"""The drop-in and the real wheel: they talk to each other, each as either end, without a store and through each kind;
and they live in one environment, where each can be taken away without hurting the other."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import classic_peer as classic
from dropin import HERE, dropins, python_path  # noqa: F401 (fixture)
from mooncake_wheel import wheel_python, wheels  # noqa: F401 (fixtures)
from peer import pattern
from stores import (
    any_store,
    start_etcd,
    start_http,
    start_redis,
    started_servers,
    store_programs,
)  # noqa: F401 (fixtures)

KIB = 1 << 10
MIB = 1 << 20
SIZES = [1, 7, 4096, 65537, 8 * MIB]
LENGTH = 8 * MIB + 16
ROOT = HERE.parents[1]

pytestmark = pytest.mark.timeout(700)

_numbers = itertools.count(1)


def prepare(*peers):
    """Memory "m" at odd addresses; the addresses."""
    addresses = [peer.map(memory="m", length=LENGTH, skew=3 + 2 * i)["address"] for i, peer in enumerate(peers)]
    for peer in peers:
        assert peer.register(memory="m")["result"] == 0
    return addresses


def exchange(source, target, remote):
    """Everything that source can do with target."""
    for seed, size in enumerate(SIZES, next(_numbers)):
        source.fill(memory="m", seed=seed, offset=1, length=size)
        assert source.write(peer=target.engine, memory="m", remote=remote + 3, length=size, offset=1)["result"] == 0
        assert target.compare(memory="m", seed=seed, offset=3, length=size)["different"] == 0
        target.fill(memory="m", seed=seed + 100, offset=3, length=size)
        assert source.read(peer=target.engine, memory="m", remote=remote + 3, length=size, offset=1)["result"] == 0
        assert source.compare(memory="m", seed=seed + 100, offset=1, length=size)["different"] == 0
    source.fill(memory="m", seed=5)
    places = {"offsets": [i * 5001 for i in range(64)], "lengths": [4999] * 64}
    remotes = [remote + i * 5003 for i in range(64)]
    assert source.transfer_many(op="write", peer=target.engine, memory="m", remotes=remotes, **places)["result"] == 0
    for i in range(64):
        answer = target.compare(memory="m", seed=5, offset=i * 5003, length=4999, position=i * 5001)
        assert answer["different"] == 0
    answer = source.write_and_notify(
        peer=target.engine, memory="m", remote=remote, length=1000, name="layer", text="seventeen"
    )
    assert answer["result"] == 0
    assert target.notes(count=1)["notes"] == [["layer", "seventeen"]]
    assert source.probe(peer=target.engine)["result"] == 0
    assert source.first_address(peer=target.engine)["address"] == remote
    assert source.write(peer=target.engine, memory="m", remote=remote - 64, length=10)["result"] < 0
    assert source.write(peer=target.engine, memory="m", remote=remote, length=10)["result"] == 0


@pytest.mark.parametrize("ours_first", [True, False])
def test_without_a_store(dropins, wheels, ours_first):
    ours, theirs = dropins(), wheels()
    here, there = prepare(ours, theirs)
    if ours_first:
        exchange(ours, theirs, there)
    else:
        exchange(theirs, ours, here)


@pytest.fixture
def names():
    """Two names that no other test has; they look like addresses and are none."""
    return f"127.0.0.1:{20000 + next(_numbers)}", f"127.0.0.1:{21000 + next(_numbers)}"


@pytest.mark.parametrize("ours_first", [True, False])
def test_through_a_store(dropins, wheels, any_store, names, ours_first):
    if any_store.url.startswith("redis"):
        pytest.skip("the released wheel is built without redis; it aborts when it is given a redis url")
    ours = dropins(names[0], metadata=any_store.url)
    theirs = wheels(names[1], variables={"MC_TCP_BIND_ADDRESS": "127.0.0.1"}, metadata=any_store.url)
    here, there = prepare(ours, theirs)
    if ours_first:
        exchange(ours, theirs, there)
    else:
        exchange(theirs, ours, here)


def test_two_drop_ins_through_a_store(dropins, any_store, names):
    ours, others = (dropins(name, metadata=any_store.url) for name in names)
    here, there = prepare(ours, others)
    exchange(ours, others, there)
    exchange(others, ours, here)


def test_a_described_engine_through_a_store(dropins, any_store, names):
    """A Mooncake engine made from the description takes the wheel's place where the wheel has no client for a store."""
    base = 0x7F00_0000_0003
    ours = dropins(names[0], metadata=any_store.url)
    prepare(ours)
    with classic.ClassicTarget({base: bytearray(MIB)}, name=names[1]) as mooncake:
        mooncake.put_into(any_store)
        ours.fill(memory="m", seed=1)
        answer = ours.write_and_notify(peer=names[1], memory="m", remote=base, length=MIB, name="label", text="text")
        assert answer["result"] == 0
        assert bytes(mooncake.buffers[base]) == pattern(1, MIB) and mooncake.notes == [("label", "text")]
        mooncake.buffers[base][:] = pattern(2, MIB)
        assert ours.read(peer=names[1], memory="m", remote=base, length=MIB)["result"] == 0
        assert ours.compare(memory="m", seed=2, length=MIB)["different"] == 0
        assert ours.probe(peer=names[1])["result"] == 0


# -------------------------------------------------------------------------------------- one environment


ENGINE = "import mooncake.engine as e; print(e.TransferEngine.__module__)"
STORE = "from mooncake.store import MooncakeDistributedStore; print(MooncakeDistributedStore.__module__)"
ALLOCATOR = "import mooncake.allocator as a; print(a.NVLinkAllocator.__module__)"
FOREIGN = """
from mooncake.engine import TransferEngine
from mooncake.store import MooncakeDistributedStore
engine = TransferEngine()
assert engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", "") == 0
try:
    MooncakeDistributedStore().setup(
        local_hostname="127.0.0.1", metadata_server="P2PHANDSHAKE", global_segment_size=1 << 24,
        local_buffer_size=1 << 24, protocol="tcp", rdma_devices="", master_server_addr="127.0.0.1:1",
        engine=engine.get_engine())
except (TypeError, RuntimeError):
    print("refused")
"""


class Environment:
    """A virtual environment with the real wheel in it, as pip installed it elsewhere."""

    def __init__(self, folder, wheel_python, package):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=120)
        self.python = folder / "bin/python"
        source = Path(wheel_python).parents[1]
        (site,) = folder.glob("lib/python3*/site-packages")
        (installed,) = source.glob("lib/python3*/site-packages")
        for item in installed.iterdir():
            if not (site / item.name).exists():
                (shutil.copytree if item.is_dir() else shutil.copy2)(item, site / item.name)
        for item in (source / "bin").iterdir():
            if "mooncake" in item.name or "transfer_engine" in item.name:
                shutil.copy2(item, folder / "bin" / item.name)
        (site / "causeway.pth").write_text(f"{package}\n")
        self.site = site

    def run(self, *arguments):
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(
            [self.python, *arguments],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )

    def says(self, source):
        done = self.run("-c", source)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().splitlines()[-1]

    def pip(self, *arguments):
        done = self.run("-m", "pip", "--disable-pip-version-check", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="session")
def distribution(tmp_path_factory):
    """The wheel of causeway-mooncake."""
    folder = tmp_path_factory.mktemp("distribution")
    done = subprocess.run(
        [sys.executable, "-m", "venv", folder / "venv"], capture_output=True, text=True, timeout=120, check=False
    )
    if not done.returncode:
        done = subprocess.run(
            [folder / "venv/bin/python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
            + [ROOT / "python/mooncake-dropin"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
    found = list(folder.glob("causeway_mooncake-*.whl"))
    if not found:
        pytest.skip(f"the distribution cannot be built: {done.stderr.strip().splitlines()[-1:]}")
    return found[0]


def test_both_in_one_environment_and_each_taken_away(build_dir, wheel_python, distribution, tmp_path):
    environment = Environment(tmp_path / "venv", wheel_python, python_path(build_dir)[1])
    assert environment.says(ENGINE) == "mooncake.engine"

    environment.pip("install", "--quiet", "--no-deps", distribution)
    assert environment.says(ENGINE) == "causeway.mooncake.engine"
    assert environment.says(ALLOCATOR) == "causeway.mooncake.allocator"
    assert environment.says(STORE) == "mooncake.store"
    assert environment.says("from mooncake import BufferPool; print(BufferPool.__module__)").startswith("mooncake")
    assert environment.says(FOREIGN) == "refused"

    environment.pip("uninstall", "--yes", "causeway-mooncake")
    assert environment.says(ENGINE) == "mooncake.engine"
    assert environment.says(STORE) == "mooncake.store"
    assert not (environment.site / "mooncake/engine").exists()

    environment.pip("install", "--quiet", "--no-deps", distribution)
    environment.pip("uninstall", "--yes", "mooncake-transfer-engine-non-cuda")
    assert environment.says(ENGINE) == "causeway.mooncake.engine"
    assert environment.run("-c", STORE).returncode != 0
    environment.pip("uninstall", "--yes", "causeway-mooncake")
    assert environment.run("-c", ENGINE).returncode != 0
    left = (
        [path for path in (environment.site / "mooncake").rglob("*") if path.suffix != ".pyc"]
        if (environment.site / "mooncake").exists()
        else []
    )
    assert not [path for path in left if path.is_file()], left


def test_without_installing(build_dir, wheel_python, tmp_path):
    """python -m causeway.as_mooncake, with the real wheel in the same environment."""
    (tmp_path / "module_of_mine.py").write_text(ENGINE)
    script = tmp_path / "script.py"
    script.write_text(
        "import subprocess, sys\n"
        + ENGINE
        + "\nprint(subprocess.run([sys.executable, '-c', "
        + repr(ENGINE)
        + "], capture_output=True, text=True).stdout.strip())\n"
        + STORE
        + "\nfrom mooncake import BufferPool\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([python_path(build_dir)[1], str(tmp_path)])}

    def run(*arguments):
        done = subprocess.run(
            [wheel_python, "-m", "causeway.as_mooncake", *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=environment,
        )
        return done.returncode, done.stdout.split()

    ours = "causeway.mooncake.engine"
    assert run(script) == (0, [ours, ours, "mooncake.store"])
    assert run(wheel_python, script) == (0, [ours, ours, "mooncake.store"])
    assert run("--", wheel_python, "-m", "module_of_mine") == (0, [ours])
    assert run("-m", "module_of_mine") == (0, [ours])
    assert run("-c", ENGINE) == (0, [ours])
    assert run("/nonexistent/program") == (127, [])
    assert run()[0] == 2
    assert run("--help")[0] == 0
    assert run(wheel_python, "-c", "import sys; sys.exit(7)")[0] == 7
