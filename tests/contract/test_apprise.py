"""What the notifier for Apprise does beside what all do: how a message looks, and that a service which hangs is contained."""

from __future__ import annotations

import json
import logging
import sys
import time
from urllib.parse import quote

import pytest

from alerts.delivery import Delivered, Retry
from alerts.egress import Limits
from alerts.incident import render_incident
from alerts.lifecycle import Status
from alerts.message import Wording
from alerts.notifiers.apprise import AppriseNotifier
from tests.parts.receiver import answering, receiving, slow_body, slow_headers

QUICK = Limits(connect_seconds=0.6, read_seconds=0.6, total_seconds=0.7)


@pytest.fixture
def receiver():
    with receiving() as server:
        server.answer = answering(200)
        yield server


def alert(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "type": "alert", "id": "a1", "fingerprint": "f1", "incident": "i1", "model": "fraud", "version": "12", "segment": None,
        "monitor": "quality", "subject": "income", "severity": "warning", "status": "firing", "corrected": False,
        "at": "2026-11-23T10:00:00.000Z", "starts_at": "2026-11-23T08:00:00.000Z", "ends_at": None, "window": "w1", "reason": "drifted",
        "text": "income is missing in 30 % of rows, <b>not</b> 1 %.",
    }  # fmt: skip
    return base | changes


def body_of(*alerts: dict[str, object], status: Status = Status.FIRING) -> bytes:
    return render_incident(incident="i1", status=status, timestamp_ms=1_795_428_000_000, alerts=alerts or [alert()])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (body_of(), "warning"),
        (body_of(alert(severity="critical")), "failure"),
        (body_of(alert(status="resolved", ends_at="2026-11-23T11:00:00.000Z"), status=Status.RESOLVED), "success"),
    ],
)
def test_severity_and_end_are_the_kinds_of_apprise(receiver, body, kind) -> None:
    notifier = AppriseNotifier(f"json://{receiver.address}/x", limits=QUICK)
    assert notifier.send("m1", body, 0) == Delivered()
    [(_, _, got)] = receiver.got
    sent = json.loads(got)
    assert (sent["type"], "income" in sent["message"], sent["title"] != "") == (kind, True, True)


def test_a_service_that_shows_html_is_given_escaped_text(receiver) -> None:
    notifier = AppriseNotifier(f"json://{receiver.address}/x?format=html", limits=QUICK)
    assert notifier.send("m1", body_of(), 0) == Delivered()
    message = json.loads(receiver.got[0][2])["message"]
    assert "&lt;b&gt;not" in message
    assert "<b>not" not in message


def test_own_words_are_taken(receiver) -> None:
    notifier = AppriseNotifier(
        f"json://{receiver.address}/x", wording=Wording(title="T $model", text="B $severity"), limits=QUICK
    )
    notifier.send("m1", body_of(), 0)
    sent = json.loads(receiver.got[0][2])
    assert (sent["title"], sent["message"].strip()) == ("T fraud", "B warning")


def test_what_an_address_says_of_redirects_certificates_and_time_is_not_taken(receiver) -> None:
    receiver.answer = answering(302, Location=f"http://{receiver.address}/elsewhere")
    notifier = AppriseNotifier(f"json://{receiver.address}/x?redirect=yes&verify=no&rto=60&cto=60", limits=QUICK)
    assert isinstance(notifier.send("m1", body_of(), 0), Retry)
    assert [path for path, _, _ in receiver.got if "elsewhere" in path] == []
    assert [service.verify_certificate for service in notifier._service] == [True]
    assert [service.request_timeout for service in notifier._service] == [(0.6, 0.6)]


@pytest.mark.parametrize("answer", [slow_headers, slow_body])
def test_a_service_that_drips_ends_in_time_and_nothing_is_piled_up_behind_it(receiver, answer) -> None:
    receiver.answer = answer
    notifier = AppriseNotifier(f"json://{receiver.address}/x", limits=QUICK)
    begun = time.monotonic()
    first, second = notifier.send("m1", body_of(), 0), notifier.send("m2", body_of(), 0)
    assert time.monotonic() - begun < QUICK.total_seconds + 1
    assert first == Retry(None, "AppriseNotifier(json): no answer in time")
    assert second == Retry(None, "AppriseNotifier(json) is still busy with an earlier message")
    assert len(receiver.got) == 1


def test_a_token_in_the_place_of_a_host_is_in_no_error_and_no_log(receiver, caplog) -> None:
    """Many services of Apprise have their token where others have a host."""
    caplog.set_level(logging.DEBUG)
    notifier = AppriseNotifier("ntfy://plantedtoken@localhost:9/plantedtopic", limits=QUICK)
    outcome = notifier.send("m1", body_of(), 0)
    told = [repr(outcome), repr(notifier), *(record.getMessage() for record in caplog.records)]
    assert isinstance(outcome, Retry)
    assert [text for text in told if "planted" in text] == []


@pytest.mark.parametrize("url", ["", "planted", "https://h/planted", "config://planted", "no://planted", "tgram://"])
def test_an_address_that_apprise_does_not_know_is_refused_without_being_shown(url) -> None:
    with pytest.raises(ValueError, match="none that apprise knows") as caught:
        AppriseNotifier(url)
    assert "planted" not in str(caught.value)
    assert caught.value.__context__ is None


def test_without_the_library_its_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ValueError, match=r"pip install 'driftline\[apprise\]'"):
        AppriseNotifier(f"json://{quote('localhost')}/")
