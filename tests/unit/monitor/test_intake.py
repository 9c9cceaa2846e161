"""Whatever way records are cut, interleaved, blocked or folded: one harvest."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.columns import CategoryColumn, NumericColumn
from detectors.profile import encode, merge
from detectors.reference.build import ReferenceSettings, ReferenceTable, build_reference, encode_reference
from monitor import intake as module
from monitor.clocks import Clock
from monitor.config.types import Model
from monitor.intake import Harvest, Intake
from monitor.ports import PartitionId, RecordChunk
from monitor.references import ReferenceBook
from monitor.store import PaneKey, ReferenceRow

HOUR = 3_600_000
T = 1_767_571_200_000
P0, P1 = PartitionId("events", 0), PartitionId("events", 1)


def _reference(shift: float = 0.0, classes: tuple[str, ...] = (), **features):
    rng = np.random.default_rng(3)
    n = 400
    table = ReferenceTable(
        rows=n,
        features={
            "x": NumericColumn(rng.normal(shift, 1, n)),
            "c": CategoryColumn(list(rng.choice(["a", "b"], n))),
            **features,
        },
        scores={name: NumericColumn(rng.random(n)) for name in classes},
    )
    task = "multiclass" if classes else "unlabelled"
    return build_reference(table, ReferenceSettings(task=task, classes=classes or None))


def _row(reference, model: str = "churn", *, version: str = "", since: int = -(2**62)) -> ReferenceRow:
    return ReferenceRow(
        hash=reference.hash, model=model, version=version, effective_from_ms=since, payload=encode_reference(reference),
        source_path="r", source_sha256="s", settings="{}", rows=reference.rows, warnings="[]", recorded_at_ms=1,
    )  # fmt: skip


OLD, NEW, OWN = _reference(), _reference(0.5), _reference(-0.5)
ROWS = [_row(OLD), _row(NEW, since=T + HOUR), _row(OWN, version="2", since=T + HOUR), _row(OLD, "price")]
MODELS = {"churn": Model().named("churn"), "price": Model().named("price"), "bare": Model().named("bare")}


def new_intake(rows: Sequence[ReferenceRow] = ROWS) -> Intake:
    book = ReferenceBook.of(rows, 7)
    return Intake({name: book.schema(model) for name, model in MODELS.items()}, book, dict.fromkeys(MODELS, HOUR))


def prediction(
    i: int, *, model: str = "churn", version: str | None = None, hour: float = 0.0, x: object = 0.5, c: object = "a"
) -> bytes:
    record = {
        "type": "prediction",
        "model": model,
        "id": f"i{i}",
        "ts": T + int(hour * HOUR),
        "features": {"x": x, "c": c},
        "prediction": {},
    }
    return json.dumps(record | ({"version": version} if version is not None else {})).encode()


def outcome(i: int, model: str = "churn") -> bytes:
    return json.dumps({"type": "outcome", "model": model, "id": f"i{i}", "ts": T, "label": "a"}).encode()


def chunk(
    values: Sequence[bytes | None], partition: PartitionId = P0, first: int = 0, *, stamps: Sequence[int] | None = None
) -> RecordChunk:
    return RecordChunk(
        partition=partition, offsets=range(first, first + len(values)), values=values, timestamps_ms=stamps
    )


def seen(harvest: Harvest) -> dict[str, object]:
    """All of a harvest that may be stored, in a form that can be compared."""
    return {
        "deltas": {key: encode(profile) for key, profile in harvest.deltas.items()},
        "clocks": harvest.clocks,
        "outcome_partitions": harvest.outcome_partitions,
        "quarantine": sorted((bad.partition, bad.offset, bad.reason, bad.detail) for bad in harvest.quarantine),
        "unconfigured": harvest.unconfigured,
        "predictions": harvest.predictions,
        "outcomes": harvest.outcomes,
        "null_values": harvest.null_values,
    }


def drained(*chunks: tuple[RecordChunk, int], rows: Sequence[ReferenceRow] = ROWS) -> Harvest:
    intake = new_intake(rows)
    for one, read_ms in chunks:
        intake.add(one, read_ms)
    return intake.drain()


def some_records(chance: random.Random, count: int) -> list[bytes | None]:
    """Everything that may come, mixed."""
    records: list[bytes | None] = []
    for i in range(count):
        kind = chance.random()
        if kind < 0.75:
            records.append(
                prediction(
                    i,
                    model=chance.choice(["churn", "churn", "price", "bare"]),
                    version=chance.choice([None, "1", "2"]),
                    hour=chance.choice([0.1, 0.9, 1.0, 1.5, 7]),
                    x=chance.choice([chance.gauss(0, 1), None, "nan", 1e9, True]),
                    c=chance.choice(["a", "b", "new", 3, None, [1]]),
                )
            )
        elif kind < 0.85:
            records.append(chance.choice([b"{", b"null", b'{"type":"prediction","model":"churn"}', b"\xff"]))
        else:
            records.append(chance.choice([None, outcome(i), prediction(i, model="nobody"), outcome(i, "stranger")]))
    return records


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 300), st.integers(1, 40), st.integers(1, 120))
def test_any_split_into_chunks_blocks_and_folds_gives_the_same_harvest(
    seed: int, count: int, block: int, fold: int
) -> None:
    chance = random.Random(seed)
    streams = {P0: some_records(chance, count), P1: some_records(chance, count // 2)}
    whole = drained(*[(chunk(values, partition, 100), 5) for partition, values in streams.items()])
    parts = []
    for partition, values in streams.items():
        cuts = sorted({0, len(values), *(chance.randrange(len(values) + 1) for _ in range(4))})
        parts.append([chunk(values[a:b], partition, 100 + a) for a, b in pairwise(cuts)])
    mixed = []
    while any(parts):
        mixed.append(chance.choice([queue for queue in parts if queue]).pop(0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        patch.setattr(module, "FOLD_ROWS", fold)
        assert seen(drained(*[(part, 5) for part in mixed])) == seen(whole)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_two_harvests_add_up_to_one(seed: int) -> None:
    chance = random.Random(seed)
    values = some_records(chance, 150)
    cut = chance.randrange(151)
    whole = drained((chunk(values), 5))
    intake, deltas = new_intake(), {}
    for part in (chunk(values[:cut]), chunk(values[cut:], first=cut)):
        intake.add(part, 5)
        for key, delta in intake.drain().deltas.items():
            deltas[key] = merge(deltas[key], delta) if key in deltas else delta
    assert {key: encode(delta) for key, delta in deltas.items()} == seen(whole)["deltas"]


def test_several_panes_versions_and_references_in_one_block() -> None:
    values = [
        prediction(0, version="1", hour=0.5), prediction(1, version="2", hour=0.5), prediction(2, version="1", hour=1.0),
        prediction(3, version="2", hour=1.5), prediction(4, hour=1.5), prediction(5, version="1", hour=0.9999),
    ]  # fmt: skip
    rows = {key: profile.rows for key, profile in drained((chunk(values), 1)).deltas.items()}
    assert rows == {
        PaneKey("churn", "1", OLD.hash, T): 2,
        PaneKey("churn", "2", OLD.hash, T): 1,
        PaneKey("churn", "1", NEW.hash, T + HOUR): 1,
        PaneKey("churn", "2", OWN.hash, T + HOUR): 1,
        PaneKey("churn", "", NEW.hash, T + HOUR): 1,
    }


def test_a_model_without_a_reference_is_counted_all_the_same() -> None:
    harvest = drained((chunk([prediction(0, model="bare"), prediction(1, model="bare")]), 1))
    ((key, profile),) = harvest.deltas.items()
    assert key == PaneKey("bare", "", "", T)
    assert (profile.rows, len(profile.counts)) == (2, 0)


def test_unknown_models_are_counted_and_not_quarantined() -> None:
    harvest = drained((chunk([prediction(0, model="nobody"), outcome(1, "nobody"), prediction(2)]), 1))
    assert harvest.unconfigured == {"nobody": 2}
    assert not harvest.quarantine
    assert harvest.predictions == {"churn": 1}


def test_null_values_are_counted_and_keep_their_offsets() -> None:
    harvest = drained((chunk([None, b"{", None, prediction(1), b"["], first=40), 1))
    assert harvest.null_values == 2
    assert [bad.offset for bad in harvest.quarantine] == [41, 44]
    assert harvest.predictions == {"churn": 1}


def test_quarantine_names_offsets_across_holes() -> None:
    values = [prediction(0), b"{", prediction(1), b"}"]
    holed = RecordChunk(partition=P1, offsets=[3, 9, 27, 81], values=values)
    assert [(bad.partition, bad.offset) for bad in drained((holed, 1)).quarantine] == [(P1, 9), (P1, 81)]


def test_a_status_that_appears_late_does_not_touch_the_rows_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first block has only numbers and nulls, so its column has no status; the second one brings absent and invalid cells."""
    monkeypatch.setattr(module, "BLOCK_ROWS", 4)
    absent = json.dumps(json.loads(prediction(9)) | {"features": {"c": "a"}}).encode()
    values = [
        *(prediction(i, x=None if i % 2 else 0.5) for i in range(4)),
        prediction(4, x="text"),
        absent,
        prediction(6, x=None),
        prediction(7),
    ]
    (profile,) = drained((chunk(values), 1)).deltas.values()
    place = [subject.name for subject in OLD.layout.subjects].index("x")
    counts = profile.counts[OLD.layout.offsets[place] : OLD.layout.offsets[place + 1]]
    assert counts[-4:].tolist() == [3, 0, 1, 1], "missing, nan, absent, invalid"
    assert counts[:-4].sum() == 3


def test_clocks_are_the_newest_prediction_of_each_partition_and_model_with_its_reading() -> None:
    harvest = drained(
        (chunk([prediction(0, hour=2), prediction(1, hour=5, model="price")]), 10),
        (chunk([prediction(2, hour=1), prediction(3, hour=5, model="price"), outcome(1)], first=2), 20),
        (chunk([prediction(4, hour=3)], P1), 30),
    )
    assert harvest.clocks == {
        (P0, "churn"): Clock(T + 2 * HOUR, 10),
        (P0, "price"): Clock(T + 5 * HOUR, 10),
        (P1, "churn"): Clock(T + 3 * HOUR, 30),
    }
    assert harvest.outcome_partitions == {P0}


def test_outcomes_move_no_clock() -> None:
    harvest = drained((chunk([outcome(0), outcome(1)]), 10))
    assert (harvest.clocks, harvest.outcomes, harvest.outcome_partitions) == ({}, {"churn": 2}, {P0})


def test_a_time_far_ahead_of_its_broker_time_is_refused_whatever_block_it_is_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BLOCK_ROWS", 3)
    stamped = chunk([prediction(i, hour=i) for i in range(4)], stamps=[T] * 4)
    bare = chunk([prediction(i, hour=9) for i in range(4)], P1)
    for order in ((stamped, bare), (bare, stamped)):
        harvest = drained(*[(one, 1) for one in order])
        assert sorted((bad.partition, bad.offset, bad.reason) for bad in harvest.quarantine) == [
            (P0, i, "future_timestamp") for i in (1, 2, 3)
        ]
        assert harvest.predictions == {"churn": 5}


def test_discard_forgets_everything_that_waits() -> None:
    intake = new_intake()
    intake.add(chunk([prediction(0), b"{", None, prediction(2, model="nobody")]), 1)
    intake.discard()
    assert seen(intake.drain()) == seen(Harvest())
    assert intake.pending_bytes == 0


def test_waiting_values_are_not_held_once_decoded() -> None:
    """The origin of a record is kept till the checkpoint, its bytes are not."""
    intake = new_intake()
    for i in range(4):
        intake.add(chunk([prediction(j) for j in range(module.BLOCK_ROWS)], first=i * module.BLOCK_ROWS), 1)
    assert intake.pending_bytes == 0
    assert all(not kept.values for kept, _ in intake._chunks)


def test_a_second_reference_with_another_class_is_folded_by_its_own_classes() -> None:
    two, three = _reference(classes=("a", "b")), _reference(classes=("a", "b", "d"))
    rows = [_row(two), _row(three, since=T + HOUR)]
    event = json.loads(prediction(0)) | {"prediction": {"scores": {"a": 0.2, "b": 0.3, "d": 0.5}}}
    later = event | {"ts": T + HOUR}
    harvest = drained((chunk([json.dumps(event).encode(), json.dumps(later).encode()]), 1), rows=rows)
    assert {key.reference: profile.rows for key, profile in harvest.deltas.items()} == {two.hash: 1, three.hash: 1}
