"""The join settles to the same whatever the order, the repetition and the cuts, in rows as in columns, and to what a recount says."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.joining import rules
from monitor.joining.columns import submission
from monitor.joining.outcomes import (
    JoinBatch,
    JoinCounts,
    LayoutKey,
    OutcomeRows,
    PredictionRows,
    join_keys,
    record_dtype,
    records_of,
)
from monitor.joining.rules import Outcome, RowState
from monitor.joining.settle import settle
from parts.outcomes import DTYPES, Event, batch, changed_rows, events, parts, recount

LAYOUTS = {
    code: LayoutKey(model, version, reference)
    for code, (model, version, reference) in enumerate(
        [(m, v, r) for m in DTYPES for v in ("", "1", "2") for r in ("r1", "r2", "")], start=1
    )
}
CODES = {layout: code for code, layout in LAYOUTS.items()}
CHURN = {code: layout for code, layout in LAYOUTS.items() if layout.model == "churn" and layout.reference}

record = st.builds(
    lambda code, ts, score: np.array([(code, ts, score, 1.0, 0, 7, 0, [])], record_dtype(1, 1)).tobytes(),
    st.sampled_from(sorted(CHURN)),
    st.integers(-1, 1),
    st.sampled_from([0.5, math.nan]),
)
outcome = st.builds(
    Outcome,
    st.integers(-1, 1),
    st.sampled_from([None, "", "0", "ö\ud800"]),
    st.sampled_from([math.nan, 0.0, 2.5]),
    st.sampled_from(["", "1", "2"]),
)


def built(submitted: list[bytes | Outcome | None]) -> RowState:
    state = RowState()
    for one in submitted:
        state = rules.with_prediction(state, one, LAYOUTS) if isinstance(one, bytes) else rules.with_outcome(state, one)
    return state


states = st.builds(built, st.lists(st.one_of(record, record, outcome, outcome, st.none()), max_size=5))


@settings(deadline=None)
@given(states, states, states)
def test_merging_knows_no_order_no_grouping_and_no_repetition(a, b, c):
    def merge(x, y):
        return rules.merge(x, y, LAYOUTS)

    assert rules.encode(merge(a, b)) == rules.encode(merge(b, a))
    assert rules.encode(merge(a, merge(b, c))) == rules.encode(merge(merge(a, b), c))
    assert rules.encode(merge(merge(a, b), b)) == rules.encode(merge(a, b))


@settings(deadline=None)
@given(states)
def test_stored_bytes_hold_the_whole_state(state):
    predictions, outcomes = rules.encode(state)
    again = rules.state_of(predictions, outcomes, LAYOUTS)
    assert rules.encode(again) == (predictions, outcomes)
    assert rules.changes(state, again) == ([], [])
    assert again.retracted == state.retracted


@settings(deadline=None)
@given(states, states)
def test_changes_lead_from_one_state_to_the_other(a, b):
    predicted, labelled = rules.changes(a, b)
    for sign in (1, -1):
        gone, come = (a, b) if sign == 1 else (b, a)
        assert {r for s, r in predicted if s == sign} == set(come.predictions.values()) - set(gone.predictions.values())
    assert sum(s for s, *_ in labelled) == pairs(b) - pairs(a)


def pairs(state: RowState) -> int:
    return sum(state.outcome_of(version) is not None for version in state.predictions)


class Stored:
    """Either database, as far as the join sees it: sides filled by the statement and rows overwritten, or a log that is added up."""

    def __init__(self, kind: str) -> None:
        self.log, self.rows = kind == "log", dict[bytes, tuple[bytes | None, bytes | None]]()
        self.predicted, self.labelled, self.counts = Counter(), Counter(), JoinCounts()

    def take(self, some: list[Event]) -> JoinCounts:
        new = submission(batch(some), CODES)
        before = [(place, *self.rows[key]) for place, key in enumerate(new.keys) if key in self.rows]
        settled = settle(new, before, LAYOUTS)
        if self.log:
            for place in np.flatnonzero(settled.news).tolist():
                old = self.rows.get(new.keys[place], (None, None))
                added = zip(old, (new.predictions[place], new.outcomes[place]), strict=True)
                self.rows[new.keys[place]] = tuple((a or b"") + (b or b"") or None for a, b in added)  # type: ignore[assignment]
        else:
            for place, key in enumerate(new.keys):
                old = self.rows.get(key, (None, None))
                self.rows[key] = old[0] or new.predictions[place], old[1] or new.outcomes[place]
            for place, *sides in settled.changes:
                self.rows[new.keys[place]] = tuple(sides)  # type: ignore[assignment]
        predicted, labelled = changed_rows(settled.contributions)
        for total, more in ((self.predicted, predicted), (self.labelled, labelled)):
            total.update(more)
            assert not [row for row, count in total.items() if count not in (0, 1)]
        return settled.counts


@pytest.mark.parametrize("kind", ["rows", "log"])
@settings(deadline=None)
@given(seed=st.integers(0, 2**32), ids=st.sampled_from([1, 3, 30]), count=st.integers(1, 80))
def test_any_order_split_and_repetition_comes_to_the_recount(kind, seed, ids, count):
    rng = random.Random(seed)
    stream = events(rng, count, ids, tombstones=ids > 1)
    stored = Stored(kind)
    for some in parts(rng, stream):
        stored.take(some)
    predicted, labelled = recount(stream)
    assert +stored.predicted == predicted
    assert +stored.labelled == labelled
    rng.shuffle(stream)
    for some in parts(rng, stream):
        stored.take(some)
    assert (+stored.predicted, +stored.labelled) == (predicted, labelled)


@settings(deadline=None)
@given(seed=st.integers(0, 2**32))
def test_rows_and_columns_settle_alike(seed):
    """Rows whose submissions are plain take the way of the columns; taken one by one they give the same."""
    rng = random.Random(seed)
    stream = events(rng, 40, 25)
    stored = Stored("rows")
    for some in parts(rng, stream):
        new = submission(batch(some), CODES)
        before = [(place, *stored.rows[key]) for place, key in enumerate(new.keys) if key in stored.rows]
        slow = replace(new, plain=np.zeros(len(new.keys), bool))
        a, b = settle(new, before, LAYOUTS), settle(slow, before, LAYOUTS)
        assert changed_rows(a.contributions) == changed_rows(b.contributions)
        assert a.counts == b.counts
        assert a.news.tolist() == b.news.tolist()
        stored.take(some)


def prediction(id_: str = "a", ts: int = 0, **more) -> Event:
    return Event("prediction", "churn", id_, ts, **{"version": "1"} | more)


def label(id_: str = "a", ts: int = 5, text: str | None = "1", **more) -> Event:
    return Event("outcome", "churn", id_, ts, label=text, **more)


GONE = Event("tombstone", "churn", "a")


@pytest.mark.parametrize(
    ("before", "now", "counts"),
    [
        ([], [prediction()], {}),
        ([], [label()], {"orphans": 1}),
        ([], [prediction(), label()], {"pairs": 1}),
        ([label()], [prediction()], {"pairs": 1}),
        ([prediction()], [label()], {"pairs": 1}),
        ([prediction()], [prediction(), prediction(score=0.5)], {"copies": 1, "conflicts": 1}),
        ([prediction(), label()], [label(), label(ts=4, text="9")], {"repeats": 2}),
        ([prediction(), label()], [label(text="2")], {"corrections": 1}),
        ([prediction(), label()], [prediction(ts=-1)], {"conflicts": 1, "corrections": 1}),
        ([prediction(), prediction(version="2")], [label()], {"pairs": 2}),
        ([prediction(), label()], [label(version="1", ts=1)], {"corrections": 1}),
        ([prediction(), label()], [label(version="7")], {}),
        ([prediction(), label()], [GONE], {"retracted": 1}),
        ([GONE], [prediction(), label(), GONE], {}),
        ([label()], [label()], {"repeats": 1}),
        ([prediction()], [prediction("b"), label("c"), label()], {"orphans": 1, "pairs": 1}),
    ],
)
def test_what_came_is_counted(before, now, counts):
    stored = Stored("rows")
    stored.take(before)
    assert stored.take(now) == JoinCounts(**counts)


def test_records_and_keys_are_as_written_down():
    assert record_dtype(20, 2).itemsize == 4 + 8 + 8 + 8 + 1 + 20 + 2
    assert record_dtype(0, 0, 3).itemsize == 29 + 24
    first, strange = join_keys("churn", ["a1"]), join_keys("churn", ["a1", "\ud800"])
    assert first[0].hex() == "e47ca2169e933a2494d2fd55a0701251"  # printf 'churn\\0a1' | b2sum -l 128
    assert strange[:1] == first
    assert len({*strange, *join_keys("churn\0a1", [""]), *join_keys("", ["churn"])}) == 4
    outcome_bytes = rules.join_outcomes([Outcome(258, "ja", 1.0, "v2")])
    assert outcome_bytes.hex() == "17000000" + "01" + "0201000000000000" + "000000000000f03f" + "0200" + "7632" + "6a61"
    with pytest.raises(ValueError):
        records_of(np.zeros((2, 30), np.uint8), record_dtype(0))


def test_an_outcome_that_names_a_version_beats_one_that_names_none():
    state = built([Outcome(9, "late", 0.0), Outcome(1, "named", 0.0, "2")])
    assert [state.outcome_of(version).label for version in ("", "1", "2")] == ["late", "late", "named"]


def test_of_equal_times_the_reference_decides_not_the_code():
    rows = [prediction(reference="r2"), prediction(reference="r1")]
    swapped = {layout: 100 - code for layout, code in CODES.items()}
    for codes in (CODES, swapped):
        layouts = {code: layout for layout, code in codes.items()}
        settled = settle(submission(batch(rows), codes), [], layouts)
        assert list(settled.contributions.predicted) == [LayoutKey("churn", "1", "r1")]


def test_records_of_one_layout_have_one_width():
    codes = {LayoutKey("churn", "1", "r1"): 1, LayoutKey("churn", "", ""): 2}
    wide = PredictionRows(
        layout=LayoutKey("churn", "1", "r1"),
        keys=join_keys("churn", ["w"]),
        records=np.zeros(1, record_dtype(9)),
        retention_ms=1,
    )
    narrow = batch([prediction()])
    both = JoinBatch(predictions=[*narrow.predictions, wide])
    with pytest.raises(ValueError, match="two widths"):
        settle(submission(both, codes), [], {1: LayoutKey("churn", "1", "r1")})
    too_wide = replace(wide, records=np.zeros(1, record_dtype(70_000)))
    with pytest.raises(ValueError, match="at most 65535"):
        submission(JoinBatch(predictions=[too_wide]), codes)


def test_nothing_in_nothing_out():
    none = OutcomeRows(
        model="churn",
        keys=[],
        ts_ms=np.zeros(0, np.int64),
        value=np.zeros(0),
        labels=[],
        versions=[],
        retention_ms=1,
    )
    for empty in (JoinBatch(), JoinBatch(outcomes=[none])):
        settled = settle(submission(empty, CODES), [], LAYOUTS)
        assert (settled.contributions.predicted, settled.contributions.labelled) == ({}, {})
