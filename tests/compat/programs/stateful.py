"""An actor that counts, and one that answers ten callers at a time."""

import ray


@ray.remote
class Counter:
    def __init__(self):
        self.value = 0

    def increment(self):
        self.value += 1
        return self.value

    def get(self):
        return self.value


@ray.remote(max_concurrency=10)
class Server:
    def __init__(self, path):
        self.model = {"path": path}

    def predict(self, data):
        return self.model["path"], data


counter = Counter.remote()
counter.increment.remote()
counter.increment.remote()
assert ray.get(counter.get.remote()) == 2

server = Server.remote("weights")
assert ray.get([server.predict.remote(i) for i in range(50)]) == [("weights", i) for i in range(50)]
print("ok")
