"""Notifier `log`: one structured log event a message. It cannot fail, so nobody is ever told nothing."""

from __future__ import annotations

import json

import structlog

from alerts.delivery import Delivered, Outcome


class LogNotifier:
    """Logs at `warning` what fires, at `info` the rest. Event name = the message's type; times are in the message."""

    limit_seconds = 1.0

    def __init__(self, logger: structlog.typing.FilteringBoundLogger | None = None) -> None:
        self._log: structlog.typing.FilteringBoundLogger = logger or structlog.get_logger("driftline.alerts")

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        message = json.loads(body)
        data = dict(message["data"])
        alerts = data.pop("alerts", [])
        emit = self._log.warning if data.get("status") == "firing" else self._log.info
        shown = {"alerts": [alert["id"] for alert in alerts]} if alerts else {}
        emit(message["type"], message_id=message_id, **data, **shown)
        return Delivered()

    def close(self) -> None:
        """Nothing is held open."""
