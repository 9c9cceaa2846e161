"""Keeps alerts alive at receivers that take what is not repeated for over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import structlog

from alerts.delivery import Delivered
from alerts.ports import Forgetful

_log = structlog.get_logger("driftline.alerts")
_PAUSE_MS = 5_000


class Resender:
    """Calls every forgetful notifier at its own pace. `active`: receiver -> the active alerts that it has been told of."""

    def __init__(
        self, notifiers: Mapping[str, Forgetful], active: Callable[[str], Sequence[Mapping[str, Any]]]
    ) -> None:
        self._notifiers, self._active = notifiers, active
        self._due_ms = dict.fromkeys(notifiers, 0)

    def turn(self, now_ms: int, *, well: bool = True) -> None:
        """Send again what is due; what did not get through is due again soon. Raises what `active` raises.

        `well` False: without a heartbeat.
        """
        for name, notifier in self._notifiers.items():
            if now_ms < self._due_ms[name]:
                continue
            self._due_ms[name] = now_ms + min(_PAUSE_MS, notifier.resend_ms)
            outcome = notifier.resend(partial(self._active, name), now_ms, well)
            if isinstance(outcome, Delivered):
                self._due_ms[name] = now_ms + notifier.resend_ms
            else:
                _log.warning("not_sent_again", receiver=name, error=outcome.error)
