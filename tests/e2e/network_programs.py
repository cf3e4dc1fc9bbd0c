"""What runs on a cluster while its network is cut or its hosts fail; each program checks itself."""

# What there is to cross a network, in both directions. SIZE is that of the large objects in bytes.
CROSSES = """
    import hashlib

    import numpy as np
    import ray

    ray.init()
    far = ray.remote(resources={"far": 0.5}, num_cpus=0.5)
    size = SIZE
    data = np.random.default_rng(1).bytes(size)

    @far
    def node():
        return ray.get_runtime_context().get_node_id()

    @far
    def digest(data):
        return hashlib.sha256(data).hexdigest()

    @far
    def make(size):
        return np.random.default_rng(1).bytes(size)

    @far
    class Keeper:
        def __init__(self):
            self.kept = []
        def keep(self, *values):
            self.kept += values
            return len(self.kept)
        def last(self):
            return self.kept[-1]

    (there,) = [row["NodeID"] for row in ray.nodes() if row["Resources"].get("far")]
    assert set(ray.get([node.remote() for _ in range(20)])) == {there}
    assert ray.get(digest.remote(data)) == hashlib.sha256(data).hexdigest(), "it arrives as it was"
    stored = make.remote(size)
    assert ray.get(stored) == data, "and comes as it is"
    keeper = Keeper.remote()
    assert ray.get([keeper.keep.remote(i) for i in range(50)]) == list(range(1, 51)), "calls keep their order"
    assert ray.get(keeper.keep.remote(stored)) == 51
    assert ray.get(keeper.last.remote()) == data
    print("all crossed", flush=True)
"""

# Does small things, partly on a host that has the resource OTHER, until its stdin says that it is enough.
STEADY = """
    import sys, threading, time
    import ray

    ray.init()
    path = sys.argv[0]

    @ray.remote(max_retries=0, num_cpus=0.1)
    def task(i):
        with open(path + ".tasks", "a") as file:
            file.write(f"{i}\\n")
        time.sleep(0.02)
        return i

    @ray.remote(resources={"OTHER": 0.1}, num_cpus=0)
    class Counter:
        def __init__(self):
            self.count = 0
        def add(self):
            self.count += 1
            return self.count

    def listen():
        sys.stdin.readline()
        enough.set()

    there = task.options(resources={"OTHER": 0.1})
    counter = Counter.remote()
    enough = threading.Event()
    threading.Thread(target=listen, daemon=True).start()
    tasks, calls = [], []
    while not enough.wait(0.1):
        for chosen in (task, there):
            tasks.append(chosen.remote(len(tasks)))
        began = time.time()
        calls.append(counter.add.remote())
        if ray.wait([calls[-1], tasks[-1]], num_returns=2, timeout=0.1)[1] == []:
            print("answered", began, flush=True)
    assert ray.get(tasks, timeout=30) == list(range(len(tasks)))
    assert ray.get(calls, timeout=30) == list(range(1, len(calls) + 1))
    with open(path + ".tasks") as file:
        assert sorted(map(int, file)) == list(range(len(tasks))), "each has run once"
    print("all once", flush=True)
"""

# Moves large objects both ways without a pause, until its stdin says that it is enough.
MOVES = """
    import hashlib, sys, threading, time
    import numpy as np
    import ray

    ray.init()

    @ray.remote(max_retries=0, resources={"far": 0.1}, num_cpus=0.1)
    def make(seed):
        return np.random.default_rng(seed).bytes(20_000_000)

    @ray.remote(max_retries=0, resources={"far": 0.1}, num_cpus=0.1)
    def digest(data):
        return hashlib.sha256(data).hexdigest()

    def listen():
        sys.stdin.readline()
        enough.set()

    enough = threading.Event()
    threading.Thread(target=listen, daemon=True).start()
    expected = [hashlib.sha256(np.random.default_rng(seed).bytes(20_000_000)).hexdigest() for seed in range(3)]
    while not enough.is_set():
        for seed in range(3):
            began = time.time()
            data = ray.get(make.remote(seed))
            assert hashlib.sha256(data).hexdigest() == expected[seed]
            assert ray.get(digest.remote(data)) == expected[seed]
            print("answered", began, flush=True)
    print("all once", flush=True)
"""

# Has all kinds of things on the node with resource "far", and is told of each what becomes of it when that node goes.
FENCED = """
    import os, sys, threading, time
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init()
    here = ray.get_runtime_context().get_node_id()
    (there,) = [row["NodeID"] for row in ray.nodes() if row["Resources"].get("far")]
    rather_there = NodeAffinitySchedulingStrategy(there, soft=True)
    path = sys.argv[0]

    def note(name):
        with open(f"{path}.{name}", "a") as file:
            file.write(f"{os.getpid()} {time.time()}\\n")

    def noted(name):
        return open(f"{path}.{name}").readlines() if os.path.exists(f"{path}.{name}") else []

    def wait_for(name, count):
        while len(noted(name)) < count:
            time.sleep(0.02)
        return ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=0.1, scheduling_strategy=rather_there)
    def again():
        note("again")
        return wait_for("go", 1)

    @ray.remote(num_cpus=0.1, resources={"far": 0.1}, max_retries=0)
    def once():
        note("once")
        wait_for("go", 1)

    @ray.remote(num_cpus=1, resources={"near": 1})
    def fills():
        note("filled")
        wait_for("placed", 1)

    @ray.remote(num_cpus=0.5, max_restarts=1)
    class Beating:
        def __init__(self):
            threading.Thread(target=self.beat, daemon=True).start()
        def beat(self):
            while True:
                note("beats")
                time.sleep(0.02)
        def node(self):
            return ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=0.1, resources={"far": 0.1})
    class Fragile:
        def node(self):
            return ray.get_runtime_context().get_node_id()

    filling = fills.remote()  # so that the actor, which may run anywhere, has its first life on the other node
    wait_for("filled", 1)
    beating, fragile = Beating.remote(), Fragile.remote()
    assert ray.get([beating.node.remote(), fragile.node.remote()]) == [there, there]
    note("placed")
    ray.get(filling)
    retried, single = [again.remote() for _ in range(4)], once.remote()
    wait_for("again", 4)
    wait_for("once", 1)
    print("ready", flush=True)

    home = there  # of the actor, which is called all the time
    while home == there:
        try:
            home = ray.get(beating.node.remote())
        except ray.exceptions.ActorUnavailableError:
            pass
        time.sleep(0.02)
    assert home == here
    print("restarted", flush=True)
    try:
        ray.get(single)
    except ray.exceptions.NodeDiedError as error:
        print("once", error, flush=True)
    try:
        ray.get(fragile.node.remote())
    except ray.exceptions.ActorDiedError as error:
        print("fragile", " ".join(str(error).split()), flush=True)
    note("go")
    assert ray.get(retried) == [here] * 4
    print("again", flush=True)
    assert len(noted("once")) == 1 and len(noted("again")) == 8
"""

# Is told how a task on the other host ends.
RESTS = """
    import os, sys, time
    import ray

    ray.init()
    path = sys.argv[0] + ".pid"

    @ray.remote(resources={"far": 0.1}, max_retries=0)
    def rests():
        with open(path + ".new", "w") as file:
            print(os.getpid(), file=file)
        os.rename(path + ".new", path)
        time.sleep(3600)

    ref = rests.remote()
    while not os.path.exists(path):
        ray.wait([ref], timeout=0.02)
    print("resting", open(path).read(), flush=True)
    try:
        ray.get(ref)
    except ray.exceptions.WorkerCrashedError as error:
        print("told", " ".join(str(error).split()), flush=True)
"""

# A first task for a node that has just joined.
USES_FAR = """
    import ray

    ray.init()

    @ray.remote(resources={"far": 0.1})
    def wanted():
        return "used it"

    print(ray.get(wanted.remote()), flush=True)
"""

# Has an object of SIZE bytes, and a keeper on each other node, in the order of their addresses. Lines of stdin say what
# to do with a keeper: give it the object, wait until it has it, have it drop it and write something else in its place.
GIVES = """
    import hashlib, sys
    import numpy as np
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init()
    here = ray.get_runtime_context().get_node_id()

    @ray.remote(num_cpus=0.1)
    class Keeper:
        def keep(self, data):
            self.kept = data
            return hashlib.sha256(data).hexdigest()
        def drop(self):
            size = len(self.kept)
            self.kept = None
            self.others = [ray.put(np.zeros(size, np.uint8)) for _ in range(3)]

    others = sorted((row["NodeManagerAddress"], row["NodeID"]) for row in ray.nodes() if row["NodeID"] != here)
    places = [NodeAffinitySchedulingStrategy(node, soft=False) for _, node in others]
    keepers = [Keeper.options(scheduling_strategy=place).remote() for place in places]
    ray.get([keeper.keep.remote(b"ready") for keeper in keepers])
    data = np.random.default_rng(1).integers(0, 255, SIZE, np.uint8)
    right = hashlib.sha256(data).hexdigest()
    ref = ray.put(data)
    print("ready", flush=True)
    given = {}
    for line in sys.stdin:
        what, number = line.split()
        keeper = keepers[int(number)]
        if what == "give":
            given[number] = keeper.keep.remote(ref)
        elif what == "drop":
            ray.get(keeper.drop.remote())
        else:
            assert ray.get(given.pop(number)) == right, "it arrives as it was"
        print(what, number, "done", flush=True)
"""
