"""The mail notifier against a real SMTP server on this machine, and against one that is not well."""

from __future__ import annotations

import datetime as dt
import email
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email import policy
from email.message import EmailMessage
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.egress import Egress, Limits
from alerts.incident import render_incident
from alerts.lifecycle import Status
from alerts.message import Wording
from alerts.notifiers.email import EmailNotifier, MailServer
from tests.parts.broker import free_port

PASSWORD = "planted-password"
QUICK = Limits(connect_seconds=1, read_seconds=1, total_seconds=1.5)
NOW_MS = 1_795_428_000_000


def body(
    status: str = "firing", text: str = "income is missing in 30 % of 5,000 rows (é).", **changes: object
) -> bytes:
    alert = {
        "type": "alert", "id": "a1", "incident": "i1", "model": "fraud", "version": "12", "segment": None, "monitor": "quality",
        "subject": "income", "severity": "critical", "status": status, "corrected": False, "at": "2026-11-23T10:00:00.000Z",
        "starts_at": "2026-11-23T08:00:00.000Z", "ends_at": None, "window": "w1", "reason": "drifted", "text": text,
    }  # fmt: skip
    return render_incident(incident="i1", status=Status(status), timestamp_ms=NOW_MS, alerts=[alert | changes])


class Mailbox:
    """Takes mail, refuses whom it is told to, and needs encryption and a log-in where the server asks for them."""

    def __init__(self) -> None:
        self.mails: list[tuple[list[str], EmailMessage]] = []
        self.refuse: dict[str, str] = {}
        self.after_data = "250 OK"
        self.encrypted: list[bool] = []

    async def handle_RCPT(self, server, session, envelope, address, options) -> str:  # noqa: N802 - the library's name
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope) -> str:  # noqa: N802
        self.encrypted.append(session.ssl is not None)
        message = email.message_from_bytes(envelope.content, policy=policy.SMTP)
        assert isinstance(message, EmailMessage)
        self.mails.append((list(envelope.rcpt_tos), message))
        return self.after_data


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate of 127.0.0.1, which is its own authority; the key is in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return file


@contextmanager
def serving(mailbox: Mailbox, certificate: Path | None = None) -> Iterator[int]:
    options: dict[str, object] = {}
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)

        def known(server, session, envelope, mechanism, data) -> AuthResult:
            right = data.login == b"drift" and data.password == PASSWORD.encode()
            return AuthResult(success=right, handled=right)

        options = {"tls_context": context, "require_starttls": True, "auth_required": True, "authenticator": known}
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port(), **options)
    controller.start()
    try:
        yield controller.port
    finally:
        controller.stop()


def notifier(port: int, *to: str, starttls: bool = False, **options: object) -> EmailNotifier:
    server = {key: options.pop(key) for key in ("username", "password", "ca_file") if key in options}
    return EmailNotifier(
        MailServer(host="127.0.0.1", port=port, starttls=starttls, **server), "Drift <drift@example.com>", to or ("a@example.com",),
        limits=QUICK, **options,
    )  # fmt: skip


def send(one: EmailNotifier, message_id: str = "msg_1", content: bytes | None = None) -> Outcome:
    return one.send(message_id, body() if content is None else content, NOW_MS)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def test_a_mail_arrives_encrypted_after_a_log_in_with_text_and_html(mailbox, certificate) -> None:
    wording = Wording(links={"runbook": "https://wiki.example/$model"})
    with serving(mailbox, certificate) as port:
        one = notifier(
            port, "a@example.com", "B <b@example.com>", starttls=True, username="drift", password=PASSWORD,
            ca_file=str(certificate), wording=wording,
        )  # fmt: skip
        assert send(one) == Delivered()
    [(to, mail)] = mailbox.mails
    assert mailbox.encrypted == [True]
    assert to == ["a@example.com", "b@example.com"]
    # The library folds a long subject with an accent at two spaces.
    assert " ".join(mail["Subject"].split()) == "[CRITICAL] fraud 12: income is missing in 30 % of 5,000 rows (é)."
    assert mail["From"] == "Drift <drift@example.com>"
    assert mail["Date"].datetime.timestamp() == NOW_MS / 1000
    assert mail["Auto-Submitted"] == "auto-generated"
    plain, html = mail.get_body(("plain",)).get_content(), mail.get_body(("html",)).get_content()
    for part in ("30 % of 5,000 rows (é)", "2026-11-23 08:00 UTC", "Mend the data first", "https://wiki.example/fraud"):
        assert part in plain
        assert part in html
    assert PASSWORD not in repr(one) + str(mail)


def test_all_mails_of_an_incident_are_one_thread_and_a_copy_is_known_by_its_id(mailbox) -> None:
    with serving(mailbox) as port:
        one, again = notifier(port), notifier(port)
        for each, message_id, content in (
            (one, "msg_1", body()),
            (again, "msg_1", body()),  # another process, after a crash
            (one, "msg_2", body("resolved")),
        ):
            assert send(each, message_id, content) == Delivered()
    first, copy, over = (mail for _, mail in mailbox.mails)
    assert first["Message-ID"] == copy["Message-ID"] == "<msg_1@example.com>"
    assert over["Message-ID"] == "<msg_2@example.com>"
    for mail in (first, copy, over):
        assert mail["References"] == mail["In-Reply-To"] == "<incident-i1@example.com>"
    assert over["Subject"].startswith("[RESOLVED]")


def test_nothing_in_a_name_can_write_a_header_or_html(mailbox) -> None:
    hostile = "x\r\nBcc: evil@example.com\r\n\r\n<script>alert(1)</script> \ud800"
    with serving(mailbox) as port:
        assert send(notifier(port), "m\r\nBcc: e@e", body(text=hostile, model=hostile, subject=hostile)) == Delivered()
    [(to, mail)] = mailbox.mails
    assert to == ["a@example.com"]
    assert mail["Bcc"] is None
    assert "<script" not in mail.get_body(("html",)).get_content()


def test_without_starttls_on_offer_nothing_is_said(mailbox) -> None:
    with serving(mailbox) as port:
        outcome = send(notifier(port, starttls=True, username="drift", password=PASSWORD))
    assert isinstance(outcome, GaveUp)
    assert "does not offer STARTTLS" in outcome.error
    assert mailbox.mails == []


def test_a_server_of_an_unknown_authority_gets_neither_password_nor_mail(mailbox, certificate) -> None:
    with serving(mailbox, certificate) as port:
        outcome = send(notifier(port, starttls=True, username="drift", password=PASSWORD))
    assert isinstance(outcome, Retry)
    assert "no encrypted connection (CERTIFICATE_VERIFY_FAILED)" in outcome.error
    assert mailbox.mails == []


def test_a_wrong_password_is_for_a_person_to_mend_and_is_not_shown(mailbox, certificate) -> None:
    with serving(mailbox, certificate) as port:
        outcome = send(
            notifier(port, starttls=True, username="drift", password="planted-wrong", ca_file=str(certificate))
        )
    assert isinstance(outcome, GaveUp)
    assert "535" in outcome.error
    assert "planted" not in outcome.error


@pytest.mark.parametrize(
    ("answer", "kind"), [("451 planted later", Retry), ("554 planted no", GaveUp), ("250 OK", Delivered)]
)
def test_what_the_server_says_of_the_mail_decides_and_is_not_shown(mailbox, answer, kind) -> None:
    mailbox.after_data = answer
    with serving(mailbox) as port:
        outcome = send(notifier(port))
    assert isinstance(outcome, kind)
    assert "planted" not in getattr(outcome, "error", "")


def test_who_has_it_gets_no_second_one_and_who_was_refused_for_now_gets_his(mailbox) -> None:
    mailbox.refuse = {"b@example.com": "450 greylisted"}
    with serving(mailbox) as port:
        one = notifier(port, "a@example.com", "b@example.com")
        outcome = send(one)
        assert isinstance(outcome, Retry)
        assert "refused 1 of 2 recipients (b@example.com)" in outcome.error
        mailbox.refuse = {}
        assert send(one) == Delivered()
        assert send(one) == Delivered()
    assert [to for to, _ in mailbox.mails] == [["a@example.com"], ["b@example.com"]]


def test_one_address_that_is_no_more_holds_up_nobody_else_but_all_of_them_are_a_failure(mailbox) -> None:
    mailbox.refuse = {"b@example.com": "550 unknown"}
    with serving(mailbox) as port:
        assert send(notifier(port, "a@example.com", "b@example.com")) == Delivered()
        mailbox.refuse["a@example.com"] = "550 unknown"
        assert isinstance(send(notifier(port, "a@example.com", "b@example.com")), GaveUp)


# --- servers that are not well ---


@contextmanager
def speaking(talk: Callable[[socket.socket], None]) -> Iterator[int]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            talk(connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        server.close()


def silent(connection: socket.socket) -> None:
    time.sleep(4)


def dripping(connection: socket.socket) -> None:
    for _ in range(40):
        connection.sendall(b"220-planted\r\n")
        time.sleep(0.1)


def endless(connection: socket.socket) -> None:
    for _ in range(100_000):
        connection.sendall(b"220-" + b"planted" * 1000 + b"\r\n")


def closing(connection: socket.socket) -> None:
    connection.sendall(b"220 planted\r\n")
    connection.recv(100)


def busy(connection: socket.socket) -> None:
    connection.sendall(b"421 planted too busy\r\n")


def garbage(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 400 planted\r\n\r\n")


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (silent, "no answer in time"),
        (dripping, "no answer in time"),
        (endless, "connection broke"),
        (closing, "connection broke"),
        (busy, "SMTP 421"),
        (garbage, "SMTP -1"),
    ],
)
def test_a_server_that_is_not_well_is_tried_again_in_time_and_shows_nothing(talk, words, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    with speaking(talk) as port:
        begun = time.monotonic()
        outcome = send(notifier(port))
        assert time.monotonic() - begun < 3
    assert isinstance(outcome, Retry)
    assert words in outcome.error
    assert f"127.0.0.1:{port}" in outcome.error
    assert "planted" not in outcome.error + caplog.text


def test_a_refused_connection_is_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        outcome = send(notifier(free.getsockname()[1]))
    assert isinstance(outcome, Retry)


def test_deny_private_closes_this_machine(mailbox) -> None:
    with serving(mailbox) as port:
        outcome = send(notifier(port, egress=Egress(deny_private=True)))
    assert isinstance(outcome, GaveUp)
    assert "deny_private" in outcome.error
    assert mailbox.mails == []


@pytest.mark.parametrize("address", ["nobody", "a@b\nBcc: c@d"])
def test_what_is_no_address_is_refused(address) -> None:
    with pytest.raises(ValueError):
        EmailNotifier(MailServer(host="h"), address, ["a@b"])
    with pytest.raises(ValueError):
        EmailNotifier(MailServer(host="h"), "a@b", [address])
