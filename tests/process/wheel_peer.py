# SPDX-License-Identifier: Apache-2.0
"""Runs where the Mooncake wheel is installed, or what takes its place: its engine, driven like cwpeer by lines of JSON
(see peer.py).

The wheel's own log goes to stderr. Commands are the methods of Wheel; what the wheel returned is in "result". Settings:
metadata (the connection string).
"""

import ctypes
import json
import sys
import time

from mooncake import engine as mooncake

from peer import pattern


class Wheel:
    def __init__(self):
        self.engine = mooncake.TransferEngine()
        self.memory = {}

    def open(self, name, settings=None):
        """The setting "metadata" is the url of a store, where the engine is known by its name as it is."""
        store = (settings or {}).get("metadata")
        result = self.engine.initialize(name, store or "P2PHANDSHAKE", "tcp", "")
        return {"result": result, "engine": name if store else f"{name}:{self.engine.get_rpc_port()}"}

    def map(self, memory, length, skew=0):
        block = ctypes.create_string_buffer(length + skew)
        address = ctypes.addressof(block) + skew
        self.memory[memory] = (block, address, length)
        return {"address": address}

    def register(self, memory):
        _, address, length = self.memory[memory]
        return {"result": self.engine.register_memory(address, length)}

    def unregister(self, memory):
        return {"result": self.engine.unregister_memory(self.memory[memory][1])}

    def fill(self, memory, seed, offset=0, length=None):
        _, address, whole = self.memory[memory]
        data = pattern(seed, whole - offset if length is None else length)
        ctypes.memmove(address + offset, data, len(data))
        return {}

    def compare(self, memory, seed, offset=0, length=None, position=0):
        _, address, whole = self.memory[memory]
        length = whole - offset if length is None else length
        found = ctypes.string_at(address + offset, length)
        wanted = pattern(seed, length, position)
        if found == wanted:
            return {"different": 0, "first": 0}
        different = [i for i, (a, b) in enumerate(zip(found, wanted)) if a != b]
        return {"different": len(different), "first": different[0]}

    def write(self, peer, memory, remote, length, offset=0):
        return {"result": self.engine.transfer_sync_write(peer, self.memory[memory][1] + offset, remote, length)}

    def read(self, peer, memory, remote, length, offset=0):
        return {"result": self.engine.transfer_sync_read(peer, self.memory[memory][1] + offset, remote, length)}

    def transfer_many(self, op, peer, memory, offsets, remotes, lengths):
        base = self.memory[memory][1]
        call = self.engine.batch_transfer_sync_write if op == "write" else self.engine.batch_transfer_sync_read
        return {"result": call(peer, [base + offset for offset in offsets], remotes, lengths)}

    def transfer_mixed(self, peer, pieces):
        """pieces: of (memory, offset, remote address, length); one batch."""
        sources = [self.memory[memory][1] + offset for memory, offset, _, _ in pieces]
        remotes, lengths = [piece[2] for piece in pieces], [piece[3] for piece in pieces]
        return {"result": self.engine.batch_transfer_sync_write(peer, sources, remotes, lengths)}

    def write_and_notify(self, peer, memory, remote, length, name, text):
        note = mooncake.TransferNotify(name, text)
        base = self.memory[memory][1]
        return {"result": self.engine.transfer_sync(peer, base, remote, length, mooncake.TransferOpcode.Write, note)}

    def notes(self, count, timeout=10):
        """Waits until count notifications came; the engine offers no way but to ask again."""
        found = []
        deadline = time.monotonic() + timeout
        while len(found) < count and time.monotonic() < deadline:
            found += [[note.name, note.msg] for note in self.engine.get_notifies()]
        return {"notes": found}

    def probe(self, peer):
        return {"result": self.engine.send_probe(peer)}

    def first_address(self, peer):
        return {"address": self.engine.get_first_buffer_address(peer)}


def main(wheel):
    for line in sys.stdin:
        members = json.loads(line)
        command = members.pop("do")
        try:
            answer = {"status": 0, "name": "OK", "text": "", **getattr(wheel, command)(**members)}
        except Exception as error:  # the answer must come whatever the wheel raises
            answer = {"status": -1, "name": "ERR_INVALID", "text": repr(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(Wheel())
