"""Random predictions, outcomes and tombstones, what they come to by a recount that shares no code with the join, and a stand-in profile."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise

import numpy as np

from monitor.joining.outcomes import (
    Contributions,
    JoinBatch,
    LayoutKey,
    OutcomeRows,
    PredictionRows,
    RetractionRows,
    join_keys,
    record_dtype,
)
from monitor.store import PerformanceDelta, PerformanceKey

HOUR = 3_600_000
DAY = 24 * HOUR
RETENTION = 90 * DAY
DTYPES = {"churn": record_dtype(3, 1), "fraud": record_dtype(2, 0, 4)}  # of two widths


@dataclass(frozen=True, slots=True)
class Event:
    """`kind` is prediction, outcome or tombstone; `score` is all that tells two predictions of one time apart."""

    kind: str
    model: str
    id: str
    ts_ms: int = 0
    version: str = ""
    reference: str = "r1"
    score: float = 0.0
    label: str | None = None
    value: float = math.nan

    @property
    def layout(self) -> LayoutKey:
        return LayoutKey(self.model, self.version, self.reference)


def events(rng: random.Random, count: int, ids: int, *, tombstones: bool = True) -> list[Event]:
    """Few ids and few times, so that there are copies, conflicts, corrections and ties of all sorts."""
    kinds = ["prediction"] * 10 + ["outcome"] * 10 + ["tombstone"] * tombstones
    made: list[Event] = []
    for _ in range(count):
        kind, model = rng.choice(kinds), rng.choice(["churn", "churn", "fraud"])
        event = Event(kind, model, f"id-{rng.randrange(ids)}", rng.randrange(3) * HOUR + rng.randrange(2))
        if kind == "prediction":
            version, reference = rng.choice(["", "1", "1", "2"]), rng.choice(["r1", "r1", "r2"])
            event = Event(kind, model, event.id, event.ts_ms, version, reference, rng.choice([0.25, 0.5, math.nan]))
        elif kind == "outcome":
            version, label = rng.choice(["", "", "", "1", "2"]), rng.choice([None, "0", "1", "ja \N{SNOWMAN}", ""])
            ts_ms, value = event.ts_ms + HOUR // 2, rng.choice([math.nan, 1.5, -2.0])
            event = Event(kind, model, event.id, ts_ms, version, label=label, value=value)
        made.append(event)
        if rng.random() < 0.15:
            made.append(rng.choice(made))
    return made


def batch(some: Sequence[Event]) -> JoinBatch:
    """The events as a checkpoint submits them: one entry for each layout and model."""
    predictions: dict[LayoutKey, list[Event]] = {}
    outcomes: dict[str, list[Event]] = {}
    tombstones: dict[str, list[Event]] = {}
    for event in some:
        if event.kind == "prediction":
            predictions.setdefault(event.layout, []).append(event)
        else:
            (outcomes if event.kind == "outcome" else tombstones).setdefault(event.model, []).append(event)
    return JoinBatch(
        predictions=[_predictions(layout, rows) for layout, rows in predictions.items()],
        outcomes=[_outcomes(model, rows) for model, rows in outcomes.items()],
        retractions=[
            RetractionRows(model=model, keys=_keys(rows), ts_ms=_times(rows), retention_ms=RETENTION)
            for model, rows in tombstones.items()
        ],
    )


def record(event: Event) -> np.ndarray:
    row = np.zeros(1, DTYPES[event.model])
    row["ts"], row["score"], row["weight"], row["codes"] = event.ts_ms, event.score, 1.0, 7
    return row


def _predictions(layout: LayoutKey, rows: Sequence[Event]) -> PredictionRows:
    records = np.concatenate([record(row) for row in rows])
    return PredictionRows(layout=layout, keys=_keys(rows), records=records, retention_ms=RETENTION)


def _outcomes(model: str, rows: Sequence[Event]) -> OutcomeRows:
    versions = [row.version for row in rows]
    return OutcomeRows(
        model=model,
        keys=_keys(rows),
        ts_ms=_times(rows),
        value=np.array([row.value for row in rows]),
        labels=[row.label for row in rows],
        versions=versions if any(versions) else None,
        retention_ms=RETENTION,
    )


def _keys(rows: Sequence[Event]) -> list[bytes]:
    return join_keys(rows[0].model, [row.id for row in rows])


def _times(rows: Sequence[Event]) -> np.ndarray:
    return np.array([row.ts_ms for row in rows], np.int64)


# The stand-in: rows and the sum of a hash of each row, of predictions and of pairs. Equal sums mean equal rows.


def row_hash(*parts: object) -> int:
    return int.from_bytes(blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _vector(counts: Mapping[object, int], place: int) -> np.ndarray:
    total = np.zeros(4, np.uint64)
    rows = sum(counts.values())
    total[place] = rows % 2**64
    total[place + 1] = sum(row_hash(row) * sign for row, sign in counts.items()) % 2**64
    return total


def merge(a: bytes, b: bytes) -> bytes:
    return (np.frombuffer(a, np.uint64) + np.frombuffer(b, np.uint64)).tobytes()


MERGES = {"pane": merge, "arrival": merge}


def changed_rows(changes: Contributions) -> tuple[Counter, Counter]:
    """(predictions, pairs) -> how often they came, less how often they went."""
    predicted: Counter = Counter()
    labelled: Counter = Counter()
    for layout, rows in changes.predicted.items():
        for one, key, sign in zip(rows.records(DTYPES[layout.model]), rows.keys, rows.sign, strict=True):
            predicted[layout, int(key), one.tobytes()[4:]] += int(sign)
    for layout, pairs in changes.labelled.items():
        outcome = zip(pairs.ts_ms.tolist(), pairs.labels, pairs.value, strict=True)
        for one, key, sign, (ts_ms, label, value) in zip(
            pairs.records(DTYPES[layout.model]), pairs.keys, pairs.sign, outcome, strict=True
        ):
            pair = (layout, int(key), one.tobytes()[4:]), ts_ms, label, struct.pack(">d", value)
            labelled[pair] += int(sign)
    return predicted, labelled


def fold(changes: Contributions) -> dict[PerformanceKey, PerformanceDelta]:
    return {key: PerformanceDelta(int(v[0].astype(np.int64)), v.tobytes()) for key, v in _panes(changed_rows(changes))}


def _panes(rows: tuple[Counter, Counter]) -> Iterable[tuple[PerformanceKey, np.ndarray]]:
    panes: dict[PerformanceKey, np.ndarray] = {}
    predicted, labelled = rows
    for row, count in predicted.items():
        _add(panes, "pane", row, _start(row[2]), _vector({row: count}, 0))
    for pair, count in labelled.items():
        _add(panes, "pane", pair[0], _start(pair[0][2]), _vector({pair: count}, 2))
        _add(panes, "arrival", pair[0], pair[1] // HOUR * HOUR, _vector({pair: count}, 2))
    return panes.items()


def _add(panes: dict[PerformanceKey, np.ndarray], kind: str, row: tuple, start: int, vector: np.ndarray) -> None:
    key = PerformanceKey(row[0].model, kind, start, row[0].version, row[0].reference)  # type: ignore[arg-type]
    panes[key] = panes.get(key, np.zeros(4, np.uint64)) + vector


def _start(body: bytes) -> int:
    return struct.unpack_from("<q", body)[0] // HOUR * HOUR


def expected(some: Iterable[Event]) -> dict[PerformanceKey, bytes]:
    """The performance that all these events come to."""
    return {key: vector.tobytes() for key, vector in _panes(recount(some)) if vector.any()}


def recount(some: Iterable[Event]) -> tuple[Counter, Counter]:
    """(predictions, pairs) that count, once each, by looking at all events at once."""
    by_id: dict[tuple[str, str], list[Event]] = {}
    for event in some:
        by_id.setdefault((event.model, event.id), []).append(event)
    predicted, labelled = Counter(), Counter()
    for (model, id_), rows in by_id.items():
        if any(row.kind == "tombstone" for row in rows):
            continue
        key = int.from_bytes(blake2b(f"{model}\0{id_}".encode(), digest_size=16).digest()[:8], "big")
        for version in {row.version for row in rows if row.kind == "prediction"}:
            copies = [row for row in rows if row.kind == "prediction" and row.version == version]
            stands = min(copies, key=lambda row: (row.ts_ms, row.reference, record(row).tobytes()))
            one = stands.layout, key, record(stands).tobytes()[4:]
            predicted[one] += 1
            outcomes = [row for row in rows if row.kind == "outcome" and row.version == version]
            outcomes = outcomes or [row for row in rows if row.kind == "outcome" and row.version == ""]
            if outcomes:
                last = max(
                    outcomes,
                    key=lambda row: (row.ts_ms, row.label is not None, row.label, struct.pack(">d", row.value)),
                )
                labelled[one, last.ts_ms, last.label, struct.pack(">d", last.value)] += 1
    return predicted, labelled


def parts(rng: random.Random, some: Sequence[Event]) -> list[list[Event]]:
    """Cut at random places."""
    cuts = sorted({0, len(some), *(rng.randrange(len(some)) for _ in range(rng.randrange(1, 12)))})
    return [list(some[a:b]) for a, b in pairwise(cuts)]
