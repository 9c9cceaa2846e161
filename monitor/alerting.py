"""From judged windows to alert transitions, messages and retraining requests, inside the closer's transaction.

The rules are in `alerts` and pure; here they meet the store. A window in order steps the state of its subjects; a revision folds their
whole history again and only the difference is told, marked `corrected`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from alerts import incident, lifecycle, retraining, routing
from alerts.lifecycle import AlertState, Observation, Signal, Subject, Transition
from detectors.assembly import states_of
from detectors.finding import Finding, State
from detectors.sentences import sentence
from monitor.config import Model
from monitor.results import alert_object, encode_findings, retraining_object
from monitor.store import AlertRow, ClosingTransaction, OutboxRow, RetrainingRow, WindowRow

NOTIFICATION_LIFE_MS = 3 * 86_400_000
ALERTS_A_MESSAGE = 100
TARGET = "retraining:"  # before the name of a retraining target where receivers are named
FAULT_MONITORS = ("quality", "volume")

# the window, its findings, and whether it follows on all that was folded
Judged = tuple[WindowRow, Sequence[Finding], bool]


@dataclass(slots=True)
class Standing:
    """Where one subject of the model stands, with the incident its episode belongs to."""

    subject: Subject
    state: AlertState
    incident: str = ""

    def encode(self) -> str:
        s = self.subject
        return json.dumps([s.version, s.monitor, s.subject, s.check, lifecycle.encode_state(self.state), self.incident])

    @classmethod
    def decode(cls, model: str, text: str) -> Standing:
        version, monitor, subject, check, state, incident_id = json.loads(text)
        whole = Subject(model=model, version=version, segment=None, monitor=monitor, subject=subject, check=check)
        return cls(whole, lifecycle.decode_state(state), incident_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alerting:
    """What to do with transitions. `replay` and simulations have no side effects: alerts are stored, nobody is told, nothing is requested."""

    receivers: Sequence[str] = ()
    routes: Sequence[routing.Route] = ()
    policy: lifecycle.Policy = field(default_factory=lifecycle.Policy)
    side_effects: bool = True

    def fold(
        self, tx: ClosingTransaction, model: Model, judged: Sequence[Judged], now_ms: int
    ) -> list[WindowRow | AlertRow | RetrainingRow]:
        """Write the windows, then what follows from them; everything decided, in order. Runs inside the closer's transaction."""
        turn = _Fold(self, tx, model, now_ms)
        written: list[WindowRow | AlertRow | RetrainingRow] = []
        revised: list[WindowRow] = []
        for row, findings, in_order in judged:
            if in_order:
                turn.step(row, findings)
            else:
                revised.append(row)
            stored = replace(row, findings=encode_findings(turn.dated(row, findings)))
            tx.put_window(stored)
            written.append(stored)
        for version, monitor in dict.fromkeys((row.version, row.monitor) for row in revised):
            turn.refold(version, monitor)
        return written + turn.finish()


class _Fold:
    def __init__(self, rules: Alerting, tx: ClosingTransaction, model: Model, now_ms: int) -> None:
        self._rules, self._tx, self._model, self._now_ms = rules, tx, model, now_ms
        self._standing = {mark: Standing.decode(model.name, text) for mark, text in tx.alert_states().items()}
        self._touched: set[str] = set()
        self._rows: list[AlertRow] = []

    # -- folding ------------------------------------------------------------------------------------------------------

    def step(self, row: WindowRow, findings: Sequence[Finding]) -> None:
        """One window that follows on all before it: its drifting subjects, and those that were in trouble."""
        troubled = {
            (s.subject.subject, s.subject.check): mark
            for mark, s in self._standing.items()
            if (s.subject.version or "", s.subject.monitor) == (row.version, row.monitor)
        }
        if not troubled and State.DRIFT not in states_of(findings):
            return
        seen = {
            self._mark(row, f.subject, f.check): f
            for f in findings
            if f.state is State.DRIFT or (f.subject, f.check) in troubled
        }
        for mark in sorted(seen.keys() | set(troubled.values())):
            standing = self._standing.get(mark) or Standing(self._subject(row, seen[mark]), AlertState())
            state, transition = lifecycle.step(standing.state, _observation(row, seen.get(mark)), self._rules.policy)
            self._settle(mark, standing, state)
            if transition is not None:
                self._emit(mark, standing, transition)

    def refold(self, version: str, monitor: str) -> None:
        """A window in the past changed: fold each subject's history again and tell the difference only."""
        history = [row for row in self._tx.windows(monitor=monitor, version=version) if not row.withdrawn]
        history.sort(key=lambda row: (row.end_ms, row.start_ms))
        told = [row for row in self._tx.alert_rows() if (row.version, row.monitor) == (version, monitor)]
        subjects = {(row.check, row.subject) for row in told}
        all_marks = [json.loads(row.marks) for row in history]
        for marks in all_marks:
            subjects |= {_split(name) for name in marks["drift"]}
        for check, subject in sorted(subjects):
            whole = Subject(
                model=self._model.name,
                version=version or None,
                segment=None,
                monitor=monitor,
                subject=subject,
                check=check,
            )
            mark = lifecycle.fingerprint(whole)
            observations = [
                _remembered(row, marks, f"{check} {subject}") for row, marks in zip(history, all_marks, strict=True)
            ]
            state, transitions = lifecycle.refold(observations, self._rules.policy)
            standing = self._standing.get(mark) or Standing(whole, AlertState())
            emitted = [_transition(row) for row in [*told, *self._rows] if row.fingerprint == mark]
            self._settle(mark, standing, state)
            for transition in lifecycle.difference(emitted, transitions):
                self._emit(mark, standing, transition)

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
                monitor=subject.monitor, subject=subject.subject, check=subject.check, severity=str(transition.severity),
                status=str(transition.status), corrected=transition.corrected, at_ms=transition.at_ms,
                starts_at_ms=transition.starts_at_ms, ends_at_ms=transition.ends_at_ms, window=transition.window_id,
                reason=str(transition.reason), text=transition.text, recorded_at_ms=self._now_ms,
            )
        )  # fmt: skip

    def _subject(self, row: WindowRow, finding: Finding) -> Subject:
        return Subject(
            model=row.model,
            version=row.version or None,
            segment=None,
            monitor=row.monitor,
            subject=finding.subject,
            check=finding.check,
        )

    def _mark(self, row: WindowRow, subject: str, check: str) -> str:
        return lifecycle.fingerprint(
            Subject(
                model=row.model,
                version=row.version or None,
                segment=None,
                monitor=row.monitor,
                subject=subject,
                check=check,
            )
        )

    # -- telling ------------------------------------------------------------------------------------------------------

    def finish(self) -> list[WindowRow | AlertRow | RetrainingRow]:
        """Store states, transitions, messages and requests."""
        if not self._touched:
            return []
        requests = self._request_retraining() if self._rules.side_effects else []
        if self._rules.side_effects:
            self._post()
        for row in self._rows:
            self._tx.put_alert(row)
        for mark in sorted(self._touched):
            standing = self._standing.get(mark)
            self._tx.put_alert_state(mark, self._model.name, standing.encode() if standing else None)
        return [*self._rows, *requests]

    def _post(self) -> None:
        """One message a receiver and incident, holding this transaction's transitions in order."""
        batches: dict[tuple[str, str], list[AlertRow]] = {}
        for place, row in enumerate(self._rows):
            for receiver in self._receivers(row, self._rows[:place]):
                batches.setdefault((receiver, row.incident), []).append(row)
        for (receiver, incident_id), rows in batches.items():
            for start in range(0, len(rows), ALERTS_A_MESSAGE):
                self._put_message(receiver, incident_id, rows[start : start + ALERTS_A_MESSAGE])

    def _put_message(self, receiver: str, incident_id: str, rows: Sequence[AlertRow]) -> None:
        active = any(s.incident == incident_id and s.state.active for s in self._standing.values())
        identity = hashlib.sha256(
            json.dumps(
                [receiver, incident_id, [[r.id, r.status, r.reason, r.at_ms, r.corrected] for r in rows], self._now_ms]
            ).encode()
        )
        self._tx.put_outbox(
            OutboxRow(
                id=f"msg_{identity.hexdigest()[:32]}", kind="notification", receiver=receiver, ordering_key=self._model.name,
                body=incident.render_incident(
                    incident=incident_id,
                    status=lifecycle.Status.FIRING if active else lifecycle.Status.RESOLVED,
                    timestamp_ms=self._now_ms,
                    alerts=[alert_object(row) for row in rows],
                ),
                created_at_ms=self._now_ms, next_attempt_at_ms=self._now_ms, expires_at_ms=self._now_ms + NOTIFICATION_LIFE_MS,
            )
        )  # fmt: skip

    def _receivers(self, row: AlertRow, earlier: Sequence[AlertRow]) -> tuple[str, ...]:
        """Whoever heard of the episode hears the rest of it. A window too old to page anyone is left to the log."""
        episode = [
            r for r in [*self._tx.alert_rows(row.fingerprint), *earlier] if r.id == row.id and r.status == "firing"
        ]
        told = {name for r in episode if self._fresh(r) for name in self._decide(r)}
        if row.status == "resolved":
            return tuple(sorted(told | {routing.LOG}))
        return self._decide(row, told) if self._fresh(row) else tuple(sorted(told | {routing.LOG}))

    def _decide(self, row: AlertRow, told: Iterable[str] = ()) -> tuple[str, ...]:
        labels = routing.labels(alert_object(row), self._model.labels)
        return routing.decide(labels, self._rules.routes, self._rules.receivers, set(told)).receivers

    def _fresh(self, row: AlertRow) -> bool:
        return row.recorded_at_ms - row.at_ms <= self._model.page_max_age_ms

    def _request_retraining(self) -> list[RetrainingRow]:
        settings = self._model.retraining
        if settings is None or settings.target is None:
            return []
        made: list[RetrainingRow] = []
        known = sorted(self._tx.retraining_rows(self._model.name), key=lambda row: (row.at_ms, row.recorded_at_ms))
        faulty = any(s.state.active and s.subject.monitor in FAULT_MONITORS for s in self._standing.values())
        over = [row for row in self._rows if row.status == "resolved" and row.monitor in FAULT_MONITORS]
        for cause in self._rows:
            if cause.status != "firing" or cause.corrected or cause.reason != lifecycle.Reason.DRIFTED:
                continue
            latest = (known + made)[-1] if known or made else None
            decision = retraining.decide(
                retraining.Facts(
                    mode=retraining.Mode(settings.mode), monitor=cause.monitor, at_ms=cause.at_ms, now_ms=self._now_ms,
                    page_max_age_ms=self._model.page_max_age_ms, cooldown_ms=settings.cooldown_ms,
                    data_fault_active=faulty or any((row.ends_at_ms or row.at_ms) > cause.starts_at_ms for row in over),
                    latest=retraining.Latest(status=retraining.RetrainingStatus(latest.status), at_ms=latest.at_ms) if latest else None,
                )
            )  # fmt: skip
            if decision.create:
                made.append(self._put_request(cause, settings.target, settings.mode, decision.deliver))
        return made

    def _put_request(self, cause: AlertRow, target: str, mode: str, deliver: bool) -> RetrainingRow:
        row = RetrainingRow(
            id=retraining.request_id(self._model.name, cause.fingerprint, cause.starts_at_ms), model=self._model.name,
            version=cause.version, target=target, status=str(retraining.RetrainingStatus.REQUESTED), mode=mode, reason=cause.text,
            at_ms=cause.at_ms, recorded_at_ms=self._now_ms, detail=json.dumps({"alert": cause.id, "fingerprint": cause.fingerprint}),
        )  # fmt: skip
        self._tx.put_retraining(row)
        if deliver:
            self._tx.put_outbox(retraining_message(row, self._now_ms))
        return row


def retraining_message(row: RetrainingRow, now_ms: int) -> OutboxRow:
    """The signed request to a target, as it waits in the outbox. Its webhook-id is the request's id, so a copy is recognised."""
    return OutboxRow(
        id=row.id, kind="retraining", receiver=TARGET + row.target, ordering_key=row.model,
        body=retraining.render_request(now_ms, {**retraining_object(row), "version": row.version or None}),
        created_at_ms=now_ms, next_attempt_at_ms=now_ms, expires_at_ms=now_ms + NOTIFICATION_LIFE_MS,
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
    drift, blind = marks["drift"], marks["blind"]
    assert isinstance(drift, dict)
    assert isinstance(blind, str | list)
    end_ms = row.start_ms + (row.end_ms - row.start_ms) // row.run
    signal = Signal.DRIFT if name in drift else Signal.UNKNOWN if blind == "*" or name in blind else Signal.CLEAN
    check, subject = _split(name)
    return Observation(
        window_id=row.id, start_ms=row.start_ms, end_ms=end_ms, signal=signal,
        severity=lifecycle.Severity(drift.get(name, "warning")), text=f"{subject}: {check}, after late data",
    )  # fmt: skip


def _split(name: str) -> tuple[str, str]:
    check, _, subject = name.partition(" ")
    return check, subject


def _transition(row: AlertRow) -> Transition:
    return Transition(
        status=lifecycle.Status(row.status), reason=lifecycle.Reason(row.reason), severity=lifecycle.Severity(row.severity),
        at_ms=row.at_ms, starts_at_ms=row.starts_at_ms, ends_at_ms=row.ends_at_ms, window_id=row.window, text=row.text,
        corrected=row.corrected,
    )  # fmt: skip
