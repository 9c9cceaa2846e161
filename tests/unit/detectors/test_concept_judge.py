from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.concept.judge import judge_concept, mean_interval
from detectors.concept.registry import ArrivalPane, Baseline, detector
from detectors.finding import Severity, State

HOUR = 3_600_000
BASELINE = Baseline(labels=4000, mean=0.19, bound=0.2, tolerance=0.05)
E_SR = detector("e_sr", BASELINE, {"guarantee_days": 30.0, "segments": 3})


def pane(k: int, labels: int, wrong: float) -> ArrivalPane:
    return ArrivalPane(start_ms=k * HOUR, end_ms=(k + 1) * HOUR, labels=labels, loss_sum=wrong, loss_squared=wrong)


def findings(panes, machine=E_SR, subject="error"):
    state, made = machine.start(), []
    for each in panes:
        state, verdict = machine.step(state, each)
        made.append(judge_concept(machine, verdict, each, subject=subject))
    return made


def test_a_healthy_pane_is_ok_with_all_its_numbers():
    (found,) = findings([pane(0, 500, 100.0)])
    assert (found.subject, found.check, found.state, found.severity) == ("error", "e_sr", State.OK, None)
    assert (found.value, found.baseline, found.unit, found.rows) == (0.2, 0.19, "share", 500)
    assert found.threshold == pytest.approx(0.21)
    wilson = stats.binomtest(100, 500).proportion_ci(method="wilson")
    assert found.interval == pytest.approx((wilson.low, wilson.high), rel=1e-12)
    detail = found.detail
    assert (detail["guarantee_days"], detail["segments"], detail["tolerance"]) == (30.0, 3, 0.05)
    assert (detail["reference_labels"], detail["thin_reference"], detail["onset_ms"]) == (4000, 1, None)
    assert detail["e_value"] > 0
    assert all(value is None or isinstance(value, float | int | str) for value in detail.values())


def test_trouble_is_drift_for_as_long_as_the_episode_is_open():
    made = findings([pane(0, 500, 100.0), pane(1, 500, 400.0), pane(2, 0, 0.0), pane(3, 5, 0.0), pane(4, 600, 100.0)])
    states = [found.state for found in made]
    assert states == [State.OK, State.DRIFT, State.DRIFT, State.DRIFT, State.OK]
    assert [found.severity for found in made] == [None, *[Severity.CRITICAL] * 3, None]
    assert [found.detail["onset_ms"] for found in made[1:]] == [HOUR] * 4
    assert made[2].value is None
    assert made[2].interval is None
    assert (made[3].detail["episode_labels"], made[3].detail["episode_loss"]) == (505, 400 / 505)


def test_an_alarm_is_a_warning_until_the_loss_itself_is_beyond_tolerance():
    made = findings([pane(k, 100, 26.0) for k in range(150)])
    drifting = [found for found in made if found.state is State.DRIFT]
    assert drifting[0].severity is Severity.WARNING  # 26 of 100 has an interval down to .18
    assert drifting[-1].severity is Severity.CRITICAL
    assert "warning" not in {found.severity for found in drifting[len(drifting) // 2 :]}


def test_too_few_labels_are_no_health():
    made = findings([pane(0, 20, 3.0), pane(1, 20, 3.0), pane(2, 20, 3.0), pane(3, 0, 0.0), pane(4, 1, 0.0)])
    few = State.INSUFFICIENT_DATA
    assert [found.state for found in made] == [few, few, State.OK, few, State.OK]
    assert made[0].detail["reason"] == "20 labels, 50 are needed"
    assert made[0].detail["needed"] == 50


def test_a_regressions_loss_has_a_normal_interval_and_its_own_name():
    rng = np.random.default_rng(1)
    x = 0.2 * rng.random(400)
    each = ArrivalPane(
        start_ms=0, end_ms=HOUR, labels=400, loss_sum=float(x.sum()), loss_squared=float((x * x).sum()), sequence=x
    )
    (found,) = findings([each], detector("adwin", BASELINE), "loss")
    assert (found.subject, found.check, found.unit) == ("loss", "adwin", "loss")
    half = 1.959964 * x.std(ddof=1) / 20
    assert found.interval == pytest.approx((x.mean() - half, x.mean() + half), rel=1e-6)
    assert found.detail["signals"] == 0


def test_intervals_at_the_edges():
    assert mean_interval(0, 0.0, 0.0, zero_one=True) is None
    assert mean_interval(1, 0.5, 0.25, zero_one=False) is None
    assert mean_interval(10, 0.0, 0.0, zero_one=True)[0] == 0.0
    assert mean_interval(10, 10.0, 10.0, zero_one=True)[1] == 1.0
    assert mean_interval(10, 0.0, 0.0, zero_one=False) == (0.0, 0.0)
