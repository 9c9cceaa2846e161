"""What a reference says against itself, before any window is compared with it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri
from scipy.stats import rankdata

from detectors.columns import CategoryColumn, Column, Marker, NumericColumn, category_text
from detectors.drift.grouping import Grouped, psi
from detectors.layout import Layout
from detectors.reference.dispersion import MIN_BLOCK_ROWS, MIN_BLOCKS, Dispersion
from detectors.reference.types import ReferenceRefused, ReferenceTable

ENOUGH_ROWS = (
    5000  # below, the reference's own sampling error takes a good part of the tolerated effect (psi 0.02 in 10 groups)
)
TOLERATED_PSI = 0.02
_NOISE = 0.001
_BACKWARDS_SIGMAS = 3.0


def size_warnings(rows: int, *, timed: bool, ordered: bool) -> list[str]:
    """Too few rows; no time order, and what to do about it; too few rows for blocks."""
    found = []
    if rows < ENOUGH_ROWS:
        found.append(
            f"the reference has {rows} rows: {ENOUGH_ROWS} or more make small drifts visible and false ones rare"
        )
    if not timed:
        found.append(
            "the order of the rows is unknown, so normal swings over time are not known either and distribution findings are warnings"
            " at most: add a timestamp column, or state `order: time` if the rows are in time order"
        )
    elif not ordered:
        needed = MIN_BLOCKS * MIN_BLOCK_ROWS
        found.append(
            f"{rows} rows are too few for {MIN_BLOCKS} blocks of {MIN_BLOCK_ROWS}, so normal swings over time are not known and"
            f" distribution findings are warnings at most: use {needed} rows or more"
        )
    return found


def drift_warnings(layout: Layout, groups: Grouped, blocks: NDArray[np.int64]) -> list[str]:
    """Subjects whose first and second half differ by more than the tolerated effect and than chance. Needs blocks in time order."""
    if len(blocks) == 0:
        return []
    middle = len(blocks) // 2
    early, late = groups.of(blocks[:middle].sum(axis=0)), groups.of(blocks[middle:].sum(axis=0))
    sizes = np.maximum(1, np.array([early.sum(axis=1), late.sum(axis=1)]))
    chance = (1 / sizes).sum(axis=0)
    free = np.maximum(groups.groups - 1, 1)
    values = psi(early, late, groups.used)
    moved = (values - free * chance >= TOLERATED_PSI) & (values > chance * chdtri(free, _NOISE))
    moved &= sizes.min(axis=0) >= MIN_BLOCK_ROWS
    return [
        f"{layout.subjects[i].name} drifts in the reference itself: its first and second half differ by "
        f"{math.sqrt(values[i] - free[i] * chance[i]):.2f} sd"
        for i in np.flatnonzero(moved).tolist()
    ]


def block_warnings(layout: Layout, dispersion: Dispersion, blocks: NDArray[np.int64]) -> list[str]:
    """Subjects with a value in too few rows of an ordered reference."""
    if len(blocks) == 0:
        return []
    return [
        f"{layout.subjects[i].name} has too few values for {MIN_BLOCKS} blocks of {MIN_BLOCK_ROWS}: its distribution findings are warnings at most"
        for i in np.flatnonzero(~dispersion.known).tolist()
    ]


def score_warnings(table: ReferenceTable, positive_label: str | None) -> list[str]:
    """ReferenceRefused where the score ranks its own predicted labels backwards; a warning where it ranks what happened backwards."""
    if positive_label is None or not isinstance(table.score, NumericColumn):
        return []
    if _backwards(table.score, table.label_predicted, positive_label):
        raise ReferenceRefused(
            f"the score ranks its own predicted labels backwards: it must be the probability of {positive_label!r}"
            " (mend positive_label, or the column that score is read from)"
        )
    if _backwards(table.score, table.label, positive_label):
        return [f"the score ranks what happened backwards: is {positive_label!r} the positive label?"]
    return []


def _backwards(score: NumericColumn, label: Column | None, positive_label: str) -> bool:
    """Whether the area under the ROC curve is below 1/2 by three standard errors of a score that knows nothing."""
    if label is None:
        return False
    positive, known = _positives(label, positive_label)
    usable = known & ~np.isnan(score.values)
    hits = positive[usable]
    n_positive, n_negative = int(hits.sum()), int((~hits).sum())
    if n_positive == 0 or n_negative == 0:
        return False
    ranks = rankdata(score.values[usable])
    area = (ranks[hits].sum() - n_positive * (n_positive + 1) / 2) / n_positive / n_negative
    error = math.sqrt((n_positive + n_negative + 1) / 12 / n_positive / n_negative)
    return bool(area < 0.5 - _BACKWARDS_SIGMAS * error)


def _positives(label: Column, positive_label: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    texts: Sequence[str | None]
    if isinstance(label, CategoryColumn):
        texts = [None if value is None or isinstance(value, Marker) else category_text(value) for value in label.values]
    else:
        texts = [None if math.isnan(value) else category_text(value) for value in label.values.tolist()]
    positive = np.array([text == positive_label for text in texts], dtype=np.bool_)
    return positive, np.array([text is not None for text in texts], dtype=np.bool_)
