#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seed corpora of the fuzz targets to tests/fuzz/corpus/.

The native messages are packed here from the tables of docs/protocol.md, not by the library: the unit tests and the
fuzz targets would not notice an encoder and a decoder that are wrong in the same way, these seeds do.
"""

import pathlib
import shutil
import struct

CORPUS = pathlib.Path(__file__).parent / "corpus"


def text(value):
    return struct.pack("<H", len(value)) + value


def offer(name, blob):
    return text(name) + text(blob)


def greeting(magic, body):
    return magic + struct.pack("<I", len(body)) + body


def hello(magic, version=1, connection=0, replaces=0, transport=b"", tail=b""):
    return greeting(
        magic,
        struct.pack(
            "<HHQ16s16s16sQIIQQ32s",
            version,
            0,
            1,
            b"i" * 16,
            bytes(16),
            b"m" * 16,
            10**12,
            4711,
            0,
            connection,
            replaces,
            bytes(32),
        )
        + text(b"127.0.0.1:15000")
        + text(transport)
        + tail,
    )


def welcome(magic, status=0, version=1, offers=(), tail=b""):
    return greeting(
        magic,
        struct.pack(
            "<iHHIQ16s16sQIIQ", status, version, 0, 4712, 1, b"j" * 16, b"m" * 16, 10**12, 64, len(offers), 1 << 28
        )
        + text(b"[::1]:15001")
        + b"".join(offer(*o) for o in offers)
        + tail,
    )


def control(kind, body=b"", sequence=1, status=0):
    return struct.pack("<HHIQiI", kind, 0, len(body), sequence, status, 0) + body


def record(location=b"cpu:0", offers=((b"shm", b"handle"), (b"tcp", b"")), address=0x7F0000000000, length=1 << 21):
    return (
        struct.pack("<QQQQIIIiiI", 1 << 32 | 1, 0x1234567890ABCDEF, address, length, 3, 0, 0, -1, 0, len(offers))
        + text(location)
        + b"".join(offer(*o) for o in offers)
    )


def data(kind, flags=0, pieces=(), length=0, status=0):
    return struct.pack(
        "<IBBHIIQQiIQQQQII",
        0x31465743,
        kind,
        flags,
        0,
        len(pieces),
        0,
        77,
        length,
        status,
        0,
        5,
        6,
        10**12,
        10**12,
        0,
        0,
    ) + b"".join(struct.pack("<QQ", *piece) for piece in pieces)


def classic(kind, json):
    body = (b"" if kind is None else bytes([kind])) + json
    return struct.pack("<Q", len(body)) + body


CONTROL, DATA = b"CWCTRL1\0", b"CWDATA1\0"
REAL = (
    b'{"buffers":[{"addr":140207764537344,"length":100663296,"name":"127.0.0.1:15594"}],"name":"127.0.0.1:15594",'
    b'"protocol":"tcp","tcp_data_port":16586,"tcp_proto_version":2,"timestamp":"2026-11-20 20:51:04.311592"}\n'
)
NATIVE = (
    b'{"buffers":[],"name":"[::1]:1","protocol":"tcp","tcp_data_port":0,"tcp_proto_version":2,"timestamp":"t",'
    b'"x_causeway":{"addresses":["[::1]:1","10.0.0.1:1"],"instance":"000102030405060708090a0b0c0d0e0f","version":1}}\n'
)
MIXED = (
    b'{"name":"h","protocol":["rdma","tcp"],"buffers":[{"protocol":"rdma"},'
    b'{"protocol":"tcp","name":"h","addr":1,"length":18446744073709551615}]}'
)
BAD = [
    b'{"name":"h","protocol":"tcp","tcp_data_port":"x"}',
    b'{"name":"h","protocol":"tcp","tcp_data_port":65536}',
    b'{"name":"","protocol":"tcp"}',
    b'{"name":"h","protocol":""}',
    b'{"name":"h","protocol":[]}',
    b'{"name":"h","name":"i"}',
    b'{"name":"h","protocol":[1]}',
    b'{"protocol":"tcp"}',
    b'{"name":"h","protocol":["tcp"],"buffers":[{}]}',
    b'{"name":"h","protocol":"tcp","buffers":[1]}',
    b'{"name":"h","protocol":"tcp","buffers":{}}',
    b'{"name":"h","protocol":"tcp","buffers":[{"name":"","addr":1,"length":1}]}',
    b'{"name":"h","protocol":"tcp","buffers":[{"name":"h","addr":0,"length":1}]}',
    b'{"name":"h","protocol":"tcp","x_causeway":{"version":0}}',
    b'{"name":"h","protocol":"tcp","x_causeway":1}',
    b'{"name":"h","protocol":"tcp","x_causeway":{"version":1,"instance":"0g"}}',
    b'{"name":"h","protocol":"tcp","x_causeway":{"version":1,"instance":"00000000000000000000000000000000"}}',
    b'{"name":"h","protocol":"tcp",'
    b'"x_causeway":{"version":1,"instance":"000102030405060708090a0b0c0d0e0f","addresses":["h"]}}',
]
JSON = [
    b"{}",
    b"null\n",
    b"[1]",
    b'{"a":[0,-1,0.5e-3,1E+2,true,false,null,{},[]]}',
    b'{"a":"\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e4\\ud83d\\ude00"}',
    '{"ä":"€😀\ud7ff"}'.encode(),
    b'{"a":' + b"[" * 31 + b"]" * 31 + b"}",
    b'{"a":' + b"[" * 40,
    b'{"a":18446744073709551616}',
    b'{"a":-9223372036854775809}',
    b'{"a":"\\u0000"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\xc0\x80\xed\xa0\x80\xf4\x90"}',
    b'{"a":1,"\\u0061":2}',
    b"\xf0\x90\x80\x80",
    b'{"a":"\xe0\xa0\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"}',
    b'{"a":01}',
    b'{"a":nul}',
    b'{"a"}',
    b'{"a":"\n"}',
    b"{} x",
]
REPLY = (
    b'{"local_gid":"","local_lid":0,"local_nic_path":"","payload":"","peer_nic_path":"","qp_num":[],"reply_msg":""}\n'
)

SEEDS = {
    "hello": [
        hello(CONTROL),
        hello(DATA, connection=2, replaces=1, transport=b"tcp"),
        hello(CONTROL, version=2, tail=b"more"),
    ],
    "welcome": [
        welcome(CONTROL, offers=((b"shm", b"\1\2\3"), (b"tcp", b""))),
        welcome(DATA),
        welcome(DATA, status=-15),
        welcome(CONTROL, version=2, tail=b"more"),
    ],
    "control": [
        control(1),
        control(0x8001),
        control(2, struct.pack("<IIQQ", 0, 0, 4096, 64)),
        control(3, struct.pack("<Q", 0)),
        control(4, struct.pack("<Q", 9) + text(b"h:1") + text(b"name") + struct.pack("<I", 3) + b"a\0b"),
        control(5, text(b"shm") + struct.pack("<I", 2) + b"hi"),
        control(6, struct.pack("<QII2Q", 1, 2, 0, 7, 8)),
        control(7, bytes(8), sequence=0),
        control(8, sequence=0),
        control(0x8004, status=-22),
    ],
    "region_record": [
        record(),
        record(b"", ()),
        record() + record(b"cpu:1"),
        record(address=2**64 - 10, length=10),
        record(address=2**64 - 9, length=10),
    ],
    "data": [
        data(1, 1, [(4096, 10), (8192, 20)], 30),
        data(2, 0, [(4096, 1 << 20)], 1 << 20),
        data(3),
        data(3, status=-9),
        data(4, length=30),
        data(4, status=-8),
        data(2, 0, [(2**64 - 10, 10)], 10),
        data(2, 0, [(2**64 - 9, 10)], 10),
    ],
    "classic_frame": [
        classic(1, REAL),
        classic(0, REPLY),
        classic(2, b'{"name":"","notify_msg":"success"}\n'),
        classic(3, b"{}\n"),
        classic(None, REPLY),
        struct.pack("<QQB7s", 1 << 20, 0x7F0000000000, 0x81, b"padding"),
        struct.pack("<QQB7x", 1, 4096, 0x80),
        struct.pack("<II", 0, 0x4D435456),
        struct.pack("<II", 1, 0x4D435456),
    ],
    "descriptor": [REAL, NATIVE, MIXED, b'{"name":"h","protocol":"rdma","buffers":[{"rkey":[1]}]}'] + BAD + JSON,
    "etcd_answer": [
        b'{"header":{"revision":"7"},"kvs":[{"key":"a2V5","value":"dmFsdWU="}],"count":"1"}',
        b'{"kvs":[{"key":"a2V5"}]}',
        b'{"ID":"7587848390190385668","TTL":"60"}',
        b'{"result":{"ID":"7587848390190385668","TTL":"60"}}\n',
        b'{"token":"KMdOHUzXzmPgMVlx.12"}',
        b'{"succeeded":true}',
        b'{"error":"etcdserver: requested lease not found","message":"x","code":5}',
        b'{"error":{"grpc_code":14,"message":"gone"}}',
    ],
    "notify": [b'{"name":"","notify_msg":"success"}\n', b'{"name":[1],"notify_msg":""}', b'{"name":"n"}'] + JSON[:6],
    "rpc_meta": [
        b'{"ip_or_host_name":"192.168.3.77","rpc_port":15428}\n',
        b'{"ip_or_host_name":"fe80::1%eth0","rpc_port":1}',
        b'{"ip_or_host_name":"[::1]","rpc_port":65535,"x":[]}',
        b'{"ip_or_host_name":"node:1","rpc_port":2}',
        b'{"ip_or_host_name":"/node","rpc_port":65536}',
        b'{"rpc_port":"1"}',
    ]
    + JSON[:6],
    "connection": [
        REPLY,
        b'{"qp_num":[1,4294967295],"ready_ack":true,"local_lid":65535}',
        b'{"qp_num":["x"]}',
        b'{"payload":{}}',
        b'{"local_lid":-1}',
    ]
    + JSON,
    "address": [
        b"127.0.0.1:15000",
        b"node",
        b"/node:1",
        b"[::1]:80",
        b"::1",
        b"[fe80::1%eth0]:9",
        b"[::1",
        b"a:b:c",
        b"node:0",
        b"[::1]x",
    ],
    # What follows the first brace.
    "setup_file": [
        b'"local_hostname":"localhost","metadata_server":"localhost:8080","protocol":"tcp","device_name":"",'
        + b'"master_server_address":"localhost:8081"}',
        b'"local_hostname":"node1:80:npu_0","metadata_server":"etcd://a:2379;b","global_segment_size":"3GB",'
        + b'"protocol":"rdma"}',
        b'"metadata_type":"redis","metadata_servers":["a:1","b:2"],"local_segment_name":"[::1]:5",'
        + b'"rpc_server_port":17000}',
        b'"transports":{"tcp":{"enable":true},"shm/enable":false,"rdma":{"endpoint":{"max_sge":4}}}}',
        b'"transports/tcp/enable":true,"transports":{"tcp":{"enable":true}}}',
        b'"qos":{"a":[1,{}]},"policy":[],"log_level":"loud"}',
        b'"transport":{"rmda":1}}',
        b"}",
    ],
}


def main():
    shutil.rmtree(CORPUS, ignore_errors=True)
    for name, seeds in SEEDS.items():
        folder = CORPUS / name
        folder.mkdir(parents=True)
        for number, seed in enumerate(seeds):
            (folder / f"seed-{number:02}").write_bytes(seed)


if __name__ == "__main__":
    main()
