"""What events bring to the join, and what the pairs that it makes add to the panes of performance."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detectors.columns import CategoryColumn, NumericColumn
from detectors.concept import arrival_codec
from detectors.performance import codec as performance_codec
from detectors.performance.layout import codes_of
from detectors.performance.profile import PerformanceProfile
from detectors.performance.reference import NO_SEGMENT, OTHER_SEGMENT
from detectors.performance.scored import NO_CLASS
from detectors.reference.build import ReferenceSettings, ReferenceTable, build_reference, encode_reference
from monitor.decoding.events import OutcomeBatch
from monitor.joining.contributions import MERGES, Joined, Joining
from monitor.joining.outcomes import Contributions, LayoutKey, PairChanges, PredictionChanges, PredictionRows, join_keys
from monitor.references import ReferenceBook
from monitor.store import PerformanceDelta, PerformanceKey, ReferenceRow, Store
from parts.judged_windows import EU, NO, US, YES, Rows, drawn, known, reference
from parts.stores import Worker

HOUR = 3_600_000
T = 1_767_571_200_000
RULES = Joined(size_ms=HOUR, retention_ms=90 * 24 * HOUR)
LAYOUT = LayoutKey("churn", "1", reference().hash)
BARE = build_reference(
    ReferenceTable(rows=300, features={"x": NumericColumn(np.arange(300.0) % 7)}), ReferenceSettings(task="unlabelled")
)


def _row(of, model: str) -> ReferenceRow:
    return ReferenceRow(
        hash=of.hash, model=model, version="", payload=encode_reference(of), source_path="r", source_sha256="s",
        settings="{}", rows=of.rows, warnings="[]", recorded_at_ms=1,
    )  # fmt: skip


BOOK = ReferenceBook.of([_row(reference(), "churn"), _row(BARE, "bare")], 1)


def joining(**changes: object) -> Joining:
    rules = replace(RULES, **changes)  # type: ignore[arg-type]
    return Joining({"churn": rules, "bare": rules}, BOOK)


def all_of(layout: LayoutKey, rows: Rows) -> dict[LayoutKey, np.ndarray]:
    return {layout: np.arange(len(rows.x))}


def ids_of(rows: Rows) -> list[str]:
    return [f"i{i}" for i in range(len(rows.x))]


def times_of(rows: Rows, hours: int = 1) -> np.ndarray:
    return T + np.arange(len(rows.x)) * hours * HOUR // len(rows.x)


def submitted(
    rows: Rows, times: np.ndarray, into: Joining | None = None, ids: Sequence[str] | None = None
) -> PredictionRows:
    into = into or joining()
    into.predictions(
        all_of(LAYOUT, rows), ids or ids_of(rows), times, columns=rows.columns(), features=rows.features(), weights=None
    )
    (found,) = into.drain().predictions
    return found


def outcome_batch(
    ids: Sequence[str],
    times: np.ndarray,
    labels: Sequence[str | None],
    values: object = np.nan,
    versions: Sequence[str] | None = None,
) -> OutcomeBatch:
    n = len(ids)
    return OutcomeBatch(
        model="churn", rows=np.arange(n), ids=ids, versions=versions or [""] * n, times_ms=times, labels=labels,
        values=np.broadcast_to(np.asarray(values, np.float64), (n,)),
    )  # fmt: skip


# -- on the way in


def test_a_record_holds_what_was_said_in_coarse_codes_and_no_feature_value() -> None:
    rows = drawn(50)
    region = [None, "MARS", *rows.region[2:].tolist()]
    features = {"x": NumericColumn(rows.x), "region": CategoryColumn(region)}
    into = joining()
    weights = np.linspace(0.5, 2.0, 50)
    into.predictions(
        all_of(LAYOUT, rows), ids_of(rows), times_of(rows), columns=rows.columns(), features=features, weights=weights
    )
    (found,) = into.drain().predictions
    records = found.records
    assert (found.layout, found.keys) == (LAYOUT, join_keys("churn", ids_of(rows)))
    assert found.retention_ms == RULES.retention_ms
    for name, expected in (
        ("ts", times_of(rows)),
        ("score", rows.score),
        ("weight", weights),
        ("decision", rows.decision),
    ):
        assert records[name].tolist() == expected.tolist()
    for place, feature in enumerate(known().layout.features):
        assert records["codes"][:, place].tolist() == codes_of(feature, features[feature.name]).tolist()
    places = {value: code for code, value in enumerate(known().segment_values["region"])}
    assert records["segments"][:, 0].tolist() == [NO_SEGMENT, OTHER_SEGMENT, *(places[r] for r in region[2:])]
    assert records.dtype.itemsize < 40, "bytes a waiting prediction takes"


def test_where_no_label_was_predicted_the_threshold_decides() -> None:
    rows = drawn(40)
    into = joining(decision_threshold=0.7)
    label = CategoryColumn([YES, None] * 20)
    into.predictions(
        all_of(LAYOUT, rows), ids_of(rows), times_of(rows), columns={"score": NumericColumn(rows.score), "label": label}, features={}, weights=None
    )  # fmt: skip
    decision = into.drain().predictions[0].records["decision"]
    assert decision[::2].tolist() == [1] * 20
    assert decision[1::2].tolist() == (rows.score[1::2] >= 0.7).astype(int).tolist()


def test_without_a_threshold_there_is_no_decision() -> None:
    rows = drawn(5)
    into = joining()
    into.predictions(
        all_of(LAYOUT, rows),
        ids_of(rows),
        times_of(rows),
        columns={"score": NumericColumn(rows.score)},
        features={},
        weights=None,
    )
    assert into.drain().predictions[0].records["decision"].tolist() == [NO_CLASS] * 5


def test_sampling_keeps_the_same_ids_on_both_sides_however_they_are_cut() -> None:
    rows = drawn(2_000)
    ids, times = ids_of(rows), times_of(rows)
    into = joining(sample=0.3)
    whole = submitted(rows, times, joining(sample=0.3))
    for part in (slice(0, 3), slice(3, 1_500), slice(1_500, 2_000)):
        into.outcomes(outcome_batch(ids[part], times[part], [YES] * len(ids[part])))
    found = [key for batch in into.drain().outcomes for key in batch.keys]
    drawn_by_hash = [
        key for key in (blake2b(f"churn\0{i}".encode(), digest_size=16).digest() for i in ids)
        if int.from_bytes(key[:8], "big") < 0.3 * 2**64
    ]  # fmt: skip
    assert found == whole.keys == drawn_by_hash
    assert 0.25 < len(found) / 2_000 < 0.35
    assert whole.records["ts"].tolist() == [
        t for t, i in zip(times, ids, strict=True) if join_keys("churn", [i])[0] in set(found)
    ]


def test_sampled_outcomes_keep_their_own_label_value_and_version() -> None:
    ids = [f"i{i}" for i in range(200)]
    into = joining(sample=0.4)
    into.outcomes(outcome_batch(ids, T + np.arange(200), ids, np.arange(200.0), [str(i % 3) for i in range(200)]))
    (batch,) = into.drain().outcomes
    assert join_keys("churn", [str(label) for label in batch.labels]) == batch.keys
    places = [int(str(label)[1:]) for label in batch.labels]
    assert 0 < len(places) < 200
    assert (batch.value.tolist(), (batch.ts_ms - T).tolist()) == ([float(p) for p in places], places)
    assert batch.versions == [str(p % 3) for p in places]


def test_a_model_whose_reference_holds_no_labels_joins_nothing() -> None:
    into = joining()
    assert into.wants("churn")
    assert not into.wants("bare")
    assert not into.wants("stranger")
    rows = drawn(5)
    into.predictions(
        all_of(LayoutKey("bare", "1", BARE.hash), rows), ids_of(rows), times_of(rows), columns=rows.columns(), features={}, weights=None
    )  # fmt: skip
    into.retract("bare", ["i1"], [T])
    assert into.drain() is None


def test_a_drain_begins_anew() -> None:
    into = joining()
    into.retract("churn", ["i1"], [T])
    assert into.drain() is not None
    assert into.drain() is None


# -- on the way out


def changes(
    rows: Rows,
    times: np.ndarray,
    *,
    sign: int = 1,
    delay_ms: int = HOUR,
    labels: Sequence[str | None] | None = None,
    value: float = np.nan,
) -> Contributions:
    """All rows as new predictions with their outcomes (or taken back)."""
    found = submitted(rows, times)
    n = len(found.keys)
    raw = found.records.view(np.uint8).reshape(n, -1)
    keys = np.array([int.from_bytes(key[:8], "big") for key in found.keys], np.uint64)
    signs = np.full(n, sign, np.int8)
    return Contributions(
        predicted={LAYOUT: PredictionChanges(raw=raw, keys=keys, sign=signs)},
        labelled={
            LAYOUT: PairChanges(
                raw=raw, keys=keys, sign=signs, ts_ms=times + delay_ms, value=np.full(n, value),
                labels=[(NO, YES)[t] for t in rows.truth] if labels is None else labels,
            )
        },
    )  # fmt: skip


def pane(delta: PerformanceDelta) -> PerformanceProfile:
    return performance_codec.decode(delta.profile, known().layout)


def key(kind: str, hour: int, segment: str = "") -> PerformanceKey:
    return PerformanceKey("churn", kind, T + hour * HOUR, "1", LAYOUT.reference, segment)  # type: ignore[arg-type]


def test_pairs_count_in_the_pane_of_the_prediction_and_in_that_of_the_outcome_by_segment() -> None:
    rows = drawn(300)
    times = times_of(rows, 3)
    deltas = joining().fold(changes(rows, times, delay_ms=2 * HOUR))
    assert set(deltas) == {
        key(kind, hour + 2 * (kind == "arrival"), segment)
        for kind in ("pane", "arrival") for hour in range(3) for segment in ("", EU, US)
    }  # fmt: skip
    for hour in range(3):
        here = (times >= T + hour * HOUR) & (times < T + (hour + 1) * HOUR)
        for segment, own in (("", here), (EU, here & (rows.region == "EU")), (US, here & (rows.region == "US"))):
            profile = pane(deltas[key("pane", hour, segment)])
            arrived = arrival_codec.decode(deltas[key("arrival", hour + 2, segment)].profile)
            assert (profile.rows, profile.labelled_rows, arrived.labels) == (own.sum(),) * 3
            wrong = int((~rows.right & own).sum())
            assert known().layout.view(profile.vector, "loss")[1] == arrived.loss == wrong * 2**20


def test_what_is_taken_back_leaves_no_trace() -> None:
    rows = drawn(120)
    once = joining(sequences=True).fold(changes(rows, times_of(rows), value=3.5))
    back = joining(sequences=True).fold(changes(rows, times_of(rows), value=3.5, sign=-1))
    assert once.keys() == back.keys()
    for place in once:
        total = MERGES[place.kind](once[place].profile, back[place].profile)
        assert once[place].rows + back[place].rows == 0
        if place.kind == "pane":
            assert not performance_codec.decode(total, known().layout).vector.any()
        else:
            arrived = arrival_codec.decode(total)
            assert (arrived.labels, arrived.loss, arrived.loss_squared) == (0, 0, 0)
            assert arrived.rows is not None
            assert len(arrived.rows.ts_ms) == 0


def test_an_outcome_that_tells_money_only_adds_money_only() -> None:
    rows = drawn(100)
    deltas = joining().fold(changes(rows, times_of(rows), labels=[None] * 60 + [YES] * 40, value=2.5))
    profile = pane(deltas[key("pane", 0)])
    assert (profile.rows, profile.labelled_rows) == (100, 40)
    assert known().layout.view(profile.vector, "value")[0] == 100
    assert arrival_codec.decode(deltas[key("arrival", 1)].profile).labels == 40


def test_a_label_outside_the_classes_is_counted_and_arrives_nowhere() -> None:
    rows = drawn(100)
    deltas = joining().fold(changes(rows, times_of(rows), labels=["moved"] * 30 + [YES] * 70))
    profile = pane(deltas[key("pane", 0)])
    assert (profile.labelled_rows, int(known().layout.view(profile.vector, "unknown_labels")[0])) == (70, 30)
    assert arrival_codec.decode(deltas[key("arrival", 1)].profile).labels == 70


@pytest.mark.parametrize(
    ("rules", "arrivals", "single"), [({}, 3, False), ({"sequences": True}, 3, True), ({"concept": False}, 0, False)]
)
def test_arrivals_are_kept_as_the_detectors_ask(rules: dict[str, bool], arrivals: int, single: bool) -> None:
    rows = drawn(50)
    deltas = joining(**rules).fold(changes(rows, times_of(rows)))
    found = [arrival_codec.decode(delta.profile) for place, delta in deltas.items() if place.kind == "arrival"]
    assert len(found) == arrivals
    assert all((profile.rows is not None) == single for profile in found)


def test_contributions_of_a_layout_that_nobody_knows_are_left_out() -> None:
    found = changes(drawn(10), times_of(drawn(10)))
    other = LAYOUT._replace(reference="f" * 64)
    assert (
        joining().fold(
            Contributions(predicted={other: found.predicted[LAYOUT]}, labelled={other: found.labelled[LAYOUT]})
        )
        == {}
    )


# -- any way of coming, the same totals

Event = tuple[str, int, int, str, str | None]  # kind, id, time, version, label or score


def some_events(chance: random.Random, count: int) -> list[Event]:
    """Few ids and times, so that there are copies, conflicts, corrections, outcomes first, tombstones."""
    events: list[Event] = []
    for _ in range(count):
        kind = chance.choice(["prediction"] * 4 + ["outcome"] * 4 + ["retraction"] * (chance.random() < 0.2))
        ts_ms = T + chance.randrange(3) * HOUR + chance.randrange(3)
        version = chance.choice(["1", "1", "2"] if kind == "prediction" else ["", "", "1"])
        events.append((kind, chance.randrange(14), ts_ms, version, chance.choice([NO, YES, "moved", None])))
    return events + chance.sample(events, min(5, count))


def stored(batches: Sequence[Sequence[Event]]) -> dict[PerformanceKey, bytes]:
    """Each batch as one checkpoint of a real store; the totals that came of them, without those that are nothing."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Store.open(f"sqlite:///{folder}/s.db", durable=False)) as store,
    ):
        worker = Worker(store)
        for batch in batches:
            into = joining(sequences=True)
            for event in batch:
                _submit(into, event)
            worker.checkpoint(join=into.drain(), fold=into.fold, merges=MERGES)
        totals: dict[PerformanceKey, bytes] = {}
        with store.closing("churn") as tx:
            assert tx is not None
            for kind in ("pane", "arrival"):
                for place, parts in tx.performance(kind, tx.performance_starts(kind, 0, 2**60)).items():
                    (total,) = parts
                    totals[place] = _counts(kind, total)
    return {place: total for place, total in totals.items() if total}


def _submit(into: Joining, event: Event) -> None:
    kind, number, ts_ms, version, text = event
    times = np.array([ts_ms])
    if kind == "retraction":
        into.retract("churn", [f"i{number}"], [ts_ms])
    elif kind == "outcome":
        into.outcomes(outcome_batch([f"i{number}"], times, [text], 1.5 if text is None else np.nan, [version]))
    else:
        row = Rows(
            x=np.array([0.1 * number]), region=np.array(["EU", "US"])[[number % 2]], score=np.array([0.7 if text else 0.2]),
            truth=np.zeros(1, int),
        )  # fmt: skip
        layout = LAYOUT._replace(version=version)
        into.predictions(
            {layout: np.arange(1)}, [f"i{number}"], times, columns=row.columns(), features=row.features(), weights=None
        )


def _counts(kind: str, total: bytes) -> bytes:
    if kind == "pane":
        profile = performance_codec.decode(total, known().layout)
        return performance_codec.counts(profile) if profile.vector.any() else b""
    arrived = arrival_codec.decode(total)
    return arrival_codec.encode(arrived) if arrived.labels or arrived.loss else b""


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 10_000), st.integers(5, 60))
def test_any_order_and_split_into_checkpoints_gives_the_totals_of_one(seed: int, count: int) -> None:
    chance = random.Random(seed)
    events = some_events(chance, count)
    whole = stored([events])
    chance.shuffle(events)
    cuts = sorted({0, len(events), *(chance.randrange(len(events)) for _ in range(chance.randrange(1, 6)))})
    assert stored([events[a:b] for a, b in pairwise(cuts)]) == whole


def test_the_law_is_about_pairs_of_every_kind() -> None:
    totals = stored([some_events(random.Random(2), 150)])
    assert {(place.kind, place.version, place.segment) for place in totals} == {
        (kind, version, segment) for kind in ("pane", "arrival") for version in ("1", "2") for segment in ("", EU, US)
    }
