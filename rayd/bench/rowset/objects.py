"""Rows about objects: get and put of small values, put of large arrays, many refs in one object.

The arrays are filled, not zero: pages of zeros that nobody wrote are all the same page, and copying them measures the
cache; nor would a check tell a copied zero from a page that was never written.
"""

from __future__ import annotations

import statistics

from .measure import Bench, memcpy_seconds
from .row import CPUS_MANY_CLIENTS, Result, Row, check, row

MEBI = 1024 * 1024
GB = 1e9
#: Eight-byte numbers in the arrays of the two rows: 839 MB and 84 MB.
LARGE_ITEMS = 100 * MEBI
MEDIUM_ITEMS = 10 * MEBI
#: Calls before the rows of large arrays are measured: a store is several times slower until all of the memory that it
#: goes through has been touched once, by each process that maps it.
LARGE_WARM_PUTS = 20
MULTI_WARM_ROUNDS = 5
#: Putting tasks, and what each puts.
PUTTERS = 10
SMALL_PUTS = 100
MEDIUM_PUTS = 10
REFS_IN_OBJECT = 10_000


@row("single client get calls", "calls/s")
def get_calls(bench: Bench) -> Result:
    """Get one small stored value again and again; num_cpus=2."""
    ray = bench.ray
    ref = ray.put(0)

    def work() -> None:
        check(holds=ray.get(ref) == 0, what="ray.get gave another value than was put")

    return Result(bench.rate(work))


@row("single client put calls", "calls/s")
def put_calls(bench: Bench) -> Result:
    """Put a small integer again and again, dropping each ref; every thousandth is read back; num_cpus=2."""
    ray = bench.ray
    done = 0

    def work() -> None:
        nonlocal done
        ref = ray.put(done)
        if done % 1000 == 0:
            check(holds=ray.get(ref) == done, what="ray.get gave another value than was put")
        done += 1

    return Result(bench.rate(work))


@row("multi client put calls", "calls/s", cpus=CPUS_MANY_CLIENTS)
def multi_client_put_calls(bench: Bench) -> Result:
    """Ten tasks put 100 small integers each and read the last back; counted in puts; num_cpus=8."""
    ray, puts = bench.ray, bench.size(SMALL_PUTS)

    def put_many(amount: int) -> int:
        for index in range(amount):
            ref = ray.put(index)
        return int(ray.get(ref))

    task = ray.remote(put_many)

    def work() -> None:
        last = ray.get([task.remote(puts) for _ in range(PUTTERS)])
        check(holds=last == [puts - 1] * PUTTERS, what=f"the putting tasks read back {last}")

    return Result(bench.rate(work, PUTTERS * puts))


@row("single client put GB/s", "GB/s")
def put_gigabytes(bench: Bench) -> Result:
    """Put an array of 839 MB again and again, dropping each ref; the last is compared in full; num_cpus=2.

    Beside it the memcpy of the same array into memory written before, in the same process: ``memcpy_gb_s``, and
    ``memcpy_share`` = put / memcpy.
    """
    import numpy as np

    ray = bench.ray
    array = np.arange(bench.size(LARGE_ITEMS), dtype=np.int64)
    samples = bench.rate(lambda: ray.put(array), array.nbytes / GB, warm_calls=LARGE_WARM_PUTS)
    stored = ray.get(ray.put(array))
    check(holds=bool(np.array_equal(stored, array)), what="the stored array differs from the one that was put")
    del stored
    memcpy = array.nbytes / GB / memcpy_seconds(array)
    return Result(samples, {"memcpy_gb_s": memcpy, "memcpy_share": statistics.median(samples) / memcpy})


@row("multi client put GB/s", "GB/s", cpus=CPUS_MANY_CLIENTS)
def multi_client_put_gigabytes(bench: Bench) -> Result:
    """Ten tasks make an array of 84 MB each, put it ten times and check the ends of the last copy; num_cpus=8."""
    ray, items = bench.ray, bench.size(MEDIUM_ITEMS)

    def put_arrays(length: int, puts: int) -> bool:
        import numpy as np

        array = np.full(length, 7, dtype=np.int64)
        for _ in range(puts):
            ref = ray.put(array)
        stored = ray.get(ref)
        return len(stored) == length and stored[0] == stored[length // 2] == stored[-1] == 7

    task = ray.remote(put_arrays)

    def work() -> None:
        right = ray.get([task.remote(items, MEDIUM_PUTS) for _ in range(PUTTERS)])
        check(holds=all(right), what="a task read back another array than it put")

    return Result(bench.rate(work, PUTTERS * MEDIUM_PUTS * items * 8 / GB, warm_calls=MULTI_WARM_ROUNDS))


@row("get object containing 10k refs", "calls/s")
def get_object_of_refs(bench: Bench) -> Result:
    """Get, again and again, the one object in which a task returned 10 000 refs of small values; num_cpus=2."""
    ray, count = bench.ray, bench.size(REFS_IN_OBJECT)

    def put_refs(amount: int) -> list[object]:
        return [ray.put(1) for _ in range(amount)]

    ref = ray.remote(put_refs).remote(count)

    def work() -> None:
        check(holds=len(ray.get(ref)) == count, what=f"the object does not hold {count} refs")

    samples = bench.rate(work)
    inner = ray.get(ref)
    check(holds=ray.get([inner[0], inner[-1]]) == [1, 1], what="an inner ref has another value than was put")
    return Result(samples)


ROWS: tuple[Row, ...] = (
    get_calls,
    put_calls,
    multi_client_put_calls,
    put_gigabytes,
    multi_client_put_gigabytes,
    get_object_of_refs,
)
