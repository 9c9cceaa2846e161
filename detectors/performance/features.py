"""Coarse features: every feature in at most sixteen codes, small enough to be kept beside each prediction."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detectors.bins import CategoryBins, category_bins
from detectors.columns import CategoryColumn, Column, Marker, NumericColumn, Status, category_text
from detectors.layout import CellOf
from detectors.performance.slots import INVALID, MISSING, OTHER

EDGE_LIMIT = 12
CATEGORY_LIMIT = 12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CoarseFeature:
    """The codes of one feature. Numeric: code b holds edges[b-1] <= x < edges[b]. Categorical: the place of the text in `categories`,
    OTHER for any other. Both: MISSING for null, NaN and absent, INVALID for what is no value of the kind.

    ValueError for more than 12 edges or categories, edges that do not rise, or categories that repeat.
    """

    name: str
    kind: Literal["numeric", "categorical"]
    edges: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    categories: tuple[str, ...] = ()
    cell_of: CellOf = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.edges) > EDGE_LIMIT or not bool((np.diff(self.edges) > 0).all()):
            raise ValueError(f"feature {self.name!r} has more than {EDGE_LIMIT} edges, or edges that do not rise")
        if len(self.categories) > CATEGORY_LIMIT or len(set(self.categories)) != len(self.categories):
            raise ValueError(f"feature {self.name!r} has more than {CATEGORY_LIMIT} categories, or one twice")
        codes = CellOf(CategoryBins(categories=self.categories, complete=True), 0)
        codes.other = OTHER
        codes.update({None: MISSING, Marker.NAN: MISSING, Marker.ABSENT: MISSING, Marker.INVALID: INVALID})
        object.__setattr__(self, "cell_of", codes)


def codes_of(feature: CoarseFeature, column: Column) -> NDArray[np.uint8]:
    """The code of every row of `column` (uint8, n). ValueError when the column is not of the feature's kind."""
    if isinstance(column, CategoryColumn):
        if feature.kind != "categorical":
            raise ValueError(f"feature {feature.name!r} is numeric, its column holds categories")
        return np.fromiter(map(feature.cell_of.__getitem__, column.values), dtype=np.uint8, count=len(column))
    if feature.kind != "numeric":
        raise ValueError(f"feature {feature.name!r} is categorical, its column holds numbers")
    codes = feature.edges.searchsorted(column.values, side="right").astype(np.uint8)
    codes[np.isnan(column.values)] = MISSING
    if column.status is not None:
        codes[column.status != Status.VALUE] = MISSING
        codes[column.status == Status.INVALID] = INVALID
    return codes


def coarse_feature(name: str, column: Column) -> CoarseFeature:
    """The codes of a feature by its reference: numeric, eleven parts of about equal mass within its extremes, and one beyond each of them;
    categorical, its twelve most frequent texts (the kind is that of the column)."""
    if isinstance(column, CategoryColumn):
        texts = Counter(
            category_text(value) for value in column.values if value is not None and not isinstance(value, Marker)
        )
        return CoarseFeature(name=name, kind="categorical", categories=category_bins(texts, CATEGORY_LIMIT).categories)
    return CoarseFeature(name=name, kind="numeric", edges=_edges(column))


def _edges(column: NumericColumn) -> NDArray[np.float64]:
    ordered = np.sort(column.values[np.isfinite(column.values)] + 0.0)
    if len(ordered) == 0:
        return np.zeros(0)
    parts = EDGE_LIMIT - 1
    inner = ordered[np.arange(1, parts) * len(ordered) // parts]
    with np.errstate(over="ignore"):  # the successor of the greatest float is infinity, a valid open edge
        return np.unique(np.concatenate([ordered[:1], inner, np.nextafter(ordered[-1:], np.inf)]))
