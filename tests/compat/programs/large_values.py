"""Large results: a list of them, a generator that streams them, and a generator with a fixed number of them."""

import numpy as np

import ray


@ray.remote(num_returns=3)
def values(count):
    return [np.random.randint(np.iinfo(np.int8).max, size=(10_000_000, 1), dtype=np.int8) for _ in range(count)]


@ray.remote
def generate(count):
    for i in range(count):
        yield np.random.randint(np.iinfo(np.int8).max, size=(10_000_000, 1), dtype=np.int8)
        print(f"value {i} is out")


assert [ray.get(ref).nbytes for ref in values.remote(3)] == [10_000_000] * 3
assert [ray.get(ref).nbytes for ref in generate.remote(3)] == [10_000_000] * 3
first, second, third = generate.options(num_returns=3).remote(3)
assert ray.get(third).shape == (10_000_000, 1)


@ray.remote
def parent(x):
    return ray.get([child.remote(x), child.remote(x + 1)])


@ray.remote
def child(x):
    return x * 2


assert ray.get(parent.remote(1)) == [2, 4]
print("ok")
