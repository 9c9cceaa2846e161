"""Which columns of a table cannot be features, with the reason that a user is shown."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detectors.bins import CATEGORY_LIMIT
from detectors.columns import CategoryColumn, Column, Marker, NumericColumn, category_text

_MIN_VALUES = 20  # fewer values prove nothing
_MIN_STEPS = 10  # distinct values of a column that grows


def category_counts(column: CategoryColumn) -> dict[str, int]:
    """Rows by category text, in order of first appearance; cells without a value left out."""
    counts: dict[str, int] = {}
    for text in category_texts(column):
        counts[text] = counts.get(text, 0) + 1
    return counts


def category_texts(column: CategoryColumn) -> list[str]:
    """The category texts in row order; cells without a value left out."""
    return [category_text(value) for value in column.values if value is not None and not isinstance(value, Marker)]


def numeric_values(column: NumericColumn) -> NDArray[np.float64]:
    """The values in row order; cells without a value left out."""
    return column.values[~np.isnan(column.values)]


def exclusion(column: Column, *, configured: bool, order: NDArray[np.int64] | None) -> str | None:
    """Why `column` is left out, or None. `order` sorts the rows by time (None: the order of rows means nothing).

    A column whose kind is configured is left out only where it has no value at all.
    """
    if isinstance(column, NumericColumn):
        values = numeric_values(column if order is None else NumericColumn(column.values[order]))
        if len(values) == 0:
            return "has no value in the reference"
        return None if configured else _numeric_exclusion(values, timed=order is not None)
    counts = category_counts(column)
    if not counts:
        return "has no value in the reference"
    return None if configured else _text_exclusion(column, counts, order)


def _numeric_exclusion(values: NDArray[np.float64], *, timed: bool) -> str | None:
    steps = np.diff(values)
    if len(values) < _MIN_VALUES or bool((steps < 0).any()):
        return None
    if timed and np.count_nonzero(steps) + 1 >= _MIN_STEPS:
        return "only grows with time: no window could be like the reference"
    if not timed and bool((steps > 0).all()) and bool((values == np.rint(values)).all()):
        return "counts the rows: grows with every row of the table"
    return None


def _text_exclusion(column: CategoryColumn, counts: Mapping[str, int], order: NDArray[np.int64] | None) -> str | None:
    total = sum(counts.values())
    if total < _MIN_VALUES:
        return None
    if len(counts) >= 0.9 * total or (len(counts) > CATEGORY_LIMIT and len(counts) > 0.5 * total):
        return f"is near-unique text: {len(counts)} different values in {total} rows"
    if order is None or len(counts) < _MIN_STEPS:
        return None
    texts = category_texts(CategoryColumn([column.values[row] for row in order.tolist()]))
    if all(a <= b for a, b in pairwise(texts)):
        return "only grows with time: no window could be like the reference"
    return None
