"""A real Alertmanager receives, groups and resolves our alerts, also across its restart."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from alerts.delivery import Delivered, Retry
from alerts.egress import Limits
from alerts.incident import render_incident
from alerts.lifecycle import Status
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from tests.parts.alertmanager import Alertmanager
from tests.parts.program import until
from tests.parts.receiver import Receiver, receiving

pytestmark = pytest.mark.integration

LIMITS = Limits(connect_seconds=1, read_seconds=2, total_seconds=2)


def alert(subject: str, **changes: object) -> dict[str, object]:
    return {
        "type": "alert", "id": f"id-{subject}", "fingerprint": f"f-{subject}", "incident": "i1", "model": "fraud", "version": "12",
        "segment": {"region": "EU"}, "monitor": "data", "subject": subject, "severity": "warning", "status": "firing",
        "corrected": False, "at": "2026-11-23T10:00:00.000Z", "starts_at": "2026-11-23T08:00:00.000Z", "ends_at": None,
        "window": "w1", "reason": "drifted", "text": f"{subject} has moved by 0.41 sd.",
    } | changes  # fmt: skip


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def send(notifier: AlertmanagerNotifier, *alerts: dict[str, object]) -> object:
    firing = any(each["status"] == "firing" for each in alerts)
    status = Status.FIRING if firing else Status.RESOLVED
    return notifier.send("m", render_incident(incident="i1", status=status, timestamp_ms=0, alerts=alerts), now_ms())


def told(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(body) for _, _, body in receiver.got]


def resolved(receiver: Receiver) -> set[str]:
    """Subjects of alerts that our webhook was told are over."""
    alerts = [each for message in told(receiver) for each in message["alerts"]]
    return {each["labels"]["subject"] for each in alerts if each["status"] == "resolved"}


@pytest.fixture
def webhook() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


@pytest.fixture
def alertmanager(webhook: Receiver, start_alertmanager: Callable[[str], Alertmanager]) -> Alertmanager:
    return start_alertmanager(f"http://{webhook.address}/")


def test_it_receives_groups_and_resolves_our_alerts_also_across_its_restart(alertmanager, webhook) -> None:
    notifier = AlertmanagerNotifier(
        [alertmanager.url], labels={"fraud": {"team": "risk"}}, resend_ms=10_000, limits=LIMITS
    )
    assert send(notifier, alert("amount"), alert("income"), alert("age", model="churn")) == Delivered()
    until(lambda: len(told(webhook)) >= 2, 5, "a notification a model")
    groups = {message["groupLabels"]["model"]: message for message in told(webhook)}
    assert {model: message["status"] for model, message in groups.items()} == {"fraud": "firing", "churn": "firing"}
    assert [each["labels"]["subject"] for each in groups["fraud"]["alerts"]] == ["amount", "income"]

    shown = {each["labels"]["subject"]: each for each in alertmanager.alerts()}
    assert shown["amount"]["labels"] == {
        "alertname": "DriftlineData", "fingerprint": "f-amount", "model": "fraud", "monitor": "data", "segment": "region=EU",
        "severity": "warning", "subject": "amount", "team": "risk", "version": "12",
    }  # fmt: skip
    assert shown["amount"]["annotations"]["summary"] == "amount has moved by 0.41 sd."
    assert shown["amount"]["startsAt"] == "2026-11-23T08:00:00.000Z"

    alertmanager.stop()
    outcome = notifier.resend(lambda: [alert("amount")], now_ms())
    assert isinstance(outcome, Retry)
    alertmanager.start()
    assert alertmanager.alerts() == []  # it keeps silences and what it has told, but no alerts
    still = [alert("amount"), alert("income"), alert("age", model="churn")]
    assert notifier.resend(lambda: still, now_ms()) == Delivered()
    until(lambda: len(alertmanager.alerts()) == 3, 5, "alerts are back")

    before = len(webhook.got)
    over = alert("amount", status="resolved", ends_at="2026-11-23T10:00:00.000Z", reason="cleared")
    assert send(notifier, over) == Delivered()
    until(lambda: "amount" in resolved(webhook), 5, "the end of one is told")
    assert {each["labels"]["subject"] for each in alertmanager.alerts()} == {"income", "age"}
    worse = alert("income", severity="critical", reason="escalated")
    assert send(notifier, worse) == Delivered()
    until(lambda: [each["labels"]["severity"] for each in alertmanager.alerts() if each["labels"]["subject"] == "income"] == ["critical"], 5, "escalated")  # fmt: skip
    assert send(notifier, worse | {"status": "resolved"}, alert("age", model="churn", status="resolved")) == Delivered()
    until(lambda: resolved(webhook) == {"amount", "income", "age"}, 5, "everything is over")
    assert alertmanager.alerts() == []
    assert len(webhook.got) > before
    notifier.close()


def test_what_is_not_sent_again_is_over_and_what_is_sent_again_is_not(alertmanager, webhook) -> None:
    notifier = AlertmanagerNotifier([alertmanager.url], resend_ms=500, limits=LIMITS)  # held for 2 s
    assert send(notifier, alert("kept"), alert("forgotten")) == Delivered()
    until(lambda: bool(told(webhook)), 5, "told")
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        assert notifier.resend(lambda: [alert("kept")], now_ms()) == Delivered()
        time.sleep(0.5)
    assert [each["labels"]["subject"] for each in alertmanager.alerts()] == ["kept"]
    assert resolved(webhook) == {"forgotten"}
    notifier.close()
