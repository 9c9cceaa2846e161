"""Incidents: what people are told about is a model in trouble, not one of its alerts.

Alerts here are the plain objects of the results contract (keys `model`, `version`, `monitor`, `subject`, `severity`,
`text` ...); this module reads them and never changes them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from alerts.envelope import envelope
from alerts.lifecycle import Severity, Status

# A broken input explains the drift it causes, so the likely cause is the monitor that comes first here.
_CAUSES = ("quality", "volume", "data", "joint", "prediction", "performance", "concept")
_NAMED_SUBJECTS = 3


def incident_id(model: str, first_alert_id: str, active: Sequence[str]) -> str:
    """The incident of an alert that fires: that of the model's alerts active by now (oldest first), else a new one.

    `active` holds the incident ids of the model's other active alerts. Transitions of an alert keep the incident it
    began with.
    """
    if active:
        return active[0]
    return hashlib.sha256(f"incident\0{model}\0{first_alert_id}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def summary(alerts: Sequence[Mapping[str, object]]) -> str:
    """One line: status, worst severity and model, then the likely cause in its own words, then the next subjects by
    name.
    """
    if not alerts:
        raise ValueError("an incident message needs at least one alert")
    ranked = sorted(alerts, key=_rank)
    first, others = ranked[0], ranked[1:]
    firing = any(alert["status"] == Status.FIRING for alert in alerts)
    critical = any(alert["severity"] == Severity.CRITICAL for alert in alerts)
    badge = ("CRITICAL" if critical else "WARNING") if firing else "RESOLVED"
    version = f" {first['version']}" if first.get("version") else ""
    line = f"[{badge}] {first['model']}{version}: {first['text'] or first['subject']}"
    if others:
        named = [f"{alert['subject']} ({alert['monitor']})" for alert in others[: _NAMED_SUBJECTS - 1]]
        rest = len(others) - len(named)
        line += "; also " + ", ".join(named) + (f" and {rest} more" if rest else "")
    return " ".join(line.split())


def render_incident(
    *, incident: str, status: Status, timestamp_ms: int, alerts: Sequence[Mapping[str, object]], text: str | None = None
) -> bytes:
    """The body of a notification. `status` is the incident's after these transitions: firing while any alert of it is.

    `text` replaces the summary. Rendered once, with its outbox row: a second rendering may differ once more is known.
    """
    data = {
        "incident": incident,
        "status": str(status),
        "summary": summary(alerts) if text is None else text,
        "alerts": list(alerts),
    }
    return envelope("driftline.incident", timestamp_ms, data)


def _rank(alert: Mapping[str, object]) -> tuple[bool, int, bool, str, str]:
    """Firing first, then the likelier cause, the worse one, and a fixed order among equals."""
    monitor = str(alert["monitor"])
    cause = _CAUSES.index(monitor) if monitor in _CAUSES else len(_CAUSES)
    return (
        alert["status"] != Status.FIRING,
        cause,
        alert["severity"] != Severity.CRITICAL,
        str(alert["subject"]),
        str(alert.get("version") or ""),
    )
