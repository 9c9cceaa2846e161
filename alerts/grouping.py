"""Groups: which alerts share a message, and when the next one is due. One small state machine per group.

`group_wait` after a group's first alert the first message goes out; from then on the group is looked at every
`group_interval`, and a message goes out when something changed, or `repeat_interval` after the last one. That is
Alertmanager's behaviour, with four differences that follow from alerts with a memory:

* a stream (a webhook) is sent every transition, in order, also of an episode that was over before its message was due
  or while nobody was to be told;
* who heard that an alert fires hears that it is over, even if it is muted by then;
* a group is due by its own clock, never at once because its windows lie in the past;
* an alert that is worse than told is a change; one that somebody acknowledged is not repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum

from alerts.alert import Alert
from alerts.lifecycle import Severity

_FORMAT = 1
_HOUR_MS = 3_600_000
_MUTED_LOOK_MS = 60_000  # a stream has no interval to speak of, and silences end when they end


class Audience(StrEnum):
    """`people` are told what is so; a `stream` is told everything that happened."""

    PEOPLE = "people"
    STREAM = "stream"


class Why(StrEnum):
    """Why a message goes out."""

    NEW = "new"
    ESCALATED = "escalated"
    RESOLVED = "resolved"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """In Alertmanager's words: `group_wait`, `group_interval`, `repeat_interval`. `repeat_ms` None: never again."""

    wait_ms: int = 30_000
    interval_ms: int = 300_000
    repeat_ms: int | None = 12 * _HOUR_MS

    def __post_init__(self) -> None:
        if self.wait_ms < 0 or self.interval_ms <= 0 or (self.repeat_ms is not None and self.repeat_ms <= 0):
            raise ValueError("group_wait must not be negative, group_interval and repeat_interval must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One alert of a group. `told` is the severity that was last told of it while it fires, "" for none.

    `waiting` are the transitions (their seq) that were not told yet, in order.
    """

    alert: str
    severity: Severity
    firing: bool
    told: str = ""
    waiting: tuple[int, ...] = ()
    acknowledged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """`look_ms` is when it must be looked at next, None when only an arrival can change anything."""

    members: Mapping[str, Member]
    look_ms: int | None
    looked_ms: int | None = None
    sent_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What one message says: alert ids, as they joined the group. `transitions` are the seq numbers of all that it tells
    for the first time; `muted` are those that fire and are not told by themselves, for mention.
    """

    why: Why
    firing: tuple[str, ...]
    resolved: tuple[str, ...]
    transitions: tuple[int, ...]
    muted: tuple[str, ...] = ()


class Untold(StrEnum):
    """Why an alert of a group is in no message now."""

    WAITING = "waiting"  # group_wait or group_interval runs
    MUTED = "muted"
    ALREADY_TOLD = "already_told"
    OVER_BEFORE_TOLD = "over_before_told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """`group` None: nothing is left of it. `untold` holds every member that `notice` does not tell anything new of."""

    group: Group | None
    notice: Notice | None
    untold: Mapping[str, Untold]


def arrive(group: Group | None, alerts: Iterable[Alert], timing: Timing, now_ms: int) -> Group:
    """The group with these transitions, which must come in order of their seq; one that it had before changes nothing."""
    group = group or Group(members={}, look_ms=now_ms + timing.wait_ms)
    members = dict(group.members)
    for alert in alerts:
        member = members.get(alert.id) or Member(alert=alert.id, severity=alert.severity, firing=alert.firing)
        if member.waiting and alert.seq <= member.waiting[-1]:
            continue
        members[alert.id] = replace(
            member,
            severity=alert.severity,
            firing=alert.firing,
            waiting=(*member.waiting, alert.seq),
            acknowledged=alert.acknowledged,
        )
    tick_ms = _next_tick_ms(group, timing, now_ms)
    look_ms = tick_ms if group.look_ms is None else min(group.look_ms, tick_ms)
    return replace(group, members=members, look_ms=look_ms)


def look(
    group: Group, timing: Timing, audience: Audience, muted: Mapping[str, object], now_ms: int, *, flush: bool = False
) -> Look:
    """What to send now, and when to look again. `muted` holds the ids of alerts that must not be told by themselves.

    Before its time a group sends nothing, unless `flush`: the service drains and will not be there later.
    """
    if not flush and (group.look_ms is None or now_ms < group.look_ms):
        return Look(group=group, notice=None, untold=dict.fromkeys(group.members, Untold.WAITING))
    notice = _notice(group, timing, audience, muted, now_ms)
    untold: dict[str, Untold] = {}
    kept: dict[str, Member] = {}
    for name, member in group.members.items():
        after, reason = _after(member, notice, audience, name in muted)
        if reason is not None:
            untold[name] = reason
        if after is not None:
            kept[name] = after
    if not kept:
        return Look(group=None, notice=notice, untold=untold)
    sent_ms = now_ms if notice is not None else group.sent_ms
    new = replace(group, members=kept, looked_ms=now_ms, sent_ms=sent_ms)
    return Look(group=replace(new, look_ms=_look_again_ms(new, timing, audience, now_ms)), notice=notice, untold=untold)


def acknowledge(group: Group, alert: str, *, taken: bool = True) -> Group:
    """Somebody has the alert in hand (or not any more): the group is not repeated while that is so of all that fires."""
    member = group.members.get(alert)
    if member is None:
        return group
    # Whether a repetition is due by now is for the next look to find out.
    look_ms = group.looked_ms if group.look_ms is None and not taken else group.look_ms
    return replace(group, members={**group.members, alert: replace(member, acknowledged=taken)}, look_ms=look_ms)


def joined(one: Group | None, other: Group) -> Group:
    """Both as one group, when they turn out to be about the same: looked at when either was to be."""
    if one is None:
        return other
    looks = [group.look_ms for group in (one, other) if group.look_ms is not None]
    return replace(one, members={**other.members, **one.members}, look_ms=min(looks, default=None))


def taken_back(group: Group) -> Group:
    """The group as if its last message had not been sent: it was held up, and then there was nothing left to tell."""
    members = {name: replace(member, told="") for name, member in group.members.items()}
    return replace(group, members=members, sent_ms=None)


def encode_group(group: Group) -> str:
    """One line of JSON with a format number."""
    members = [[m.alert, m.severity, m.firing, m.told, list(m.waiting), m.acknowledged] for m in group.members.values()]
    fields = {**asdict(replace(group, members={})), "members": members, "format": _FORMAT}
    return json.dumps(fields, separators=(",", ":"))


def decode_group(text: str) -> Group:
    """Undo `encode_group`. Raises ValueError for another format or broken text."""
    fields = json.loads(text)
    if not isinstance(fields, dict) or fields.pop("format", None) != _FORMAT:
        raise ValueError("the group is of an unknown format")
    try:
        members = [
            Member(alert=a, severity=Severity(s), firing=f, told=t, waiting=tuple(w), acknowledged=k)
            for a, s, f, t, w, k in fields.pop("members")
        ]
        return Group(members={member.alert: member for member in members}, **fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the group is broken: {error}") from error


def _notice(
    group: Group, timing: Timing, audience: Audience, muted: Mapping[str, object], now_ms: int
) -> Notice | None:
    open_members = [m for m in group.members.values() if m.alert not in muted or (not m.firing and m.told)]
    firing = [m for m in open_members if m.firing]
    over = [m for m in open_members if not m.firing and (m.told or (audience is Audience.STREAM and m.waiting))]
    news = [m for m in firing if _is_news(m, audience)]
    if any(not m.told for m in news):
        why = Why.NEW
    elif news:
        why = Why.ESCALATED
    elif over:
        why = Why.RESOLVED
    elif firing and _is_due_again(group, firing, timing, now_ms):
        why = Why.REPEATED
    else:
        return None
    told = news if audience is Audience.STREAM and why is not Why.REPEATED else firing
    return Notice(
        why=why,
        firing=tuple(m.alert for m in told),
        resolved=tuple(m.alert for m in over),
        transitions=tuple(sorted(seq for m in (*told, *over) for seq in m.waiting)),
        muted=tuple(m.alert for m in group.members.values() if m.firing and m.alert in muted),
    )


def _is_news(member: Member, audience: Audience) -> bool:
    return member.told != member.severity or (audience is Audience.STREAM and bool(member.waiting))


def _is_due_again(group: Group, firing: Sequence[Member], timing: Timing, now_ms: int) -> bool:
    if timing.repeat_ms is None or group.sent_ms is None or all(m.acknowledged for m in firing):
        return False
    return now_ms >= group.sent_ms + timing.repeat_ms


def _after(
    member: Member, notice: Notice | None, audience: Audience, is_muted: bool
) -> tuple[Member | None, Untold | None]:
    """The member after a look (None: it may be forgotten), and why nothing was told of it."""
    name = member.alert
    if notice is not None and name in notice.resolved:
        return None, None
    if notice is not None and name in notice.firing:
        reason = Untold.ALREADY_TOLD if not _is_news(member, audience) and notice.why is not Why.REPEATED else None
        return replace(member, told=str(member.severity), waiting=()), reason
    # What is muted keeps its transitions: they are told when it is muted no longer.
    if audience is Audience.STREAM:
        return (member if member.firing or member.waiting else None), _untold(is_muted and bool(member.waiting))
    if member.firing:
        return member, _untold(is_muted)
    return None, Untold.MUTED if is_muted else Untold.OVER_BEFORE_TOLD


def _untold(is_muted: bool) -> Untold:
    return Untold.MUTED if is_muted else Untold.ALREADY_TOLD


def _next_tick_ms(group: Group, timing: Timing, now_ms: int) -> int:
    """The first moment from now on at which the group is looked at: never before its turn."""
    if group.looked_ms is None:
        return group.look_ms if group.look_ms is not None else now_ms + timing.wait_ms
    passed = max(0, now_ms - group.looked_ms)
    return group.looked_ms + max(1, -(-passed // timing.interval_ms)) * timing.interval_ms


def _look_again_ms(group: Group, timing: Timing, audience: Audience, now_ms: int) -> int | None:
    firing = [m for m in group.members.values() if m.firing]
    looks = []
    if any(_is_news(m, audience) for m in firing) or any(m.waiting for m in group.members.values() if not m.firing):
        # Muted: nobody knows for how long.
        looks.append(now_ms + max(timing.interval_ms, _MUTED_LOOK_MS))
    if timing.repeat_ms is not None and group.sent_ms is not None and not all(m.acknowledged for m in firing):
        ticks = max(1, -(-(group.sent_ms + timing.repeat_ms - now_ms) // timing.interval_ms))
        looks.append(now_ms + ticks * timing.interval_ms)
    return min(looks, default=None)
