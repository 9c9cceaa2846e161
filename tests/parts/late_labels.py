"""Predictions whose labels come late, with all that goes wrong on the way, and a recount of them that shares no code with the service.

Every id is predicted once and, most of them, labelled after up to `days` days, mostly soon. Besides: records that come twice, corrected labels,
outcomes that come before their prediction, ids that a second version scores too, outcomes that name their version, predictions of one id
that differ, ids without a label, and tombstones. The stream is in time order but for what is said above, and comes from the seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tests.parts.broker import NULL

MODEL = "late"
T0_MS = 1_735_689_600_000  # 2025-01-01: before any clock that this runs by
DAY_MS = 86_400_000
PREDICTIONS, OUTCOMES = "predictions", "outcomes"  # the sides: a topic each
WORDS = ("alpha", "beta", "gamma", "delta", "epsilon")
METRICS = ("accuracy", "precision", "recall", "f1")
_PREDICTION, _OUTCOME, _TOMBSTONE = range(3)
_POOL = 4_096  # different sets of features
_CHUNK = 20_000

Line = tuple[str, str, bytes | None]  # side, key, value


@dataclass(frozen=True, kw_only=True)
class Late:
    """`pairs` ids; the shares are of them (copies: of all records)."""

    pairs: int
    days: int = 60
    seed: int = 1
    numeric: int = 4
    categorical: int = 2
    copies: float = 0.03
    corrected: float = 0.03
    outcome_first: float = 0.05
    twice_scored: float = 0.02
    naming: float = 0.02
    differing: float = 0.002
    unlabelled: float = 0.02
    retracted: float = 0.002

    @cached_property
    def records(self) -> pd.DataFrame:
        """kind, id, ts (ms), version (0 names none), score (thousandths), label, in the order in which they are read."""
        rng = np.random.default_rng(self.seed)
        n, days_ms = self.pairs, self.days * DAY_MS
        ids = np.arange(n, dtype=np.int32)
        born = T0_MS + np.sort(rng.integers(0, days_ms, n))
        score = rng.integers(0, 1001, n).astype(np.int16)
        label = (rng.random(n) < score / 1000).astype(np.int8)
        delay = 1 + (rng.random(n) ** 3 * (days_ms - 1)).astype(np.int64)
        version = np.where(rng.random(n) < 0.9, 1, 2).astype(np.int8)
        heard, place = born + delay, born.astype(np.float64)
        early = rng.permutation(np.flatnonzero(delay < DAY_MS))[: int(self.outcome_first * n)]
        place[early] = heard[early] + rng.integers(1, DAY_MS, len(early))

        def some(share: float) -> Any:
            return np.flatnonzero(rng.random(n) < share)

        def part(kind: int, who: Any, ts: Any, *, at: Any = None, by: Any = 0, points: Any = 0, was: Any = 0) -> Any:
            columns = {"kind": np.int8(kind), "id": ids[who], "ts": ts, "version": by, "score": points, "label": was}
            return pd.DataFrame(columns | {"place": ts if at is None else at})

        labelled = np.flatnonzero(rng.random(n) >= self.unlabelled)
        named = np.intersect1d(some(self.naming), labelled)
        unnamed = np.setdiff1d(labelled, named)
        parts = [
            part(_PREDICTION, ids, born, at=place, by=version, points=score),
            part(_OUTCOME, unnamed, heard[unnamed], was=label[unnamed]),
            part(_OUTCOME, named, heard[named], by=version[named], was=label[named]),
        ]
        for who in (np.intersect1d(some(self.corrected), labelled), some(self.naming / 4)):  # also for nobody's version
            later = heard[who] + rng.integers(1, DAY_MS, len(who))
            by = np.where(np.isin(who, named), version[who], 0) if len(parts) == 3 else 3 - version[who]
            parts.append(part(_OUTCOME, who, later, by=by, was=1 - label[who]))
        who = some(self.twice_scored)
        again = born[who] + rng.integers(0, 2 * DAY_MS, len(who))
        parts.append(part(_PREDICTION, who, again, by=3 - version[who], points=1000 - score[who]))
        who = some(self.differing)
        again = born[who] + rng.integers(1, DAY_MS, len(who))
        parts.append(part(_PREDICTION, who, again, by=version[who], points=(score[who] + 500) % 1001))
        who = some(self.retracted)
        parts.append(part(_TOMBSTONE, who, born[who] + rng.integers(0, days_ms, len(who))))
        made = pd.concat(parts, ignore_index=True)
        copied = made[(rng.random(len(made)) < self.copies) & (made["kind"] != _TOMBSTONE)].copy()
        copied["place"] += rng.exponential(DAY_MS, len(copied))
        made = pd.concat([made, copied], ignore_index=True).sort_values("place", kind="stable", ignore_index=True)
        small = {"version": np.int8, "score": np.int16, "label": np.int8}
        return made.drop(columns="place").astype(small)

    def lines(self) -> Iterator[Line]:
        """Every record in its order, a chunk at a time."""
        pool = self._pool()
        for start in range(0, len(self.records), _CHUNK):
            yield from self._rendered(self.records.iloc[start : start + _CHUNK], pool)

    def _pool(self) -> list[str]:
        table = self.table(_POOL, self.seed + 1).drop(columns=["score", "label"])
        names = list(table.columns)
        rows = zip(*(table[name].tolist() for name in names), strict=True)
        return [json.dumps(dict(zip(names, row, strict=True)), separators=(",", ":")) for row in rows]

    def _rendered(self, some: pd.DataFrame, pool: list[str]) -> Iterator[Line]:
        stamps = np.datetime_as_string(some["ts"].to_numpy().astype("M8[ms]"), unit="ms").tolist()
        columns = (some[name].tolist() for name in ("kind", "id", "version", "score", "label"))
        for stamp, kind, number, version, score, label in zip(stamps, *columns, strict=True):
            id_ = f"id-{number}"
            head = f'"model":"{MODEL}","id":"{id_}","ts":"{stamp}Z"'
            if kind == _PREDICTION:
                said = f'"prediction":{{"label":{int(score >= 500)},"score":{score / 1000}}}'
                features = pool[number % _POOL]
                yield (
                    PREDICTIONS,
                    id_,
                    f'{{"type":"prediction",{head},"version":"{version}","features":{features},{said}}}'.encode(),
                )
            elif kind == _OUTCOME:
                named = f',"version":"{version}"' if version else ""
                yield OUTCOMES, id_, f'{{"type":"outcome",{head},"label":{label}{named}}}'.encode()
            else:
                yield OUTCOMES, id_, None

    def table(self, rows: int, seed: int) -> pd.DataFrame:
        """Features, scores and labels of the same kind; of any number of rows."""
        rng = np.random.default_rng(seed)
        columns: dict[str, Any] = {f"n{i:02d}": rng.normal(100, 15, rows).round(4) for i in range(self.numeric)}
        columns |= {f"c{i:02d}": rng.choice(WORDS, rows) for i in range(self.categorical)}
        score = rng.integers(0, 1001, rows) / 1000
        return pd.DataFrame({**columns, "score": score, "label": (rng.random(rows) < score).astype(np.int64)})

    def model(self, folder: Path) -> dict[str, Any]:
        """Its configuration, with a reference that is written into `folder`."""
        path = folder / "reference.parquet"
        pq.write_table(pa.Table.from_pandas(self.table(10_000, self.seed + 2), preserve_index=False), path)
        reference = {"path": str(path), "order": "time"}
        return {
            "task": "binary",
            "positive_label": 1,
            "decision_threshold": 0.5,
            "window": "1d",
            "reference": reference,
        }


Window = tuple[str, int]  # version, start in ms
Confusion = tuple[tuple[int, int], tuple[int, int]]  # rows by [decision][label]


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one window: predictions and labelled ones."""

    rows: int
    labelled: int
    confusion: Confusion

    @property
    def metrics(self) -> dict[str, float | None]:
        (tn, fn), (fp, tp) = self.confusion
        parts = {
            "accuracy": (tp + tn, self.labelled),
            "precision": (tp, tp + fp),
            "recall": (tp, tp + fn),
            "f1": (2 * tp, 2 * tp + fp + fn),
        }
        return {name: over / under if under else None for name, (over, under) in parts.items()}


@dataclass(slots=True)
class Recount:
    """What the windows must hold, from the lines as they were produced: json, a data frame, and the words of the contract.

    Of one version's predictions of an id the earliest stands, of the outcomes that name one version (or none) the latest; a prediction takes
    the one that names its version, else the one that names none; a tombstone leaves nothing of an id.
    """

    records: int = 0
    _frames: list[pd.DataFrame] = field(default_factory=list)
    _rows: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def hear(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Passes the lines on."""
        for line in lines:
            self._rows.append(_read(line[1], line[2]))
            if len(self._rows) >= 200_000:
                self._pack()
            yield line

    def windows(self, size_ms: int = DAY_MS) -> dict[Window, Counts]:
        self._pack()
        rows = pd.concat(self._frames, ignore_index=True)
        gone = rows.loc[rows["kind"] == _TOMBSTONE, "id"].unique()
        rows = rows[~rows["id"].isin(gone)]
        predicted = rows[rows["kind"] == _PREDICTION].sort_values("ts").drop_duplicates(["id", "version"])
        predicted = predicted.rename(columns={"label": "decision"})
        outcomes = rows[rows["kind"] == _OUTCOME].sort_values(["ts", "label"])
        outcomes = outcomes.drop_duplicates(["id", "version"], keep="last")[["id", "version", "label"]]
        unnamed = outcomes[outcomes["version"] == 0].drop(columns="version").rename(columns={"label": "unnamed"})
        met = predicted.merge(outcomes, "left", ["id", "version"]).merge(unnamed, "left", "id")
        met["truth"] = met["label"].where(met["label"].notna(), met["unnamed"])
        met["start"] = met["ts"] // size_ms * size_ms
        return {
            (str(version), int(start)): _counts(group) for (version, start), group in met.groupby(["version", "start"])
        }

    def _pack(self) -> None:
        if self._rows:
            frame = pd.DataFrame(self._rows, columns=["kind", "id", "ts", "version", "label"])
            self._frames.append(frame.astype({"kind": np.int8, "id": np.int32, "version": np.int8, "label": np.int8}))
            self.records += len(self._rows)
            self._rows = []


def _read(key: str, value: bytes | None) -> tuple[int, int, int, int, int]:
    """`label` is the decision of a prediction, by its score."""
    number = int(key.removeprefix("id-"))
    if value is None:
        return _TOMBSTONE, number, 0, 0, 0
    event = json.loads(value)
    ts = int(np.datetime64(event["ts"].removesuffix("Z"), "ms").astype(np.int64))
    if event["type"] == "outcome":
        return _OUTCOME, number, ts, int(event.get("version", 0)), event["label"]
    return _PREDICTION, number, ts, int(event["version"]), int(event["prediction"]["score"] >= 0.5)


def _counts(group: pd.DataFrame) -> Counts:
    known = group[group["truth"].notna()]
    cells = known.groupby(["decision", "truth"]).size()
    tn, fn, fp, tp = (int(cells.get((said, was), 0)) for said in (0, 1) for was in (0, 1))
    return Counts(len(group), len(known), ((tn, fn), (fp, tp)))


def without_retracted(lines: Iterable[Line]) -> Iterator[bytes]:
    """The values of all ids that no tombstone takes back: a file has no tombstones."""
    lines = list(lines)
    gone = {key for _, key, value in lines if value is None}
    return (value for _, key, value in lines if value is not None and key not in gone)


def split(lines: Iterable[Line]) -> Mapping[str, list[tuple[str, bytes]]]:
    """(key, value) by side, as Kafka's console producer takes them."""
    sides: dict[str, list[tuple[str, bytes]]] = {PREDICTIONS: [], OUTCOMES: []}
    for side, key, value in lines:
        sides[side].append((key, NULL if value is None else value))
    return sides


@dataclass(frozen=True, slots=True)
class Answer:
    """What the program says of a window."""

    rows: int
    labelled: int
    metrics: Mapping[str, float | None]
    digest: str


def found(objects: Iterable[Mapping[str, Any]]) -> dict[Window, Answer]:
    """Windows of performance among the objects that the program prints; of several revisions the newest."""
    newest: dict[Window, Mapping[str, Any]] = {}
    for window in objects:
        if window["type"] == "window" and window["monitor"] == "performance" and window["segment"] is None:
            start_ms = int(np.datetime64(window["start"].removesuffix("Z"), "ms").astype(np.int64))
            key = (window["version"], start_ms)
            if key not in newest or newest[key]["revision"] < window["revision"]:
                newest[key] = window
    return {key: _answer(window) for key, window in newest.items()}


def agree(answer: Answer, counts: Counts) -> bool:
    """Whether all that is said of a window is what was counted: numbers exactly, metrics to the last digits of a float."""
    pairs = [(answer.metrics.get(name), value) for name, value in counts.metrics.items()]
    same = all(a == b or (a is not None and b is not None and abs(a - b) < 1e-12) for a, b in pairs)
    return same and (answer.rows, answer.labelled) == (counts.rows, counts.labelled)


def _answer(window: Mapping[str, Any]) -> Answer:
    realised = [f for f in window["findings"] if f["detail"].get("source") == "realised" and f["subject"] in METRICS]
    labelled = {finding["detail"]["labelled"] for finding in realised}
    if len(labelled) > 1:
        raise ValueError(f"findings of one window count labels differently: {labelled}")
    metrics = {finding["subject"]: finding["value"] for finding in realised}
    return Answer(window["rows"], next(chain(labelled, [0])), metrics, window["digest"])
