"""Choosing rows by name and pattern."""

import pytest

from rayd.bench.rowset import select

NAMES = ["1:1 actor calls async", "1:1 async-actor calls async", "tasks", "tasks async"]


def test_no_pattern_chooses_all() -> None:
    assert select(NAMES, []) == NAMES


def test_a_name_chooses_only_itself_even_when_others_contain_it() -> None:
    assert select(NAMES, ["tasks"]) == ["tasks"]


def test_a_part_chooses_every_name_that_contains_it_whatever_the_case() -> None:
    assert select(NAMES, ["ASYNC"]) == ["1:1 actor calls async", "1:1 async-actor calls async", "tasks async"]


def test_a_shell_pattern_must_match_the_whole_name() -> None:
    assert select(NAMES, ["1:1 a*"]) == NAMES[:2]
    with pytest.raises(LookupError):
        select(NAMES, ["actor*"])


def test_several_patterns_choose_in_the_order_of_the_rows() -> None:
    assert select(NAMES, ["tasks async", " 1:1 actor"]) == ["1:1 actor calls async", "tasks async"]


def test_a_pattern_without_a_match_is_an_error_that_lists_the_rows() -> None:
    with pytest.raises(LookupError, match=r"no row matches 'nothing'.*1:1 actor calls async"):
        select(NAMES, ["tasks", "nothing"])
