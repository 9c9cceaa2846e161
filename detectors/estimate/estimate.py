"""How good is a model before any label is known? An estimate for every metric, from the counts of a window's predictions.

Classification: within each score bin the reference says how often a prediction turns out positive (`raw`: the score itself; `isotonic`:
calibrated, which is CBPE; `reweighted`: calibrated under weights that give the reference the window's code shares, which is PAPE). Counts
of predictions times these rates are the expected counts of outcomes, and metrics are taken of those. Regression: the mean of a model of
the loss (`modelled`) or of its mean by bin of the prediction (`bins`). The method is the one that errs least on the reference
(detectors.estimate.choice). All methods assume that what a score is worth, given the features, has not changed: `estimate_truth` checks
that as labels come.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.estimate.calibration import blend, calibrate, recalibrate
from detectors.estimate.cells import (
    Table,
    code_shares,
    group_cells,
    outside,
    row_groups,
    row_hits,
    row_places,
    shape_of,
    shift,
    tied_bins,
    window_groups,
    window_shares,
    window_table,
)
from detectors.estimate.choice import Rows, choose
from detectors.estimate.codec import decode_estimator, encode_estimator
from detectors.estimate.interval import Errors, errors_of, interval_of, with_scatter
from detectors.estimate.regression import METRIC_OF, LossRows, choose_loss, expect, fit_loss, losses_of, metric_errors
from detectors.estimate.reweighted import reweight, sample_places
from detectors.estimate.types import Estimator, Floats, Method, ReferenceSample
from detectors.estimate.values import figures, names_of
from detectors.metrics.measured import Detail, Measured
from detectors.performance.fold import bins_of_scores
from detectors.performance.layout import PerformanceLayout
from detectors.performance.profile import PerformanceProfile
from detectors.performance.scored import LabelledRows

__all__ = ["FEWEST_ROWS", "Estimator", "decode_estimator", "encode_estimator", "estimate", "fit_estimator"]

FEWEST_ROWS = 200  # labelled rows of a reference
ESS_SHARE = 0.1  # of the reference sample's rows, in effective rows,
ESS_ROWS = 1000.0  # or so many: fewer than both, and a reweighting gives no estimate
OUTSIDE_SHARE = 0.5  # of a window's rows with a code that the reference never had: no estimate


def fit_estimator(layout: PerformanceLayout, rows: LabelledRows) -> Estimator | None:
    """The estimator of a reference's labelled rows, which are in time order. None with too few to learn from, or with one class only.

    ValueError when the rows do not fit the layout. `sign`, `value` and `delay_ms` are not read.
    """
    known = np.isfinite(rows.truth) if layout.task == "regression" else rows.label < len(layout.classes)
    usable = known & (rows.predicted.weight > 0.0)
    if layout.task == "regression":
        usable &= np.isfinite(rows.predicted.score)
    if not usable.all():
        rows = rows.part(usable)
    if len(rows) < FEWEST_ROWS:
        return None
    if layout.task == "regression":
        return _fit_regression(layout, rows)
    return _fit_classification(layout, rows)


def _fit_classification(layout: PerformanceLayout, rows: LabelledRows) -> Estimator | None:
    if len(np.unique(rows.label)) < 2:
        return None
    predicted = rows.predicted
    bins = bins_of_scores(layout, predicted)
    whole = ReferenceSample(
        codes=np.asfortranarray(predicted.codes),
        group=row_groups(layout, predicted, bins),
        places=row_places(layout, predicted, bins),
        hits=row_hits(layout, predicted.decision, rows.label),
        weight=predicted.weight / layout.weight_unit,
        group_cells=group_cells(layout),
    )
    shape = shape_of(layout)
    mean_scores = _mean_scores(layout, rows, bins)
    raw = _raw_rates(layout, mean_scores, whole, shape)
    trial = Rows(task=layout.task, sample=whole, shape=shape, raw=raw, mean_scores=mean_scores, tied=tied_bins(layout))
    choice = choose(trial)
    rates, doubt = calibrate(layout.task, whole, whole.weight, shape)
    if choice.method == "raw" and raw is not None:
        rates, doubt = raw, np.zeros(shape)
    kept = sample_places(len(rows), len(layout.features))
    return Estimator(
        task=layout.task,
        method=choice.method,
        classes=len(layout.classes),
        bins=layout.bins,
        features=len(layout.features),
        rows=len(rows),
        rates=rates,
        doubt=doubt,
        mean_scores=mean_scores,
        shares=code_shares(predicted.codes),
        scatter=choice.scatter,
        plain_scatter=choice.plain_scatter if choice.method == "reweighted" else {},
        errors=choice.errors,
        sample=trial.part(kept) if choice.method == "reweighted" else None,
    )


def _mean_scores(layout: PerformanceLayout, rows: LabelledRows, bins: NDArray[np.uint16]) -> Floats:
    """(curves, bins + 1): mean score in each bin of the reference; bins without rows are interpolated, "no score" and no bins at all: NaN."""
    curves, width = shape_of(layout)
    if layout.task == "binary":
        return np.broadcast_to(_bin_means(rows.predicted.score, bins, width), (curves, width)).copy()
    scores = rows.predicted.scores
    if scores is None:
        return np.full((curves, width), np.nan)
    each = [_bin_means(scores[:, k], bins[:, k], width) for k in range(len(layout.classes))]
    return np.stack([*each, *each])


def _bin_means(scores: Floats, bins: NDArray[np.uint16], width: int) -> Floats:
    given = np.isfinite(scores)
    rows = np.bincount(bins[given], minlength=width)[: width - 1]
    sums = np.bincount(bins[given], weights=np.clip(scores[given], 0.0, 1.0), minlength=width)[: width - 1]
    used = np.flatnonzero(rows)
    found = np.full(width, np.nan)
    if len(used):
        found[:-1] = np.interp(np.arange(width - 1), used, sums[used] / rows[used])
    return found


def _raw_rates(
    layout: PerformanceLayout, mean_scores: Floats, sample: ReferenceSample, shape: tuple[int, int]
) -> Floats | None:
    """The scores themselves as rates; where there is no score, the reference's own. None without scores."""
    if np.isnan(mean_scores).all():
        return None
    rates, _ = calibrate(layout.task, sample, sample.weight, shape)
    return np.where(np.isnan(mean_scores), rates, mean_scores)


def _fit_regression(layout: PerformanceLayout, rows: LabelledRows) -> Estimator:
    predicted = rows.predicted
    loss_rows = LossRows(
        codes=predicted.codes,
        bins=bins_of_scores(layout, predicted),
        values=predicted.score,
        losses=losses_of(predicted.score / layout.span, rows.truth / layout.span),
        weight=predicted.weight / layout.weight_unit,
        numeric=tuple(feature.kind == "numeric" for feature in layout.features),
        width=layout.bins + 1,
    )
    choice = choose_loss(loss_rows)
    none = np.zeros((0, layout.bins + 1))
    return Estimator(
        task="regression",
        method=choice.method,
        classes=0,
        bins=layout.bins,
        features=len(layout.features),
        rows=len(rows),
        rates=none,
        doubt=none,
        mean_scores=none,
        shares=code_shares(predicted.codes),
        scatter=choice.scatter,
        errors=choice.errors,
        loss=fit_loss(loss_rows),
    )


def estimate(estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile) -> dict[str, Measured]:
    """Estimated metrics by the names of detectors.metrics.registry: binary all but `ece`; multiclass accuracy, balanced_accuracy, precision, recall,
    f1, roc_auc; regression mae, rmse, mape.

    Only predictions are read, never outcomes. `rows` are the window's predictions. `detail`: `method`; `validity` "ok", or why there is no
    value; `shift` of the features; `outside_share`, and `outside_feature` if it is not 0; `ess` and `ess_share` of a reweighting;
    `sampling_error`, `calibration_error`, `model_error`, parts of the interval in standard deviations. ValueError when estimator and layout
    do not fit.
    """
    fits = (estimator.task, estimator.bins, estimator.classes, estimator.features)
    if fits != (layout.task, layout.bins, len(layout.classes), len(layout.features)):
        raise ValueError("the estimator is of another layout")
    shares = window_shares(layout, profile.vector)
    moved = shift(estimator.shares, shares) if profile.rows > 0 else 0.0
    share, place = outside(estimator.shares, shares)
    detail: Detail = {"method": estimator.method, "validity": "ok", "shift": moved, "outside_share": share}
    if place >= 0:
        detail["outside_feature"] = layout.features[place].name
    if profile.rows <= 0:
        detail["validity"] = "no predictions"
    elif share > OUTSIDE_SHARE:
        detail["validity"] = f"{share:.0%} of the rows have values of {layout.features[place].name} that the reference never had"  # fmt: skip
    if layout.task == "regression":
        return _estimate_regression(estimator, layout, profile, moved, detail)
    return _estimate_classification(estimator, layout, profile, moved, detail)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WindowRates:
    """`weighted`: the rates under full trust in a reweighting, None without one."""

    rates: Floats
    doubt: Floats
    weighted: Floats | None = None
    trust: float = 1.0


def window_rates(
    estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile, detail: Detail
) -> WindowRates:
    """Rates and doubt for a window; `detail` gains what the reweighting was worth, and a validity other than "ok" when that is too little."""
    sample = estimator.sample
    if sample is None or detail["validity"] != "ok":
        return WindowRates(rates=estimator.rates, doubt=estimator.doubt)
    rows = np.maximum(layout.view(profile.vector, "feature_rows"), 0).astype(np.float64)
    found = reweight(sample, rows, window_groups(layout, profile.vector), estimator.rates)
    ess = found.effective_rows
    detail["ess"], detail["ess_share"], detail["trust"] = ess, ess / len(sample), found.trust
    if found.trust > 0.0 and ess < min(ESS_SHARE * len(sample), ESS_ROWS):
        detail["validity"] = f"too few rows of the reference are like this window (effective {ess:.0f} of {len(sample)})"  # fmt: skip
    weighted = recalibrate(estimator.task, sample, found.weight, ess, estimator.rates)
    rates, doubt = blend((estimator.rates, estimator.doubt), weighted, found.trust)
    return WindowRates(rates=rates, doubt=doubt, weighted=weighted[0], trust=found.trust)


def _estimate_classification(
    estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile, moved: float, detail: Detail
) -> dict[str, Measured]:
    found = window_table(layout, profile.vector)
    scores = np.where(np.isnan(found.mean_scores), estimator.mean_scores, found.mean_scores)
    table = Table(mass=found.mass, rows=found.rows, mean_scores=scores)
    known = window_rates(estimator, layout, profile, detail)
    rates, doubt = known.rates, known.doubt
    if estimator.method == "raw" and layout.task == "binary":
        rates = np.where(np.isnan(scores), rates, scores)  # the window's own mean scores
    if detail["validity"] != "ok":
        return {name: _without(profile.rows, detail) for name in names_of(layout.task)}
    tied = tied_bins(layout)
    other = figures(layout.task, table, table.mass * _or(known.weighted, rates), tied) if known.trust < 1.0 else {}
    scatter = estimator.scatter if known.trust >= 0.5 else estimator.plain_scatter
    result = {}
    for name, figure in figures(layout.task, table, table.mass * rates, tied).items():
        if figure.value is None:
            result[name] = _without(profile.rows, {**detail, "validity": "no decisions or no scores"})
            continue
        plain = other[name].value if name in other else None
        gap = 0.0 if plain is None else plain - figure.value
        errors = errors_of(layout.task, table, figure, rates, doubt)
        result[name] = _with(
            name, figure.value, with_scatter(errors, scatter.get(name), moved, gap), profile.rows, detail
        )
    return result


def _or(found: Floats | None, otherwise: Floats) -> Floats:
    return otherwise if found is None else found


def _estimate_regression(
    estimator: Estimator, layout: PerformanceLayout, profile: PerformanceProfile, moved: float, detail: Detail
) -> dict[str, Measured]:
    if detail["validity"] != "ok" or estimator.loss is None:
        return {name: _without(profile.rows, detail) for name in METRIC_OF.values()}
    method: Method = estimator.method
    if method == "modelled" and len(profile.sample) == 0:
        method = "bins"
        detail["method"] = method
    code_rows = np.maximum(layout.view(profile.vector, "feature_rows"), 0).astype(np.float64)
    bin_rows = np.maximum(layout.view(profile.vector, "predicted"), 0).astype(np.float64)
    bin_rows[-1] = 0.0  # rows without a prediction have no error
    if bin_rows.sum() <= 0.0:
        return {name: _without(profile.rows, {**detail, "validity": "no predictions"}) for name in METRIC_OF.values()}
    given = profile.sample.score_bin < layout.bins
    sample = (profile.sample.codes[given], profile.sample.score_bin[given])
    expected = expect(estimator.loss, method, sample, code_rows, bin_rows)
    result = {}
    for name, (value, errors) in metric_errors(estimator.loss, expected).items():
        whole = with_scatter(errors, estimator.scatter.get(name), moved)
        unit = 1.0 if name == "mape" else layout.span
        scaled = Errors(
            sampling=whole.sampling * unit**2, calibration=whole.calibration * unit**2, model=whole.model * unit**2
        )
        result[name] = _with(name, value * unit, scaled, profile.rows, detail)
    return result


def _with(name: str, value: float, errors: Errors, rows: int, detail: Detail) -> Measured:
    low, high = interval_of(name, value, errors.total)
    parts: Detail = {
        "sampling_error": errors.sampling**0.5,
        "calibration_error": errors.calibration**0.5,
        "model_error": errors.model**0.5,
    }
    return Measured(
        value=value, low=low, high=high, rows=rows, effective_rows=float(rows), detail={**detail, **parts}
    )  # fmt: skip


def _without(rows: int, detail: Detail) -> Measured:
    return Measured(value=None, low=None, high=None, rows=rows, detail=dict(detail))
