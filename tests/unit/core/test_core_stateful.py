"""The core under random but legal sequences of everything that drivers, workers and processes do.

Every step checks all invariants of ``rayd.core.check``. At the end everybody answers: whatever was asked for has to
come, and whatever was released has to be gone.
"""

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from play import DOINGS, Play, play


class CoreMachine(RuleBasedStateMachine):
    """One rule for each doing; Hypothesis draws what it needs and shrinks what fails."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Play()

    def teardown(self) -> None:
        self.stage.finale()


def _rule_for(doing: Callable[[Play, Random], None]) -> Callable[..., None]:
    def do(self: CoreMachine, rng: Random) -> None:
        doing(self.stage, rng)
        self.stage.carry_out()

    do.__name__ = doing.__name__
    return rule(rng=st.randoms(use_true_random=False))(do)


for _doing in DOINGS:
    setattr(CoreMachine, _doing.__name__, _rule_for(_doing))

TestCore = CoreMachine.TestCase
TestCore.settings = settings(
    max_examples=40,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.parametrize("seed", range(8))
def test_a_long_play_ends_with_everything_answered_and_nothing_left(seed: int) -> None:
    play(seed, steps=400)
