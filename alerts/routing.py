"""Who is told: the first route that fits the labels of an alert, and those after it for as long as each says `continue`."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from alerts.grouping import Audience, Timing
from alerts.matching import Matcher, exactly, fit
from alerts.time_windows import TimeWindow, covering

LOG = "log"  # the receiver that is always there and always told
DECISIONS = "retraining"  # in an alert's record: what the gates of retraining decided, as if a receiver had been told

_OWN_LABELS = ("severity", "model", "version", "monitor", "subject", "check", "incident")
_DAY_MS = 86_400_000

ALL_LABELS = "..."  # in `group_by`: each alert is a group of its own
GROUP_BY = ("incident",)
# People wait a little, so that what belongs together arrives together; machines sort it out themselves.
TIMINGS: Mapping[Audience, Timing] = {
    Audience.PEOPLE: Timing(),
    Audience.STREAM: Timing(wait_ms=0, interval_ms=1, repeat_ms=None),
}
DIGEST = Timing(wait_ms=_DAY_MS, interval_ms=_DAY_MS, repeat_ms=None)


class Reason(StrEnum):
    MATCHED = "matched"
    NO_ROUTES = "no_routes"  # nothing is configured to choose, so every receiver is told
    UNMATCHED = "unmatched"  # routes exist and none fits: the log only


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """All of `match` must be equal and all of `matchers` fit; without any, everything does. A label that is absent
    equals the empty text.

    `timing` None: as the receiver's audience has it. `mute` and `active` are Alertmanager's time intervals: nobody is
    told while `mute` covers the moment, nor, where `active` is given, while that does not. `digest`: one message a day.
    """

    receiver: str
    match: Mapping[str, str] = field(default_factory=dict)
    matchers: tuple[Matcher, ...] = ()
    goes_on: bool = False
    group_by: tuple[str, ...] = GROUP_BY
    timing: Timing | None = None
    mute: tuple[TimeWindow, ...] = ()
    active: tuple[TimeWindow, ...] = ()
    digest: bool = False

    @property
    def name(self) -> str:
        """By which a stored group finds its route again when routes were moved about: receiver and conditions."""
        return f"{self.receiver}{{{','.join(str(m) for m in (*exactly(self.match), *self.matchers))}}}"

    def fits(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(name, "") == value for name, value in self.match.items()) and fit(self.matchers, labels)

    def timing_for(self, audience: Audience) -> Timing:
        if self.timing is not None:
            return self.timing
        return DIGEST if self.digest else TIMINGS[audience]

    def out_of_hours(self, now_ms: int) -> str | None:
        """Why the route tells nobody now; None when it does."""
        muting = covering(self.mute, now_ms)
        if muting is not None:
            return f"muted {muting}"
        if self.active and covering(self.active, now_ms) is None:
            return "outside " + ", ".join(map(str, self.active))
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`receivers` are in configuration order, the log last. `route` is the place of the first route that matched;
    `routes` the places of all, each of a receiver that no earlier one names.
    """

    receivers: tuple[str, ...]
    reason: Reason
    route: int | None = None
    routes: tuple[int, ...] = ()


def labels(alert: Mapping[str, object], model_labels: Mapping[str, str]) -> dict[str, str]:
    """What routes match on: the model's configured labels, and over them the alert's own. A segment reads `region=EU`."""
    own = {name: str(alert[name]) for name in _OWN_LABELS if alert.get(name) is not None}
    segment = alert.get("segment")
    if isinstance(segment, Mapping):
        own["segment"] = ",".join(f"{name}={value}" for name, value in sorted(segment.items()))
    return {**model_labels, **own}


def decide(
    labels: Mapping[str, str], routes: Sequence[Route], receivers: Sequence[str], told: Collection[str] = ()
) -> Decision:
    """The receivers of one transition.

    `told` are receivers that have heard of this episode before: they hear the rest of it too, so that a page which
    fired as a warning is resolved where it fired even though the episode became critical. Those no longer configured
    are left out.
    """
    places = matching(labels, routes)
    if not routes:
        chosen, reason = set(receivers), Reason.NO_ROUTES
    elif not places:
        chosen, reason = set(), Reason.UNMATCHED
    else:
        chosen, reason = {routes[place].receiver for place in places}, Reason.MATCHED
    chosen |= set(told)
    ordered = tuple(name for name in receivers if name in chosen and name != LOG)
    return Decision(receivers=(*ordered, LOG), reason=reason, route=places[0] if places else None, routes=places)


def matching(labels: Mapping[str, str], routes: Sequence[Route]) -> tuple[int, ...]:
    """Places of the routes that tell of an alert with these labels: the first that fits, and on while they continue.

    Of several that name one receiver only the first counts: nobody is told the same thing twice.
    """
    found: dict[str, int] = {}
    for place, route in enumerate(routes):
        if not route.fits(labels):
            continue
        found.setdefault(route.receiver, place)
        if not route.goes_on:
            break
    return tuple(found.values())


def group_labels(labels: Mapping[str, str], group_by: Sequence[str]) -> dict[str, str]:
    """The part of the labels that alerts of one group share; absent ones are left out."""
    names = sorted(labels) if ALL_LABELS in group_by else group_by
    return {name: labels[name] for name in names if labels.get(name)}
