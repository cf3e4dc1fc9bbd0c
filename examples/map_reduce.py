"""Map-reduce: count words in many texts at once, then add the counts up in a tree.

Shows that a ref can be an argument: each merge starts by itself as soon as its two parts are there, and the partial
counts go from worker to worker without passing through this program.
"""

from collections import Counter

import ray

POEM = """
She walks in beauty, like the night
Of cloudless climes and starry skies;
And all that's best of dark and bright
Meet in her aspect and her eyes;
"""


@ray.remote
def count_words(text):
    return Counter(text.lower().replace(",", " ").replace(";", " ").split())


@ray.remote
def merge(left, right):
    return left + right


def reduce_in_a_tree(refs):
    """Merge neighbours until one ref is left; their order does not matter, because addition is commutative."""
    while len(refs) > 1:
        paired = [merge.remote(left, right) for left, right in zip(refs[::2], refs[1::2], strict=False)]
        refs = paired + refs[len(paired) * 2 :]
    return refs[0]


def main():
    ray.init(num_cpus=4)
    texts = [POEM] * 100
    total = ray.get(reduce_in_a_tree([count_words.remote(text) for text in texts]))
    assert total["and"] == 400
    assert sum(total.values()) == 100 * len(POEM.replace(",", " ").replace(";", " ").split())
    print("the most frequent words:", total.most_common(3))


if __name__ == "__main__":
    main()
