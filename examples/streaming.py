"""Streaming: a remote generator delivers its results one by one, while it is still running.

Shows a generator task read in a plain loop and with `async for`, an item that is passed on to another task without
being fetched here, and a producer that waits because its consumer is slow.
"""

import asyncio
import time

import ray


@ray.remote
def read_lines(count):
    """Stands for a long file: each line takes a while."""
    for number in range(count):
        time.sleep(0.02)
        yield f"line {number}"


@ray.remote
def shout(line):
    return line.upper()


@ray.remote(_generator_backpressure_num_objects=2)
def produce(count):
    """At most two items are ahead of the consumer, however fast this loop is."""
    for number in range(count):
        yield number, time.monotonic()


async def read_asynchronously():
    return [await ref async for ref in read_lines.remote(5)]


def main():
    ray.init(num_cpus=4)

    begin = time.monotonic()
    stream = read_lines.remote(20)
    first = ray.get(next(stream))
    first_after = time.monotonic() - begin
    rest = [ray.get(shout.remote(ref)) for ref in stream]
    all_after = time.monotonic() - begin
    assert first == "line 0"
    assert rest == [f"LINE {number}" for number in range(1, 20)]
    assert first_after < all_after
    print(f"the first of 20 lines came after {first_after * 1000:.0f} ms, the last after {all_after * 1000:.0f} ms")

    assert asyncio.run(read_asynchronously()) == [f"line {number}" for number in range(5)]

    seen = []
    for ref in produce.remote(6):
        time.sleep(0.05)  # a slow consumer
        number, produced_at = ray.get(ref)
        assert number == len(seen)
        seen.append(produced_at)
    assert seen[-1] - seen[0] > 0.1  # the producer did not run ahead
    print("a slow consumer held its producer back")


if __name__ == "__main__":
    main()
