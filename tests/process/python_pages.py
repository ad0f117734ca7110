# SPDX-License-Identifier: Apache-2.0
"""100,000 page descriptors in each form, moved between two engines; prints the milliseconds of the submitting call, the
best of some. Run by test_python_pages.py."""

import json
import time

import causeway
import numpy

COUNT, SIZE, ROUNDS = 100_000, 64, 9

near, far = causeway.Engine(), causeway.Engine()
here, there = near.allocate(COUNT * SIZE), far.allocate(COUNT * SIZE)
segment = near.open(far.name)
left = numpy.frombuffer(here, dtype=numpy.uint64).reshape(COUNT, -1)
right = numpy.frombuffer(there, dtype=numpy.uint64).reshape(COUNT, -1)

order = numpy.random.default_rng(7).permutation(COUNT).astype(numpy.uint64)
local = numpy.uint64(here.address) + numpy.arange(COUNT, dtype=numpy.uint64) * numpy.uint64(SIZE)
remote = numpy.uint64(there.address) + order * numpy.uint64(SIZE)
length = numpy.full(COUNT, SIZE, dtype=numpy.uint64)
lists = [column.tolist() for column in (local, remote, length)]
mixed = numpy.where(numpy.arange(COUNT) % 3, SIZE, SIZE // 2).astype(numpy.uint64)

forms = {
    "arrays": lambda: near.write(segment, local, remote, length),
    "lists": lambda: near.write(segment, *lists),
    "pages": lambda: near.write_pages(segment, here, there.address, SIZE, None, order),
    "two lengths": lambda: near.write(segment, local, remote, mixed),
}
best = {}
for number in range(ROUNDS):
    for name, submit in forms.items():
        left[:] = (numpy.arange(COUNT, dtype=numpy.uint64) + numpy.uint64(number))[:, None]
        right[:] = 0
        begun = time.perf_counter()
        batch = submit()
        took = time.perf_counter() - begun
        result = batch.wait()
        best[name] = min(best.get(name, took), took)
        if name == "two lengths":
            assert result.bytes_completed == int(mixed.sum())
            assert (right[order, 0] == left[:, 0]).all() and (right[order[1:3], -1] == left[1:3, -1]).all()
            assert right[int(order[0]), -1] == 0
        else:
            assert result.bytes_completed == COUNT * SIZE and (right[order] == left).all(), name
del left, right
print(json.dumps({name: round(took * 1000, 3) for name, took in best.items()}))
