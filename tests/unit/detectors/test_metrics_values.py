from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from detectors.metrics.registry import BETTER, METRICS, metrics, reliability_curve
from detectors.performance.layout import performance_layout
from detectors.performance.profile import empty
from parts.scored_rows import BinaryCells, predicted, profile_of


def binary_rows(n, seed=1, mean=-1.5):
    rng = np.random.default_rng(seed)
    z = rng.normal(mean, 1.5, n)
    score = 1 / (1 + np.exp(-z))
    return score, (rng.random(n) < score).astype(int)


BINARY = performance_layout(task="binary", classes=("no", "yes"), score=binary_rows(20_000, seed=0)[0])


def weights(kind, n):
    rng = np.random.default_rng(7)
    return {"none": None, "dyadic": rng.choice([1.0, 2.0, 0.5], n), "any": rng.gamma(2.0, 1.0, n)}[kind]


def sklearn_binary(y, d, score, w):
    of_decisions = {
        "accuracy": sk.accuracy_score, "balanced_accuracy": sk.balanced_accuracy_score, "precision": sk.precision_score,
        "recall": sk.recall_score, "f1": sk.f1_score, "mcc": sk.matthews_corrcoef, "kappa": sk.cohen_kappa_score,
    }  # fmt: skip
    expected = {name: score_of(y, d, sample_weight=w) for name, score_of in of_decisions.items()}
    expected["specificity"] = sk.recall_score(y, d, pos_label=0, sample_weight=w)
    expected["log_loss"] = sk.log_loss(y, score, sample_weight=w)
    expected["brier"] = sk.brier_score_loss(y, score, sample_weight=w)
    return expected


@pytest.mark.parametrize(("kind", "tolerance"), [("none", 1e-12), ("dyadic", 1e-12), ("any", 1e-8)])
def test_binary_metrics_equal_those_of_scikit_learn(kind, tolerance):
    score, y = binary_rows(4_000)
    d, w = score >= 0.4, weights(kind, 4_000)
    found = metrics(BINARY, profile_of(BINARY, predicted(4_000, score=score, decision=d, weight=w), label=y))
    assert tuple(found) == METRICS["binary"]
    for name, value in sklearn_binary(y, d, score, w).items():
        assert found[name].value == pytest.approx(value, abs=tolerance), name
    auc = found["roc_auc"]
    assert abs(auc.value - sk.roc_auc_score(y, score, sample_weight=w)) <= auc.detail["bin_bound"] + 1e-9
    assert all(measure.low <= measure.value <= measure.high for measure in found.values())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([-4.0, -2.0, 0.0]), st.integers(50, 3000))
def test_areas_lie_within_the_published_bound_of_those_of_the_rows(seed, mean, n):
    score, y = binary_rows(n, seed, mean)
    if not 0 < y.sum() < n:
        return
    found = metrics(BINARY, profile_of(BINARY, predicted(n, score=score), label=y))
    for name, expected in (("roc_auc", sk.roc_auc_score(y, score)), ("pr_auc", sk.average_precision_score(y, score))):
        assert abs(found[name].value - expected) <= found[name].detail["bin_bound"] + 1e-12
    assert found["accuracy"].value is None  # nothing was decided


def test_areas_are_within_1e_4_and_1e_3_of_those_of_the_rows_on_the_average_window():
    apart = []
    for seed in range(20):
        score, y = binary_rows(5_000, seed)
        found = metrics(BINARY, profile_of(BINARY, predicted(5_000, score=score), label=y))
        apart.append(
            (
                found["roc_auc"].value - sk.roc_auc_score(y, score),
                found["pr_auc"].value - sk.average_precision_score(y, score),
            )
        )
    assert np.abs(apart).mean(axis=0)[0] < 1e-4
    assert np.abs(np.mean(apart, axis=0)[1]) < 1e-3  # no bias; step sums on the same bins are about .004 low


@pytest.mark.parametrize("weight", ["none", "dyadic"])
def test_ties_are_exact(weight):
    rng = np.random.default_rng(3)
    score = rng.choice([0.1, 0.2, 0.7, 0.9], 2_000)
    y, w = rng.random(2_000) < score, weights(weight, 2_000)
    layout = performance_layout(task="binary", classes=("no", "yes"), score=score)
    found = metrics(layout, profile_of(layout, predicted(2_000, score=score, weight=w), label=y))
    assert found["roc_auc"].value == pytest.approx(sk.roc_auc_score(y, score, sample_weight=w), abs=1e-12)
    assert found["pr_auc"].value == pytest.approx(sk.average_precision_score(y, score, sample_weight=w), abs=1e-12)


def classes_rows(n, classes, seed=1):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, classes)) * 1.5 - 0.3 * np.arange(classes)
    scores = np.exp(z)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores, np.minimum((scores.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1), classes - 1)


def test_multiclass_metrics_equal_those_of_scikit_learn():
    scores, y = classes_rows(4_000, 4)
    layout = performance_layout(task="multiclass", classes=tuple("abcd"), scores=scores)
    d, w = scores.argmax(axis=1), weights("dyadic", 4_000)
    found = metrics(layout, profile_of(layout, predicted(4_000, scores=scores, decision=d, weight=w), label=y))
    assert tuple(found) == METRICS["multiclass"]
    expected = {
        "accuracy": sk.accuracy_score(y, d, sample_weight=w),
        "balanced_accuracy": sk.balanced_accuracy_score(y, d, sample_weight=w),
        "mcc": sk.matthews_corrcoef(y, d, sample_weight=w),
        "kappa": sk.cohen_kappa_score(y, d, sample_weight=w),
        "log_loss": sk.log_loss(y, scores, sample_weight=w),
        "brier": sk.brier_score_loss(y, scores, sample_weight=w),
    }
    for name, of in (("precision", sk.precision_score), ("recall", sk.recall_score), ("f1", sk.f1_score)):
        expected[name] = of(y, d, average="macro", sample_weight=w)
        assert found[name].detail["weighted"] == pytest.approx(of(y, d, average="weighted", sample_weight=w), abs=1e-12)
        assert found[name].detail["class.c"] == pytest.approx(of(y, d, average=None, sample_weight=w)[2], abs=1e-12)
    for name, value in expected.items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name
    auc = found["roc_auc"]
    apart = auc.value - sk.roc_auc_score(y, scores, multi_class="ovr", sample_weight=w)
    assert abs(apart) <= auc.detail["bin_bound"]
    assert abs(apart) < 1e-4


def test_a_class_that_does_not_occur_is_left_out_and_not_counted_as_0():
    d, y = np.array([0, 0, 1, 1, 0, 1] * 20), np.array([0, 0, 1, 0, 1, 1] * 20)
    layout = performance_layout(task="multiclass", classes=tuple("abc"))
    found = metrics(layout, profile_of(layout, predicted(120, decision=d), label=y))
    assert found["recall"].value == pytest.approx(sk.recall_score(y, d, average="macro"))
    assert found["precision"].value == pytest.approx(sk.precision_score(y, d, average="macro"))
    assert found["recall"].detail["class.c"] is None


@pytest.mark.parametrize("kind", ["none", "dyadic"])
def test_regression_metrics_equal_those_of_scikit_learn(kind):
    rng = np.random.default_rng(5)
    truth = rng.gamma(3.0, 10.0, 3_000)
    value, w = truth * rng.normal(1.02, 0.2, 3_000), weights(kind, 3_000)
    layout = performance_layout(task="regression", predicted_value=value, truth=truth)
    found = metrics(layout, profile_of(layout, predicted(3_000, score=value, weight=w), truth=truth))
    assert tuple(found) == METRICS["regression"]
    each = np.ones(3_000) if w is None else w
    expected = {
        "mae": sk.mean_absolute_error(truth, value, sample_weight=w),
        "rmse": sk.root_mean_squared_error(truth, value, sample_weight=w),
        "mape": sk.mean_absolute_percentage_error(truth, value, sample_weight=w),
        "r2": sk.r2_score(truth, value, sample_weight=w),
        "bias": np.average(value - truth, weights=each),
        "wape": each @ np.abs(value - truth) / (each @ truth),
        "smape": np.average(2 * np.abs(value - truth) / (truth + np.abs(value)), weights=each),
    }
    for name, figure in expected.items():  # sums are exact to 2**-41 of the truth's range (here about 100) a row
        assert found[name].value == pytest.approx(
            figure, abs=1e-12 * (layout.span if name in ("mae", "rmse", "bias") else 1)
        ), name


def test_truths_of_0_are_left_out_of_mape_and_counted():
    truth, value = np.array([0.0, 1.0, 2.0, 4.0]), np.array([1.0, 2.0, 2.0, 3.0])
    layout = performance_layout(task="regression", predicted_value=value, truth=truth)
    found = metrics(layout, profile_of(layout, predicted(4, score=value), truth=truth))
    assert found["mape"].value == pytest.approx((1 + 0 + 0.25) / 3)
    assert (found["mape"].rows, found["mape"].detail["zero_truths"]) == (3, 1)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_without_labels_nothing_is_known(task):
    classes = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}[task]
    layout = performance_layout(task=task, classes=classes)
    found = metrics(layout, empty(layout))
    assert {(m.value, m.low, m.high, m.rows) for m in found.values()} == {(None, None, None, 0)}


def test_without_decisions_for_it_the_precision_of_a_class_is_unknown_and_its_recall_0():
    y = np.array([0, 1] * 50)
    found = metrics(BINARY, profile_of(BINARY, predicted(100, decision=np.zeros(100)), label=y))
    assert (found["precision"].value, found["recall"].value, found["mcc"].value) == (None, 0.0, None)
    assert found["log_loss"].value is None
    assert found["roc_auc"].value is None


def test_a_flawless_window_has_intervals_that_leave_room():
    y = np.array([0, 1] * 100)
    score = np.where(y == 1, 0.99, 0.01)
    found = metrics(BINARY, profile_of(BINARY, predicted(200, score=score, decision=y), label=y))
    for name in ("accuracy", "balanced_accuracy", "precision", "f1", "mcc", "kappa", "roc_auc", "pr_auc"):
        assert found[name].value == pytest.approx(1.0)
        assert 0.9 < found[name].low < 1.0 <= found[name].high + 1e-9, name


def test_the_calibration_error_of_a_calibrated_model_is_not_inflated_by_chance():
    cells = BinaryCells(mean=-1.0)
    found = [metrics(cells.layout, cells.profile(c))["ece"] for c in cells.draw(np.random.default_rng(1), 1000, 800)]
    assert np.mean([f.detail["plain"] for f in found]) > 0.025  # what chance makes of 0
    squared = np.array([f.detail["squared"] for f in found])
    assert abs(squared.mean()) < 4 * squared.std() / np.sqrt(len(squared)) < 1.3e-4
    assert np.median([f.value for f in found]) < 0.015


def test_the_reliability_curve_holds_all_rows_in_ten_groups():
    score, y = binary_rows(5_000)
    curve = reliability_curve(BINARY, profile_of(BINARY, predicted(5_000, score=score), label=y))
    assert len(curve) == 10
    assert sum(point.rows for point in curve) == pytest.approx(5_000, abs=5)
    assert sum(point.rows * point.share for point in curve) == pytest.approx(y.sum(), abs=5)
    assert sum(point.low <= point.mean_score <= point.high for point in curve) >= 8
    assert all(a.mean_score < b.mean_score for a, b in pairwise(curve))


def test_values_of_outcomes_are_summed():
    rng = np.random.default_rng(2)
    money = np.where(rng.random(500) < 0.2, np.nan, rng.normal(20.0, 5.0, 500))
    rows = predicted(500, decision=rng.random(500) < 0.5)
    found = metrics(BINARY, profile_of(BINARY, rows, label=np.zeros(500), value=money))
    assert found["value_sum"].value == pytest.approx(np.nansum(money), abs=1e-6)
    assert found["value_mean"].value == pytest.approx(np.nanmean(money), abs=1e-9)
    assert found["value_mean"].high - found["value_mean"].value == pytest.approx(
        1.959964 * np.nanstd(money, ddof=1) / np.sqrt(np.isfinite(money).sum()), rel=1e-4
    )


def test_every_metric_has_a_better_side():
    assert set(BETTER) == {name for names in METRICS.values() for name in names}
