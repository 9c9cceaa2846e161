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
    if finding.check == "pool":
        return _pool(finding)
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


def _pool(finding: Finding) -> str:
    detail = finding.detail
    rows = f"only {finding.rows:,} row{'' if finding.rows == 1 else 's'} in {detail.get('longest')}"
    head = f"{finding.subject} ({finding.check}): {rows}, and distributions are judged from {detail.get('min_rows')} on"
    wanted = detail.get("suggested_window")
    if wanted is None:
        return f"{head}; not even a year would hold so many: lower window.min_rows, or do without drift for this model."
    return f"{head}: set window.max to {wanted}, or watch this model in windows of {wanted}."


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


def _selective(finding: Finding) -> str:
    detail = finding.detail
    by = f"{detail.get('axis')} ({_number(finding.value)} sd{_interval(finding)}, {finding.rows:,} rows)"
    if finding.state is State.OK:
        return f"Rows with a label, {_percent(detail.get('coverage'))} of all, are like the others by {by}."
    shares = f"{detail.get('values')}: {_percent(detail.get('share_labelled'))} of rows with a label, {_percent(detail.get('share_unlabelled'))} of those without"
    told = f"Rows with a label, {_percent(detail.get('coverage'))} of all, differ from the others by {by}; {shares} ({_sure(finding)})."
    beyond = detail.get("reweighted_beyond")
    if isinstance(beyond, float) and beyond >= 0.1:
        return f"{told} For {_percent(beyond)} of all rows no label tells how good the predictions are."
    if detail.get("loss_reweighted") is None:
        return told
    return f"{told} Weighted to all rows the {detail.get('loss')} is {_number(detail.get('loss_reweighted'))}, not {_number(detail.get('loss_labelled'))}."


def _coverage(finding: Finding) -> str:
    usual = f"{_percent(finding.baseline)} are usual at this age"
    told = f"{_percent(finding.value)} of {finding.rows:,} rows have a label, {usual}"
    return f"{told}." if finding.state is State.OK else f"{told} ({_sure(finding)})."


def _limit(finding: Finding) -> str:
    told = f"{finding.subject}{' (estimated)' if finding.detail.get('source') == 'estimated' else ''} is {_number(finding.value)}{_interval(finding)}"
    least = finding.detail.get("bound") == "min"
    where = (
        f"within its limit, {'at least' if least else 'at most'}"
        if finding.state is State.OK
        else f"{'below' if least else 'above'} its limit of"
    )
    return f"{told}, {where} {_number(finding.threshold)} ({finding.rows:,} rows)."


def _realised(finding: Finding) -> str:
    detail = finding.detail
    low, high = finding.interval or (None, None)
    between = "" if low is None else f" [{_figure(low, finding.unit)}, {_figure(high, finding.unit)}]"
    now, usual = f"{_figure(finding.value, finding.unit)}{between}", _figure(finding.baseline, finding.unit)
    labelled = detail.get("labelled")
    rows = (
        f"{finding.rows:,} rows"
        if detail.get("source") == "estimated" or not isinstance(labelled, int)
        else f"{labelled:,} of {finding.rows:,} rows labelled"
    )
    name = f"{finding.subject}{' (estimated)' if detail.get('source') == 'estimated' else ''}"
    if finding.state is State.OK or finding.value is None or finding.baseline is None:
        return f"{name} is {now}, {usual} in the reference ({rows})."
    verb = "fell" if finding.value < finding.baseline else "rose"
    return f"{name} {verb} from {usual} in the reference to {now} ({rows})."


def _figure(value: float | None, unit: str | None) -> str:
    """Scores, shares and losses with three decimals, numbers in the outcome's unit with three digits."""
    return "unknown" if value is None else _number(value) if unit == "units" else f"{value:.3f}"


def _other(finding: Finding) -> str:
    unit = f" {finding.unit}" if finding.unit else ""
    usual = "" if finding.baseline is None else f", against {_number(finding.baseline)}"
    return f"{finding.subject} ({finding.check}): {finding.state}, {_number(finding.value)}{unit}{_interval(finding)}{usual}, {finding.rows:,} rows."


def _unknown(finding: Finding) -> str:
    detail = finding.detail
    return (
        f"{detail.get('unknown'):,} of {finding.rows:,} labels are none of those that the reference knows ({detail.get('known')}): "
        "see what the outcomes say, or map it with label_map."
    )


def _value(finding: Finding) -> str:
    return f"{finding.subject} of the outcomes is {_number(finding.value)} ({finding.rows:,} rows)."


_BODIES: dict[str, Callable[[Finding], str]] = {
    "unknown": _unknown,
    "value": _value,
    "distribution": _distribution,
    "silence": _silence,
    "selective": _selective,
    "coverage": _coverage,
    "limit": _limit,
    **dict.fromkeys(("realised", "estimated"), _realised),
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
