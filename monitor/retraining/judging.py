"""Whether a retraining helped, from what is stored: the alerts that fire, and the traffic of a new version."""

from __future__ import annotations

import json
from collections.abc import Sequence

from alerts.alert import Alert
from alerts.lifecycle import Severity
from alerts.retraining_run import Cause, Help, Verdict, judge
from monitor.store import AlertRow, ClosingTransaction, RetrainingRow

_BEFORE_MS = 7 * 86_400_000
_EVER_MS = 2**62


def verdict_of(tx: ClosingTransaction, row: RetrainingRow, rows: Sequence[AlertRow], now_ms: int) -> Verdict:
    """Of a request that succeeded. `rows`: transitions that are decided and not stored yet."""
    detail = json.loads(row.detail)
    told = [*tx.alert_rows(), *rows]
    cause = next((alert for alert in told if alert.id == detail.get("alert")), None)
    if cause is None:  # forgotten by now
        return Verdict(help=Help.TOO_EARLY, escalate=False, text="What it was asked for is no longer known.")
    version, since_ms = new_version(tx, row, detail.get("version"))
    return judge(
        causes=[Cause.of(alert_of(cause))],
        old_version=row.version or None,
        succeeded_ms=detail.get("ended_ms", row.recorded_at_ms),
        new_version=version,
        new_since_ms=since_ms,
        alerts=[alert_of(alert) for alert in {alert.id: alert for alert in told}.values()],
        now_ms=now_ms,
    )


def new_version(tx: ClosingTransaction, row: RetrainingRow, told: str | None) -> tuple[str | None, int | None]:
    """The version that the job named, else the first that had never been seen before; and when it first had traffic."""
    seen = [pane for pane in tx.pane_rows(row.at_ms - _BEFORE_MS, _EVER_MS) if pane.rows > 0 and pane.version]
    old = {row.version}
    if told is None:  # versions that took traffic side by side are not new
        old |= {pane.version for pane in seen if pane.start_ms < row.at_ms}
    first = next(
        (p for p in seen if p.start_ms >= row.at_ms and p.version not in old and told in (None, p.version)), None
    )
    return (told, None) if first is None else (first.version, first.start_ms)


def alert_of(row: AlertRow) -> Alert:
    """A transition as the rules of `alerts` see it, without its labels."""
    return Alert(
        id=row.id, seq=row.seq, incident=row.incident, model=row.model, monitor=row.monitor, subject=row.subject,
        severity=Severity(row.severity), firing=row.status == "firing", starts_at_ms=row.starts_at_ms, at_ms=row.at_ms,
        check=row.check, version=row.version or None, segment=row.segment, text=row.text,
    )  # fmt: skip
