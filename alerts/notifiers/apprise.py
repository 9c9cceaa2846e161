"""Notifier `apprise`: the long tail of services, by the library of that name (extra `apprise`)."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.egress import Egress, Limits
from alerts.message import Message, Wording, compose

if TYPE_CHECKING:
    from apprise import Apprise, NotifyType

_NOT_INSTALLED = "the library apprise is not installed (pip install 'driftline[apprise]')"
_UNREADABLE = "the address is none that apprise knows (see its list of services; it is not shown here)"
_MOST_CHARACTERS = 20_000


class AppriseNotifier:
    """Sends title and text to the one service that `url` names, such as `tgram://TOKEN/CHAT`: a secret in most cases.

    The library answers yes or no, so this notifier promises less than the others:

    * Every no is tried again until the message expires: no status, no `Retry-After` and no reason is told, and errors
      name the kind of service only, since a "host" of apprise may be a token.
    * A service of HTTP has our limits for connecting and reading, follows no redirect, and its certificate is checked. An
      attempt ends for us after `total_seconds` whatever the service does, but its thread cannot be ended: until that comes
      back by itself, nothing else is sent here. Other protocols keep the library's own limits. An answer is read whole.
    * The library connects by itself: no address can be checked or pinned, and proxies and `.netrc` of the environment are
      used. Where `deny_private` holds nothing is sent, therefore.
    * A copy of a message cannot be told from a new one, and its end is a message of its own. A long text may go out in
      several parts.

    Raises ValueError for an address that apprise does not know, or where it is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        wording: Wording | None = None,
        limits: Limits | None = None,
        egress: Egress | None = None,
    ) -> None:
        limits = limits or Limits()
        self._wording, self._egress = wording, egress or Egress()
        self._service, self.kind = _service(url.strip(), limits)
        self.limit_seconds = limits.total_seconds
        self._lock = threading.Lock()
        self._running: threading.Thread | None = None

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        if self._egress.deny_private:
            return GaveUp(f"{self} cannot be held to egress.deny_private")
        message = compose(body, self._wording)
        taken: list[bool] = []
        with self._lock:
            if self._running is not None and self._running.is_alive():
                return Retry(None, f"{self} is still busy with an earlier message")
            # A daemon, so that a service which hangs does not hold up our end.
            thread = threading.Thread(target=self._attempt, args=(message, taken), name="apprise", daemon=True)
            self._running = thread
            thread.start()
        thread.join(self.limit_seconds)
        if thread.is_alive():
            return Retry(None, f"{self}: no answer in time")
        return Delivered() if taken == [True] else Retry(None, f"{self} did not take the message")

    def close(self) -> None:
        """Nothing is kept open."""

    def __repr__(self) -> str:
        return f"AppriseNotifier({self.kind})"

    def _attempt(self, message: Message, taken: list[bool]) -> None:
        from apprise import NotifyFormat

        text = message.text[:_MOST_CHARACTERS] or message.title
        try:
            answer = self._service.notify(
                body=text, title=message.title, notify_type=_type_of(message), body_format=NotifyFormat.TEXT
            )
        except Exception:  # noqa: BLE001  # a plugin's own fault, whose text may hold the address: a no like others
            return
        taken.append(bool(answer))


def _service(url: str, limits: Limits) -> tuple[Apprise, str]:
    """The service, held to our limits, and what kind it is."""
    try:
        from apprise import Apprise, AppriseAsset
    except ImportError:
        raise ValueError(_NOT_INSTALLED) from None
    _quieten()
    # No files of its own, no time limit of its own: an attempt runs in our thread.
    asset = AppriseAsset(storage_mode="memory", secure_logging=True, service_timeout=0, allow_templates=False)
    try:
        service = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    except Exception:  # noqa: BLE001  # whose text may hold the address
        service = None
    if service is None:
        raise ValueError(_UNREADABLE)
    service.redirects = False
    service.verify_certificate = True
    service.socket_connect_timeout = min(limits.connect_seconds, limits.total_seconds)
    service.socket_read_timeout = min(limits.read_seconds, limits.total_seconds)
    return Apprise(service, asset=asset), url.partition("://")[0].lower()


def _quieten() -> None:
    """The library and its HTTP client log addresses and bodies, and both hold secrets."""
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    logging.getLogger("urllib3").setLevel(logging.ERROR)


def _type_of(message: Message) -> NotifyType:
    from apprise import NotifyType

    if not message.firing:
        return NotifyType.SUCCESS
    return NotifyType.FAILURE if message.critical else NotifyType.WARNING
