"""How one row of the join settles: bytes in and out, one row at a time. `outcome_columns` does the same for many rows at once.

The state of a row is the least upper bound of everything that came for its id, so no order, repetition or grouping of events matters:
of the predictions of one version the smallest (time, reference, bytes) stands, of the outcomes that name one version (or none) the
largest (time, label, value); a tombstone stands above all and leaves nothing. A prediction pairs with the outcome that names its
version, else with the one that names none.

Bytes of a row, little-endian. Predictions: for each version u16 length, record (`record_dtype`). Outcomes: for each version named
u32 length of what follows, u8 kind, i64 time, f64 value (NaN none), u16 length of the version, version, label (both UTF-8).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from monitor.joining.outcomes import JoinCounts, LayoutKey

UNLABELLED, LABELLED, RETRACTED = range(3)  # kinds of an outcome record
PREDICTION_HEAD = struct.Struct("<H")
OUTCOME_HEAD = struct.Struct("<IBqdH")
RECORD_BYTES_MAX = 2**16 - 1
_LENGTH_BYTES = 4
_RECORD_START = struct.Struct("<Iq")  # layout, time
_LAYOUT_BYTES = 4

Layouts = Mapping[int, LayoutKey]  # by code


class Outcome(NamedTuple):
    """`value` is NaN where there is none, `label` None; `version` "" names none."""

    ts_ms: int
    label: str | None
    value: float
    version: str = ""

    @property
    def rank(self) -> tuple[int, bool, str, bytes]:
        """The largest wins. Values are compared as bytes: any total order will do, and NaN must have a place in it."""
        return self.ts_ms, self.label is not None, self.label or "", struct.pack(">d", self.value)


@dataclass(frozen=True, slots=True)
class RowState:
    """`predictions` are records by version, `outcomes` by the version they name; both are empty once `retracted`."""

    predictions: dict[str, bytes] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    retracted: bool = False

    def outcome_of(self, version: str) -> Outcome | None:
        return self.outcomes.get(version) or self.outcomes.get("")


class Changes(NamedTuple):
    """What enters (+1) and leaves (-1) the counts: predictions, and pairs of a prediction with its outcome."""

    predicted: list[tuple[int, bytes]]
    labelled: list[tuple[int, bytes, Outcome]]


def split_predictions(blob: bytes | None) -> Iterator[bytes]:
    place = 0
    while blob is not None and place < len(blob):
        (length,) = PREDICTION_HEAD.unpack_from(blob, place)
        place += PREDICTION_HEAD.size + length
        yield blob[place - length : place]


def join_predictions(records: Iterable[bytes]) -> bytes:
    return b"".join(PREDICTION_HEAD.pack(len(record)) + record for record in records)


def split_outcomes(blob: bytes | None) -> Iterator[Outcome | None]:
    """None stands for a tombstone."""
    place = 0
    while blob is not None and place < len(blob):
        length, kind, ts_ms, value, version_length = OUTCOME_HEAD.unpack_from(blob, place)
        version_end = place + OUTCOME_HEAD.size + version_length
        version = blob[place + OUTCOME_HEAD.size : version_end].decode("utf-8", "surrogatepass")
        place += _LENGTH_BYTES + length
        label = blob[version_end:place].decode("utf-8", "surrogatepass") if kind == LABELLED else None
        yield None if kind == RETRACTED else Outcome(ts_ms, label, value, version)


def join_outcomes(outcomes: Iterable[Outcome | None]) -> bytes:
    return b"".join(map(_outcome_record, outcomes))


def state_of(predictions: bytes | None, outcomes: bytes | None, layouts: Layouts) -> RowState:
    """The state that stored bytes hold, or that any number of submissions one after the other make."""
    records: dict[str, bytes] = {}
    heard: dict[str, Outcome] = {}
    for record in split_predictions(predictions):
        version = layouts[_RECORD_START.unpack_from(record)[0]].version
        standing = records.get(version)
        if standing is None or _rank(record, layouts) < _rank(standing, layouts):
            records[version] = record
    for outcome in split_outcomes(outcomes):
        if outcome is None:
            return RowState(retracted=True)
        known = heard.get(outcome.version)
        if known is None or known.rank < outcome.rank:
            heard[outcome.version] = outcome
    return RowState(records, heard)


def encode(state: RowState) -> tuple[bytes | None, bytes | None]:
    """The bytes of (predictions, outcomes), one and the same for equal states; None for an empty side."""
    if state.retracted:
        return None, join_outcomes([None])
    predictions = join_predictions(record for _, record in sorted(state.predictions.items()))
    outcomes = join_outcomes(outcome for _, outcome in sorted(state.outcomes.items()))
    return predictions or None, outcomes or None


def with_prediction(state: RowState, record: bytes, layouts: Layouts) -> RowState:
    version = layouts[_RECORD_START.unpack_from(record)[0]].version
    standing = state.predictions.get(version)
    if state.retracted or (standing is not None and _rank(standing, layouts) <= _rank(record, layouts)):
        return state
    return RowState(state.predictions | {version: record}, state.outcomes)


def with_outcome(state: RowState, outcome: Outcome | None) -> RowState:
    """None is a tombstone."""
    if outcome is None:
        return RowState(retracted=True)
    standing = state.outcomes.get(outcome.version)
    if state.retracted or (standing is not None and standing.rank >= outcome.rank):
        return state
    return RowState(state.predictions, state.outcomes | {outcome.version: outcome})


def merge(a: RowState, b: RowState, layouts: Layouts) -> RowState:
    """Commutative, associative, idempotent."""
    for record in b.predictions.values():
        a = with_prediction(a, record, layouts)
    for outcome in b.outcomes.values():
        a = with_outcome(a, outcome)
    return with_outcome(a, None) if b.retracted else a


def changes(before: RowState, after: RowState) -> Changes:
    """What counts in `after` and did not so in `before`, and the other way round. What stays the same is not named."""
    predicted: list[tuple[int, bytes]] = []
    labelled: list[tuple[int, bytes, Outcome]] = []
    for version in before.predictions.keys() | after.predictions.keys():
        old, new = before.predictions.get(version), after.predictions.get(version)
        if old != new:
            predicted += [(sign, record) for sign, record in ((-1, old), (1, new)) if record is not None]
        old_pair, new_pair = _pair(before, version), _pair(after, version)
        if (old_pair is None) != (new_pair is None) or (old_pair and new_pair and _differs(old_pair, new_pair)):
            labelled += [(sign, *pair) for sign, pair in ((-1, old_pair), (1, new_pair)) if pair is not None]
    return Changes(predicted, labelled)


def take(
    before: RowState, predictions: Iterable[bytes], outcomes: Iterable[Outcome | None], layouts: Layouts
) -> tuple[RowState, Changes, JoinCounts]:
    """What submissions make of a row, what that changes, and how they are counted."""
    state = before
    copies = conflicts = repeats = 0
    for record in predictions:
        known = state.predictions.get(layouts[_RECORD_START.unpack_from(record)[0]].version)
        copies += known == record
        conflicts += known is not None and known != record
        state = with_prediction(state, record, layouts)
    for outcome in outcomes:
        later = with_outcome(state, outcome)
        repeats += later is state and not state.retracted
        state = later
    changed = changes(before, state)
    # Neither side ever vanishes but by a tombstone, so a pair that goes makes room for another.
    gone = sum(sign < 0 for sign, *_ in changed.labelled)
    orphan = bool(state.outcomes) and not before.outcomes and not state.predictions
    return (
        state,
        changed,
        JoinCounts(
            copies=copies,
            conflicts=conflicts,
            pairs=0 if state.retracted else len(changed.labelled) - 2 * gone,
            corrections=0 if state.retracted else gone,
            repeats=repeats,
            retracted=int(state.retracted and not before.retracted),
            orphans=int(orphan),
        ),
    )


def _pair(state: RowState, version: str) -> tuple[bytes, Outcome] | None:
    record, outcome = state.predictions.get(version), state.outcome_of(version)
    return None if record is None or outcome is None else (record, outcome)


def _differs(old: tuple[bytes, Outcome], new: tuple[bytes, Outcome]) -> bool:
    # By rank: NaN equals NaN there, and which version an outcome named does not matter.
    return old[0] != new[0] or old[1].rank != new[1].rank


def _rank(record: bytes, layouts: Layouts) -> tuple[int, str, bytes]:
    # The code is left out of it: what wins must not depend on the order in which codes were given.
    code, ts_ms = _RECORD_START.unpack_from(record)
    return ts_ms, layouts[code].reference, record[_LAYOUT_BYTES:]


def _outcome_record(outcome: Outcome | None) -> bytes:
    ts_ms, label, value, version = outcome or Outcome(0, None, math.nan)
    text, name = (label or "").encode("utf-8", "surrogatepass"), version.encode("utf-8", "surrogatepass")
    kind = RETRACTED if outcome is None else UNLABELLED if label is None else LABELLED
    length = OUTCOME_HEAD.size - _LENGTH_BYTES + len(name) + len(text)
    return OUTCOME_HEAD.pack(length, kind, ts_ms, value, len(name)) + name + text
