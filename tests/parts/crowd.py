"""A service with very many models, as far as its exposition goes: `python -m tests.parts.crowd PORT MODELS FEATURES [SERIES]`.

Results are made by hand, seeded, and move with every scrape; what renders and serves them is the real thing.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace

from detectors.finding import Finding, Severity, State
from monitor import telemetry as t
from monitor.budget import PROCESS_SERIES_MAX
from monitor.config.types import Http
from monitor.http import HttpServer, build_app
from monitor.metrics import Facts, Metrics, ModelFacts
from monitor.store import AlertRow, WindowRow
from tests.parts.exposition import DAY_MS, HOUR_MS, LABELS, REFERENCE, FakeStore, alert, figures, request, window

BEGIN_MS = 1_700_000_000_000 // HOUR_MS * HOUR_MS
SWING = 40  # scrapes in which what drifts comes and goes
LOUD = 21  # the model that always drifts, and so is always shown whole


def name(number: int) -> str:
    return f"{('churn', 'fraud', 'price', 'credit', 'click', 'risk')[number % 6]}-{number:03d}"


class Crowd(FakeStore):
    """`models` models of `features` features; of some, some drift."""

    def __init__(self, models: int, features: int) -> None:
        super().__init__(references=[replace(REFERENCE, model=name(number)) for number in range(models)])
        self.models, self.features, self.scrapes = models, features, 0
        self.requests = [replace(request("succeeded"), model=name(number)) for number in range(0, models, 50)]
        self._quiet = {number: self._windows(number, 0) for number in range(models)}

    def newest_windows(self) -> list[WindowRow]:
        self.scrapes += 1
        loud = {number: self._windows(number, self.scrapes) for number in range(0, self.models, 7)}
        end_ms = BEGIN_MS + self.scrapes * HOUR_MS
        return [replace(row, end_ms=end_ms) for rows in (self._quiet | loud).values() for row in rows]

    def firing_alerts(self) -> list[AlertRow]:
        return [alert for alert in self.alerts() if alert.status == "firing"]

    def alerts(self, history: bool = False) -> list[AlertRow]:
        alarms = [
            alert(name(number), monitor="concept", check="e_sr", starts_at_ms=BEGIN_MS)
            for number in range(0, self.models, 21)
        ]
        return alarms + [
            alert(name(number), severity="critical" if number % 21 == 0 else "warning")
            for number in range(0, self.models, 7)
            if self._push(number, self.scrapes) > 0.6
        ]

    def _push(self, number: int, scrape: int) -> float:
        """How far the model is moved, from 0 to 1."""
        if number == LOUD and scrape:
            return 0.8 + 0.2 * math.sin(2 * math.pi * scrape / SWING) ** 2
        return max(0.0, math.sin(2 * math.pi * (scrape / SWING + number / 17))) if number % 7 == 0 and scrape else 0.0

    def _windows(self, number: int, scrape: int) -> Sequence[WindowRow]:
        push, model = self._push(number, scrape), name(number)
        found = [self._feature(number, place, push) for place in range(self.features)]
        missing = Finding(
            subject="feature_000", check="missing", state=State.OK, value=0.01 + 0.1 * push, threshold=0.2, unit="share", rows=900
        )  # fmt: skip
        value = 0.85 - 0.1 * push
        drifts = push > 0.7
        performance = figures(
            "realised", State.DRIFT if drifts else State.OK, Severity.WARNING if drifts else None, value, ("accuracy", "roc_auc", "log_loss")
        )  # fmt: skip
        loss = Finding(
            subject="error", check="e_sr", state=State.OK, value=0.15 + 0.1 * push, baseline=0.15, threshold=0.2, unit="share", rows=400
        )  # fmt: skip
        end_ms = BEGIN_MS + scrape * HOUR_MS
        made = [
            window(*found, model=model), window(missing, model=model, monitor="quality"),
            window(*performance, *figures("estimated", value=value + 0.01), LABELS, model=model, monitor="performance"),
            window(loss, model=model, monitor="concept"), window(model=model, version="", monitor="volume"),
        ]  # fmt: skip
        return [
            replace(
                row,
                id=f"{model}/{row.monitor}",
                end_ms=end_ms,
                start_ms=end_ms - HOUR_MS,
                revision=scrape,
                rows=900 + number,
            )
            for row in made
        ]

    def _feature(self, number: int, place: int, push: float) -> Finding:
        value = 0.02 + 0.03 * math.sin(number + place) ** 2 + (0.25 * push if place % 9 == 0 else 0.0)
        drifts = value > 0.14
        severity = (Severity.CRITICAL if number % 21 == 0 and place == 0 else Severity.WARNING) if drifts else None
        return Finding(
            subject=f"feature_{place:03d}", check="distribution", state=State.DRIFT if drifts else State.OK, severity=severity, value=value,
            threshold=0.14, unit="sd", rows=900,
        )  # fmt: skip


def metrics(models: int, features: int, series_max: int = PROCESS_SERIES_MAX) -> Metrics:
    """What such a service exports, every counter of its process included."""
    crowd, telemetry = Crowd(models, features), t.Telemetry()
    one = ModelFacts(task="binary", owner="growth", window_ms=HOUR_MS, window_max_ms=7 * DAY_MS)
    facts = Facts(
        version="0.1.0", revision="", models={name(number): one for number in range(models)}, receivers=["log", "oncall"],
        series_max=series_max, config="c0ffee", read_at_ms=BEGIN_MS, now_ms=lambda: BEGIN_MS + crowd.scrapes * HOUR_MS + 5 * HOUR_MS // 4,  # it is asked before the windows move on
    )  # fmt: skip
    made = Metrics(crowd, telemetry, facts)
    work(telemetry, models, 0)
    return _Working(made, telemetry, crowd)


class _Working(Metrics):
    """Counts more work with every scrape."""

    def __init__(self, made: Metrics, telemetry: t.Telemetry, crowd: Crowd) -> None:
        self._made, self._telemetry, self._crowd = made, telemetry, crowd

    def render(self, accept: str = "") -> tuple[bytes, str]:
        work(self._telemetry, self._crowd.models, self._crowd.scrapes)
        return self._made.render(accept)


def work(telemetry: t.Telemetry, models: int, scrape: int) -> None:
    for number in range(models):
        telemetry.add(t.EVENTS, name(number), "prediction", "accepted", by=100 + 10 * (number % 13))
        telemetry.add(t.EVENTS, name(number), "outcome", "accepted", by=40)
        for kind in ("data", "prediction", "quality", "volume", "performance", "concept"):
            telemetry.add(t.WINDOWS, name(number), kind, "evaluated")
        telemetry.set(t.WATERMARK, name(number), value=(BEGIN_MS + scrape * HOUR_MS) / 1000 - number)
    for number in range(0, models, 7):
        telemetry.outcome_delays(name(number), [600.0, 4_000.0, 90_000.0])
    telemetry.set(t.ASSIGNED, "ml.predictions", value=12)
    telemetry.set(t.CHECKPOINT, value=(BEGIN_MS + scrape * HOUR_MS) / 1000)
    for partition in range(12):
        telemetry.set(t.LAG, "ml.predictions", str(partition), value=50 * (scrape % 7))
    telemetry.set(t.JOIN_ROWS, value=1e6 + 1e4 * scrape)
    telemetry.set(t.JOIN_BYTES, value=2e8)
    telemetry.add(t.NOTIFICATIONS, "oncall", "sent")
    telemetry.told("oncall", "silenced")
    telemetry.add(t.FOLDED, name(0), by=3)
    for seconds in (0.004, 0.02, 0.4):
        for stage, share in (("fold", 0.3), ("checkpoint", 1.0), ("close", 2.0), ("tell", 0.1)):
            telemetry.observe(t.BATCH, stage, seconds=share * seconds)
        telemetry.observe(t.DETECTOR, "all", seconds=seconds / 10)
        telemetry.observe(t.NOTIFICATION, "oncall", seconds=seconds)


def main(port: int, models: int, features: int, series_max: int = PROCESS_SERIES_MAX) -> None:
    made = metrics(models, features, series_max)
    app = build_app(render=made.render, live=lambda: None, ready=lambda: None)
    http = Http.model_validate({"listen": f"127.0.0.1:{port}"})
    server = HttpServer(app, http.host, http.port)
    server.start()
    threading.Event().wait()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
