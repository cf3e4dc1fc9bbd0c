"""A pipeline: process each result as soon as it is there, and keep the number of tasks under way small.

Shows `ray.wait`: it returns what is ready, so that a slow task holds nobody up, and a program that has a million items
to process submits the next one only when an earlier one is done.
"""

import time

import ray

MAX_IN_FLIGHT = 8


@ray.remote
def fetch(number):
    time.sleep(0.5 if number == 0 else 0.01)  # the first one is slow
    return number


@ray.remote
def square(number):
    return number * number


def process(numbers):
    """Yield the square of each number, in the order in which they are ready."""
    in_flight = []
    for number in numbers:
        if len(in_flight) >= MAX_IN_FLIGHT:
            ready, in_flight = ray.wait(in_flight, num_returns=1)
            yield from ray.get(ready)
        in_flight.append(square.remote(fetch.remote(number)))
        assert len(in_flight) <= MAX_IN_FLIGHT
    while in_flight:
        ready, in_flight = ray.wait(in_flight)
        yield from ray.get(ready)


def main():
    ray.init(num_cpus=4)
    results = list(process(range(60)))
    assert sorted(results) == [number * number for number in range(60)]
    assert results[0] != 0  # the slow first item held nobody up
    print(f"{len(results)} items; the slow first one came at place {results.index(0) + 1}")


if __name__ == "__main__":
    main()
