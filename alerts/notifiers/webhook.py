"""Notifier `webhook`: a signed POST by Standard Webhooks."""

from __future__ import annotations

from collections.abc import Mapping

from alerts.delivery import Outcome
from alerts.egress import Egress, HttpEdge, Limits
from alerts.signing import Signer, unsigned_headers


class WebhookNotifier:
    """POSTs the body, as it is, to one address. The answer's body is not read: the status says all.

    Raises ValueError for a URL or secret that cannot be used.
    """

    def __init__(
        self, url: str, secret: str | None = None, limits: Limits | None = None, egress: Egress | None = None
    ) -> None:
        self._edge = HttpEdge(url, limits=limits, egress=egress)
        self._signer = Signer(secret) if secret is not None else None
        self.limit_seconds = self._edge.limits.total_seconds
        self.host = self._edge.host

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        headers = {"content-type": "application/json", **self._signed(message_id, body, attempted_at_ms)}
        return self._edge.send(body, headers, attempted_at_ms)

    def close(self) -> None:
        self._edge.close()

    def __repr__(self) -> str:
        return f"WebhookNotifier({self.host})"

    def _signed(self, message_id: str, body: bytes, attempted_at_ms: int) -> Mapping[str, str]:
        if self._signer is None:
            return unsigned_headers(message_id, attempted_at_ms)
        return self._signer.headers(message_id, attempted_at_ms, body)
