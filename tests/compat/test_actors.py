"""Actors: state, order of calls, handles, methods and the end of an actor."""

from __future__ import annotations

import gc
import os
import pickle

import pytest

import ray
from ray.exceptions import ActorDiedError, RayActorError

from .support import Gate, alive, gone, until, until_arrived, wait_at

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Counter:
    def __init__(self, start=0, *, step=1):
        self.value = start
        self.step = step

    def increment(self, by=None):
        self.value += self.step if by is None else by
        return self.value

    def get(self):
        return self.value

    def pid(self):
        return os.getpid()

    def fail(self):
        raise ValueError("as asked")

    def exit(self):
        ray.actor.exit_actor()

    def wait(self, gate):
        wait_at(gate, "waiting")
        return self.value


# --- state and calls -------------------------------------------------------------------------------------------------


def test_an_actor_keeps_its_state_between_calls():
    counter = Counter.remote()
    counter.increment.remote()
    counter.increment.remote()
    assert ray.get(counter.get.remote()) == 2


def test_the_constructor_takes_positional_keyword_and_default_arguments():
    assert ray.get(Counter.remote(10, step=5).increment.remote()) == 15
    assert ray.get(Counter.remote().increment.remote(by=3)) == 3


def test_refs_given_to_the_constructor_arrive_as_values():
    assert ray.get(Counter.remote(ray.put(7)).get.remote()) == 7


def test_two_actors_of_a_class_have_their_own_state_and_process():
    one, two = Counter.remote(), Counter.remote()
    one.increment.remote()
    assert ray.get([one.get.remote(), two.get.remote()]) == [1, 0]
    assert len({os.getpid(), *ray.get([one.pid.remote(), two.pid.remote()])}) == 3


def test_calls_from_one_caller_run_in_the_order_of_their_submission():
    counter = Counter.remote()
    assert ray.get([counter.increment.remote() for _ in range(500)]) == list(range(1, 501))


def test_a_call_waits_for_its_arguments_and_keeps_its_place_in_the_order():
    gate, counter = Gate.remote(), Counter.remote()

    @ray.remote
    def slow_ten():
        wait_at(gate)
        return 10

    first = counter.increment.remote(slow_ten.remote())
    second = counter.increment.remote(1)
    ray.get(gate.open.remote())
    assert ray.get([first, second]) == [10, 11]


def test_one_call_runs_at_a_time_by_default():
    gate, counter = Gate.remote(), Counter.remote()
    first, second = counter.wait.remote(gate), counter.wait.remote(gate)
    until_arrived(gate, 1)
    assert ray.wait([first, second], timeout=0.1) == ([], [first, second])
    assert ray.get(gate.arrived.remote()) == ["waiting"]
    ray.get(gate.open.remote())
    assert ray.get([first, second]) == [0, 0]


def test_results_of_one_actor_are_arguments_of_another():
    one, two = Counter.remote(1), Counter.remote(2)
    assert ray.get(two.increment.remote(one.get.remote())) == 3


def test_an_error_in_a_method_is_raised_and_the_actor_lives_on():
    counter = Counter.remote(4)
    with pytest.raises(ValueError):
        ray.get(counter.fail.remote())
    assert ray.get(counter.get.remote()) == 4


def test_an_error_in_the_constructor_is_an_error_of_every_call():
    @ray.remote
    class Broken:
        def __init__(self):
            raise ValueError("cannot be built")

        def ping(self):
            return "pong"

    broken = Broken.remote()
    for _ in range(2):
        with pytest.raises(ActorDiedError) as caught:
            ray.get(broken.ping.remote())
        assert "cannot be built" in str(caught.value)


def test_attributes_that_are_no_methods_are_not_reachable():
    counter = Counter.remote()
    with pytest.raises(AttributeError):
        _ = counter.value
    with pytest.raises(AttributeError):
        _ = counter.bogus


def test_calling_a_class_or_a_method_directly_is_refused():
    with pytest.raises(TypeError):
        Counter()
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.get()


@pytest.mark.parametrize(("args", "kwargs"), [((1, 2), {}), ((), {"bogus": 1})])
def test_arguments_that_do_not_fit_are_refused_at_the_call(args, kwargs):
    with pytest.raises(TypeError):
        Counter.remote(1, 2, 3)
    counter = Counter.remote()
    with pytest.raises(TypeError):
        counter.increment.remote(*args, **kwargs)


def test_inheriting_from_an_actor_class_is_refused():
    with pytest.raises(TypeError):

        class Derived(Counter):
            pass


def test_actor_classes_may_inherit_from_plain_classes_and_call_super():
    class Base:
        def __init__(self, name):
            self.name = name

        def greet(self):
            return f"I am {self.name}"

    @ray.remote
    class Derived(Base):
        def __init__(self):
            super().__init__("derived")

        def greet(self):
            return super().greet() + "!"

    assert ray.get(Derived.remote().greet.remote()) == "I am derived!"


def test_static_methods_class_methods_and_properties_follow_python():
    @ray.remote
    class Mixed:
        @staticmethod
        def static(x):
            return x + 1

        @classmethod
        def make(cls, x):
            return cls.__name__, x

    mixed = Mixed.remote()
    assert ray.get(mixed.static.remote(1)) == 2
    assert ray.get(mixed.make.remote(1)) == ("Mixed", 1)


def test_an_actor_without_a_constructor_can_be_made():
    @ray.remote
    class Simple:
        def ping(self):
            return "pong"

    assert ray.get(Simple.remote().ping.remote()) == "pong"


def test_remote_can_be_used_as_a_function_on_a_class():
    class Simple:
        def ping(self):
            return "pong"

    assert ray.get(ray.remote(Simple).remote().ping.remote()) == "pong"
    assert ray.get(ray.remote(num_cpus=0.5)(Simple).remote().ping.remote()) == "pong"


def test_an_actor_may_call_itself_by_its_own_handle():
    @ray.remote(max_concurrency=2)
    class Selfish:
        def outer(self, me):
            return ray.get(me.inner.remote()) + 1

        def inner(self):
            return 1

    actor = Selfish.remote()
    assert ray.get(actor.outer.remote(actor)) == 2


def test_an_actor_may_start_tasks_and_actors():
    @ray.remote
    class Boss:
        def __init__(self):
            self.workers = [Counter.remote(i) for i in range(2)]

        def total(self):
            double = ray.remote(lambda x: 2 * x)
            return sum(ray.get([double.remote(worker.get.remote()) for worker in self.workers]))

    assert ray.get(Boss.remote().total.remote()) == 2


def test_more_actors_than_cpus_can_live_because_waiting_costs_no_cpu():
    counters = [Counter.remote(i) for i in range(10)]
    assert ray.get([counter.get.remote() for counter in counters]) == list(range(10))


# --- methods ---------------------------------------------------------------------------------------------------------


def test_ray_method_sets_the_number_of_results():
    @ray.remote
    class Splitter:
        @ray.method(num_returns=2)
        def split(self):
            return "left", "right"

        @ray.method
        def whole(self):
            return "whole"

    splitter = Splitter.remote()
    left, right = splitter.split.remote()
    assert ray.get([left, right, splitter.whole.remote()]) == ["left", "right", "whole"]


def test_options_of_a_method_apply_to_one_call():
    @ray.remote
    class Pair:
        def pair(self):
            return 1, 2

        def name(self):
            return ray.get_runtime_context().get_task_name()

    actor = Pair.remote()
    assert ray.get(actor.pair.options(num_returns=2).remote()) == [1, 2]
    assert ray.get(actor.pair.remote()) == (1, 2)
    assert actor.pair.options(num_returns=0).remote() is None
    assert ray.get(actor.name.options(name="a display name").remote()) == "a display name"


def test_a_method_can_be_kept_in_a_variable():
    counter = Counter.remote()
    increment = counter.increment
    assert ray.get([increment.remote() for _ in range(3)]) == [1, 2, 3]


def test_every_actor_tells_when_it_is_ready():
    counter = Counter.remote()
    ray.get(counter.__ray_ready__.remote())
    assert ray.get(counter.get.remote()) == 0


def test_a_function_can_be_run_inside_an_actor():
    counter = Counter.remote(5)

    def peek(instance, factor):
        return instance.value * factor

    assert ray.get(counter.__ray_call__.remote(peek, 3)) == 15


# --- handles ---------------------------------------------------------------------------------------------------------


def test_a_handle_can_be_given_to_tasks_and_actors():
    @ray.remote
    def use(counter, n):
        return ray.get([counter.increment.remote() for _ in range(n)])[-1]

    @ray.remote
    class Holder:
        def __init__(self, counters):
            self.counters = counters

        def use(self):
            return ray.get(self.counters["main"].increment.remote())

    counter = Counter.remote()
    ray.get([use.remote(counter, 5) for _ in range(4)])
    assert ray.get(counter.get.remote()) == 20
    assert ray.get(Holder.remote({"main": counter}).use.remote()) == 21


def test_a_handle_can_be_stored_returned_and_captured():
    @ray.remote
    def make():
        counter = Counter.remote()
        ray.get(counter.increment.remote())
        return counter

    counter = ray.get(make.remote())
    stored = ray.get(ray.put([counter]))[0]
    captured = ray.remote(lambda: ray.get(counter.increment.remote()))
    assert ray.get(captured.remote()) == 2
    assert ray.get(stored.increment.remote()) == 3


def test_handles_of_one_actor_are_equal_and_hash_alike():
    counter = Counter.remote()
    copy = ray.get(ray.put(counter))
    assert copy == counter
    assert hash(copy) == hash(counter)
    assert len({copy, counter, Counter.remote()}) == 2


def test_a_handle_shows_its_class_id_and_methods():
    counter = Counter.remote()
    assert repr(counter) == f"Actor(Counter, {counter._actor_id.hex()})"
    assert {"increment", "get", "pid"} <= set(dir(counter))
    assert isinstance(counter, ray.actor.ActorHandle)


def test_a_handle_can_be_pickled_within_the_session():
    counter = Counter.remote(3)
    assert ray.get(ray.cloudpickle.loads(ray.cloudpickle.dumps(counter)).get.remote()) == 3
    assert ray.get(pickle.loads(pickle.dumps(counter)).get.remote()) == 3


def test_an_actor_knows_its_own_handle():
    @ray.remote
    class Node:
        def me(self):
            return ray.get_runtime_context().current_actor

        def ping(self):
            return "pong"

    node = Node.remote()
    me = ray.get(node.me.remote())
    assert me == node
    assert ray.get(me.ping.remote()) == "pong"


# --- the end ---------------------------------------------------------------------------------------------------------


def test_an_actor_ends_with_its_last_handle():
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    assert alive(pid)
    del counter
    gc.collect()
    until(lambda: gone([pid]))


def test_an_actor_lives_as_long_as_somebody_else_has_a_handle():
    @ray.remote
    class Holder:
        def keep(self, box):
            self.counter = box[0]

        def use(self):
            return ray.get(self.counter.increment.remote())

    holder, counter = Holder.remote(), Counter.remote()
    pid = ray.get(counter.pid.remote())
    ray.get(holder.keep.remote([counter]))
    del counter
    gc.collect()
    assert ray.get(holder.use.remote()) == 1
    assert alive(pid)
    ray.kill(holder)
    del holder
    until(lambda: gone([pid]))


def test_an_actor_finishes_what_was_asked_of_it_before_its_last_handle_went(tmp_path):
    @ray.remote
    class Writer:
        def write(self, name):
            (tmp_path / name).write_text("done")
            return name

    writer = Writer.remote()
    refs = [writer.write.remote(str(i)) for i in range(20)]
    del writer
    gc.collect()
    assert ray.get(refs) == [str(i) for i in range(20)]
    assert len(list(tmp_path.iterdir())) == 20


def test_a_call_on_a_temporary_handle_completes():
    assert ray.get(Counter.remote(3).get.remote()) == 3


def test_exit_actor_ends_the_actor_and_later_calls_say_so():
    counter = Counter.remote()
    pid = ray.get(counter.pid.remote())
    with pytest.raises(RayActorError):
        ray.get(counter.exit.remote())
    until(lambda: gone([pid]))
    with pytest.raises(RayActorError):
        ray.get(counter.get.remote())


def test_exit_actor_outside_of_an_actor_is_refused():
    with pytest.raises(TypeError):
        ray.actor.exit_actor()


def test_ray_terminate_ends_the_actor_after_the_calls_before_it():
    counter = Counter.remote()
    pid, before = ray.get(counter.pid.remote()), counter.increment.remote()
    counter.__ray_terminate__.remote()
    assert ray.get(before) == 1
    until(lambda: gone([pid]))


def test_results_of_an_actor_outlive_it():
    @ray.remote
    class Maker:
        def make(self):
            return [list(range(100_000))]

    maker = Maker.remote()
    large = maker.make.remote()
    assert len(ray.get(large)[0]) == 100_000
    ray.kill(maker)
    assert len(ray.get(large)[0]) == 100_000


def test_objects_put_by_an_actor_outlive_it():
    @ray.remote
    class Maker:
        def put(self):
            return [ray.put(b"survivor" * 100_000)]

        def pid(self):
            return os.getpid()

    maker = Maker.remote()
    box, pid = ray.get([maker.put.remote(), maker.pid.remote()])
    ray.kill(maker)
    until(lambda: gone([pid]))
    assert ray.get(box[0], timeout=10) == b"survivor" * 100_000
