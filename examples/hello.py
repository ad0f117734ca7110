# SPDX-License-Identifier: Apache-2.0
"""The first program: two processes, one message. Start `hello.py` in one terminal; it prints its name. Start
`hello.py NAME` in another: it writes into the memory of the first and notifies it."""

import sys

import causeway

LENGTH = 64


def receive(engine):
    """Offers memory and waits for someone to write into it."""
    memory = engine.allocate(LENGTH)
    print(engine.name, flush=True)
    note = engine.wait_notification()  # it comes after its data
    print(f"{note.sender} says: {bytes(memoryview(memory)).rstrip(bytes(1)).decode()}")


def greet(engine, peer):
    """Writes into the first region that the peer offers, and tells it."""
    message = b"bytes from another process"
    engine.register(message)
    segment = engine.open(peer)
    remote = segment.regions()[0]
    engine.write(segment, message, remote.address, notify=("hello", b"")).wait()


with causeway.Engine() as engine:
    if len(sys.argv) > 1:
        greet(engine, sys.argv[1])
    else:
        receive(engine)
