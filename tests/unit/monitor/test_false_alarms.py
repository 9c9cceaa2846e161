"""The false-alarm budget: what a promise does to the error rates, and that it never raises or mutes them."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.config import load_config
from monitor.false_alarms import Budget, budgets_of, promised

HOUR, MINUTE, DAY = 3_600_000, 60_000, 86_400_000
PAGES = st.floats(1e-3, 1e4)
WINDOWS = st.sampled_from([MINUTE, 5 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY])


@pytest.mark.parametrize(
    ("pages", "window_ms", "versions", "scale"),
    [
        (1.0, HOUR, 1, 1.0),  # what was measured
        (1.0, 5 * MINUTE, 1, 1 / 12),
        (0.25, HOUR, 1, 0.25),
        (0.25, 5 * MINUTE, 1, 1 / 48),
        (1.0, HOUR, 2, 0.5),
        (0.25, DAY, 1, 1.0),  # a twenty-fourth of the windows makes up for a quarter of the pages
        (4.0, HOUR, 1, 1.0),
    ],
)
def test_levels_are_lowered_in_proportion_and_never_raised(pages, window_ms, versions, scale):
    assert Budget(pages_per_quarter=pages, window_ms=window_ms).level_scale(versions) == pytest.approx(scale)


@given(PAGES, PAGES, WINDOWS, st.integers(1, 50))
def test_a_smaller_promise_and_more_versions_are_never_judged_less_strictly(pages, more, window_ms, versions):
    small, large = sorted((pages, more))
    one = Budget(pages_per_quarter=small, window_ms=window_ms)
    other = Budget(pages_per_quarter=large, window_ms=window_ms)
    assert 0.0 < one.level_scale(versions) <= other.level_scale(versions) <= 1.0
    assert one.level_scale(versions + 1) <= one.level_scale(versions)
    assert one.guarantee_days >= other.guarantee_days >= 90.0


def test_concept_keeps_its_promise_of_time_whatever_the_window():
    assert Budget(pages_per_quarter=0.25, window_ms=5 * MINUTE).guarantee_days == 360.0
    assert Budget(pages_per_quarter=3.0, window_ms=DAY).guarantee_days == 90.0


@pytest.mark.parametrize("wrong", [{"pages_per_quarter": 0.0}, {"pages_per_quarter": float("nan")}, {"window_ms": 0}])
def test_a_budget_that_mutes_is_refused(wrong):
    with pytest.raises(ValueError, match="greater than 0"):
        Budget(**wrong)


def test_a_rotation_is_shared_by_the_fleet_and_a_models_own_promise_holds_where_it_is_smaller():
    weeks = 91.25 / 7
    assert promised(own=1.0, rotation_pages_per_week=None, models=500) == 1.0
    assert promised(own=1.0, rotation_pages_per_week=2.0, models=100) == pytest.approx(2 * weeks / 100)
    assert promised(own=0.1, rotation_pages_per_week=2.0, models=100) == 0.1


def test_promises_come_from_the_configuration(tmp_path):
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "r.parquet")
    model = {"reference": {"path": "r.parquet"}, "window": "1h"}
    path = tmp_path / "driftline.yaml"
    models = {"a": model, "b": {**model, "false_alarms": {"pages_per_quarter": 0.25}, "window": "5m"}}
    path.write_text(
        json.dumps({"models": models, "false_alarms": {"pages_per_quarter": 2, "rotation_pages_per_week": 0.1}})
    )
    found = budgets_of(load_config(path))
    assert found["a"].pages_per_quarter == pytest.approx(0.1 * 91.25 / 7 / 2)
    assert (found["b"].pages_per_quarter, found["b"].window_ms) == (0.25, 5 * MINUTE)
