"""Values in, mergeable counts out: the hot path between a source and a checkpoint. No I/O.

Raw values wait per model until a block of them is worth decoding, columns wait until a fold is worth its fixed cost; both waits end at
the checkpoint, so nothing that is stored depends on where blocks were cut. The cost per event is kept in msgspec and numpy: Python
touches single events only to find their model when models interleave.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from detectors.columns import CategoryColumn, Column, NumericColumn, Status
from detectors.profile import Profile, fold, merge
from detectors.reference.build import Reference
from monitor.clocks import Clock
from monitor.decoding.codec import Codec
from monitor.decoding.event_schema import EventSchema
from monitor.decoding.events import Block, EventBatch, Reason
from monitor.joining.contributions import Joined, Joining
from monitor.joining.outcomes import JoinBatch, LayoutKey
from monitor.ports import PartitionId, RecordChunk
from monitor.references import ReferenceBook
from monitor.store import PaneKey
from monitor.versions import Versions

BLOCK_ROWS = 256  # the objects of a block must die in the processor's cache: twice as fast as thousands at once
FOLD_ROWS = 4_000  # a stream that is caught up on has the rows of several panes in it, and each pane costs a fixed part
MAX_PENDING_BYTES = 128 << 20
MAX_DELTAS = 4_000
UNCONFIGURED_NAMES_MAX = 1_000  # kept of one harvest; the store keeps fewer


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One record that is no event, with where it was."""

    partition: PartitionId
    offset: int
    reason: Reason
    detail: str


@dataclass(slots=True)
class Harvest:
    """Everything that came of the records since the last drain; a checkpoint stores it whole or not at all."""

    deltas: dict[PaneKey, Profile] = field(default_factory=dict)
    clocks: dict[tuple[PartitionId, str], Clock] = field(default_factory=dict)
    outcome_partitions: set[PartitionId] = field(default_factory=set)
    quarantine: list[Quarantined] = field(default_factory=list)
    unconfigured: dict[str, int] = field(default_factory=dict)  # by name, "" for names beyond the limit
    folded: dict[str, int] = field(default_factory=dict)  # events of versions that are no longer told apart, by model
    outcome_clocks: dict[tuple[PartitionId, str], Clock] = field(default_factory=dict)
    join: JoinBatch | None = None
    predictions: dict[str, int] = field(default_factory=dict)
    outcomes: dict[str, int] = field(default_factory=dict)
    null_values: int = 0


@dataclass(slots=True)
class _Pending:
    values: list[bytes] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # place of each value in the order of reading


class Intake:
    """Collects chunks and turns them into one Harvest. Not thread-safe; one per consumer loop.

    Callers may not assume that a record shows in the harvest before `drain`, which decodes and folds all that waits.
    """

    def __init__(
        self,
        schemas: Mapping[str, EventSchema],
        book: ReferenceBook,
        window_ms: Mapping[str, int],
        joined: Mapping[str, Joined] | None = None,
        *,
        tombstones: str | None = None,
        versions: Versions | None = None,
    ) -> None:
        self._codec, self._book, self._window_ms = Codec(schemas), book, window_ms
        self.joining = Joining(joined or {}, book)
        self._versions = versions or Versions(dict.fromkeys(schemas, 0))
        self._tombstones = tombstones  # the model whose predictions null values take back
        self._fields = {
            name: {feature.name: place for place, feature in enumerate(schema.features)}
            for name, schema in schemas.items()
        }
        self.newest_ms: dict[
            PartitionId, int
        ] = {}  # newest prediction seen of each partition, for the order of reading
        self.discard()

    def discard(self) -> None:
        """Forget everything since the last drain: another worker owns what it came from, or the store refused it."""
        self._pending: dict[str | None, _Pending] = {}
        self._batches: dict[str, list[EventBatch]] = {}
        self._batched_rows: dict[str, int] = {}
        self._chunks: list[tuple[RecordChunk, int]] = []
        self._bases: list[int] = []
        self._next_place = 0
        self._stamped = False
        self.pending_bytes = 0
        self._harvest = Harvest()
        self.joining.drain()

    @property
    def generation(self) -> int:
        """The state of the references that the deltas stand on; the store refuses a harvest of another."""
        return self._book.generation

    @property
    def crowded(self) -> bool:
        """More panes wait than should be kept in memory: checkpoint now."""
        return len(self._harvest.deltas) > MAX_DELTAS or len(self._harvest.quarantine) > 10_000

    def add(self, chunk: RecordChunk, read_ms: int) -> None:
        """Take a chunk that was read at `read_ms`. Full blocks are decoded at once."""
        base = self._next_place
        self._next_place += len(chunk.values)
        self._chunks.append(
            (replace(chunk, values=(), keys=None), read_ms)
        )  # where values come from, without holding them
        self._bases.append(base)
        self._stamped = self._stamped or chunk.timestamps_ms is not None
        values, places = self._without_nulls(chunk, base, read_ms)
        for start in range(
            0, len(values), BLOCK_ROWS
        ):  # a block is routed and decoded while it is in the processor's cache
            self._gather(values[start : start + BLOCK_ROWS], places[start : start + BLOCK_ROWS])
        if self.pending_bytes > MAX_PENDING_BYTES:
            self._decode_all()

    def drain(self) -> Harvest:
        """Decode and fold all that waits, hand it over and start anew."""
        self._decode_all()
        for model in list(self._batches):
            self._fold(model)
        harvest = self._harvest
        harvest.join = self.joining.drain()
        self.discard()
        return harvest

    def _gather(self, values: list[bytes], places: Sequence[int]) -> None:
        """Put the values to those of their models that wait, and decode what has become a full block."""
        self.pending_bytes += sum(map(len, values))
        hints = self._codec.routes(values)
        if hints.count(hints[0]) == len(hints):
            only = self._pending.setdefault(hints[0], _Pending())
            only.values += values
            only.places += places
            self._decode_full_blocks(only, hints[0])
            return
        for hint in set(hints):
            self._pending.setdefault(hint, _Pending())
        for hint, value, place in zip(hints, values, places, strict=True):
            pending = self._pending[hint]
            pending.values.append(value)
            pending.places.append(place)
            if len(pending.values) == BLOCK_ROWS:
                self._decode_full_blocks(pending, hint)

    def _without_nulls(self, chunk: RecordChunk, base: int, read_ms: int) -> tuple[list[bytes], Sequence[int]]:
        values = chunk.values
        places = range(base, base + len(values))
        kept = [value for value in values if value is not None]
        if len(kept) == len(values):
            return kept, places
        self._harvest.null_values += len(values) - len(kept)
        if self._tombstones is not None and chunk.keys is not None:
            ids = [_id(key) for key, value in zip(chunk.keys, values, strict=True) if value is None and key]
            if ids:
                self.joining.retract(self._tombstones, ids, [read_ms] * len(ids))
        return kept, [place for place, value in zip(places, values, strict=True) if value is not None]

    def _decode_all(self) -> None:
        for hint, pending in self._pending.items():
            for start in range(0, len(pending.values), BLOCK_ROWS):
                self._decode(
                    hint, pending.values[start : start + BLOCK_ROWS], pending.places[start : start + BLOCK_ROWS]
                )
        self._pending.clear()
        self.pending_bytes = 0

    def _decode_full_blocks(self, pending: _Pending, hint: str | None) -> None:
        while len(pending.values) >= BLOCK_ROWS:
            values, places = pending.values[:BLOCK_ROWS], pending.places[:BLOCK_ROWS]
            del pending.values[:BLOCK_ROWS], pending.places[:BLOCK_ROWS]
            self.pending_bytes -= sum(map(len, values))
            self._decode(hint, values, places)

    def _decode(self, hint: str | None, values: list[bytes], places: Sequence[int]) -> None:
        block = self._codec.decode(hint, values, self._broker_times(places))
        spots = np.asarray(places, dtype=np.int64)
        self._set_aside(block, spots)
        for batch in map(self._known_versions, block.predictions):
            self._advance_clocks(batch, spots[batch.rows])
            self._harvest.predictions[batch.model] = self._harvest.predictions.get(batch.model, 0) + len(batch)
            self._batches.setdefault(batch.model, []).append(batch)
            self._batched_rows[batch.model] = self._batched_rows.get(batch.model, 0) + len(batch)
            if self._batched_rows[batch.model] >= FOLD_ROWS:
                self._fold(batch.model)

    def _set_aside(self, block: Block, spots: NDArray[np.int64]) -> None:
        """Account for what is no prediction: rejected records, outcomes, unknown models."""
        for rejected in block.rejected:
            chunk, row, _ = self._origin(int(spots[rejected.row]))
            self._harvest.quarantine.append(
                Quarantined(chunk.partition, chunk.offsets[row], rejected.reason, rejected.detail)
            )
        for outcomes in block.outcomes:
            self._harvest.outcomes[outcomes.model] = self._harvest.outcomes.get(outcomes.model, 0) + len(outcomes)
            chunk_of = np.searchsorted(self._bases, spots[outcomes.rows], side="right") - 1
            for index in np.unique(chunk_of):
                chunk, read_ms = self._chunks[int(index)]
                self._harvest.outcome_partitions.add(chunk.partition)
                clock = Clock(int(outcomes.times_ms[chunk_of == index].max()), read_ms)
                key = (chunk.partition, outcomes.model)
                self._harvest.outcome_clocks[key] = clock.later(self._harvest.outcome_clocks.get(key))
            if self.joining.wants(outcomes.model):
                versions = self._versions.fold_outcomes(outcomes.model, outcomes.versions)
                self.joining.outcomes(replace(outcomes, versions=versions))
        named = self._harvest.unconfigured
        for _, model in block.unconfigured:
            name = model if model in named or len(named) < UNCONFIGURED_NAMES_MAX else ""
            named[name] = named.get(name, 0) + 1

    def _known_versions(self, batch: EventBatch) -> EventBatch:
        versions, folded = self._versions.fold(batch.model, batch.versions, batch.times_ms)
        if not folded:
            return batch
        self._harvest.folded[batch.model] = self._harvest.folded.get(batch.model, 0) + folded
        return replace(batch, versions=versions)

    def _origin(self, place: int) -> tuple[RecordChunk, int, int]:
        index = bisect_right(self._bases, place) - 1
        chunk, read_ms = self._chunks[index]
        return chunk, place - self._bases[index], read_ms

    def _broker_times(self, places: Sequence[int]) -> list[int] | None:
        if not self._stamped:
            return None
        times: list[int] = []
        while len(times) < len(places):
            index = bisect_right(self._bases, places[len(times)]) - 1
            chunk, base = self._chunks[index][0], self._bases[index]
            here = places[len(times) : bisect_left(places, base + len(chunk.offsets), lo=len(times))]
            stamps = chunk.timestamps_ms
            times += [-1] * len(here) if stamps is None else [stamps[place - base] for place in here]
        return times

    def _advance_clocks(self, batch: EventBatch, spots: NDArray[np.int64]) -> None:
        first, last = int(spots[0]), int(spots[-1])
        if bisect_right(self._bases, first) == bisect_right(self._bases, last):
            self._advance_clock(batch.model, bisect_right(self._bases, first) - 1, int(batch.times_ms.max()))
            return
        chunk_of = np.searchsorted(self._bases, spots, side="right") - 1  # rising, as the spots are
        begins = np.flatnonzero(np.diff(chunk_of, prepend=-1))
        newest = np.maximum.reduceat(batch.times_ms, begins)
        for index, newest_ms in zip(chunk_of[begins].tolist(), newest.tolist(), strict=True):
            self._advance_clock(batch.model, index, newest_ms)

    def _advance_clock(self, model: str, index: int, newest_ms: int) -> None:
        chunk, read_ms = self._chunks[index]
        key = (chunk.partition, model)
        self.newest_ms[chunk.partition] = max(newest_ms, self.newest_ms.get(chunk.partition, newest_ms))
        self._harvest.clocks[key] = Clock(newest_ms, read_ms).later(self._harvest.clocks.get(key))

    def _fold(self, model: str) -> None:
        batches, self._batched_rows[model] = self._batches.pop(model, []), 0
        if not batches:
            return
        size_ms = self._window_ms[model]
        times = np.concatenate([batch.times_ms for batch in batches])
        starts = times // size_ms * size_ms
        versions = list(chain.from_iterable([batch.versions for batch in batches]))
        joined = _Columns(batches)
        to_join: dict[str, dict[LayoutKey, list[NDArray[np.int64]]]] = {}  # by reference
        for version, start_ms, rows in _groups(versions, starts):
            adopted = self._book.in_force(model, version, start_ms)
            if adopted is None:
                delta = Profile(
                    rows=len(times) if rows is None else len(rows),
                    counts=np.zeros(0, np.int64),
                    sums=np.zeros(0, np.int64),
                )
            else:
                delta = fold(adopted.reference.layout, joined.columns(adopted.reference, self._fields[model]), rows)
            key = PaneKey(model, version, adopted.reference.hash if adopted else "", start_ms)
            known = self._harvest.deltas.get(key)
            self._harvest.deltas[key] = delta if known is None else merge(known, delta)
            if adopted is not None and adopted.reference.performance is not None and model in self.joining.joined:
                layouts = to_join.setdefault(key.reference, {})
                here = np.arange(len(times)) if rows is None else rows
                layouts.setdefault(LayoutKey(model, version, key.reference), []).append(here)
        for layouts in to_join.values():
            self._join(joined, times, {layout: np.sort(np.concatenate(parts)) for layout, parts in layouts.items()})

    def _join(self, joined: _Columns, times: NDArray[np.int64], layouts: Mapping[LayoutKey, NDArray[np.int64]]) -> None:
        """The rows of each layout, all of one model and reference, whose records are made together."""
        model, _, hash_ = next(iter(layouts))
        reference = self._book.by_hash(hash_)
        if reference is None or reference.performance is None:
            return
        rows: NDArray[np.int64] | None = np.sort(np.concatenate(list(layouts.values())))
        if rows is not None and len(rows) < len(times):
            layouts = {layout: np.searchsorted(rows, own) for layout, own in layouts.items()}
        else:
            rows = None
        fields = self._fields[model]
        wanted = {feature.name for feature in reference.performance.layout.features}
        wanted |= reference.performance.segment_values.keys()
        self.joining.predictions(
            layouts,
            joined.ids(rows),
            times if rows is None else times[rows],
            columns=joined.answers(reference, rows),
            features={name: joined.some("feature", name, fields, rows) for name in sorted(wanted & fields.keys())},
            weights=joined.weights(rows),
        )


def _groups(versions: list[str], starts: NDArray[np.int64]) -> list[tuple[str, int, NDArray[np.int64] | None]]:
    """(version, pane start, rows) of every group present; rows None says all of them, the usual case."""
    names = sorted(set(versions))
    if len(names) == 1 and starts[0] == starts[-1] and (starts == starts[0]).all():
        return [(names[0], int(starts[0]), None)]
    if len(names) == 1:
        return [(names[0], int(start), np.flatnonzero(starts == start)) for start in np.unique(starts)]
    code = {name: place for place, name in enumerate(names)}
    codes = np.fromiter((code[version] for version in versions), np.int64, len(versions))
    groups: list[tuple[str, int, NDArray[np.int64] | None]] = []
    for start in np.unique(starts):
        groups += [
            (names[int(place)], int(start), np.flatnonzero((starts == start) & (codes == place)))
            for place in np.unique(codes[starts == start])
        ]
    return groups


class _Columns:
    """The columns of several batches end to end, each joined once and only when a layout asks for it."""

    def __init__(self, batches: list[EventBatch]) -> None:
        self._batches = batches
        self._known: dict[tuple[str, str], Column] = {}

    def columns(self, reference: Reference, fields: Mapping[str, int]) -> list[Column]:
        return [self._column(subject.role, subject.name, fields) for subject in reference.layout.subjects]

    def some(self, role: str, name: str, fields: Mapping[str, int], rows: NDArray[np.int64] | None) -> Column:
        column = self._column(role, name, fields)
        return column if rows is None else _take(column, rows)

    def answers(self, reference: Reference, rows: NDArray[np.int64] | None) -> dict[str, Column]:
        """What the model said, by the names of `performance_rows`."""
        names = {"score": "score", "label": "label", "value": "value"}
        names |= {f"scores.{name}": "scores" for name in reference.settings.classes or () if self._has_class(name)}
        return {name: self.some(role, name, {}, rows) for name, role in names.items()}

    def ids(self, rows: NDArray[np.int64] | None) -> Sequence[str]:
        ids = list(chain.from_iterable([batch.ids for batch in self._batches]))
        return ids if rows is None else [ids[i] for i in rows.tolist()]

    def weights(self, rows: NDArray[np.int64] | None) -> NDArray[np.float64] | None:
        """None where no event names one."""
        if all(batch.weights is None for batch in self._batches):
            return None
        parts = [np.ones(len(batch)) if batch.weights is None else batch.weights for batch in self._batches]
        whole = np.concatenate(parts)
        return whole if rows is None else whole[rows]

    def _has_class(self, name: str) -> bool:
        return all(name in batch.classes for batch in self._batches)

    def _column(self, role: str, name: str, fields: Mapping[str, int]) -> Column:
        key = (role, name)
        if key not in self._known:
            self._known[key] = _end_to_end([_pick(batch, role, name, fields) for batch in self._batches])
        return self._known[key]


def _id(key: bytes) -> str:
    """The prediction id in a record's key. What is not UTF-8 is nobody's id."""
    return key.decode("utf-8", "replace")


def _take(column: Column, rows: NDArray[np.int64]) -> Column:
    if isinstance(column, CategoryColumn):
        return CategoryColumn([column.values[i] for i in rows.tolist()])
    return NumericColumn(column.values[rows], None if column.status is None else column.status[rows])


def _pick(batch: EventBatch, role: str, name: str, fields: Mapping[str, int]) -> Column:
    if role == "feature":
        return batch.features[fields[name]]
    if role == "scores":
        return batch.scores[_class_place(batch, name)]
    return {"score": batch.score, "label": batch.label, "value": batch.value}[role]


def _class_place(batch: EventBatch, name: str) -> int:
    return batch.classes.index(name.removeprefix("scores."))


def _end_to_end(columns: list[Column]) -> Column:
    if len(columns) == 1:
        return columns[0]
    if isinstance(columns[0], CategoryColumn):
        texts = [column.values for column in columns if isinstance(column, CategoryColumn)]
        return CategoryColumn(list(chain.from_iterable(texts)))
    numeric = [column for column in columns if isinstance(column, NumericColumn)]
    values = np.concatenate([column.values for column in numeric])
    if all(column.status is None for column in numeric):
        return NumericColumn(values)
    return NumericColumn(values, np.concatenate([_status(column) for column in numeric]))


def _status(column: NumericColumn) -> NDArray[np.uint8]:
    if column.status is not None:
        return column.status
    return np.where(np.isnan(column.values), np.uint8(Status.MISSING), np.uint8(Status.VALUE))
