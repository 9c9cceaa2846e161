"""Who is told: the first route whose `match` fits the labels of an alert."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

LOG = "log"  # the receiver that is always there and always told

_OWN_LABELS = ("severity", "model", "version", "monitor", "subject")


class Reason(StrEnum):
    MATCHED = "matched"
    NO_ROUTES = "no_routes"  # nothing is configured to choose, so every receiver is told
    UNMATCHED = "unmatched"  # routes exist and none fits: the log only


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """All of `match` must be equal; an empty one fits everything. A label that is absent equals the empty text."""

    receiver: str
    match: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`receivers` are in configuration order, the log last. `route` is the place of the route that matched."""

    receivers: tuple[str, ...]
    reason: Reason
    route: int | None = None


def labels(alert: Mapping[str, object], model_labels: Mapping[str, str]) -> dict[str, str]:
    """What routes match on: the model's configured labels, and over them the alert's own."""
    own = {name: str(alert[name]) for name in _OWN_LABELS if alert.get(name) is not None}
    return {**model_labels, **own}


def decide(
    labels: Mapping[str, str], routes: Sequence[Route], receivers: Sequence[str], told: Collection[str] = ()
) -> Decision:
    """The receivers of one transition.

    `told` are receivers that have heard of this episode before: they hear the rest of it too, so that a page which
    fired as a warning is resolved where it fired even though the episode became critical. Those no longer configured
    are left out.
    """
    place = next((i for i, route in enumerate(routes) if _fits(route, labels)), None)
    if not routes:
        chosen, reason = set(receivers), Reason.NO_ROUTES
    elif place is None:
        chosen, reason = set(), Reason.UNMATCHED
    else:
        chosen, reason = {routes[place].receiver}, Reason.MATCHED
    chosen |= set(told)
    ordered = tuple(name for name in receivers if name in chosen and name != LOG)
    return Decision(receivers=(*ordered, LOG), reason=reason, route=place)


def _fits(route: Route, labels: Mapping[str, str]) -> bool:
    return all(labels.get(name, "") == value for name, value in route.match.items())
