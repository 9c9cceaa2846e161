"""What the service shows over HTTP: metrics, and whether it lives and is ready. Assembled here, served by monitor/http.py."""

from __future__ import annotations

import threading
from importlib.metadata import version
from typing import TYPE_CHECKING, Protocol

from alerts.routing import LOG
from monitor.budget import PROCESS_SERIES_MAX
from monitor.closing.requests import TARGET
from monitor.config.fingerprint import fingerprint
from monitor.config.types import Http, is_loopback
from monitor.errors import DriftlineError
from monitor.http import HttpServer, build_app
from monitor.metrics import Facts, Metrics, ModelFacts
from monitor.retraining.callback import CallBackAddress, CallBacks
from monitor.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

DEAD_AFTER_MS = 60_000


class Heartbeat(Protocol):
    """When the main loop last turned, and what keeps it from working."""

    loop_ms: int
    trouble: str | None


def serve(runtime: Runtime, heartbeat: Heartbeat, http: Http) -> HttpServer:
    """A started server. The caller stops it."""
    token = http.tokens.admin.reveal() if http.tokens.admin is not None and not is_loopback(http.host) else None
    metrics = Metrics(runtime.store, runtime.telemetry, facts(runtime))
    address = CallBackAddress.of(runtime.config)
    app = build_app(
        render=metrics.render, live=_live(runtime, heartbeat), ready=_ready(runtime, heartbeat), token=token,
        reports=None if address is None else CallBacks(runtime.store, address, runtime.now_ms),
    )  # fmt: skip
    server = HttpServer(app, http.host, http.port)
    server.start()
    threading.Thread(target=metrics.warm, name="warm", daemon=True).start()
    return server


def facts(runtime: Runtime) -> Facts:
    """The configuration, as far as metrics tell it."""
    return Facts(
        version=version("driftline"),
        revision="",
        models={
            name: ModelFacts(
                task=model.task or "inferred",
                owner=model.labels.get("owner", model.labels.get("team", "")),
                window_ms=model.window.size_ms,
                window_max_ms=model.window.max_ms,
                target=None if model.retraining is None else model.retraining.target,
            )
            for name, model in runtime.config.models.items()
        },
        receivers=[LOG, *runtime.config.receivers],
        targets=[TARGET + name for name in runtime.config.retraining_targets],
        now_ms=runtime.now_ms,
        config=fingerprint(runtime.config),
        read_at_ms=runtime.now_ms(),
        series_max=PROCESS_SERIES_MAX if runtime.config.http is None else runtime.config.http.series,
    )


def _live(runtime: Runtime, heartbeat: Heartbeat) -> Callable[[], str | None]:
    def probe() -> str | None:
        """Independent of broker and database: an outage must not make an orchestrator kill the workers."""
        silent_ms = runtime.now_ms() - heartbeat.loop_ms
        return (
            f"the loop has not turned for {silent_ms // 1000} s"
            if heartbeat.loop_ms and silent_ms > DEAD_AFTER_MS
            else None
        )

    return probe


def _ready(runtime: Runtime, heartbeat: Heartbeat) -> Callable[[], str | None]:
    def probe() -> str | None:
        if heartbeat.trouble is not None:
            return heartbeat.trouble
        try:
            runtime.store.reference_generation()
        except DriftlineError as error:
            return f"store: {error}"
        return None

    return probe
