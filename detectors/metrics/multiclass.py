"""Metrics of three or more classes. Means over classes leave out a class for which a ratio does not exist (scikit-learn: zero_division=nan)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from detectors.metrics.agreement import accuracy, balanced_accuracy, kappa, mcc, mean_ratio, slope_error
from detectors.metrics.calibration import brier, log_loss
from detectors.metrics.intervals import logit
from detectors.metrics.measured import ClassCounts, Detail, Floats, Measured, effective, measured, unknown
from detectors.metrics.ranking import delong

# Where no row has the scores of all classes: correlation of two classes' areas, each against the rest, is about (K - 1) to this power; 1 for
# two classes, measured on models of 3, 4, 5, 10 classes: .33 to .44, .20, .06 to .12, .04.
_AREA_CORRELATION = -1.3


def precision(counts: ClassCounts) -> Measured:
    """Mean over the decided classes of the share of their decisions that is right; each class and the mean by truth in `detail`."""
    decided = counts.weights.sum(axis=0)
    found = mean_ratio(counts.weights.diagonal(), decided, counts.squares.sum(axis=0), counts.row_counts.sum(axis=0))
    return _with_classes(counts, found, counts.weights.diagonal(), decided)


def recall(counts: ClassCounts) -> Measured:
    """Mean over the classes that occurred of the share of their rows decided so; each class and the mean by truth in `detail`."""
    return _with_classes(counts, balanced_accuracy(counts), counts.weights.diagonal(), counts.weights.sum(axis=1))


def f1(counts: ClassCounts) -> Measured:
    """Mean of each class's F; delta-method interval in log odds. Each class and the mean by truth in `detail`."""
    weights, rows = counts.weights, int(counts.row_counts.sum())
    whole = float(weights.sum())
    both = weights.sum(axis=0) + weights.sum(axis=1)
    used = both > 0.0
    if not (used.any() and rows > 0):
        return unknown(max(rows, 0))
    f = np.divide(2.0 * weights.diagonal(), both, out=np.zeros(len(both)), where=used)
    per_row = np.divide(whole, both, out=np.zeros(len(both)), where=used)
    slope = -(f * per_row)[:, None] - (f * per_row)[None, :]
    slope[np.diag_indices_from(slope)] += 2.0 * per_row
    classes = int(used.sum())
    value = float(f[used].sum()) / classes
    interval = logit(value, slope_error(slope / classes, counts.squares, whole))
    if interval[0] is None:  # all right or all wrong: the interval of the plain share is next to it
        plain = accuracy(counts)
        interval = (plain.low or 0.0, 1.0 if plain.high is None else plain.high)
    found = measured(value, interval, rows, effective(whole, float(counts.squares.sum())))
    return _with_classes(counts, found, 2.0 * weights.diagonal(), both)


def roc_auc(counts: ClassCounts) -> Measured:
    """Mean over classes of the area of each against the rest. The interval adds DeLong's variances as far as the areas move together."""
    each: Detail = {}
    areas, errors, bounds = [], [], []
    freedom = math.inf
    for name, ranked in zip(counts.classes, counts.ranked, strict=True):
        found = delong(ranked)
        if found is None:
            continue
        areas.append(found.value)
        errors.append(math.sqrt(found.variance))
        freedom = min(freedom, found.freedom)
        pairs = float(ranked.positive.sum() * ranked.negative.sum())
        bounds.append(0.5 * float(ranked.positive @ ranked.negative) / pairs)
        each[f"class.{name}"] = found.value
    rows = counts.ranked[0].rows
    if not areas:
        return unknown(rows)
    value = sum(areas) / len(areas)
    variance = sum(error * error for error in errors)
    if counts.together is None:
        correlation = float(max(len(areas) - 1, 1)) ** _AREA_CORRELATION
        variance += correlation * (sum(errors) ** 2 - variance)
    else:
        variance *= counts.together
    interval = logit(value, math.sqrt(variance) / len(areas), freedom * len(areas))
    detail: Detail = {"bin_bound": sum(bounds) / len(bounds), "classes": len(areas), **each}
    return measured(value, interval, rows, counts.ranked[0].effective_rows, detail)


def _with_classes(counts: ClassCounts, found: Measured, parts: Floats, wholes: Floats) -> Measured:
    """With the ratio of each class, None where it has none, and their mean weighted by how often each class occurred."""
    if found.value is None or found.low is None or found.high is None:
        return found
    used = wholes > 0.0
    each = np.divide(parts, wholes, out=np.zeros(len(parts)), where=used)
    truth = np.where(used, counts.weights.sum(axis=1), 0.0)
    detail: Detail = {"weighted": float(truth @ each / truth.sum()) if truth.sum() > 0.0 else None}
    detail |= {
        f"class.{name}": value if known else None
        for name, value, known in zip(counts.classes, each.tolist(), used.tolist(), strict=True)
    }
    return measured(found.value, (found.low, found.high), found.rows, found.effective_rows, detail)


MULTICLASS: Mapping[str, Callable[[ClassCounts], Measured]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "mcc": mcc,
    "kappa": kappa,
    "roc_auc": roc_auc,
    "log_loss": log_loss,
    "brier": brier,
}
