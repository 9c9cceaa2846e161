"""`driftline alerts test RECEIVER`: an incident that says it is a test, from its beginning to its end, past the outbox."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from alerts.delivery import Outcome
from alerts.envelope import rfc3339
from alerts.incident import render_incident
from alerts.lifecycle import Status
from alerts.ports import Notifier
from alerts.routing import LOG
from monitor.config import Config, LogReceiver
from monitor.errors import UserError
from monitor.receivers import notifier

_MINUTE_MS = 60_000


def receiver_named(config: Config, name: str) -> Notifier:
    """The receiver without its fallback, so that the fallback cannot hide that it does not work. Raises UserError."""
    if name == LOG and name not in config.receivers:
        return notifier(name, LogReceiver(), config)
    if name not in config.receivers:
        known = ", ".join(sorted({LOG, *config.receivers}))
        raise UserError(f"receiver {name} is not configured (configured: {known})")
    return notifier(name, config.receivers[name], config)


def try_receiver(one: Notifier, name: str, now_ms: int) -> Iterator[tuple[Status, Outcome]]:
    """What came of telling that a test fires, and then that it is over."""
    identity = hashlib.sha256(f"test\0{name}\0{now_ms}".encode()).hexdigest()[:32]
    for status in (Status.FIRING, Status.RESOLVED):
        body = trial_body(name, identity, status, now_ms)
        yield status, one.send(f"msg_test_{identity}_{status}", body, now_ms)


def trial_body(name: str, identity: str, status: Status, now_ms: int) -> bytes:
    over = status is Status.RESOLVED
    alert = {
        "type": "alert", "id": identity, "fingerprint": identity, "incident": identity, "model": "driftline-test", "version": None,
        "segment": None, "monitor": "quality", "subject": "test", "severity": "warning", "status": str(status), "corrected": False,
        "at": rfc3339(now_ms), "starts_at": rfc3339(now_ms - _MINUTE_MS), "ends_at": rfc3339(now_ms) if over else None,
        "window": identity, "reason": "cleared" if over else "drifted",
        "text": f"This is a test of receiver {name}: nothing is wrong.",
    }  # fmt: skip
    return render_incident(incident=identity, status=status, timestamp_ms=now_ms, alerts=[alert])
