"""What a submission changes once the store has said what was there before.

The usual rows (a new prediction, one outcome that meets one prediction, or both at once) are settled together in numpy; all others go
through `outcome_rules` one by one. Both give the same (a test holds them together).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from monitor.joining import rules
from monitor.joining.columns import OUTCOME_HEAD, Bools, Places, Submission
from monitor.joining.outcomes import Contributions, JoinCounts, LayoutKey, PairChanges, PredictionChanges

_PREFIX = rules.PREDICTION_HEAD.size
_LAYOUT = slice(0, 4)  # of a record

# The place of a submitted key, and the predictions and outcomes that were stored for it. A bare tuple: there may be one for each event.
Before = tuple[int, bytes | None, bytes | None]


class Change(NamedTuple):
    """The whole of what the row of the submitted key at `place` holds from now on."""

    place: int
    predictions: bytes | None
    outcomes: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Settled:
    """`news` marks the keys whose submission adds to what was stored. `changes` are the rows that come to something else than filling
    their empty sides with what was submitted."""

    contributions: Contributions
    counts: JoinCounts
    changes: list[Change]
    news: Bools


def settle(submitted: Submission, before: Sequence[Before], layouts: rules.Layouts) -> Settled:
    """`before` for each submitted key that was known, `layouts` of all codes in there and in the submission.

    Raises ValueError where records of one layout are of two widths.
    """
    old = _Old(submitted, before)
    plan = _Plan(submitted, old)
    predicted, pairs = _Predicted(), _Pairs()
    predicted.add(list(compress(submitted.predictions, plan.fresh)), submitted.heads[plan.fresh])
    _add_met(pairs, submitted, old, plan.met)
    _add_awaited(pairs, submitted, old, plan.awaited)
    slow = _OneByOne(submitted, old, layouts)
    for place in np.flatnonzero(plan.slow).tolist():
        slow.settle(place)
    slow.add_to(predicted, pairs)
    news = plan.fast.copy()
    news[slow.news] = True
    return Settled(
        contributions=Contributions(predicted=predicted.by_layout(layouts), labelled=pairs.by_layout(layouts)),
        counts=JoinCounts(*map(sum, zip(plan.counts, slow.counts, strict=True))),
        changes=slow.changes,
        news=news,
    )


class _Old:
    """What was stored, for each submitted key."""

    def __init__(self, submitted: Submission, before: Sequence[Before]) -> None:
        self.predictions: list[bytes | None] = [None] * len(submitted.keys)
        self.outcomes: list[bytes | None] = [None] * len(submitted.keys)
        for place, predictions, outcomes in before:
            self.predictions[place] = predictions
            self.outcomes[place] = outcomes


class _Plan:
    """Which rows are settled how: `fast` together, `slow` one by one, the others say nothing new."""

    def __init__(self, new: Submission, old: _Old) -> None:
        had_prediction, had_outcome = _given(old.predictions), _given(old.outcomes)
        prediction, outcome = _given(new.predictions), _given(new.outcomes)
        known = new.plain & (had_prediction | had_outcome)
        same = known & (~prediction | _equal(new.predictions, old.predictions))
        same &= ~outcome | _equal(new.outcomes, old.outcomes)
        fast = new.plain & ~same & ~(prediction & had_prediction) & ~(outcome & had_outcome)
        fast &= ~had_prediction | _is_one_prediction(old.predictions, fast & had_prediction)
        fast &= ~had_outcome | _is_one_outcome(old.outcomes, fast & had_outcome)
        self.fast, self.slow = fast, ~fast & ~same
        self.fresh = fast & prediction
        self.met = fast & outcome & (prediction | had_prediction)
        self.awaited = fast & prediction & had_outcome
        self.counts = JoinCounts(
            copies=int((same & prediction).sum()),
            repeats=int((same & outcome).sum()),
            pairs=int(self.met.sum() + self.awaited.sum()),
            orphans=int((fast & outcome & ~prediction & ~had_prediction).sum()),
        )


class _OneByOne:
    """Rows that take more than columns, and what they change."""

    def __init__(self, submitted: Submission, old: _Old, layouts: rules.Layouts) -> None:
        self._new, self._old, self._layouts = submitted, old, layouts
        self._counted = [JoinCounts()]
        self.changes: list[Change] = []
        self.news: list[int] = []
        self._predicted: list[tuple[int, int, bytes]] = []
        self._pairs: list[tuple[int, int, bytes, rules.Outcome]] = []

    def settle(self, place: int) -> None:
        new, old, layouts = self._new, self._old, self._layouts
        given = new.several.get(place) or ([new.predictions[place] or b""], [new.outcomes[place] or b""])
        before = rules.state_of(old.predictions[place], old.outcomes[place], layouts)
        predictions = [record for blob in given[0] for record in rules.split_predictions(blob)]
        outcomes = [outcome for blob in given[1] for outcome in rules.split_outcomes(blob)]
        after, changed, counts = rules.take(before, predictions, outcomes, layouts)
        self._counted.append(counts)
        stored = rules.encode(after)
        if stored != (old.predictions[place], old.outcomes[place]):
            self.news.append(place)
        if stored != (old.predictions[place] or new.predictions[place], old.outcomes[place] or new.outcomes[place]):
            self.changes.append(Change(place, *stored))
        self._predicted += [(place, sign, record) for sign, record in changed.predicted]
        self._pairs += [(place, sign, record, outcome) for sign, record, outcome in changed.labelled]

    @property
    def counts(self) -> JoinCounts:
        return JoinCounts(*map(sum, zip(*self._counted, strict=True)))

    def add_to(self, predicted: _Predicted, pairs: _Pairs) -> None:
        if self._predicted:
            places, signs, records = zip(*self._predicted, strict=True)
            predicted.add([rules.join_predictions([r]) for r in records], self._new.heads[list(places)], signs)
        if self._pairs:
            places, signs, records, outcomes = zip(*self._pairs, strict=True)
            ts_ms, value = np.array([o.ts_ms for o in outcomes]), np.array([o.value for o in outcomes])
            blobs = [rules.join_predictions([record]) for record in records]
            labels = [outcome.label for outcome in outcomes]
            pairs.add(blobs, self._new.heads[list(places)], ts_ms, value, labels, signs)


@dataclass(slots=True)
class _Predicted:
    """Changes of all layouts, to be parted by layout at the end."""

    blobs: list[bytes | None] = field(default_factory=list)
    heads: list[NDArray[np.uint64]] = field(default_factory=list)
    signs: list[NDArray[np.int8]] = field(default_factory=list)

    def add(self, blobs: Sequence[bytes | None], heads: NDArray[np.uint64], signs: Sequence[int] | None = None) -> None:
        self.blobs += blobs
        self.heads.append(heads)
        self.signs.append(np.ones(len(blobs), np.int8) if signs is None else np.array(signs, np.int8))

    def by_layout(self, layouts: rules.Layouts) -> dict[LayoutKey, PredictionChanges]:
        heads, signs = np.concatenate(self.heads), np.concatenate(self.signs)
        return {
            layout: PredictionChanges(raw=raw, keys=heads[places], sign=signs[places])
            for layout, places, raw in _by_layout(self.blobs, layouts)
        }


@dataclass(slots=True)
class _Pairs:
    """The same of pairs, with the columns of their outcomes."""

    rows: _Predicted = field(default_factory=_Predicted)
    ts_ms: list[NDArray[np.int64]] = field(default_factory=list)
    value: list[NDArray[np.float64]] = field(default_factory=list)
    labels: list[str | None] = field(default_factory=list)

    def add(  # noqa: PLR0917
        self,
        blobs: Sequence[bytes | None],
        heads: NDArray[np.uint64],
        ts_ms: NDArray[np.int64],
        value: NDArray[np.float64],
        labels: Sequence[str | None],
        signs: Sequence[int] | None = None,
    ) -> None:
        self.rows.add(blobs, heads, signs)
        self.ts_ms.append(ts_ms)
        self.value.append(value)
        self.labels += labels

    def by_layout(self, layouts: rules.Layouts) -> dict[LayoutKey, PairChanges]:
        heads, signs = np.concatenate(self.rows.heads), np.concatenate(self.rows.signs)
        ts_ms, value = np.concatenate(self.ts_ms), np.concatenate(self.value)
        return {
            layout: PairChanges(
                raw=raw,
                keys=heads[places],
                sign=signs[places],
                ts_ms=ts_ms[places],
                value=value[places],
                labels=[self.labels[place] for place in places.tolist()],
            )
            for layout, places, raw in _by_layout(self.rows.blobs, layouts)
        }


def _add_met(pairs: _Pairs, new: Submission, old: _Old, rows: Bools) -> None:
    """A submitted outcome and the one prediction there is, submitted or stored."""
    columns = new.outcome_rows[rows]
    blobs = [a or b for a, b in compress(zip(new.predictions, old.predictions, strict=True), rows)]
    labels = [new.labels[row] for row in columns.tolist()]
    pairs.add(blobs, new.heads[rows], new.ts_ms[columns], new.value[columns], labels)


def _add_awaited(pairs: _Pairs, new: Submission, old: _Old, rows: Bools) -> None:
    """A submitted prediction and the one outcome that was stored."""
    stored = list(compress(old.outcomes, rows))
    head = _outcome_heads(stored)
    texts = [blob[OUTCOME_HEAD.itemsize :] for blob in stored if blob is not None]
    label_of: dict[tuple[bytes, bool], str | None] = {
        (text, labelled): text.decode("utf-8", "surrogatepass") if labelled else None
        for text in set(texts)
        for labelled in (True, False)
    }
    labels = [label_of[pair] for pair in zip(texts, (head["kind"] == rules.LABELLED).tolist(), strict=True)]
    pairs.add(list(compress(new.predictions, rows)), new.heads[rows], head["ts"], head["value"], labels)


def _given(blobs: Sequence[bytes | None]) -> Bools:
    return np.array([blob is not None for blob in blobs], bool)


def _equal(new: Sequence[bytes | None], old: Sequence[bytes | None]) -> Bools:
    return np.array([a == b for a, b in zip(new, old, strict=True)], bool)


def _is_one_prediction(blobs: Sequence[bytes | None], rows: Bools) -> Bools:
    """Whether one version has scored the id, for the `rows` asked about; False for all others."""
    some = list(compress(blobs, rows))
    one = np.zeros(len(some), bool)
    for places, raw in _by_width(some):
        one[places] = np.ascontiguousarray(raw[:, :_PREFIX]).view("<u2")[:, 0] == raw.shape[1] - _PREFIX
    found = np.zeros(len(rows), bool)
    found[rows] = one
    return found


def _is_one_outcome(blobs: Sequence[bytes | None], rows: Bools) -> Bools:
    """Whether it is one outcome that names no version, and no tombstone, for the `rows` asked about; False for all others."""
    some = list(compress(blobs, rows))
    head = _outcome_heads(some)
    lengths = np.array([len(blob or b"") for blob in some], np.int64) - OUTCOME_HEAD["length"].itemsize
    found = np.zeros(len(rows), bool)
    found[rows] = (head["length"] == lengths) & (head["kind"] != rules.RETRACTED) & (head["version"] == 0)
    return found


def _outcome_heads(blobs: Sequence[bytes | None]) -> NDArray[np.void]:
    """The head of the first record of each."""
    size = OUTCOME_HEAD.itemsize
    return np.frombuffer(b"".join([blob[:size] for blob in blobs if blob is not None]), OUTCOME_HEAD)


def _by_width(blobs: Sequence[bytes | None]) -> Iterator[tuple[Places, NDArray[np.uint8]]]:
    """The blobs (none is None) in groups of one length: their places, and uint8[n, length]."""
    lengths = np.array([len(blob or b"") for blob in blobs], np.int64)
    for width in np.unique(lengths).tolist():
        places = np.flatnonzero(lengths == width)
        some = blobs if len(places) == len(blobs) else [blobs[place] for place in places.tolist()]
        data = b"".join([blob for blob in some if blob is not None])
        yield places, np.frombuffer(data, np.uint8).reshape(len(places), width)


def _by_layout(
    blobs: Sequence[bytes | None], layouts: rules.Layouts
) -> Iterator[tuple[LayoutKey, Places, NDArray[np.uint8]]]:
    """The blobs, one record each, in groups of one layout: their places, and the records as uint8[n, width]."""
    seen: set[int] = set()
    for places, raw in _by_width(blobs):
        records = raw[:, _PREFIX:]
        codes = np.ascontiguousarray(records[:, _LAYOUT]).view("<u4")[:, 0]
        order = np.argsort(codes, kind="stable")
        distinct, starts = np.unique(codes[order], return_index=True)
        for code, some in zip(distinct.tolist(), np.split(order, starts[1:]), strict=True):
            if code in seen:
                raise ValueError(f"records of {layouts[code]} are of two widths")
            seen.add(code)
            yield layouts[code], places[some], records[some]
