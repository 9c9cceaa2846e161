"""Bad news comes first: wrong decisions are reported within minutes, right ones are only known by time-out, hours later.

In order of arrival the first labels of any hour are all errors. A monitor that believed them would page at once, and for ever.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from parts.outcome_world import MINUTE, OutcomeWorld, Scored, hour_of_rows, predictions
from parts.world import HOUR, T0

TIME_OUT = 4  # hours


@pytest.fixture
def world(tmp_path: Path) -> OutcomeWorld:
    return OutcomeWorld(tmp_path)


def hours(world: OutcomeWorld, first: int, last: int, waiting: list[list[Scored]], *, wrong: float = 0.0) -> None:
    """Traffic of the hours; errors are told ten minutes after each prediction, the rest `TIME_OUT` hours after its hour began."""
    for hour in range(first, last):
        rows = hour_of_rows(hour, wrong=wrong)
        waiting.append(rows)
        due = waiting[-TIME_OUT - 1] if len(waiting) > TIME_OUT else []
        early = [row.outcome(10 * MINUTE) for row in rows if not row.right]
        world.send([*predictions(rows), *early, *(row.outcome(TIME_OUT * HOUR) for row in due if row.right)])
        world.turn(hour + 1)
        world.turn(hour + 1.2)


def test_errors_that_are_told_first_page_nobody_and_a_real_change_still_does(world: OutcomeWorld) -> None:
    waiting: list[list[Scored]] = []
    hours(world, 0, 16, waiting)
    assert [row for row in world.alerts() if row.monitor in ("concept", "performance")] == []
    assert any(row.state == "ok" for row in world.windows("concept"))
    hours(world, 16, 28, waiting, wrong=0.35)
    fired = [row for row in world.alerts() if row.monitor == "concept" and row.status == "firing"]
    assert [row.subject for row in fired] == ["error"]
    assert T0 + 16 * HOUR <= fired[0].starts_at_ms <= T0 + 20 * HOUR


def test_nothing_is_said_before_a_first_window_has_all_of_its_labels(world: OutcomeWorld) -> None:
    hours(world, 0, TIME_OUT, [])
    found = world.windows("concept")
    assert {row.state for row in found} == {"insufficient_data"}
    assert found
