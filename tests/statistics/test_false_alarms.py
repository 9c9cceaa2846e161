"""The false-alarm budget on healthy traffic through the whole service; docs/statistics/false_alarms.md has more of it, from the same parts.

Seeds are fixed, so a failure is a change of the code, never bad luck.
"""

from __future__ import annotations

import pytest

from detectors.judge import Policy
from parts.healthy import QUARTER_HOURS, Fleet, play
from parts.traffic import reference, windows

pytestmark = pytest.mark.statistics


@pytest.mark.slow
def test_a_quarter_of_hourly_windows_pages_at_most_as_promised(tmp_path):
    told = play(tmp_path, Fleet(labels=False, close_hours=6, seed=1))
    assert told.judged["data"] == told.judged["prediction"] == told.judged["quality"] == QUARTER_HOURS
    assert len(told.pages) <= 1


@pytest.mark.slow
def test_several_models_that_were_promised_a_quarter_of_a_page_each_keep_it(tmp_path):
    """Four models for a quarter of a quarter: a quarter of a page is promised of all of it."""
    told = play(tmp_path, Fleet(models=4, hours=QUARTER_HOURS // 4, pages=0.25, labels=False, close_hours=6, seed=2))
    assert told.judged["data"] == told.judged["prediction"] == told.judged["quality"] == 4 * (QUARTER_HOURS // 4)
    assert not told.pages


@pytest.mark.slow
def test_labels_of_a_healthy_model_page_nobody(tmp_path):
    told = play(tmp_path, Fleet(hours=96, rows=250, close_hours=6, seed=3))
    assert told.windows["performance"] == told.windows["concept"] == 3 * 96  # of the whole and of two segments
    assert told.judged["performance"] > 3 * 80
    assert told.judged["concept"] > 3 * 60  # once the first windows have all of their labels
    assert not told.pages


def test_the_smallest_budget_mutes_nothing(tmp_path):
    """One page in 250 years: who moves by a standard deviation is paged in the first window all the same, and each model by itself."""
    fleet = Fleet(models=2, hours=30, pages=0.001, labels=False, seed=4, spoiled_from=26, spoiled_sd=1.0)
    told = play(tmp_path, fleet)
    assert {model for _, model in told.pages} == set(fleet.names)
    assert {(row.subject, row.starts_at_ms) for row in told.fired} == {("x1", fleet.spoiled_ms)}


@pytest.mark.parametrize(("n", "by"), [(1_000, 0.4), (5_000, 0.25)])
def test_a_shift_is_found_at_once_at_a_forty_eighth_of_the_level(n, by):
    """A promise of .25 and windows of five minutes."""

    def change(table):
        table["n07"] = table["n07"] + by

    judged = windows(reference(101), 108, n=n, count=20, change=change, policy=Policy(level_scale=1 / 48))
    assert sum("n07.distribution" in window.drifting("data") for window in judged) >= 14
