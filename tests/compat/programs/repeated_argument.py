"""Tip 3: the same large argument again and again, by value and as a ref to what was put once."""

import numpy as np

import ray

ray.init(num_cpus=4)


@ray.remote
def look(array):
    return array.shape, float(array[-1, -1])


array = np.ones((1000, 2000))
expected = [((1000, 2000), 1.0)] * 10
assert ray.get([look.remote(array) for _ in range(10)]) == expected
ref = ray.put(np.ones((1000, 2000)))
assert ray.get([look.remote(ref) for _ in range(10)]) == expected
print("ok")
