"""Estimates without labels: near what labels say, honest about how near, the same for the same rows, and read back as written."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from detectors.estimate.cells import Table, row_hits, row_places, shape_of, tally_cells, tied_bins, window_table
from detectors.estimate.estimate import (
    FEWEST_ROWS,
    Estimator,
    decode_estimator,
    encode_estimator,
    estimate,
    fit_estimator,
)
from detectors.estimate.interval import scatter_of
from detectors.estimate.values import BINARY_NAMES, MULTICLASS_NAMES, figures
from detectors.metrics.registry import metrics
from detectors.performance.fold import bins_of_scores
from detectors.performance.layout import PerformanceLayout
from detectors.performance.profile import Sample, fold_predicted, merge
from detectors.performance.scored import NO_CLASS, LabelledRows
from parts import estimated as cases


@lru_cache(maxsize=1)
def binary() -> tuple[PerformanceLayout, Estimator]:
    layout, rows = cases.binary_case()
    return layout, fit_estimator(layout, rows)


@lru_cache(maxsize=1)
def multiclass() -> tuple[PerformanceLayout, Estimator]:
    layout, rows = cases.multiclass_case()
    return layout, fit_estimator(layout, rows)


@lru_cache(maxsize=1)
def regression() -> tuple[PerformanceLayout, Estimator]:
    layout, rows = cases.regression_case()
    return layout, fit_estimator(layout, rows)


def real_table(layout: PerformanceLayout, rows: LabelledRows) -> tuple[Table, np.ndarray]:
    bins = bins_of_scores(layout, rows.predicted)
    places = row_places(layout, rows.predicted, bins)
    hits = row_hits(layout, rows.predicted.decision, rows.label).astype(float)
    return window_table(layout, fold_predicted(layout, rows.predicted).vector), tally_cells(
        places, hits, shape_of(layout)
    )


def test_values_on_true_hits_are_the_realised_metrics():
    layout, _ = binary()
    rows = cases.binary_window(layout, 5)
    real = metrics(layout, cases.profile_of(layout, rows))
    table, hits = real_table(layout, rows)
    found = figures("binary", table, hits, tied_bins(layout))
    assert set(found) == set(BINARY_NAMES)
    for name, figure in found.items():
        # log loss and Brier score know the mean score of a bin, not each row's
        assert figure.value == pytest.approx(real[name].value, abs=2e-4 if name in ("log_loss", "brier") else 1e-12)


def test_values_of_many_classes_on_true_hits_are_the_realised_metrics():
    layout, _ = multiclass()
    x, scores, label = cases.multiclass_draw(9, 3000)
    rows = cases.multiclass_rows(layout, x, scores, label)
    real = metrics(layout, cases.profile_of(layout, rows))
    table, hits = real_table(layout, rows)
    found = figures("multiclass", table, hits, tied_bins(layout))
    assert set(found) == set(MULTICLASS_NAMES)
    for name, figure in found.items():
        assert figure.value == pytest.approx(real[name].value, abs=1e-9), name


@pytest.mark.parametrize("name", [name for name in BINARY_NAMES if name != "pr_auc"])
def test_slopes_are_the_derivatives_of_values(name):
    layout, _ = binary()
    table, hits = real_table(layout, cases.binary_window(layout, 5))
    hits = 0.9 * hits + 0.05 * table.mass  # inside, where a step does not cut a cell
    direction = np.random.default_rng(3).normal(size=hits.shape) * table.mass
    step = 1e-5
    up, down = (
        figures("binary", table, hits + sign * step * direction, tied_bins(layout))[name].value for sign in (1, -1)
    )
    slope = figures("binary", table, hits, tied_bins(layout))[name].slope
    assert (slope * direction).sum() == pytest.approx((up - down) / (2 * step), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("name", MULTICLASS_NAMES)
def test_slopes_of_many_classes_are_the_derivatives_of_values(name):
    layout, _ = multiclass()
    table, hits = real_table(layout, cases.multiclass_rows(layout, *cases.multiclass_draw(9, 3000)))
    hits = 0.9 * hits + 0.05 * table.mass  # inside, where a step does not cut a cell
    direction = np.random.default_rng(3).normal(size=hits.shape) * table.mass
    direction[3:] -= direction[3:].sum() / table.mass[3:].sum() * table.mass[3:]  # labels of all classes add up
    step = 1e-6
    up, down = (
        figures("multiclass", table, hits + sign * step * direction, tied_bins(layout))[name].value
        for sign in (1, -1)
    )  # fmt: skip
    slope = figures("multiclass", table, hits, tied_bins(layout))[name].slope
    assert (slope * direction).sum() == pytest.approx((up - down) / (2 * step), rel=2e-3, abs=1e-4)


def test_estimates_follow_a_covariate_shift_that_a_calibration_alone_would_miss():
    layout, estimator = binary()
    assert estimator.method == "reweighted"  # the label depends on a feature beyond the score
    errors, plain_errors, inside = [], [], []
    plain = replace(estimator, sample=None, method="isotonic")
    for seed in range(20, 30):
        profile = cases.profile_of(layout, cases.binary_window(layout, seed, shift=1.2))
        real = metrics(layout, profile)
        found, without = estimate(estimator, layout, profile), estimate(plain, layout, profile)
        for name in ("accuracy", "f1", "roc_auc", "precision"):
            errors.append(abs(found[name].value - real[name].value))
            plain_errors.append(abs(without[name].value - real[name].value))
            inside.append(found[name].low <= real[name].value <= found[name].high)
    assert np.mean(errors) < 0.55 * np.mean(plain_errors)
    assert np.mean(inside) > 0.85


def test_intervals_hold_about_as_often_as_they_say():
    layout, estimator = binary()
    inside: list[bool] = []
    for seed in range(100, 140):
        profile = cases.profile_of(layout, cases.binary_window(layout, seed, size=1500))
        real, found = metrics(layout, profile), estimate(estimator, layout, profile)
        inside += [found[name].low <= real[name].value <= found[name].high for name in BINARY_NAMES]
        assert found["accuracy"].high - found["accuracy"].low < 0.1
    assert 0.93 <= np.mean(inside) < 1.0


def test_multiclass_estimates_are_near_and_their_intervals_hold():
    layout, estimator = multiclass()
    inside, errors = [], []
    for seed in range(200, 212):
        profile = cases.profile_of(
            layout, cases.multiclass_rows(layout, *cases.multiclass_draw(seed, 2000, spread=0.8))
        )
        real, found = metrics(layout, profile), estimate(estimator, layout, profile)
        for name in MULTICLASS_NAMES:
            errors.append(abs(found[name].value - real[name].value))
            inside.append(found[name].low <= real[name].value <= found[name].high)
    assert np.mean(errors) < 0.012
    assert np.mean(inside) > 0.88


def test_a_loss_model_follows_features_that_move_together():
    layout, estimator = regression()
    assert estimator.method == "modelled"
    held = 0
    for seed in range(300, 305):
        rows = cases.regression_rows(layout, *cases.regression_draw(seed, 5000, together=0.3))
        profile = cases.profile_of(layout, rows)
        real, found = metrics(layout, profile), estimate(estimator, layout, profile)
        by_bin = estimate(replace(estimator, method="bins"), layout, profile)["mae"]
        assert abs(found["mae"].value - real["mae"].value) < 0.4 * abs(by_bin.value - real["mae"].value)
        for name in ("mae", "rmse", "mape"):
            assert found[name].low <= found[name].value <= found[name].high
        held += found["mae"].low <= real["mae"].value <= found["mae"].high
    assert held >= 4


def test_regression_without_a_sample_falls_back_on_the_bins_and_says_so():
    layout, estimator = regression()
    rows = cases.regression_rows(layout, *cases.regression_draw(7, 2000))
    bare = estimate(estimator, layout, fold_predicted(layout, rows.predicted, sampled=False))
    assert bare["mae"].detail["method"] == "bins"
    assert bare["mae"].value > 0


def test_estimates_do_not_depend_on_the_order_of_rows_or_of_the_sample():
    layout, estimator = regression()
    rows = cases.regression_rows(layout, *cases.regression_draw(7, 1500)).predicted
    whole = fold_predicted(layout, rows)
    order = np.random.default_rng(1).permutation(1500)
    parts = [fold_predicted(layout, rows.part(order[start : start + 400])) for start in range(0, 1500, 400)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merge(part, merged)
    sample = whole.sample
    turned = replace(
        whole,
        sample=Sample(
            keys=sample.keys[::-1],
            score_bin=sample.score_bin[::-1],
            decision=sample.decision[::-1],
            codes=sample.codes[::-1],
        ),
    )
    assert (
        estimate(estimator, layout, whole)
        == estimate(estimator, layout, merged)
        == estimate(estimator, layout, turned)
    )  # fmt: skip


def test_labels_are_not_read():
    layout, estimator = binary()
    rows = cases.binary_window(layout, 3)
    assert estimate(estimator, layout, fold_predicted(layout, rows.predicted)) == estimate(
        estimator, layout, cases.profile_of(layout, rows)
    )


@pytest.mark.parametrize("case", [binary, multiclass, regression])
def test_an_estimator_is_read_back_as_it_was_and_estimates_the_same(case):
    layout, estimator = case()
    data = encode_estimator(estimator)
    again = decode_estimator(data)
    assert encode_estimator(again) == data
    assert len(data) < 300_000
    draw = {"binary": cases.binary_window}.get(layout.task)
    if draw:
        profile = fold_predicted(layout, draw(layout, 8, shift=1.0).predicted)
    elif layout.task == "multiclass":
        profile = fold_predicted(layout, cases.multiclass_rows(layout, *cases.multiclass_draw(8, 1000)).predicted)
    else:
        profile = fold_predicted(layout, cases.regression_rows(layout, *cases.regression_draw(8, 1000)).predicted)
    assert estimate(again, layout, profile) == estimate(estimator, layout, profile)
    assert repr(estimate(estimator, layout, profile)) == repr(estimate(estimator, layout, profile))


def test_damaged_estimators_are_refused():
    data = encode_estimator(binary()[1])
    for broken in (b"", b"DLE0" + data[4:], data[:-1], data[:40], data[:50] + b"\x00" + data[51:], data + b"x"):
        with pytest.raises(ValueError, match="estimator"):
            decode_estimator(broken)


def test_the_same_rows_fit_the_same_estimator():
    layout, rows = cases.binary_case()
    assert encode_estimator(fit_estimator(layout, rows)) == encode_estimator(binary()[1])


def test_too_little_to_learn_from_gives_no_estimator():
    layout, rows = cases.binary_case()
    assert fit_estimator(layout, rows.part(slice(0, FEWEST_ROWS - 1))) is None
    assert fit_estimator(layout, rows.part(rows.label == 1)) is None
    unknown = replace(rows, label=np.full(len(rows), NO_CLASS, np.uint8))
    assert fit_estimator(layout, unknown) is None


def test_another_layout_is_refused():
    layout, _ = multiclass()
    with pytest.raises(ValueError, match="another layout"):
        estimate(
            binary()[1],
            layout,
            cases.profile_of(layout, cases.multiclass_rows(layout, *cases.multiclass_draw(1, 50))),
        )


def test_no_value_and_the_reason_where_nothing_can_be_said():
    layout, estimator = binary()
    rows = cases.binary_window(layout, 4, size=500)
    nothing = estimate(estimator, layout, fold_predicted(layout, rows.predicted.part(slice(0, 0))))
    assert {found.value for found in nothing.values()} == {None}
    assert nothing["accuracy"].detail["validity"] == "no predictions"
    foreign = replace(rows.predicted, codes=np.full((500, 2), 14, np.uint8))  # missing, which the reference never was
    found = estimate(estimator, layout, fold_predicted(layout, foreign))["accuracy"]
    assert found.value is None
    assert found.detail["outside_share"] == 1.0
    assert "never had" in str(found.detail["validity"])


def test_a_window_that_few_rows_of_the_reference_resemble_gets_no_estimate():
    layout, rows = cases.binary_case()
    small = rows.part(slice(0, 1500))
    estimator = replace(binary()[1], sample=None)
    fitted = fit_estimator(layout, small)
    if fitted.sample is None:  # the guard is of the reweighting, whichever method 1,500 rows chose
        fitted = replace(fitted, method="reweighted", sample=_sample(layout, small), plain_scatter=fitted.scatter)
    window = cases.binary_window(layout, 11, size=3000, shift=3.5)
    found = estimate(fitted, layout, fold_predicted(layout, window.predicted))["accuracy"]
    assert found.detail["ess_share"] < 0.1
    assert found.value is None or found.detail["trust"] == 0.0
    assert estimate(estimator, layout, fold_predicted(layout, window.predicted))["accuracy"].value is not None


def _sample(layout, rows):
    whole = binary()[1].sample
    count = len(rows)
    return replace(
        whole,
        codes=np.asfortranarray(rows.predicted.codes),
        group=whole.group[:count],
        places=whole.places[:count],
        hits=whole.hits[:count],
        weight=np.ones(count),
    )


def test_models_without_scores_have_estimates_of_their_decisions_only():
    layout, rows = cases.binary_case()
    bare = replace(rows, predicted=replace(rows.predicted, score=np.full(len(rows), np.nan)))
    estimator = fit_estimator(layout, bare)
    assert "raw" not in estimator.errors
    window = cases.binary_window(layout, 6)
    window = replace(window, predicted=replace(window.predicted, score=np.full(len(window), np.nan)))
    profile = cases.profile_of(layout, window)
    found, real = estimate(estimator, layout, profile), metrics(layout, profile)
    assert found["accuracy"].value == pytest.approx(real["accuracy"].value, abs=0.02)
    assert found["roc_auc"].value is None
    assert found["roc_auc"].detail["validity"] != "ok"


def test_scatter_is_what_variances_leave_unexplained():
    exact = [(0.0, 1e-4)] * 8
    assert scatter_of(exact, []).steady == pytest.approx(0.5e-4)
    wide = [(0.1, 1e-4), (-0.1, 1e-4)] * 4
    assert scatter_of(wide, []).steady == pytest.approx(0.01 - 1e-4 + 0.5e-4)
    assert scatter_of([], [(0.2, 0.0, 2.0)]).by_shift == pytest.approx(0.01)
    assert scatter_of([], []).steady == 0.0
