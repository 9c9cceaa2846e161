"""What judging needs to know of a reference, worked out once for all its windows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from detectors.bins import CategoryBins, NumericBins
from detectors.drift.grouping import TARGETS
from detectors.drift.resemblance import Floats, Sample, smoothed
from detectors.reference.types import Reference

SHARES = ("missing", "absent", "invalid", "outside")  # the columns of Reference.share_phi


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Plan:
    """Arrays by subject of the reference's layout unless said otherwise. Must not be changed.

    `names`: subjects of findings, without duplicates. `judged`: the places of the subjects whose distribution is judged.
    `samples`: the reference in groups, by target. `cdf`, `width` by cell: the reference's share up to and with the cell, and how
    much of the axis the cell's bin covers between the reference's extremes (0 for slots and categories).
    `share_cell` by cell: where `shares_of` counts it; `share_counts`, `share_phi` (subjects, 4) and `rows` are the reference's.
    """

    names: tuple[str, ...]
    numeric: NDArray[np.bool_]
    features: NDArray[np.bool_]
    judged: NDArray[np.int64]
    samples: dict[int, Sample]
    bin_cells: NDArray[np.bool_]
    starts: NDArray[np.int64]
    cdf: Floats
    width: Floats
    means: Floats
    share_cell: NDArray[np.int64]
    share_counts: Floats
    share_phi: Floats
    rows: int

    def shares_of(self, counts: NDArray[np.int64]) -> Floats:
        """How many rows are missing (null or nan), absent, invalid, outside: (subjects, 4)."""
        return _share_counts(self.share_cell, counts, len(self.names))


@dataclass(frozen=True, slots=True, eq=False)
class _ByHash:
    """Equal hashes mean equal references, also when one of them was read from the store again."""

    reference: Reference

    def __hash__(self) -> int:
        return hash(self.reference.hash)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByHash) and self.reference.hash == other.reference.hash


def plan_of(reference: Reference) -> Plan:
    return _plan(_ByHash(reference))


# A plan takes about 40 bytes a cell, 300 kB for 100 features, and keeps its reference; the limit is a fleet of models.
@lru_cache(maxsize=1024)
def _plan(key: _ByHash) -> Plan:
    reference = key.reference
    layout, counts = reference.layout, reference.profile.counts
    features = np.array([subject.role == "feature" for subject in layout.subjects], dtype=np.bool_)
    numeric = np.array([isinstance(subject.bins, NumericBins) for subject in layout.subjects], dtype=np.bool_)
    bin_cells = layout.slot_of == 0
    share_cell = np.where(bin_cells, np.where(layout.outside, 4, 0), np.array([0, 1, 1, 2, 3])[layout.slot_of])
    share_cell = share_cell + 5 * layout.subject_of
    starts = layout.offsets[:-1]
    valid = reference.grouped(TARGETS[0]).totals.astype(np.float64)
    return Plan(
        names=_names(reference),
        numeric=numeric,
        features=features,
        judged=np.flatnonzero(~reference.constant),
        samples={target: _sample(reference, target) for target in TARGETS},
        bin_cells=bin_cells,
        starts=starts,
        cdf=cumulative(np.where(bin_cells, counts, 0), starts, layout.subject_of, valid),
        width=_widths(reference),
        means=means(reference, reference.profile.sums, valid),
        share_cell=share_cell,
        share_counts=_share_counts(share_cell, counts, len(layout.subjects)),
        share_phi=_share_phi(reference),
        rows=reference.rows,
    )


def cumulative(
    counts: NDArray[np.int64], starts: NDArray[np.int64], subject_of: NDArray[np.int64], rows: Floats
) -> Floats:
    """The share of a subject's rows in its cells up to and with each cell. `rows` at least 1 for each subject."""
    running = np.cumsum(counts)
    before = running[starts] - counts[starts]
    shares: Floats = (running - before[subject_of]) / rows[subject_of]
    return shares


def means(reference: Reference, sums: NDArray[np.int64], rows: Floats) -> Floats:
    """Means by subject from fixed-point sums, values clipped to the reference's extremes; NaN for categories."""
    layout = reference.layout
    found = np.full(len(layout.subjects), np.nan)
    found[layout.numeric] = layout.lo[:, 0] + layout.span[:, 0] * (sums / 2.0**32 / rows[layout.numeric])
    return found


def _names(reference: Reference) -> tuple[str, ...]:
    """A feature may be called "score": what the model said is then "prediction.score" wherever both are listed."""
    features = {subject.name for subject in reference.layout.subjects if subject.role == "feature"} | set(
        reference.excluded
    )
    return tuple(
        f"prediction.{subject.name}" if subject.role != "feature" and subject.name in features else subject.name
        for subject in reference.layout.subjects
    )


def _sample(reference: Reference, target: int) -> Sample:
    groups = reference.grouped(target)
    return Sample(smoothed(groups.reference.astype(np.float64), groups.used), groups.totals.astype(np.float64))


def _share_phi(reference: Reference) -> Floats:
    """A reference has (almost) nothing outside itself to learn from: what is outside comes in runs as the values themselves do."""
    phi = np.maximum(reference.share_phi, 1.0)
    phi[:, 3] = np.maximum(phi[:, 3], reference.dispersion[TARGETS[0]].phi)
    return phi


def _widths(reference: Reference) -> Floats:
    width = np.zeros(reference.layout.size)
    for i, subject in enumerate(reference.layout.subjects):
        if not isinstance(subject.bins, CategoryBins):
            first = int(reference.layout.offsets[i])
            edges = np.clip(subject.bins.edges, subject.bins.lo, subject.bins.hi)
            width[first + 1 : first + len(edges)] = np.diff(edges)
    return width


def _share_counts(share_cell: NDArray[np.int64], counts: NDArray[np.int64], subjects: int) -> Floats:
    found = np.bincount(share_cell, weights=counts, minlength=5 * subjects)
    return np.asarray(found, dtype=np.float64).reshape(subjects, 5)[:, 1:]
