"""The demo, seen by a real Prometheus, a real Alertmanager and a real Grafana: every query has data, alerts come and go, boards draw."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.parts import crowd
from tests.parts.broker import REPOSITORY, UnavailableError, free_port
from tests.parts.browser import Eye, chromium
from tests.parts.demo import Demo
from tests.parts.observability import GRAFANA, Alertmanager, Grafana, Hook, Prometheus, Server, fetch, filled, panels
from tests.parts.program import until

pytestmark = [pytest.mark.integration, pytest.mark.slow]

BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((GRAFANA / "dashboards").glob("*.json"))}
# Panels whose metrics nobody reports yet, as (board, panel).
AWAITED: set[tuple[str, str]] = set()
CHOICE = {
    "model": {"var-model": "churn"},
    "feature": {"var-model": "churn", "var-feature": "income"},
    "performance": {"var-model": "credit", "var-metric": "accuracy"},
}
LOUD = crowd.name(crowd.LOUD)  # with the default budget of series only models that drift are shown whole
MANY_CHOICE = {
    "model": {"var-model": LOUD},
    "feature": {"var-model": LOUD, "var-feature": "feature_000"},
    "performance": {"var-model": LOUD, "var-metric": "accuracy"},
}
MANY_SECONDS = 5  # between two scrapes
FASTER = 300  # rules hurry as the demo does: a simulated day in about a second, a fault of hours in a fraction of one
Json = Any


@dataclass
class Scene:
    """A run of the demo that was scraped from `begin_ms` to `end_ms`."""

    prometheus: Prometheus
    hook: Hook
    metrics: str
    folder: Path
    begin_ms: int
    end_ms: int = 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("observability")


@pytest.fixture(scope="module")
def many(folder: Path) -> Iterator[Prometheus]:
    """Scrapes a service of five hundred models, from the beginning of the module on."""
    port = free_port()
    words = [sys.executable, "-m", "tests.parts.crowd", str(port), "500", "5"]
    service = Server("crowd", folder / "crowd", words, {"PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests'}"})
    prometheus = Prometheus(folder / "many", {"driftline": [f"127.0.0.1:{port}"]}, seconds=MANY_SECONDS)
    yield prometheus
    prometheus.close()
    service.close()


@pytest.fixture(scope="module")
def scene(folder: Path) -> Iterator[Scene]:
    hook, port = Hook(), free_port()
    try:
        alertmanager = Alertmanager(folder / "alertmanager", hook.url)
        prometheus = Prometheus(
            folder / "prometheus",
            {"driftline": [f"127.0.0.1:{port}"]},
            alertmanager.address,
            faster=FASTER,
            seconds=0.2,
        )
    except UnavailableError as reason:
        hook.close()
        _cannot(str(reason))
    demo = Demo(folder / "demo", port)
    found = Scene(prometheus, hook, f"http://127.0.0.1:{port}/metrics", folder, int(time.time() * 1000))
    try:
        said = demo.through(180)
        assert "until Ctrl-C" in said, said[-3000:]
        time.sleep(5)  # the last windows are scraped, and rates end
        found.end_ms = int(time.time() * 1000)
        yield found
    finally:
        for part in (demo, prometheus, alertmanager):
            part.close()
        hook.close()


@pytest.fixture(scope="module")
def grafana(many: Prometheus, scene: Scene) -> Iterator[Grafana]:
    try:
        server = Grafana(scene.folder / "grafana", scene.prometheus.url)
    except UnavailableError as reason:
        _cannot(str(reason))
    server.add_source("many", many.url, MANY_SECONDS)
    yield server
    server.close()


def _cannot(reason: str) -> None:
    (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)(reason)


def asked() -> list[tuple[str, str, str]]:
    """(board, panel, expression) of every query."""
    return [
        (name, panel["title"], target["expr"])
        for name, board in BOARDS.items() for panel in panels(board) for target in panel["targets"]
    ]  # fmt: skip


def test_every_query_of_every_board_has_data(many: Prometheus, scene: Scene):
    empty = {(name, title) for name, title, expr in asked() if not scene.prometheus.ask(filled(expr, BOARDS[name], {}))}
    assert empty == AWAITED


def test_a_query_with_one_model_chosen_shows_that_model(scene: Scene):
    expr = next(expr for name, title, expr in asked() if (name, title) == ("model", "Decisions by feature"))
    found = scene.prometheus.over(
        filled(expr, BOARDS["model"], {"model": "churn"}), scene.begin_ms / 1000, scene.end_ms / 1000
    )
    worst = {series["metric"]["feature"]: max(float(value) for _, value in series["values"]) for series in found}
    assert (worst["income"], worst["plan"], worst["age"]) == (1, 1, 0)
    assert "device_score" not in worst


def test_the_exposition_passes_promtool(scene: Scene):
    with urllib.request.urlopen(scene.metrics) as answer:
        done = subprocess.run(["promtool", "check", "metrics"], input=answer.read(), capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_prometheus_loads_every_rule_and_evaluates_it_without_an_error(scene: Scene):
    groups = fetch(f"{scene.prometheus.url}/api/v1/rules")["data"]["groups"]
    states = [(rule["name"], rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]]
    assert {state[1:] for state in states} == {("ok", "")}, states


def test_faults_of_the_demo_reach_alertmanager_and_are_resolved(scene: Scene):
    wanted = {"DriftlineDriftCritical", "DriftlinePerformanceDegraded", "DriftlineConceptDrift", "DriftlineWatchdog"}
    until(lambda: wanted <= scene.hook.names("firing"), 30, "all alerts that are expected")
    until(lambda: "DriftlineDriftCritical" in scene.hook.names("resolved"), 30, "that it is resolved")
    features = {
        alert["labels"].get("feature") for body in scene.hook.received for alert in body["alerts"]
        if alert["labels"]["alertname"] == "DriftlineDriftCritical"
    }  # fmt: skip
    assert features  # a fault of half a second may fall between two looks, not both of them
    assert features <= {"device_score", "amount"}
    unwanted = {"DriftlineStoreErrors", "DriftlineWindowErrors", "DriftlineNotificationsFailing", "DriftlineCollectorErrors", "DriftlineSeriesSuppressed"}  # fmt: skip
    assert not unwanted & scene.hook.names("firing")


def test_grafana_itself_answers_every_query(grafana: Grafana, scene: Scene):
    """Through its own proxy, with the data source that it was provisioned with."""
    assert {board["uid"] for board in grafana.boards()} == {board["uid"] for board in BOARDS.values()}
    source = {"type": "prometheus", "uid": "driftline-prometheus"}
    questions = [
        {
            "refId": f"Q{i}", "datasource": source, "expr": filled(expr, BOARDS[name], {}), "instant": True, "range": False,
            "intervalMs": 1000, "maxDataPoints": 100,
        }
        for i, (name, _, expr) in enumerate(asked())
    ]  # fmt: skip
    span = {"from": str(scene.begin_ms), "to": str(scene.end_ms)}
    answers = fetch(f"{grafana.url}/api/ds/query", {"queries": questions, **span}, timeout=60)["results"]
    failed = {key: answer["error"] for key, answer in answers.items() if "error" in answer}
    assert failed == {}
    empty = {asked()[int(key[1:])][:2] for key, answer in answers.items() if not any(frame["data"]["values"] for frame in answer["frames"])}  # fmt: skip
    assert empty == AWAITED


def views() -> list[tuple[bool, str, str]]:
    """(many models, theme, board) of every look that is taken: all of them where pictures are wanted."""
    every = list(itertools.product((False, True), ("light", "dark"), BOARDS))
    if os.environ.get("DRIFTLINE_PICTURES"):
        return every
    return [view for view in every if not view[0] or view in ((True, "light", "fleet"), (True, "dark", "pipeline"))]


def test_every_board_is_drawn_with_few_models_and_with_five_hundred(many: Prometheus, grafana: Grafana, scene: Scene):
    """DRIFTLINE_PICTURES names a folder for pictures of all boards, light and dark, with the demo's models and with 500."""
    pictures = Path(os.environ.get("DRIFTLINE_PICTURES") or scene.folder / "pictures")
    until(lambda: bool(many.ask("up == 1")), 60, "a scrape of 500 models")
    now = int(time.time() * 1000)
    wrong = {}
    try:
        with chromium() as browser:
            eye = Eye(browser, grafana.url)
            for many_models, theme, name in views():
                board = BOARDS[name]
                begin, end = (now - 60_000, now) if many_models else (scene.begin_ms + 2_000, scene.end_ms)
                source = "many" if many_models else "driftline-prometheus"
                query = {"from": str(begin), "to": str(end), "theme": theme, "var-datasource": source}
                query |= (MANY_CHOICE if many_models else CHOICE).get(name, {})
                place = pictures / f"{name}-{'many' if many_models else 'demo'}-{theme}.png"
                count = sum(panel["type"] != "row" for panel in board["panels"])
                view = eye.look(board, query, place, panels=count)
                empty = {title for title in view.empty if many_models or (name, title) not in AWAITED}
                if view.errors or view.failed or empty or view.panels < count:
                    wrong[place.name] = (list(view.errors), list(view.failed), empty, view.panels)
            eye.close()
    except UnavailableError as reason:
        _cannot(str(reason))
    assert not wrong, "\n".join(f"{place}: {found}" for place, found in wrong.items())


def test_no_data_source_or_address_of_a_machine_is_in_a_board():
    for path in (GRAFANA / "dashboards").glob("*.json"):
        found = re.findall(r"https?://[\w.:]+", path.read_text())
        assert set(found) <= {"http://127.0.0.1:8080"}, path.name
