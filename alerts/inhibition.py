"""Inhibition: an alert that another one explains is not told by itself. Alertmanager's rules, with two of our own.

A data fault inhibits drift of the same feature; drift of the whole model inhibits drift of its single features, which
the message then lists. What inhibits is looked at when a message is due, so a feature that still drifts when its cause
is over is told of then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from alerts.alert import Alert
from alerts.matching import Matcher, fit, parse_matchers


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """While an alert that fits `source` fires, those that fit `target` are muted, if they agree in all `equal` labels.

    In a label of `wider` the source may also have nothing: what holds for all segments explains each of them. An alert
    that fits both sides is never a target of this rule, so that two of a kind cannot mute each other.
    """

    name: str
    source: tuple[Matcher, ...]
    target: tuple[Matcher, ...]
    equal: tuple[str, ...] = ()
    wider: tuple[str, ...] = ()


RULES: tuple[Rule, ...] = (
    Rule(
        name="a data fault explains drift of the same feature",
        source=parse_matchers("monitor=quality"),
        target=parse_matchers("monitor=data"),
        equal=("model", "subject"),
        wider=("version", "segment"),
    ),
    Rule(
        name="missing traffic explains drift",
        source=parse_matchers("monitor=volume"),
        target=parse_matchers('monitor=~"data|joint|prediction"'),
        equal=("model",),
        wider=("version", "segment"),
    ),
    Rule(
        name="drift of the whole model explains drift of single features",
        source=parse_matchers('monitor=~"joint|prediction|performance|concept"'),
        target=parse_matchers("monitor=data"),
        equal=("model",),
        wider=("version", "segment"),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inhibited:
    """`alert` is not told because of `by`."""

    alert: str
    by: str
    text: str


def inhibited(alerts: Iterable[Alert], rules: Sequence[Rule] = RULES) -> Mapping[str, Inhibited]:
    """Alert id -> why it is muted, by the first rule that says so, of several sources the oldest. Cost: linear.

    Only firing alerts inhibit, and only firing ones are inhibited: who heard of an alert also hears that it is over.
    """
    firing = sorted((alert for alert in alerts if alert.firing), key=lambda alert: (alert.starts_at_ms, alert.id))
    found: dict[str, Inhibited] = {}
    for rule in rules:
        sources = _sources(rule, firing)
        if not sources:
            continue
        for alert in firing:
            if alert.id in found or not fit(rule.target, alert.labels) or fit(rule.source, alert.labels):
                continue
            source = next((s for s in sources.get(_key(rule, alert), ()) if _is_wider(rule, s, alert)), None)
            if source is not None:
                text = f"{rule.name}: {source.subject} ({source.monitor})"
                found[alert.id] = Inhibited(alert=alert.id, by=source.id, text=text)
    return found


def _sources(rule: Rule, firing: Sequence[Alert]) -> Mapping[tuple[str, ...], Sequence[Alert]]:
    """By the labels that must be equal; of those that look the same to `wider` only the oldest is kept."""
    sources: defaultdict[tuple[str, ...], dict[tuple[str, ...], Alert]] = defaultdict(dict)
    for alert in firing:
        if fit(rule.source, alert.labels):
            seen = tuple(alert.labels.get(name, "") for name in rule.wider)
            sources[_key(rule, alert)].setdefault(seen, alert)
    return {key: list(alike.values()) for key, alike in sources.items()}


def _key(rule: Rule, alert: Alert) -> tuple[str, ...]:
    return tuple(alert.labels.get(name, "") for name in rule.equal)


def _is_wider(rule: Rule, source: Alert, target: Alert) -> bool:
    return all(source.labels.get(name, "") in ("", target.labels.get(name, "")) for name in rule.wider)
