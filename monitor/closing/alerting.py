"""From judged windows to alert transitions and retraining requests, inside the closer's transaction.

The rules are in `alerts` and pure; here they meet the store. A window in order steps the state of its subjects; a revision folds their
whole history again and only the difference is told, marked `corrected`. Who is told of a transition is decided in a turn of telling.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from alerts import incident, lifecycle
from alerts.alert import DATA_FAULTS
from alerts.lifecycle import AlertState, Observation, Signal, Subject, Transition
from detectors.assembly import states_of
from detectors.finding import Finding, State
from detectors.sentences import sentence
from monitor.closing.episodes import Handover, Standing, handovers, is_another, is_retired, refolded
from monitor.closing.requests import request_retraining
from monitor.config import Model
from monitor.results import decode_findings, encode_findings
from monitor.retraining.gates import Gates
from monitor.store import AlertRow, ClosingTransaction, RetrainingRow, WindowRow

EXACT_MONITORS = ("performance", "concept")  # few findings, and people hold them against their own figures
EXACT_DIGITS = 15

Track = tuple[str, str, str | None]  # version, monitor and segment: what a subject's windows have in common


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A window and its findings. `in_order`: it follows on all that was folded. `before` are the marks of its last revision, "" if it had none.

    `heard_ms`: when what decided it became known in the stream's own time. For all but performance that is the window's end; a label may come weeks
    later, and a verdict is as old as the newest label in it.
    """

    row: WindowRow
    findings: Sequence[Finding]
    in_order: bool
    before: str = ""
    heard_ms: int | None = None


def track_of(row: WindowRow) -> Track:
    return row.version, row.monitor, row.segment


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """What to do with transitions. `replay` and simulations have no side effects: alerts are stored, nobody is told, nothing is requested."""

    side_effects: bool = True
    gates: Gates = field(default_factory=Gates)
    refused: Callable[[str, str, str], None] = lambda model, target, gate: (
        None
    )  # hears of a retraining that was not asked for

    def fold(
        self, tx: ClosingTransaction, model: Model, judged: Sequence[Judged], now_ms: int
    ) -> list[WindowRow | AlertRow | RetrainingRow]:
        """Write the windows, then what follows from them; everything decided, in order. Runs inside the closer's transaction."""
        turn = _Fold(self, tx, model, now_ms)
        written: list[WindowRow | AlertRow | RetrainingRow] = []
        revised: dict[Track, list[Judged]] = {}
        in_order = [item.row for item in judged if item.in_order]
        taken_over = handovers(tx, in_order, model.window.size_ms, model.alerts.policy.resolve_after)
        for item in judged:
            row = item.row
            turn.hear(item)
            while taken_over and taken_over[0].end_ms < row.end_ms:
                turn.hand_over(taken_over.pop(0))
            if item.in_order:
                turn.step(row, item.findings)
            else:
                revised.setdefault(track_of(row), []).append(item)
            digits = EXACT_DIGITS if row.monitor in EXACT_MONITORS else 6
            stored = replace(row, findings=encode_findings(turn.dated(row, item.findings), digits=digits))
            tx.put_window(stored)
            written.append(stored)
        for track, items in revised.items():
            turn.refold(track, items)
        for handover in taken_over:
            turn.hand_over(handover)
        return written + turn.finish()


class _Fold:
    def __init__(self, rules: Alerting, tx: ClosingTransaction, model: Model, now_ms: int) -> None:
        self._rules, self._tx, self._model, self._now_ms = rules, tx, model, now_ms
        self._policy = model.alerts.policy
        self._standing = {mark: Standing.decode(model.name, text) for mark, text in tx.alert_states().items()}
        self._touched: set[str] = set()
        self._rows: list[AlertRow] = []
        self._heard_ms: dict[Track, int] = {}

    # -- folding ------------------------------------------------------------------------------------------------------

    def hear(self, item: Judged) -> None:
        if item.heard_ms is not None:
            track = track_of(item.row)
            self._heard_ms[track] = max(item.heard_ms, self._heard_ms.get(track, item.heard_ms))

    def step(self, row: WindowRow, findings: Sequence[Finding]) -> None:
        """One window that follows on all before it: its drifting subjects, and those that were in trouble."""
        troubled = {
            (s.subject.subject, s.subject.check): mark
            for mark, s in self._standing.items()
            if (s.subject.version or "", s.subject.monitor, s.subject.segment) == track_of(row)
        }
        if not troubled and State.DRIFT not in states_of(findings):
            return
        seen = {
            self._mark(row, f.subject, f.check): f
            for f in findings
            if f.state is State.DRIFT or (f.subject, f.check) in troubled
        }
        for mark in sorted(seen.keys() | set(troubled.values())):
            standing = self._standing.get(mark)
            if standing is not None and is_another(row.reference, standing.reference):
                reason, text = self._reference_end(mark, standing.subject, standing.state.starts_at_ms)
                self._end(mark, standing, reason, row.end_ms, row.id, text)
                standing = None
            if standing is None and (mark not in seen or self._is_history(row.version, row.monitor)):
                continue
            standing = standing or Standing(self._subject(row, seen[mark]), AlertState())
            state, transition = lifecycle.step(standing.state, _observation(row, seen.get(mark)), self._policy)
            if not standing.runs:
                standing.reference = row.reference
            self._settle(mark, standing, state)
            if transition is not None:
                self._emit(mark, standing, transition)

    def refold(self, track: Track, items: Sequence[Judged]) -> None:
        """Windows in the past changed: fold each subject's history again, from where it may have changed, and tell the difference only.

        What a window says of a subject for the first time corrects nothing (`_corrects`).
        """
        version, monitor, segment = track
        before = {item.row.id: json.loads(item.before) if item.before else None for item in items}
        all_told = [row for row in self._tx.alert_rows() if (row.version, row.monitor, row.segment) == track]
        from_ms = self._changed_from_ms(all_told, min(item.row.end_ms for item in items))
        told = [row for row in all_told if row.starts_at_ms >= from_ms]
        stored = self._tx.windows(monitor=monitor, version=version, from_ms=from_ms - self._model.window.max_ms)
        history = [row for row in stored if row.segment == segment and row.end_ms > from_ms and not row.withdrawn]
        history.sort(key=lambda row: (row.end_ms, row.start_ms))
        subjects = {(row.check, row.subject) for row in told}
        all_marks = [json.loads(row.marks) for row in history]
        for marks in all_marks:
            subjects |= {_split(name) for name in marks["drift"]}
        for check, subject in sorted(subjects):
            whole = Subject(
                model=self._model.name,
                version=version or None,
                segment=segment,
                monitor=monitor,
                subject=subject,
                check=check,
            )
            mark = lifecycle.fingerprint(whole)
            seen = [
                (row, _remembered(row, marks, f"{check} {subject}"))
                for row, marks in zip(history, all_marks, strict=True)
            ]
            emitted = [_transition(row) for row in [*told, *self._rows] if row.fingerprint == mark]
            why = partial(self._reference_end, mark, whole)
            state, transitions, reference = refolded(seen, emitted, self._policy, why)
            if self._is_history(version, monitor):
                begun = {t.starts_at_ms for t in emitted}
                transitions = [t for t in transitions if t.starts_at_ms in begun]
                state = state if state.starts_at_ms in begun else AlertState()
            standing = self._standing.get(mark) or Standing(whole, AlertState())
            standing.reference = reference
            self._settle(mark, standing, state)
            for transition in lifecycle.difference(emitted, transitions):
                text = transition.text or self._said(transition.window_id, check, subject, items, history)
                corrected = _corrects(transition, before, f"{check} {subject}")
                self._emit(mark, standing, replace(transition, text=text, corrected=corrected))

    def hand_over(self, handover: Handover) -> None:
        """Another version has taken over: what is said of those without predictions is over."""
        names = ", ".join(sorted(name for name in handover.versions if name))
        for mark, standing in sorted(self._standing.items()):
            if handover.ends(standing):
                s = standing.subject
                text = f"{s.subject}: closed, version {names} has taken over from version {s.version}"
                self._end(mark, standing, lifecycle.Reason.NEW_VERSION, handover.end_ms, handover.window, text)

    def _is_history(self, version: str, monitor: str) -> bool:
        """Labels may tell for weeks of a version that serves nobody any more: no new alert comes of that."""
        windows = self._policy.resolve_after
        return monitor in EXACT_MONITORS and is_retired(self._tx, version, self._model.window.size_ms, windows)

    def _reference_end(self, mark: str, subject: Subject, begun_ms: int | None) -> tuple[lifecycle.Reason, str]:
        """Why a new reference ends an episode: somebody called it the new normal, or just so."""
        identity = lifecycle.alert_id(mark, begun_ms or 0)
        seen = self._tx.acknowledgements([identity]).get(identity)
        if seen is not None and seen.verdict is lifecycle.Verdict.EXPECTED:
            told = f"{subject.subject}: closed, {seen.who} expected the change and a new reference is in force"
            return lifecycle.Reason.EXPECTED, told
        return lifecycle.Reason.NEW_REFERENCE, f"{subject.subject}: closed, a new reference is in force"

    def _end(  # noqa: PLR0917
        self, mark: str, standing: Standing, reason: lifecycle.Reason, at_ms: int, window_id: str, text: str
    ) -> None:
        state, transition = lifecycle.close(standing.state, reason, at_ms=at_ms, window_id=window_id, text=text)
        self._settle(mark, standing, state)
        if transition is not None:
            self._emit(mark, standing, transition)

    @staticmethod
    def _said(window: str, check: str, subject: str, items: Sequence[Judged], history: Sequence[WindowRow]) -> str:
        """What a window said of a subject, in words: of this turn's windows as they are, of older ones as they were stored."""
        found = next((item.findings for item in items if item.row.id == window), None)
        if found is None:
            stored = next((row.findings for row in history if row.id == window), b"")
            found = decode_findings(stored) if stored else []
        finding = next((f for f in found if (f.check, f.subject) == (check, subject)), None)
        return f"{subject}: {check}, after late data" if finding is None else sentence(finding)

    def _changed_from_ms(self, told: Sequence[AlertRow], end_ms: int) -> int:
        """Nothing before this can change when the first changed window ends at `end_ms`: the start of the oldest episode that was not over by then."""
        if self._policy.for_windows > 1:  # windows before an episode count too
            return -(2**62)
        last: dict[str, AlertRow] = {}
        for row in told:
            last[row.id] = row
        running = [row.starts_at_ms for row in last.values() if row.status == "firing" or row.at_ms >= end_ms]
        return min([end_ms - 1, *running])

    def dated(self, row: WindowRow, findings: Sequence[Finding]) -> Sequence[Finding]:
        """The findings, with `since` where they drift: the start of the episode that runs, or of the window where it is of another."""
        if State.DRIFT not in states_of(findings):
            return findings
        out = []
        for finding in findings:
            if finding.state is State.DRIFT:
                standing = self._standing.get(self._mark(row, finding.subject, finding.check))
                begun_ms = standing.state.starts_at_ms if standing is not None else None
                since_ms = row.start_ms if begun_ms is None else min(begun_ms, row.start_ms)
                out.append(replace(finding, since_ms=since_ms))
            else:
                out.append(finding)
        return out

    def _settle(self, mark: str, standing: Standing, state: AlertState) -> None:
        standing.state = state
        self._touched.add(mark)
        if state.active or state.phase is lifecycle.Phase.PENDING:
            self._standing[mark] = standing
        else:
            self._standing.pop(mark, None)

    def _emit(self, mark: str, standing: Standing, transition: Transition) -> None:
        identity = lifecycle.alert_id(mark, transition.starts_at_ms)
        known = next((r.incident for r in [*self._tx.alert_rows(mark), *self._rows] if r.id == identity), "")
        active = [s.incident for m, s in sorted(self._standing.items()) if m != mark and s.incident and s.state.active]
        standing.incident = known or incident.incident_id(self._model.name, identity, active)
        subject = standing.subject
        self._rows.append(
            AlertRow(
                id=identity, fingerprint=mark, incident=standing.incident, model=subject.model, version=subject.version or "",
                segment=subject.segment, monitor=subject.monitor, subject=subject.subject, check=subject.check, severity=str(transition.severity),
                status=str(transition.status), corrected=transition.corrected, at_ms=transition.at_ms,
                starts_at_ms=transition.starts_at_ms, ends_at_ms=transition.ends_at_ms, window=transition.window_id,
                reason=str(transition.reason), text=transition.text, recorded_at_ms=self._now_ms,
            )
        )  # fmt: skip

    def _subject(self, row: WindowRow, finding: Finding) -> Subject:
        return Subject(
            model=row.model,
            version=row.version or None,
            segment=row.segment,
            monitor=row.monitor,
            subject=finding.subject,
            check=finding.check,
        )

    def _mark(self, row: WindowRow, subject: str, check: str) -> str:
        return lifecycle.fingerprint(
            Subject(
                model=row.model,
                version=row.version or None,
                segment=row.segment,
                monitor=row.monitor,
                subject=subject,
                check=check,
            )
        )

    # -- storing ------------------------------------------------------------------------------------------------------

    def finish(self) -> list[WindowRow | AlertRow | RetrainingRow]:
        """Store states, transitions and requests. The transitions wait for a turn of telling, where somebody is to be told."""
        if not self._touched:
            return []
        requests = self._request_retraining() if self._rules.side_effects else []
        self._rows = [replace(row, pending=self._rules.side_effects, stale=self._is_stale(row)) for row in self._rows]
        for row in self._rows:
            self._tx.put_alert(row)
        for mark in sorted(self._touched):
            standing = self._standing.get(mark)
            self._tx.put_alert_state(mark, self._model.name, standing.encode() if standing else None)
        return [*self._rows, *requests]

    def _is_stale(self, row: AlertRow) -> bool:
        return not lifecycle.is_fresh(self._known_ms(row), self._now_ms, self._model.page_max_age_ms)

    def _known_ms(self, row: AlertRow) -> int:
        """When what decided the transition became known, in the stream's own time."""
        return max(row.at_ms, self._heard_ms.get((row.version, row.monitor, row.segment), row.at_ms))

    def _request_retraining(self) -> list[RetrainingRow]:
        faulty = any(s.state.active and s.subject.monitor in DATA_FAULTS for s in self._standing.values())
        still = {}  # what goes on without a word: it may have been refused for a reason that has passed
        for mark in sorted(self._touched - {row.fingerprint for row in self._rows}):
            state = self._standing[mark].state if mark in self._standing else AlertState()
            if (
                state.phase is lifecycle.Phase.FIRING
                and state.starts_at_ms is not None
                and state.last_drift_ms is not None
            ):
                still[lifecycle.alert_id(mark, state.starts_at_ms)] = (mark, state.last_drift_ms)
        return request_retraining(
            self._tx, self._model, self._rules.gates, self._rows, still=still, faulty=faulty, known_ms=self._known_ms,
            refused=self._rules.refused, now_ms=self._now_ms,
        )  # fmt: skip


def _observation(row: WindowRow, finding: Finding | None) -> Observation:
    signal, severity, text = Signal.UNKNOWN, lifecycle.Severity.WARNING, ""
    if finding is not None and finding.state is State.DRIFT:
        signal, severity, text = Signal.DRIFT, lifecycle.Severity(str(finding.severity or "warning")), sentence(finding)
    elif finding is not None and finding.state in (State.OK, State.WARNING):
        signal, text = Signal.CLEAN, sentence(finding)
    end_ms = row.start_ms + (row.end_ms - row.start_ms) // row.run
    return Observation(
        window_id=row.id, start_ms=row.start_ms, end_ms=end_ms, signal=signal, severity=severity, text=text
    )


def _remembered(row: WindowRow, marks: Mapping[str, object], name: str) -> Observation:
    drift = marks["drift"]
    assert isinstance(drift, dict)
    end_ms = row.start_ms + (row.end_ms - row.start_ms) // row.run
    unknown = _is_blind(marks, name) or marks.get("open", False)
    signal = Signal.DRIFT if name in drift else Signal.UNKNOWN if unknown else Signal.CLEAN
    return Observation(
        window_id=row.id, start_ms=row.start_ms, end_ms=end_ms, signal=signal,
        severity=lifecycle.Severity(drift.get(name, "warning")),
    )  # fmt: skip


def _is_blind(marks: Mapping[str, object], name: str) -> bool:
    blind = marks["blind"]
    return blind == "*" or (isinstance(blind, list) and name in blind)


def _corrects(transition: Transition, before: Mapping[str, Mapping[str, object] | None], name: str) -> bool:
    """Whether a transition mends what was told: a window that had judged the subject before says otherwise now. `before`: the marks that changed
    windows had, None for a new one. That all is well is said for the first time by a window whose verdict had been open."""
    if transition.reason is lifecycle.Reason.CORRECTED:
        return True
    if transition.reason in lifecycle.CLOSING:
        return False
    over = transition.status is lifecycle.Status.RESOLVED
    first = {
        window_id
        for window_id, marks in before.items()
        if marks is None or _is_blind(marks, name) or (over and marks.get("open"))
    }
    return len(first) < len(before) and transition.window_id not in first


def _split(name: str) -> tuple[str, str]:
    check, _, subject = name.partition(" ")
    return check, subject


def _transition(row: AlertRow) -> Transition:
    return Transition(
        status=lifecycle.Status(row.status), reason=lifecycle.Reason(row.reason), severity=lifecycle.Severity(row.severity),
        at_ms=row.at_ms, starts_at_ms=row.starts_at_ms, ends_at_ms=row.ends_at_ms, window_id=row.window, text=row.text,
        corrected=row.corrected,
    )  # fmt: skip
