"""Hello: make a function remote, call it, and get the results.

Shows `@ray.remote`, `.remote()` and `ray.get`. `ray.init` starts a cluster on this machine that ends with the program.
"""

import ray


@ray.remote
def greet(name):
    return f"Hello, {name}!"


def main():
    ray.init(num_cpus=2)
    refs = [greet.remote(name) for name in ("Ada", "Grace", "Katherine")]
    greetings = ray.get(refs)
    assert greetings == ["Hello, Ada!", "Hello, Grace!", "Hello, Katherine!"]
    print(*greetings, sep="\n")


if __name__ == "__main__":
    main()
