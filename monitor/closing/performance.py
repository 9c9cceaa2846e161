"""Closing performance: what became known of predictions, by their own panes; labels that arrived, by theirs. Part of a model's closing transaction.

A window of performance is first written when its pane closes, mostly without labels, and again as they come. The older it is, the longer it
waits for more of them before it is judged anew, so a month of labels costs dozens of revisions, not thousands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from detectors.estimate.estimate import Estimator
from detectors.finding import Monitor
from detectors.performance import codec as performance_codec
from detectors.performance.profile import PerformanceProfile, merge
from detectors.performance.reference import PerformanceReference
from monitor.closing.alerting import Judged
from monitor.closing.ledger import Ledger, estimator_of, settled
from monitor.closing.panes import correction_horizon_ms, pane_start, versions_at
from monitor.closing.performance_windows import Judge, Moment, Rules
from monitor.closing.scene import FOREVER_MS, Scene, put
from monitor.closing.windows import finish
from monitor.joining.contributions import MERGES
from monitor.store.records import PerformanceKey, WindowRow

PANES_A_TURN = 64
DUE_KEPT = 5_000
LEDGER, AGED = "ledger", "aged"  # among the detectors whose state is kept
MOST_LABELS = 0.8  # of those that windows usually get
_MINUTE_MS = 60_000


@dataclass(slots=True)
class PerformanceTurn:
    """The panes of predictions whose performance changed. `run` gives the windows to be folded into alerts, and whether there is more to do."""

    scene: Scene
    rules: Rules
    # Start of a pane -> the time, of labels, from which it is worth another look; the caller keeps it.
    due_ms: dict[int, int]
    judged: list[Judged] = field(default_factory=list)
    cohorts: list[tuple[PerformanceKey, PerformanceProfile]] = field(default_factory=list)  # settled in this turn
    _estimators: dict[str, Estimator | None] = field(default_factory=dict)
    _ledgers: dict[tuple[str, str], Ledger] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)  # (version, reference) of the windows that were looked at

    def run(self) -> bool:
        scene, heard_ms = self.scene, self._heard_ms()
        dirty = scene.tx.dirty_performance("pane", scene.before_ms(scene.watermark_ms))
        starts = [start for start in dirty if scene.end_of_input or self.due_ms.get(start, heard_ms) <= heard_ms]
        more = len(starts) > PANES_A_TURN
        starts = starts[:PANES_A_TURN]
        profiles = self._profiles(starts)
        versions = self._versions_at(profiles)
        for key, profile in profiles.items():
            self._judge(key, profile, versions[key.start_ms])
        scene.tx.mark_performance_clean("pane", starts)
        self.due_ms.update({start: self._again_ms(start) for start in starts})
        for start in sorted(self.due_ms)[:-DUE_KEPT]:
            del self.due_ms[start]  # such an old pane is looked at whenever something comes for it
        if scene.watermark_ms is not None and not scene.end_of_input:
            more = self._age(scene.watermark_ms) or more
            self._settle(scene.watermark_ms)
        return more

    def _profiles(self, starts: Sequence[int]) -> dict[PerformanceKey, PerformanceProfile]:
        merged = {}
        for key, blobs in sorted(self.scene.tx.performance("pane", starts).items()):
            known = self.scene.performance_of(key.reference)
            if known is not None:
                merged[key] = _whole(known, blobs)
        return merged

    def _versions_at(self, profiles: Mapping[PerformanceKey, PerformanceProfile]) -> dict[int, int]:
        return versions_at(((key, profile.rows) for key, profile in profiles.items()), self.rules.policy.min_labelled)

    def _judge(self, key: PerformanceKey, profile: PerformanceProfile, versions: int) -> None:
        scene = self.scene
        known = scene.performance_of(key.reference)
        if known is None:
            return
        self._seen.add((key.version, key.reference))
        row = scene.row(Monitor.PERFORMANCE, key, max(profile.rows, 0))
        empty = profile.rows <= 0 and profile.labelled_rows <= 0  # all of its predictions were taken back
        if empty and scene.tx.window(finish(row, [], b"").id) is None:
            return
        final = self._final(key.start_ms, profile)
        moment = Moment(age_seconds=self._age_ms(key.start_ms) / 1000, window_seconds=scene.size_ms / 1000, final=final)
        judge = Judge(
            known=known,
            estimator=self._estimator(key.reference),
            ledger=self.ledger(key.version, key.reference),
            rules=self.rules,
            versions=versions,
        )
        findings = [] if empty else judge.findings(profile, key.segment, moment)
        found = put(
            scene, row, findings, performance_codec.counts(profile),
            final=final, heard_ms=self._heard_ms(), open_verdict=not (final or self._enough(key, profile)),
        )  # fmt: skip
        if found is not None:
            self.judged.append(found)

    def _enough(self, key: PerformanceKey, profile: PerformanceProfile) -> bool:
        """Most of the labels that such windows ever get are there: what they say may end an alert."""
        known = self.scene.performance_of(key.reference)
        mature = None if known is None else self.ledger(key.version, key.reference).mature(known.layout)
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

    # -- windows that time alone changes, and what is learned from them -----------------------------------------------------

    def _age(self, watermark_ms: int) -> bool:
        """Look again at windows that wait, though nothing came for them: that labels stay away is to be told, and what has matured is decided.

        Each is looked at 2, 4, 8 .. windows after its start, and when it is mature. True: there is more to do.
        """
        scene, size_ms = self.scene, self.scene.size_ms
        now_ms, ripe_ms = (pane_start(at, size_ms) for at in (watermark_ms, watermark_ms - scene.model.maturity_ms))
        stored = scene.tx.detector_state("", "", AGED, FOREVER_MS)
        before_ms, settled_ms = json.loads(stored[1]) if stored else (now_ms - size_ms, -FOREVER_MS)
        if now_ms <= before_ms:
            return False
        ripe = self._waiting(settled_ms, ripe_ms)
        starts = sorted({row.start_ms for row in ripe})
        more = len(starts) > PANES_A_TURN
        ripe_ms, now_ms = (starts[PANES_A_TURN], before_ms) if more else (ripe_ms, now_ms)
        ripe = [row for row in ripe if row.start_ms < ripe_ms]
        young = [row for start in self._of_age(before_ms, now_ms) for row in self._waiting(start, start + 1)]
        wanted = {(row.start_ms, row.version, row.segment or "") for row in (*ripe, *young)}
        profiles = self._profiles(sorted({start for start, _, _ in wanted}))
        versions = self._versions_at(profiles)
        for key, profile in profiles.items():
            if (key.start_ms, key.version, key.segment) in wanted:
                self._judge(key, profile, versions[key.start_ms])
        changed = {item.row.id for item in self.judged}
        for row in ripe:
            if row.id not in changed:  # nothing new, or what it was judged by is forgotten
                scene.tx.put_window(replace(row, status="final"))
        scene.tx.put_detector_state("", "", AGED, 0, json.dumps([now_ms, max(ripe_ms, settled_ms)]))
        return more

    def _of_age(self, before_ms: int, now_ms: int) -> list[int]:
        """Starts of the panes that came of an age to be looked at since `before_ms`; after a long pause, of the last ones."""
        size_ms, first_ms = self.scene.size_ms, self.scene.tx.state.first_pane_ms
        ages = [size_ms << k for k in range(1, 40) if size_ms << k <= self.scene.model.maturity_ms]
        turns = range(max(before_ms, now_ms - PANES_A_TURN * size_ms) + size_ms, now_ms + 1, size_ms)
        starts = {turn - age for turn in turns for age in ages}
        return sorted(start for start in starts if first_ms is not None and start >= first_ms)

    def _waiting(self, from_ms: int, before_ms: int) -> list[WindowRow]:
        """Provisional windows that this turn has not judged."""
        rows = self.scene.tx.windows(monitor=str(Monitor.PERFORMANCE), from_ms=from_ms, before_ms=before_ms)
        judged = {item.row.id for item in self.judged}
        return [row for row in rows if row.status == "provisional" and row.id not in judged]

    def _settle(self, watermark_ms: int) -> None:
        scene = self.scene
        horizon_ms = correction_horizon_ms(scene.size_ms)
        scene.tx.finalize_performance("pane", pane_start(watermark_ms - horizon_ms, scene.size_ms), MERGES["pane"])
        for version, reference in sorted(self._seen):
            self._learn(version, reference)

    def _learn(self, version: str, reference: str) -> None:
        """Take settled panes into the ledger, in order, each once."""
        scene = self.scene
        known = scene.performance_of(reference)
        if known is None:
            return
        ledger = self.ledger(version, reference)
        from_ms = -FOREVER_MS if ledger.seen_ms is None else ledger.seen_ms + 1
        before = ledger
        scored = scene.tx.pane_rows(from_ms, scene.before_ms(scene.watermark_ms), version=version)
        starts = [row.start_ms for row in scored if row.reference == reference]
        for start_ms in starts[:PANES_A_TURN]:
            panes = self._profiles([start_ms])
            profile = panes.get(PerformanceKey(scene.model.name, "pane", start_ms, version, reference))
            if profile is None or profile.rows <= 0:
                continue
            if not self._final(start_ms, profile):
                break
            ledger = ledger.advance(known, self._estimator(reference), profile, start_ms)
            own = [(key, pane) for key, pane in panes.items() if (key.version, key.reference) == (version, reference)]
            self.cohorts += own if ledger.biased else []
        if ledger is not before:
            scene.tx.put_detector_state(version, "", f"{LEDGER} {reference}", 0, ledger.encode())
            self._ledgers[version, reference] = ledger

    def ledger(self, version: str, reference: str) -> Ledger:
        place = (version, reference)
        if place not in self._ledgers:
            found = self.scene.tx.detector_state(version, "", f"{LEDGER} {reference}", FOREVER_MS)
            self._ledgers[place] = Ledger.decode(found[1]) if found else Ledger()
        return self._ledgers[place]


def _whole(known: PerformanceReference, blobs: Sequence[bytes]) -> PerformanceProfile:
    parts = [performance_codec.decode(blob, known.layout) for blob in blobs]
    whole = parts[0]
    for part in parts[1:]:
        whole = merge(whole, part)
    return whole
