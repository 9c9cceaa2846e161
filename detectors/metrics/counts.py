"""What the metrics of a window are taken from, read out of the slots of its performance profile."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from detectors.bins import NumericBins
from detectors.metrics.measured import ClassCounts, Floats, NumberCounts, Ranked, WeightedMean, effective, weighted_mean
from detectors.performance.layout import MASS_SCALE, PerformanceLayout
from detectors.performance.placements import placements
from detectors.performance.slots import SUMS

Vector = NDArray[np.int64]


def binary_counts(layout: PerformanceLayout, vector: Vector) -> ClassCounts:
    """Counts of a layout of task "binary"."""
    mass = layout.view(vector, "mass") / MASS_SCALE
    rows = layout.view(vector, "labelled")
    squares = layout.totals(vector, "confusion_weight_squared")
    by_bin = mass[:-1].sum(axis=1)
    scored_rows = rows[:-1].sum(axis=(0, 1)).tolist()
    sides = _sides(mass.sum(axis=(0, 1)), squares.sum(axis=0), by_bin.sum(axis=0))
    ranked = Ranked(
        positive=by_bin[:, 1],
        negative=by_bin[:, 0],
        positive_rows=scored_rows[1],
        negative_rows=scored_rows[0],
        positive_effective=sides[1],
        negative_effective=sides[0],
        tied=_tied(layout.score_bins[0])[: len(by_bin)],
    )
    scored = float(by_bin.sum())
    return ClassCounts(
        classes=layout.classes,
        weights=mass.sum(axis=0)[:2].T,
        squares=squares[:2].T,
        row_counts=rows.sum(axis=0)[:2].T,
        log_loss=_mean(layout, vector, "log_loss", scored, sum(scored_rows)),
        brier=_mean(layout, vector, "brier", scored, sum(scored_rows)),
        clipped=int(layout.view(vector, "clipped")[0]),
        ranked=(ranked,),
        score_sums=layout.view(vector, "score_mass")[:-1] / MASS_SCALE,
    )


def multiclass_counts(layout: PerformanceLayout, vector: Vector) -> ClassCounts:
    """Counts of a layout of task "multiclass"."""
    classes = len(layout.classes)
    mass = layout.view(vector, "mass") / MASS_SCALE
    rows = layout.view(vector, "labelled")
    squares = layout.totals(vector, "confusion_weight_squared")
    by_bin = layout.view(vector, "score_mass")[:, :-1] / MASS_SCALE
    scored = _scored_mass(layout, vector, float(mass.sum()), by_bin)
    whole, whole_rows = float(mass.sum()), int(rows.sum())
    label_sums = (mass.sum(axis=0), squares.sum(axis=0), rows.sum(axis=0))
    scored_rows = round(whole_rows * scored / whole) if whole > 0.0 else 0
    return ClassCounts(
        classes=layout.classes,
        weights=mass[:classes].T,
        squares=squares[:classes].T,
        row_counts=rows[:classes].T,
        log_loss=_mean(layout, vector, "log_loss", scored, scored_rows),
        brier=_mean(layout, vector, "brier", scored, scored_rows),
        clipped=int(layout.view(vector, "clipped")[0]),
        ranked=tuple(_one_against_rest(layout, k, by_bin[k], label_sums) for k in range(classes)),
        score_sums=None,
        together=_together(layout, layout.totals(vector, "placed"), by_bin),
    )


def _together(layout: PerformanceLayout, placed: Floats, by_bin: Floats) -> float | None:
    """Variance of the sum of the classes' areas over the sum of their variances, by foretold placements (detectors.performance.placements).

    `by_bin` (K, B, 2): weights of others and of the class. A row of class y has the influence (own - mean) / share of y on the area of y, and
    (other - mean) on that of each other class, whose table is over the share of others already.
    """
    table = placements(layout)
    mass = by_bin.sum(axis=1)
    used = (placed[:, 0] > 0.0) & (mass[:, 1] > 0.0)
    if not used.any():
        return None
    share = mass[:, 1] / np.maximum(mass.sum(axis=1), 1e-300)
    _, own, other, own_squared, both, other_squared = (placed[used] / placed[used, :1]).T
    other_of = _moments(by_bin[:, :, 0], table.other[:, :-1])
    own_of = _moments(by_bin[:, :, 1], table.own[:, :-1])
    apart = float((own_of[1][used] / share[used]).sum() + table.scale**2 * ((1.0 - share) * other_of[1]).sum())
    middle = (other_of[0].sum() - other_of[0])[used]  # the constant part of `other`, which is no influence
    together = float(((own_squared - own * own) / share[used]).sum()) + 2.0 * table.scale * float(
        (both - own * other).sum()
    )
    together += table.scale**2 * float(share[used] @ (other_squared - 2.0 * middle * other + middle * middle))
    return max(together, 0.0) / apart if apart > 0.0 else None


def _moments(mass: Floats, values: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of `values` (K, B) under `mass`, by class; 0 where there is none."""
    whole = np.maximum(mass.sum(axis=1), 1e-300)
    mean = (mass * values).sum(axis=1) / whole
    return mean, np.maximum((mass * values * values).sum(axis=1) / whole - mean * mean, 0.0)


def number_counts(layout: PerformanceLayout, vector: Vector) -> NumberCounts:
    """Counts of a layout of task "regression"."""
    return NumberCounts(
        rows=int(layout.view(vector, "labelled")[:-1].sum()),
        zero_rows=int(layout.view(vector, "zero_truth")[0]),
        mass=int(layout.view(vector, "mass")[0]) / MASS_SCALE,
        zero_mass=int(layout.view(vector, "zero_mass")[0]) / MASS_SCALE,
        span=layout.span,
        sums={name: layout.total(vector, name) for name in SUMS["regression"]},
    )


def _one_against_rest(
    layout: PerformanceLayout, k: int, by_bin: Floats, label_sums: tuple[Floats, Floats, NDArray[np.int64]]
) -> Ranked:
    whole, square, count = label_sums  # weights, squared weights and rows by label
    both = np.array([whole.sum() - whole[k], whole[k]])
    present = by_bin.sum(axis=0)
    sides = _sides(both, np.array([square.sum() - square[k], square[k]]), present)
    share = np.divide(present, both, out=np.zeros(2), where=both > 0.0)
    return Ranked(
        positive=by_bin[:, 1],
        negative=by_bin[:, 0],
        positive_rows=float(share[1] * count[k]),
        negative_rows=float(share[0] * (count.sum() - count[k])),
        positive_effective=sides[1],
        negative_effective=sides[0],
        tied=_padded(_tied(layout.score_bins[k]), len(by_bin)),
    )


def _scored_mass(layout: PerformanceLayout, vector: Vector, whole: float, by_bin: Floats) -> float:
    """Weight of the rows with all scores: exact where all rows have them, or all weights are 1; else at most that of the rarest score."""
    squares, scored_squares = layout.total(vector, "weight_squared"), layout.total(vector, "scored_weight_squared")
    if scored_squares == squares:
        return whole
    if squares == whole == int(layout.view(vector, "labelled").sum()):
        return scored_squares
    return float(by_bin.sum(axis=(1, 2)).min())


def _sides(mass: Floats, squares: Floats, present: Floats) -> list[float]:
    """Effective rows of each label among the rows with a score, taken to be weighted like all of the label."""
    return [
        effective(m, s) * p / m if m > 0.0 else 0.0
        for m, s, p in zip(mass.tolist(), squares.tolist(), present.tolist(), strict=True)
    ]


def _mean(layout: PerformanceLayout, vector: Vector, name: str, mass: float, rows: int) -> WeightedMean:
    moments = (
        layout.total(vector, "scored_weight_squared"),
        layout.total(vector, f"{name}_weighted"),
        layout.total(vector, f"{name}_squared"),
    )
    return weighted_mean(mass, rows, layout.total(vector, name), moments)


@lru_cache(maxsize=4096)  # one for each score of a layout
def _tied(bins: NumericBins) -> NDArray[np.bool_]:
    """The bins that hold one value only: from an edge to its successor."""
    tied = np.zeros(bins.count, np.bool_)
    if bins.count > 2:
        tied[1:-1] = np.nextafter(bins.edges[:-1], np.inf) == bins.edges[1:]
    return tied


def _padded(tied: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    return tied if len(tied) == size else np.concatenate([tied, np.zeros(size - len(tied), np.bool_)])
