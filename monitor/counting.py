"""A notifier whose attempts are counted and timed."""

from __future__ import annotations

import time

from alerts.delivery import Delivered, Outcome
from alerts.ports import Notifier
from monitor.failpoints import reach
from monitor.telemetry import NOTIFICATION, NOTIFICATIONS, Telemetry


class Counted:
    """Is `notifier` to its sender; `name` is its channel."""

    def __init__(self, name: str, notifier: Notifier, telemetry: Telemetry) -> None:
        self._name, self._notifier, self._telemetry = name, notifier, telemetry
        self.limit_seconds = notifier.limit_seconds

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        begun = time.monotonic()
        outcome = self._notifier.send(message_id, body, attempted_at_ms)
        reach("after_send")
        self._telemetry.observe(NOTIFICATION, self._name, seconds=time.monotonic() - begun)
        self._telemetry.add(NOTIFICATIONS, self._name, "sent" if isinstance(outcome, Delivered) else "failed")
        return outcome

    def close(self) -> None:
        self._notifier.close()
