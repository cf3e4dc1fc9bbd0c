"""Tip 1: get late. Submitting returns at once, getting each result at once runs the calls one by one."""

import time

import ray

ray.init(num_cpus=4)


@ray.remote
def rest(x):
    time.sleep(0.25)
    return x


ray.get([rest.remote(x) for x in range(4)])  # starts the workers

begin = time.time()
refs = [rest.remote(x) for x in range(4)]
assert all(isinstance(ref, ray.ObjectRef) for ref in refs)
assert time.time() - begin < 0.25
assert ray.get(refs) == [0, 1, 2, 3]

begin = time.time()
assert [ray.get(rest.remote(x)) for x in range(4)] == [0, 1, 2, 3]
assert time.time() - begin >= 1.0

begin = time.time()
assert ray.get([rest.remote(x) for x in range(4)]) == [0, 1, 2, 3]
assert time.time() - begin < 1.0
print("ok")
