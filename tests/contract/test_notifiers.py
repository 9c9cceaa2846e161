"""What every notifier promises, shown on a real HTTP server on this machine that behaves as receivers do on a bad day."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import pickle
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pytest
from structlog.testing import capture_logs

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.egress import Egress, Limits
from alerts.incident import render_incident
from alerts.lifecycle import Status
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.notifiers.apprise import AppriseNotifier
from alerts.notifiers.log import LogNotifier
from alerts.notifiers.pagerduty import PagerDutyNotifier
from alerts.notifiers.slack import SlackBotNotifier, SlackWebhookNotifier
from alerts.notifiers.webhook import WebhookNotifier
from alerts.ports import Notifier
from tests.parts.receiver import (
    PATH,
    Receiver,
    answering,
    garbage,
    hang,
    receiving,
    reset,
    slow_body,
    slow_headers,
)

KEY = b"planted-key-planted-key-planted!"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
TOKEN = "planted-token-of-a-bot"
PLANTED = ("planted", SECRET.removeprefix("whsec_"), base64.b64encode(KEY).decode()[:12])
QUICK = Limits(connect_seconds=0.6, read_seconds=0.6, total_seconds=0.7)
OK = b'{"ok":true,"channel":"C1","ts":"17.5"}'  # what Slack's API says; the others do not look


def alert(**changes: object) -> dict[str, object]:
    base: dict[str, object] = {
        "type": "alert", "id": "a1", "fingerprint": "f1", "incident": "i1", "model": "fraud", "version": "12", "segment": None,
        "monitor": "quality", "subject": "income", "severity": "warning", "status": "firing", "corrected": False,
        "at": "2026-11-23T10:00:00.000Z", "starts_at": "2026-11-23T08:00:00.000Z", "ends_at": None, "window": "w1", "reason": "drifted",
        "text": "income is missing in 30 % of 5,000 rows, against 1 % in the reference (p < 1e-9, \u00e9).",
    }  # fmt: skip
    return base | changes


def body_of(*alerts: dict[str, object], status: Status = Status.FIRING) -> bytes:
    return render_incident(incident="i1", status=status, timestamp_ms=1_795_428_000_000, alerts=alerts or [alert()])


BODY = body_of()

Make = Callable[[str, Egress], Notifier]
NOTIFIERS: dict[str, Make] = {
    "webhook": lambda base, egress: WebhookNotifier(f"{base}{PATH}", SECRET, QUICK, egress),
    "pagerduty": lambda base, egress: PagerDutyNotifier(TOKEN, url=f"{base}{PATH}", limits=QUICK, egress=egress),
    "slack": lambda base, egress: SlackWebhookNotifier(f"{base}{PATH}", limits=QUICK, egress=egress),
    "slack_bot": lambda base, egress: SlackBotNotifier(
        TOKEN,
        "#drift",
        api_url=f"{base.replace('planted-user:planted-word@', '')}/planted-path",
        limits=QUICK,
        egress=egress,
    ),
    "alertmanager": lambda base, egress: AlertmanagerNotifier(
        [f"{base}/planted-path/"], token=TOKEN, limits=QUICK, egress=egress
    ),
    "apprise": lambda base, egress: AppriseNotifier(
        f"{base.replace('http://', 'json://')}{PATH}", limits=QUICK, egress=egress
    ),
}


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        server.answer = answering(200, OK)
        yield server


@pytest.fixture(params=NOTIFIERS)
def notifier(request, receiver) -> Iterator[Notifier]:
    made = NOTIFIERS[request.param](receiver.base, Egress())
    yield made
    made.close()


@pytest.fixture
def webhook(receiver) -> Iterator[WebhookNotifier]:
    notifier = WebhookNotifier(receiver.url, SECRET, QUICK)
    yield notifier
    notifier.close()


def send(notifier, message_id: str = "msg_1", body: bytes = BODY) -> Outcome:
    return notifier.send(message_id, body, time.time_ns() // 1_000_000)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (answering(200, OK), Delivered, ""),
        (answering(400, SECRET.encode() + b" planted"), GaveUp, "400"),
        (answering(404), GaveUp, "404"),
        (answering(410), GaveUp, "410"),
        (answering(408), Retry, "408"),
        (answering(425), Retry, "425"),
        (answering(429), Retry, "429"),
        (answering(500, b"planted " * 1000), Retry, "500"),
        (answering(503, b"x" * 10_000_000), Retry, ""),
        (reset, Retry, "connection broke"),
        (hang, Retry, "no answer in time"),
        (slow_headers, Retry, "no answer in time"),
        (garbage, Retry, "connection broke"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_answer_is_judged_in_time_and_leaks_nothing(  # noqa: PLR0917 - fixtures and cases
    receiver, notifier, caplog, answer, kind, words
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer = answer
    begun = time.monotonic()
    outcome = send(notifier)
    assert time.monotonic() - begun < QUICK.total_seconds + 2.0  # the bad receivers take 5 s
    if isinstance(notifier, AppriseNotifier):  # is told yes or no, and does not know what of an address is a secret
        assert isinstance(outcome, Delivered if kind is Delivered else Retry)
    else:
        assert isinstance(outcome, kind)
        if not isinstance(outcome, Delivered):
            assert words in outcome.error
            assert receiver.address in outcome.error
    assert_silent(repr(outcome), repr(notifier), str(notifier))
    assert_silent(*(record.getMessage() for record in caplog.records))
    assert len(receiver.got) == 1


@pytest.mark.parametrize("answer", [answering(200, b"x" * 10_000_000), slow_body, answering(204)])
@pytest.mark.parametrize("kind", ["webhook", "pagerduty", "slack", "alertmanager"])
def test_a_success_is_one_whatever_comes_after_its_status(receiver, kind, answer) -> None:
    receiver.answer = answer
    begun = time.monotonic()
    assert send(NOTIFIERS[kind](receiver.base, Egress())) == Delivered()
    assert time.monotonic() - begun < 3  # the slow body takes 5 s


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (answering(200, b"x" * 10_000_000), Retry, "more than 65536 bytes"),
        (slow_body, Retry, "no answer in time"),
        (answering(200, b"<html>planted"), Retry, "not Slack's"),
        (answering(200, b"[1]"), Retry, "not Slack's"),
        (answering(200, b'{"ok":false,"error":"ratelimited"}'), Retry, "ratelimited"),
        (answering(200, b'{"ok":false,"error":"channel_not_found"}'), GaveUp, "channel_not_found"),
        (answering(200, b'{"ok":false,"error":"planted-token"}'), GaveUp, "an error"),
        (answering(200, b'{"ok":"yes"}'), GaveUp, "an error"),
    ],
)
def test_slack_s_api_is_believed_only_when_it_says_ok_in_few_words(receiver, answer, kind, words) -> None:
    receiver.answer = answer
    outcome = send(NOTIFIERS["slack_bot"](receiver.base, Egress()))
    assert isinstance(outcome, kind)
    assert words in outcome.error
    assert_silent(outcome.error)


def assert_silent(*texts: str) -> None:
    for text in texts:
        assert not [planted for planted in PLANTED if planted in text], text


@pytest.mark.parametrize(("value", "low", "high"), [("7", 7, 7), (None, 50, 60), ("99999", 3600, 3600)])
def test_retry_after_is_honoured_as_seconds_and_as_a_date(receiver, notifier, value, low, high) -> None:
    receiver.answer = answering(429, Retry_After=value or formatdate(time.time() + 60, usegmt=True))
    outcome = send(notifier)
    assert isinstance(outcome, Retry)
    if isinstance(notifier, AppriseNotifier):
        assert outcome.after_seconds is None
        return
    assert outcome.after_seconds is not None
    assert low <= outcome.after_seconds <= high


@pytest.mark.parametrize("status", [301, 307])
def test_a_redirect_is_never_followed(receiver, notifier, status) -> None:
    receiver.answer = answering(status, Location=f"http://{receiver.address}/elsewhere")
    outcome = send(notifier)
    if isinstance(notifier, AppriseNotifier):
        assert isinstance(outcome, Retry)
    else:
        assert isinstance(outcome, GaveUp)
        assert "redirect" in outcome.error
    assert len(receiver.got) == 1
    assert "elsewhere" not in receiver.got[0][0]


@pytest.mark.parametrize("kind", NOTIFIERS)
def test_a_refused_connection_is_tried_again(kind) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outcome = send(NOTIFIERS[kind](f"http://planted-user:planted-word@127.0.0.1:{port}", Egress()))
    assert isinstance(outcome, Retry)
    assert kind == "apprise" or f"could not connect to 127.0.0.1:{port}" in outcome.error
    assert_silent(outcome.error)


@pytest.mark.parametrize("kind", NOTIFIERS)
def test_deny_private_closes_this_machine(receiver, kind) -> None:
    outcome = send(NOTIFIERS[kind](receiver.base, Egress(deny_private=True)))
    assert isinstance(outcome, GaveUp)
    assert "deny_private" in outcome.error
    assert_silent(outcome.error)
    assert receiver.got == []


def test_a_connection_goes_to_an_address_that_was_checked_whatever_a_second_look_up_says(receiver, monkeypatch) -> None:
    """A name that is public when it is checked and private when it is used: the answers of a hostile name server."""
    asked = []

    def look_up(host, port, *words, **options):
        asked.append(host)
        ip = "93.184.216.34" if len(asked) == 1 else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port))]

    tried = []

    def connect(address, *words, **options):
        tried.append(address[0])
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    outcome = send(
        WebhookNotifier(f"http://hooks.example:{receiver.server_port}/", SECRET, QUICK, Egress(deny_private=True))
    )
    assert isinstance(outcome, Retry)
    assert asked[0] == "hooks.example"
    assert tried == ["93.184.216.34"]
    assert receiver.got == []


def test_one_private_address_among_public_ones_closes_the_name(monkeypatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "169.254.169.254")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **options: found)
    outcome = send(WebhookNotifier("http://hooks.example/", SECRET, QUICK, Egress(deny_private=True)))
    assert isinstance(outcome, GaveUp)


def test_a_name_with_many_dead_addresses_does_not_outstay_its_time(monkeypatch) -> None:
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"127.0.0.{i}", 80)) for i in range(1, 200)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *words, **options: found)

    def connect(address, timeout, *words, **options):
        time.sleep(min(timeout, 0.3))
        raise TimeoutError("timed out")

    monkeypatch.setattr(socket, "create_connection", connect)
    begun = time.monotonic()
    outcome = send(WebhookNotifier("http://hooks.example/", SECRET, QUICK))
    assert isinstance(outcome, Retry)
    assert time.monotonic() - begun < 1.5


# --- what arrives ---


def test_the_body_arrives_byte_for_byte_signed_as_an_independent_reading_of_the_standard_says(
    receiver, webhook
) -> None:
    before = int(time.time())
    assert send(webhook) == Delivered()
    [(path, headers, body)] = receiver.got
    assert (path, body, headers["content-type"]) == (PATH, BODY, "application/json")
    assert before <= int(headers["webhook-timestamp"]) <= time.time()
    text = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    signature = "v1," + base64.b64encode(hmac.new(KEY, text, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == signature
    assert headers["webhook-id"] == "msg_1"


def test_without_a_secret_nothing_claims_to_be_signed(receiver) -> None:
    assert send(WebhookNotifier(receiver.url, None, QUICK)) == Delivered()
    assert "webhook-signature" not in receiver.got[0][1]
    assert receiver.got[0][1]["webhook-id"] == "msg_1"


def test_a_name_that_does_not_resolve_is_tried_again() -> None:
    outcome = send(WebhookNotifier("http://no-such-host.invalid/planted", SECRET, QUICK))
    assert isinstance(outcome, Retry)
    assert_silent(outcome.error)


def test_a_server_that_speaks_no_tls_is_tried_again(receiver) -> None:
    outcome = send(WebhookNotifier(f"https://127.0.0.1:{receiver.server_port}{PATH}", SECRET, QUICK))
    assert isinstance(outcome, Retry)
    assert_silent(outcome.error)


def test_proxies_of_the_environment_are_not_used(receiver, monkeypatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(WebhookNotifier(receiver.url, SECRET, QUICK)) == Delivered()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks/planted",
        "ftp://h/planted",
        "http:///planted",
        "http://[planted/",
        "//h/planted",
        "http://h planted/",
        "http://h:99999/planted",
    ],
)
def test_an_unusable_address_is_refused_without_being_shown(url) -> None:
    with pytest.raises(ValueError, match="http:// or https://") as caught:
        WebhookNotifier(url, SECRET)
    assert_silent(str(caught.value))
    assert caught.value.__context__ is None


def test_a_bad_secret_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError) as caught:
        WebhookNotifier("http://h/", "whsec_planted")
    assert_silent("".join(traceback.format_exception_only(caught.value)))


def test_a_notifier_with_a_secret_cannot_be_written_down(webhook) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(webhook)


def test_threads_may_share_a_notifier(receiver, webhook) -> None:
    outcomes: list[Outcome] = []
    threads = [threading.Thread(target=lambda i=i: outcomes.append(send(webhook, f"m{i}"))) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [Delivered()] * 8
    assert {headers["webhook-id"] for _, headers, _ in receiver.got} == {f"m{i}" for i in range(8)}


def test_the_log_says_what_happened_in_one_event() -> None:
    body = {
        "type": "driftline.incident",
        "timestamp": "t",
        "data": {"incident": "i", "status": "firing", "summary": "s", "alerts": [{"id": "a"}, {"id": "b"}]},
    }
    with capture_logs() as logs:
        assert LogNotifier().send("m", json.dumps(body).encode(), 0) == Delivered()
        body["data"]["status"] = "resolved"
        LogNotifier().send("n", json.dumps(body).encode(), 0)
    common = {"event": "driftline.incident", "incident": "i", "summary": "s", "alerts": ["a", "b"]}
    assert logs == [
        {**common, "message_id": "m", "status": "firing", "log_level": "warning"},
        {**common, "message_id": "n", "status": "resolved", "log_level": "info"},
    ]


def sent(receiver: Receiver) -> list[dict[str, object]]:
    return [json.loads(body) for _, _, body in receiver.got]


def test_pagerduty_triggers_and_resolves_one_incident_by_its_key(receiver) -> None:
    notifier = NOTIFIERS["pagerduty"](receiver.base, Egress())
    send(notifier, body=body_of(alert(severity="critical")))
    send(
        notifier, "msg_2", body_of(alert(status="resolved", ends_at="2026-11-23T11:00:00.000Z"), status=Status.RESOLVED)
    )
    fired, over = sent(receiver)
    assert (fired["event_action"], over["event_action"]) == ("trigger", "resolve")
    assert fired["dedup_key"] == over["dedup_key"] == "driftline/i1"
    assert fired["routing_key"] == over["routing_key"] == TOKEN
    payload = fired["payload"]
    assert payload["summary"].startswith("[CRITICAL] fraud 12: income is missing in 30 %")
    assert (payload["severity"], payload["source"], payload["component"]) == ("critical", "fraud", "income")
    assert "Mend the data" in payload["custom_details"]["What to do"]
    assert "payload" not in over


def test_pagerduty_s_limits_hold_whatever_the_message_holds(receiver) -> None:
    long = "x" * 50_000
    body = render_incident(
        incident=long,
        status=Status.FIRING,
        timestamp_ms=0,
        alerts=[alert(text=long, subject=f"s{i}") for i in range(100)],
        text=long,
    )
    assert send(NOTIFIERS["pagerduty"](receiver.base, Egress()), body=body) == Delivered()
    [event] = sent(receiver)
    assert len(event["dedup_key"]) <= 255
    assert len(event["payload"]["summary"]) <= 1024
    assert len(receiver.got[0][2]) < 512_000


def test_a_slack_webhook_tells_of_the_end_too(receiver) -> None:
    notifier = NOTIFIERS["slack"](receiver.base, Egress())
    send(notifier)
    send(notifier, "msg_2", body_of(alert(status="resolved"), status=Status.RESOLVED))
    fired, over = sent(receiver)
    assert fired["text"].startswith("[WARNING] fraud 12")
    assert over["text"].startswith("[RESOLVED] fraud 12")
    shown = json.dumps(fired["blocks"], ensure_ascii=False)
    for part in (
        "30 %",
        "2026-11-23 08:00 UTC, for 2 h",
        "a data fault upstream of the model: income",
        "Mend the data",
    ):
        assert part in shown


def test_the_bot_posts_once_answers_in_the_thread_and_marks_the_end_on_the_first_message(receiver) -> None:
    notifier = NOTIFIERS["slack_bot"](receiver.base, Egress())
    for number in range(2):
        assert send(notifier, f"msg_{number}") == Delivered()
    assert send(notifier, "msg_3", body_of(alert(status="resolved"), status=Status.RESOLVED)) == Delivered()
    assert send(notifier, "msg_4") == Delivered()
    paths = [path.rpartition("/")[2] for path, _, _ in receiver.got]
    assert paths == ["chat.postMessage", "chat.postMessage", "chat.update", "chat.postMessage", "chat.postMessage"]
    first, second, edited, over, anew = sent(receiver)
    assert (first["channel"], first.get("thread_ts")) == ("#drift", None)
    assert (second["channel"], second["thread_ts"]) == ("C1", "17.5")
    assert (edited["channel"], edited["ts"]) == ("C1", "17.5")
    assert edited["text"] == over["text"]
    assert over["text"].startswith("[RESOLVED]")
    assert over["thread_ts"] == "17.5"
    assert anew.get("thread_ts") is None
    assert receiver.got[0][1]["authorization"] == f"Bearer {TOKEN}"


def test_a_first_message_that_cannot_be_edited_does_not_stop_the_end_from_being_told(receiver) -> None:
    notifier = NOTIFIERS["slack_bot"](receiver.base, Egress())
    send(notifier)

    def answer(handler) -> None:
        gone = b'{"ok":false,"error":"message_not_found"}'
        answering(200, gone if handler.path.endswith("update") else OK)(handler)

    receiver.answer = answer
    assert send(notifier, "msg_2", body_of(alert(status="resolved"), status=Status.RESOLVED)) == Delivered()
    assert sent(receiver)[-1].get("thread_ts") is None


def test_slack_s_limits_hold_and_no_name_can_call_a_channel(receiver) -> None:
    hostile = "<!channel> & <https://evil.example|here> " * 40
    body = body_of(*(alert(text=hostile * 5, subject=hostile, model=hostile, id=str(i)) for i in range(100)))
    send(NOTIFIERS["slack"](receiver.base, Egress()), body=body)
    [message] = sent(receiver)
    texts = [block.get("text", {}).get("text", "") for block in message["blocks"]]
    assert len(message["blocks"]) <= 50
    assert len(texts[0]) <= 150
    assert max(map(len, texts)) <= 3_000
    assert sum(map(len, texts)) < 13_000
    assert not [text for text in [*texts[1:], message["text"]] if "<!" in text or "<http" in text]


def test_alertmanager_gets_stable_labels_and_times_that_hold(receiver) -> None:
    labels = {"fraud": {"team": "risk", "model": "not this"}}
    notifier = AlertmanagerNotifier([receiver.base], labels=labels, resend_ms=30_000, limits=QUICK)
    assert notifier.send("m", BODY, 1_900_000_000_000) == Delivered()
    [[posted]] = sent(receiver)
    assert posted["labels"] == {
        "team": "risk", "alertname": "DriftlineQuality", "model": "fraud", "version": "12", "monitor": "quality", "subject": "income",
        "severity": "warning", "fingerprint": "f1",
    }  # fmt: skip
    assert (posted["startsAt"], posted["endsAt"]) == ("2026-11-23T08:00:00.000Z", "2030-03-17T17:48:40.000Z")
    assert receiver.got[0][0] == "/api/v2/alerts"
    over = body_of(alert(status="resolved", severity="critical"), status=Status.RESOLVED)
    assert notifier.send("m", over, 1_000_000_000_000) == Delivered()  # our clock is behind the producer's
    [posted] = sent(receiver)[-1]
    assert posted["startsAt"] == posted["endsAt"] == "2001-09-09T01:46:40.000Z"


def test_an_alert_that_gets_worse_ends_as_what_it_was(receiver) -> None:
    notifier = NOTIFIERS["alertmanager"](receiver.base, Egress())
    notifier.send("m", body_of(alert(severity="critical", reason="escalated")), 1_900_000_000_000)
    [[was, now]] = sent(receiver)
    assert (was["labels"]["severity"], was["endsAt"]) == ("warning", "2030-03-17T17:46:40.000Z")
    assert (now["labels"]["severity"], now["endsAt"]) == ("critical", "2030-03-17T17:50:40.000Z")


def test_of_several_transitions_in_one_message_the_last_holds(receiver) -> None:
    notifier = NOTIFIERS["alertmanager"](receiver.base, Egress())
    states = [("firing", "warning", "drifted"), ("firing", "critical", "escalated"), ("resolved", "critical", "cleared"),
              ("firing", "critical", "corrected")]  # fmt: skip
    alerts = [alert(status=status, severity=severity, reason=reason) for status, severity, reason in states]
    notifier.send("m", body_of(*alerts), 1_900_000_000_000)
    [posted] = sent(receiver)
    ends = {each["labels"]["severity"]: each["endsAt"] for each in posted}
    assert ends == {"warning": "2030-03-17T17:46:40.000Z", "critical": "2030-03-17T17:50:40.000Z"}


def test_every_member_of_a_cluster_gets_everything_and_one_that_is_away_holds_up_nobody(receiver) -> None:
    with receiving() as other, capture_logs() as logs:
        notifier = AlertmanagerNotifier([receiver.base, other.base], limits=QUICK)
        assert send(notifier) == Delivered()
        assert [len(member.got) for member in (receiver, other)] == [1, 1]
        other.answer = answering(503)
        assert send(notifier) == Delivered()
        assert [line["event"] for line in logs] == ["alertmanager_member_missed"]
        receiver.answer = answering(400)
        assert isinstance(send(notifier), Retry)
        other.answer = answering(400)
        assert isinstance(send(notifier), GaveUp)


def test_active_alerts_are_sent_again_and_the_heartbeat_only_while_we_are_well(receiver) -> None:
    notifier = AlertmanagerNotifier([receiver.base], heartbeat=True, limits=QUICK)
    assert notifier.resend(lambda: [alert()], 1_900_000_000_000) == Delivered()
    assert notifier.resend(list, 1_900_000_060_000, well=False) == Delivered()
    [[again, beat]] = sent(receiver)
    assert again["labels"]["subject"] == "income"
    assert again["endsAt"] == beat["endsAt"] == "2030-03-17T17:50:40.000Z"
    assert beat["labels"]["alertname"] == "DriftlineHeartbeat"
