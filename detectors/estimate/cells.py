"""Cells of predictions, in each of which the share of hits is estimated: what a window's counts and a reference's rows have in common.

A table has shape (curves, bins + 1), the last column without a score. Binary: one curve for each decision (negative, positive, none), a hit
is a positive label; the three share one calibration. Multiclass, K classes: curve k < K are rows decided k by the bin of that class's
score, a hit is a right decision; curve K + k are all rows by the bin of the score of k, a hit is the label k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.estimate.types import SCORE_GROUPS, Floats
from detectors.performance.layout import CODES, MASS_SCALE, PerformanceLayout
from detectors.performance.scored import PredictedRows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """`mass` weights and `rows` numbers of predictions by cell; `mean_scores` (curves, bins + 1) mean score, NaN where there is none."""

    mass: Floats
    rows: Floats
    mean_scores: Floats


def shape_of(layout: PerformanceLayout) -> tuple[int, int]:
    """Curves, and bins + 1."""
    return (3 if layout.task == "binary" else 2 * len(layout.classes)), layout.bins + 1


def window_table(layout: PerformanceLayout, vector: NDArray[np.int64]) -> Table:
    """The predictions of a window. Negative counts, of rows taken back that were never counted, are read as none."""
    if layout.task == "binary":
        rows = np.maximum(layout.view(vector, "predicted").T, 0).astype(np.float64)
        mass = np.maximum(layout.view(vector, "predicted_mass").T, 0) / MASS_SCALE
        total = mass.sum(axis=0)
        sums = layout.view(vector, "predicted_score_mass") / MASS_SCALE
        mean = np.divide(sums, total, out=np.full(len(sums), np.nan), where=total > 0)
        mean[-1] = np.nan
        return Table(mass=mass, rows=rows, mean_scores=np.broadcast_to(mean, rows.shape))
    chosen = np.maximum(layout.view(vector, "chosen_rows"), 0)
    scored = np.maximum(layout.view(vector, "score_rows"), 0)
    rows = np.concatenate([chosen, scored]).astype(np.float64)
    return Table(mass=rows, rows=rows, mean_scores=np.full(rows.shape, np.nan))


def row_places(layout: PerformanceLayout, rows: PredictedRows, bins: NDArray[np.uint16]) -> NDArray[np.int32]:
    """(n, Q): the cells of each row in the flattened table; the size of the table where it has none. Binary Q = 1, multiclass 1 + K."""
    curves, width = shape_of(layout)
    if layout.task == "binary":
        return (np.minimum(rows.decision, 2).astype(np.int32) * width + bins)[:, None]
    classes = len(layout.classes)
    decided = rows.decision < classes
    decision = np.where(decided, rows.decision, 0).astype(np.int32)
    chosen = decision * width + bins[np.arange(len(bins)), decision]
    each = (np.arange(classes, 2 * classes, dtype=np.int32) * width)[None, :] + bins
    return np.concatenate([np.where(decided, chosen, curves * width)[:, None], each], axis=1).astype(np.int32)


def row_hits(layout: PerformanceLayout, decision: NDArray[np.uint8], label: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, Q): whether the row is a hit in each of its cells."""
    if layout.task == "binary":
        return np.asarray(label == 1, dtype=np.uint8)[:, None]
    each = label[:, None] == np.arange(len(layout.classes))[None, :]
    return np.concatenate([(label == decision)[:, None], each], axis=1).astype(np.uint8)


def tally_cells(places: NDArray[np.int32], amounts: Floats | None, shape: tuple[int, int]) -> Floats:
    """Sums of `amounts` (n, Q), rows if None, by cell."""
    size = shape[0] * shape[1]
    weights = None if amounts is None else amounts.reshape(-1)
    return np.bincount(places.reshape(-1), weights=weights, minlength=size + 1)[:size].reshape(shape).astype(np.float64)


def group_cells(layout: PerformanceLayout) -> int:
    return 3 * (SCORE_GROUPS + 1) if layout.task == "binary" else len(layout.classes) + 1


def row_groups(layout: PerformanceLayout, rows: PredictedRows, bins: NDArray[np.uint16]) -> NDArray[np.uint8]:
    """The cell of decision and coarse score of each row (multiclass: of decision)."""
    if layout.task != "binary":
        return np.minimum(rows.decision, len(layout.classes)).astype(np.uint8)
    return (np.minimum(rows.decision, 2) * (SCORE_GROUPS + 1) + _group_of_bin(layout.bins)[bins]).astype(np.uint8)


def window_groups(layout: PerformanceLayout, vector: NDArray[np.int64]) -> Floats:
    """Rows of a window by the same cells."""
    rows = np.maximum(layout.view(vector, "predicted"), 0).astype(np.float64)
    if layout.task != "binary":
        return rows
    found = np.zeros((3, SCORE_GROUPS + 1))
    np.add.at(found.T, _group_of_bin(layout.bins), rows)
    return found.reshape(-1)


def _group_of_bin(bins: int) -> NDArray[np.int64]:
    return np.append(np.arange(bins) * SCORE_GROUPS // bins, SCORE_GROUPS)


def code_shares(codes: NDArray[np.uint8]) -> Floats:
    """(F, 16): share of each code, zeros without rows."""
    shares = [np.bincount(column, minlength=CODES) / max(len(codes), 1) for column in codes.T]
    return np.array(shares).reshape(codes.shape[1], CODES)


def window_shares(layout: PerformanceLayout, vector: NDArray[np.int64]) -> Floats:
    rows = np.maximum(layout.view(vector, "feature_rows"), 0).astype(np.float64)
    return np.asarray(rows / np.maximum(rows.sum(axis=1, keepdims=True), 1.0), dtype=np.float64)


def shift(reference: Floats, window: Floats) -> float:
    """How far the features moved: root of the summed squares of the total variation between code shares (0..1 for each feature)."""
    return float(np.sqrt((0.25 * np.abs(window - reference).sum(axis=1) ** 2).sum()))


def outside(reference: Floats, window: Floats) -> tuple[float, int]:
    """Greatest share, over features, of rows in codes that the reference never had; and that feature's place (-1 without any)."""
    shares = np.where(reference == 0.0, window, 0.0).sum(axis=1)
    place = int(shares.argmax()) if len(shares) else -1
    return (float(shares[place]), place) if place >= 0 and shares[place] > 0.0 else (0.0, -1)


def tied_bins(layout: PerformanceLayout) -> NDArray[np.bool_]:
    """Binary: the score bins that hold one value only, from an edge to its successor."""
    edges = layout.score_bins[0].edges
    tied = np.zeros(layout.bins, np.bool_)
    if layout.task == "binary" and len(edges) > 1:
        tied[1 : len(edges)] = np.nextafter(edges[:-1], np.inf) == edges[1:]
    return tied
