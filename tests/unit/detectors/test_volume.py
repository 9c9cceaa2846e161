from __future__ import annotations

import numpy as np
import pytest

from detectors.finding import Severity, State
from detectors.judge import Policy, judge_silence

DAY_MS = 86_400_000


def judge(rows, history, **keywords):
    return judge_silence(rows, list(history), Policy(), **keywords)


def daily(hours, low=0.2):
    """Rows an hour of a model that nearly sleeps at night, hour 0 first."""
    swing = low + (1 - low) * (1 - np.cos(2 * np.pi * np.arange(hours) / 24)) / 2
    return np.random.default_rng(1).poisson(400 * swing).tolist()


def test_rows_are_never_silence():
    for history in ([], [0] * 30, [1000] * 100):
        finding = judge(1, history)
        assert (finding.state, finding.value, finding.unit) == (State.OK, 1.0, "rows")
    assert judge(5, [10] * 30).baseline == 10


def test_no_row_where_there_always_were_many_is_critical():
    finding = judge(0, [900, 1100] * 12)
    assert (finding.state, finding.severity, finding.subject, finding.check) == (
        State.DRIFT,
        Severity.CRITICAL,
        "rows",
        "silence",
    )
    assert finding.baseline == 1000
    assert finding.p_value < 1e-6


@pytest.mark.parametrize("history", [[], [1000] * 23, [0] * 100], ids=["none", "a day less one hour", "always silent"])
def test_no_row_and_no_history_is_no_data(history):
    assert judge(0, history).state is State.NO_DATA


def test_daily_windows_need_a_week():
    assert judge(0, [1000, 1010, 990, 1000, 1005, 995], window_ms=DAY_MS).state is State.NO_DATA
    assert judge(0, [1000, 1010, 990, 1000, 1005, 995, 1000], window_ms=DAY_MS).state is State.DRIFT


def test_a_model_with_few_rows_may_have_none():
    history = np.random.default_rng(2).poisson(4, 168).clip(1).tolist()
    assert judge(0, history).state is State.NO_DATA


def test_a_model_that_has_paused_before_may_pause_again():
    assert judge(0, ([1000] * 40 + [0]) * 3 + [1000] * 40).state is State.NO_DATA


def test_silence_goes_on_while_it_lasts():
    for hours in (1, 5, 100):
        finding = judge(0, [1000] * 60 + [0] * hours)
        assert finding.state is State.DRIFT
        assert finding.detail["silent_windows"] == hours + 1


def test_a_silent_noon_is_found_though_nights_are_quiet():
    history = daily(24 * 6 + 12, low=0.004)
    assert min(history) <= 3
    assert judge(0, history).state is State.DRIFT
    night = daily(24 * 6, low=0.004)
    assert judge(0, night).state is State.NO_DATA


def test_a_silent_noon_is_found_though_there_is_no_row_at_night():
    history = [count if 6 <= i % 24 < 22 else 0 for i, count in enumerate(daily(24 * 6 + 12))]
    assert judge(0, history).state is State.DRIFT
    assert judge(0, history[: 24 * 5 + 3]).state is State.NO_DATA


def test_an_old_outage_blinds_the_hours_around_it_only():
    history = daily(24 * 6 + 12)
    history[12] = 0
    assert judge(0, history).state is State.NO_DATA
    history = daily(24 * 6 + 12)
    history[3] = 0
    assert judge(0, history).state is State.DRIFT


def test_the_false_alarm_budget_lowers_the_level():
    history = [20] * 30
    assert judge_silence(0, history, Policy()).state is State.DRIFT
    assert judge_silence(0, history, Policy(level_scale=1e-4)).state is State.NO_DATA
