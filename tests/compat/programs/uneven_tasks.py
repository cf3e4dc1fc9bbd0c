"""One long task among short ones: in submission order it holds the others up, with `ray.wait` it comes last."""

import random
import time

import ray

times = [1.0] + [random.random() / 20 for _ in range(20)]


@ray.remote
def sleep_task(i):
    time.sleep(i)
    return i


assert [ray.get(ref) for ref in [sleep_task.remote(i) for i in times]] == times

processed = []
unfinished = [sleep_task.remote(i) for i in times]
while unfinished:
    finished, unfinished = ray.wait(unfinished, num_returns=1)
    processed.append(ray.get(finished[0]))
assert sorted(processed) == sorted(times)
assert processed[-1] == 1.0
print("ok")
