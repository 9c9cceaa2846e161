"""Alerts on their way to people and machines, on virtual time and through the real store: teller, outbox, sender, notifiers, HTTP.

`Office` carries what a store holds; `Played` feeds it transitions from a timeline (tests/parts/alert_timeline.py), in which a message reads
`firing: churn/data/age -churn/data/zip` (what is over has a minus) or `storm: 12`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from alerts.alert import Alert
from alerts.delivery import Delivered, Outcome
from alerts.grouping import Audience
from alerts.lifecycle import Acknowledgement, Severity, alert_id
from alerts.ports import Notifier
from alerts.sender import Limits, Sender
from alerts.silence import Silence
from monitor.config import Config
from monitor.receivers import notifiers
from monitor.store import ActRow, AlertRow, Store
from monitor.telling.rules import rules_of
from monitor.telling.teller import Teller
from tests.parts import alert_timeline
from tests.parts.alert_timeline import HOUR
from tests.parts.world import Clock

SECRETS = {
    "HOOK_SECRET": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "PAGER_KEY": "planted-key",
}


@dataclass(frozen=True)
class Heard:
    """One message that arrived, as it stood in the outbox."""

    at_ms: int
    receiver: str
    id: str
    data: dict[str, Any]

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return self.data["alerts"]

    @property
    def what(self) -> str:
        storm = re.match(r"Storm: (\d+) incidents", self.data["summary"])
        if storm is not None:
            return f"storm: {storm[1]}"
        names = [("" if a["status"] == "firing" else "-") + name(a) for a in self.alerts]
        return f"{self.data['status']}: {' '.join(sorted(names, key=lambda word: (word[0] == '-', word)))}".strip()

    def __str__(self) -> str:
        return str(alert_timeline.Sent(self.at_ms, self, self.what))  # type: ignore[arg-type]


def name(alert: dict[str, Any]) -> str:
    return f"{alert['model']}/{alert['monitor']}/{alert['subject']}"


class Office:
    """Nothing but the store lives from one turn to the next."""

    def __init__(self, config: Config, store: Store, clock: Clock) -> None:
        self.config, self.store, self.clock = config, store, clock
        self.heard: list[Heard] = []
        self._made = notifiers(config, partial(store.posts, now_ms=clock))
        self._sender = self.sender()

    def sender(self) -> Sender:
        carried = {name: Listened(name, one, self) for name, one in self._made.items()}
        limits = Limits(lease_ms=int(1000 * max(one.limit_seconds for one in self._made.values())) + 10_000)
        return Sender(self.store, carried, clock=self.clock, random=lambda: 0.0, owner="office", limits=limits)

    def turn(self, *, flush: bool = False) -> None:
        """Tell what is due and deliver it."""
        while Teller(self.store, self.config).turn(self.clock(), flush=flush):
            pass
        while self.store.outbox_pending() and (self._sender.send_due() or self._sender.busy):
            pass

    def until(self, now_ms: int) -> None:
        """A turn whenever one is due."""
        while self.store.telling_due(now_ms):
            early, due = self.clock.ms - 1, now_ms
            while due - early > 1:
                middle = (early + due) // 2
                early, due = (early, middle) if self.store.telling_due(middle) else (middle, due)
            self.clock.ms = due
            self.turn()
        self.clock.ms = now_ms

    def to(self, receiver: str) -> list[Heard]:
        return [heard for heard in self.heard if heard.receiver == receiver]

    def close(self) -> None:
        self._sender.close()
        for one in self._made.values():
            one.close()


class Listened:
    """Is `notifier` to its sender, and notes what arrived."""

    def __init__(self, name: str, notifier: Notifier, office: Office) -> None:
        self._name, self._notifier, self._office = name, notifier, office
        self.limit_seconds = notifier.limit_seconds

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        outcome = self._notifier.send(message_id, body, attempted_at_ms)
        if isinstance(outcome, Delivered):
            data = json.loads(body)["data"]
            self._office.heard.append(Heard(self._office.clock.ms, self._name, message_id, data))
        return outcome

    def close(self) -> None:
        """Closed by the office."""


def row_of(alert: Alert, now_ms: int, **more: object) -> AlertRow:
    """The transition as a closer would write it: of an episode whose fingerprint is its name."""
    mark = f"{alert.model}/{alert.monitor}/{alert.subject}/{alert.segment or ''}"
    fields: dict[str, Any] = {
        "id": alert_id(mark, alert.starts_at_ms), "fingerprint": mark, "incident": alert.incident, "model": alert.model, "version": "1",
        "segment": None, "monitor": alert.monitor, "subject": alert.subject, "check": alert.check or "distribution",
        "severity": str(alert.severity), "status": "firing" if alert.firing else "resolved", "corrected": False, "at_ms": alert.at_ms,
        "starts_at_ms": alert.starts_at_ms, "ends_at_ms": None if alert.firing else alert.at_ms, "window": "w",
        "reason": "drifted" if alert.firing else "cleared", "text": alert.text, "recorded_at_ms": now_ms, "stale": alert.stale,
        "pending": True,
    }  # fmt: skip
    return AlertRow(**{**fields, **more})


def put(store: Store, rows: Sequence[AlertRow]) -> None:
    """As the closer of each model does it: in one transaction."""
    for model in dict.fromkeys(row.model for row in rows):
        with store.closing(model) as tx:
            assert tx is not None
            for row in rows:
                if row.model == model:
                    tx.put_alert(row)


@dataclass
class Played(alert_timeline.Played):
    """A timeline through an office. Between turns nothing is kept but the store."""

    receivers: dict[str, Any] = field(default_factory=dict)
    office: Office | None = None

    @classmethod
    def at(cls, office: Office) -> Played:
        labels = {name: dict(model.labels) for name, model in office.config.models.items()}
        return cls(receivers=dict(rules_of(office.config).receivers), labels=labels, office=office)

    def turn(self, now_ms: int, arrivals: Sequence[Alert] = (), *, flush: bool = False) -> None:
        self.alerts |= {alert.id: alert for alert in arrivals}
        put(self.office.store, [row_of(alert, now_ms) for alert in arrivals])
        self.office.turn(flush=flush)
        self._sweep()
        firing = {alert.incident for alert in self.alerts.values() if alert.firing}
        self.incidents = {model: name for model, name in self.incidents.items() if name in firing}

    def until(self, now_ms: int) -> None:
        self.office.until(now_ms)
        self._sweep()

    def silence(self, silence: Silence) -> None:
        self.silences.append(silence)
        act = ActRow(at_ms=self.office.clock.ms, who=silence.who, act="silence", subject=silence.id, detail="")
        self.office.store.put_silence(silence, act)

    def acknowledge(self, alert: Alert, now_ms: int) -> None:
        identity = row_of(alert, now_ms).id
        seen = Acknowledgement(alert=identity, who="ada", at_ms=now_ms, severity=Severity(str(alert.severity)))
        self.office.store.acknowledge(seen, ActRow(at_ms=now_ms, who="ada", act="ack", subject=identity, detail=""))

    def _sweep(self) -> None:
        self.sent = [heard for heard in self.office.heard if heard.receiver in self.receivers]


def people(played: Played) -> list[Heard]:
    return [h for h in played.sent if played.receivers[h.receiver].audience is Audience.PEOPLE]


__all__ = ["HOUR", "SECRETS", "Heard", "Office", "Played", "people", "put", "row_of"]
