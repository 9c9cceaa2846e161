"""What becomes of requests after they went out: time-outs, runs that are asked for, and whether a retraining helped.

One turn looks at a little, so that it may run beside the sender; workers may do it at once, since each step is harmless when repeated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from alerts import incident, lifecycle
from alerts.delivery import GaveUp, Retry
from alerts.lifecycle import Reason, Severity, Status, Subject
from alerts.retraining import LEGAL, RetrainingStatus
from alerts.retraining_run import Deadlines, Help, Report, Verdict, timed_out
from monitor.config import Config, HttpTarget
from monitor.results import retraining_object
from monitor.retraining.callback import take
from monitor.retraining.judging import new_version, verdict_of
from monitor.retraining.targets import HttpRequest, target_notifier
from monitor.store import AlertRow, ClosingTransaction, RetrainingRow, Store

log = structlog.get_logger()

LOOK_EVERY_MS = 5_000
POLL_EVERY_MS = 30_000
JUDGE_EVERY_MS = 60_000
POLLS_A_TURN = 2
JUDGED_WITHIN_MS = 30 * 86_400_000
MONITOR, CHECK = "retraining", "help"
_ASKED = frozenset({RetrainingStatus.DELIVERED, RetrainingStatus.ACCEPTED, RetrainingStatus.RUNNING})


@dataclass(slots=True, kw_only=True)
class Follow:
    """`turn` is called again and again, at any pace; it looks when it is time. `hears_back`: targets that report or can be asked."""

    store: Store
    deadlines: Deadlines
    polled: Mapping[str, HttpRequest]
    hears_back: frozenset[str]
    _looked_ms: int = -(2**62)
    _polled_ms: dict[str, int] = field(default_factory=dict)
    _judged_ms: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, store: Store) -> Follow:
        """Raises UserError for a target's secret or address that cannot be used."""
        polled = {}
        for name, target in config.retraining_targets.items():
            if isinstance(target, HttpTarget) and target.target.poll is not None:
                made = target_notifier(name, target, config)
                if isinstance(made, HttpRequest):
                    polled[name] = made
        return cls(
            store=store,
            deadlines=config.retraining.deadlines(),
            polled=polled,
            hears_back=frozenset(polled if config.retraining.callback is None else config.retraining_targets),
        )

    def turn(self, now_ms: int) -> int:
        """How many requests were moved on or judged. Raises TransientError when the store is out of reach."""
        if now_ms - self._looked_ms < LOOK_EVERY_MS:
            return 0
        self._looked_ms = now_ms
        rows = self.store.retraining()
        open_rows = [row for row in rows if LEGAL[RetrainingStatus(row.status)]]
        moved = sum(self._see(row, now_ms) or self._time_out(row, now_ms) for row in open_rows)
        moved += self._poll([row for row in open_rows if RetrainingStatus(row.status) in _ASKED], now_ms)
        self._forget({row.id for row in rows})
        return moved + self._judge(rows, now_ms)

    # -- the end that never comes -------------------------------------------------------------------------------------

    def _see(self, row: RetrainingRow, now_ms: int) -> bool:
        """Of a target that never reports the data tell: a new version takes traffic, so there has been a training."""
        if row.status != RetrainingStatus.DELIVERED or row.target in self.hears_back or not self._is_due(row, now_ms):
            return False
        with self.store.closing(row.model) as tx:
            version, since_ms = (None, None) if tx is None else new_version(tx, row, None)
        if since_ms is None:
            return False
        take(self.store, row.id, Report(status=RetrainingStatus.SUCCEEDED, version=version), now_ms, "the traffic says")
        return True

    def _time_out(self, row: RetrainingRow, now_ms: int) -> bool:
        status = RetrainingStatus(row.status)
        if status is RetrainingStatus.REQUESTED and not json.loads(row.detail).get("waits"):
            return False  # its message waits in the outbox, and ends with it
        steps = self.store.retraining_steps(row.id)
        since_ms = steps[-1].at_ms if steps else row.recorded_at_ms
        hears_back = row.target in self.hears_back
        said = timed_out(status, since_ms, now_ms, self.deadlines, hears_back=hears_back)
        if said is None:
            return False
        # That nothing was heard of one that never reports is no failure.
        kept = None if hears_back else {"unheard": True}
        return self.store.set_retraining_status(row.id, RetrainingStatus.TIMED_OUT, said, now_ms, kept)

    # -- runs that nobody tells of ------------------------------------------------------------------------------------

    def _poll(self, rows: Sequence[RetrainingRow], now_ms: int) -> int:
        """Those that were not asked for the longest, at most a few."""
        due = [
            row
            for row in rows
            if row.target in self.polled
            and now_ms - self._polled_ms.get(row.id, row.recorded_at_ms) >= POLL_EVERY_MS
            and self.polled[row.target].can_poll(json.loads(row.detail).get("run_id"))
        ]
        due.sort(key=lambda row: self._polled_ms.get(row.id, 0))
        return sum(self._ask(row, now_ms) for row in due[:POLLS_A_TURN])

    def _ask(self, row: RetrainingRow, now_ms: int) -> bool:
        self._polled_ms[row.id] = now_ms
        run_id = json.loads(row.detail).get("run_id")
        found = self.polled[row.target].poll({**retraining_object(row), "version": row.version or None}, run_id)
        if isinstance(found, Retry | GaveUp):
            log.warning("retraining run not answered for", request=row.id, target=row.target, error=found.error)
            return False
        if found is None or found == row.status:
            return False
        take(self.store, row.id, Report(status=found), now_ms, "the target says")
        return True

    # -- whether it helped --------------------------------------------------------------------------------------------

    def _judge(self, rows: Sequence[RetrainingRow], now_ms: int) -> int:
        newest = {row.model: row for row in sorted(rows, key=lambda row: (row.at_ms, row.recorded_at_ms))}
        count = 0
        for row in rows:
            detail = json.loads(row.detail)
            helped, ended_ms = detail.get("help"), detail.get("ended_ms", row.recorded_at_ms)
            escalated = bool(detail.get("escalated"))
            followed = newest[row.model].id != row.id
            open_verdict = row.status == RetrainingStatus.SUCCEEDED and helped in (None, Help.NOT_USED)
            if not (open_verdict or (escalated and followed)) or now_ms - ended_ms > JUDGED_WITHIN_MS:
                continue
            if self._is_due(row, now_ms):
                count += self._settle(row, now_ms, followed=followed)
        return count

    def _is_due(self, row: RetrainingRow, now_ms: int) -> bool:
        """What asks for windows and alerts of a model is done at a slower pace."""
        if now_ms - self._judged_ms.get(row.id, -(2**62)) < JUDGE_EVERY_MS:
            return False
        self._judged_ms[row.id] = now_ms
        return True

    def _settle(self, row: RetrainingRow, now_ms: int, *, followed: bool) -> bool:
        """Judge one request and tell people where money was spent in vain; take it back when it helped or the next one is under way."""
        detail = json.loads(row.detail)
        with self.store.closing(row.model) as tx:
            if tx is None:
                return False
            told = detail.get("help") == Help.DID_NOT_HELP
            verdict = None if told else verdict_of(tx, row, (), now_ms)
            if verdict is not None and verdict.escalate and not followed:
                _escalate(tx, row, verdict, now_ms)
            elif followed or (verdict is not None and verdict.help is Help.HELPED):
                why = "The next retraining is asked for." if verdict is None or followed else verdict.text
                _take_back(tx, row, why, now_ms)
        return self._keep(row, verdict, now_ms, followed=followed)

    def _keep(self, row: RetrainingRow, verdict: Verdict | None, now_ms: int, *, followed: bool) -> bool:
        """After what people are told: a crash in between repeats that, and `_escalate` knows what was told."""
        kept: dict[str, object] = {"escalated": bool(verdict is not None and verdict.escalate and not followed)}
        if verdict is not None and verdict.help is not Help.TOO_EARLY:
            kept["help"] = str(verdict.help)
        before = json.loads(row.detail)
        if all(before.get(name, False) == value for name, value in kept.items()):
            return False
        said = verdict.text if verdict is not None else str(before.get("delivery", ""))
        return self.store.set_retraining_status(row.id, row.status, said, now_ms, kept)

    def _forget(self, known: set[str]) -> None:
        for looked in (self._polled_ms, self._judged_ms):
            for request in looked.keys() - known:
                del looked[request]


def _escalate(tx: ClosingTransaction, row: RetrainingRow, verdict: Verdict, now_ms: int) -> None:
    mark, identity = _alert_of(row)
    if any(alert.id == identity for alert in tx.alert_rows(mark)):
        return
    firing = {alert.id: alert for alert in tx.alert_rows()}.values()
    active = sorted(alert.incident for alert in firing if alert.status == "firing")
    tx.put_alert(
        AlertRow(
            id=identity, fingerprint=mark, incident=incident.incident_id(row.model, identity, active), model=row.model, version="",
            monitor=MONITOR, subject=row.target, check=CHECK, severity=str(Severity.WARNING), status=str(Status.FIRING),
            corrected=False, at_ms=now_ms, starts_at_ms=row.at_ms, ends_at_ms=None, window="", reason=str(Reason.DRIFTED),
            text=verdict.text, recorded_at_ms=now_ms, pending=True,
        )
    )  # fmt: skip


def _take_back(tx: ClosingTransaction, row: RetrainingRow, why: str, now_ms: int) -> None:
    mark, identity = _alert_of(row)
    told = [alert for alert in tx.alert_rows(mark) if alert.id == identity]
    if not told or told[-1].status != "firing":
        return
    last = told[-1]
    tx.put_alert(
        AlertRow(
            id=identity, fingerprint=mark, incident=last.incident, model=row.model, version="", monitor=MONITOR,
            subject=row.target, check=CHECK, severity=last.severity, status=str(Status.RESOLVED), corrected=False, at_ms=now_ms,
            starts_at_ms=last.starts_at_ms, ends_at_ms=now_ms, window="", reason=str(Reason.CLEARED), text=why,
            recorded_at_ms=now_ms, pending=True,
        )
    )  # fmt: skip


def _alert_of(row: RetrainingRow) -> tuple[str, str]:
    """Fingerprint and id of the alert that says of this request that it did not help."""
    subject = Subject(model=row.model, version=None, segment=None, monitor=MONITOR, subject=row.target, check=CHECK)
    mark = lifecycle.fingerprint(subject)
    return mark, lifecycle.alert_id(mark, row.at_ms)
