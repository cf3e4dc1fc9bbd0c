"""Named and detached actors, namespaces and `get_if_exists`."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

import ray
from ray.exceptions import ActorAlreadyExistsError

from .support import alive, gone, run_source, until

pytestmark = pytest.mark.usefixtures("cluster")


@ray.remote
class Clerk:
    def __init__(self, title="clerk"):
        self.title = title

    def get(self):
        return self.title

    def pid(self):
        return os.getpid()


def find(name, namespace=None):
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


def test_a_named_actor_is_found_by_its_name():
    clerk = Clerk.options(name="by name").remote("found")
    assert ray.get_actor("by name") == clerk
    assert ray.get(ray.get_actor("by name").get.remote()) == "found"


def test_a_named_actor_is_found_from_tasks_and_actors():
    clerk = Clerk.options(name="from below").remote("found")

    @ray.remote
    def look():
        return ray.get(ray.get_actor("from below").get.remote())

    assert ray.get(look.remote()) == "found"
    assert clerk


@pytest.mark.parametrize("name", ["nobody", "", None], ids=repr)
def test_a_name_that_nobody_has_is_a_value_error(name):
    with pytest.raises(ValueError):
        ray.get_actor(name)


def test_a_name_can_be_taken_only_once():
    clerk = Clerk.options(name="only one").remote("first")
    with pytest.raises(ActorAlreadyExistsError):
        Clerk.options(name="only one").remote("second")
    with pytest.raises(ValueError):
        Clerk.options(name="only one").remote("third")
    assert ray.get(clerk.get.remote()) == "first"


def test_get_if_exists_makes_the_actor_once_and_finds_it_afterwards():
    first = Clerk.options(name="shared", get_if_exists=True).remote("first")
    second = Clerk.options(name="shared", get_if_exists=True).remote("second")
    assert first == second
    assert ray.get(second.get.remote()) == "first"


def test_many_tasks_that_ask_for_the_same_actor_get_the_same_actor():
    @ray.remote
    def ask():
        return ray.get(Clerk.options(name="raced for", get_if_exists=True, lifetime="detached").remote().pid.remote())

    assert len(set(ray.get([ask.remote() for _ in range(8)]))) == 1
    ray.kill(ray.get_actor("raced for"))


def test_a_name_is_free_again_when_its_actor_was_killed():
    clerk = Clerk.options(name="reused").remote("first")
    assert ray.get(clerk.get.remote()) == "first"
    ray.kill(clerk)
    until(lambda: find("reused") is None)
    again = Clerk.options(name="reused").remote("second")
    assert ray.get(again.get.remote()) == "second"


def test_a_name_is_free_again_when_the_last_handle_is_gone():
    clerk = Clerk.options(name="left").remote()
    pid = ray.get(clerk.pid.remote())
    del clerk
    gc.collect()
    until(lambda: gone([pid]) and find("left") is None)


def test_a_handle_found_by_name_does_not_keep_the_actor():
    clerk = Clerk.options(name="borrowed").remote()
    borrowed = ray.get_actor("borrowed")
    pid = ray.get(borrowed.pid.remote())
    del clerk
    gc.collect()
    until(lambda: gone([pid]))


def test_namespaces_keep_names_apart():
    one = Clerk.options(name="same", namespace="one").remote("in one")
    two = Clerk.options(name="same", namespace="two").remote("in two")
    assert ray.get(ray.get_actor("same", namespace="one").get.remote()) == "in one"
    assert ray.get(ray.get_actor("same", "two").get.remote()) == "in two"
    with pytest.raises(ValueError):
        ray.get_actor("same")
    assert one != two


def test_a_detached_actor_outlives_its_handles():
    Clerk.options(name="detached", lifetime="detached").remote("still here")
    gc.collect()
    clerk = ray.get_actor("detached")
    pid = ray.get(clerk.pid.remote())
    del clerk
    gc.collect()
    assert ray.get(ray.get_actor("detached").get.remote()) == "still here"
    assert alive(pid)
    ray.kill(ray.get_actor("detached"))
    until(lambda: gone([pid]) and find("detached") is None)


DETACHING_DRIVER = """
import os, sys, ray
ray.init(address=sys.argv[1], namespace="office", log_to_driver=False)
@ray.remote
class Clerk:
    def get(self):
        return "left behind"
    def pid(self):
        return os.getpid()
kept = Clerk.options(name="kept", lifetime="detached").remote()
lost = Clerk.options(name="lost").remote()
print(*ray.get([kept.pid.remote(), lost.pid.remote()]))
"""


def test_a_detached_actor_outlives_its_driver_and_the_others_do_not(cluster, tmp_path: Path):
    address = cluster.address_info["address"]
    kept, lost = map(int, run_source(tmp_path, DETACHING_DRIVER, address).stdout.split())
    until(lambda: gone([lost]) and find("lost", "office") is None)
    clerk = ray.get_actor("kept", namespace="office")
    assert ray.get(clerk.get.remote()) == "left behind"
    assert alive(kept)
    ray.kill(clerk)
    until(lambda: gone([kept]))


def test_an_anonymous_namespace_belongs_to_one_driver(cluster, tmp_path: Path):
    address = cluster.address_info["address"]
    clerk = Clerk.options(name="hidden").remote()
    source = """
        import sys, ray
        ray.init(address=sys.argv[1], log_to_driver=False)
        try:
            ray.get_actor("hidden")
        except ValueError:
            print("not found")
    """
    assert run_source(tmp_path, source, address).stdout.strip() == "not found"
    assert ray.get(clerk.get.remote()) == "clerk"


def test_named_actors_can_be_listed():
    clerk = Clerk.options(name="listed", namespace="register").remote()
    ray.get(clerk.get.remote())
    everywhere = ray.util.list_named_actors(all_namespaces=True)
    assert {"name": "listed", "namespace": "register"} in everywhere
    assert "listed" not in ray.util.list_named_actors()
