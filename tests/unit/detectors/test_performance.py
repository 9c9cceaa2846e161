from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from scipy.stats import binom

from detectors.finding import Monitor, Severity, State
from detectors.metrics.measured import Measured
from detectors.metrics.registry import METRICS, metrics
from detectors.performance import judge as performance
from detectors.performance.evidence import Comparison, evidence
from detectors.performance.judge import PerformancePolicy, judge_estimated, judge_performance
from detectors.performance.layout import performance_layout
from detectors.performance.profile import empty
from detectors.sentences import sentence
from parts.scored_rows import BinaryCells, predicted, profile_of

TENTH = BinaryCells(mean=-2.0, sd=4.88, threshold=0.5)  # 10 % of decisions are wrong
POLICY = PerformancePolicy()


@cache
def baseline(cells, seed=0):
    return cells.profile(cells.draw(np.random.default_rng(seed), 15_000, 1)[0])


def judge(cells, counts, **policy):
    found = judge_performance(cells.layout, baseline(cells), cells.profile(counts), PerformancePolicy(**policy))
    return {finding.subject: finding for finding in found}


def windows(cells, n, times, error=None, seed=1):
    chance = None if error is None else cells.with_error(error)
    return cells.draw(np.random.default_rng(seed), n, times, chance)


def test_the_model_of_these_tests_errs_in_a_tenth_of_its_decisions():
    assert TENTH.error == pytest.approx(0.1, abs=0.001)


def test_a_healthy_window_is_ok_in_every_metric():
    found = judge(TENTH, windows(TENTH, 5000, 1)[0])
    assert tuple(found) == METRICS["binary"]
    assert {finding.state for finding in found.values()} == {State.OK}
    assert {
        (f.check, f.rows, f.detail["source"], f.detail["labelled"], f.detail["coverage"]) for f in found.values()
    } == {("realised", 5000, "realised", 5000, 1.0)}


def test_five_points_more_errors_are_found_in_one_window_of_1000_labels():
    known = TENTH.profile(TENTH.expected(15_000))
    found = [
        {f.subject: f for f in judge_performance(TENTH.layout, known, TENTH.profile(counts), POLICY)}
        for counts in windows(TENTH, 1000, 200, 0.15)
    ]
    accuracy = np.mean([f["accuracy"].state is State.DRIFT for f in found])
    any_metric = np.mean([any(one.state is State.DRIFT for one in f.values()) for f in found])
    assert accuracy >= 0.55  # no test of wrong decisions that errs once in 100,000 windows finds more than 3 of 4
    assert any_metric >= 0.95
    hit = next(f["accuracy"] for f in found if f["accuracy"].state is State.DRIFT)
    assert hit.severity is Severity.CRITICAL
    assert hit.interval[1] < hit.threshold < hit.baseline
    assert hit.q_value <= performance.LEVEL
    seen = np.mean([f["accuracy"].smallest_visible for f in found])
    assert 0.84 < seen < 0.86  # what 4 of 5 windows would find lies about where 3 of 5 do


def test_150_errors_in_1000_rows_are_drift_of_accuracy_and_119_are_not():
    cells = BinaryCells(mean=0.0, sd=6.0, bins=20)
    known = cells.profile(exactly(cells, 20_000, 0.10))
    states = {}
    for errors in (0.119, 0.15):
        found = judge_performance(cells.layout, known, cells.profile(exactly(cells, 1000, errors)), POLICY)
        states[errors] = next(f.state for f in found if f.subject == "accuracy")
    assert states == {0.119: State.OK, 0.15: State.DRIFT}


def exactly(cells, n, error):
    """Counts with just that share of errors, the same in every bin."""
    rows = np.zeros((len(cells.score), 2), np.int64)
    wrong = round(n * error / len(rows))
    rows[np.arange(len(rows)), cells.decision] = n // len(rows) - wrong
    rows[np.arange(len(rows)), 1 - cells.decision] = wrong
    return rows


def test_what_is_within_the_tolerance_stays_silent_however_many_rows_prove_it():
    cells = BinaryCells(mean=0.0, sd=6.0, bins=20)
    known = cells.profile(exactly(cells, 1_000_000, 0.10))
    found = judge_performance(cells.layout, known, cells.profile(exactly(cells, 1_000_000, 0.104)), POLICY)
    accuracy = next(f for f in found if f.subject == "accuracy")
    assert accuracy.q_value <= performance.LEVEL
    assert accuracy.state is State.WARNING
    assert accuracy.severity is None
    assert accuracy.threshold == pytest.approx(0.895)
    assert sentence(accuracy).endswith("A warning only: it is not surely beyond what is tolerated.")


def test_healthy_windows_are_called_surely_worse_no_more_often_than_the_level_allows():
    """A level of 1 in 100,000 cannot be counted; that of 1 in 100 and in 1,000 can, and p-values are as honest further out or safer."""
    rare = BinaryCells(mean=-3.5, sd=1.5, threshold=0.3)
    worst = []
    for cells in (TENTH, rare, BinaryCells()):
        for seed in range(4):  # references differ too
            known = baseline(cells, seed)
            for n in (100, 300, 1000):
                for counts in windows(cells, n, 80, seed=seed * 10 + n):
                    found = judge_performance(cells.layout, known, cells.profile(counts), POLICY)
                    assert State.DRIFT not in {f.state for f in found}
                    worst.append(min(f.q_value for f in found if f.q_value is not None))
    times = len(worst)
    for level in (1e-2, 1e-3):
        assert sum(q <= level for q in worst) <= binom.ppf(0.999, times, level)


def test_a_window_without_spread_is_compared_with_that_of_the_reference():
    """With few positives and not one of them found MCC lies at 0 and its interval is far too narrow for what it was the window before."""
    pair = Comparison(
        name="mcc", value=0.0, low=0.0, high=0.0, baseline=0.3, baseline_low=0.25, baseline_high=0.35,
        rows=1_000.0, baseline_rows=16_000.0, tolerance=0.03,
    )  # fmt: skip
    assert evidence(pair, counted=True).error == pytest.approx(0.05 / 1.959964 * np.sqrt(16 + 1))
    assert evidence(replace(pair, high=0.4), counted=True).error == pytest.approx(0.05 / 1.959964 * np.sqrt(64 + 1))


def test_few_labels_are_not_judged():
    found = judge(TENTH, windows(TENTH, 99, 1)[0])
    assert {f.state for f in found.values()} == {State.INSUFFICIENT_DATA}
    assert sentence(found["accuracy"]) == "accuracy (realised): too little data: 99 labelled rows, 100 are needed."
    assert judge(TENTH, windows(TENTH, 99, 1)[0], min_labelled=50)["accuracy"].state is State.OK


def test_a_ratio_needs_rows_of_its_own():
    cells = BinaryCells(mean=-3.5, sd=1.5, threshold=0.3)
    found = judge(cells, windows(cells, 200, 1)[0])
    assert found["accuracy"].state is State.OK
    for name in ("precision", "recall", "roc_auc", "mcc", "balanced_accuracy"):
        assert found[name].state is State.INSUFFICIENT_DATA
        assert "30 are needed" in found[name].detail["reason"]


def test_a_window_without_rows_has_no_findings():
    assert judge_performance(TENTH.layout, baseline(TENTH), empty(TENTH.layout), POLICY) == []


def test_a_reference_without_labels_is_not_compared_with():
    found = judge_performance(TENTH.layout, empty(TENTH.layout), TENTH.profile(windows(TENTH, 500, 1)[0]), POLICY)
    assert {f.state for f in found} == {State.NOT_CONFIGURED}


def test_improvement_is_never_drift():
    found = judge(TENTH, windows(TENTH, 5000, 1, 0.02)[0])
    assert {found[name].state for name in ("accuracy", "f1", "mcc", "roc_auc", "log_loss", "brier")} == {State.OK}


def test_a_wider_tolerance_of_ones_own_is_kept_to():
    counts = windows(TENTH, 5000, 1, 0.15)[0]
    assert judge(TENTH, counts)["accuracy"].state is State.DRIFT
    assert judge(TENTH, counts, tolerances={"accuracy": 0.1})["accuracy"].state is State.WARNING


@pytest.mark.parametrize("wrong", [{"level_scale": 0.0}, {"level_scale": 2.0}, {"tolerances": {"acuracy": 0.1}}, {"tolerances": {"mae": -1.0}}, {"min_labelled": 0}])  # fmt: skip
def test_a_wrong_policy_is_refused(wrong):
    with pytest.raises(ValueError):
        PerformancePolicy(**wrong)


def regression(seed, n, error_sd=5.0, shift=0.0):
    rng = np.random.default_rng(seed)
    truth = rng.gamma(4.0, 10.0, n)
    return truth, truth + rng.normal(shift, error_sd, n)


TRUTH, VALUE = regression(0, 15_000)
NUMBERS = performance_layout(task="regression", predicted_value=VALUE, truth=TRUTH)
NUMBERS_BASE = profile_of(NUMBERS, predicted(15_000, score=VALUE), truth=TRUTH)


def judge_numbers(seed, n, **change):
    truth, value = regression(seed, n, **change)
    window = profile_of(NUMBERS, predicted(n, score=value), truth=truth)
    return {f.subject: f for f in judge_performance(NUMBERS, NUMBERS_BASE, window, POLICY)}


def test_errors_of_a_regression_are_found_and_health_is_not():
    for seed in range(150):
        assert State.DRIFT not in {f.state for f in judge_numbers(1000 + seed, 300).values()}
    found = judge_numbers(1, 1000, error_sd=6.5)
    assert (found["mae"].state, found["mae"].severity) == (State.DRIFT, Severity.CRITICAL)
    assert (found["rmse"].state, found["bias"].state) == (State.DRIFT, State.OK)
    assert found["r2"].severity is Severity.WARNING


@pytest.mark.parametrize("shift", [3.0, -3.0])
def test_bias_is_worse_to_either_side(shift):
    bias = judge_numbers(2, 1000, shift=shift)["bias"]
    assert bias.state is State.DRIFT
    assert np.sign(bias.threshold) == np.sign(shift)


def test_a_class_that_is_rare_in_this_window_does_not_move_means_over_classes():
    rng = np.random.default_rng(3)
    layout = performance_layout(task="multiclass", classes=("a", "b", "c"))

    def window(n, rare):
        y = rng.choice(3, n, p=[0.6 - rare, 0.4, rare])
        return profile_of(layout, predicted(n, decision=np.where(rng.random(n) < 0.9, y, (y + 1) % 3)), label=y)

    known = window(20_000, 0.05)
    found = {f.subject: f for f in judge_performance(layout, known, window(300, 0.005), POLICY)}
    assert found["accuracy"].state is State.OK
    assert found["recall"].state is State.INSUFFICIENT_DATA
    assert "of c, 10 are needed" in found["recall"].detail["reason"]
    assert found["log_loss"].state is State.NOT_CONFIGURED  # no scores
    whole = {f.subject: f for f in judge_performance(layout, known, window(3000, 0.05), POLICY)}
    assert whole["recall"].state is State.OK


def test_estimates_are_judged_with_their_own_intervals_and_never_critical():
    known = metrics(TENTH.layout, baseline(TENTH))["accuracy"].value
    window = TENTH.profile(windows(TENTH, 1000, 1)[0])
    low = Measured(value=known - 0.1, low=known - 0.12, high=known - 0.08, rows=1000, detail={"validity": "ok"})

    def state(estimate):
        (found,) = judge_estimated(TENTH.layout, baseline(TENTH), {"accuracy": estimate}, window, POLICY)
        return found.state, found.severity, found.detail["source"]

    assert state(low) == (State.DRIFT, Severity.WARNING, "estimated")
    assert state(replace(low, low=known - 0.25, high=known + 0.05))[0] is State.OK
    assert state(replace(low, detail={"validity": "outside the reference"}))[0] is State.INSUFFICIENT_DATA


def test_a_loss_is_told_in_words():
    found = judge(TENTH, windows(TENTH, 5000, 1, 0.15)[0])["accuracy"]
    low, high = found.interval
    expected = f"accuracy fell from {found.baseline:.3f} in the reference to {found.value:.3f} [{low:.3f}, {high:.3f}]"
    assert sentence(found) == f"{expected} (5,000 of 5,000 rows labelled)."
    fine = judge(TENTH, windows(TENTH, 5000, 1)[0])["accuracy"]
    assert sentence(fine).startswith(f"accuracy is {fine.value:.3f} [")
    assert f", {fine.baseline:.3f} in the reference" in sentence(fine)


def test_monitors_have_names():
    assert {str(Monitor.PERFORMANCE), str(Monitor.CONCEPT), str(Monitor.JOINT)} == {"performance", "concept", "joint"}
