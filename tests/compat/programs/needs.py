"""Tasks and actors that say what they need: four CPUs and a GPU, on a machine that is told to have them."""

import ray

ray.init(num_cpus=4, num_gpus=1)


@ray.remote(num_cpus=4, num_gpus=1)
def train(data):
    return len(data), len(ray.get_gpu_ids())


@ray.remote(num_gpus=1)
class Predictor:
    def __init__(self):
        self.model = str.upper

    def predict(self, batch):
        return self.model(batch)


assert ray.get(train.remote([1, 2, 3])) == (3, 1)
predictor = Predictor.remote()
assert ray.get([predictor.predict.remote(batch) for batch in ("a", "b")]) == ["A", "B"]
print("ok")
