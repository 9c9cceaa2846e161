"""Groups of bins: what a test compares. Stored bins are finer than a test of few rows can bear."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.bins import NumericBins
from detectors.layout import Layout

TARGETS = (10, 32)


def grouping(counts_reference: NDArray[np.int64], target: int, ordered_bins: bool) -> NDArray[np.int64]:
    """The group, 0..G-1 with G <= target, of every bin of one subject (bins only, no slots).

    Ordered (numeric) bins are cut at the edges nearest to reference mass k/target, ties at the lower edge. Categories (last bin: other)
    get a group each for the target-1 most frequent, and one for the rest. No group is without reference mass: bins without any join a
    neighbour (numeric) or the rarest group (categories). Without any reference mass all is one group.
    """
    if int(counts_reference.sum()) == 0 or target < 2:
        return np.zeros(len(counts_reference), dtype=np.int64)
    return _cut(counts_reference, target) if ordered_bins else _most_frequent(counts_reference, target)


def psi(
    reference_counts: NDArray[np.int64], window_counts: NDArray[np.int64], used: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Population stability index over the last axis, half a count added to each cell on both sides. Natural logarithm.

    `used` marks the cells that exist, for subjects padded to a common width. A window without rows compares the reference with equal
    shares: callers must not read a meaning into that.
    """
    half = np.full(np.shape(reference_counts)[-1], 0.5) if used is None else 0.5 * used
    reference = reference_counts + half
    window = window_counts + half
    p = reference / reference.sum(axis=-1, keepdims=True)
    q = window / window.sum(axis=-1, keepdims=True)
    if used is not None:
        p, q = np.where(used, p, 1.0), np.where(used, q, 1.0)
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=-1))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grouped:
    """All subjects of a layout grouped to at most `target` groups, padded to that width; arrays must not be written to.

    `cells`: for every cell of `counts` its place in the flattened (subjects, target) matrix, one past its end for slots.
    `used` (subjects, target): the groups that exist. `groups` (subjects): how many. `reference` (subjects, target): reference counts.
    `totals` (subjects): reference rows with a value.
    """

    target: int
    cells: NDArray[np.int64]
    used: NDArray[np.bool_]
    groups: NDArray[np.int64]
    reference: NDArray[np.int64]
    totals: NDArray[np.int64]

    def of(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Group counts (subjects, target) of a profile's `counts`, in one pass. Exact below 2**53 rows."""
        return _gather(self.cells, counts, self.used.shape)

    def psi(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """PSI of every subject against the reference."""
        return psi(self.reference, self.of(counts), self.used)


def grouped(layout: Layout, counts_reference: NDArray[np.int64], target: int) -> Grouped:
    """The groups of every subject of `layout`, made from the reference's `counts`."""
    subjects = len(layout.subjects)
    cells = np.full(layout.size, subjects * target, dtype=np.int64)
    groups = np.zeros(subjects, dtype=np.int64)
    for i, subject in enumerate(layout.subjects):
        place = layout.bins_of(i)
        group = grouping(counts_reference[place], target, isinstance(subject.bins, NumericBins))
        cells[place] = i * target + group
        groups[i] = group.max() + 1
    reference = _gather(cells, counts_reference, (subjects, target))
    used = np.arange(target)[None, :] < groups[:, None]
    return Grouped(
        target=target, cells=cells, used=used, groups=groups, reference=reference, totals=reference.sum(axis=1)
    )


def _gather(cells: NDArray[np.int64], counts: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.int64]:
    size = shape[0] * shape[1]
    return np.bincount(cells, weights=counts, minlength=size + 1)[:size].astype(np.int64).reshape(shape)


def _cut(counts: NDArray[np.int64], target: int) -> NDArray[np.int64]:
    below = np.cumsum(counts)[:-1]  # below[i]: reference rows under the edge between bins i and i + 1
    total = int(counts.sum())
    wanted = np.arange(1, target)[:, None] * total
    nearest = (
        np.unique(np.abs(below[None, :] * target - wanted).argmin(axis=1)) if len(below) else np.zeros(0, np.int64)
    )
    cuts = nearest[(below[nearest] > 0) & (below[nearest] < total)]
    return np.searchsorted(cuts, np.arange(len(counts)), side="left")


def _most_frequent(counts: NDArray[np.int64], target: int) -> NDArray[np.int64]:
    categories = counts[:-1]
    ranked = np.argsort(-categories, kind="stable")
    own = ranked[: target - 1]
    own = own[categories[own] > 0]
    rest = len(own) if counts.sum() > categories[own].sum() else len(own) - 1
    groups = np.full(len(counts), rest, dtype=np.int64)
    groups[own] = np.arange(len(own))
    return groups
