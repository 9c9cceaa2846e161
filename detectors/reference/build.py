"""References: what windows are compared with, built once from a table and named by a hash of its content and settings."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detectors.bins import NUMERIC_BINS, SCORE_BINS, Bins, category_bins, numeric_bins
from detectors.columns import Column, NumericColumn
from detectors.drift.grouping import TARGETS, grouped
from detectors.layout import Layout, Role, SubjectBins
from detectors.performance.reference import performance_reference
from detectors.profile import fold
from detectors.reference.codec import decode_reference, encode_reference
from detectors.reference.dispersion import Dispersion, block_bounds, dispersion, share_dispersion
from detectors.reference.exclusion import category_counts, exclusion, numeric_values
from detectors.reference.hash import reference_hash
from detectors.reference.self_check import block_warnings, drift_warnings, score_warnings, size_warnings
from detectors.reference.types import Reference, ReferenceRefused, ReferenceSettings, ReferenceTable

__all__ = [
    "Dispersion",
    "Reference",
    "ReferenceRefused",
    "ReferenceSettings",
    "ReferenceTable",
    "build_reference",
    "decode_reference",
    "encode_reference",
    "reference_hash",
]


def build_reference(table: ReferenceTable, settings: ReferenceSettings) -> Reference:
    """The reference of `table`. Timestamps, if there are any, give the order of rows; else `settings.order` says whether rows are in it.

    ReferenceRefused when the table has no rows or no usable column, when columns differ in length, or when its score ranks its own
    predicted labels backwards. What is merely doubtful is a warning in the reference.
    """
    _check(table)
    warnings = score_warnings(table, settings.positive_label)
    order = _time_order(table, settings)
    excluded = _excluded(table, settings, order)
    subjects = _subjects(table, settings, excluded)
    if not subjects:
        raise ReferenceRefused("the reference has no column that can be watched")
    layout = Layout(tuple(subject for subject, _ in subjects))
    columns = [column for _, column in subjects]
    profile = fold(layout, columns)
    bounds = block_bounds(table.rows) if order is not None else np.zeros(0, dtype=np.int64)
    blocks = _blocks(layout, columns, order, bounds)
    groups = {target: grouped(layout, profile.counts, target) for target in TARGETS}
    scales = {target: dispersion(groups[target], blocks) for target in TARGETS}
    warnings += size_warnings(table.rows, timed=order is not None, ordered=len(blocks) > 0)
    warnings += block_warnings(layout, scales[TARGETS[0]], blocks)
    warnings += drift_warnings(layout, groups[TARGETS[0]], blocks)
    return Reference(
        hash=reference_hash(table, settings),
        rows=table.rows,
        layout=layout,
        profile=profile,
        settings=settings,
        excluded=excluded,
        ordered=len(blocks) > 0,
        blocks=len(blocks),
        dispersion=scales,
        share_phi=share_dispersion(layout, blocks),
        warnings=tuple(warnings),
        performance=performance_reference(table, settings, set(excluded)),
    )


def _check(table: ReferenceTable) -> None:
    if table.rows == 0:
        raise ReferenceRefused("the reference has no rows")
    roles = (table.version, table.score, table.label_predicted, table.label, table.value, table.weight)
    columns = [*table.features.values(), *table.scores.values(), *(role for role in roles if role is not None)]
    lengths = {len(column) for column in columns} | ({len(table.times_ms)} if table.times_ms is not None else set())
    if lengths - {table.rows}:
        raise ReferenceRefused(f"the columns of the reference differ in length: {sorted(lengths | {table.rows})}")


def _time_order(table: ReferenceTable, settings: ReferenceSettings) -> NDArray[np.int64] | None:
    """Places of the rows in time order, equal times in row order; None when it is not known."""
    if table.times_ms is not None:
        return np.argsort(table.times_ms, kind="stable")
    return np.arange(table.rows, dtype=np.int64) if settings.order == "time" else None


def _excluded(table: ReferenceTable, settings: ReferenceSettings, order: NDArray[np.int64] | None) -> Mapping[str, str]:
    reasons = dict.fromkeys(table.arrays, "holds arrays")
    for name, column in table.features.items():
        reason = exclusion(column, configured=name in settings.kinds, order=order)
        if reason is not None:
            reasons[name] = reason
    return dict(sorted(reasons.items()))


def _subjects(
    table: ReferenceTable, settings: ReferenceSettings, excluded: Mapping[str, str]
) -> list[tuple[SubjectBins, Column]]:
    """The subjects in layout order, each with its column. A role without any value is left out."""
    candidates: list[tuple[str, Role, Column | None]] = [
        (name, "feature", table.features[name]) for name in sorted(table.features) if name not in excluded
    ]
    candidates += [
        ("score", "score", table.score),
        ("label", "label", table.label_predicted),
        ("value", "value", table.value),
    ]
    candidates += [(f"scores.{name}", "scores", table.scores[name]) for name in sorted(table.scores)]
    subjects = []
    for name, role, column in candidates:
        bins = None if column is None else _bins(column, role, settings.ranges.get(name))
        if bins is not None and column is not None:
            subjects.append((SubjectBins(name, role, bins), column))
    return subjects


def _bins(column: Column, role: Role, value_range: tuple[float, float] | None) -> Bins | None:
    if isinstance(column, NumericColumn):
        values = numeric_values(column)
        bins = SCORE_BINS if role in ("score", "scores") else NUMERIC_BINS
        return numeric_bins(values, bins, value_range if role == "feature" else None) if len(values) else None
    counts = category_counts(column)
    return category_bins(counts) if counts else None


def _blocks(
    layout: Layout, columns: list[Column], order: NDArray[np.int64] | None, bounds: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Counts (blocks, layout.size) of runs of rows in time order; no blocks without bounds."""
    if order is None or len(bounds) == 0:
        return np.zeros((0, layout.size), dtype=np.int64)
    runs = pairwise(bounds.tolist())
    return np.array([fold(layout, columns, order[start:stop]).counts for start, stop in runs])
