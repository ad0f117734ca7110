# SPDX-License-Identifier: Apache-2.0
"""Cases of waiting in asyncio's event loops, each run by test_python_await.py in a process of its own:
python_await.py NAME."""

import asyncio
import gc
import os
import sys
import threading
import time

import causeway
from python_cases import Pair, raises

COUNT = 1000


def start(pair, counter, value=1):
    return pair.near.write(pair.segment, pair.here, pair.there.address, counter=(counter, value))


async def wait(batch):
    return await batch


def descriptors():
    return len(os.listdir("/proc/self/fd"))


async def case_thousand():
    """Says when it waits; goes on when its input has a line. Everything in one engine: there is one thread more."""
    engine = causeway.Engine()
    memory = engine.allocate(4096)
    segment, counter = engine.open(engine.name), engine.counter()
    before = len(os.listdir("/proc/self/task"))
    source, target = memory.address, memory.address + 2048
    batches = [engine.write(segment, source, target, 8, counter=(counter, 1)) for _ in range(COUNT)]
    tasks = [asyncio.create_task(wait(batch)) for batch in batches]
    go = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, go.set)
    await asyncio.sleep(0)
    print(f"pending {before} {sum(not task.done() for task in tasks)}", flush=True)
    await go.wait()
    asyncio.get_running_loop().remove_reader(0)
    counter.add()
    results = await asyncio.gather(*tasks)
    assert len(results) == COUNT and {result.state for result in results} == {causeway.BatchState.COMPLETED}
    engine.close()


async def case_ends():
    pair = Pair()
    result = await pair.near.write(pair.segment, pair.here, pair.there.address)
    assert result.bytes_completed == pair.here.length
    ended = pair.near.write(pair.segment, pair.here, pair.there.address)
    ended.wait()
    assert (await ended) == ended.result() == (await ended)
    counter = pair.near.counter()
    failures = [
        (pair.near.write(pair.segment, pair.here.address, 0x1000, 10), causeway.NotRegistered),
        (pair.near.write(pair.segment, pair.here, 1, counter=(counter, 1), deadline=0.02), causeway.TimedOut),
    ]
    for batch, kind in failures:
        try:
            await batch
        except kind as error:
            assert error.result == batch.result()
        else:
            raise AssertionError(kind)
    # The same batch by many at once, and one that was given up.
    batch = start(pair, counter)
    tasks = [asyncio.create_task(wait(batch)) for _ in range(10)]
    slow = start(pair, counter, 2)
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.create_task(wait(slow))), 0.02)
    except asyncio.TimeoutError:
        assert not slow.done
    counter.add(5)
    assert len(await asyncio.gather(*tasks)) == 10
    await slow
    batch.release()
    slow.release()
    pair.close()


async def case_cancel():
    """To cancel a task that awaits is to cancel its batch."""
    pair = Pair()
    counter = pair.near.counter()
    for _ in range(3):
        batch = start(pair, counter)
        task = asyncio.create_task(wait(batch))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        assert batch.finish(10).state == causeway.BatchState.CANCELED
    try:
        await asyncio.wait_for(start(pair, counter), 0.02)
    except asyncio.TimeoutError:
        pass
    assert await pair.near.write(pair.segment, pair.here, pair.there.address)
    pair.close()


def case_loops():
    """Batches are awaited in several loops and threads, one after the other and at once."""
    pair = Pair()
    counter = pair.near.counter()
    shared = start(pair, counter, 8)

    async def work():
        for _ in range(20):
            await pair.near.write(pair.segment, pair.here, pair.there.address)
        counter.add()
        return await shared

    results = []
    threads = [threading.Thread(target=lambda: results.append(asyncio.run(work()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(results) == 8 and len({result.ended_ns for result in results}) == 1

    gc.collect()
    before = descriptors()

    async def given_up():
        asyncio.create_task(wait(start(pair, counter, 1 << 40)))
        await asyncio.sleep(0)

    for _ in range(20):  # loops that are closed while somebody waited leave nothing
        asyncio.run(given_up())
        asyncio.run(work())
    gc.collect()
    assert descriptors() <= before + 6, (before, descriptors())
    pair.close()
    gc.collect()
    assert descriptors() < before


async def case_engine_closed():
    """The engine is closed by another thread, or in the loop itself, while batches and notifications are awaited."""
    for close_in in ("thread", "loop"):
        pair = Pair()
        counter = pair.near.counter()
        batches = [start(pair, counter) for _ in range(10)]
        tasks = [asyncio.create_task(wait(batch)) for batch in batches]
        tasks += [asyncio.create_task(pair.near.next_notification()) for _ in range(2)]
        await asyncio.sleep(0.01)
        if close_in == "thread":
            await asyncio.get_running_loop().run_in_executor(None, pair.near.close)
        else:
            pair.near.close()
        ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
        assert {type(end) for end in ends} <= {causeway.Canceled, causeway.PrerequisiteFailed, causeway.Closed}, ends
        try:
            await pair.near.next_notification()
        except causeway.Closed:
            pass
        try:
            await batches[0]
        except (causeway.Canceled, causeway.PrerequisiteFailed):
            pass
        pair.far.close()


async def case_notifications():
    """Many wait, each notification goes to one, and takers without a loop do not disturb them."""
    pair = Pair()
    total, got = 300, []

    async def take():
        while True:
            note = await pair.far.next_notification()
            got.append(note.data)

    takers = [asyncio.create_task(take()) for _ in range(5)]
    stop = threading.Event()

    def also_take():
        while not stop.is_set():
            got.extend(note.data for note in pair.far.notifications())
            note = pair.far.wait_notification(0.001)
            if note:
                got.append(note.data)

    def send():
        for number in range(total):
            pair.near.notify(pair.segment, str(number))
            if number % 50 == 0:
                time.sleep(0.005)  # so that takers find nothing now and then

    other = threading.Thread(target=also_take)
    other.start()
    await asyncio.get_running_loop().run_in_executor(None, send)
    stop.set()
    await asyncio.get_running_loop().run_in_executor(None, other.join)
    until = time.monotonic() + 10
    while len(got) < total and time.monotonic() < until:
        await asyncio.sleep(0.001)
    assert sorted(got, key=int) == [str(number).encode() for number in range(total)]
    for number in range(3):  # takers alone
        pair.near.notify(pair.segment, b"more")
        while len(got) < total + number + 1:
            await asyncio.sleep(0.001)
    for taker in takers:
        taker.cancel()
    await asyncio.gather(*takers, return_exceptions=True)
    pair.near.notify(pair.segment, b"last")
    assert (await pair.far.next_notification()).data == b"last"
    pair.close()


async def case_no_threads():
    """The loop drives an engine without threads."""
    before = len(os.listdir("/proc/self/task"))
    engine = causeway.Engine(settings={"progress/threads": 0})
    assert len(os.listdir("/proc/self/task")) == before
    memory, target = engine.allocate(1 << 22), causeway.Engine()
    there = target.allocate(1 << 22)
    segment = await asyncio.get_running_loop().run_in_executor(None, engine.open, target.name)
    for way in ("shm", "tcp"):
        only = engine.open(target.name, transports=way)
        results = await asyncio.gather(*(wait(engine.write(only, memory, there.address)) for _ in range(5)))
        assert {result.bytes_completed for result in results} == {1 << 22}
    note = asyncio.create_task(engine.next_notification())
    back = await asyncio.get_running_loop().run_in_executor(None, target.open, engine.name)
    await asyncio.get_running_loop().run_in_executor(None, target.notify, back, b"hello")
    assert (await note).data == b"hello"
    segment.close()
    engine.close()
    target.close()


async def case_dropped():
    """Nothing keeps an engine that nobody has any more, not even a loop in which it was waited for."""
    pair = Pair()
    await pair.near.write(pair.segment, pair.here, pair.there.address)
    pair.near.notify(pair.segment, b"")
    await pair.far.next_notification()
    raises(causeway.NotRegistered, pair.near.region_at, 1)
    before = len(os.listdir("/proc/self/task"))
    del pair
    gc.collect()
    assert len(os.listdir("/proc/self/task")) == before - 2


if __name__ == "__main__":
    case = globals()[f"case_{sys.argv[1]}"]
    if asyncio.iscoroutinefunction(case):
        asyncio.run(case())
    else:
        case()
    print("ok")
