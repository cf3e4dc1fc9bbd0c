"""An empty core for every test; at the test's end its invariants hold and nothing it asked for went unseen."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from rayd.core.node import Node
from world import World


@pytest.fixture
def new_world() -> Iterator[Callable[..., World]]:
    """Makes worlds; arguments as of ``World``."""
    made: list[World] = []

    def make(**options: Any) -> World:
        made.append(World(**options))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def world(new_world: Callable[..., World]) -> World:
    """A node with one CPU and nobody connected."""
    return new_world()


@pytest.fixture
def node(world: World) -> Node:
    """The core of ``world``."""
    return world.node
