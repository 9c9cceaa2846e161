"""The way out: whom we may connect to, and one bounded HTTP request. Every notifier goes through here.

What is configured is trusted to be meant, so private addresses are fine: an internal Alertmanager is one. An
installation that several parties share closes them with `deny_private`; then every address that a name resolves to must
be a public one, and the connection goes to an address that was checked, never to what a second look-up would say.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from threading import Timer
from typing import Any

import httpcore2
import httpx2

from alerts.addresses import is_public
from alerts.delivery import GaveUp, Outcome, Retry, classify

# The client logs the whole address of every request at INFO, and an address may hold a secret.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_ADDRESSES_TRIED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Egress:
    """Where connections may go. `deny_private` refuses every address that is not a public unicast one."""

    deny_private: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`total_seconds` bounds an attempt whatever the receiver does, bar the name look-up, which is the system's.

    `answer_bytes` is the most that is read of an answer where it is read at all.
    """

    connect_seconds: float = 10.0
    read_seconds: float = 10.0
    total_seconds: float = 15.0
    answer_bytes: int = 65_536


class ForbiddenError(Exception):
    """The name resolves to an address that `deny_private` closes."""


def resolve(host: str, port: int, egress: Egress) -> list[str]:
    """The addresses of `host`, in the system's order.

    Raises OSError when there is none, ForbiddenError when a single one of them is closed: a name that leads to both is
    an attempt at something.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise OSError("not a host name") from error
    addresses = list(dict.fromkeys(str(where[0]) for *_, where in found))
    if egress.deny_private and not all(is_public(address) for address in addresses):
        raise ForbiddenError
    return addresses[:_ADDRESSES_TRIED]


def connect(host: str, port: int, seconds: float, egress: Egress) -> socket.socket:
    """A connection to the first address that takes one. Raises as `resolve`, and TimeoutError after `seconds` in all."""
    until = time.monotonic() + seconds
    failure: OSError = OSError("no address")
    for address in resolve(host, port, egress):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError("no address took a connection in time") from failure
        try:
            return socket.create_connection((address, port), left)
        except OSError as error:
            failure = error
    raise failure


class Deadline:
    """Cuts a connection when its time is over.

    A client's own time-outs start anew with every byte, so a receiver that sends a byte a second would hold us for
    ever.
    """

    def __init__(self) -> None:
        self.passed = False
        self._socket: socket.socket | None = None

    def watch(self, connection: socket.socket) -> None:
        self._socket = connection
        if self.passed:  # connecting alone took all the time
            self._cut()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by the HTTP client as it goes; each new layer of the connection (TCP, then TLS) brings its socket."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self.watch(info["return_value"].get_extra_info("socket"))

    @contextlib.contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        timer = Timer(max(seconds, 0.0), self._cut)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`body` is empty where it was not asked for. It is for decisions; it is never shown."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


class HttpEdge:
    """POSTs to one address. No redirects, no proxies or credentials from the environment, no cookies, no kept
    connections.

    The URL counts as a secret; only `host` (with its port) is ever shown. Raises ValueError, which shows nothing, for a
    URL that cannot be used, and OSError as `authorities`. Threads may share one.
    """

    def __init__(
        self, url: str, *, limits: Limits | None = None, egress: Egress | None = None, ca_file: str | None = None
    ) -> None:
        self.limits = limits or Limits()
        self._url = _parsed(url)
        self.host = self._url.netloc.decode("ascii").rpartition("@")[2]
        self._client = httpx2.Client(
            follow_redirects=False,
            trust_env=False,
            transport=_PinnedTransport(egress or Egress(), ca_file),
            timeout=httpx2.Timeout(self.limits.read_seconds, connect=self.limits.connect_seconds),
            headers={"user-agent": "driftline", "accept-encoding": "identity"},
        )

    def send(self, body: bytes, headers: Mapping[str, str], attempted_at_ms: int) -> Outcome:
        """POST, judged by the status alone: what is not read can neither fill memory nor leak into a log."""
        answer = self.post(body, headers)
        return self.judge(answer, attempted_at_ms) if isinstance(answer, Answer) else answer

    def post(
        self,
        body: bytes,
        headers: Mapping[str, str],
        *,
        method: str = "POST",
        read: bool = False,
        seconds: float | None = None,
    ) -> Answer | Retry | GaveUp:
        """The answer, or what it means that there is none. `read`: with its body, which is short or else no answer.

        `seconds`: what is left where the attempt has more than one request. `method`: a target of retraining may want
        PUT, and is asked by GET.
        """
        deadline = Deadline()
        total = self.limits.total_seconds if seconds is None else min(seconds, self.limits.total_seconds)
        try:
            request = self._client.build_request(
                method, self._url, content=body, headers=headers, extensions=_extensions(self._client, deadline, total)
            )
            with deadline.within(total):
                response = self._client.send(request, stream=True)
                try:
                    content = self._read(response) if read else b""
                finally:
                    response.close()
        except httpx2.TimeoutException:
            return Retry(None, f"no answer in time from {self.host}")
        except httpx2.ConnectError as error:
            return Retry(
                None, f"could not connect to {self.host}: {error}"
            )  # the system's words or TLS's: no URL in them
        except ForbiddenError:
            return GaveUp(f"{self.host} leads to a private address, which egress.deny_private closes")
        except httpx2.UnsupportedProtocol:
            return GaveUp(f"the address at {self.host} is not one to POST to")
        except httpx2.TransportError as error:
            late = "no answer in time from" if deadline.passed else f"connection broke ({type(error).__name__}) with"
            return Retry(None, f"{late} {self.host}")
        if content is None:
            return Retry(None, f"{self.host} answered with more than {self.limits.answer_bytes} bytes")
        return Answer(status=response.status_code, headers=response.headers, body=content)

    def judge(self, answer: Answer, attempted_at_ms: int) -> Outcome:
        """What the status means, with the host named."""
        outcome = classify(answer.status, answer.headers, attempted_at_ms)
        if isinstance(outcome, Retry):
            return Retry(outcome.after_seconds, f"{self.host} {outcome.error}")
        if isinstance(outcome, GaveUp):
            return GaveUp(f"{self.host} {outcome.error}")
        return outcome

    def close(self) -> None:
        self._client.close()

    def __repr__(self) -> str:
        return f"HttpEdge({self.host})"

    def _read(self, response: httpx2.Response) -> bytes | None:
        """All of a short body; None for one that is too long."""
        parts, size = [], 0
        for part in response.iter_raw():
            size += len(part)
            if size > self.limits.answer_bytes:
                return None
            parts.append(part)
        return b"".join(parts)


class _PinnedTransport(httpx2.HTTPTransport):
    """The client's own transport, but its connections are made by `_Pinned`."""

    def __init__(self, egress: Egress, ca_file: str | None) -> None:
        context = authorities(ca_file)
        super().__init__(verify=context, trust_env=False)
        # An idle connection saves little at this rate, and one that the receiver has closed costs an attempt.
        self._pool = httpcore2.ConnectionPool(
            ssl_context=context, max_keepalive_connections=0, network_backend=_Pinned(egress)
        )


class _Pinned(httpcore2.SyncBackend):
    """Looks the name up once and connects to those very addresses. TLS still checks the name, which it has from the
    URL.
    """

    def __init__(self, egress: Egress) -> None:
        self._egress = egress

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        until = time.monotonic() + (Limits().connect_seconds if timeout is None else timeout)
        try:
            addresses = resolve(host, port, self._egress)
        except OSError as error:
            raise httpcore2.ConnectError(str(error)) from error
        failure: Exception = httpcore2.ConnectError("no address")
        for address in addresses:
            left = until - time.monotonic()
            if left <= 0:
                raise httpcore2.ConnectTimeout("no address took a connection in time") from failure
            try:
                return super().connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure


def authorities(ca_file: str | None) -> ssl.SSLContext:
    """Whose certificates are believed: those of the file alone, or the usual ones. Raises OSError for a file that is none."""
    return httpx2.create_ssl_context(trust_env=False) if ca_file is None else ssl.create_default_context(cafile=ca_file)


def _extensions(client: httpx2.Client, deadline: Deadline, total: float) -> dict[str, Any]:
    """The client's time-outs, none longer than the attempt may take, and the watch on its sockets."""
    usual = client.timeout.as_dict()
    timeout = {what: total if limit is None else min(limit, max(total, 0.01)) for what, limit in usual.items()}
    return {"trace": deadline.trace, "timeout": timeout}


def _parsed(url: str) -> httpx2.URL:
    parsed: httpx2.URL | None
    try:
        parsed = httpx2.URL(url.strip())
    except (httpx2.InvalidURL, ValueError, TypeError):
        parsed = None
    if parsed is None or parsed.scheme not in ("http", "https") or not _reachable(parsed):
        # Outside the handler and without the text: the URL may be the secret.
        raise ValueError("a url must be a valid http:// or https:// address with a host")
    return parsed


def _reachable(url: httpx2.URL) -> bool:
    """The parser escapes what cannot be in a host name instead of refusing it, and takes any number for a port."""
    return bool(url.host) and "%" not in url.host and 0 < (url.port or 80) < 65_536
