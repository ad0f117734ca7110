# SPDX-License-Identifier: Apache-2.0
"""What frameworks do with mooncake.engine, from the description of each one's calls: one class for each, driven like
cwpeer by lines of JSON (see peer.py). The first argument names the class.

The names of methods here are ours; the calls of the engine, their order, their arguments and how their results are
judged are the framework's.
"""

import concurrent.futures
import ctypes
import json
import os
import sys
import threading
import time

import wheel_peer
from mooncake.engine import TransferEngine, TransferNotify, TransferOpcode


class Framework(wheel_peer.Wheel):
    """Memory as in wheel_peer.py; the engine is made when the framework makes it."""

    def __init__(self):
        super().__init__()
        self.engine = None

    def pointers(self, memories):
        return [self.memory[name][1] for name in memories]

    def lengths(self, memories):
        return [self.memory[name][2] for name in memories]


class SGLang(Framework):
    """A wrapper of one engine per process, shared by whoever needs it; a pool of threads writes KV pages, all layers in
    one batch, then the aux record; sessions that failed are left alone until a probe succeeds."""

    THREADS = 16

    def __init__(self):
        super().__init__()
        self.failed_sessions = set()
        self.pool = concurrent.futures.ThreadPoolExecutor(self.THREADS)
        self.registered = []

    def open(self, name, settings=None):
        settings = settings or {}
        self.engine = TransferEngine()
        device = "" if os.environ.get("MC_FORCE_TCP") == "1" else settings.get("ib_devices", "mlx5_0,mlx5_1")
        if self.engine.initialize(name, "P2PHANDSHAKE", settings.get("protocol", "rdma"), device or "") != 0:
            raise RuntimeError("Mooncake Transfer Engine initialization failed.")
        for method in ("batch_register_memory", "batch_unregister_memory", "batch_transfer_sync_write"):
            assert hasattr(self.engine, method)
        host = f"[{name}]" if ":" in name and not name.startswith("[") else name
        return {"engine": f"{host}:{self.engine.get_rpc_port()}"}

    def start_manager(self, memories):
        """Registers the KV, aux and state buffers of a role, each range once."""
        ranges = sorted(set(zip(self.pointers(memories), self.lengths(memories))))
        try:
            result = self.engine.batch_register_memory([p for p, _ in ranges], [n for _, n in ranges])
        except Exception as error:
            raise RuntimeError("Mooncake batch memory registration is not supported") from error
        if result == 0:
            self.registered = [pointer for pointer, _ in ranges]
        return {"result": result}

    def stop_manager(self):
        """At a switch of roles everything is deregistered; the engine stays."""
        pointers, self.registered = self.registered, []
        return {"result": self.engine.batch_unregister_memory(pointers)}

    def transfer(self, session, blocks):
        """blocks: of (memory, offset, remote address, length). 0, or -1 whatever happens."""
        sources = [self.memory[name][1] + offset for name, offset, _, _ in blocks]
        try:
            result = self.engine.batch_transfer_sync_write(
                session, sources, [remote for _, _, remote, _ in blocks], [length for *_, length in blocks]
            )
        except Exception:
            result = -1
        return result

    def send_kvcache(self, session, layers, aux=None):
        """layers: lists of blocks; one call for all of them, then the aux record when that succeeded."""
        if session in self.failed_sessions:
            return {"result": -2}
        blocks = [block for layer in layers for block in layer]
        result = self.pool.submit(self.transfer, session, blocks).result()
        if result == 0 and aux:
            memory, offset, remote, length = aux
            result = self.engine.transfer_sync_write(session, self.memory[memory][1] + offset, remote, length)
        if result != 0:
            self.failed_sessions.add(session)
        return {"result": result}

    def send_by_layer(self, session, layers):
        """As with a custom memory pool: one call for each layer, in parallel."""
        waiting = [self.pool.submit(self.transfer, session, blocks) for blocks in layers]
        return {"results": [each.result() for each in waiting]}

    def recover(self, session):
        """The probe loop: one turn."""
        probe = getattr(self.engine, "send_probe", None)
        if probe is not None and probe(session) == 0:
            self.failed_sessions.discard(session)
        return {"blocked": session in self.failed_sessions}

    def share(self):
        """HiCache and others ask for the one engine of the process."""
        return {"same": self.engine.get_engine() is self.engine.get_engine() is not None}


class VLLM(Framework):
    """The connector: workers write KV blocks of a request in one batch; `__del__` shuts it down whenever that is."""

    WORKERS = 10

    def open(self, name, settings=None):
        extra = settings or {}
        self.engine = TransferEngine()
        result = self.engine.initialize(
            name, "P2PHANDSHAKE", extra.get("mooncake_protocol", "rdma"), extra.get("device_name", "")
        )
        if result != 0:
            raise RuntimeError("Mooncake Transfer Engine initialization failed.")
        self.bound = threading.local()
        self.workers = concurrent.futures.ThreadPoolExecutor(self.WORKERS, initializer=self._bind)
        return {"engine": f"{name}:{self.engine.get_rpc_port()}"}

    def _bind(self):
        self.bound.device = 0

    def register_kv_caches(self, memories):
        if self.engine.batch_register_memory(self.pointers(memories), self.lengths(memories)) != 0:
            raise RuntimeError("Mooncake batch memory registration failed.")
        return {}

    def _send(self, session, sources, targets, lengths):
        begin = time.perf_counter()
        result = self.engine.batch_transfer_sync_write(session, sources, targets, lengths)
        assert self.bound.device == 0
        return result, time.perf_counter() - begin, sum(lengths), len(lengths)

    def send_requests(self, session, requests):
        """requests: of {memory, offsets, remotes, lengths}; all at once."""
        waiting = []
        for request in requests:
            base = self.memory[request["memory"]][1]
            sources = [base + offset for offset in request["offsets"]]
            waiting.append(self.workers.submit(self._send, session, sources, request["remotes"], request["lengths"]))
        return {"results": [each.result()[0] for each in waiting]}

    def storm(self, sessions, memory, remotes, threads, page, rounds):
        """Threads write to all sessions at once; together they cover the memory. Half of the calls are batches."""
        _, base, length = self.memory[memory]
        share, answers = length // threads, []

        def run(index):
            for turn in range(rounds):
                which = (index + turn) % len(sessions)
                places = range(index * share, (index + 1) * share, page)
                session, remote = sessions[which], remotes[which]
                if turn % 2:
                    results = [self.engine.transfer_sync_write(session, base + at, remote + at, page) for at in places]
                    answers.append(min(results))
                else:
                    result = self.engine.batch_transfer_sync_write(
                        session, [base + at for at in places], [remote + at for at in places], [page] * len(places)
                    )
                    answers.append(result)

        running = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join(60)
        return {"calls": len(answers), "failures": sum(answer != 0 for answer in answers)}

    def shutdown(self):
        if getattr(self, "workers", None) is not None:
            self.workers.shutdown(wait=False)
            self.workers = None
        return {}

    def __del__(self):
        self.shutdown()


class LMCache(Framework):
    """A channel configured by variables; one buffer, written in batches to sessions learned elsewhere."""

    def open(self, name, settings=None):
        del name, settings
        self.engine = TransferEngine()
        host = os.environ.get("MC_LOCAL_HOSTNAME", "localhost")
        result = self.engine.initialize(
            host,
            os.environ.get("MC_METADATA_SERVER", "P2PHANDSHAKE"),
            os.environ.get("MC_PROTOCOL", "tcp"),
            os.environ.get("MC_DEVICE_NAME", ""),
        )
        assert result == 0
        return {"engine": f"{host}:{self.engine.get_rpc_port()}"}

    def register_buffer(self, memory):
        _, pointer, length = self.memory[memory]
        assert self.engine.register_memory(pointer, length) == 0
        return {"base": pointer, "length": length}

    def batched_write(self, session, memory, base, page, pages):
        """Pages of the buffer to the same places of a peer's."""
        here = self.memory[memory][1]
        sources = [here + index * page for index in pages]
        targets = [base + index * page for index in pages]
        return {"result": self.engine.batch_transfer_sync_write(session, sources, targets, [page] * len(pages))}


class LMDeploy(Framework):
    """One engine for each link, all over the same KV memory; the receiver reads page after page."""

    def __init__(self):
        super().__init__()
        self.links = {}

    def open(self, name, settings=None):
        del settings
        return {"engine": name}

    def open_link(self, link, host):
        engine = TransferEngine()
        if engine.initialize(host, "P2PHANDSHAKE", "rdma", "mlx5_0") != 0:
            raise RuntimeError("initialization failed")
        self.links[link] = engine
        return {"endpoint": json.dumps({"session_id": f"{host}:{engine.get_rpc_port()}"})}

    def register_on_link(self, link, memory):
        _, pointer, length = self.memory[memory]
        if self.links[link].register_memory(pointer, length) != 0:
            raise RuntimeError("registration failed")
        return {"address": pointer}

    def migrate(self, link, endpoint, memory, pages):
        """pages: of (offset, remote address, length)."""
        session = json.loads(endpoint)["session_id"]
        here = self.memory[memory][1]
        for offset, remote, length in pages:
            if self.links[link].transfer_sync_read(session, here + offset, remote, length) != 0:
                raise RuntimeError("transfer failed")
        return {}

    def close_link(self, link):
        del self.links[link]
        return {}


class Ascend(Framework):
    """vllm-ascend: one engine behind a lock; pulls, or pushes layer by layer; an error is what is below zero."""

    lock = threading.Lock()

    def open(self, name, settings=None):
        del settings
        with self.lock:
            if self.engine is None:
                self.engine = TransferEngine()
                if self.engine.initialize(name, "P2PHANDSHAKE", "ascend", "") != 0:
                    raise RuntimeError("initialization failed")
        return {"engine": f"{name.split(':')[0]}:{self.engine.get_rpc_port()}"}

    def register_all(self, memories):
        for pointer, length in zip(self.pointers(memories), self.lengths(memories)):
            if self.engine.register_memory(pointer, length) != 0:
                raise RuntimeError("registration failed")
        return {"store_engine": type(self.engine.get_engine()).__name__}

    def pull(self, session, memory, offsets, remotes, lengths):
        base = self.memory[memory][1]
        result = self.engine.batch_transfer_sync_read(session, [base + each for each in offsets], remotes, lengths)
        if result < 0:
            raise RuntimeError("Mooncake transfer failed")
        return {"result": result}

    def push_layer(self, session, memory, offsets, remotes, lengths):
        base = self.memory[memory][1]
        result = self.engine.batch_transfer_sync_write(session, [base + each for each in offsets], remotes, lengths)
        if result < 0:
            raise RuntimeError("Mooncake transfer failed")
        return {"result": result}


class Weights(Framework):
    """checkpoint-engine and verl: buckets of weights are read by many; a word written back says that it was taken."""

    RETRIES = 8

    def open(self, name, settings=None):
        del settings
        for attempt in range(self.RETRIES):
            self.engine = TransferEngine()
            if (
                self.engine.initialize(name, "P2PHANDSHAKE", "rdma", os.environ.get("PS_P2P_STORE_RDMA_DEVICES", ""))
                == 0
            ):
                break
            assert attempt < self.RETRIES - 1
        return {"engine": f"{name}:{self.engine.get_rpc_port()}"}

    def register_named(self, memories):
        assert self.engine.batch_register_memory(self.pointers(memories), self.lengths(memories)) == 0
        return {"pointers": self.pointers(memories)}

    def unregister_named(self, memories):
        assert self.engine.batch_unregister_memory(self.pointers(memories)) == 0
        return {}

    def read_buckets(self, session, memory, offsets, remotes, lengths):
        base = self.memory[memory][1]
        assert self.engine.batch_transfer_sync_read(session, [base + each for each in offsets], remotes, lengths) == 0
        return {}

    def take_bucket(self, session, memory, remote, length, magic, flag, remote_flag):
        """Reads a bucket, then tells its owner by four bytes."""
        assert self.engine.transfer_sync_read(session, self.memory[memory][1], remote, length) == 0
        pointer = self.memory[flag][1]
        ctypes.memmove(pointer, magic.to_bytes(4, "little"), 4)
        assert self.engine.transfer_sync_write(session, pointer, remote_flag, 4) == 0
        return {}

    def await_flag(self, flag, magic, timeout=20):
        pointer, deadline = self.memory[flag][1], time.monotonic() + timeout
        while ctypes.string_at(pointer, 4) != magic.to_bytes(4, "little"):
            assert time.monotonic() < deadline, "the flag did not come"
            time.sleep(0.001)
        return {}


class Notifier(Framework):
    """Fault-tolerance drills: notifications with transfers, asynchronous ids polled in turn."""

    def open(self, name, settings=None):
        del settings
        self.engine = TransferEngine()
        return {"result": self.engine.initialize(name, "P2PHANDSHAKE", "tcp", ""), "engine": self._session(name)}

    def _session(self, name):
        return f"{name}:{self.engine.get_rpc_port()}"

    def write_and_tell(self, session, memory, remote, length, text):
        note = TransferNotify("done", text)
        return {
            "result": self.engine.batch_transfer_sync(
                session, [self.memory[memory][1]], [remote], [length], TransferOpcode.Write, notify=note
            )
        }

    def poll_many(self, session, memory, remote, length, count):
        """Starts `count` writes, polls each until it is over; returns what each ended with."""
        base = self.memory[memory][1]
        running = {
            self.engine.transfer_submit_write(session, base + i * length, remote + i * length, length): i
            for i in range(count)
        }
        ends, deadline = {}, time.monotonic() + 30
        while running and time.monotonic() < deadline:
            for number in list(running):
                status = self.engine.transfer_check_status(number)
                if status != 0:
                    ends[running.pop(number)] = status
        return {"ends": [ends.get(i, 0) for i in range(count)]}


if __name__ == "__main__":
    wheel_peer.main(globals()[sys.argv[1]]())
