"""Events as columns: what the codec makes of a block of record values, and what it could not use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from detectors.columns import Column


class Reason(StrEnum):
    """Why a record is in quarantine."""

    TOO_LARGE = "too_large"
    BAD_ENCODING = "bad_encoding"  # not UTF-8, a byte order mark, U+0000 or a lone surrogate in a name
    BAD_JSON = "bad_json"
    TOO_DEEP = "too_deep"
    SCHEMA_VIOLATION = "schema_violation"
    BAD_TIMESTAMP = "bad_timestamp"
    FUTURE_TIMESTAMP = "future_timestamp"
    UNDECODABLE_BATCH = "undecodable_batch"


@dataclass(frozen=True, slots=True)
class Rejected:
    """The record at `row` of the block is not an event; `detail` says what to mend and holds no payload text."""

    row: int
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventBatch:
    """Predictions of one model, as columns of equal length n.

    `rows[i]` is the place of event i in the block of values it was decoded from (rising). `versions[i]` is "" where the event names none.
    `times_ms` is int64. `features` are in the order of the schema's features. `score` and `value` are NumericColumns (NaN where not given);
    `label` is a CategoryColumn of normalised label texts (None where not given); `scores` one NumericColumn per class of a multiclass model.
    `weights` is float64, None where no event of the block names one (each counts 1).
    """

    model: str
    rows: NDArray[np.int64]
    ids: Sequence[str]
    versions: Sequence[str]
    times_ms: NDArray[np.int64]
    features: tuple[Column, ...]
    score: Column
    label: Column
    value: Column
    scores: tuple[Column, ...] = ()
    classes: tuple[str, ...] = ()  # the class of each of `scores`
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.times_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeBatch:
    """Outcomes of one model. `labels[i]` is a normalised text, a float (regression) or None; `versions[i]` is "" where not named."""

    model: str
    rows: NDArray[np.int64]
    ids: Sequence[str]
    versions: Sequence[str]
    times_ms: NDArray[np.int64]
    labels: Sequence[str | float | None]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.times_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """All that came of one block of values. Every row of the block is in exactly one of these, or was a null value."""

    predictions: Sequence[EventBatch] = ()
    outcomes: Sequence[OutcomeBatch] = ()
    rejected: Sequence[Rejected] = ()
    unconfigured: Sequence[tuple[int, str]] = ()  # (row, model name)
