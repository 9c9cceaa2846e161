"""Limits that users set by hand: `accuracy: {min: 0.9, severity: critical}`, `income.missing: {max: 0.05}`.

A limit reads a figure of another finding of the same window. It fires when the figure's 95 % interval lies wholly beyond it, and is a
warning when only the value does; `on: value` asks the value alone. No correction for many tests: whoever sets a limit wants to hear of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from detectors.finding import Finding, Severity, State

CHECK = "limit"
QUALITY = ("missing", "absent", "invalid", "out_of_range", "unseen")
DISTANCES = ("psi", "js", "ks", "wasserstein")  # in the detail of `distribution`
_UNKNOWN = (State.INSUFFICIENT_DATA, State.NO_DATA, State.NOT_CONFIGURED, State.ERROR, State.STALE)

Detail = dict[str, float | int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a limit is about. `check` None: a metric of the performance monitor. `figure`: a name in the finding's detail instead of its value."""

    subject: str
    check: str | None = None
    figure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """Bounds of one figure, `min` or `max` or both; ValueError for none, for bounds that are no numbers, or in the wrong order.

    `name` is what the user wrote, and the subject of the limit's finding; `subject`, `check`, `figure` as in Target (`limit_of` fills them in).
    """

    name: str
    subject: str
    check: str | None = None
    figure: str | None = None
    min: float | None = None
    max: float | None = None
    severity: Severity = Severity.WARNING
    on: Literal["interval", "value"] = "interval"

    def __post_init__(self) -> None:
        given = [bound for bound in (self.min, self.max) if bound is not None]
        if not given or not all(math.isfinite(bound) for bound in given):
            raise ValueError(f"limit {self.name!r} needs a number as min or max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"limit {self.name!r} has a min of {self.min}, above its max of {self.max}")


def parse_limit(name: str) -> Target:
    """`METRIC`, `FEATURE.missing|absent|invalid|out_of_range|unseen`, `FEATURE.drift` (sd), `FEATURE.psi|js|ks|wasserstein`.

    The last dot counts, as names of features may hold dots. ValueError for anything else; whether the subject exists is not known here.
    """
    subject, dot, last = name.rpartition(".")
    if not dot and name:
        return Target(subject=name)
    if subject and last in QUALITY:
        return Target(subject=subject, check=last)
    if subject and last == "drift":
        return Target(subject=subject, check="distribution")
    if subject and last in DISTANCES:
        return Target(subject=subject, check="distribution", figure=last)
    known = ", ".join((*QUALITY, "drift", *DISTANCES))
    raise ValueError(f"{name!r} is no limit: it must be the name of a metric, or FEATURE. followed by one of {known}")


def limit_of(
    name: str,
    *,
    min: float | None = None,
    max: float | None = None,
    severity: Severity = Severity.WARNING,
    on: Literal["interval", "value"] = "interval",
) -> Limit:
    """The limit that a user wrote under `name`. ValueError as parse_limit and Limit."""
    target = parse_limit(name)
    return Limit(
        name=name,
        subject=target.subject,
        check=target.check,
        figure=target.figure,
        min=min,
        max=max,
        severity=severity,
        on=on,
    )


def judge_limits(limits: Iterable[Limit], findings: Sequence[Finding]) -> list[Finding]:
    """One finding `limit` for each limit that `findings` (of one window) say something about, in the order of `limits`.

    A limit about which they say nothing is left out: it belongs to another monitor's window. A figure that could not be had carries its state
    and reason over. Of a metric the realised figure counts where it could be had, else the estimate. An estimate is a warning at most, unless the
    limit is `on: value` and the estimate is valid.
    """
    found = []
    for limit in limits:
        source = _source(limit, findings)
        if source is not None:
            found.append(_judge(limit, source))
    return found


def _source(limit: Limit, findings: Sequence[Finding]) -> Finding | None:
    about = [finding for finding in findings if finding.subject == limit.subject and finding.check != CHECK]
    if limit.check is not None:
        return next((finding for finding in about if finding.check == limit.check), None)
    realised = [finding for finding in about if _kind(finding) == "realised"]
    estimated = [finding for finding in about if _kind(finding) == "estimated"]
    return next(
        (finding for finding in (*realised, *estimated) if _usable(finding)), next(iter(realised + estimated), None)
    )


def _kind(finding: Finding) -> str | None:
    """`realised` or `estimated` for a metric; other findings of the same name (a feature called accuracy) are neither."""
    source = finding.detail.get("source")
    source = source if isinstance(source, str) else finding.check
    return source if source in ("realised", "estimated") else None


def _usable(finding: Finding) -> bool:
    return finding.state not in _UNKNOWN and _number(finding.value) is not None


def _judge(limit: Limit, source: Finding) -> Finding:
    value, interval, unit = _figure(limit, source)
    detail: Detail = {"on": limit.on}
    for name in ("source", "labelled", "validity"):
        if name in source.detail:
            detail[name] = source.detail[name]
    bound = _bound(limit, value)
    if value is None or source.state in _UNKNOWN:
        state = source.state if source.state in _UNKNOWN else State.INSUFFICIENT_DATA
        detail["reason"] = source.detail.get("reason") or f"{limit.name} has no value here"
        severity = None
    else:
        state, reason = _state(limit, source, value, interval)
        severity = limit.severity if state is State.DRIFT else None
        if reason is not None:
            detail["reason"] = reason
    return Finding(
        subject=limit.name,
        check=CHECK,
        state=state,
        severity=severity,
        value=value,
        interval=interval,
        threshold=bound,
        unit=unit,
        rows=source.rows,
        detail=detail | ({} if bound is None else {"bound": "min" if bound == limit.min else "max"}),
    )


def _state(
    limit: Limit, source: Finding, value: float, interval: tuple[float, float] | None
) -> tuple[State, str | None]:
    low, high = limit.min if limit.min is not None else -math.inf, limit.max if limit.max is not None else math.inf
    if low <= value <= high:
        return State.OK, None
    if _kind(source) == "estimated":
        valid = source.detail.get("validity", "ok") == "ok"
        if limit.on == "value" and valid:
            return State.DRIFT, None
        return State.WARNING, "it is estimated, not yet known from labels"
    if limit.on == "value":
        return State.DRIFT, None
    if interval is None:
        return State.WARNING, "how exact the figure is is not known"
    beyond = interval[1] < low or interval[0] > high
    return (State.DRIFT, None) if beyond else (State.WARNING, "its interval reaches the limit, so it may be chance")


def _bound(limit: Limit, value: float | None) -> float | None:
    """The bound that is broken; else the nearer one."""
    bounds = [bound for bound in (limit.min, limit.max) if bound is not None]
    if value is None:
        return bounds[0] if len(bounds) == 1 else None
    broken = [bound for bound in (limit.min,) if bound is not None and value < bound]
    broken += [bound for bound in (limit.max,) if bound is not None and value > bound]
    return next(iter(broken), min(bounds, key=lambda bound: abs(bound - value)))


def _figure(limit: Limit, source: Finding) -> tuple[float | None, tuple[float, float] | None, str | None]:
    if limit.figure is None:
        interval = source.interval
        known = interval is not None and all(_number(end) is not None for end in interval)
        return _number(source.value), interval if known else None, source.unit
    value = _number(source.detail.get(limit.figure))
    return value, None if value is None else _scaled(limit.figure, value, source), None


def _scaled(figure: str, value: float, source: Finding) -> tuple[float, float] | None:
    """The interval of a distance, from that of the shift in sd: the root of PSI, JS, KS and Wasserstein grow in proportion to a small shift.

    Its lower end is free of what noise alone adds to a distance, so that a window of few rows does not break a limit by its noise.
    """
    psi = _number(source.detail.get("psi"))
    if psi is None or psi <= 0.0 or source.interval is None:
        return None
    low, high = (end / math.sqrt(psi) for end in source.interval)
    low, high = (low * low, high * high) if figure == "psi" else (low, high)
    return value * min(low, 1.0), value * max(high, 1.0)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
