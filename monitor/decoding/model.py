"""Decodes the records of one model: a strict attempt for each, a repair for those that fail it, columns for all that are left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import compress
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from detectors.columns import CategoryColumn, NumericColumn
from monitor.decoding.columns import Cells, FeatureColumns, numeric_column
from monitor.decoding.event_schema import EventSchema, Limits, label_number
from monitor.decoding.events import EventBatch, OutcomeBatch, Reason, Rejected
from monitor.decoding.fallback import UnfitError, check_envelope, check_texts, mask_nonfinite, read_slowly
from monitor.decoding.labels import normalise_label
from monitor.decoding.timestamps import Stamp, parse_times
from monitor.decoding.types import DECODE_ERRORS, EventTypes, Record, Type

_WIDE_BLOCKS = 32  # how long to start with the wide decoder after a block that needed it often
_LABELS_KEPT = 4096
_LIKELY_LATEST_MS = 4_102_444_800_000  # 2100: seconds that would be such a time are called seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Intake:
    """A block of values as it came. `suspects` are rows that may hold U+0000 in a text; `odd_texts`: some value holds an escape or
    is longer than the text limit."""

    values: Sequence[bytes | None]
    timestamps_ms: Sequence[int] | None
    suspects: frozenset[int]
    odd_texts: bool


@dataclass(slots=True)
class Parts:
    """What a block has yielded so far. `strays` are rows (and their `ts`) of a model that turned out to be another one."""

    predictions: list[EventBatch] = field(default_factory=list)
    outcomes: list[OutcomeBatch] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    unconfigured: list[tuple[int, str]] = field(default_factory=list)
    strays: dict[str, list[tuple[int, Stamp]]] = field(default_factory=dict)

    def reject(self, row: int, error: UnfitError) -> None:
        self.rejected.append(Rejected(row, error.reason, error.detail))

    def stray(self, model: str, row: int, stamp: Stamp) -> None:
        self.strays.setdefault(model, []).append((row, stamp))


class ModelDecoder:
    """Holds the decoders of one schema and how its producer has behaved lately, which changes the speed and never the result."""

    def __init__(self, schema: EventSchema, any_model: EventTypes, limits: Limits) -> None:
        self._schema = schema
        self._limits = limits
        self._types = EventTypes(schema, limits)
        self._any_model = any_model
        self._columns = FeatureColumns(schema, limits.max_text_length)
        self._labels: dict[object, str] = {}
        self._wide_blocks = 0

    def decode(self, intake: Intake, rows: Sequence[int], parts: Parts) -> None:
        """Puts what the values at `rows` (rising) hold into `parts`."""
        wide = self._wide_blocks > 0
        records, repaired = self._read(intake, rows, parts, wide=wide)
        if len(repaired) * 10 > len(rows) and records.count(None) * 2 < len(repaired):  # mended rather than refused
            self._wide_blocks = _WIDE_BLOCKS
        elif wide:
            self._wide_blocks -= 1
        if repaired and not all(records):
            rows, records = list(compress(rows, records)), list(filter(None, records))
        outcome = self._types.outcome
        if outcome in set(map(type, records)):
            is_outcome = [type(record) is outcome for record in records]
            self._outcomes(intake, list(compress(rows, is_outcome)), list(compress(records, is_outcome)), parts)
            others = [not it for it in is_outcome]
            rows, records = list(compress(rows, others)), list(compress(records, others))
        self._predictions(intake, rows, records, repaired, parts, wide=wide)

    def _read(
        self, intake: Intake, rows: Sequence[int], parts: Parts, *, wide: bool
    ) -> tuple[list[Record], frozenset[int]]:
        """A record or None for each row, and the rows that went to repair."""
        all_values = intake.values
        values: Any = all_values if len(rows) == len(all_values) else [all_values[row] for row in rows]
        decode = (self._types.wide if wide else self._types.strict).decode
        records: list[Record] = []
        append = records.append
        failed = []
        for value in values:
            try:
                append(decode(value))
            except DECODE_ERRORS:
                failed.append(len(records))
                append(None)
        suspect = [i for i, row in enumerate(rows) if row in intake.suspects] if intake.suspects else []
        for i in {*failed, *suspect}:
            records[i] = self._repair(rows[i], values[i], parts, tried_wide=wide and records[i] is None)
        return records, frozenset(rows[i] for i in {*failed, *suspect})

    def _repair(self, row: int, value: bytes, parts: Parts, *, tried_wide: bool) -> Record:
        """The record of a value that the strict decoder refused or that holds odd text; None where `parts` has got it instead."""
        try:
            record = None if tried_wide else self._types.attempt(value, wide=True)
            if record is None and (masked := mask_nonfinite(value)) is not None:
                record = self._types.attempt(masked, wide=True)
            if record is None:
                other = self._any_model.attempt(value)
                if other is not None and other.model != self._schema.model:
                    check_texts({"model": other.model})
                    return parts.stray(other.model, row, other.ts)
                event = read_slowly(value, self._limits)
                check_envelope(event, self._limits)
                check_texts({"model": event["model"]})
                if event["model"] != self._schema.model:
                    return parts.stray(event["model"], row, event["ts"])
                record = _convert(event, self._types.wide_event)
                if event["type"] == "prediction":  # floats may be infinite here, which later steps do not look for
                    record.features = type(record.features)(*self._columns.clean_row(astuple(record.features)))
            if b"\\u" in value:
                answer: Any = getattr(record, "prediction", record)
                check_texts({"id": record.id, "version": record.version, "label": answer.label})
        except UnfitError as error:
            parts.reject(row, error)
            return None
        return record

    def _predictions(
        self,
        intake: Intake,
        rows: Sequence[int],
        records: list[Record],
        repaired: frozenset[int],
        parts: Parts,
        *,
        wide: bool,
    ) -> None:
        rows, records, times = admit(intake, rows, records, self._limits, parts)
        if not records:
            return
        _, versions, ids, _, features, answers, segments, weights = zip(*map(astuple, records), strict=True)
        cells: list[Cells] = list(map(astuple, features))
        if repaired and not wide:
            for i in [i for i, row in enumerate(rows) if row in repaired]:
                cells[i] = self._columns.clean_row(cells[i])
        columns: list[Cells] = list(zip(*cells, strict=True))
        if wide:
            columns = self._columns.clean_columns(columns, odd_texts=intake.odd_texts)
        if any(segments):
            self._columns.fill_from_segments(columns, segments)
        labels, scores, values, class_scores = zip(*map(astuple, answers), strict=True)
        *built, score, value = self._columns.build(columns, (scores, values))
        batch = EventBatch(
            model=self._schema.model,
            rows=_places(rows),
            ids=ids,
            versions=_versions(versions),
            times_ms=times,
            features=tuple(built),
            score=score,
            label=CategoryColumn(self._label_texts(labels)),
            value=value,
            scores=self._class_scores(class_scores) if self._schema.classes else (),
            classes=self._schema.classes,
            weights=_weights(weights),
        )
        parts.predictions.append(batch)

    def _outcomes(self, intake: Intake, rows: Sequence[int], records: list[Record], parts: Parts) -> None:
        rows, records, times = admit(intake, rows, records, self._limits, parts)
        problems = {i: problem for i, record in enumerate(records) if (problem := self._outcome_problem(record))}
        rows, records, times = _without(problems, rows, records, times, parts)
        if not records:
            return
        _, versions, ids, _, labels, values = zip(*map(astuple, records), strict=True)
        regression = self._schema.task == "regression"
        batch = OutcomeBatch(
            model=self._schema.model,
            rows=_places(rows),
            ids=ids,
            versions=_versions(versions),
            times_ms=times,
            labels=[label_number(label) for label in labels] if regression else self._label_texts(labels),
            values=np.array(values, np.float64),
        )
        parts.outcomes.append(batch)

    def _outcome_problem(self, outcome: Record) -> UnfitError | None:
        if outcome.label is None:
            if outcome.value is None:
                return UnfitError(Reason.SCHEMA_VIOLATION, "label: missing (an outcome has a label, a value or both)")
        elif self._schema.task == "regression" and label_number(outcome.label) is None:
            return UnfitError(Reason.SCHEMA_VIOLATION, "label: expected a number, for the task is regression")
        return None

    def _label_texts(self, labels: Sequence[str | float | None]) -> list[str | None]:
        known = self._labels
        if len(known) > _LABELS_KEPT:
            known.clear()
        texts: list[str | None] = []
        for label in labels:
            key = label if type(label) is str else (type(label), label)  # 1, 1.0 and true are equal, and not one label
            text = known.get(key)
            if text is None and label is not None:
                text = known[key] = self._meant(label)
            texts.append(text)
        return texts

    def _meant(self, label: str | float) -> str:
        text = normalise_label(label)
        return self._schema.label_map.get(text, text)

    def _class_scores(self, scores: Sequence[dict[str, float | None] | None]) -> tuple[NumericColumn, ...]:
        keys: dict[str, list[str]] = {name: [] for name in self._schema.classes}
        for key in sorted(set().union(*[given for given in scores if given])):
            keys.get(self._meant(key), []).append(key)
        columns = []
        for names in keys.values():
            cells: list[float | None] = [None] * len(scores)
            for name in names:
                cells = [
                    given[name] if given and name in given else cell for given, cell in zip(scores, cells, strict=True)
                ]
            columns.append(numeric_column(cells))
        return tuple(columns)


def admit(
    intake: Intake, rows: Sequence[int], records: list[Record], limits: Limits, parts: Parts
) -> tuple[Sequence[int], list[Record], NDArray[np.int64]]:
    """The rows and records whose `ts` is a plausible time, and their times; the others are rejected."""
    stamps = [record.ts for record in records]
    times, wrong = parse_times(stamps)
    problems = {i: UnfitError(Reason.BAD_TIMESTAMP, f"ts: {detail}") for i, detail in wrong.items()}
    if len(times) and int(times.min()) < limits.earliest_ms:
        for i in np.flatnonzero(times < limits.earliest_ms).tolist():
            problems.setdefault(i, UnfitError(Reason.BAD_TIMESTAMP, _too_early(stamps[i], int(times[i]), limits)))
    broker = intake.timestamps_ms
    if broker is not None and len(times) and int(times.max()) > min(broker) + limits.future_tolerance_ms:
        for i, row in enumerate(rows):  # a negative broker time says that it has none
            if broker[row] >= 0 and times[i] > broker[row] + limits.future_tolerance_ms:
                detail = "ts: more than 5 minutes" if limits.future_tolerance_ms == 300_000 else "ts: too far"
                detail += " after the broker's own time: see to the producer's clock and unit"
                problems.setdefault(i, UnfitError(Reason.FUTURE_TIMESTAMP, detail))
    return _without(problems, rows, records, times, parts)


def _without(
    problems: dict[int, UnfitError], rows: Sequence[int], records: list[Record], times: NDArray[np.int64], parts: Parts
) -> tuple[Sequence[int], list[Record], NDArray[np.int64]]:
    if not problems:
        return rows, records, times
    for i, error in problems.items():
        parts.reject(rows[i], error)
    keep = [i not in problems for i in range(len(records))]
    return list(compress(rows, keep)), list(compress(records, keep)), times[keep]


def _too_early(stamp: Stamp, time_ms: int, limits: Limits) -> str:
    if not isinstance(stamp, str) and limits.earliest_ms <= time_ms * 1000 < _LIKELY_LATEST_MS:
        return "ts: looks like seconds: send milliseconds"
    return "ts: before 2000-01-01"


def _places(rows: Sequence[int]) -> NDArray[np.int64]:
    return np.arange(rows.start, rows.stop) if isinstance(rows, range) else np.array(rows, np.int64)


def _weights(weights: Sequence[float | None]) -> NDArray[np.float64] | None:
    if weights.count(None) == len(weights):
        return None
    return np.array([1.0 if weight is None else weight for weight in weights], np.float64)


def _versions(versions: Sequence[str | None]) -> Sequence[str]:
    return [version or "" for version in versions] if None in versions else versions  # type: ignore[return-value]


_PATH = re.compile(r"at `\$\.(type|model|version|id|ts|prediction|segment|weight|label|value)\b")


def _convert(event: dict[str, Any], kind: Type) -> Record:
    try:
        return msgspec.convert(event, kind)
    except DECODE_ERRORS as error:
        place = _PATH.search(str(error))
        detail = f"{place[1]}: not as an event has it" if place else "not as an event has it"
        raise UnfitError(Reason.SCHEMA_VIOLATION, detail) from None
