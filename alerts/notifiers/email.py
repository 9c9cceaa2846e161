"""Notifier `email`: one mail a message by SMTP, encrypted by STARTTLS, threaded by incident."""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from html import escape
from typing import BinaryIO, cast

import structlog

from alerts.addresses import is_mail_address
from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.egress import Deadline, Egress, ForbiddenError, Limits, connect
from alerts.message import Message, Wording, clip, compose, what_lines

_log = structlog.get_logger("driftline.alerts")
_SUBJECT_CHARACTERS, _ALERTS, _REPLY_LINES, _REMEMBERED = 250, 50, 100, 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MailServer:
    """Where and as whom to send. With `starttls` nothing is said before the connection is encrypted and the server is
    who it says; `ca_file` holds its authority where that is not a public one.
    """

    host: str
    port: int = 587
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    starttls: bool = True
    ca_file: str | None = None


class EmailNotifier:
    """One mail to all of `to`. A copy after a lost answer has the same Message-ID; who has accepted it gets none.

    Raises ValueError for addresses that are none, OSError for a `ca_file` that cannot be read.
    """

    def __init__(
        self,
        server: MailServer,
        sender: str,
        to: Sequence[str],
        *,
        wording: Wording | None = None,
        limits: Limits | None = None,
        egress: Egress | None = None,
    ) -> None:
        for address in (sender, *to):
            if not is_mail_address(address):
                raise ValueError(f"{address!r} is no mail address")
        self._server, self._sender, self._to = server, sender, tuple(to)
        self._wording, self._limits, self._egress = wording, limits or Limits(), egress or Egress()
        self._context = ssl.create_default_context(cafile=server.ca_file) if server.starttls else None
        self._accepted: OrderedDict[str, set[str]] = OrderedDict()  # message id -> who has it already
        self.limit_seconds = self._limits.total_seconds
        self.host = f"{server.host}:{server.port}"

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        mail = mail_of(compose(body, self._wording), message_id, self._sender, self._to, attempted_at_ms)
        deadline = Deadline()
        try:
            with deadline.within(self._limits.total_seconds):
                return self._carry(mail, message_id, deadline)
        except ForbiddenError:
            return GaveUp(f"{self.host} leads to a private address, which egress.deny_private closes")
        except smtplib.SMTPNotSupportedError:
            wanted = "STARTTLS" if self._server.starttls else "what this mail or its log-in needs"
            return GaveUp(f"{self.host} does not offer {wanted}")
        except smtplib.SMTPRecipientsRefused as error:
            return self._refused({address: code for address, (code, _) in error.recipients.items()})
        except smtplib.SMTPResponseException as error:  # its text is the server's and stays out
            told = f"{self.host} answered SMTP {error.smtp_code}"
            return Retry(None, told) if error.smtp_code < 500 else GaveUp(told)
        except ssl.SSLError as error:
            return Retry(None, f"{self.host}: no encrypted connection ({error.reason or type(error).__name__})")
        except (TimeoutError, smtplib.SMTPException, OSError) as error:
            late = deadline.passed or isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError)
            broke = f"connection broke ({type(error).__name__}) with"
            return Retry(None, f"{'no answer in time from' if late else broke} {self.host}")

    def close(self) -> None:
        """Nothing is held open."""

    def __repr__(self) -> str:
        return f"EmailNotifier({self.host})"

    def _carry(self, mail: EmailMessage, message_id: str, deadline: Deadline) -> Outcome:
        has_it = self._accepted.get(message_id, set())
        to = [address for address in self._to if address not in has_it]
        if not to:
            return Delivered()
        smtp = _Connection(self._server.host, self._server.port, self._sender, self._limits, self._egress, deadline)
        try:
            if self._context is not None:
                smtp.starttls(context=self._context)
                if smtp.sock is not None:
                    deadline.watch(smtp.sock)
            if self._server.username is not None:
                smtp.login(self._server.username, self._server.password or "")
            refused = smtp.send_message(mail, self._sender, to)
            with contextlib.suppress(smtplib.SMTPException, OSError):  # whatever comes now, the mail is theirs
                smtp.docmd("QUIT")
        finally:
            smtp.close()
        codes = {address: code for address, (code, _) in refused.items()}
        self._accepted[message_id] = has_it | (set(to) - codes.keys())
        if len(self._accepted) > _REMEMBERED:
            self._accepted.popitem(last=False)
        return self._refused(codes) if codes else Delivered()

    def _refused(self, codes: dict[str, int]) -> Outcome:
        """Those refused for now are tried again; those refused for good are told of, and hold up nobody else."""
        for_now = [address for address, code in codes.items() if code < 500]
        told = f"{self.host} refused {len(codes)} of {len(self._to)} recipients ({', '.join(sorted(codes))})"
        if for_now:
            return Retry(None, told)
        if len(codes) == len(self._to):
            return GaveUp(told)
        _log.error("recipients_refused", server=self.host, recipients=sorted(codes))
        return Delivered()


def mail_of(message: Message, message_id: str, sender: str, to: Sequence[str], at_ms: int) -> EmailMessage:
    """Plain text with a small HTML part.

    All mails of an incident refer to an id made of the incident's, so mail programs show them as one thread even when
    the first one was lost.
    """
    domain = _domain(sender)
    root = f"<incident-{_id_part(message.incident)}@{domain}>"
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, ", ".join(to)
    mail["Subject"] = clip(message.title, _SUBJECT_CHARACTERS)
    mail["Date"] = format_datetime(datetime.fromtimestamp(at_ms // 1000, UTC))
    mail["Message-ID"] = f"<{_id_part(message_id)}@{domain}>"
    mail["In-Reply-To"] = mail["References"] = root
    mail["Auto-Submitted"] = "auto-generated"  # no out-of-office answers
    mail["X-Driftline-Incident"] = _id_part(message.incident)
    mail.set_content(f"{message.title}\n\n{message.text}\n")
    mail.add_alternative(html_of(message), subtype="html")
    return mail


def html_of(message: Message) -> str:
    """Nothing is loaded from elsewhere, everything is escaped."""
    color = "#2e7d32" if not message.firing else "#c62828" if message.critical else "#b26a00"
    if message.custom:
        inner = f'<pre style="white-space:pre-wrap">{escape(message.text)}</pre>'
    else:
        what = "".join(f"<li>{escape(line)}</li>" for line in what_lines(message.alerts, _ALERTS))
        facts = "".join(
            f'<tr><th align="left" valign="top">{escape(label)}</th><td>{escape(text)}</td></tr>'
            for label, text in message.facts
        )
        links = " · ".join(f'<a href="{escape(url)}">{escape(name)}</a>' for name, url in message.links)
        inner = f'<ul>{what}</ul><table cellpadding="4">{facts}</table><p>{links}</p>'
    title = f'<h3 style="border-left:6px solid {color};padding-left:8px">{escape(message.title)}</h3>'
    return f'<!doctype html><html><body style="font-family:sans-serif">{title}{inner}</body></html>'


def _domain(address: str) -> str:
    return parseaddr(address)[1].rpartition("@")[2]


def _id_part(text: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-.") else "-" for c in text)[:100] or "none"


class _Connection(smtplib.SMTP):
    """Connects only where we may, shows its socket to the deadline, and reads no endless replies."""

    def __init__(  # noqa: PLR0917 - called in one place
        self, host: str, port: int, sender: str, limits: Limits, egress: Egress, deadline: Deadline
    ) -> None:
        self._limits, self._egress, self._deadline = limits, egress, deadline
        # The sender's domain: looking our own name up may take long, and many servers want a dot in it.
        super().__init__(host, port, local_hostname=_domain(sender), timeout=limits.read_seconds)

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = connect(host, port, self._limits.connect_seconds, self._egress)
        made.settimeout(timeout)
        self._deadline.watch(made)
        return made

    def getreply(self) -> tuple[int, bytes]:
        """As the library's, with a bound on the lines of one reply."""
        if self.file is None and self.sock is not None:
            self.file = _Bounded(cast("BinaryIO", self.sock.makefile("rb")))
        if isinstance(self.file, _Bounded):
            self.file.left = _REPLY_LINES
        return super().getreply()


class _Bounded:
    """A file that ends after so many lines, which the library takes for a connection that was closed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.left = file, _REPLY_LINES

    def readline(self, size: int = -1) -> bytes:
        self.left -= 1
        return self._file.readline(size) if self.left >= 0 else b""

    def close(self) -> None:
        self._file.close()
