# SPDX-License-Identifier: Apache-2.0
"""Pages of a cache from one engine to another, by numpy arrays: from slots that the prefill side chose to those that
the decode side has free, for each layer. Both engines are in this process; elsewhere only the names differ."""

import numpy

import causeway

LAYERS, SLOTS, PAGE = 8, 1024, 4096  # bytes in a page: tokens in a page x heads x head size x bytes of a number

prefill, decode = causeway.Engine(), causeway.Engine()
caches = [numpy.random.default_rng(layer).integers(0, 256, (SLOTS, PAGE), dtype=numpy.uint8) for layer in range(LAYERS)]
sources = [prefill.register(cache) for cache in caches]
targets = [decode.allocate(SLOTS * PAGE) for _ in range(LAYERS)]
segment = prefill.open(decode.name)

# What the decode side would send along with its request: its addresses, and the slots that are free.
bases = [target.address for target in targets]
free = numpy.random.default_rng(1).permutation(SLOTS)[:300]
used = numpy.arange(300) * 3

# One batch for each layer; the message goes when the last of them is visible there.
batches = [
    prefill.write_pages(segment, source, base, PAGE, used, free) for source, base in zip(sources, bases)
]
done = prefill.submit([], after=batches, notify=causeway.Notify("request 17", b"ready", segment))
done.wait(timeout=30)
note = decode.wait_notification(timeout=30)

for cache, target in zip(caches, targets):
    there = numpy.frombuffer(target, dtype=numpy.uint8).reshape(SLOTS, PAGE)
    assert (there[free] == cache[used]).all()

# The same with an address for each page: any mixture of regions and lengths in one batch.
local = numpy.concatenate([numpy.uint64(source.address) + used.astype(numpy.uint64) * PAGE for source in sources])
remote = numpy.concatenate([numpy.uint64(base) + free.astype(numpy.uint64) * PAGE for base in bases])
result = prefill.write(segment, local, remote, PAGE).wait(timeout=30)
print(f"{note.name}: {note.data.decode()}, {result.bytes_completed >> 20} MiB in {len(local)} pages")
