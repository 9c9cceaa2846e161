"""What realised and estimated performance is compared with: how good the model was on the rows of its reference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import cast

import numpy as np
from numpy.typing import NDArray

from detectors.columns import CategoryColumn, Column, Marker, NumericColumn, category_text
from detectors.estimate.estimate import encode_estimator, fit_estimator
from detectors.performance.layout import PerformanceLayout, Task, performance_layout
from detectors.performance.profile import PerformanceProfile, fold_labelled, fold_predicted, merge
from detectors.performance.rows import class_codes, predicted_rows
from detectors.performance.scored import LabelledRows, PredictedRows
from detectors.reference.types import ReferenceSettings, ReferenceTable

FEATURE_LIMIT = 200  # a byte each beside every prediction that waits for its outcome
SEGMENT_VALUES = 20  # of one column; the others share `other`
SEGMENT_MIN_ROWS = 200  # in the reference
OTHER_SEGMENT, NO_SEGMENT = 254, 255
WEEK_MS, HOUR_MS = 604_800_000, 3_600_000
_HOUR_SHRINKAGE = 200  # labels: an hour of the week with so many is believed half
_EPOCH_MONDAY_MS = 345_600_000  # 1970-01-05: hour 0 of the week is Monday 00:00 UTC


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerformanceReference:
    """`profile` holds all rows of the reference, `segments` those of each segment (by its text, see `segment_text`).

    `segment_values`: declared column -> the values that are segments of their own. `hour_factors`: loss by hour of the week divided by the
    mean loss, (168,) from Monday 00:00 UTC; None unless the reference covers three full weeks. `estimator`: see detectors.estimate.estimate; empty
    when performance cannot be estimated without labels.
    """

    layout: PerformanceLayout
    profile: PerformanceProfile
    segment_values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    segments: Mapping[str, PerformanceProfile] = field(default_factory=dict)
    hour_factors: NDArray[np.float64] | None = None
    estimator: bytes = b""

    def segment_codes(self, features: Mapping[str, Column], rows: int) -> NDArray[np.uint8]:
        """(rows, declared columns): the place of each value in `segment_values`, OTHER_SEGMENT, or NO_SEGMENT where there is none."""
        codes = np.full((rows, len(self.segment_values)), NO_SEGMENT, np.uint8)
        for place, (name, values) in enumerate(self.segment_values.items()):
            column = features.get(name)
            if isinstance(column, CategoryColumn):
                codes[:, place] = _segment_codes(values, column)
        return codes

    def segment_texts(self) -> list[list[tuple[int, str]]]:
        """For each declared column its (code, text) pairs, `other` last."""
        return [
            [
                *((code, segment_text(name, value)) for code, value in enumerate(values)),
                (OTHER_SEGMENT, segment_text(name, "other")),
            ]
            for name, values in self.segment_values.items()
        ]


def segment_text(column: str, value: str) -> str:
    """The name of a segment as it is stored, shown and hashed: one JSON object."""
    return json.dumps({column: value}, ensure_ascii=False, separators=(",", ":"))


def performance_reference(
    table: ReferenceTable, settings: ReferenceSettings, excluded: Collection[str]
) -> PerformanceReference | None:
    """The baseline of a table that holds what happened (`label`); None where it does not, or where it shows one class only.

    Features that are `excluded`, or beyond the first FEATURE_LIMIT by name, explain nothing later on.
    """
    columns = _columns(table)
    layout = _layout(table, settings, columns, excluded)
    if layout is None or table.label is None:
        return None
    keys = np.arange(table.rows, dtype=np.uint64)
    predicted = predicted_rows(
        layout,
        columns,
        table.features,
        weights=_weights(table),
        keys=keys,
        decision_threshold=settings.decision_threshold,
    )
    known, labelled = _labelled(layout, table.label, predicted, table.rows)
    values = _segment_values(table, settings)
    whole = PerformanceReference(layout=layout, profile=_profile(layout, predicted, labelled), segment_values=values)
    codes = whole.segment_codes(table.features, table.rows)
    segments = {}
    for place, pairs in enumerate(whole.segment_texts()):
        for code, text in pairs:
            own = codes[:, place] == code
            if own.any():
                segments[text] = _profile(layout, predicted.part(own), labelled.part(own[known]))
    in_order = labelled
    if table.times_ms is not None:
        in_order = labelled.part(np.argsort(table.times_ms[known], kind="stable"))
    estimator = fit_estimator(layout, in_order)
    factors = None if table.times_ms is None else _hour_factors(layout, labelled, table.times_ms[known])
    return PerformanceReference(
        layout=layout,
        profile=whole.profile,
        segment_values=values,
        segments=segments,
        hour_factors=factors,
        estimator=b"" if estimator is None else encode_estimator(estimator),
    )


def _columns(table: ReferenceTable) -> dict[str, Column]:
    given = {"score": table.score, "label": table.label_predicted, "value": table.value}
    given |= {f"scores.{name}": column for name, column in table.scores.items()}
    return {name: column for name, column in given.items() if column is not None}


def _layout(
    table: ReferenceTable, settings: ReferenceSettings, columns: Mapping[str, Column], excluded: Collection[str]
) -> PerformanceLayout | None:
    if settings.task not in ("binary", "multiclass", "regression") or table.label is None:
        return None
    task = cast("Task", settings.task)
    classes = settings.classes or ()
    if task == "binary":
        if settings.positive_label is None or len(set(classes) | {settings.positive_label}) != 2:
            return None
        classes = (*(name for name in classes if name != settings.positive_label), settings.positive_label)
    elif task == "multiclass" and not 2 <= len(classes) <= 64:
        return None
    if task == "regression" and "value" not in columns:
        return None
    truth = table.label.values if isinstance(table.label, NumericColumn) else np.zeros(0)
    truth = truth[np.isfinite(truth)]
    if task == "regression" and len(truth) == 0:
        return None
    return performance_layout(
        task=task,
        classes=classes,
        score=_values(columns.get("score")),
        scores=_scores(columns, classes, table.rows) if task == "multiclass" else None,
        predicted_value=_values(columns.get("value")),
        truth=truth,
        weight=_weights(table),
        features={name: table.features[name] for name in sorted(table.features.keys() - excluded)[:FEATURE_LIMIT]},
    )


def _weights(table: ReferenceTable) -> NDArray[np.float64] | None:
    """None where the table weighs no row."""
    if table.weight is None:
        return None
    return np.where(np.isfinite(table.weight.values), table.weight.values, 1.0)


def _values(column: Column | None) -> NDArray[np.float64] | None:
    return column.values if isinstance(column, NumericColumn) else None


def _scores(columns: Mapping[str, Column], classes: tuple[str, ...], rows: int) -> NDArray[np.float64]:
    given = [_values(columns.get(f"scores.{name}")) for name in classes]
    return np.stack([np.full(rows, np.nan) if values is None else values for values in given], axis=1)


def _labelled(
    layout: PerformanceLayout, label: Column, predicted: PredictedRows, rows: int
) -> tuple[NDArray[np.int64], LabelledRows]:
    """The places of the rows with a label, and those rows."""
    if isinstance(label, NumericColumn):
        truth, codes = label.values, np.zeros(rows, np.uint8)
        known = np.flatnonzero(np.isfinite(truth))
    else:
        truth, codes = np.full(rows, np.nan), class_codes(layout, label, rows)
        known = np.flatnonzero(np.array([isinstance(text, str) for text in label.values], np.bool_))
    count = len(known)
    whole = LabelledRows(
        predicted=predicted.part(known),
        label=codes[known],
        truth=truth[known],
        value=np.full(count, np.nan),
        delay_ms=np.zeros(count, np.int64),
        sign=np.ones(count, np.int8),
    )
    return known, whole


def _profile(layout: PerformanceLayout, predicted: PredictedRows, labelled: LabelledRows) -> PerformanceProfile:
    return merge(fold_predicted(layout, predicted, sampled=False), fold_labelled(layout, labelled))


def _segment_values(table: ReferenceTable, settings: ReferenceSettings) -> dict[str, tuple[str, ...]]:
    values = {}
    for name in sorted(settings.segments):
        column = table.features[name]
        texts = column.values if isinstance(column, CategoryColumn) else ()
        counts = Counter(category_text(text) for text in texts if not (text is None or isinstance(text, Marker)))
        ranked = sorted((text for text in counts if text != "other"), key=lambda text: (-counts[text], text))
        values[name] = tuple(text for text in ranked[:SEGMENT_VALUES] if counts[text] >= SEGMENT_MIN_ROWS)
    return values


def _segment_codes(values: tuple[str, ...], column: CategoryColumn) -> NDArray[np.uint8]:
    known = {value: code for code, value in enumerate(values)}
    codes: dict[object, int] = {}
    for value in set(column.values):
        missing = value is None or isinstance(value, Marker)
        codes[value] = NO_SEGMENT if missing else known.get(category_text(cast("str | float", value)), OTHER_SEGMENT)
    return np.fromiter((codes[value] for value in column.values), np.uint8, len(column.values))


def loss_of(layout: PerformanceLayout, rows: LabelledRows) -> NDArray[np.float64]:
    """The loss of each row in [0, 1]: 1 for a wrong decision; the absolute error over the reference's range, at most 1. NaN where unknown."""
    if layout.task == "regression":
        return np.minimum(np.abs(rows.predicted.score - rows.truth) / layout.span, 1.0)
    known = (rows.label < len(layout.classes)) & (rows.predicted.decision < len(layout.classes))
    return np.where(known, rows.label != rows.predicted.decision, np.nan).astype(np.float64)


def hours_of_week(times_ms: NDArray[np.int64]) -> NDArray[np.int64]:
    return (times_ms - _EPOCH_MONDAY_MS) % WEEK_MS // HOUR_MS


def _hour_factors(
    layout: PerformanceLayout, rows: LabelledRows, times_ms: NDArray[np.int64]
) -> NDArray[np.float64] | None:
    """Each hour's mean loss over the mean, shrunk towards 1 by how few labels it has."""
    if len(times_ms) == 0 or int(times_ms.max()) - int(times_ms.min()) < 3 * WEEK_MS - HOUR_MS:
        return None
    loss = loss_of(layout, rows)
    usable = np.isfinite(loss)
    if not usable.any() or float(loss[usable].mean()) <= 0:
        return None
    hours = hours_of_week(times_ms[usable])
    counts = np.bincount(hours, minlength=168)
    sums = np.bincount(hours, weights=loss[usable], minlength=168)
    factors: NDArray[np.float64] = (sums / float(loss[usable].mean()) + _HOUR_SHRINKAGE) / (counts + _HOUR_SHRINKAGE)
    return factors
