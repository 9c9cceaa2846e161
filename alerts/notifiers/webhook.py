"""Notifier `webhook`: a signed POST by Standard Webhooks."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Timer
from typing import Any

import httpx2

from alerts.delivery import GaveUp, Outcome, Retry, classify
from alerts.signing import Signer, unsigned_headers

# The client logs the whole address of every request at INFO, and an address may hold a secret.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`total_seconds` bounds an attempt whatever the receiver does, bar the name look-up, which is the system's."""

    connect_seconds: float = 10.0
    read_seconds: float = 10.0
    total_seconds: float = 15.0


class WebhookNotifier:
    """POSTs the body to one address. No redirects, no proxies or credentials from the environment, no cookies.

    The answer's body is not read: the status says all, and what is not read can neither fill memory nor leak into a
    log. The URL counts as a secret; only host and port are ever shown. Raises ValueError for a URL or secret that
    cannot be used.
    """

    def __init__(self, url: str, secret: str | None = None, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._url = _parsed(url)
        self._signer = Signer(secret) if secret is not None else None
        self.limit_seconds = self._limits.total_seconds
        self.host = self._url.netloc.decode("ascii").rpartition("@")[2]
        self._client = httpx2.Client(
            follow_redirects=False,
            trust_env=False,
            timeout=httpx2.Timeout(self._limits.read_seconds, connect=self._limits.connect_seconds),
            # An idle connection saves little at this rate, and one that the receiver has closed costs an attempt.
            limits=httpx2.Limits(max_keepalive_connections=0),
            headers={"user-agent": "driftline", "content-type": "application/json"},
        )

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        deadline = _Deadline()
        try:
            request = self._client.build_request(
                "POST",
                self._url,
                content=body,
                headers=self._signed(message_id, body, attempted_at_ms),
                extensions={"trace": deadline.trace},
            )
            with deadline.within(self._limits.total_seconds):
                response = self._client.send(request, stream=True)
                response.close()
        except httpx2.TimeoutException:
            return Retry(None, f"no answer in time from {self.host}")
        except httpx2.ConnectError as error:
            return Retry(
                None, f"could not connect to {self.host}: {error}"
            )  # the system's words or TLS's: no URL in them
        except httpx2.UnsupportedProtocol:
            return GaveUp(f"the address at {self.host} is not one to POST to")
        except httpx2.TransportError as error:
            late = "no answer in time from" if deadline.passed else f"connection broke ({type(error).__name__}) with"
            return Retry(None, f"{late} {self.host}")
        return _at(self.host, classify(response.status_code, response.headers, attempted_at_ms))

    def close(self) -> None:
        self._client.close()

    def __repr__(self) -> str:
        return f"WebhookNotifier({self.host})"

    def _signed(self, message_id: str, body: bytes, attempted_at_ms: int) -> Mapping[str, str]:
        if self._signer is None:
            return unsigned_headers(message_id, attempted_at_ms)
        return self._signer.headers(message_id, attempted_at_ms, body)


class _Deadline:
    """Cuts the connection of one request when its time is over.

    The client's own time-outs start anew with every byte, so a receiver that sends a header a second would hold us for
    ever.
    """

    def __init__(self) -> None:
        self.passed = False
        self._socket: socket.socket | None = None

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by the client as it goes; each new layer of the connection (TCP, then TLS) brings its socket."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._socket = info["return_value"].get_extra_info("socket")
            if self.passed:  # connecting alone took all the time: a name may have many addresses
                self._cut()

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        timer = Timer(seconds, self._cut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _cut(self) -> None:
        self.passed = True
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed by itself in the meantime
                self._socket.shutdown(socket.SHUT_RDWR)


def _parsed(url: str) -> httpx2.URL:
    parsed: httpx2.URL | None
    try:
        parsed = httpx2.URL(url.strip())
    except (httpx2.InvalidURL, ValueError, TypeError):
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not _reachable(parsed):
        # Outside the handler and without the text: the URL may be the secret.
        raise ValueError("a webhook url must be a valid http:// or https:// address with a host")
    return parsed


def _reachable(url: httpx2.URL) -> bool:
    """The parser escapes what cannot be in a host name instead of refusing it, and takes any number for a port."""
    return bool(url.host) and "%" not in url.host and 0 < (url.port or 80) < 65_536


def _at(host: str, outcome: Outcome) -> Outcome:
    if isinstance(outcome, Retry):
        return Retry(outcome.after_seconds, f"{host} {outcome.error}")
    if isinstance(outcome, GaveUp):
        return GaveUp(f"{host} {outcome.error}")
    return outcome
