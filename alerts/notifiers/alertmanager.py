"""Notifier `alertmanager`: API v2. Alertmanager forgets what is not repeated, so active alerts are sent again and again.

Every member of a cluster gets everything: they tell each other about notifications, not about alerts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

import structlog

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.egress import Egress, HttpEdge, Limits
from alerts.envelope import rfc3339
from alerts.message import Alert, Wording, clean, clip, link, parse_ms

_log = structlog.get_logger("driftline.alerts")

RESEND_MS = 60_000
HEARTBEAT = "DriftlineHeartbeat"
# How many re-sendings may be lost before Alertmanager takes an alert for over. With fewer than three, alerts flap.
_RESENDINGS_HELD = 4
_REASONS_OF_NEW_SEVERITY = ("escalated", "corrected")


class AlertmanagerNotifier:
    """Posts alerts to all of `urls` (`http://alertmanager:9093`, also with a path prefix); one that takes them is enough.

    `labels`: model -> its own labels, so that Alertmanager can route by them. `heartbeat` keeps one more alert firing,
    for a dead man's switch behind Alertmanager. Raises ValueError for a URL that cannot be used.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        labels: Mapping[str, Mapping[str, str]] | None = None,
        token: str | None = None,
        resend_ms: int = RESEND_MS,
        heartbeat: bool = False,
        wording: Wording | None = None,
        limits: Limits | None = None,
        egress: Egress | None = None,
    ) -> None:
        limits = limits or Limits(total_seconds=10.0)
        self._edges = [HttpEdge(f"{url.rstrip('/')}/api/v2/alerts", limits=limits, egress=egress) for url in urls]
        self._headers = {"content-type": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token.strip()}"
        self._labels, self._links = labels or {}, (wording or Wording()).links
        self.resend_ms, self._heartbeat = resend_ms, heartbeat
        self._total_seconds = limits.total_seconds
        self.limit_seconds = 2 * limits.total_seconds  # it may have to wait for a re-sending that is under way
        self.host = ", ".join(edge.host for edge in self._edges)
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(len(self._edges), thread_name_prefix="alertmanager")

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        data = clean(json.loads(body)["data"])
        newest: dict[tuple[object, object], dict[str, Any]] = {}  # in the order of the transitions: the last one holds
        for alert in data.get("alerts", ()):
            firing = alert.get("status") == "firing"
            name, severity = alert.get("fingerprint"), alert.get("severity")
            if firing and alert.get("reason") in _REASONS_OF_NEW_SEVERITY:
                # The severity is one of the labels, and to Alertmanager other labels are another alert.
                other = "warning" if severity == "critical" else "critical"
                newest[name, other] = self._posted({**alert, "severity": other}, data, False, attempted_at_ms)
            newest[name, severity] = self._posted(alert, data, firing, attempted_at_ms)
        posted = list(newest.values())
        if not self._lock.acquire(timeout=self._total_seconds):
            return Retry(None, f"{self.host}: alerts are still being sent again")
        try:
            return self._post(posted, attempted_at_ms)
        finally:
            self._lock.release()

    def resend(self, active: Callable[[], Sequence[Alert]], now_ms: int, well: bool = True) -> Outcome:
        """Post what is active, which `active` gives (alert objects), and `well` the heartbeat. Call it every `resend_ms`.

        Asked for inside the lock: an alert that was resolved meanwhile is not brought back by an older list.
        """
        with self._lock:
            alerts = active()
            posted = [self._posted(alert, {"incident": alert.get("incident")}, True, now_ms) for alert in alerts]
            if self._heartbeat and well:
                posted.append(self._beat(now_ms))
            return self._post(posted, now_ms) if posted else Delivered()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        for edge in self._edges:
            edge.close()

    def __repr__(self) -> str:
        return f"AlertmanagerNotifier({self.host})"

    def _post(self, posted: Sequence[Mapping[str, Any]], now_ms: int) -> Outcome:
        body = json.dumps(posted, separators=(",", ":")).encode()
        outcomes = list(self._pool.map(lambda edge: edge.send(body, self._headers, now_ms), self._edges))
        failed = [outcome for outcome in outcomes if not isinstance(outcome, Delivered)]
        told = "; ".join(outcome.error for outcome in failed)
        if not failed:
            return Delivered()
        if len(failed) < len(outcomes):  # the other learns of active alerts when they are sent again
            _log.warning("alertmanager_member_missed", error=told)
            return Delivered()
        retries = [outcome for outcome in failed if isinstance(outcome, Retry)]
        if not retries:
            return GaveUp(told)
        asked = [retry.after_seconds for retry in retries if retry.after_seconds is not None]
        return Retry(min(asked) if len(asked) == len(retries) else None, told)

    def _posted(self, alert: Alert, data: Mapping[str, Any], firing: bool, now_ms: int) -> dict[str, Any]:
        """One alert of theirs. Its labels hold no value, so they stay the same for as long as it is the same alert."""
        model = str(alert.get("model") or "")
        segment = alert.get("segment")
        labels = {
            **self._labels.get(model, {}),
            "alertname": f"Driftline{str(alert.get('monitor') or '').capitalize()}",
            "model": model,
            "version": alert.get("version"),
            "monitor": alert.get("monitor"),
            "subject": alert.get("subject"),
            "severity": alert.get("severity"),
            "segment": ",".join(f"{k}={v}" for k, v in segment.items()) if isinstance(segment, Mapping) else None,
            "fingerprint": alert.get("fingerprint"),  # two checks of one subject differ in nothing else
        }
        annotations = {
            "summary": clip(str(alert.get("text") or ""), 1_000),
            "incident": data.get("incident"),
            "window": alert.get("window"),
            **{name: link(url, alert, data) for name, url in self._links.items()},
        }
        # A producer's clock may be ahead of ours, and an end before the start is refused.
        begun_ms = min(parse_ms(alert.get("starts_at")) or now_ms, now_ms)
        out: dict[str, Any] = {
            "labels": _filled(labels),
            "annotations": _filled(annotations),
            "startsAt": rfc3339(begun_ms),
            "endsAt": rfc3339(self._held_until_ms(now_ms) if firing else now_ms),
        }
        if self._links:
            out["generatorURL"] = link(next(iter(self._links.values())), alert, data)
        return out

    def _beat(self, now_ms: int) -> dict[str, Any]:
        return {
            "labels": {"alertname": HEARTBEAT, "severity": "none"},
            "annotations": {"summary": "Fires for as long as Driftline is well; when it ends, look at Driftline."},
            "startsAt": rfc3339(now_ms),
            "endsAt": rfc3339(self._held_until_ms(now_ms)),
        }

    def _held_until_ms(self, now_ms: int) -> int:
        return now_ms + _RESENDINGS_HELD * self.resend_ms


def _filled(texts: Mapping[str, object]) -> dict[str, str]:
    """To Alertmanager an empty label is none."""
    return {name: str(text) for name, text in texts.items() if text}
