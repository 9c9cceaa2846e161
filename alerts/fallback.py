"""Another receiver is told too when the right one cannot be reached. Nothing is taken from the right one: it is tried on."""

from __future__ import annotations

from collections import OrderedDict

import structlog

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.ports import Notifier

_log = structlog.get_logger("driftline.alerts")
_REMEMBERED = 10_000


class WithFallback:
    """Sends through `first`. What it refuses, or has not taken within `patience_ms`, goes to `second` as well, once.

    The outcome stays that of `first`, so its row says what became of it; but as long as neither has taken what `first`
    refused for good, it is tried again. Which messages went to `second` is known to this process only: after a restart
    one may go there twice, with the same id.
    """

    def __init__(self, first: Notifier, second: Notifier, name: str, *, patience_ms: int = 300_000) -> None:
        self.first, self._second, self._name, self._patience_ms = first, second, name, patience_ms
        self.limit_seconds = first.limit_seconds + second.limit_seconds
        self._since_ms: OrderedDict[str, int | None] = OrderedDict()  # None: the second has it

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        outcome = self.first.send(message_id, body, attempted_at_ms)
        if isinstance(outcome, Delivered):
            self._since_ms.pop(message_id, None)
            return outcome
        since_ms = self._since_ms.setdefault(message_id, attempted_at_ms)
        if len(self._since_ms) > _REMEMBERED:
            self._since_ms.popitem(last=False)
        if since_ms is not None:
            if isinstance(outcome, Retry) and attempted_at_ms - since_ms < self._patience_ms:
                return outcome
            instead = self._second.send(message_id, body, attempted_at_ms)
            if not isinstance(instead, Delivered):
                told = f"{outcome.error}; {self._name}: {instead.error}"
                both = isinstance(outcome, GaveUp) and isinstance(instead, GaveUp)
                return GaveUp(told) if both else Retry(None, told)
            _log.warning("sent_to_fallback", message_id=message_id, fallback=self._name, error=outcome.error)
            self._since_ms[message_id] = None
        told = f"{outcome.error}; {self._name} was told instead"
        return GaveUp(told) if isinstance(outcome, GaveUp) else Retry(outcome.after_seconds, told)

    def close(self) -> None:
        """Both are closed where they were made."""
