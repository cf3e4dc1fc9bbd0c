"""Sessions that start and end one after the other, as in the fixtures of test modules."""

import ray


@ray.remote
def double(x):
    return 2 * x


for _ in range(3):
    ray.init(num_cpus=2)
    assert ray.get(double.remote(4)) == 8
    ray.shutdown()
    assert not ray.is_initialized()
print("ok")
