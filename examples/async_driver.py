"""asyncio in the driver: refs are awaitables, so the tools of asyncio work on them.

Shows `await ref`, `asyncio.gather`, `asyncio.as_completed`, `asyncio.TaskGroup` and a timeout. The event loop goes on
while results are awaited: the ticker counts all the time.
"""

import asyncio
import time

import ray


@ray.remote
def square_after(seconds, x):
    time.sleep(seconds)  # stands for work
    return x * x


async def tick(ticks):
    while True:
        ticks.append(time.monotonic())
        await asyncio.sleep(0.01)


async def square_and_print(x):
    print(f"{x} squared is {await square_after.remote(0.1, x)}")


async def main():
    ticks = []
    ticker = asyncio.create_task(tick(ticks))

    assert await square_after.remote(0, 3) == 9

    squares = await asyncio.gather(*[square_after.remote(0, x) for x in range(8)])
    assert squares == [x * x for x in range(8)]

    slowest_first = [square_after.remote(0.4, 1), square_after.remote(0.2, 2), square_after.remote(0, 3)]
    in_order_of_completion = [await result for result in asyncio.as_completed(slowest_first)]
    assert sorted(in_order_of_completion) == [1, 4, 9]
    print("as they came:", in_order_of_completion)

    async with asyncio.TaskGroup() as group:
        for x in (10, 11, 12):
            group.create_task(square_and_print(x))

    too_slow = square_after.remote(0.5, 7)
    try:
        await asyncio.wait_for(too_slow, timeout=0.05)
    except TimeoutError:
        print("not ready within 50 ms; asking again")
    assert await too_slow == 49

    ticker.cancel()
    assert len(ticks) > 20
    print(f"the loop ticked {len(ticks)} times meanwhile")


if __name__ == "__main__":
    ray.init(num_cpus=4)
    asyncio.run(main())
