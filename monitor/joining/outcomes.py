"""Predictions and outcomes on their way to each other: what a checkpoint hands to the join and what the join gives back, in columns.

A row of the join stands for one (model, prediction id). It holds one small record for each version that scored the id and the outcomes
that came for it. The rules by which copies, conflicts and corrections settle are in `outcome_rules`; they know no order of arrival.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16


class LayoutKey(NamedTuple):
    """What a prediction record belongs to; version "" is the event that names none."""

    model: str
    version: str
    reference: str


def join_keys(model: str, ids: Sequence[str]) -> list[bytes]:
    """The key of each prediction id: BLAKE2b-128 of the model's name, NUL and the id, in UTF-8."""
    prefix = model.encode() + b"\0"
    try:
        return [blake2b(prefix + text.encode(), digest_size=KEY_BYTES).digest() for text in ids]
    except UnicodeEncodeError:  # half a surrogate pair, which JSON lets through
        encoded = [text.encode("utf-8", "surrogatepass") for text in ids]
        return [blake2b(prefix + text, digest_size=KEY_BYTES).digest() for text in encoded]


def record_dtype(features: int, segments: int = 0, classes: int = 0) -> np.dtype[np.void]:
    """A prediction as it is stored, packed and little-endian; `layout` is filled in by the store.

    `score` is NaN where there is none, `codes` and `segments` are one byte each, `scores` is for multiclass models only.
    Two records are copies of one prediction if their bytes are equal, so give every NaN as `numpy.nan`.
    """
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("layout", "<u4"),
        ("ts", "<i8"),
        ("score", "<f8"),
        ("weight", "<f8"),
        ("decision", "u1"),
        ("codes", "u1", (features,)),
        ("segments", "u1", (segments,)),
        ("scores", "<f8", (classes,)),
    ]
    return np.dtype(fields)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictionRows:
    """n predictions of one layout: `records` of `record_dtype`, shape (n,), with the time in ms UTC. Any order, copies too.

    A row of the join is forgotten once the model's watermark has passed the newest time of its events by `retention_ms`.
    """

    layout: LayoutKey
    keys: Sequence[bytes]
    records: NDArray[np.void]
    retention_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OutcomeRows:
    """n outcomes of one model. `value` is NaN where there is none, `labels` None; `versions` None where no row names one, else "" for those."""

    model: str
    keys: Sequence[bytes]
    ts_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    labels: Sequence[str | None]
    versions: Sequence[str] | None = None
    retention_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RetractionRows:
    """n tombstones of one model: whatever came or will come for these ids counts nowhere. `ts_ms` only says how long they are remembered."""

    model: str
    keys: Sequence[bytes]
    ts_ms: NDArray[np.int64]
    retention_ms: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class JoinBatch:
    """All that the records of one checkpoint bring to the join. Several entries may be of one layout or model."""

    predictions: Sequence[PredictionRows] = ()
    outcomes: Sequence[OutcomeRows] = ()
    retractions: Sequence[RetractionRows] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictionChanges:
    """n predictions of one layout that enter (sign +1) or leave (-1) what is counted.

    `raw` uint8[n, width] are their records, see `records`; `keys` uint64[n] the first 8 bytes, big-endian, of their join keys.
    """

    raw: NDArray[np.uint8]
    keys: NDArray[np.uint64]
    sign: NDArray[np.int8]

    def records(self, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        """The records as `record_dtype` of their layout, shape (n,). Raises ValueError where they are of another width."""
        return records_of(self.raw, dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PairChanges:
    """n pairs of a prediction of one layout and its outcome that enter (+1) or leave (-1) what is counted.

    A correction is the old pair with -1 and the new one with +1. `ts_ms`, `value` (NaN none) and `labels` (None none) are the outcome's.
    """

    raw: NDArray[np.uint8]
    keys: NDArray[np.uint64]
    sign: NDArray[np.int8]
    ts_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    labels: Sequence[str | None]

    def records(self, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        """The records as `record_dtype` of their layout, shape (n,). Raises ValueError where they are of another width."""
        return records_of(self.raw, dtype)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contributions:
    """What a checkpoint changed, by layout, in no particular order. Only the sum over all checkpoints means something."""

    predicted: Mapping[LayoutKey, PredictionChanges] = field(default_factory=dict)
    labelled: Mapping[LayoutKey, PairChanges] = field(default_factory=dict)


class JoinCounts(NamedTuple):
    """What the join made of the events of one checkpoint.

    `copies` predictions that were there already, `conflicts` such as differed; `pairs` (version, outcome) that met, `corrections` pairs
    that changed; `repeats` outcomes that changed nothing; `retracted` ids that count no more; `orphans` ids with an outcome and still
    no prediction; `late` contributions to windows that are forgotten.
    """

    copies: int = 0
    conflicts: int = 0
    pairs: int = 0
    corrections: int = 0
    repeats: int = 0
    retracted: int = 0
    orphans: int = 0
    late: int = 0


def records_of(raw: NDArray[np.uint8], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    """View uint8[n, width] as n records. Raises ValueError where the width is another."""
    if raw.shape[1] != dtype.itemsize:
        raise ValueError(f"records of {raw.shape[1]} bytes, expected {dtype.itemsize}")
    return np.ascontiguousarray(raw).view(dtype)[:, 0]
