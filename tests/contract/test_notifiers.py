"""What every notifier promises, shown on a real HTTP server on this machine that behaves as receivers do on a bad day."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import logging
import pickle
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate

import pytest
from structlog.testing import capture_logs

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.notifiers.log import LogNotifier
from alerts.notifiers.webhook import Limits, WebhookNotifier

KEY = b"planted-key-planted-key-planted!"
SECRET = "whsec_" + base64.b64encode(KEY).decode()
PATH = "/planted-path?token=planted-token"
PLANTED = ("planted", SECRET.removeprefix("whsec_"), base64.b64encode(KEY).decode()[:12])
BODY = b'{"type":"driftline.incident","data":{"summary":"\\u00e9"}}'
QUICK = Limits(connect_seconds=0.8, read_seconds=0.8, total_seconds=1.2)

Answer = Callable[[http.server.BaseHTTPRequestHandler], None]


class Receiver(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Answer = answering(204)
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    @property
    def url(self) -> str:
        return f"http://planted-user:planted-word@127.0.0.1:{self.server_port}{PATH}"

    def handle_error(self, request, client_address) -> None:
        """A client that hangs up is no error here."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.got.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
        self.server.answer(self)

    do_GET = do_POST  # noqa: N815 - the standard library's name

    def log_message(self, *words: object) -> None: ...


def answering(status: int, body: bytes = b"", **headers: str) -> Answer:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def reset(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def hang(handler: http.server.BaseHTTPRequestHandler) -> None:
    time.sleep(5)


def slow_headers(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    for i in range(50):
        handler.wfile.write(f"x-{i}: y\r\n".encode())
        time.sleep(0.1)
    handler.wfile.write(b"\r\n")


def slow_body(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
    for _ in range(50):
        handler.wfile.write(b"x")
        time.sleep(0.1)


def garbage(handler: http.server.BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"planted-token is what I think of HTTP\r\n\r\n")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def webhook(receiver) -> Iterator[WebhookNotifier]:
    notifier = WebhookNotifier(receiver.url, SECRET, QUICK)
    yield notifier
    notifier.close()


def send(notifier, message_id: str = "msg_1") -> Outcome:
    return notifier.send(message_id, BODY, time.time_ns() // 1_000_000)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (answering(200, b"thanks"), Delivered, ""),
        (answering(204), Delivered, ""),
        (answering(200, b"x" * 10_000_000), Delivered, ""),
        (slow_body, Delivered, ""),
        (answering(400, SECRET.encode() + b" planted"), GaveUp, "400"),
        (answering(404), GaveUp, "404"),
        (answering(410), GaveUp, "410"),
        (answering(408), Retry, "408"),
        (answering(425), Retry, "425"),
        (answering(429), Retry, "429"),
        (answering(500, b"planted " * 1000), Retry, "500"),
        (answering(503, b"x" * 10_000_000), Retry, "503"),
        (reset, Retry, "connection broke"),
        (hang, Retry, "no answer in time"),
        (slow_headers, Retry, "no answer in time"),
        (garbage, Retry, "connection broke"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_every_answer_is_judged_in_time_and_leaks_nothing(  # noqa: PLR0917 - fixtures and cases
    receiver, webhook, caplog, answer, kind, words
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.answer = answer
    begun = time.monotonic()
    outcome = send(webhook)
    assert time.monotonic() - begun < QUICK.total_seconds + 2.0  # the bad receivers take 5 s
    assert isinstance(outcome, kind)
    if not isinstance(outcome, Delivered):
        assert words in outcome.error
        assert f"127.0.0.1:{receiver.server_port}" in outcome.error
    assert_silent(repr(outcome), repr(webhook), str(webhook))
    assert_silent(*(record.getMessage() for record in caplog.records))
    assert len(receiver.got) == 1


def assert_silent(*texts: str) -> None:
    for text in texts:
        assert not [planted for planted in PLANTED if planted in text], text


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


@pytest.mark.parametrize(("value", "low", "high"), [("7", 7, 7), (None, 50, 60), ("99999", 3600, 3600)])
def test_retry_after_is_honoured_as_seconds_and_as_a_date(receiver, webhook, value, low, high) -> None:
    receiver.answer = answering(429, Retry_After=value or formatdate(time.time() + 60, usegmt=True))
    outcome = send(webhook)
    assert isinstance(outcome, Retry)
    assert outcome.after_seconds is not None
    assert low <= outcome.after_seconds <= high


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_never_followed(receiver, webhook, status) -> None:
    receiver.answer = answering(status, Location=f"http://127.0.0.1:{receiver.server_port}/elsewhere")
    outcome = send(webhook)
    assert isinstance(outcome, GaveUp)
    assert "redirect" in outcome.error
    assert [path for path, _, _ in receiver.got] == [PATH]


def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outcome = send(WebhookNotifier(f"http://127.0.0.1:{port}{PATH}", SECRET, QUICK))
    assert isinstance(outcome, Retry)
    assert f"could not connect to 127.0.0.1:{port}" in outcome.error
    assert_silent(outcome.error)


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
