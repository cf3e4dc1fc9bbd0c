"""The floors and the verdicts on them."""

from rayd.bench import pool_rows
from rayd.bench.floors import FLOORS, Floor, Limit, Verdict, verdicts
from rayd.bench.rowset import ROWS


def test_every_floor_and_every_row_of_the_pool_belongs_to_a_row() -> None:
    units = {row.name: row.unit for row in ROWS}
    assert set(FLOORS) <= set(units)
    assert {row.name: row.unit for row in pool_rows.ROWS}.items() <= units.items()


def test_every_floor_against_the_pool_has_a_row_of_the_pool() -> None:
    counterparts = {row.name for row in pool_rows.ROWS}
    assert {name for name, floor in FLOORS.items() if floor.pool is not None} == counterparts


def test_rows_have_different_names_that_can_be_listed_with_commas_and_say_what_they_do() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "," in name or name != name.strip()]
    assert not [row.name for row in ROWS if not row.about]


def test_rows_with_a_session_state_its_cpus() -> None:
    assert not [row.name for row in ROWS if row.cpus is not None and f"num_cpus={row.cpus}" not in row.about]


def test_a_floor_is_kept_when_it_is_reached_exactly() -> None:
    floor = Floor(ray=8, pool=1)
    assert verdicts(floor, 100.0, {}, 8.0, 1.5) == [
        Verdict("8.00 x ray, floor 8.00", kept=True),
        Verdict("1.50 x pool, floor 1.00", kept=True),
    ]


def test_a_floor_is_missed_below_it() -> None:
    assert verdicts(Floor(ray=8), 100.0, {}, 7.99, None) == [Verdict("7.99 x ray, floor 8.00", kept=False)]


def test_a_floor_whose_figure_was_not_measured_is_not_judged() -> None:
    floor = Floor(ray=8, pool=1, limits=(Limit("speedup", ">=", 2.5), Limit("", "<=", 12.0)))
    assert verdicts(floor, None, {}, None, None) == []


def test_limits_bound_the_value_and_the_figures_beside_it_from_their_side() -> None:
    floor = Floor(limits=(Limit("", "<=", 12.0), Limit("share", ">=", 0.65)))
    assert [one.kept for one in verdicts(floor, 12.0, {"share": 0.65}, None, None)] == [True, True]
    assert [one.kept for one in verdicts(floor, 12.1, {"share": 0.64}, None, None)] == [False, False]
    assert [one.text for one in verdicts(floor, 12.1, {"share": 0.64}, None, None)] == [
        "value 12.1, must be <= 12.0",
        "share 0.64, must be >= 0.65",
    ]
