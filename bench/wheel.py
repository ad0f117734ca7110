# SPDX-License-Identifier: Apache-2.0
"""One measurement of the Mooncake wheel, for compare.py; runs where the wheel is installed.

    wheel.py target                                  prints "NAME ADDRESS" and serves until its stdin ends
    wheel.py NAME ADDRESS OP BLOCK PIECES SECONDS    prints one line of JSON
"""

import ctypes
import json
import sys
import time

from mooncake import engine as mooncake

BUFFER = 256 << 20


def start():
    engine = mooncake.TransferEngine()
    if engine.initialize("127.0.0.1", "P2PHANDSHAKE", "tcp", ""):
        sys.exit("wheel.py: the engine does not start")
    memory = ctypes.create_string_buffer(BUFFER)
    ctypes.memset(memory, 1, BUFFER)
    address = ctypes.addressof(memory)
    if engine.register_memory(address, BUFFER):
        sys.exit("wheel.py: the memory cannot be registered")
    return engine, memory, address


def serve():
    engine, _memory, address = start()
    print(f"127.0.0.1:{engine.get_rpc_port()}", address, flush=True)
    sys.stdin.read()


def measure(name, remote, op, block, pieces, seconds):
    engine, _memory, local = start()
    one = getattr(engine, f"transfer_sync_{op}")
    many = getattr(engine, f"batch_transfer_sync_{op}")
    piece, gap = block // pieces, 2 if pieces > 1 else 1
    layouts = []
    for at in range(0, BUFFER - gap * block + 1, gap * block):
        offsets = [at + gap * i * piece for i in range(pieces)]
        layouts.append(([local + o for o in offsets], [remote + o for o in offsets], [piece] * pieces))
    samples = []
    begin = at = time.perf_counter()
    while at - begin < seconds:
        here, there, lengths = layouts[len(samples) % len(layouts)]
        failed = one(name, here[0], there[0], block) if pieces == 1 else many(name, here, there, lengths)
        if failed:
            sys.exit("wheel.py: a transfer failed")
        after = time.perf_counter()
        samples.append(after - at)
        at = after
    samples.sort()
    print(
        json.dumps(
            {
                "gigabytes_per_second": len(samples) * block / (at - begin) / 1e9,
                "p50_us": samples[len(samples) // 2] * 1e6,
                "p99_us": samples[len(samples) * 99 // 100] * 1e6,
            }
        )
    )


if sys.argv[1] == "target":
    serve()
else:
    measure(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), float(sys.argv[6]))
