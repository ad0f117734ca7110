# SPDX-License-Identifier: Apache-2.0
"""`causeway config --mooncake`: what it prints is a configuration file, and what has no effect is named beside it."""

import json

import pytest

SEED_TCP = {
    "local_hostname": "localhost",
    "metadata_server": "P2PHANDSHAKE",
    "protocol": "tcp",
    "device_name": "",
    "master_server_address": "localhost:8081",
}
TENT = {
    "metadata_type": "p2p",
    "log_level": "error",
    "transports": {"shm": {"enable": False}, "rdma": {"enable": False}, "tcp/enable": True},
}


@pytest.fixture
def mooncake(run):
    """Runs the command with these variables and no others of Mooncake's."""

    def call(*arguments, **variables):
        environment = {"PATH": "/usr/bin:/bin", **variables}
        return run("causeway", "config", "--mooncake", *arguments, env=environment, timeout=30)

    return call


def changed(run, path):
    """What an engine makes of a configuration file."""
    done = run("causeway", "config", "--changed", "--format=json", "--config", path, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document", [SEED_TCP, TENT], ids=["mooncake.json", "transfer-engine.json"])
def test_output_is_a_configuration(mooncake, run, tmp_path, document):
    source, result = tmp_path / "source.json", tmp_path / "causeway.json"
    source.write_text(json.dumps(document))
    done = mooncake(source, MC_HANDSHAKE_CONNECT_TIMEOUT="7", MC_FORCE_TCP="1")
    assert done.returncode == 0, done.stderr
    settings = json.loads(done.stdout)
    assert settings["control/connect_timeout"] == "7000"
    assert settings["transports/shm/enable"] == "off"
    result.write_text(done.stdout)
    assert "control/connect_timeout" in changed(run, result)


def test_notices_are_beside_it(mooncake):
    done = mooncake(json.dumps(SEED_TCP), MC_MTU="4096", MC_FORCETCP="1", MC_TRANSFER_TIMEOUT="40", MC_TE_METRIC="1")
    assert done.returncode == 0, done.stderr
    for line in (
        "master_server_address belongs to Mooncake Store",
        "MC_MTU has no effect: RDMA is not built yet",
        "did you mean MC_FORCE_TCP?",
        "give up after 40 s",
        "every 5 s",
        "--name 'localhost'",
    ):
        assert line in done.stderr
    assert all(line.startswith("causeway config: ") for line in done.stderr.splitlines())


def test_nothing_set_is_nothing_printed(mooncake):
    done = mooncake()
    assert (done.returncode, json.loads(done.stdout), done.stderr) == (0, {}, "")


def test_a_password_is_not_printed(mooncake):
    done = mooncake(MC_REDIS_PASSWORD="correct horse", MOONCAKE_TE_META_DATA_SERVER="redis://node:6379")
    assert done.returncode == 0
    assert json.loads(done.stdout)["metadata/url"] == "redis://node:6379"
    assert "horse" not in done.stdout + done.stderr
    assert "CW_METADATA_PASSWORD" in done.stderr


@pytest.mark.parametrize(
    "arguments, variables, why",
    [
        (["/nowhere/at.all"], {}, "cannot be read"),
        (['{"protocl": "tcp"}'], {}, "did you mean 'protocol'?"),
        ([], {"MC_FORCE_MNNVL": "1", "MC_INTRANODE_NVLINK": "1"}, "exclude each other"),
        ([], {"MC_LOG_LEVEL": "loud"}, "MC_LOG_LEVEL"),
        ([], {"MOONCAKE_LOCAL_HOSTNAME": "two words"}, "neither HOST"),
        ([], {"MOONCAKE_TE_META_DATA_SERVER": "zookeeper://node"}, "P2PHANDSHAKE, etcd://"),
    ],
)
def test_what_cannot_be_used_is_an_error(mooncake, arguments, variables, why):
    done = mooncake(*arguments, **variables)
    assert done.returncode == 1
    assert why in done.stderr
    assert done.stdout == ""


def test_a_file_needs_the_option(run):
    done = run("causeway", "config", "mooncake.json")
    assert done.returncode == 2
    assert "--mooncake" in done.stderr
