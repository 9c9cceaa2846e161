"""What must be said again and again: active alerts to receivers that forget, and that we are well to who watches us."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog

from alerts import egress
from alerts.delivery import Delivered
from alerts.egress import HttpEdge
from alerts.fallback import WithFallback
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.ports import Notifier
from alerts.resending import Resender
from monitor.config import Config
from monitor.errors import TransientError, UserError
from monitor.receivers import active_of
from monitor.store import Store

log = structlog.get_logger()


class Keepalive:
    """`turn` may be called as often as you like; each part keeps its own pace."""

    def __init__(self, resender: Resender, edge: HttpEdge | None = None, every_ms: int = 60_000) -> None:
        self._resender, self._edge, self._every_ms = resender, edge, every_ms
        self._due_ms = 0

    @classmethod
    def of(cls, config: Config, store: Store, made: Mapping[str, Notifier]) -> Keepalive | None:
        """None where nothing needs it. Raises UserError for a heartbeat address that is none."""
        bare = {name: one.first if isinstance(one, WithFallback) else one for name, one in made.items()}
        forgetful = {name: one for name, one in bare.items() if isinstance(one, AlertmanagerNotifier)}
        if not forgetful and config.heartbeat is None:
            return None
        resender = Resender(forgetful, partial(active_of, store=store, config=config))
        if config.heartbeat is None:
            return cls(resender)
        try:
            edge = HttpEdge(
                config.heartbeat.url.reveal(), egress=egress.Egress(deny_private=config.egress.deny_private)
            )
        except ValueError as error:
            raise UserError(f"heartbeat: {error}") from error
        return cls(resender, edge, config.heartbeat.every_ms)

    def turn(self, now_ms: int, *, well: bool) -> None:
        """`well` False: no heartbeat, so that whoever waits for it calls somebody."""
        try:
            self._resender.turn(now_ms, well=well)
        except TransientError as error:
            log.warning("active alerts are not sent again: the store is out of reach", error=str(error))
        if self._edge is not None and well and now_ms >= self._due_ms:
            self._due_ms = now_ms + self._every_ms
            outcome = self._edge.send(b"", {}, now_ms)
            if not isinstance(outcome, Delivered):
                log.warning("heartbeat not delivered", error=outcome.error)

    def close(self) -> None:
        if self._edge is not None:
            self._edge.close()
