# SPDX-License-Identifier: Apache-2.0
"""Our engine against a Mooncake engine made from a description (classic_peer.py), at either end. Needs no wheel."""

import socket
import struct

import pytest

import classic_peer as classic
from peer import pattern

MIB = 1 << 20
SIZES = [1, 7, 4096, 65537, MIB, 64 * MIB]
BASE = 0x7F00_0000_0003  # odd on purpose; a target's address is a number, not a pointer
REFUSED = ("ERR_NOT_REGISTERED", "ERR_STALE_REGION", "ERR_ACCESS")


def initiator(peers, target, length, **settings):
    """Our engine with memory "m" registered and the target open as "s"."""
    peer = peers(**settings)
    peer.map(memory="m", length=length, skew=5)
    peer.register(memory="m")
    peer.segment(segment="s", peer=target.name)
    return peer


def target(peers, length, **settings):
    """Our engine with memory "m" registered at an odd address; returns it and that address."""
    peer = peers(**settings)
    address = peer.map(memory="m", length=length, skew=3)["address"]
    peer.register(memory="m")
    return peer, address


# ---------------------------------------------------------------------------------------- we are the initiator


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("length", SIZES)
def test_initiator_writes_and_reads(peers, version, length):
    with classic.ClassicTarget({BASE: bytearray(length + 2)}, version) as mooncake:
        peer = initiator(peers, mooncake, length)
        peer.fill(memory="m", seed=1)
        assert peer.transfer("write", "s", "m", BASE + 1, length)["state"] == "COMPLETED"
        # COMPLETED means visible, whatever the version.
        assert bytes(mooncake.buffers[BASE]) == b"\0" + pattern(1, length) + b"\0"

        mooncake.buffers[BASE][1 : length + 1] = pattern(2, length)
        assert peer.transfer("read", "s", "m", BASE + 1, length)["state"] == "COMPLETED"
        assert peer.compare(memory="m", seed=2)["different"] == 0


def test_initiator_acknowledges_version_1_by_reading_back(peers):
    length = 100_000
    with classic.ClassicTarget({BASE: bytearray(length)}, version=1) as mooncake:
        peer = initiator(peers, mooncake, length)
        assert peer.transfer("write", "s", "m", BASE, length)["state"] == "COMPLETED"
        assert all(not flags & classic.ACKNOWLEDGED for flags, _, _ in mooncake.requests)
        written = [(address, size) for flags, address, size in mooncake.requests if flags == classic.WRITE]
        read = [(address, size) for flags, address, size in mooncake.requests if flags == classic.READ]
        assert sum(size for _, size in written) == length
        # The end of what each connection wrote is read back; at the least the end of the whole.
        assert (BASE + length - 1, 1) in read


def test_initiator_uses_version_2_flags(peers):
    with classic.ClassicTarget({BASE: bytearray(10)}) as mooncake:
        peer = initiator(peers, mooncake, 10)
        peer.transfer("write", "s", "m", BASE)
        peer.transfer("read", "s", "m", BASE)
        assert {flags for flags, _, _ in mooncake.requests} == {0x80, 0x81}


@pytest.mark.parametrize("version", [1, 2])
def test_initiator_batch_over_two_buffers(peers, version):
    other = BASE + 16 * MIB
    with classic.ClassicTarget({BASE: bytearray(MIB), other: bytearray(MIB)}, version) as mooncake:
        peer = initiator(peers, mooncake, 128 * 4097)
        peer.fill(memory="m", seed=3)
        requests = [
            {
                "op": "write",
                "segment": "s",
                "memory": "m",
                "offset": i * 4097,
                "length": 4097,
                "remote": (BASE if i % 2 else other) + i * 4099,
            }
            for i in range(128)
        ]
        assert peer.batch(requests)["state"] == "COMPLETED"
        for i in range(128):
            buffer = mooncake.buffers[BASE if i % 2 else other]
            assert bytes(buffer[i * 4099 : i * 4099 + 4097]) == pattern(3, 4097, i * 4097)


def test_initiator_pages(peers):
    page, count = 8192, 64
    with classic.ClassicTarget({BASE: bytearray(page * count)}) as mooncake:
        peer = initiator(peers, mooncake, page * count)
        peer.fill(memory="m", seed=4)
        there = [(7 * i) % count for i in range(count)]
        request = {
            "op": "write",
            "segment": "s",
            "memory": "m",
            "remote": BASE,
            "page_size": page,
            "local_pages": list(range(count)),
            "remote_pages": there,
        }
        assert peer.batch([request])["state"] == "COMPLETED"
        for here, place in enumerate(there):
            assert bytes(mooncake.buffers[BASE][place * page : (place + 1) * page]) == pattern(4, page, here * page)


@pytest.mark.parametrize("address, length", [(BASE - 1, 10), (BASE + 91, 10), (5, 1)])
def test_initiator_unknown_address_is_refused(peers, address, length):
    with classic.ClassicTarget({BASE: bytearray(100)}) as mooncake:
        peer = initiator(peers, mooncake, 100)
        result = peer.transfer("write", "s", "m", address, length)
        assert (result["state"], result["cause"] in REFUSED) == ("FAILED", True), result
        assert peer.transfer("write", "s", "m", BASE, 100)["state"] == "COMPLETED"


def test_initiator_buffer_that_went_away_is_refused(peers):
    """The descriptor is older than the buffers: the target's status 1 ends the request, and the next one works."""
    gone = BASE + MIB
    with classic.ClassicTarget({BASE: bytearray(100), gone: bytearray(100)}) as mooncake:
        peer = initiator(peers, mooncake, 100)
        assert peer.transfer("write", "s", "m", gone, 100)["state"] == "COMPLETED"
        del mooncake.buffers[gone]
        result = peer.transfer("write", "s", "m", gone, 100)
        assert (result["state"], result["cause"] in REFUSED) == ("FAILED", True), result
        assert peer.transfer("write", "s", "m", BASE, 100)["state"] == "COMPLETED"


def test_initiator_notifies_after_its_data(peers):
    with classic.ClassicTarget({BASE: bytearray(100)}) as mooncake:
        peer = initiator(peers, mooncake, 100)
        peer.fill(memory="m", seed=5)
        result = peer.transfer("write", "s", "m", BASE, notify={"name": "layer", "data": "seventeen"})
        assert result["state"] == "COMPLETED"
        assert mooncake.notes == [("layer", "seventeen")]
        assert bytes(mooncake.buffers[BASE]) == pattern(5, 100)

        peer.notify(segment="s", name="alone", data="by itself", timeout_ms=5000)
        assert mooncake.notes[1:] == [("alone", "by itself")]


def test_initiator_does_not_notify_of_a_failure(peers):
    with classic.ClassicTarget({BASE: bytearray(100)}) as mooncake:
        peer = initiator(peers, mooncake, 200)
        result = peer.transfer("write", "s", "m", BASE, 200, notify={"name": "layer", "data": "x"})
        assert result["state"] == "FAILED"
        assert mooncake.notes == []


def test_initiator_probes_and_describes(peers):
    with classic.ClassicTarget({BASE: bytearray(100)}) as mooncake:
        peer = initiator(peers, mooncake, 100)
        peer.probe(segment="s", timeout_ms=5000)
        assert mooncake.probes == 1
        info = peer.segment_info(segment="s")
        assert info["classic"]
        assert [(region["address"], region["length"]) for region in info["regions"]] == [(BASE, 100)]


def test_initiator_ignores_unknown_members(peers):
    extra = {"x_new": {"deep": [1, 2]}, "tcp_data_host": "no.such.host.invalid", "rdma_server_name": ""}
    with classic.ClassicTarget({BASE: bytearray(100)}, extra=extra) as mooncake:
        peer = initiator(peers, mooncake, 100)
        assert peer.transfer("write", "s", "m", BASE)["state"] == "COMPLETED"


def test_initiator_goes_to_the_data_host(peers):
    extra = {"tcp_data_host": "127.0.0.2"}
    with classic.ClassicTarget({BASE: bytearray(100)}, extra=extra, data_host="127.0.0.2") as mooncake:
        peer = initiator(peers, mooncake, 100)
        assert peer.transfer("write", "s", "m", BASE)["state"] == "COMPLETED"


@pytest.mark.parametrize(
    "extra",
    [
        {"tcp_data_host": 1},
        {"tcp_data_port": "x"},
        {"buffers": [{"name": "n", "addr": "abc", "length": 1}]},
        {"buffers": 3},
        {"protocol": 7},
        {"buffers": [{"name": "n", "addr": -1, "length": 4}]},
    ],
)
def test_initiator_survives_a_wrong_descriptor(peers, extra):
    with classic.ClassicTarget({BASE: bytearray(100)}, extra=extra) as mooncake:
        peer = peers()
        assert peer.status_of("segment", segment="bad", peer=mooncake.name, timeout_ms=3000) == "PROTOCOL"
    with classic.ClassicTarget({BASE: bytearray(100)}) as mooncake:
        peer.map(memory="m", length=100)
        peer.register(memory="m")
        peer.segment(segment="s", peer=mooncake.name)
        assert peer.transfer("write", "s", "m", BASE)["state"] == "COMPLETED"


# ------------------------------------------------------------------------------------------- we are the target


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("length", SIZES)
def test_target_is_written_and_read(peers, version, length):
    peer, address = target(peers, length + 2)
    peer.fill(memory="m", byte=0)
    with classic.data_connection(classic.describe(peer.engine)) as connection:
        classic.write(connection, address + 1, pattern(1, length), version)
        # The read comes after the write on its connection, which is all that version 1 promises.
        assert classic.read(connection, address + 1, length, version) == pattern(1, length)
    assert peer.compare(memory="m", seed=1, offset=1, length=length)["different"] == 0
    assert peer.compare(memory="m", byte=0, offset=0, length=1)["different"] == 0
    assert peer.compare(memory="m", byte=0, offset=length + 1, length=1)["different"] == 0


def test_target_describes_itself(peers):
    peer, address = target(peers, 1000)
    descriptor = classic.describe(peer.engine)
    assert descriptor["name"] == peer.engine
    assert descriptor["protocol"] == "tcp"
    assert descriptor["tcp_proto_version"] == 2
    assert isinstance(descriptor["timestamp"], str)
    assert [(row["name"], row["addr"], row["length"]) for row in descriptor["buffers"]] == [
        (peer.engine, address, 1000)
    ]


def test_target_serves_pipelined_requests_of_both_versions(peers):
    peer, address = target(peers, 300)
    with classic.data_connection(classic.describe(peer.engine)) as connection:
        connection.sendall(
            classic.DATA_HEADER.pack(100, address, 0x81)
            + pattern(1, 100)
            + classic.DATA_HEADER.pack(100, address + 100, 0x01)
            + pattern(2, 100)
            + classic.DATA_HEADER.pack(200, address, 0x80)
            + classic.DATA_HEADER.pack(100, address + 100, 0x00)
        )
        ok = struct.pack("<II", classic.STATUS_OK, classic.STATUS_MAGIC)
        wanted = ok + ok + pattern(1, 100) + pattern(2, 100) + pattern(2, 100)
        assert bytes(classic.receive(connection, len(wanted))) == wanted


def test_target_ignores_padding_and_takes_unknown_operations_for_reads(peers):
    peer, address = target(peers, 100)
    peer.fill(memory="m", seed=6)
    with classic.data_connection(classic.describe(peer.engine)) as connection:
        connection.sendall(struct.pack("<QQB7s", 100, address, 0x82, b"garbage"))
        classic.expect_ok(connection)
        assert bytes(classic.receive(connection, 100)) == pattern(6, 100)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("shift, length", [(-1, 10), (991, 10), (0, 0), (0, 1001), (0, 2**64 - 1), (0, 2**63)])
def test_target_refuses_what_is_not_in_a_region(peers, version, shift, length):
    peer, address = target(peers, 1000)
    with (
        classic.data_connection(classic.describe(peer.engine)) as connection,
        pytest.raises((classic.Rejected, ConnectionResetError)),
    ):
        connection.sendall(classic.DATA_HEADER.pack(length, address + shift, 0x80 if version == 2 else 0))
        if version == 2:
            classic.expect_ok(connection)
        if classic.receive(connection, 1) is None:
            raise classic.Rejected
    with classic.data_connection(classic.describe(peer.engine)) as connection:
        classic.write(connection, address, bytes(1000))


def test_target_refuses_a_write_of_a_read_only_region(peers):
    peer = peers()
    address = peer.map(memory="m", length=100)["address"]
    peer.register(memory="m", access=1)
    peer.fill(memory="m", seed=7)
    descriptor = classic.describe(peer.engine)
    with classic.data_connection(descriptor) as connection, pytest.raises(classic.Rejected):
        classic.write(connection, address, bytes(100))
    with classic.data_connection(descriptor) as connection:
        assert classic.read(connection, address, 100) == pattern(7, 100)


def test_target_survives_a_client_that_leaves_in_mid_body(peers):
    peer, address = target(peers, MIB)
    with classic.data_connection(classic.describe(peer.engine)) as connection:
        connection.sendall(classic.DATA_HEADER.pack(MIB, address, 0x81) + bytes(1000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with classic.data_connection(classic.describe(peer.engine)) as connection:
        classic.write(connection, address, pattern(8, MIB))
    assert peer.compare(memory="m", seed=8)["different"] == 0


def test_target_is_notified_and_probed(peers):
    peer, _ = target(peers, 100)
    assert classic.notify(peer.engine, "layer", "seventeen")["notify_msg"] != ""
    event = peer.wait_for_event(kind="NOTIFY")
    assert (event["name"], event["data"]) == ("layer", "seventeen")
    assert classic.probe(peer.engine) == {"status": "success"}


@pytest.mark.parametrize("kind", [classic.CONNECTION, None])
def test_target_answers_connection_and_old_style_frames(peers, kind):
    peer, _ = target(peers, 100)
    asked = {
        "local_nic_path": "a@b",
        "peer_nic_path": f"{peer.engine}@c",
        "payload": "",
        "qp_num": [1, 2],
        "local_lid": 0,
        "local_gid": "",
        "reply_msg": "",
    }
    answer = classic.ask(peer.engine, kind, asked)
    assert set(answer) >= {
        "local_gid",
        "local_lid",
        "local_nic_path",
        "payload",
        "peer_nic_path",
        "qp_num",
        "reply_msg",
    }
    assert answer["qp_num"] == []


MALFORMED = {
    "name is an array": (classic.NOTIFY, b'{"name":[1],"notify_msg":"x"}'),
    "an array": (classic.NOTIFY, b"[1]"),
    "text for a number": (classic.CONNECTION, b'{"qp_num":["x"]}'),
    "an object for a text": (classic.CONNECTION, b'{"payload":{}}'),
    "deep nesting": (classic.CONNECTION, b"[" * 200_000),
    "not UTF-8": (classic.METADATA, b"\xff\xfe"),
    "unknown type": (0x90, b"{}"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_target_survives_malformed_control_messages(peers, name):
    """Each of these ends a real engine's process, or nearly."""
    kind, body = MALFORMED[name]
    peer, _ = target(peers, 100)
    with socket.create_connection(classic.split(peer.engine), classic.TIMEOUT) as connection:
        connection.sendall(struct.pack("<QB", len(body) + 1, kind) + body)
        try:
            classic.receive_frame(connection)
        except (ConnectionResetError, EOFError, ValueError):
            pass
    assert classic.probe(peer.engine) == {"status": "success"}


def test_classic_can_be_switched_off(peers):
    peer = peers(**{"control/classic": "off", "tcp/classic": "off"})
    try:
        assert classic.probe(peer.engine) is None
    except ConnectionResetError:
        pass
