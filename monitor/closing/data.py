"""Closing data: the panes of a model's predictions become windows of data, prediction, quality and volume. One transaction at a time.

What is written depends only on the merged counts, the reference and the configuration, so a window closed twice, late, or elsewhere is
the same window.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from detectors.drift.volume import judge_silence
from detectors.finding import Finding, Monitor
from detectors.judge import Policy
from detectors.limits import Limit, judge_limits
from detectors.profile import Profile, merge
from monitor.closing.alerting import Alerting, Judged
from monitor.closing.panes import PaneCount, Run, correction_horizon_ms, pane_start, pooled_runs, versions_at
from monitor.closing.scene import FOREVER_MS, Decision, Scene
from monitor.closing.windows import (
    VERSION_MONITORS,
    expand,
    finish,
    judge,
    monitor_counts,
    volume_counts,
    window_id,
    with_pool,
)
from monitor.false_alarms import Budget
from monitor.store import ANY, PaneKey, WindowRow
from monitor.telemetry import DETECTOR, Telemetry

PANES_A_TRANSACTION = 64
VOLUME_HISTORY = 168  # windows: a week of hours
MAX_STRETCH = 1_000  # windows of one silence that are judged one by one


@dataclass(frozen=True, slots=True, kw_only=True)
class DataRules:
    """How a model's data is judged. `limits`: those that users set; which of them are about data shows in the findings."""

    policy: Policy
    limits: tuple[Limit, ...] = ()
    budget: Budget = field(default_factory=Budget)

    def of_versions(self, count: int) -> Policy:
        """How a window is judged beside which so many versions, itself included, have one."""
        return replace(self.policy, level_scale=self.policy.level_scale * self.budget.level_scale(count))


class DataTurn:
    """One transaction of closing: some panes of one model. `run` once, then `decisions` are what came of it, in order."""

    def __init__(self, scene: Scene, rules: DataRules, alerting: Alerting, telemetry: Telemetry) -> None:
        self._scene, self._rules, self._alerting, self._telemetry = scene, rules, alerting, telemetry
        self._tx, self._watermark, self._window = scene.tx, scene.watermark_ms, scene.model.window
        self._size_ms, self._end_of_input = scene.size_ms, scene.end_of_input
        watermark = scene.watermark_ms
        self._limit_ms = pane_start(watermark, self._size_ms) if watermark is not None else -FOREVER_MS
        self._frontier_ms = scene.tx.state.frontier_ms
        self.decisions: list[Decision] = []
        self._judged: list[Judged] = []
        self._touched_ms = FOREVER_MS  # the first pane that changed
        self._silent: set[int] = set()  # starts of the runs of silence found in this turn
        self._lengthened: list[WindowRow] = []  # what runs of empty windows, told of before, stand for now besides

    def run(self) -> tuple[int, bool]:
        dirty = self._tx.dirty_panes(self._scene.before_ms(self._watermark))
        more = len(dirty) > PANES_A_TRANSACTION
        dirty = dirty[:PANES_A_TRANSACTION]
        self._touched_ms = dirty[0] if dirty else self._touched_ms
        frontier_ms = self._next_frontier(dirty, more)
        if not dirty and frontier_ms == self._frontier_ms:
            return 0, False
        self._close_versions(dirty, frontier_ms)
        self._close_volume(dirty, frontier_ms)
        self._judged.sort(key=lambda item: (item.row.end_ms, item.row.start_ms, item.row.version, item.row.monitor))
        told = self._alerting.fold(self._tx, self._scene.model, self._judged, self._scene.now_ms)
        self.decisions = [*self._lengthened, *told]
        self._settle_provisional()
        self._tx.mark_clean(dirty)
        if frontier_ms is not None:
            self._tx.set_frontier(frontier_ms)
        if self._watermark is not None and not self._end_of_input:
            self._tx.finalize(pane_start(self._watermark - correction_horizon_ms(self._size_ms), self._size_ms))
        return len(dirty), more

    def _next_frontier(self, dirty: Sequence[int], more: bool) -> int | None:
        """Panes before the frontier have been folded. It never goes back, and at the end of input not beyond the data."""
        candidates = [self._frontier_ms] if self._frontier_ms is not None else []
        if dirty:
            candidates.append(dirty[-1] + self._size_ms)
        if not more and not self._end_of_input and candidates:
            candidates.append(self._limit_ms)
        return max(candidates) if candidates else None

    def _settle_provisional(self) -> None:
        """An end of input left provisional windows at the frontier; once the watermark is beyond it they are final, though nothing changed."""
        if self._watermark is None or self._frontier_ms is None or self._limit_ms < self._frontier_ms:
            return
        last = self._tx.windows(from_ms=self._frontier_ms - self._size_ms, before_ms=self._frontier_ms)
        if any(_is_provisional(row) for row in last):
            for row in self._tx.windows():
                if _is_provisional(row) and row.end_ms <= self._watermark:
                    self._tx.put_window(replace(row, status="final"))

    # -- data, prediction, quality: one version at a time ---------------------------------------------------------------

    def _close_versions(self, dirty: Sequence[int], frontier_ms: int | None) -> None:
        if not dirty:
            return
        profiles = self._tx.profiles(dirty)
        versions = self._versions_at(profiles)
        for pane, profile in sorted(profiles.items()):
            self._judge_pane(pane, profile, versions[pane.start_ms])
        for version in sorted({pane.version for pane in profiles}):
            touched = sorted({pane.start_ms for pane in profiles if pane.version == version})
            self._fill_gaps(version, touched, frontier_ms or 0)
            self._close_pools(
                version, touched, frontier_ms or 0, min(p.rows for k, p in profiles.items() if k.version == version)
            )

    def _judge_pane(self, pane: PaneKey, profile: Profile, versions: int) -> None:
        alone = 2 * self._size_ms > self._window.max_ms  # no second pane may join it
        policy, end_ms = self._rules.of_versions(versions), pane.start_ms + self._size_ms
        self._judge_windows(VERSION_MONITORS, pane, end_ms, profile, policy, longest=alone)

    def _versions_at(self, profiles: Mapping[PaneKey, Profile]) -> dict[int, int]:
        rows = ((pane, profile.rows) for pane, profile in profiles.items())
        return versions_at(rows, self._rules.policy.quality_min_rows)

    def _judge_windows(
        self,
        monitors: Iterable[Monitor],
        pane: PaneKey,
        end_ms: int,
        profile: Profile,
        policy: Policy,
        *,
        longest: bool,
    ) -> None:
        """The windows of some monitors from the start of `pane` to `end_ms`, over one profile; `longest` where no pool may be longer."""
        reference = self._scene.book.by_hash(pane.reference)
        begun = time.perf_counter()
        found = judge(reference, profile, policy)
        if longest:
            found = with_pool(found, profile.rows, self._window)
        if self._rules.limits and reference is not None:
            found = {monitor: [*said, *judge_limits(self._rules.limits, said)] for monitor, said in found.items()}
        self._telemetry.observe(DETECTOR, "all", seconds=time.perf_counter() - begun)
        for monitor in monitors:
            row = self._row(monitor, pane.version, pane.start_ms, end_ms, profile.rows, pane.reference)
            self._put(finish(row, found[monitor], monitor_counts(monitor, reference, profile)), found[monitor])

    def _row(  # noqa: PLR0917  the fields of a window, in their order
        self, monitor: Monitor, version: str, start_ms: int, end_ms: int, rows: int, reference: str
    ) -> WindowRow:
        adopted = self._scene.book.in_force(self._scene.model.name, version, start_ms) if reference else None
        return WindowRow(
            id="", model=self._scene.model.name, version=version, monitor=str(monitor), start_ms=start_ms, end_ms=end_ms, state="",
            status="", revision=0, rows=rows, digest="", reference=reference, inherited=adopted is not None and adopted.version != version,
            findings=b"", marks="", recorded_at_ms=self._scene.now_ms,
        )  # fmt: skip

    def _put(self, row: WindowRow, findings: Sequence[Finding]) -> None:
        """Number the revision and give the status; unchanged windows are not written again."""
        final = self._watermark is not None and row.end_ms <= self._watermark
        is_new = self._frontier_ms is None or row.start_ms >= self._frontier_ms  # no window was ever written beyond it
        known = None if is_new else self._tx.window(row.id)
        before = known or self._covering(row)
        if before is None:
            new = replace(row, revision=1, status="final" if final else "provisional")
            self._judged.append(Judged(row=new, findings=findings, in_order=self._in_order(row)))
        elif before.digest == row.digest and before.state == row.state and before.withdrawn == row.withdrawn:
            if known is None:
                status = "final" if final and before.status == "provisional" else before.status
                same = replace(row, revision=before.revision, status=status)
                self._judged.append(Judged(row=same, findings=findings, in_order=False))
            elif known.status == "provisional" and final:
                self._tx.put_window(replace(known, status="final"))
        else:
            known = before
            status = "provisional" if not final else "final" if known.status == "provisional" else "revised"
            next_one = replace(row, revision=known.revision + 1, status=status)
            self._judged.append(Judged(row=next_one, findings=findings, in_order=False, before=known.marks))

    def _in_order(self, row: WindowRow) -> bool:
        return self._frontier_ms is None or row.start_ms + (row.end_ms - row.start_ms) // row.run > self._frontier_ms

    def _covering(self, row: WindowRow) -> WindowRow | None:
        """The single window that a stored run of empty ones has stood for so far, if this row begins inside a run."""
        if self._in_order(row) or row.end_ms - row.start_ms != row.run * self._size_ms:
            return None
        version = ANY if row.monitor == Monitor.VOLUME else row.version
        first_ms = min(row.start_ms, self._touched_ms)  # what lies before has the runs that its panes ask for
        begin_ms, _ = self._tx.neighbours(first_ms, first_ms, version=version)
        empty = self._tx.windows(monitor=row.monitor, version=row.version, from_ms=begin_ms, before_ms=row.start_ms)
        runs = [known for known in empty if known.run > 1 and known.end_ms > row.start_ms]
        return expand(runs[-1])[(row.start_ms - runs[-1].start_ms) // self._size_ms] if runs else None

    def _fill_gaps(self, version: str, touched: Sequence[int], frontier_ms: int) -> None:
        """A version has windows from its first to its last prediction: panes without rows in between are `no_data`, stored as runs."""
        before, after = self._tx.neighbours(touched[0], touched[-1], version=version)
        starts = [
            *([before] if before is not None else []),
            *dict.fromkeys(pane.start_ms for pane in self._tx.pane_rows(touched[0], touched[-1] + 1, version=version)),
            *([after] if after is not None and after < frontier_ms else []),
        ]
        for one, other in reversed(list(itertools.pairwise(starts))):
            if other - one > self._size_ms:
                for monitor in VERSION_MONITORS:
                    self._put_run(
                        self._row(monitor, version, one + self._size_ms, one + 2 * self._size_ms, 0, ""), [], b"", other
                    )

    def _put_run(self, first: WindowRow, findings: list[Finding], counts: bytes, end_ms: int) -> None:
        """Consecutive empty windows with one verdict are one row: the first of them, and how far it goes."""
        row = replace(finish(first, findings, counts), end_ms=end_ms, run=(end_ms - first.start_ms) // self._size_ms)
        known = self._tx.window(row.id)
        if known is not None and not known.withdrawn and known.digest == row.digest and known.state == row.state:
            final = self._watermark is not None and row.end_ms <= self._watermark
            longer = replace(
                known,
                end_ms=row.end_ms,
                run=row.run,
                status="final" if final and known.status == "provisional" else known.status,
            )
            if longer != known:
                self._tx.put_window(longer)
                self._lengthened += expand(longer)[known.run :]
            return
        self._put(row, findings)

    def _close_pools(self, version: str, touched: Sequence[int], frontier_ms: int, least_rows: int) -> None:
        """Judge together what is too little alone; withdraw pooled windows whose panes came to be judged otherwise."""
        window = self._window
        for monitors, min_rows in (
            ((Monitor.DATA, Monitor.PREDICTION), window.min_rows),
            ((Monitor.QUALITY,), min(window.min_rows, self._rules.policy.quality_min_rows)),
        ):
            if least_rows >= min_rows and (self._frontier_ms is None or touched[0] >= self._frontier_ms):
                continue  # the usual case: new panes that are enough alone, which also ends a pool before them
            from_ms = self._pool_begins(monitors[0], version, touched[0], min_rows)
            stored = [
                row
                for row in self._tx.windows(monitor=str(monitors[0]), version=version, from_ms=from_ms)
                if self._pooled(row)
            ]
            counts = [
                PaneCount(row.start_ms, row.rows, row.reference)
                for row in self._tx.pane_rows(from_ms, max(frontier_ms, touched[-1] + 1), version=version)
                if row.reference
            ]
            runs = pooled_runs(counts, size_ms=self._size_ms, min_rows=min_rows, max_ms=window.max_ms)
            for run in runs:
                self._judge_run(monitors, version, run)
            kept = {(run.start_ms, run.end_ms) for run in runs}
            self._withdraw([row for row in stored if (row.start_ms, row.end_ms) not in kept], monitors, version)

    def _pool_begins(self, monitor: Monitor, version: str, touched_ms: int, min_rows: int) -> int:
        """Where pooling starts anew, whatever comes at `touched_ms` or later: behind a pane that was enough alone, or behind a pool that
        was enough or may take in nothing more. A pool that ended too small may still take in a late pane.
        """
        max_ms = self._window.max_ms
        for back_ms in (max_ms, 4 * max_ms, FOREVER_MS):
            from_ms = touched_ms - back_ms
            panes = self._tx.pane_rows(from_ms, touched_ms, version=version)
            alone = [pane.start_ms + self._size_ms for pane in panes if pane.rows >= min_rows]
            pooled = [
                row.end_ms
                for row in self._tx.windows(
                    monitor=str(monitor), version=version, from_ms=max([from_ms, *alone]), before_ms=touched_ms
                )
                if self._pooled(row)
                and row.end_ms <= touched_ms
                and (row.rows >= min_rows or row.start_ms + max_ms <= touched_ms)
            ]
            if alone or pooled:
                return max([*alone, *pooled])
        return -FOREVER_MS

    def _pooled(self, row: WindowRow) -> bool:
        return row.rows > 0 and row.end_ms - row.start_ms > self._size_ms

    def _judge_run(self, monitors: Iterable[Monitor], version: str, run: Run) -> None:
        found = self._tx.profiles(run.starts_ms)
        profiles = [p for k, p in found.items() if k.version == version and k.reference == run.reference]
        whole = profiles[0]
        for profile in profiles[1:]:
            whole = merge(whole, profile)
        pane = PaneKey(self._scene.model.name, version, run.reference, run.start_ms)
        policy = self._rules.of_versions(max(self._versions_at(found).values()))
        self._judge_windows(monitors, pane, run.end_ms, whole, policy, longest=not run.full)

    def _withdraw(self, gone: Sequence[WindowRow], monitors: Iterable[Monitor], version: str) -> None:
        for stored in gone:
            for monitor in monitors:
                row = self._row(monitor, version, stored.start_ms, stored.end_ms, 0, stored.reference)
                identity = window_id(row.model, row.version, row.monitor, row.start_ms, row.end_ms)
                if self._tx.window(identity) is not None:
                    self._put(replace(finish(row, [], b""), withdrawn=True), [])

    # -- volume: the model as a whole -----------------------------------------------------------------------------------

    def _close_volume(self, dirty: Sequence[int], frontier_ms: int | None) -> None:
        """Every touched pane, and every stretch of silence that the touched panes or the frontier bound."""
        first_ms = self._tx.state.first_pane_ms
        if first_ms is None or frontier_ms is None:
            return
        old_ms = self._frontier_ms if self._frontier_ms is not None else first_ms
        from_ms = max(first_ms, min([old_ms, *dirty]))
        before_ms, _ = self._tx.neighbours(from_ms, from_ms)
        rows: dict[int, int] = {}
        history_ms = (from_ms if before_ms is None else before_ms) - VOLUME_HISTORY * self._size_ms
        for pane in self._tx.pane_rows(history_ms, FOREVER_MS):
            rows[pane.start_ms] = rows.get(pane.start_ms, 0) + pane.rows
        starts = sorted(
            {start for start in rows if from_ms <= start < frontier_ms}
            | ({before_ms} if before_ms is not None else set())
        )
        for start_ms in dirty:
            self._judge_volume(
                start_ms, start_ms + self._size_ms, self._silence(start_ms, rows, first_ms), rows[start_ms]
            )
        ends = [*starts[1:], frontier_ms] if not self._end_of_input else starts[1:]
        for one, other in reversed(list(zip(starts, ends, strict=False))):
            self._judge_stretch(one + self._size_ms, other, rows, first_ms)
        if dirty and starts and dirty[0] < old_ms:
            self._withdraw_absorbed(starts[0], frontier_ms, rows)

    def _withdraw_absorbed(self, from_ms: int, before_ms: int, per_pane: Mapping[int, int]) -> None:
        """Late rows may change the verdict on silences after them, so that one run takes in what was another."""
        for stored in self._tx.windows(monitor=str(Monitor.VOLUME), version="", from_ms=from_ms, before_ms=before_ms):
            if stored.rows == 0 and stored.start_ms not in self._silent and not per_pane.get(stored.start_ms):
                self._withdraw([replace(stored, end_ms=stored.start_ms + self._size_ms)], (Monitor.VOLUME,), "")

    def _judge_stretch(self, start_ms: int, end_ms: int, per_pane: Mapping[int, int], first_ms: int) -> None:
        """Panes without any row: consecutive ones with the same verdict are one row. What is judged of a silence longer than the limit holds on."""
        judged_ms = min(end_ms, start_ms + MAX_STRETCH * self._size_ms)
        verdicts = [(at, self._silence(at, per_pane, first_ms)) for at in range(start_ms, judged_ms, self._size_ms)]
        changes = [
            place
            for place, (_, finding) in enumerate(verdicts)
            if place == 0 or finding.state != verdicts[place - 1][1].state
        ]
        until_ms = end_ms
        for place in reversed(
            changes
        ):  # the last first: an earlier run is shortened only when those it stood for have been looked up
            begin_ms, finding = verdicts[place]
            self._judge_volume(begin_ms, until_ms, finding, 0)
            until_ms = begin_ms

    def _silence(self, start_ms: int, per_pane: Mapping[int, int], first_ms: int) -> Finding:
        begin_ms = max(first_ms, start_ms - VOLUME_HISTORY * self._size_ms)
        history = [per_pane.get(at, 0) for at in range(begin_ms, start_ms, self._size_ms)]
        policy = self._rules.of_versions(1)  # silence is the model's, not a version's
        return judge_silence(per_pane.get(start_ms, 0), history, policy, window_ms=self._size_ms)

    def _judge_volume(self, start_ms: int, end_ms: int, finding: Finding, rows: int) -> None:
        row = self._row(Monitor.VOLUME, "", start_ms, start_ms + self._size_ms, rows, "")
        if rows:
            self._put(finish(row, [finding], volume_counts(rows)), [finding])
        else:
            self._silent.add(start_ms)
            self._put_run(row, [finding], volume_counts(0), end_ms)


def _is_provisional(row: WindowRow) -> bool:
    """Those of labels wait for labels, not for predictions: they are settled where they are closed."""
    return row.status == "provisional" and row.monitor not in (Monitor.PERFORMANCE, Monitor.CONCEPT)
