"""Every program printed in the seed documents that needs one machine, and neither Data nor Tune nor a cloud."""

from __future__ import annotations

from .seed_block import Block, words

START = "import ray\nray.init(num_cpus=4)"
SLEEP_TASKS = """
import random
import time

import ray

@ray.remote
def sleep_task(i: int) -> int:
    time.sleep(i)
    return i
def post_processing_step(new_val: int):
    processed.append(new_val)
big_sleep_times = [25]
small_sleep_times = [random.random() for _ in range(20)]
SLEEP_TIMES = big_sleep_times + small_sleep_times
processed = []
"""

LOST_LINES = "imports, the decorator and the lines inside the functions that only wait were lost"
LOST_DECORATOR = "the decorator was lost"
CONTINUES = "continues the program before it"
NEW_LINE = "the text says which line of the program before replaces which"
NAMES = "the names that it uses are left to the reader"
GLUED = "indentation was lost and the last line runs into the text after it"

TIPS = [
    Block(
        "wait one second four times", "001", "results = [do_some_work(x) for x in range(4)]", printed=r"\[0, 1, 2, 3\]"
    ),
    Block(
        "submit without get",
        "001",
        "time.sleep(1) # Replace this is with work you need to do.",
        printed=r"(Object(Ref|ID)\(.*){4}",
    ),
    Block(
        "get too early",
        "001",
        "time.sleep(1) # Replace this is with work you need to do.",
        edits=(
            (
                "results = [do_some_work.remote(x) for x in range(4)]",
                "results = [ray.get(do_some_work.remote(x)) for x in range(4)]",
            ),
        ),
        reason=NEW_LINE,
        check="assert time.time() - start >= 4",
        printed=words(r"results = \[0, 1, 2, 3\]"),
    ),
    Block(
        "get late",
        "001",
        "time.sleep(1) # Replace this is with work you need to do.",
        edits=(
            (
                "results = [do_some_work.remote(x) for x in range(4)]",
                "results = ray.get([do_some_work.remote(x) for x in range(4)])",
            ),
        ),
        reason=NEW_LINE,
        check="assert 1 <= time.time() - start < 4",
        printed=words(r"results = \[0, 1, 2, 3\]"),
    ),
    Block(
        "tiny work in a loop",
        "001",
        "results = [tiny_work(x) for x in range(100000)]",
        check="assert results == list(range(100000))",
        printed="duration = ",
    ),
    Block(
        "tiny work as tasks",
        "001",
        "result_ids = [tiny_work.remote(x) for x in range(100000)]",
        check="assert results == list(range(100000))",
        printed="duration = ",
        limit_s=240,
    ),
    Block(
        "mega work",
        "001",
        "def mega_work(start, end):",
        check="assert sum(results, []) == list(range(100000))",
        printed="duration = ",
    ),
    Block(
        "overhead of a task",
        "001",
        "[ray.get(no_work.remote(x)) for x in range(num_calls)]",
        before="import time\nimport ray\n\nray.init(num_cpus = 4)",
        reason=CONTINUES,
        printed=r"per task overhead \(ms\) = \d",
    ),
    Block(
        "array by value",
        "001",
        "result_ids = [no_work.remote(a) for x in range(10)]",
        check="assert results == [None] * 10",
        printed="duration = ",
    ),
    Block(
        "array by ref",
        "001",
        "result_ids = [no_work.remote(a_id) for x in range(10)]",
        check="assert results == [None] * 10",
        printed="duration = ",
    ),
    Block("process all at the end", "001", "sum = process_results(data_list)", printed=words("result = 6")),
    Block("process as they come", "001", "sum = process_incremental(sum, ray.get", printed=words("result = 6")),
]

BOTTLENECK = [
    Block(
        "uneven tasks with get",
        "000",
        "result = ray.get(ref)  # Retrieve result in submission order.",
        first="def sleep_task",
        last="    post_processing_step(result)",
        before="import random\nimport time\nimport ray\nprocessed = []\n@ray.remote",
        edits=(
            ("    return i", "    time.sleep(i)\n    return i"),
            ("(new_val: int):", "(new_val: int):\n    processed.append(new_val)"),
        ),
        reason=LOST_LINES,
        check="assert processed == SLEEP_TIMES",
    ),
    Block(
        "uneven tasks with wait",
        "000",
        "finished, unfinished = ray.wait(unfinished, num_returns=1)",
        first="# Launch remote tasks.",
        last="    # Process the result.",
        before=SLEEP_TASKS,
        after="    post_processing_step(result)",
        reason=CONTINUES + "; the line below the last comment was lost",
        check="assert sorted(processed) == sorted(SLEEP_TIMES) and processed[-1] == 25",
    ),
]

GUIDE = [
    Block(
        "first steps",
        "002",
        "ready, remaining = ray.wait(refs, num_returns=10, timeout=5.0)",
        first="import ray",
        last="print(ray.get(ref))",
        levels="0000100000000001",
        cut="Resource requirements:",
        reason=GLUED,
        check=(
            "assert result == 16 and results == [x * x for x in range(1000)]\n"
            "assert (len(ready), len(remaining)) == (10, 990)"
        ),
        printed=r"^\d+$",
    ),
    Block(
        "cpus and a gpu",
        "002",
        "def train_model(data):",
        first="@ray.remote(num_cpus=4, num_gpus=1)",
        last="...Ray Actors",
        before="import ray\nray.init(num_cpus=4, num_gpus=1)",
        levels="0011",
        cut="Ray Actors",
        reason=GLUED + "; the machine is told that it has a GPU",
        check="assert ray.get(train_model.remote([1])) is None",
    ),
    Block(
        "counter",
        "002",
        "print(ray.get(counter.get.remote())) # 2",
        first="@ray.remote",
        last="print(ray.get(counter.get.remote()))",
        before="import ray",
        levels="0012122120000",
        reason=CONTINUES + "; " + GLUED,
        printed=r"^2$",
    ),
    Block(
        "model server",
        "002",
        "class ModelServer:",
        first="@ray.remote(max_concurrency=10)",
        last="return self.model(input_data)",
        before="import ray\ndef load_model(path):\n    return len",
        levels="001212",
        cut="The Object Store",
        reason=GLUED + "; " + NAMES,
        check=(
            "server = ModelServer.remote('model')\n"
            "assert ray.get([server.predict.remote('x' * n) for n in range(20)]) == list(range(20))"
        ),
    ),
    Block(
        "large array a hundred times",
        "002",
        "large_array = np.random.randn(10_000_000)",
        first="import numpy as np",
        last="refs = [process.remote(large_ref) for _ in range(100)]",
        before="import ray\n@ray.remote\ndef process(array):\n    return array.shape",
        cut="Without ray.put",
        edits=(("# Good: store once", "assert ray.get(refs) == [(10_000_000,)] * 100\n# Good: store once"),),
        reason="the last line runs into the text after it; " + NAMES + "; the first half is checked before the second",
        check="assert ray.get(refs) == [(10_000_000,)] * 100",
        limit_s=180,
    ),
    Block(
        "placement group",
        "002",
        'pg = placement_group([{"CPU": 4}] * 3, strategy="PACK")',
        first="from ray.util.placement_group",
        last="]Strategies",
        before=(
            "import ray\nray.init(num_cpus=12)\n"
            "@ray.remote(num_cpus=4)\nclass Worker:\n    def ping(self):\n        return 'pong'"
        ),
        cut="Strategies:",
        reason="the last line runs into the text after it; " + NAMES + "; the machine is told that it has 12 CPUs",
        check="assert ray.get([worker.ping.remote() for worker in workers]) == ['pong'] * 3\nplacement_group_table(pg)",
        needs="ray.util.placement_group",
    ),
    Block(
        "a million tasks and a thousand",
        "002",
        "refs = [tiny_task.remote(x) for x in range(1_000_000)]",
        first="# Bad: 1 million tasks",
        last="refs = [batch_task.remote(batch) for batch in batches]",
        before=(
            START + "\nitems = list(range(1_000_000))\ndef tiny_task_logic(x):\n    return x\n"
            "tiny_task = ray.remote(tiny_task_logic)"
        ),
        levels="00000100",
        cut="Actor bottlenecks:",
        edits=(("def batch_task", "@ray.remote\ndef batch_task"),),
        reason=GLUED + "; " + LOST_DECORATOR + "; " + NAMES,
        check="assert [x for batch in ray.get(refs) for x in batch] == items",
        limit_s=180,
        beyond_ray="a million tasks take about seven minutes there",
    ),
    Block(
        "fixture",
        "002",
        "def ray_context():",
        first="import pytest",
        last="ray.shutdown()",
        before="import ray",
        levels="000111",
        cut="Ignoring data locality:",
        reason=GLUED + "; the import stands further up; a fixture needs tests that use it",
        check=(
            "def test_first(ray_context):\n    assert ray.cluster_resources()['CPU'] == 2\n"
            "def test_second(ray_context):\n    assert ray.get(ray.remote(lambda: 5).remote()) == 5\n"
            "if __name__ == '__main__':\n    raise SystemExit(pytest.main([__file__, '-q', '-p', 'no:cacheprovider']))"
        ),
        printed="2 passed",
    ),
]

PATTERNS = [
    Block(
        "stages joined by refs",
        "003",
        "def load(uri): ...",
        first="@ray.remote",
        last="ray.get(results)",
        before="import ray\nuris = ['a', 'b', 'c']",
        reason=NAMES,
        check="assert ray.get(results) == [None] * 3",
    ),
    Block(
        "fan out",
        "003",
        "big = ray.put(load_dataset())",
        first="big = ",
        last="results = ",
        before=(
            "import ray\ndef load_dataset():\n    return list(range(100_000))\n"
            "@ray.remote\ndef process(data, i):\n    return data[i]"
        ),
        reason=NAMES,
        check="assert results == list(range(1000))",
    ),
    Block(
        "warm model",
        "003",
        "predictor = Predictor.remote()",
        first="@ray.remote(num_gpus=1)",
        last="ray.get([predictor",
        before="import ray\nray.init(num_gpus=1)\ndef load_model():\n    return len\nbatches = ['a', 'bb']",
        reason=NAMES + "; the machine is told that it has a GPU",
        check="assert ray.get([predictor.predict.remote(b) for b in batches]) == [1, 2]",
    ),
    Block(
        "pool of actors",
        "003",
        "pool = ActorPool([Predictor.remote() for _ in range(8)])",
        first="from ray.util import ActorPool",
        last="    ...",
        before=(
            "import ray\nray.init(num_cpus=8, num_gpus=8)\n@ray.remote(num_gpus=1)\nclass Predictor:\n"
            "    def predict(self, item):\n        return item * item\ninputs = list(range(40))\nseen = []"
        ),
        after="    seen.append(result)",
        reason=NAMES + "; the machine is told that it has eight GPUs; the loop's body is left to the reader",
        check="assert seen == [x * x for x in inputs]",
    ),
    Block(
        "bounded submission",
        "003",
        "done, pending = ray.wait(pending, num_returns=10)",
        first="pending = []",
        last="ray.get(pending)",
        before="import ray\nstream = range(500)\n@ray.remote\ndef process(item):\n    return item",
        reason=NAMES,
        check="assert len(pending) <= 100",
    ),
    Block(
        "batches",
        "003",
        "return [process(i) for i in items]",
        first="@ray.remote",
        last="results = ",
        before="import ray\nitems = list(range(1000))\ndef process(i):\n    return i + 1",
        reason=NAMES,
        check="assert sum(results, []) == list(range(1, 1001))",
    ),
]

ANALOGIES = [
    Block(
        "squares",
        "004",
        "futures = [square.remote(i) for i in range(4)]",
        first="import ray",
        last="# -> [0, 1, 4, 9]",
        edits=(("def square", "@ray.remote\ndef square"),),
        after="print(ray.get(futures))",
        reason=LOST_DECORATOR + ", and so was the line that prints the results",
        printed=r"^\[0, 1, 4, 9\]$",
    ),
    Block(
        "counter class",
        "004",
        "def get_counter(self):",
        first="import ray",
        last="        return self.value",
        edits=(("class Counter", "@ray.remote\nclass Counter"),),
        after="# Create an actor from this class.\ncounter = Counter.remote()",
        reason=LOST_DECORATOR + "; the line after it stands alone in the document",
        check="assert ray.get([counter.increment.remote(), counter.get_counter.remote()]) == [1, 1]",
    ),
    Block(
        "put one",
        "004",
        "object_ref = ray.put(y)",
        first="import ray",
        last="object_ref",
        check="assert ray.get(object_ref) == y",
    ),
    Block(
        "get one",
        "004",
        "assert ray.get(obj_ref) == 1",
        first="obj_ref = ",
        last="assert",
        before="import ray",
        reason=CONTINUES,
    ),
    Block(
        "get several",
        "004",
        "assert ray.get([ray.put(i) for i in range(3)]) == [0, 1, 2]",
        first="assert",
        last="assert",
        before="import ray",
        reason=CONTINUES,
    ),
    Block(
        "refs as arguments",
        "004",
        "def echo(a: int, b: int, c: int):",
        first="def echo",
        last="echo.remote(ray.put(1)",
        before="import ray\n@ray.remote",
        edits=(
            ("Now, we could simply call the remote function with literals:", "ray.get(echo.remote(1, 2, 3))"),
            ("And it'll work.", ""),
            ("You can also pass Ray Objects instead:", ""),
            (
                "echo.remote(ray.put(1), ray.put(2), ray.put(3))",
                "ray.get(echo.remote(ray.put(1), ray.put(2), ray.put(3)))",
            ),
        ),
        reason=LOST_DECORATOR + ", and so was the call with literals; the program must not end before its tasks",
        printed=r"1 2 3",
    ),
    Block(
        "nested refs",
        "004",
        "echo_and_get.remote([a, b, c])",
        first="import ray",
        last="#           values: [1, 2, 3]",
        edits=(
            ("def echo_and_get", "@ray.remote\ndef echo_and_get"),
            ("echo_and_get.remote([a, b, c])", "ray.get(echo_and_get.remote([a, b, c]))"),
        ),
        reason=LOST_DECORATOR + "; the program must not end before its task",
        printed=r"values: \[1, 2, 3\]",
    ),
    Block(
        "refs in a closure",
        "004",
        "print(ray.get([a, b, c]))",
        first="import ray",
        last="# -> prints [1, 2, 3]",
        edits=(("def print_via_capture", "@ray.remote\ndef print_via_capture"),),
        after="ray.get(print_via_capture.remote())",
        reason=LOST_DECORATOR + ", and so was the call",
        printed=r"\[1, 2, 3\]",
    ),
    Block(
        "large values",
        "004",
        "yield np.random.randint(",
        first="import numpy as np",
        last='        print(f"yielded return value {i}")',
        before="import ray",
        edits=(
            ("        for _ in range(num_returns)\n", "        for _ in range(num_returns)\n    ]\n"),
            ("dtype=np.int8\n        print", "dtype=np.int8)\n        print"),
            ("def large_values(", "@ray.remote(num_returns=2)\ndef large_values("),
            ("def large_values_generator(", "@ray.remote\ndef large_values_generator("),
        ),
        reason="decorators and closing brackets were lost",
        check=(
            "assert [ray.get(ref).shape for ref in large_values.remote(2)] == [(100_000_000, 1)] * 2\n"
            "assert [ray.get(ref).shape for ref in large_values_generator.remote(2)] == [(100_000_000, 1)] * 2\n"
            "fixed = large_values_generator.options(num_returns=2).remote(2)\n"
            "assert ray.get(fixed[1]).shape == (100_000_000, 1)"
        ),
        printed="yielded return value 1",
        limit_s=120,
    ),
]

BLOCKS = [*TIPS, *BOTTLENECK, *GUIDE, *PATTERNS, *ANALOGIES]
