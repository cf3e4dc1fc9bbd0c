"""`timeout_s`, which Ray does not have: how long one run of a task may take."""

import time

import pytest

import ray


@ray.remote
def rests(seconds):
    time.sleep(seconds)
    return "rested"


@ray.remote(timeout_s=0.2, max_retries=3)
def deaf():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            time.sleep(1)
        except KeyboardInterrupt:
            pass


@ray.remote
def ok():
    return "ok"


def test_a_task_that_takes_too_long_is_ended(cluster):
    with pytest.raises(ray.exceptions.TaskTimeoutError, match=r"rests .* timeout_s=0.2 .* Allow it more time"):
        ray.get(rests.options(timeout_s=0.2).remote(60), timeout=20)
    assert ray.get(ok.remote(), timeout=20) == "ok"


def test_a_task_in_time_is_not(cluster):
    assert ray.get([rests.options(timeout_s=20).remote(0.01) for _ in range(5)], timeout=30) == ["rested"] * 5


def test_one_that_does_not_listen_is_killed(cluster):
    with pytest.raises(ray.exceptions.TaskTimeoutError, match="deaf"):
        ray.get(deaf.remote(), timeout=20)


def test_one_that_waits_for_others_is_ended_too(cluster):
    @ray.remote(timeout_s=0.2, num_cpus=0)
    def waits(refs):
        return ray.get(refs[0])

    inner = rests.remote(60)
    with pytest.raises(ray.exceptions.TaskTimeoutError, match="waits"):
        ray.get(waits.remote([inner]), timeout=20)
    ray.cancel(inner)


@pytest.mark.parametrize("value", [0, -1, float("inf"), float("nan")])
def test_a_time_that_makes_no_sense_is_refused(value):
    with pytest.raises(ValueError, match="timeout_s"):
        rests.options(timeout_s=value)


def test_a_time_that_is_none_is_refused():
    with pytest.raises(TypeError, match="timeout_s"):
        rests.options(timeout_s="1s")
