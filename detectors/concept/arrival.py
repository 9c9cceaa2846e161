"""Arrival profiles: the losses of labels by the time their outcomes arrived, as exact sums and, where asked for, one by one in order.

Losses are whole multiples of 2**-20, so that any split, order and tree of merges of the same contributions gives the same profile, bit
for bit, and a contribution taken back leaves no trace.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.concept.types import RESOLUTION, ArrivalPane

__all__ = ["UNIT", "ArrivalProfile", "ArrivalRows", "empty", "fold_arrival", "merge", "pane"]

UNIT = int(1.0 / RESOLUTION)  # a loss of 1

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrivalRows:
    """Single losses, rising by (ts_ms, key, loss), each such triple once. `loss` in 2**-20; `count`: how often, never 0, negative where
    more was taken back than is here."""

    ts_ms: Ints
    keys: NDArray[np.uint64]
    loss: Ints
    count: Ints


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrivalProfile:
    """Number of labels, sum of their losses and of their squares (both in 2**-20, each square rounded up). A part of a pane may have
    negative numbers, where what it takes back lies in another part. `rows` is None where single losses are not kept."""

    labels: int
    loss: int
    loss_squared: int
    rows: ArrivalRows | None


def fold_arrival(
    ts_ms: Ints,
    keys: NDArray[np.uint64],
    losses: NDArray[np.float64],
    signs: NDArray[np.int8],
    with_sequence: bool,
) -> ArrivalProfile:
    """Contributions of n labels: outcome time, order key (of the id hash), loss in [0, 1], and +1, or -1 to take one back.

    ValueError when a loss is NaN or outside [0, 1], a sign is something else, or lengths differ.
    """
    if not len(ts_ms) == len(keys) == len(losses) == len(signs):
        raise ValueError("arrival columns differ in length")
    if not bool(((losses >= 0.0) & (losses <= 1.0)).all()):
        raise ValueError("a loss is not a number in [0, 1]")
    if not bool((np.abs(signs) == 1).all()):
        raise ValueError("a sign is neither +1 nor -1")
    loss, sign = np.rint(losses * UNIT).astype(np.int64), signs.astype(np.int64)
    squared = -(-(loss * loss) // UNIT)
    rows = None
    if with_sequence:
        rows = _canonical(ts_ms.astype(np.int64), keys.astype(np.uint64), loss, sign)
    return ArrivalProfile(
        labels=int(sign.sum()), loss=int((sign * loss).sum()), loss_squared=int((sign * squared).sum()), rows=rows
    )


def merge(a: ArrivalProfile, b: ArrivalProfile) -> ArrivalProfile:
    """The profile of the contributions of both. Single losses are known only where both know them."""
    rows = None
    if a.rows is not None and b.rows is not None:
        rows = _canonical(
            np.concatenate((a.rows.ts_ms, b.rows.ts_ms)),
            np.concatenate((a.rows.keys, b.rows.keys)),
            np.concatenate((a.rows.loss, b.rows.loss)),
            np.concatenate((a.rows.count, b.rows.count)),
        )
    return ArrivalProfile(
        labels=a.labels + b.labels, loss=a.loss + b.loss, loss_squared=a.loss_squared + b.loss_squared, rows=rows
    )


def empty(*, with_sequence: bool) -> ArrivalProfile:
    """The profile of no labels."""
    none = np.zeros(0, np.int64)
    rows = ArrivalRows(ts_ms=none, keys=np.zeros(0, np.uint64), loss=none, count=none) if with_sequence else None
    return ArrivalProfile(labels=0, loss=0, loss_squared=0, rows=rows)


def pane(profile: ArrivalProfile, start_ms: int, end_ms: int) -> ArrivalPane:
    """What detectors are given of the whole profile of a pane. ValueError when more was taken back than is here: a part is missing."""
    sequence = None
    if profile.rows is not None:
        if len(profile.rows.count) and int(profile.rows.count.min()) < 0:
            raise ValueError("an arrival pane takes back labels that it does not have")
        sequence = np.repeat(profile.rows.loss, profile.rows.count).astype(np.float64) * RESOLUTION
    return ArrivalPane(
        start_ms=start_ms,
        end_ms=end_ms,
        labels=profile.labels,
        loss_sum=profile.loss * RESOLUTION,
        loss_squared=profile.loss_squared * RESOLUTION,
        sequence=sequence,
    )


def _canonical(ts_ms: Ints, keys: NDArray[np.uint64], loss: Ints, count: Ints) -> ArrivalRows:
    """In order, equal ones as one, those that cancel gone."""
    order = np.lexsort((loss, keys, ts_ms))
    ts_ms, keys, loss, count = ts_ms[order], keys[order], loss[order], count[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (ts_ms[1:] != ts_ms[:-1]) | (keys[1:] != keys[:-1]) | (loss[1:] != loss[:-1])
    starts = np.flatnonzero(first)
    net = np.add.reduceat(count, starts) if len(starts) else count
    kept = starts[net != 0]
    return ArrivalRows(ts_ms=ts_ms[kept], keys=keys[kept], loss=loss[kept], count=net[net != 0])
