"""Closing concept drift: labels in the order of their arrival, pane after pane, through the detectors that the model names.

A detector's state after each pane is kept. Labels that come too late for their pane make it dirty: the detectors then go on from the state
before it, through every pane since, and what they say otherwise is written as revisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from detectors import arrival, arrival_codec
from detectors.arrival import ArrivalProfile
from detectors.concept import ConceptDetector, baseline_of, detector
from detectors.concept_judge import judge_concept
from detectors.finding import Finding, Monitor, State
from detectors.performance_layout import LOSS_SCALE
from detectors.performance_reference import PerformanceReference
from monitor.alerting import Judged
from monitor.close_performance import PANES_A_TURN
from monitor.close_scene import Scene, put
from monitor.joining import MERGES
from monitor.panes import correction_horizon_ms, pane_start
from monitor.store.records import PerformanceKey

_SEGMENT_LABELS = 200  # in the reference, for a segment to be watched on its own

Track = tuple[str, str, str]  # version, segment, reference


@dataclass(slots=True)
class ConceptTurn:
    """`run` gives the windows to be folded into alerts."""

    scene: Scene
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
                self._step(track, panes)
        tx.mark_performance_clean("arrival", dirty)
        if scene.outcome_watermark_ms is not None and not scene.end_of_input:
            horizon_ms = correction_horizon_ms(scene.size_ms)
            before_ms = pane_start(scene.outcome_watermark_ms - horizon_ms, scene.size_ms)
            tx.finalize_performance("arrival", before_ms, MERGES["arrival"])

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

    def _step(self, track: Track, panes: Sequence[tuple[PerformanceKey, ArrivalProfile]]) -> None:
        version, segment, reference = track
        names = [name for name in self.scene.model.monitors.concept if self._detector(track, name) is not None]
        states = {}
        for name in names:
            stored = self.scene.tx.detector_state(version, segment, _kept(name, reference), panes[0][0].start_ms)
            watcher = self._detector(track, name)
            assert watcher is not None
            states[name] = watcher.start() if stored is None else watcher.decode(stored[1])
        for key, profile in panes:
            pane = arrival.pane(profile, key.start_ms, key.start_ms + self.scene.size_ms)
            findings: list[Finding] = []
            for name in names:
                watcher = self._detector(track, name)
                assert watcher is not None
                states[name], verdict = watcher.step(states[name], pane)
                found = judge_concept(watcher, verdict, pane, subject=self._subject(reference))
                findings.append(found if name == names[0] else _beside(found))
                self.scene.tx.put_detector_state(
                    version, segment, _kept(name, reference), key.start_ms, watcher.encode(states[name])
                )
            self._put(key, profile, findings)

    def _put(self, key: PerformanceKey, profile: ArrivalProfile, findings: Sequence[Finding]) -> None:
        scene = self.scene
        end_ms = key.start_ms + scene.size_ms
        final = scene.outcome_watermark_ms is not None and end_ms <= scene.outcome_watermark_ms
        row = scene.row(Monitor.CONCEPT, key, profile.labels)
        found = put(scene, row, findings, arrival_codec.encode(replace(profile, rows=None)), final=final)
        if found is not None:
            self.judged.append(found)

    def _subject(self, reference: str) -> Any:
        known = self.scene.performance_of(reference)
        return "loss" if known is not None and known.layout.task == "regression" else "error"

    def _detector(self, track: Track, name: str) -> ConceptDetector[Any] | None:
        place = (track, name)
        if place not in self._detectors:
            known = self.scene.performance_of(track[2])
            self._detectors[place] = None if known is None else concept_detector(known, track[1], name)
        return self._detectors[place]


def concept_detector(known: PerformanceReference, segment: str, name: str) -> ConceptDetector[Any] | None:
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
    options = {"segments": 1 + len(known.segments)} if name == "e_sr" else None
    return detector(name, baseline, options)


def _by_start(item: tuple[PerformanceKey, ArrivalProfile]) -> int:
    return item[0].start_ms


def _kept(name: str, reference: str) -> str:
    """Under what a detector's state is kept: a new reference is a new beginning."""
    return f"{name} {reference}"


def _beside(finding: Finding) -> Finding:
    """What a detector says that does not decide: shown, never notified."""
    if finding.state is not State.DRIFT:
        return finding
    return replace(finding, state=State.WARNING, severity=None)
