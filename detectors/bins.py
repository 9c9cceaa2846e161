"""Bins fixed by the reference: where a value is counted. Never moved afterwards, so counts of any two blocks add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SLOTS = (
    "missing",
    "nan",
    "absent",
    "invalid",
)  # cells after the bins of every subject, in this order (that of Status 1..4)
NUMERIC_BINS = 64
SCORE_BINS = 256
CATEGORY_LIMIT = 256
_TAILS_PER_MILLE = (1, 5, 10, 990, 995, 999)
_SUM_LIMIT = 8e307  # hi - lo must not overflow; only the fixed-point sum is clipped by it, never a bin


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NumericBins:
    """Bin b holds edges[b-1] <= x < edges[b]; the first and the last bin are open.

    `lo` and `hi` are the least and greatest reference value (within +-8e307), to which the fixed-point sum clips.
    Bins `inside[0] <= b < inside[1]` are in range: between the reference's extremes, or in the configured range.
    """

    edges: NDArray[np.float64]
    lo: float
    hi: float
    inside: tuple[int, int]

    @property
    def count(self) -> int:
        return len(self.edges) + 1

    @property
    def constant(self) -> bool:
        return self.lo == self.hi


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CategoryBins:
    """One bin for each of `categories` (texts by falling frequency in the reference, then by text), and a last one, `other`.

    `complete` is False when the reference had more categories than the dictionary keeps: `other` is then no proof of a new one.
    """

    categories: tuple[str, ...]
    complete: bool

    @property
    def count(self) -> int:
        return len(self.categories) + 1

    @property
    def constant(self) -> bool:
        return self.complete and len(self.categories) == 1


Bins = NumericBins | CategoryBins


def numeric_bins(
    values: NDArray[np.float64], bins: int = NUMERIC_BINS, value_range: tuple[float, float] | None = None
) -> NumericBins:
    """Bins of about equal reference mass, finer in the tails, with every frequent value in a bin of its own.

    `values` are the finite reference values in any order, at least one (ValueError otherwise). All edges but the successors of
    values are reference values, never interpolated, so that float rounding cannot move them. `value_range` (both ends included)
    adds its two edges and takes the place of the extremes in `inside`.
    """
    if len(values) == 0:
        raise ValueError("bins need at least one reference value")
    ordered = np.sort(values + 0.0)  # + 0.0 turns -0.0 into 0.0
    rows = len(ordered)
    ranks = {part * rows // bins for part in range(1, bins)} | {part * rows // 1000 for part in _TAILS_PER_MILLE}
    distinct, counts = np.unique(ordered, return_counts=True)
    frequent = distinct[counts * 2 * bins > rows]
    low, high = value_range if value_range is not None else (float(ordered[0]), float(ordered[-1]))
    ends = np.array([ordered[0], _after(ordered[-1]), low, _after(high)])
    edges = np.unique(np.concatenate([ordered[sorted(ranks)], frequent, _after(frequent), ends + 0.0]))
    inside = (
        int(np.searchsorted(edges, low, side="right")),
        int(np.searchsorted(edges, _after(high), side="left")) + 1,
    )
    lo, hi = np.clip([ordered[0], ordered[-1]], -_SUM_LIMIT, _SUM_LIMIT)
    return NumericBins(edges=edges, lo=float(lo), hi=float(hi), inside=inside)


def usual_shares(count: int) -> NDArray[np.float64]:
    """Share of the reference in each of `count` bins of `numeric_bins`, where no value is frequent; equal shares where the count is another's."""
    for bins in (SCORE_BINS, NUMERIC_BINS):
        levels = sorted({part / bins for part in range(1, bins)} | {part / 1000 for part in _TAILS_PER_MILLE})
        if len(levels) + 3 == count:
            return np.diff([0.0, 0.0, *levels, 1.0, 1.0])
    return np.full(count, 1.0 / count)


def category_bins(counts: Mapping[str, int], limit: int = CATEGORY_LIMIT) -> CategoryBins:
    """The dictionary of the `limit` most frequent category texts."""
    ranked = sorted(counts, key=lambda text: (-counts[text], text))
    return CategoryBins(categories=tuple(ranked[:limit]), complete=len(ranked) <= limit)


def bin_of(bins: NumericBins, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each value. The definition that a fold must agree with; NaN has no bin and must not be asked for."""
    return np.searchsorted(bins.edges, np.asarray(values, dtype=np.float64), side="right")


def _after(value: float | NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # the successor of the greatest float is infinity, a valid open edge
        return np.asarray(np.nextafter(value, np.inf), dtype=np.float64)
