"""Eight actors with a GPU each, and a pool that hands the next item to whichever is free."""

import ray
from ray.util import ActorPool

ray.init(num_cpus=8, num_gpus=8)


@ray.remote(num_gpus=1)
class Predictor:
    def predict(self, item):
        return -item


pool = ActorPool([Predictor.remote() for _ in range(8)])
results = list(pool.map(lambda actor, item: actor.predict.remote(item), range(50)))
assert results == [-item for item in range(50)]
print("ok")
