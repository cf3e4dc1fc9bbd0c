"""Actors: objects that live in a process of their own and keep their state between calls.

Shows an account that serves its calls one by one, handles that are given to tasks, a name under which others find
the actor, and an async actor that serves many callers at once.
"""

import asyncio

import ray


@ray.remote
class Account:
    def __init__(self, owner):
        self.owner = owner
        self.balance = 0

    def deposit(self, amount):
        self.balance += amount
        return self.balance

    def statement(self):
        return f"{self.owner} has {self.balance}"


@ray.remote
def pay_in(account, amount, times):
    """Runs elsewhere and uses the same account through its handle."""
    for _ in range(times):
        account.deposit.remote(amount)
    return ray.get(account.statement.remote())


@ray.remote
class Lobby:
    """Its coroutines wait for each other: everybody leaves when the last guest has come."""

    def __init__(self, expected):
        self.missing = expected
        self.everybody_is_here = asyncio.Event()

    async def enter(self, guest):
        self.missing -= 1
        if not self.missing:
            self.everybody_is_here.set()
        await self.everybody_is_here.wait()
        return guest


def main():
    ray.init(num_cpus=4)

    account = Account.remote("Ada")
    assert ray.get(account.deposit.remote(10)) == 10
    ray.get([pay_in.remote(account, 1, 100) for _ in range(4)])
    assert ray.get(account.statement.remote()) == "Ada has 410"
    print(ray.get(account.statement.remote()))

    savings = Account.options(name="savings").remote("Grace")
    ray.get(ray.get_actor("savings").deposit.remote(5))
    assert ray.get(savings.statement.remote()) == "Grace has 5"

    lobby = Lobby.remote(expected=50)
    guests = ray.get([lobby.enter.remote(i) for i in range(50)])
    assert guests == list(range(50))
    print(f"{len(guests)} guests left together")


if __name__ == "__main__":
    main()
