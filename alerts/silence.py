"""Silences as in Alertmanager: whoever's labels fit all matchers is not told of, from a start to an end.

A silence mutes; it changes nothing about the alert. One that is over may be looked up for as long as it is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from alerts.envelope import rfc3339
from alerts.matching import Matcher, Op, fit

_FORMAT = 1


class SilenceState(StrEnum):
    PENDING = "pending"
    ACTIVE = "active"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """In force from `starts_ms` up to, not including, `ends_ms`. `who` set it and `why`: both must be said.

    Raises ValueError for a silence that never holds, or that would mute alerts which have none of its labels.
    """

    id: str
    matchers: tuple[Matcher, ...]
    starts_ms: int
    ends_ms: int
    who: str
    why: str
    expired_by: str | None = None

    def __post_init__(self) -> None:
        if self.expired_by is None and self.ends_ms <= self.starts_ms:
            raise ValueError("a silence must end after it starts")
        if not self.who.strip() or not self.why.strip():
            raise ValueError("a silence says who set it and why")
        if all(matcher.fits({}) for matcher in self.matchers):
            raise ValueError("a silence needs a matcher that does not fit the empty text, or it would mute everything")

    def state(self, now_ms: int) -> SilenceState:
        if now_ms >= self.ends_ms:
            return SilenceState.EXPIRED
        return SilenceState.ACTIVE if now_ms >= self.starts_ms else SilenceState.PENDING

    def mutes(self, labels: Mapping[str, str], now_ms: int) -> bool:
        return self.state(now_ms) is SilenceState.ACTIVE and fit(self.matchers, labels)

    def describe(self) -> str:
        """One line: what, until when, who and why."""
        words = " ".join(map(str, self.matchers))
        return " ".join(f"{words} until {rfc3339(self.ends_ms)} by {self.who}: {self.why}".split())


def silenced_by(labels: Mapping[str, str], silences: Iterable[Silence], now_ms: int) -> Silence | None:
    """The silence that mutes these labels now; of several the one that holds longest."""
    found = [silence for silence in silences if silence.mutes(labels, now_ms)]
    return max(found, key=lambda silence: (silence.ends_ms, silence.id), default=None)


def expire(silence: Silence, now_ms: int, who: str) -> Silence:
    """End it now: an active one at once, one that has not begun never begins. Raises ValueError when it is over."""
    state = silence.state(now_ms)
    if state is SilenceState.EXPIRED:
        raise ValueError(f"silence {silence.id} is over since {rfc3339(silence.ends_ms)}")
    starts_ms = silence.starts_ms if state is SilenceState.ACTIVE else now_ms
    return replace(silence, starts_ms=starts_ms, ends_ms=now_ms, expired_by=who)


def encode_silence(silence: Silence) -> str:
    """One line of JSON with a format number."""
    fields = {
        "format": _FORMAT,
        "id": silence.id,
        "matchers": [[m.name, str(m.op), m.value] for m in silence.matchers],
        "starts_ms": silence.starts_ms,
        "ends_ms": silence.ends_ms,
        "who": silence.who,
        "why": silence.why,
        "expired_by": silence.expired_by,
    }
    return json.dumps(fields, separators=(",", ":"))


def decode_silence(text: str) -> Silence:
    """Undo `encode_silence`. Raises ValueError for another format or broken text."""
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
        raise ValueError("the silence is of an unknown format")
    try:
        matchers = tuple(Matcher(name, Op(op), value) for name, op, value in fields.pop("matchers"))
        return Silence(matchers=matchers, **fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the silence is broken: {error}") from error
