"""Metrics of a table of cells with a share of hits in each, and their derivatives. Values agree with detectors.metrics.registry on the same counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.estimate.cells import Table
from detectors.estimate.types import Floats
from detectors.metrics.measured import Ranked
from detectors.metrics.ranking import delong, pr_auc_of
from detectors.performance.layout import Task

DECIDED = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "kappa")
BINARY_NAMES = (*DECIDED, "roc_auc", "pr_auc", "log_loss", "brier")
MULTICLASS_NAMES = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "roc_auc")
_FLOOR = 1e-7
_STEP = 1e-6  # of the mass, in numeric derivatives


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figure:
    """A metric's value, None where it has none, and its derivative by the mass of hits in each cell (None without a value)."""

    value: float | None
    slope: Floats | None


def names_of(task: Task) -> tuple[str, ...]:
    return BINARY_NAMES if task == "binary" else MULTICLASS_NAMES


def figures(task: Task, table: Table, hits: Floats, tied: NDArray[np.bool_]) -> dict[str, Figure]:
    """Every metric of `table` when `hits` (mass, in the shape of the table) are hits. `tied`: bins of a single score (binary)."""
    if task == "binary":
        return {**_decided(table.mass, hits), **_scored(table, hits, tied)}
    return _multiclass(table.mass, hits)


def _decided(mass: Floats, hits: Floats) -> dict[str, Figure]:
    """The two cells that hits move: right among the rows decided positive, wrong among those decided negative."""
    negative, positive = float(mass[0].sum()), float(mass[1].sum())
    whole = negative + positive
    if whole <= 0.0:
        return {name: Figure(value=None, slope=None) for name in DECIDED}
    step = _STEP * whole
    tp = np.full(5, float(hits[1].sum())) + np.array([0, step, -step, 0, 0])
    fn = np.full(5, float(hits[0].sum())) + np.array([0, 0, 0, step, -step])
    found = {}
    for name, values in _of_confusion(tp, positive - tp, fn, negative - fn).items():
        if not np.isfinite(values).all():
            found[name] = Figure(value=None, slope=None)
            continue
        slope = np.zeros(mass.shape)
        slope[1] = (values[1] - values[2]) / (2.0 * step)
        slope[0] = (values[3] - values[4]) / (2.0 * step)
        found[name] = Figure(value=float(values[0]), slope=slope)
    return found


def _of_confusion(tp: Floats, fp: Floats, fn: Floats, tn: Floats) -> dict[str, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = tp + fp + fn + tn
        accuracy = (tp + tn) / whole
        recall, specificity = tp / (tp + fn), tn / (tn + fp)
        chance = ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / (whole * whole)
        spread = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return {
            "accuracy": accuracy,
            "balanced_accuracy": (recall + specificity) / 2.0,
            "precision": tp / (tp + fp),
            "recall": recall,
            "specificity": specificity,
            "f1": 2.0 * tp / (2.0 * tp + fp + fn),
            "mcc": (tp * tn - fp * fn) / np.sqrt(spread),
            "kappa": (accuracy - chance) / (1.0 - chance),
        }


def _scored(table: Table, hits: Floats, tied: NDArray[np.bool_]) -> dict[str, Figure]:
    mass, positive = table.mass[:, :-1].sum(axis=0), hits[:, :-1].sum(axis=0)
    negative = np.maximum(mass - positive, 0.0)
    rows = float(table.rows[:, :-1].sum())
    none = Figure(value=None, slope=None)
    if rows <= 0.0 or positive.sum() <= 0.0 or negative.sum() <= 0.0:
        return dict.fromkeys(("roc_auc", "pr_auc", "log_loss", "brier"), none)
    ranked = _ranked(positive, negative, rows, tied)
    area, slope = _area(ranked)
    score = np.clip(np.nan_to_num(table.mean_scores[0, :-1], nan=0.5), _FLOOR, 1.0 - _FLOOR)
    up, down = -np.log(score), -np.log1p(-score)
    whole = float(mass.sum())
    losses = {"log_loss": (up, down), "brier": ((1.0 - score) ** 2, score**2)}
    found = {
        "roc_auc": Figure(value=area, slope=_wide(slope, table)),
        "pr_auc": Figure(value=pr_auc_of(ranked).value, slope=_wide(_pr_slope(positive, negative), table)),
    }
    for name, (hit, miss) in losses.items():
        value = float(positive @ hit + negative @ miss) / whole
        found[name] = Figure(value=value, slope=_wide((hit - miss) / whole, table))
    return found


def _ranked(positive: Floats, negative: Floats, rows: float, tied: NDArray[np.bool_]) -> Ranked:
    p, n = float(positive.sum()), float(negative.sum())
    of_p, of_n = rows * p / (p + n), rows * n / (p + n)
    return Ranked(positive=positive, negative=negative, positive_rows=of_p, negative_rows=of_n, positive_effective=of_p, negative_effective=of_n, tied=tied)  # fmt: skip


def _area(ranked: Ranked) -> tuple[float | None, Floats]:
    found = delong(ranked)
    positive, negative = ranked.positive, ranked.negative
    p, n = float(positive.sum()), float(negative.sum())
    if found is None:
        return None, np.zeros(len(positive))
    below = (negative.cumsum() - 0.5 * negative) / n
    above = 1.0 - (positive.cumsum() - 0.5 * positive) / p
    # One more hit in a cell is a positive more and a negative less there.
    return found.value, np.asarray((below - found.value) / p - (above - found.value) / n, dtype=np.float64)


def _pr_slope(positive: Floats, negative: Floats) -> Floats:
    """Of average precision with ties by bin, which is near enough for an error."""
    p, all_rows = positive[::-1], (positive + negative)[::-1]
    true, seen = p.cumsum(), np.maximum(all_rows.cumsum(), 1e-300)
    precision = true / seen
    total = float(p.sum())
    share = p / seen
    value = float(p @ precision) / total
    slope = (precision - value + share[::-1].cumsum()[::-1]) / total
    return np.asarray(slope[::-1], dtype=np.float64)


def _wide(slope: Floats, table: Table) -> Floats:
    found = np.zeros(table.mass.shape)
    found[:, :-1] = slope
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Parts:
    """A ratio of each class, and how a right decision moves its part, a label of the class its whole."""

    part: Floats
    whole: Floats
    part_by_right: float = 1.0
    whole_by_label: float = 1.0


def _multiclass(mass: Floats, hits: Floats) -> dict[str, Figure]:
    """Means over classes leave out a class that has no such ratio. The two halves of the table are taken as independent."""
    classes = len(mass) // 2
    decided, right, labelled = mass[:classes].sum(axis=1), hits[:classes].sum(axis=1), hits[classes:].sum(axis=1)
    whole = float(decided.sum())
    if whole <= 0.0:
        return {name: Figure(value=None, slope=None) for name in MULTICLASS_NAMES}
    # Labels are counted over all rows, decisions over those with one.
    labelled = labelled * whole / max(float(labelled.sum()), 1e-300)
    ones = np.ones(classes)
    recall = _mean_ratio(Parts(part=right, whole=labelled), mass.shape)
    found = {
        "accuracy": Figure(
            value=float(right.sum()) / whole, slope=_by_class(ones / whole, np.zeros(classes), mass.shape)
        ),
        "balanced_accuracy": recall,
        "precision": _mean_ratio(Parts(part=right, whole=decided, whole_by_label=0.0), mass.shape),
        "recall": recall,
        "f1": _mean_ratio(Parts(part=2.0 * right, whole=decided + labelled, part_by_right=2.0), mass.shape),
    }
    areas, slopes = [], np.zeros(mass.shape)
    for k in range(classes, 2 * classes):
        positive = hits[k, :-1]
        negative = np.maximum(mass[k, :-1] - positive, 0.0)
        if positive.sum() > 0.0 and negative.sum() > 0.0:
            area, slopes[k, :-1] = _area(_ranked(positive, negative, float(mass[k].sum()), np.zeros(0, np.bool_)))
            areas += [] if area is None else [area]
    value = float(np.mean(areas)) if areas else None
    return {**found, "roc_auc": Figure(value=value, slope=slopes / max(len(areas), 1) if areas else None)}


def _mean_ratio(parts: Parts, shape: tuple[int, ...]) -> Figure:
    """Mean of part / whole over the classes that have such a ratio."""
    used = parts.whole > 0.0
    if not used.any():
        return Figure(value=None, slope=None)
    zeros = np.zeros(len(parts.part))
    ratio = np.minimum(np.divide(parts.part, parts.whole, out=zeros.copy(), where=used), 1.0)
    unit = np.divide(1.0, parts.whole, out=zeros.copy(), where=used) / int(used.sum())
    slope = _by_class(parts.part_by_right * unit, -parts.whole_by_label * ratio * unit, shape)
    return Figure(value=float(ratio[used].mean()), slope=slope)


def _by_class(right: Floats, label: Floats, shape: tuple[int, ...]) -> Floats:
    found = np.zeros(shape)
    found[: len(right)] = right[:, None]
    found[len(right) :] = label[:, None]
    return found
