"""No more than a hundred tasks under way, however many items there are."""

import ray


@ray.remote
def process(item):
    return item


pending, results = [], []
for item in range(1000):
    if len(pending) >= 100:
        done, pending = ray.wait(pending, num_returns=10)
        assert len(done) == 10
        results += ray.get(done)
    pending.append(process.remote(item))
    assert len(pending) <= 100
results += ray.get(pending)
assert sorted(results) == list(range(1000))
print("ok")
