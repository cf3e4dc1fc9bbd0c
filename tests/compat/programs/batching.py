"""A thousand small items in batches of 128, and a hundred batches of a hundred."""

import ray


def improve(item):
    return item + 1


@ray.remote
def process_batch(batch):
    return [improve(item) for item in batch]


items = list(range(1000))
batches = [items[i : i + 128] for i in range(0, len(items), 128)]
results = ray.get([process_batch.remote(batch) for batch in batches])
assert [item for batch in results for item in batch] == list(range(1, 1001))

items = list(range(10_000))
refs = [process_batch.remote(items[i : i + 100]) for i in range(0, len(items), 100)]
assert sum(map(sum, ray.get(refs))) == sum(range(1, 10_001))
print("ok")
