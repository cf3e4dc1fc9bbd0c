"""Tip 4: process results as they come, with `ray.wait` on what is left."""

import random
import time

import ray

ray.init(num_cpus=4)


@ray.remote
def work(x):
    time.sleep(random.uniform(0, 0.4))
    return x


def process(total, result):
    time.sleep(0.1)
    return total + result


total = 0
for result in ray.get([work.remote(x) for x in range(4)]):
    total = process(total, result)
assert total == 6

refs, total = [work.remote(x) for x in range(4)], 0
while refs:
    done, refs = ray.wait(refs)
    assert len(done) == 1
    total = process(total, ray.get(done[0]))
assert total == 6
print("ok")
