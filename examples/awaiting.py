# SPDX-License-Identifier: Apache-2.0
"""Transfers and messages in asyncio: many at once, one that is too slow, one that is given up. Nothing polls."""

import asyncio

import causeway


async def serve(engine):
    """Answers each message, until one says so."""
    while True:
        note = await engine.next_notification()
        if note.data == b"stop":
            return note.sender
        print(f"{note.name} is there")


async def main():
    near, far = causeway.Engine(), causeway.Engine()
    here, there = near.allocate(1 << 20), far.allocate(1 << 20)
    server = asyncio.create_task(serve(far))
    segment = await asyncio.to_thread(near.open, far.name)

    # Many at once.
    size = 1 << 16
    parts = [
        near.write(segment, here.address + start, there.address + start, size, notify=(f"part {start // size}", b""))
        for start in range(0, here.length, size)
    ]
    results = await asyncio.gather(*parts)
    print(f"{sum(result.bytes_completed for result in results)} bytes in {len(results)} batches")

    # One that waits for something that does not come in time.
    counter = near.counter()
    try:
        await near.write(segment, here, there.address, counter=(counter, 1), deadline=0.05)
    except causeway.TimedOut as error:
        print(f"too slow: {error.text}")

    # To cancel the task is to cancel the batch.
    batch = near.write(segment, here, there.address, counter=(counter, 1))
    try:
        await asyncio.wait_for(batch, 0.05)
    except asyncio.TimeoutError:
        batch.finish()  # now nothing touches the memory any more
        print(f"given up: {batch.state.name}")

    await asyncio.to_thread(near.notify, segment, b"stop")
    print(f"{'the peer' if await server == near.name else 'somebody'} said stop")
    near.close()
    far.close()


asyncio.run(main())
