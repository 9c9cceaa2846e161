"""Incidents: what people are told about is a model in trouble, not one of its alerts.

Alerts here are the plain objects of the results contract (keys `model`, `version`, `monitor`, `subject`, `severity`,
`text` ...); this module reads them and never changes them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

from alerts.alert import Alert
from alerts.envelope import envelope, rfc3339
from alerts.lifecycle import Severity, Status

# A broken input explains the drift it causes, so the likely cause is the monitor that comes first here.
_CAUSES = ("quality", "volume", "data", "joint", "prediction", "performance", "concept")
_EFFECTS = ("performance", "concept")
_NAMED_SUBJECTS = 3
_NAMED_MODELS = 3
NO_EFFECT_KNOWN = "no effect on performance is known yet"


def incident_id(model: str, first_alert_id: str, active: Sequence[str]) -> str:
    """The incident of an alert that fires: that of the model's alerts active by now (oldest first), else a new one.

    `active` holds the incident ids of the model's other active alerts. Transitions of an alert keep the incident it
    began with.
    """
    if active:
        return active[0]
    return hashlib.sha256(f"incident\0{model}\0{first_alert_id}".encode("utf-8", "surrogatepass")).hexdigest()[:32]


def shared(alerts: Iterable[Alert], links: Mapping[str, str], told: Collection[str]) -> dict[str, str]:
    """`links` (an incident's own id -> that of the incident it is part of) with what these alerts add.

    Alerts of several models that fire for the same quality fault of the same feature, in windows that overlap, are one
    incident: that of the first. An incident of `told` keeps its id, since people know it by that; it can take others
    in, and does so before one that nobody has heard of. Links that exist are never changed.
    """
    out = dict(links)
    faults: defaultdict[tuple[str, str], list[Alert]] = defaultdict(list)
    for alert in alerts:
        if alert.firing and alert.monitor == "quality":
            faults[alert.subject, alert.check].append(alert)
    for alike in faults.values():
        alike.sort(key=lambda a: (a.incident not in told, a.starts_at_ms, a.seq, a.id))
        for place, alert in enumerate(alike):
            if alert.incident in out or alert.incident in told or alert.incident in out.values():
                continue
            first = next((a for a in alike[:place] if a.model != alert.model and _overlap(a, alert)), None)
            if first is not None and (home := out.get(first.incident, first.incident)) != alert.incident:
                out[alert.incident] = home
    return out


def lines(
    alerts: Sequence[Mapping[str, object]], *, effect: str | None = None, impact: Mapping[str, float] | None = None
) -> list[str]:
    """What a message says of an incident, newest state of each alert given: the likely cause and the effect on
    performance in the first line, then a line for each of the three features that are most affected.

    `effect` is in words; without it, what a performance or concept alert says. `impact`: feature -> share of the
    change that it explains, by which features are ranked; without it, by cause and severity. Raises ValueError for none.
    """
    if not alerts:
        raise ValueError("an incident message needs at least one alert")
    ranked = sorted(alerts, key=rank)
    firing = [alert for alert in ranked if alert["status"] == Status.FIRING]
    shown = firing or ranked
    critical = any(alert["severity"] == Severity.CRITICAL for alert in shown)
    badge = ("CRITICAL" if critical else "WARNING") if firing else "RESOLVED"
    cause = shown[0]
    said = effect or next(
        (str(a["text"]) for a in shown if a["monitor"] in _EFFECTS and a is not cause and a["text"]), ""
    )
    if not said and cause["monitor"] not in _EFFECTS:
        said = NO_EFFECT_KNOWN
    first = f"[{badge}] {_models(shown)}: {str(cause['text'] or cause['subject']).rstrip('.')}"
    weights = impact or {}
    features: dict[str, Mapping[str, object]] = {}
    for alert in shown:
        if alert["monitor"] in ("quality", "data"):
            features.setdefault(str(alert["subject"]), alert)
    order = sorted(features, key=lambda name: -abs(weights.get(name, 0.0)))  # stable: equals stay in order of rank
    out = [f"{first}; {said}" if said else first]
    out += [f"{name} ({features[name]['monitor']}): {features[name]['text']}" for name in order[:_NAMED_SUBJECTS]]
    if len(order) > _NAMED_SUBJECTS:
        out.append(f"and {len(order) - _NAMED_SUBJECTS} more features")
    return [" ".join(line.split()) for line in out]


def models_of(alerts: Iterable[Mapping[str, object]]) -> list[str]:
    """Every model of the incident once, by name."""
    return sorted({str(alert["model"]) for alert in alerts})


def summary(alerts: Sequence[Mapping[str, object]]) -> str:
    """One line: status, worst severity and model, then the likely cause in its own words, then the next subjects by
    name.
    """
    if not alerts:
        raise ValueError("an incident message needs at least one alert")
    ranked = sorted(alerts, key=rank)
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
    *,
    incident: str,
    status: Status,
    timestamp_ms: int,
    alerts: Sequence[Mapping[str, object]],
    text: str | None = None,
    sequence: int | None = None,
    repeated: bool = False,
) -> bytes:
    """The body of a notification. `status` is the incident's after these transitions: firing while any alert of it is.

    `text` replaces the summary. `sequence`, for a stream: the number of the newest transition that is told, so that no
    two messages hold the same data even where the same thing happens twice; `repeated`: nothing new is told. Rendered
    once, with its outbox row: a second rendering may differ once more is known.
    """
    data: dict[str, object] = {
        "incident": incident,
        "status": str(status),
        "summary": summary(alerts) if text is None else text,
        "alerts": list(alerts),
    }
    if sequence is not None:
        data["sequence"] = sequence
    if repeated:
        data["repeated_at"] = rfc3339(timestamp_ms)
    return envelope("driftline.incident", timestamp_ms, data)


def _overlap(one: Alert, other: Alert) -> bool:
    """Windows [start, end); an alert's first is known from its start to the end of the window that made it fire."""
    return one.starts_at_ms < other.at_ms and other.starts_at_ms < one.at_ms


def _models(alerts: Sequence[Mapping[str, object]]) -> str:
    names = models_of(alerts)
    if len(names) == 1:
        version = alerts[0].get("version")
        return f"{names[0]} {version}" if version else names[0]
    rest = len(names) - _NAMED_MODELS
    named = ", ".join(names[:_NAMED_MODELS]) + (f" and {rest} more" if rest > 0 else "")
    return f"{len(names)} models ({named})"


def rank(alert: Mapping[str, object]) -> tuple[bool, int, bool, str, str]:
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
