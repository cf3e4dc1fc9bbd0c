"""Refs: put and got, one and several, as arguments, inside arguments, in a closure, and in an actor."""

import ray

y = 1
object_ref = ray.put(y)
assert ray.get(object_ref) == 1
assert ray.get([ray.put(i) for i in range(3)]) == [0, 1, 2]


@ray.remote
def echo(a: int, b: int, c: int):
    """Gives its arguments back."""
    print(a, b, c)
    return a, b, c


@ray.remote
def echo_and_get(refs):
    print("args:", refs)
    return [type(ref).__name__ for ref in refs], ray.get(refs)


assert ray.get(echo.remote(1, 2, 3)) == (1, 2, 3)
assert ray.get(echo.remote(ray.put(1), ray.put(2), ray.put(3))) == (1, 2, 3)

a, b, c = ray.put(1), ray.put(2), ray.put(3)
assert ray.get(echo_and_get.remote([a, b, c])) == (["ObjectRef"] * 3, [1, 2, 3])


@ray.remote
def capture():
    return ray.get([a, b, c])


assert ray.get(capture.remote()) == [1, 2, 3]


@ray.remote
class Reader:
    def read(self, value, refs):
        return value, ray.get(refs)


assert ray.get(Reader.remote().read.remote(a, [b, c])) == (1, [2, 3])
print("ok")
