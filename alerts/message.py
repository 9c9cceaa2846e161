"""What a person reads, from the body of an outbox row: pure, the same for every receiver that people look at.

Title, what moved (by how much, how sure), since when, what it did to performance, the likely cause, what to do, where
to look. Each receiver lays it out in its own way; `Wording` replaces title and text by templates of the user's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from string import Template
from typing import Any
from urllib.parse import quote

from alerts.incident import rank

Alert = Mapping[str, Any]

FIELDS = ("title", "summary", "status", "severity", "model", "models", "version", "incident", "what", "since", "performance",
          "cause", "action", "links")  # fmt: skip
LINK_FIELDS = ("model", "version", "monitor", "subject", "incident", "alert", "window", "start_ms", "end_ms")

DEFAULT_TITLE = "$title"
DEFAULT_TEXT = """$what

Models: $models
Since: $since
Performance: $performance
Likely cause: $cause
What to do: $action

$links"""

ALERTS_SHOWN = 5
_MODELS_CHARACTERS = 8_000
_TITLE_CHARACTERS, _TEXT_CHARACTERS = 1_000, 1_000
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\ud800-\udfff]")

_DATA_FAULT = (
    "a data fault upstream of the model: {subjects}",
    "Mend the data first; drift of the same inputs follows from it. Do not retrain on faulty data.",
)
# Monitor of the first alert -> likely cause, what to do.
_ADVICE: Mapping[str, tuple[str, str]] = {
    "quality": _DATA_FAULT,
    "volume": (
        "traffic stopped or changed: {subjects}",
        "See whether the producer, its topic or the route to it changed before looking at the model.",
    ),
    "data": (
        "the inputs are no longer those of the reference: {subjects}",
        "If the change is wanted (a launch, a season), adopt a new reference; else find its source before retraining.",
    ),
    "joint": (
        "the inputs go together differently than in the reference: {subjects}",
        "Look for a join, a default or a unit that changed upstream.",
    ),
    "prediction": (
        "the model answers differently, and its inputs do not explain it yet: {subjects}",
        "Compare the deployed version, its thresholds and its preprocessing with the reference.",
    ),
    "performance": (
        "the model is wrong more often, without a fault in its inputs: {subjects}",
        "Look at the segments that lose most; retraining on recent labels may help.",
    ),
    "concept": (
        "inputs and outcomes no longer go together as they did: {subjects}",
        "Retraining on recent labels may help; check first that the labels are right.",
    ),
    "retraining": (  # not of data: a retraining by this target did not help
        "what was trained does not know the change either, or it is not in use: {subjects}",
        "Look at what it was trained on (driftline retraining list, show ID) before the next one is approved.",
    ),
}
_UNKNOWN_MONITOR = ("not clear from these alerts: {subjects}", "Look at the windows around the start.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wording:
    """`title` and `text` are `string.Template`s over FIELDS, `links` name -> URL with placeholders of LINK_FIELDS.

    A line of `text` whose placeholders are all empty is left out. Check with `check_template` and `check_link` first.
    """

    title: str = DEFAULT_TITLE
    text: str = DEFAULT_TEXT
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One incident (or part of it) for people. Texts hold no control characters and can be encoded.

    `facts` are (label, text) in reading order, empty ones left out; they say what the default text says. `custom`:
    `text` is the user's own, so show that. `begun_ms` is event time.
    """

    title: str
    text: str
    custom: bool
    firing: bool
    critical: bool
    incident: str
    model: str
    version: str
    facts: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, str], ...]
    alerts: tuple[Alert, ...]
    begun_ms: int | None


def compose(body: bytes, wording: Wording | None = None) -> Message:
    """The message of an outbox row's body. Of another kind of body (no alerts) only the title and status are known."""
    wording = wording or Wording()
    envelope = clean(json.loads(body))
    data = envelope["data"]
    alerts: list[Alert] = sorted(data.get("alerts", ()), key=_by_rank)
    first: Alert = alerts[0] if alerts else {}
    firing = data.get("status") == "firing"
    links = tuple((name, link(url, first, data)) for name, url in wording.links.items()) if alerts else ()
    values = {
        "title": (str(data.get("summary") or "").splitlines() or [str(envelope.get("type") or "")])[0],
        "summary": str(data.get("summary") or ""),
        "status": str(data.get("status") or ""),
        "severity": str(_worst(alerts)),
        "model": str(first.get("model") or data.get("model") or ""),
        "models": _models(alerts),
        "version": str(first.get("version") or ""),
        "incident": str(data.get("incident") or data.get("id") or ""),
        "what": _what(alerts),
        "since": _since(alerts),
        "performance": _performance(alerts),
        "cause": _advice(alerts)[0] if firing else "",
        "action": _advice(alerts)[1] if firing else "",
        "links": "\n".join(f"{name}: {url}" for name, url in links),
    }
    labels = {
        "Models": "models",
        "Since": "since",
        "Performance": "performance",
        "Likely cause": "cause",
        "What to do": "action",
    }
    return Message(
        title=clip(" ".join(fill(wording.title, values).split()), _TITLE_CHARACTERS),
        text=fill(wording.text, values),
        custom=wording.text != DEFAULT_TEXT,
        firing=firing,
        critical=values["severity"] == "critical",
        incident=values["incident"],
        model=values["model"],
        version=values["version"],
        facts=tuple((label, values[name]) for label, name in labels.items() if values[name]),
        links=links,
        alerts=tuple(alerts),
        begun_ms=min(
            (ms for ms in (parse_ms(alert.get("starts_at")) for alert in alerts) if ms is not None), default=None
        ),
    )


def what_lines(alerts: Sequence[Alert], shown: int = ALERTS_SHOWN) -> list[str]:
    """One line an alert: what moved, by how much, how sure that is. The rest is counted."""
    lines = [_line(alert) for alert in alerts[:shown]]
    rest = len(alerts) - len(lines)
    return [*lines, f"and {rest} more"] if rest else lines


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its values; lines whose placeholders are all empty are left out, and no two empty lines follow."""
    lines: list[str] = []
    for text in template.splitlines():
        line = Template(text)
        names = line.get_identifiers()
        if names and not any(values.get(name) for name in names):
            continue
        filled = line.safe_substitute(values).rstrip()
        if filled or (lines and lines[-1]):
            lines.append(filled)
    return "\n".join(lines).strip()


def link(url: str, alert: Alert, data: Mapping[str, Any]) -> str:
    """A link with its placeholders filled, each value quoted so that it cannot be more than a value."""
    begun, ended = parse_ms(alert.get("starts_at")), parse_ms(alert.get("at"))
    known = {
        **{name: alert.get(name) for name in ("model", "version", "monitor", "subject", "window")},
        "alert": alert.get("id"),
        "incident": data.get("incident"),
        "start_ms": begun,
        "end_ms": ended,
    }
    return Template(url).safe_substitute({n: quote("" if v is None else str(v), safe="") for n, v in known.items()})


def check_template(text: str) -> str:
    """The text itself, if `compose` can fill it. Raises ValueError that says what to mend."""
    return _checked(text, FIELDS)


def check_link(url: str) -> str:
    """The URL itself, if `link` can fill it and its host is fixed. Raises ValueError that says what to mend."""
    if not re.fullmatch(r"https?://[^\s/?#$]+([/?#]\S*)?", url):
        raise ValueError("should be a URL that starts with http:// or https:// and names its host")
    return _checked(url, LINK_FIELDS)


def clip(text: str, characters: int) -> str:
    """At most so many characters; what is cut is marked."""
    return text if len(text) <= characters else text[: characters - 1].rstrip() + "…"


def _checked(text: str, known: Sequence[str]) -> str:
    template = Template(text)
    if not template.is_valid():
        raise ValueError("has a $ that begins no placeholder (write $$ for a dollar sign)")
    if unknown := [name for name in template.get_identifiers() if name not in known]:
        raise ValueError(f"unknown placeholder ${unknown[0]} (known: {', '.join('$' + name for name in known)})")
    return text


def _by_rank(alert: Alert) -> tuple[bool, int, bool, str, str]:
    blank = {"monitor": "", "status": "", "severity": "", "subject": ""}
    return rank({**blank, **alert})


def _line(alert: Alert) -> str:
    where = alert.get("segment")
    segment = f" [{', '.join(f'{k}={v}' for k, v in where.items())}]" if isinstance(where, Mapping) else ""
    told = clip(" ".join(str(alert.get("text") or alert.get("subject") or "").split()), _TEXT_CHARACTERS)
    over = "Over: " if alert.get("status") == "resolved" and not alert.get("corrected") else ""
    return f"{over}{told} ({alert.get('monitor')}, {alert.get('severity')}){segment}"


def _what(alerts: Sequence[Alert]) -> str:
    return "\n".join(what_lines(alerts))


def _models(alerts: Sequence[Alert]) -> str:
    """Every model by name, where it is more than the one in the title."""
    names = sorted({str(alert.get("model") or "") for alert in alerts} - {""})
    return clip(", ".join(names), _MODELS_CHARACTERS) if len(names) > 1 else ""


def _since(alerts: Sequence[Alert]) -> str:
    """The start of the oldest episode, and how long it has gone on in event time."""
    begun = [ms for ms in (parse_ms(alert.get("starts_at")) for alert in alerts) if ms is not None]
    seen = [ms for ms in (parse_ms(alert.get("ends_at") or alert.get("at")) for alert in alerts) if ms is not None]
    if not begun or not seen:
        return ""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=min(begun))
    return f"{moment:%Y-%m-%d %H:%M} UTC, for {span(max(seen) - min(begun))}"


def _performance(alerts: Sequence[Alert]) -> str:
    judged = [alert for alert in alerts if alert.get("monitor") in ("performance", "concept")]
    if judged:
        return " ".join(what_lines(judged, 3))
    return "no alert about it comes with this message" if alerts else ""


def _advice(alerts: Sequence[Alert]) -> tuple[str, str]:
    firing = [alert for alert in alerts if alert.get("status") == "firing"]
    if not firing:
        return "", ""
    monitor = firing[0].get("monitor")
    subjects = dict.fromkeys(str(a.get("subject")) for a in firing if a.get("monitor") == monitor)
    named = ", ".join(list(subjects)[:3]) + (f" and {len(subjects) - 3} more" if len(subjects) > 3 else "")
    cause, action = _ADVICE.get(str(monitor), _UNKNOWN_MONITOR)
    return cause.replace("{subjects}", named), action


def _worst(alerts: Sequence[Alert]) -> str:
    """Of what fires; of everything where nothing does any more."""
    firing = [alert for alert in alerts if alert.get("status") == "firing"] or alerts
    if not firing:
        return ""
    return "critical" if any(alert.get("severity") == "critical" for alert in firing) else "warning"


def span(ms: int) -> str:
    """Such as `2 d 3 h`: the two largest units, cut off."""
    minutes = max(ms, 0) // 60_000
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 2)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "less than a minute"


def parse_ms(time: object) -> int | None:
    if not isinstance(time, str):
        return None
    return (datetime.fromisoformat(time) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def clean(value: Any) -> Any:
    """Without what mail, chat and terminals choke on: control characters and halves of surrogate pairs."""
    if isinstance(value, str):
        return _UNPRINTABLE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list) else value
