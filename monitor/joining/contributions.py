"""What events bring to the join of predictions and outcomes, and what the pairs that it makes add to performance. No I/O.

On the way in, features shrink to one coarse code each and an id to its hash. On the way out, contributions are counted by the pane of the
prediction (performance) and by the pane of the outcome (concept drift), for all rows and for each declared segment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from detectors.columns import Column
from detectors.concept import arrival, arrival_codec
from detectors.concept.arrival import ArrivalProfile, fold_arrival
from detectors.performance import codec as performance_codec
from detectors.performance.profile import PerformanceProfile, fold_labelled, fold_predicted, fold_values, merge
from detectors.performance.reference import PerformanceReference, loss_of
from detectors.performance.rows import label_codes, predicted_rows
from detectors.performance.scored import LabelledRows, PredictedRows
from detectors.reference.types import Reference
from monitor.closing.panes import pane_start
from monitor.decoding.events import OutcomeBatch
from monitor.joining.outcomes import (
    Contributions,
    JoinBatch,
    LayoutKey,
    OutcomeRows,
    PairChanges,
    PredictionChanges,
    PredictionRows,
    RetractionRows,
    join_keys,
    record_dtype,
)
from monitor.references import ReferenceBook
from monitor.store.records import Kind, Merge, PerformanceDelta, PerformanceKey

_ALL_KEYS = 2.0**64


def _add_panes(a: bytes, b: bytes) -> bytes:
    return performance_codec.encode(merge(performance_codec.decode(a, None), performance_codec.decode(b, None)))


def _add_arrivals(a: bytes, b: bytes) -> bytes:
    return arrival_codec.encode(arrival.merge(arrival_codec.decode(a), arrival_codec.decode(b)))


MERGES: Mapping[Kind, Merge] = {"pane": _add_panes, "arrival": _add_arrivals}


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """How a model's outcomes are joined. `sample` of its ids are, chosen by their hash; `sequences`: a detector wants losses in order."""

    size_ms: int
    retention_ms: int
    sample: float = 1.0
    decision_threshold: float | None = None
    concept: bool = True
    sequences: bool = False


@dataclass(slots=True)
class Joining:
    """Collects one checkpoint's share of the join. Only models in `joined` whose reference holds labels take part."""

    joined: Mapping[str, Joined]
    book: ReferenceBook
    _predictions: list[PredictionRows] = field(default_factory=list)
    _outcomes: list[OutcomeRows] = field(default_factory=list)
    _retractions: list[RetractionRows] = field(default_factory=list)
    _delays: dict[str, list[NDArray[np.float64]]] = field(default_factory=dict)

    def wants(self, model: str) -> bool:
        """Whether the outcomes of the model meet anything."""
        return model in self.joined and any(
            adopted.reference.performance is not None for adopted in self.book.of_model(model)
        )

    def predictions(
        self,
        layouts: Mapping[LayoutKey, NDArray[np.int64]],
        ids: Sequence[str],
        times_ms: NDArray[np.int64],
        *,
        columns: Mapping[str, Column],
        features: Mapping[str, Column],
        weights: NDArray[np.float64] | None,
    ) -> None:
        """Predictions of one model under one reference, as columns of equal length, with the places of those of each layout (version).

        `columns` and `features` as `predicted_rows` takes them.
        """
        if not layouts:
            return
        model, _, hash_ = next(iter(layouts))
        rules, reference = self.joined[model], self.book.by_hash(hash_)
        if reference is None or reference.performance is None:
            return
        keys = join_keys(model, ids)
        rows = predicted_rows(
            reference.performance.layout, columns, features,
            weights=weights, keys=np.zeros(len(ids), np.uint64), decision_threshold=rules.decision_threshold,
        )  # fmt: skip
        records = _records(reference.performance, rows, times_ms, features)
        sampled = None if rules.sample >= 1.0 else np.array(_sampled(keys, rules.sample), np.int64)
        for layout, places in layouts.items():
            chosen = places if sampled is None else np.intersect1d(places, sampled)
            if len(chosen):
                own = keys if len(chosen) == len(keys) else [keys[i] for i in chosen.tolist()]
                self._predictions.append(
                    PredictionRows(layout=layout, keys=own, records=records[chosen], retention_ms=rules.retention_ms)
                )

    def outcomes(self, batch: OutcomeBatch) -> None:
        rules = self.joined[batch.model]
        keys = join_keys(batch.model, batch.ids)
        kept = _sampled(keys, rules.sample) if rules.sample < 1.0 else range(len(keys))
        labels = [label if label is None or isinstance(label, str) else repr(float(label)) for label in batch.labels]
        versions = batch.versions if any(batch.versions) else None
        whole = len(kept) == len(keys)
        self._outcomes.append(
            OutcomeRows(
                model=batch.model,
                keys=keys if whole else [keys[i] for i in kept],
                ts_ms=batch.times_ms if whole else batch.times_ms[kept],
                value=batch.values if whole else batch.values[kept],
                labels=labels if whole else [labels[i] for i in kept],
                versions=versions if versions is None or whole else [versions[i] for i in kept],
                retention_ms=rules.retention_ms,
            )
        )

    def retract(self, model: str, ids: Sequence[str], times_ms: Sequence[int]) -> None:
        """Tombstones: these predictions are to count nowhere."""
        if self.wants(model):
            keys, times = join_keys(model, ids), np.array(times_ms, np.int64)
            rules = self.joined[model]
            self._retractions.append(
                RetractionRows(model=model, keys=keys, ts_ms=times, retention_ms=rules.retention_ms)
            )

    def drain(self) -> JoinBatch | None:
        """All that came since the last drain; None where that is nothing."""
        self._delays = {}
        if not (self._predictions or self._outcomes or self._retractions):
            return None
        batch = JoinBatch(predictions=self._predictions, outcomes=self._outcomes, retractions=self._retractions)
        self._predictions, self._outcomes, self._retractions = [], [], []
        return batch

    def take_delays(self) -> dict[str, NDArray[np.float64]]:
        """Model -> seconds from prediction to outcome of the pairs folded since the last call, for those who count them once they are stored."""
        delays, self._delays = self._delays, {}
        return {model: np.concatenate(parts) for model, parts in delays.items()}

    def fold(self, changes: Contributions) -> dict[PerformanceKey, PerformanceDelta]:
        """What contributions add to the performance of each pane, and to the labels that arrived in each."""
        panes: dict[PerformanceKey, PerformanceProfile] = {}
        arrivals: dict[PerformanceKey, ArrivalProfile] = {}
        for layout, predicted in changes.predicted.items():
            panes.update(self._predicted(layout, predicted))
        for layout, labelled in changes.labelled.items():
            for key, profile in self._labelled(layout, labelled):
                panes[key] = merge(panes[key], profile) if key in panes else profile
            arrivals.update(self._arrived(layout, labelled))
        deltas = {
            key: PerformanceDelta(profile.rows, performance_codec.encode(profile)) for key, profile in panes.items()
        }
        deltas |= {
            key: PerformanceDelta(arrived.labels, arrival_codec.encode(arrived)) for key, arrived in arrivals.items()
        }
        return deltas

    def _predicted(
        self, layout: LayoutKey, changes: PredictionChanges
    ) -> Iterator[tuple[PerformanceKey, PerformanceProfile]]:
        known = self._performance(layout)
        if known is None:
            return
        records = changes.records(_dtype(known))
        rows, sign = _rows(known, records, changes.keys), changes.sign
        sampled = known.layout.task == "regression"  # only its estimate looks at single rows
        for key, where in self._groups(layout, known, "pane", records["ts"], records["segments"]):
            yield key, fold_predicted(known.layout, rows.part(where), sampled=sampled, sign=sign[where])

    def _labelled(self, layout: LayoutKey, changes: PairChanges) -> Iterator[tuple[PerformanceKey, PerformanceProfile]]:
        known = self._performance(layout)
        if known is None:
            return
        records = changes.records(_dtype(known))
        rows = _pairs(known, records, changes)
        self._delays.setdefault(layout.model, []).append(rows.delay_ms[changes.sign > 0] / 1000)
        unlabelled = np.array([label is None for label in changes.labels], np.bool_)
        for key, where in self._groups(layout, known, "pane", records["ts"], records["segments"]):
            without = unlabelled[where]
            profile = fold_labelled(known.layout, rows.part(where[~without]))
            if without.any():  # such an outcome tells money only
                valued = where[without]
                profile = merge(profile, fold_values(known.layout, changes.value[valued], changes.sign[valued]))
            yield key, profile

    def _arrived(self, layout: LayoutKey, changes: PairChanges) -> Iterator[tuple[PerformanceKey, ArrivalProfile]]:
        known, rules = self._performance(layout), self.joined.get(layout.model)
        if known is None or rules is None or not rules.concept:
            return
        records = changes.records(_dtype(known))
        loss = loss_of(known.layout, _pairs(known, records, changes))
        judged = np.flatnonzero(np.isfinite(loss))
        times = changes.ts_ms
        for key, where in self._groups(layout, known, "arrival", times[judged], records["segments"][judged]):
            here = judged[where]
            yield (
                key,
                fold_arrival(
                    times[here], changes.keys[here], loss[here], changes.sign[here], with_sequence=rules.sequences
                ),
            )

    def _performance(self, layout: LayoutKey) -> PerformanceReference | None:
        reference: Reference | None = self.book.by_hash(layout.reference)
        return None if reference is None or layout.model not in self.joined else reference.performance

    def _groups(
        self,
        layout: LayoutKey,
        known: PerformanceReference,
        kind: Kind,
        times_ms: NDArray[np.int64],
        segments: NDArray[np.uint8],
    ) -> Iterator[tuple[PerformanceKey, NDArray[np.int64]]]:
        """The places of the rows of each pane, and of each segment in it."""
        if len(times_ms) == 0:
            return
        size_ms = self.joined[layout.model].size_ms
        starts = times_ms // size_ms * size_ms
        order = np.argsort(starts, kind="stable")
        cuts = np.flatnonzero(np.diff(starts[order])) + 1
        for places in np.split(order, cuts):
            start_ms = pane_start(int(times_ms[places[0]]), size_ms)
            key = PerformanceKey(layout.model, kind, start_ms, layout.version, layout.reference)
            yield key, places
            for column, pairs in enumerate(known.segment_texts()):
                codes = segments[places, column]
                for code, text in pairs:
                    own = places[codes == code]
                    if len(own):
                        yield key._replace(segment=text), own


def _dtype(known: PerformanceReference) -> np.dtype[np.void]:
    classes = len(known.layout.classes) if known.layout.task == "multiclass" else 0
    return record_dtype(len(known.layout.features), len(known.segment_values), classes)


def _records(
    known: PerformanceReference, rows: PredictedRows, times_ms: NDArray[np.int64], features: Mapping[str, Column]
) -> NDArray[np.void]:
    records = np.zeros(len(rows), _dtype(known))
    records["ts"] = times_ms
    records["score"] = rows.score
    records["weight"] = rows.weight
    records["decision"] = rows.decision
    records["codes"] = rows.codes
    if known.segment_values:
        records["segments"] = known.segment_codes(features, len(rows))
    if rows.scores is not None:
        records["scores"] = rows.scores
    return records


def _rows(known: PerformanceReference, records: NDArray[np.void], keys: NDArray[np.uint64]) -> PredictedRows:
    return PredictedRows(
        score=np.ascontiguousarray(records["score"]),
        scores=np.ascontiguousarray(records["scores"]) if known.layout.task == "multiclass" else None,
        decision=np.ascontiguousarray(records["decision"]),
        weight=np.ascontiguousarray(records["weight"]),
        codes=np.ascontiguousarray(records["codes"]),
        keys=keys,
    )


def _pairs(known: PerformanceReference, records: NDArray[np.void], changes: PairChanges) -> LabelledRows:
    count = len(records)
    regression = known.layout.task == "regression"
    truth = np.full(count, np.nan)
    if regression:
        truth[:] = [np.nan if label is None else float(label) for label in changes.labels]
    return LabelledRows(
        predicted=_rows(known, records, changes.keys),
        label=np.zeros(count, np.uint8) if regression else label_codes(known.layout, changes.labels),
        truth=truth,
        value=changes.value,
        delay_ms=changes.ts_ms - records["ts"],
        sign=changes.sign,
    )


def _sampled(keys: Sequence[bytes], share: float) -> list[int]:
    """The places of the keys that are in the sample: the same on both sides of the join, whoever asks."""
    limit = int(share * _ALL_KEYS)
    return [place for place, key in enumerate(keys) if int.from_bytes(key[:8], "big") < limit]
