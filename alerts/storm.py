"""A limit for receivers that wake people: at most so many messages in so much time, the rest in one that counts them.

The last message of the limit is kept for that summary. What it collapses is listed there and reaches every other
receiver as usual, so nothing is lost; nobody is woken forty times by one broken network either. This has nothing to do
with the false-alarm budget, which sets error rates and never mutes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from alerts.envelope import rfc3339

_FORMAT = 1
_MODELS_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `messages` within any `per_ms`. A summary waits `settle_ms` for what still comes, so that it is complete."""

    messages: int = 6
    per_ms: int = 3_600_000
    settle_ms: int = 60_000

    def __post_init__(self) -> None:
        if self.messages < 1 or self.per_ms <= 0 or not 0 <= self.settle_ms < self.per_ms:
            raise ValueError("a limit has at least 1 message, a positive span, and settles within it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A message that would wake somebody: `key` names its group, `models` whom it concerns."""

    key: str
    incident: str
    models: tuple[str, ...]
    is_critical: bool
    text: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StormState:
    """`sent_ms` are the times of the messages that still count, `held` those that wait for a summary. `summaries`: the id
    of each that is open, and the groups it stands for. `alone` are the groups that a message of their own was sent of.
    """

    sent_ms: tuple[int, ...] = ()
    held: tuple[Held, ...] = ()
    summaries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alone: frozenset[str] = frozenset()

    def waits_for_no_end(self, key: str) -> bool:
        """Nobody was woken by this group alone: it was held or is part of a summary, and has no end of its own."""
        held = any(message.key == key for message in self.held)
        return key not in self.alone and (held or any(key in keys for keys in self.summaries.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One message in place of many. `id` is its own, stable while it lasts."""

    id: str
    text: str
    held: tuple[Held, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """`passed` are the keys of messages to send by themselves now, `look_ms` is when to ask again without new ones."""

    state: StormState
    passed: tuple[str, ...]
    summary: Summary | None
    look_ms: int | None


def admit(state: StormState, limit: Limit, wanted: Sequence[Held], now_ms: int, *, flush: bool = False) -> Admitted:
    """Which of the wanted messages pass now, critical ones first, and whether a summary is due.

    A message of a group that waits already takes its place. Of a single one that waits no summary is made: it passes by
    itself. `flush`: the service drains, what waits is summed up at once though the limit be exceeded by that one.
    """
    sent = [moment for moment in state.sent_ms if moment > now_ms - limit.per_ms]
    replaced = {message.key for message in wanted}
    since = {held.key: held.at_ms for held in state.held}
    waiting = [held for held in state.held if held.key not in replaced]
    passed: list[str] = []
    reserve = 1 if limit.messages > 1 else 0
    for message in sorted(wanted, key=lambda message: not message.is_critical):
        if not waiting and limit.messages - len(sent) > reserve and message.key not in since:
            sent.append(now_ms)
            passed.append(message.key)
        else:
            waiting.append(replace(message, at_ms=since.get(message.key, now_ms)))
    summary, summaries = None, dict(state.summaries)
    if waiting and (flush or _is_due(waiting, sent, limit, now_ms)):
        sent.append(now_ms)
        if len(waiting) == 1:
            passed.append(waiting[0].key)
        else:
            summary = _summary(waiting, now_ms)
            summaries[summary.id] = tuple(held.key for held in summary.held)
        waiting = []
    alone = state.alone | set(passed)
    new = StormState(sent_ms=tuple(sent), held=tuple(waiting), summaries=summaries, alone=alone)
    return Admitted(state=new, passed=tuple(passed), summary=summary, look_ms=_look_ms(new, limit))


def end(state: StormState, open_keys: Collection[str]) -> tuple[StormState, tuple[str, ...]]:
    """The state when of all groups only these are left, and the ids of summaries that are over with that."""
    over = tuple(name for name, keys in state.summaries.items() if not any(key in open_keys for key in keys))
    summaries = {name: keys for name, keys in state.summaries.items() if name not in over}
    return replace(state, summaries=summaries, alone=state.alone & set(open_keys)), over


def forget(state: StormState, key: str) -> StormState:
    """Nothing of the group waits any more."""
    return replace(state, held=tuple(held for held in state.held if held.key != key))


def summary_text(held: Sequence[Held]) -> str:
    """One line that names counts: `Storm: 37 incidents in 12 models (30 critical) since ...: a, b, c and 9 more models`."""
    models = Counter(model for message in held for model in dict.fromkeys(message.models))
    named = [name for name, _ in sorted(models.items(), key=lambda item: (-item[1], item[0]))[:_MODELS_NAMED]]
    rest = len(models) - len(named)
    critical = sum(message.is_critical for message in held)
    first_ms = min(message.at_ms for message in held)
    line = (
        f"Storm: {len(held)} incidents in {len(models)} {'model' if len(models) == 1 else 'models'} ({critical} critical) "
        f"since {rfc3339(first_ms)}, told in this one message: {', '.join(named)}"
    )
    return " ".join((line + (f" and {rest} more models" if rest else "")).split())


def encode_storm(state: StormState) -> str:
    """One line of JSON with a format number."""
    fields = {"format": _FORMAT, **asdict(state), "alone": sorted(state.alone)}
    return json.dumps(fields, separators=(",", ":"))


def decode_storm(text: str) -> StormState:
    """Undo `encode_storm`. Raises ValueError for another format or broken text."""
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
        raise ValueError("the storm state is of an unknown format")
    try:
        held = tuple(Held(**{**entry, "models": tuple(entry["models"])}) for entry in fields["held"])
        summaries = {name: tuple(keys) for name, keys in fields["summaries"].items()}
        sent_ms, alone = tuple(fields["sent_ms"]), frozenset(fields["alone"])
        return StormState(sent_ms=sent_ms, held=held, summaries=summaries, alone=alone)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the storm state is broken: {error}") from error


def _is_due(waiting: Sequence[Held], sent: Sequence[int], limit: Limit, now_ms: int) -> bool:
    settled = now_ms >= min(held.at_ms for held in waiting) + limit.settle_ms
    return settled and len(sent) < limit.messages


def _look_ms(state: StormState, limit: Limit) -> int | None:
    if not state.held:
        return None
    settled_ms = min(held.at_ms for held in state.held) + limit.settle_ms
    if len(state.sent_ms) < limit.messages:
        return settled_ms
    return max(settled_ms, sorted(state.sent_ms)[-limit.messages] + limit.per_ms)


def _summary(waiting: Iterable[Held], now_ms: int) -> Summary:
    held = tuple(sorted(waiting, key=lambda message: (not message.is_critical, message.at_ms, message.key)))
    return Summary(id=f"storm-{now_ms}", text=summary_text(held), held=held)
