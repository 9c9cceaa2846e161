"""Findings in words: what moved, from what to what, by how much, how sure that is, and on how many rows."""

from __future__ import annotations

from collections.abc import Callable

from detectors.finding import Finding, State

_SHARES = {
    "missing": "is missing",
    "absent": "is absent",
    "invalid": "is invalid",
    "out_of_range": "is out of range",
    "unseen": "holds values the reference never had",
}


def sentence(finding: Finding) -> str:
    """One plain sentence, or two where a state needs its reason. Unknown checks are named as they are; never raises for a Finding of ours."""
    reason = finding.detail.get("reason")
    if finding.state in (State.INSUFFICIENT_DATA, State.NOT_CONFIGURED, State.NO_DATA):
        words = {
            State.INSUFFICIENT_DATA: "too little data",
            State.NOT_CONFIGURED: "not watched",
            State.NO_DATA: "no data",
        }
        return f"{finding.subject} ({finding.check}): {words[finding.state]}" + (f": {reason}." if reason else ".")
    if finding.value is None:
        return f"{finding.subject} ({finding.check}): {finding.state}."
    body = _BODIES.get(finding.check, _other)(finding)
    return f"{body} A warning only: {reason}." if finding.state is State.WARNING and reason else body


def _distribution(finding: Finding) -> str:
    rows = f"{finding.rows:,} rows"
    visible = (
        f"; a shift of {_number(finding.smallest_visible)} sd would have been seen" if finding.smallest_visible else ""
    )
    if finding.state is State.OK:
        return f"{finding.subject} is distributed like the reference ({_number(finding.value)} sd, {rows}{visible})."
    return f"{finding.subject} has moved by {_number(finding.value)} sd{_interval(finding)}{_from_to(finding)} ({_sure(finding)}, {rows})."


def _from_to(finding: Finding) -> str:
    detail = finding.detail
    if "mean" in detail:
        return f", its mean from {_number(detail.get('reference_mean'))} to {_number(detail.get('mean'))}"
    if "category" in detail:
        return (
            f", {detail['category']} from {_percent(detail.get('reference_share'))} to {_percent(detail.get('share'))}"
        )
    return ""


def _share(finding: Finding) -> str:
    what = f"{finding.subject} {_SHARES[finding.check]} in {_percent(finding.value)} of {finding.rows:,} rows"
    usual = f"{_percent(finding.baseline)} in the reference"
    if finding.state is State.OK:
        visible = f"; {_percent(finding.smallest_visible)} would have been seen" if finding.smallest_visible else ""
        return f"{what} ({usual}{visible})."
    low, high = finding.interval or (None, None)
    between = "" if low is None else f", 95 % interval {_percent(low)} to {_percent(high)}"
    return f"{what}{between}, against {usual} ({_sure(finding)})."


def _silence(finding: Finding) -> str:
    usual = "" if finding.baseline is None else f", {finding.baseline:,.0f} are usual"
    if finding.state is State.OK:
        return f"{finding.rows:,} rows came{usual}."
    return f"Not one row came{usual} ({_sure(finding)})."


def _other(finding: Finding) -> str:
    unit = f" {finding.unit}" if finding.unit else ""
    usual = "" if finding.baseline is None else f", against {_number(finding.baseline)}"
    return f"{finding.subject} ({finding.check}): {finding.state}, {_number(finding.value)}{unit}{_interval(finding)}{usual}, {finding.rows:,} rows."


_BODIES: dict[str, Callable[[Finding], str]] = {
    "distribution": _distribution,
    "silence": _silence,
    **dict.fromkeys(_SHARES, _share),
}


def _interval(finding: Finding) -> str:
    if finding.interval is None:
        return ""
    return f" (95 % interval {_number(finding.interval[0])} to {_number(finding.interval[1])})"


def _sure(finding: Finding) -> str:
    """The corrected p-value where there is one: of all such findings at most this share is chance."""
    p = finding.p_value if finding.q_value is None else finding.q_value
    name = "p" if finding.q_value is None else "q"
    if p is None:
        return "no p-value"
    return f"{name} below 1e-12" if p < 1e-12 else f"{name} = {p:.2g}"


def _number(value: float | str | None) -> str:
    return (
        "unknown"
        if value is None
        else value
        if isinstance(value, str)
        else f"{value:.3g}"
        if abs(value) < 1000
        else f"{value:,.0f}"
    )


def _percent(value: float | str | None) -> str:
    """Three digits, but 100 % only for all and 0 % only for none."""
    if value is None or isinstance(value, str):
        return "unknown"
    text = f"{100 * value:.3g} %"
    return "over 99.9 %" if value < 1 and text == "100 %" else text
