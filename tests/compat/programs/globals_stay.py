"""Global variables belong to their process: what a task changes is not seen here."""

import ray

register = []


@ray.remote
def note(x):
    register.append(x)
    return len(register)


assert ray.get([note.remote(i) for i in range(4)])
assert register == []
print("ok")
