"""What a checkpoint submits to the join, in columns: one row for each distinct key, sorted, as bytes that can be stored as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from monitor.joining import rules
from monitor.joining.outcomes import JoinBatch, LayoutKey, OutcomeRows, PredictionRows, RetractionRows

_PREFIX = rules.PREDICTION_HEAD.size
_LAYOUT = slice(_PREFIX, _PREFIX + 4)  # of a stored prediction
OUTCOME_HEAD = np.dtype([("length", "<u4"), ("kind", "u1"), ("ts", "<i8"), ("value", "<f8"), ("version", "<u2")])
_TOMBSTONE = rules.join_outcomes([None])

Bools = NDArray[np.bool_]
Places = NDArray[np.intp]
T = TypeVar("T")
N = TypeVar("N", bound=np.generic)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Submission:
    """The distinct keys of a batch in order, with what came for each: `predictions` and `outcomes` as they are stored, None for nothing.

    `plain` rows have at most one of each, and an outcome that names no version; `several` holds the single submissions of the others.
    """

    keys: list[bytes]
    heads: NDArray[np.uint64]  # the first 8 bytes of each key
    models: NDArray[np.int64]
    expires_ms: NDArray[np.int64]
    predictions: list[bytes | None]
    outcomes: list[bytes | None]
    outcome_rows: Places  # of plain rows: place in the columns below, -1 where no outcome came
    ts_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    labels: list[str | None]
    plain: Bools
    several: dict[int, tuple[list[bytes], list[bytes]]]


def submission(batch: JoinBatch, codes: Mapping[LayoutKey, int]) -> Submission:
    """`codes` of all layouts in the batch and of (model, "", "") for all models."""
    rows = _Columns()
    for group in batch.predictions:
        rows.add_predictions(group, codes)
    for outcome_group in batch.outcomes:
        rows.add_outcomes(outcome_group, codes)
    for retracted in batch.retractions:
        rows.add_retractions(retracted, codes)
    return rows.submission({code: layout for layout, code in codes.items()})


@dataclass(slots=True)
class _Columns:
    """The submissions one after the other: first all predictions, then all outcomes."""

    keys: list[bytes] = field(default_factory=list)
    predictions: list[bytes] = field(default_factory=list)
    outcomes: list[bytes] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)
    ts: list[NDArray[np.int64]] = field(default_factory=list)
    value: list[NDArray[np.float64]] = field(default_factory=list)
    special: list[Bools] = field(default_factory=list)
    models: list[tuple[int, int]] = field(default_factory=list)  # code, rows
    expires: list[NDArray[np.int64]] = field(default_factory=list)

    def add_predictions(self, rows: PredictionRows, codes: Mapping[LayoutKey, int]) -> None:
        self._add(rows.keys, rows.layout.model, codes, rows.records["ts"] + rows.retention_ms)
        self.predictions += _prediction_records(rows, codes[rows.layout])
        self.special.append(np.zeros(len(rows.keys), bool))

    def add_outcomes(self, rows: OutcomeRows, codes: Mapping[LayoutKey, int]) -> None:
        self._add(rows.keys, rows.model, codes, rows.ts_ms + rows.retention_ms)
        self.outcomes += _outcome_records(rows)
        self.labels += rows.labels
        self.ts.append(rows.ts_ms)
        self.value.append(rows.value)
        versions = [""] * len(rows.keys) if rows.versions is None else rows.versions
        self.special.append(np.array([version != "" for version in versions], bool))

    def add_retractions(self, rows: RetractionRows, codes: Mapping[LayoutKey, int]) -> None:
        count = len(rows.keys)
        self._add(rows.keys, rows.model, codes, rows.ts_ms + rows.retention_ms)
        self.outcomes += [_TOMBSTONE] * count
        self.labels += [None] * count
        self.ts.append(rows.ts_ms)
        self.value.append(np.full(count, np.nan))
        self.special.append(np.ones(count, bool))

    def _add(
        self, keys: Sequence[bytes], model: str, codes: Mapping[LayoutKey, int], expires: NDArray[np.int64]
    ) -> None:
        self.keys += keys
        self.models.append((codes[LayoutKey(model, "", "")], len(keys)))
        self.expires.append(expires)

    def submission(self, layouts: rules.Layouts) -> Submission:
        heads, order, starts = _grouped(self.keys)
        count, boundary = len(self.keys), len(self.predictions)
        is_prediction = order < boundary
        sizes = np.diff(np.append(starts, count))
        plain = sizes == 1
        if len(starts) == count:
            special = _joined(self.special, bool)[order]
        else:
            special = np.logical_or.reduceat(_joined(self.special, bool)[order], starts)
            predictions = np.add.reduceat(is_prediction.astype(np.int64), starts)
            plain |= (sizes == 2) & (predictions == 1)
        plain &= ~special
        prediction_rows = _largest(np.where(is_prediction, order, -1), starts)
        outcome_rows = _largest(np.where(is_prediction, -1, order - boundary), starts)
        codes, rows = np.array(self.models, np.int64).reshape(-1, 2).T
        models = np.repeat(codes, rows)
        first = order[starts]
        made = Submission(
            keys=[self.keys[place] for place in first.tolist()],
            heads=heads[first],
            models=models[first],
            expires_ms=_largest(_joined(self.expires, np.int64)[order], starts),
            predictions=_picked(self.predictions, prediction_rows),
            outcomes=_picked(self.outcomes, outcome_rows),
            outcome_rows=np.where(plain, outcome_rows, -1),
            ts_ms=_joined(self.ts, np.int64),
            value=_joined(self.value, np.float64),
            labels=self.labels,
            plain=plain,
            several={},
        )
        for place in np.flatnonzero(~plain).tolist():
            self._combine(made, place, order[starts[place] : starts[place] + sizes[place]].tolist(), layouts)
        return made

    def _combine(self, made: Submission, place: int, rows: Sequence[int], layouts: rules.Layouts) -> None:
        boundary = len(self.predictions)
        predictions = [self.predictions[row] for row in rows if row < boundary]
        outcomes = [self.outcomes[row - boundary] for row in rows if row >= boundary]
        state = rules.state_of(b"".join(predictions), b"".join(outcomes), layouts)
        made.predictions[place], made.outcomes[place] = rules.encode(state)
        made.several[place] = predictions, outcomes


def _grouped(keys: Sequence[bytes]) -> tuple[NDArray[np.uint64], Places, Places]:
    """The first 8 bytes of each key, the places of the keys in order (of equals as they come), and where in it each distinct key starts."""
    halves = np.frombuffer(b"".join(keys), ">u8").reshape(-1, 2).astype(np.uint64)
    heads, tails = halves[:, 0], halves[:, 1]
    order = np.lexsort((np.arange(len(keys)), tails, heads)) if len(keys) else np.zeros(0, np.intp)
    sorted_heads, sorted_tails = heads[order], tails[order]
    starts = np.ones(len(keys), bool)
    starts[1:] = (sorted_heads[1:] != sorted_heads[:-1]) | (sorted_tails[1:] != sorted_tails[:-1])
    return heads, order, np.flatnonzero(starts)


def _largest(values: NDArray[N], starts: Places) -> NDArray[N]:
    """The largest value of each group."""
    if len(starts) == len(values):
        return values
    largest: NDArray[N] = np.maximum.reduceat(values, starts)
    return largest


def _joined(parts: Sequence[NDArray[N]], dtype: Any) -> NDArray[N]:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def _picked(values: Sequence[T], places: Places) -> list[T | None]:
    """None for place -1."""
    with_none = [*values, None]
    return [with_none[place] for place in places.tolist()]


def _prediction_records(rows: PredictionRows, code: int) -> list[bytes]:
    """As they are stored: u16 length and record, with the layout's code in it. Raises ValueError for records that are too long."""
    width = rows.records.dtype.itemsize
    if width > rules.RECORD_BYTES_MAX:
        raise ValueError(f"prediction records of {width} bytes, at most {rules.RECORD_BYTES_MAX}")
    stored = np.empty((len(rows.records), _PREFIX + width), np.uint8)
    stored[:, _PREFIX:] = np.ascontiguousarray(rows.records).view(np.uint8).reshape(-1, width)
    stored[:, :_PREFIX] = np.frombuffer(rules.PREDICTION_HEAD.pack(width), np.uint8)
    stored[:, _LAYOUT] = np.array([code], "<u4").view(np.uint8)
    return as_blobs(stored)


def _outcome_records(rows: OutcomeRows) -> list[bytes]:
    names = _texts(rows.versions) if rows.versions is not None else []
    texts = _texts(rows.labels)
    head = np.empty(len(texts), OUTCOME_HEAD)
    head["version"] = np.fromiter(map(len, names), np.int64, len(names)) if names else 0
    lengths = np.fromiter(map(len, texts), np.int64, len(texts)) + head["version"]
    head["length"] = lengths + OUTCOME_HEAD.itemsize - OUTCOME_HEAD["length"].itemsize
    none = np.array([label is None for label in rows.labels], bool)
    head["kind"] = np.where(none, rules.UNLABELLED, rules.LABELLED)
    head["ts"], head["value"] = rows.ts_ms, rows.value
    heads = as_blobs(head.view(np.uint8).reshape(-1, OUTCOME_HEAD.itemsize))
    if names:
        return [a + b + c for a, b, c in zip(heads, names, texts, strict=True)]
    return [a + b for a, b in zip(heads, texts, strict=True)]


def _texts(texts: Sequence[str | None]) -> list[bytes]:
    encoded = {text: (text or "").encode("utf-8", "surrogatepass") for text in set(texts)}
    return [encoded[text] for text in texts]


def as_blobs(rows: NDArray[np.uint8]) -> list[bytes]:
    """Each row of uint8[n, width > 0] as bytes."""
    blobs: list[bytes] = np.ascontiguousarray(rows).view(f"V{rows.shape[1]}")[:, 0].tolist()
    return blobs
