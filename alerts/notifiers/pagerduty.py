"""Notifier `pagerduty`: Events API v2. One incident of ours is one of theirs: triggered, updated, resolved by its key."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from alerts.delivery import GaveUp, Outcome
from alerts.egress import Egress, HttpEdge, Limits
from alerts.message import Message, Wording, clip, compose, what_lines

EVENTS_URL = "https://events.pagerduty.com/v2/enqueue"

# Theirs: https://developer.pagerduty.com/docs/events-api-v2/trigger-events/ ; an event holds at most 512 KB.
_KEY_CHARACTERS, _SUMMARY_CHARACTERS, _LINKS, _ALERTS = 255, 1024, 20, 20


class PagerDutyNotifier:
    """Triggers while the incident fires and resolves when it is over. Sending twice changes nothing: the key is the same.

    `url` is for the EU region or a relay. Raises ValueError for a URL that cannot be used.
    """

    def __init__(
        self,
        routing_key: str,
        *,
        url: str | None = None,
        wording: Wording | None = None,
        limits: Limits | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._edge = HttpEdge(url or EVENTS_URL, limits=limits, egress=egress)
        self._routing_key, self._wording = routing_key.strip(), wording
        self.limit_seconds = self._edge.limits.total_seconds
        self.host = self._edge.host

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        event = {"routing_key": self._routing_key, **event_of(compose(body, self._wording))}
        content = json.dumps(event, separators=(",", ":")).encode()
        outcome = self._edge.send(content, {"content-type": "application/json"}, attempted_at_ms)
        if isinstance(outcome, GaveUp) and "HTTP 400" in outcome.error:
            return GaveUp(f"{outcome.error}; see whether the routing key is one of an Events API v2 integration")
        return outcome

    def close(self) -> None:
        self._edge.close()

    def __repr__(self) -> str:
        return f"PagerDutyNotifier({self.host})"


def event_of(message: Message) -> dict[str, Any]:
    """The event without its routing key."""
    event: dict[str, Any] = {"event_action": "trigger" if message.firing else "resolve", "dedup_key": _key(message)}
    if not message.firing:
        return event
    first = message.alerts[0] if message.alerts else {}
    payload = {
        "summary": clip(message.title, _SUMMARY_CHARACTERS) or "Driftline",
        "source": message.model or "driftline",
        "severity": "critical" if message.critical else "warning",
        "timestamp": first.get("at"),
        "component": first.get("subject"),
        "group": message.model,
        "class": first.get("monitor"),
        "custom_details": _details(message),
    }
    event["payload"] = {name: value for name, value in payload.items() if value}
    event["client"] = "Driftline"
    event["links"] = [{"href": url, "text": name} for name, url in message.links[:_LINKS]]
    return event


def _details(message: Message) -> dict[str, Any]:
    if message.custom:
        return {"text": message.text}
    return {"What moved": what_lines(message.alerts, _ALERTS), **dict(message.facts), "Version": message.version}


def _key(message: Message) -> str:
    key = f"driftline/{message.incident}"
    return key if len(key) <= _KEY_CHARACTERS else f"driftline/{hashlib.sha256(key.encode()).hexdigest()}"
