"""Tip 2: many tiny tasks, the same work in batches, and the time of a task that does nothing."""

import time

import ray

ray.init(num_cpus=4)


def nap(x):
    time.sleep(0.0001)
    return x


nap_task = ray.remote(nap)


@ray.remote
def nap_often(start, end):
    return [nap(x) for x in range(start, end)]


@ray.remote
def nothing(x):
    return x


refs = [nap_task.remote(x) for x in range(5000)]
assert ray.get(refs) == list(range(5000))

refs = []
[refs.append(nap_often.remote(x * 100, (x + 1) * 100)) for x in range(50)]
assert [x for part in ray.get(refs) for x in part] == list(range(5000))

begin = time.time()
assert [ray.get(nothing.remote(x)) for x in range(300)] == list(range(300))
print("a task takes", (time.time() - begin) * 1000 / 300, "ms")
print("ok")
