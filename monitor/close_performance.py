"""Closing performance: what became known of predictions, by their own panes; labels that arrived, by theirs. Part of a model's closing transaction.

A window of performance is first written when its pane closes, mostly without labels, and again as they come. The older it is, the longer it
waits for more of them before it is judged anew, so a month of labels costs dozens of revisions, not thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from detectors import performance_codec
from detectors.estimate import Estimator
from detectors.finding import Monitor
from detectors.performance_profile import PerformanceProfile, merge
from detectors.performance_reference import PerformanceReference
from monitor.alerting import Judged
from monitor.close_scene import FOREVER_MS, Scene, put
from monitor.joining import MERGES
from monitor.ledger import Ledger, estimator_of, settled
from monitor.panes import correction_horizon_ms, pane_start
from monitor.performance_windows import Judge, Moment, Rules
from monitor.store.records import PerformanceKey

PANES_A_TURN = 64
LEDGER = "ledger"  # among the detectors whose state is kept
MOST_LABELS = 0.8  # of those that windows usually get
_MINUTE_MS = 60_000


@dataclass(slots=True)
class PerformanceTurn:
    """The panes of predictions whose performance changed. `run` gives the windows to be folded into alerts, and whether there is more to do."""

    scene: Scene
    rules: Rules
    due_ms: dict[
        int, int
    ]  # start of a pane -> the time, of labels, from which it is worth another look; the caller keeps it
    judged: list[Judged] = field(default_factory=list)
    _estimators: dict[str, Estimator | None] = field(default_factory=dict)
    _ledgers: dict[tuple[str, str], Ledger] = field(default_factory=dict)

    def run(self) -> bool:
        scene, heard_ms = self.scene, self._heard_ms()
        dirty = scene.tx.dirty_performance("pane", scene.before_ms(scene.watermark_ms))
        starts = [start for start in dirty if scene.end_of_input or self.due_ms.get(start, heard_ms) <= heard_ms]
        more = len(starts) > PANES_A_TURN
        starts = starts[:PANES_A_TURN]
        for key, profile in self._profiles(starts).items():
            self._judge(key, profile)
        scene.tx.mark_performance_clean("pane", starts)
        self.due_ms.update({start: self._again_ms(start) for start in starts})
        if scene.watermark_ms is not None and not scene.end_of_input:
            self._settle()
        return more

    def _profiles(self, starts: Sequence[int]) -> dict[PerformanceKey, PerformanceProfile]:
        merged = {}
        for key, blobs in sorted(self.scene.tx.performance("pane", starts).items()):
            known = self.scene.performance_of(key.reference)
            if known is not None:
                merged[key] = _whole(known, blobs)
        return merged

    def _judge(self, key: PerformanceKey, profile: PerformanceProfile) -> None:
        scene = self.scene
        known = scene.performance_of(key.reference)
        if known is None or (profile.rows <= 0 and profile.labelled_rows <= 0):
            return
        final = self._final(key.start_ms, profile)
        moment = Moment(age_seconds=self._age_ms(key.start_ms) / 1000, window_seconds=scene.size_ms / 1000, final=final)
        judge = Judge(known=known, estimator=self._estimator(key.reference), ledger=self._ledger(key), rules=self.rules)
        findings = judge.findings(profile, key.segment, moment)
        row = scene.row(Monitor.PERFORMANCE, key, profile.rows)
        found = put(
            scene, row, findings, performance_codec.counts(profile),
            final=final, heard_ms=self._heard_ms(), open_verdict=not (final or self._enough(key, profile)),
        )  # fmt: skip
        if found is not None:
            self.judged.append(found)

    def _enough(self, key: PerformanceKey, profile: PerformanceProfile) -> bool:
        """Most of the labels that such windows ever get are there: what they say may end an alert."""
        known = self.scene.performance_of(key.reference)
        mature = None if known is None else self._ledger(key).mature(known.layout)
        usual = 1.0 if mature is None or mature.rows <= 0 else mature.labelled_rows / mature.rows
        return profile.labelled_rows >= MOST_LABELS * usual * profile.rows > 0

    def _final(self, start_ms: int, profile: PerformanceProfile) -> bool:
        watermark_ms, end_ms = self.scene.watermark_ms, start_ms + self.scene.size_ms
        if watermark_ms is None or watermark_ms < end_ms:
            return False
        return settled(profile) or watermark_ms >= end_ms + self.scene.model.maturity_ms

    def _heard_ms(self) -> int:
        """How far labels have come, by their own times; predictions', while there are none."""
        scene = self.scene
        known = [time for time in (scene.watermark_ms, scene.outcome_watermark_ms) if time is not None]
        return max(known, default=-FOREVER_MS)

    def _again_ms(self, start_ms: int) -> int:
        """When more labels are worth another look at a pane."""
        return self._heard_ms() + max(_MINUTE_MS, self.scene.size_ms // 4, self._age_ms(start_ms) // 8)

    def _age_ms(self, start_ms: int) -> int:
        return max(0, self._heard_ms() - start_ms - self.scene.size_ms)

    def _estimator(self, reference: str) -> Estimator | None:
        if reference not in self._estimators:
            known = self.scene.performance_of(reference)
            self._estimators[reference] = None if known is None else estimator_of(known)
        return self._estimators[reference]

    # -- windows that time alone makes final, and what is learned from them -------------------------------------------------

    def _settle(self) -> None:
        scene = self.scene
        assert scene.watermark_ms is not None
        matured_ms = scene.watermark_ms - scene.model.maturity_ms
        frontier_ms = scene.tx.state.frontier_ms
        if frontier_ms is not None:
            old_ms = frontier_ms - scene.model.maturity_ms - 2 * scene.size_ms
            for row in scene.tx.windows(monitor=str(Monitor.PERFORMANCE), from_ms=old_ms, before_ms=matured_ms):
                if row.status == "provisional" and row.end_ms <= matured_ms:
                    scene.tx.put_window(replace(row, status="final"))
        horizon_ms = correction_horizon_ms(scene.size_ms)
        scene.tx.finalize_performance(
            "pane", pane_start(scene.watermark_ms - horizon_ms, scene.size_ms), MERGES["pane"]
        )
        for version, reference in sorted({(item.row.version, item.row.reference) for item in self.judged}):
            self._learn(version, reference)

    def _learn(self, version: str, reference: str) -> None:
        """Take settled panes into the ledger, in order, each once."""
        scene = self.scene
        known = scene.performance_of(reference)
        if known is None:
            return
        ledger = self._ledger(PerformanceKey(scene.model.name, "pane", 0, version, reference))
        from_ms = -FOREVER_MS if ledger.seen_ms is None else ledger.seen_ms + 1
        before = ledger
        for start_ms in scene.tx.performance_starts("pane", from_ms, scene.before_ms(scene.watermark_ms))[
            :PANES_A_TURN
        ]:
            key = PerformanceKey(scene.model.name, "pane", start_ms, version, reference)
            blobs = scene.tx.performance("pane", [start_ms]).get(key)
            if blobs is None:
                continue
            profile = _whole(known, blobs)
            if not self._final(start_ms, profile):
                break
            ledger = ledger.advance(known, self._estimator(reference), profile, start_ms)
        if ledger is not before:
            scene.tx.put_detector_state(version, "", f"{LEDGER} {reference}", 0, ledger.encode())
            self._ledgers[version, reference] = ledger

    def _ledger(self, key: PerformanceKey) -> Ledger:
        place = (key.version, key.reference)
        if place not in self._ledgers:
            found = self.scene.tx.detector_state(key.version, "", f"{LEDGER} {key.reference}", FOREVER_MS)
            self._ledgers[place] = Ledger.decode(found[1]) if found else Ledger()
        return self._ledgers[place]


def _whole(known: PerformanceReference, blobs: Sequence[bytes]) -> PerformanceProfile:
    parts = [performance_codec.decode(blob, known.layout) for blob in blobs]
    whole = parts[0]
    for part in parts[1:]:
        whole = merge(whole, part)
    return whole
