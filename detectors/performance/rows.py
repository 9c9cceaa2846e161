"""From columns to the rows that performance is counted from; the same for a reference table and for events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from detectors.columns import CategoryColumn, Column, NumericColumn
from detectors.performance.layout import MISSING, PerformanceLayout, codes_of
from detectors.performance.scored import NO_CLASS, PredictedRows


def predicted_rows(
    layout: PerformanceLayout,
    columns: Mapping[str, Column],
    features: Mapping[str, Column],
    *,
    weights: NDArray[np.float64] | None,
    keys: NDArray[np.uint64],
    decision_threshold: float | None,
) -> PredictedRows:
    """`columns` holds, as far as there are any, "score", "label" (predicted), "value" and "scores.CLASS"; `keys` gives the number of rows.

    A feature of the layout without a column is missing in every row. Where no label was predicted, a binary decision is
    score >= `decision_threshold` (if given) and a multiclass one the class with the largest probability.
    """
    rows = len(keys)
    score = _numbers(columns.get("value" if layout.task == "regression" else "score"), rows)
    scores = None
    if layout.task == "multiclass":
        score = np.full(rows, np.nan)
        parts = [_numbers(columns.get(f"scores.{name}"), rows) for name in layout.classes]
        scores = np.stack(parts, axis=1) if rows else np.zeros((0, len(parts)))
    decision = class_codes(layout, columns.get("label"), rows)
    codes = np.full((rows, len(layout.features)), MISSING, np.uint8)
    for place, feature in enumerate(layout.features):
        if feature.name in features:
            codes[:, place] = codes_of(feature, features[feature.name])
    return PredictedRows(
        score=score,
        scores=scores,
        decision=_decided(layout, decision, score, scores, decision_threshold),
        weight=np.ones(rows) if weights is None else weights,
        codes=codes,
        keys=keys,
    )


def class_codes(layout: PerformanceLayout, column: Column | None, rows: int) -> NDArray[np.uint8]:
    """The place of each label in the layout's classes; NO_CLASS for none and for any other."""
    if not isinstance(column, CategoryColumn) or not layout.classes:
        return np.full(rows, NO_CLASS, np.uint8)
    return label_codes(layout, column.values)


def label_codes(layout: PerformanceLayout, labels: Sequence[object]) -> NDArray[np.uint8]:
    """As `class_codes` for texts."""
    known: dict[object, int] = {name: code for code, name in enumerate(layout.classes)}
    get = known.get
    return np.fromiter((get(label, NO_CLASS) for label in labels), np.uint8, len(labels))


def _numbers(column: Column | None, rows: int) -> NDArray[np.float64]:
    if not isinstance(column, NumericColumn):
        return np.full(rows, np.nan)
    return np.where(np.isfinite(column.values), column.values, np.nan)


def _decided(
    layout: PerformanceLayout,
    decision: NDArray[np.uint8],
    score: NDArray[np.float64],
    scores: NDArray[np.float64] | None,
    threshold: float | None,
) -> NDArray[np.uint8]:
    open_rows = decision == NO_CLASS
    if not open_rows.any():
        return decision
    if layout.task == "binary" and threshold is not None:
        given = open_rows & ~np.isnan(score)
        return np.where(given, score >= threshold, decision).astype(np.uint8)
    if scores is not None and scores.size:
        given = open_rows & ~np.isnan(scores).any(axis=1)
        return np.where(given, np.argmax(np.nan_to_num(scores, nan=-1.0), axis=1), decision).astype(np.uint8)
    return decision
