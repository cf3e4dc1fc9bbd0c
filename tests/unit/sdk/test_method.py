"""The decorator ``@ray.method``."""

import pytest

from ray._method import ATTRIBUTE, method


def test_it_attaches_options_and_leaves_the_function_alone():
    def plain(self):
        return 1

    decorated = method(num_returns=2, concurrency_group="io")(plain)
    assert decorated is plain
    options = getattr(plain, ATTRIBUTE)
    assert (options.num_returns, options.concurrency_group) == (2, "io")
    assert ATTRIBUTE == "__ray_method_options__"


def test_it_works_with_empty_parentheses_and_with_none():
    @method
    def alone(self):
        return 1

    @method()
    def empty(self):
        return 1

    assert getattr(alone, ATTRIBUTE) is getattr(empty, ATTRIBUTE)


def test_generator_methods_stream():
    @method(max_task_retries=1)
    def items(self):
        yield 1

    @method
    async def async_items(self):
        yield 1

    assert getattr(items, ATTRIBUTE).num_returns == "streaming"
    assert getattr(async_items, ATTRIBUTE).num_returns == "streaming"


def test_an_unknown_option_names_the_valid_ones():
    with pytest.raises(AssertionError, match=r"'num_return' for @ray\.method\. Did you mean 'num_returns'"):
        method(num_return=2)
    with pytest.raises(AssertionError) as caught:
        method(name="x")
    valid = str(caught.value).split("Valid ones are: ")[1]
    assert valid.startswith("concurrency_group, enable_task_events, max_task_retries, num_returns")


def test_what_is_no_decorator_is_refused():
    with pytest.raises(AssertionError, match="above a method"):
        method(lambda self: 1, num_returns=2)
    with pytest.raises(AssertionError, match="above a method"):
        method(2)


def test_wrong_values_are_refused_where_they_are_written():
    with pytest.raises(ValueError, match="negative"):
        method(num_returns=-1)
    with pytest.raises(TypeError, match="concurrency_group"):
        method(concurrency_group=1)
    with pytest.raises(ValueError, match="no yield"):
        method(num_returns="streaming")(lambda self: 1)
