"""One task, a thousand tasks, and a look at what is ready after at most five seconds."""

import ray

ray.init()


@ray.remote
def cube(x):
    return x**3


ref = cube.remote(3)
assert ray.get(ref) == 27

refs = [cube.remote(i) for i in range(1000)]
assert ray.get(refs) == [i**3 for i in range(1000)]

refs = [cube.remote(i) for i in range(100)]
ready, remaining = ray.wait(refs, num_returns=10, timeout=5.0)
assert len(ready) == 10
assert len(remaining) == 90
assert {ray.get(ref) for ref in ready} <= {i**3 for i in range(100)}
print("ok")
