"""Closing concept drift: labels in the order of their arrival, pane after pane, through the detectors that the model names.

That order is fair only if a label's delay says nothing about it. Until windows have settled nobody knows, and no verdict is given; where early
labels prove to tell other than late ones, settled windows are taken instead, in the order of their predictions.

A detector's state after each pane is kept. Labels that come too late for their pane make it dirty: the detectors then go on from the state
before it, through every pane since, and what they say otherwise is written as revisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from detectors.concept import arrival, arrival_codec
from detectors.concept.arrival import ArrivalProfile
from detectors.concept.e_sr import GUARANTEE_DAYS
from detectors.concept.judge import judge_concept
from detectors.concept.registry import ConceptDetector, baseline_of, detector
from detectors.finding import Finding, Monitor, State
from detectors.performance.layout import LOSS_SCALE
from detectors.performance.reference import PerformanceReference
from monitor.closing.alerting import Judged
from monitor.closing.ledger import Ledger
from monitor.closing.panes import correction_horizon_ms, pane_start
from monitor.closing.performance import PANES_A_TURN, PerformanceTurn
from monitor.closing.scene import FOREVER_MS, Scene, put
from monitor.closing.windows import finish
from monitor.joining.contributions import MERGES
from monitor.store.records import PerformanceKey

_SEGMENT_LABELS = 200  # in the reference, for a segment to be watched on its own

Track = tuple[str, str, str]  # version, segment, reference
Order = Literal["arrival", "cohorts"]


@dataclass(slots=True)
class ConceptTurn:
    """`run` gives the windows to be folded into alerts."""

    scene: Scene
    performance: PerformanceTurn  # of the same transaction, run before
    judged: list[Judged] = field(default_factory=list)
    _detectors: dict[tuple[Track, str], ConceptDetector[Any] | None] = field(default_factory=dict)

    def run(self) -> None:
        scene, tx = self.scene, self.scene.tx
        before_ms = scene.before_ms(scene.outcome_watermark_ms)
        dirty = tx.dirty_performance("arrival", before_ms)
        starts = tx.performance_starts("arrival", dirty[0], before_ms) if dirty else []
        for some in range(0, len(starts), PANES_A_TURN):
            tracks: dict[Track, list[tuple[PerformanceKey, ArrivalProfile]]] = {}
            for key, profile in sorted(self._profiles(starts[some : some + PANES_A_TURN]).items(), key=_by_start):
                tracks.setdefault((key.version, key.segment, key.reference), []).append((key, profile))
            for track, panes in sorted(tracks.items()):
                if not self._ledger(track).biased:
                    self._step(track, panes, order="arrival")
        tx.mark_performance_clean("arrival", dirty)
        self._step_cohorts()
        if scene.outcome_watermark_ms is not None and not scene.end_of_input:
            horizon_ms = correction_horizon_ms(scene.size_ms)
            before_ms = pane_start(scene.outcome_watermark_ms - horizon_ms, scene.size_ms)
            tx.finalize_performance("arrival", before_ms, MERGES["arrival"])

    def _step_cohorts(self) -> None:
        tracks: dict[Track, list[tuple[PerformanceKey, ArrivalProfile]]] = {}
        for key, profile in self.performance.cohorts:
            known = self.scene.performance_of(key.reference)
            if known is not None:
                labels, loss, squared = known.layout.view(profile.vector, "loss").tolist()
                cohort = ArrivalProfile(labels=labels, loss=loss, loss_squared=squared, rows=None)
                tracks.setdefault((key.version, key.segment, key.reference), []).append((key, cohort))
        for track, panes in sorted(tracks.items()):
            self._step(track, sorted(panes, key=_by_start), order="cohorts")

    def _ledger(self, track: Track) -> Ledger:
        return self.performance.ledger(track[0], track[2])

    def _profiles(self, starts: Sequence[int]) -> dict[PerformanceKey, ArrivalProfile]:
        """Of labels whose predictions fall under several references, those under the one in force last are watched: a new reference is a new beginning."""
        newest: dict[tuple[int, str, str], PerformanceKey] = {}
        blobs = self.scene.tx.performance("arrival", starts)
        for key in blobs:
            place = (key.start_ms, key.version, key.segment)
            if place not in newest or self._since_ms(key) > self._since_ms(newest[place]):
                newest[place] = key
        merged = {}
        for key in newest.values():
            parts = [arrival_codec.decode(blob) for blob in blobs[key]]
            whole = parts[0]
            for part in parts[1:]:
                whole = arrival.merge(whole, part)
            merged[key] = whole
        return merged

    def _since_ms(self, key: PerformanceKey) -> tuple[int, str]:
        shelf = [a for a in self.scene.book.of_model(key.model) if a.reference.hash == key.reference]
        return max((adopted.effective_from_ms for adopted in shelf), default=0), key.reference

    def _step(self, track: Track, panes: Sequence[tuple[PerformanceKey, ArrivalProfile]], *, order: Order) -> None:
        version, segment, reference = track
        watchers = self._watchers(track, order)
        states, last_ms = {}, -FOREVER_MS
        for name, watcher in watchers.items():
            stored = self.scene.tx.detector_state(version, segment, _kept(name, reference, order), panes[0][0].start_ms)
            states[name] = watcher.start() if stored is None else watcher.decode(stored[1])
            last_ms = last_ms if stored is None else max(last_ms, stored[0])
        if last_ms > -FOREVER_MS:
            self._settle(panes[0][0]._replace(start_ms=last_ms))
        fair = order == "cohorts" or self._ledger(track).seen_ms is not None
        for key, profile in panes:
            pane = arrival.pane(profile, key.start_ms, key.start_ms + self.scene.size_ms)
            findings: list[Finding] = []
            for name, watcher in watchers.items():
                states[name], verdict = watcher.step(states[name], pane)
                found = judge_concept(watcher, verdict, pane, subject=self._subject(reference))
                found = found if fair else _not_yet(found)
                findings.append(_beside(found) if findings else found)
                kept = _kept(name, reference, order)
                self.scene.tx.put_detector_state(version, segment, kept, key.start_ms, watcher.encode(states[name]))
            self._put(key, profile, findings or [self._unwatched(track, order)], order)

    def _settle(self, key: PerformanceKey) -> None:
        """The last pane before, which an end of input may have left provisional, is over now."""
        heard_ms = self.scene.outcome_watermark_ms
        known = self.scene.tx.window(finish(self.scene.row(Monitor.CONCEPT, key, 0), [], b"").id)
        if known is not None and known.status == "provisional" and heard_ms is not None and known.end_ms <= heard_ms:
            self.scene.tx.put_window(replace(known, status="final"))

    def _unwatched(self, track: Track, order: Order) -> Finding:
        why = "a reference without losses" if order == "arrival" else "of settled windows only sums are known: add e_sr"
        name = self.scene.model.monitors.concept[0]
        subject = self._subject(track[2])
        return Finding(subject=subject, check=name, state=State.NOT_CONFIGURED, detail={"reason": why})

    def _watchers(self, track: Track, order: Order) -> dict[str, ConceptDetector[Any]]:
        """The model's detectors, the deciding one first; of cohorts only sums are known, not single losses in order."""
        found = {name: self._detector(track, name) for name in self.scene.model.monitors.concept}
        return {
            name: watcher
            for name, watcher in found.items()
            if watcher is not None and (order == "arrival" or not watcher.needs_sequence)
        }

    def _put(self, key: PerformanceKey, profile: ArrivalProfile, findings: Sequence[Finding], order: Order) -> None:
        scene = self.scene
        end_ms = key.start_ms + scene.size_ms
        heard_ms = scene.outcome_watermark_ms
        final = order == "cohorts" or (heard_ms is not None and end_ms <= heard_ms)
        row = scene.row(Monitor.CONCEPT, key, profile.labels)
        counts = arrival_codec.encode(replace(profile, rows=None))
        found = put(scene, row, findings, counts, final=final, heard_ms=heard_ms if order == "cohorts" else None)
        if found is not None:
            self.judged.append(found)

    def _subject(self, reference: str) -> Any:
        known = self.scene.performance_of(reference)
        return "loss" if known is not None and known.layout.task == "regression" else "error"

    def _detector(self, track: Track, name: str) -> ConceptDetector[Any] | None:
        place = (track, name)
        if place not in self._detectors:
            known = self.scene.performance_of(track[2])
            self._detectors[place] = (
                None
                if known is None
                else concept_detector(
                    known, track[1], name, guarantee_days=self.performance.rules.budget.guarantee_days
                )
            )
        return self._detectors[place]


def concept_detector(
    known: PerformanceReference, segment: str, name: str, *, guarantee_days: float = GUARANTEE_DAYS
) -> ConceptDetector[Any] | None:
    """The detector of a model or of one of its segments, which share one budget of false alarms; None where the reference says too little."""
    profile = known.profile if not segment else known.segments.get(segment)
    if profile is None:
        return None
    labels, loss, squared = known.layout.view(profile.vector, "loss").tolist()
    if labels < (_SEGMENT_LABELS if segment else 1):
        return None
    baseline = baseline_of(
        labels=labels,
        loss_sum=loss / LOSS_SCALE,
        loss_squared=squared / LOSS_SCALE,
        zero_one=known.layout.task != "regression",
        factors=None if known.hour_factors is None else known.hour_factors.tolist(),
    )
    options = {"segments": 1 + len(known.segments), "guarantee_days": guarantee_days} if name == "e_sr" else None
    return detector(name, baseline, options)


def _by_start(item: tuple[PerformanceKey, ArrivalProfile]) -> int:
    return item[0].start_ms


def _kept(name: str, reference: str, order: Order) -> str:
    """Under what a detector's state is kept: a new reference is a new beginning, and so is another order."""
    return f"{name} {reference}" if order == "arrival" else f"{name} {order} {reference}"


def _not_yet(finding: Finding) -> Finding:
    """Until the first windows have settled: labels that come first may be of a kind."""
    if finding.state is State.INSUFFICIENT_DATA:
        return finding
    detail = {**finding.detail, "reason": "how late labels come is not known yet: no window has all of its labels"}
    return replace(finding, state=State.INSUFFICIENT_DATA, severity=None, detail=detail)


def _beside(finding: Finding) -> Finding:
    """What a detector says that does not decide: shown, never notified."""
    if finding.state is not State.DRIFT:
        return finding
    return replace(finding, state=State.WARNING, severity=None)
