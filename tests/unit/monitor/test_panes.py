"""The pool for models with little traffic, held against a slow restatement of the rule."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from monitor.closing.panes import PaneCount, Run, correction_horizon_ms, pane_start, pooled_runs, versions_at
from monitor.store import PaneKey

HOUR = 3_600_000


def runs(rows: list[int | None], *, min_rows: int = 200, max_hours: int = 24, references: str = "") -> list[Run]:
    """One pane an hour; None is an hour without rows."""
    panes = [PaneCount(i * HOUR, n, references[i] if references else "r") for i, n in enumerate(rows) if n is not None]
    return pooled_runs(panes, size_ms=HOUR, min_rows=min_rows, max_ms=max_hours * HOUR)


def spans(found: list[Run]) -> list[tuple[int, int, int, bool]]:
    return [(run.start_ms // HOUR, run.end_ms // HOUR, run.rows, run.full) for run in found]


def test_small_windows_are_pooled_until_they_hold_enough() -> None:
    assert spans(runs([90, 90, 90, 90, 90, 90])) == [(0, 3, 270, True), (3, 6, 270, True)]


def test_a_window_with_enough_rows_is_judged_alone_and_discards_the_pool() -> None:
    assert spans(runs([90, 90, 500, 90, 90, 90])) == [(3, 6, 270, True)]


def test_empty_hours_lie_inside_a_run() -> None:
    assert spans(runs([100, None, None, 150])) == [(0, 4, 250, True)]


def test_a_pool_as_long_as_allowed_ends_without_enough() -> None:
    assert spans(runs([10, 10, 10, 10, 10, 10], max_hours=3)) == [(0, 3, 30, False), (3, 6, 30, False)]


def test_an_old_pool_does_not_reach_beyond_its_longest() -> None:
    assert spans(runs([50, 50, None, None, 150, 60], max_hours=3)) == [(0, 2, 100, False), (4, 6, 210, True)]


def test_a_new_reference_starts_a_new_pool() -> None:
    assert spans(runs([90, 90, 90, 90, 90], references="rrsss")) == [(2, 5, 270, True)]


def test_horizon_is_a_day_or_seven_windows() -> None:
    assert correction_horizon_ms(HOUR) == 24 * HOUR
    assert correction_horizon_ms(24 * HOUR) == 7 * 24 * HOUR


def test_panes_before_1970_are_aligned_too() -> None:
    assert pane_start(-1, HOUR) == -HOUR


counts = st.lists(st.one_of(st.none(), st.integers(1, 260)), max_size=40)


@given(counts, st.integers(2, 30))
def test_runs_do_not_overlap_and_hold_only_small_panes(rows: list[int | None], max_hours: int) -> None:
    found = runs(rows, max_hours=max_hours)
    assert all(one.end_ms <= other.start_ms for one, other in itertools.pairwise(found))
    for run in found:
        members = [rows[start // HOUR] or 0 for start in run.starts_ms]
        assert sum(members) == run.rows
        assert all(member < 200 for member in members)
        assert run.end_ms - run.start_ms <= max_hours * HOUR
        assert run.full == (run.rows >= 200)


@given(counts, counts)
def test_later_panes_never_change_a_decided_run(first: list[int | None], more: list[int | None]) -> None:
    assert spans(runs(first + more))[: len(runs(first))] == spans(runs(first))


def test_versions_with_rows_enough_to_be_judged_are_counted_once_and_there_is_always_one() -> None:
    rows = {("1", "r", 0): 500, ("2", "r", 0): 50, ("2", "s", 0): 60, ("3", "r", 0): 49, ("3", "r", HOUR): 2}
    panes = [(PaneKey("churn", version, reference, start), n) for (version, reference, start), n in rows.items()]
    assert versions_at(panes, 50) == {0: 2, HOUR: 1}
