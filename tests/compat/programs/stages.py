"""Stages that hand refs to each other, and a large object that a thousand tasks read."""

import ray


@ray.remote
def load(uri): ...


@ray.remote
def transform(data):
    return [data]


@ray.remote
def score(data):
    return len(data)


@ray.remote
def pick(big, i):
    return big[i]


assert ray.get([score.remote(transform.remote(load.remote(uri))) for uri in ("a", "b", "c")]) == [1, 1, 1]
big = ray.put(list(range(50_000)))
assert ray.get([pick.remote(big, i) for i in range(1000)]) == list(range(1000))
print("ok")
