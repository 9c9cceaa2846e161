"""Active alerts that a receiver must hear again, the keepalive, the test of a receiver, and the service with all of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import structlog
from structlog.testing import capture_logs
from typer.testing import CliRunner

from alerts.egress import HttpEdge
from alerts.resending import Resender
from monitor.cli import app
from monitor.config import parse_config
from monitor.errors import TransientError
from monitor.keepalive import Keepalive
from monitor.receivers import active_of, notifiers
from monitor.runtime import Runtime
from monitor.service import Service
from monitor.store import AlertRow, Store
from monitor.telling.teller import Teller
from tests.parts.office import put
from tests.parts.program import until
from tests.parts.receiver import answering, receiving

NOW = 1_795_428_000_000
HOUR = 3_600_000


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs `driftline WORDS` in a folder of its own; the log is set up anew by every command, so it is put back."""
    monkeypatch.chdir(tmp_path)
    yield lambda *words: CliRunner().invoke(app, words)
    structlog.reset_defaults()


ROW = AlertRow(
    id="a", fingerprint="f", incident="i", model="fraud", version="12", monitor="data", subject="amount", check="distribution",
    severity="warning", status="firing", corrected=False, at_ms=NOW, starts_at_ms=NOW - HOUR, ends_at_ms=None, window="w",
    reason="drifted", text="amount moved", recorded_at_ms=NOW,
)  # fmt: skip


def configured(tmp_path, routes=(), receivers=("prom", "pages")):
    data = {
        "models": {"fraud": {"labels": {"team": "risk"}}},
        "receivers": {name: {"alertmanager": {"urls": ["http://127.0.0.1:9"]}} for name in receivers},
        "routes": list(routes),
    }
    return parse_config(data, tmp_path)


@pytest.fixture
def store(tmp_path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{tmp_path}/d.db", durable=False)
    yield store
    store.close()


def heard(store: Store, config, *rows: AlertRow, receivers=("prom", "pages")) -> dict[str, list[str]]:
    """Alerts that each receiver hears again, once it was told of the transitions."""
    put(store, [replace(row, pending=True) for row in rows])
    Teller(store, config).turn(NOW)
    return {name: [alert["id"] for alert in active_of(name, store, config)] for name in receivers}


def test_without_routes_everybody_hears_what_is_active_again(tmp_path, store) -> None:
    over = replace(ROW, id="b", status="resolved")
    assert heard(store, configured(tmp_path), ROW, over) == {"prom": ["a"], "pages": ["a"]}


def test_only_what_was_routed_to_the_receiver_is_sent_again(tmp_path, store) -> None:
    config = configured(
        tmp_path, [{"match": {"team": "risk", "severity": "critical"}, "receiver": "pages"}, {"receiver": "prom"}]
    )
    worse = replace(ROW, id="c", severity="critical")
    assert heard(store, config, ROW, worse) == {"prom": ["a"], "pages": ["c"]}


def test_whoever_heard_it_as_a_warning_hears_it_again_when_it_is_critical(tmp_path, store) -> None:
    config = configured(tmp_path, [{"match": {"severity": "critical"}, "receiver": "pages"}, {"receiver": "prom"}])
    heard(store, config, ROW)
    worse = replace(ROW, severity="critical", reason="escalated")
    assert heard(store, config, worse) == {"prom": ["a"], "pages": ["a"]}
    assert heard(store, config, replace(worse, status="resolved")) == {"prom": [], "pages": []}


def test_what_was_too_old_to_page_anyone_and_models_that_are_gone_are_left_alone(tmp_path, store) -> None:
    config = configured(tmp_path)
    rows = [replace(ROW, stale=True), replace(ROW, id="b", model="gone")]
    assert heard(store, config, *rows) == {"prom": [], "pages": []}


def test_the_heartbeat_goes_out_at_its_pace_and_only_while_all_is_well() -> None:
    with receiving() as receiver, capture_logs() as logs:
        keepalive = Keepalive(Resender({}, lambda name: []), HttpEdge(receiver.url), every_ms=60_000)
        for second in range(0, 200, 10):
            keepalive.turn(NOW + second * 1000, well=not 50 <= second <= 90)
        assert len(receiver.got) == 3  # at 0, 100 and 160 s
        receiver.answer = answering(500, b"planted")
        keepalive.turn(NOW + 300_000, well=True)
    assert [line["event"] for line in logs] == ["heartbeat not delivered"]
    assert "planted" not in str(logs)


def test_a_store_that_is_away_does_not_stop_the_heartbeat() -> None:
    class Away:
        resend_ms = 60_000

        def resend(self, active, now_ms, well):
            return active()

    def away(name):
        raise TransientError("away")

    with receiving() as receiver, capture_logs():
        Keepalive(Resender({"prom": Away()}, away), HttpEdge(receiver.url)).turn(NOW, well=True)
        assert len(receiver.got) == 1


def test_nothing_is_kept_alive_where_nobody_needs_it(tmp_path) -> None:
    config = configured(tmp_path, receivers=())
    assert Keepalive.of(config, SimpleNamespace(), notifiers(config)) is None


def test_a_fallback_does_not_hide_a_receiver_that_forgets(tmp_path) -> None:
    prom = {"alertmanager": {"urls": ["http://127.0.0.1:9"]}, "fallback": "plain"}
    config = parse_config({"models": {"m": {}}, "receivers": {"prom": prom, "plain": {"log": {}}}}, tmp_path)
    assert Keepalive.of(config, SimpleNamespace(), notifiers(config)) is not None


def test_the_service_sends_active_alerts_again_from_its_start_and_the_heartbeat(tmp_path, monkeypatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("PING", f"{receiver.base}/ping")
        urls = {"urls": [receiver.base], "heartbeat": True}
        config = parse_config(
            {
                "store": f"sqlite:///{tmp_path}/d.db",
                "models": {"fraud": {}},
                "receivers": {"prom": {"alertmanager": urls}},
                "heartbeat": {"url": {"env": "PING"}},
            },
            tmp_path,
        )
        store = Store.open(config.store)
        put(store, [replace(ROW, pending=True)])
        Teller(store, config).turn(NOW)
        while rows := store.lease_outbox(NOW, "before", 1, 9):  # told before the service began
            for row in rows:
                store.finish_outbox(row.id, "before", sent=True, error=None, next_attempt_at_ms=None, now_ms=NOW)
        stop = threading.Event()
        service = Service(Runtime.build(config, store, lambda: NOW), ["notify"], stop=stop)
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            until(lambda: len(receiver.got) >= 2, 10, "alerts and heartbeat")
        finally:
            stop.set()
            thread.join(20)
            store.close()
    assert not thread.is_alive()
    by_path = {path: body for path, _, body in receiver.got}
    assert sorted(by_path) == ["/api/v2/alerts", "/ping"]
    assert [each["labels"]["alertname"] for each in json.loads(by_path["/api/v2/alerts"])] == [
        "DriftlineData",
        "DriftlineHeartbeat",
    ]


def test_a_webhook_hears_of_a_transition_soon_after_it_was_committed(tmp_path, monkeypatch, store) -> None:
    monkeypatch.setenv("HOOK", "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
    with receiving() as receiver:
        hook = {"webhook": {"url": receiver.base, "secret": {"env": "HOOK"}}}
        config = parse_config({"models": {"fraud": {}}, "receivers": {"hook": hook}}, tmp_path)
        stop = threading.Event()
        service = Service(Runtime.build(config, store, lambda: time.time_ns() // 1_000_000), ["notify"], stop=stop)
        thread = threading.Thread(target=service.run)
        thread.start()
        try:
            waits = []
            for number in range(1, 6):
                put(store, [replace(ROW, id=f"a{number}", fingerprint=f"f{number}", pending=True)])
                waits.append(until(lambda n=number: len(receiver.got) >= n, 10, "a message"))
        finally:
            stop.set()
            thread.join(20)
    assert sorted(waits)[2] < 2.0


@pytest.mark.parametrize(("status", "code"), [(202, 0), (403, 1)])
def test_a_receiver_can_be_tried(tmp_path, monkeypatch, command, status, code) -> None:
    monkeypatch.setenv("PD", "planted-key")
    with receiving() as receiver:
        receiver.answer = answering(status)
        settings = {"routing_key": {"env": "PD"}, "url": receiver.url}
        content = {"models": {"m": {}}, "receivers": {"oncall": {"pagerduty": settings}}}
        (tmp_path / "driftline.yaml").write_text(json.dumps(content))
        result = command("alerts", "test", "oncall")
    assert result.exit_code == code
    fired, over = (json.loads(body) for _, _, body in receiver.got)
    assert (fired["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert fired["dedup_key"] == over["dedup_key"]
    assert "This is a test of receiver oncall" in fired["payload"]["summary"]
    words = "delivered" if code == 0 else f"{receiver.address} answered HTTP 403"
    assert result.stdout.startswith(f"oncall: firing: {words}")
    assert "planted" not in result.output


def test_a_receiver_that_is_not_there_is_one_line_with_those_that_are(tmp_path, command) -> None:
    (tmp_path / "driftline.yaml").write_text(json.dumps({"models": {"m": {}}}))
    result = command("alerts", "test", "oncall")
    assert "receiver oncall is not configured (configured: log)" in str(result.exception)
