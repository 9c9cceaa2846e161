"""Which window a model with little traffic needs, and how it is told."""

from __future__ import annotations

import pytest

from detectors.drift.pool import judge_pool, length
from detectors.finding import State
from detectors.sentences import sentence

HOUR = 3_600_000
DAY = 24 * HOUR


def test_the_smallest_sensible_window_that_would_hold_enough() -> None:
    finding = judge_pool(31, span_ms=7 * DAY, min_rows=200)
    assert (finding.subject, finding.check, finding.state, finding.rows) == (
        "window",
        "pool",
        State.INSUFFICIENT_DATA,
        31,
    )
    assert (finding.detail["rows_a_day"], finding.detail["suggested_window"]) == (4.43, "60d")
    assert sentence(finding) == (
        "window (pool): only 31 rows in 7d, and distributions are judged from 200 on: "
        "set window.max to 60d, or watch this model in windows of 60d."
    )


@pytest.mark.parametrize(
    ("rows", "span_ms", "suggested"),
    [
        (100, 7 * DAY, "14d"),  # exactly enough
        (99, 7 * DAY, "30d"),
        (199, 7 * DAY, "14d"),
        (50, HOUR, "6h"),
        (100, 36 * HOUR, "3d"),
        (4, 7 * DAY, "365d"),
        (3, 7 * DAY, None),
    ],
)
def test_the_rate_decides(rows: int, span_ms: int, suggested: str | None) -> None:
    assert judge_pool(rows, span_ms=span_ms, min_rows=200).detail["suggested_window"] == suggested


def test_where_no_window_helps_it_says_so() -> None:
    text = sentence(judge_pool(1, span_ms=7 * DAY, min_rows=200))
    assert text.startswith("window (pool): only 1 row in 7d")
    assert "not even a year" in text
    assert "window.min_rows" in text


def test_lengths_are_written_as_in_a_configuration() -> None:
    assert [length(ms) for ms in (7 * DAY, 36 * HOUR, 90 * 60_000, 45_000)] == ["7d", "36h", "90m", "45s"]
