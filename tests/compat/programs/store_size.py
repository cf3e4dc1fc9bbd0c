"""An object store of the size that was asked for, and one large object for a hundred tasks."""

import numpy as np

import ray

ray.init(num_cpus=2, object_store_memory=1024**3)


@ray.remote
def process(array):
    return float(array.sum())


assert abs(ray.cluster_resources()["object_store_memory"] - 1024**3) < 0.01 * 1024**3
large = ray.put(np.ones(1_000_000))
assert ray.get([process.remote(large) for _ in range(100)]) == [1e6] * 100
print("ok")
