"""An attribution as the flat detail of a finding, and in plain words."""

from __future__ import annotations

from detectors.attribution.attribute import Attribution, FeatureCause
from detectors.attribution.segments import Segment
from detectors.performance.coarse_words import values_of
from detectors.performance.layout import PerformanceLayout

CAUSES_SHOWN = 3
_CLEAR, _LIKELY = 0.95, 0.8
_KINDS = {
    "covariate_shift": "other rows (covariate shift)",
    "concept_change": "another relation between rows and outcomes (concept change)",
    "label_shift": "other shares of the outcomes (label shift)",
    "mixed": "both other rows and another relation between rows and outcomes",
}
Value = float | int | str | None


def attribution_detail(layout: PerformanceLayout, attribution: Attribution) -> dict[str, Value]:
    """Numbers and texts by name, as Finding.detail holds them; of causes and segments the first three, `cause_1_..`, `segment_1_..`."""
    low, high = attribution.interval or (None, None)
    detail: dict[str, Value] = {
        "cause": attribution.cause,
        "certainty": attribution.certainty,
        "loss": attribution.loss,
        "loss_before": attribution.before,
        "loss_after": attribution.after,
        "rise": attribution.rise,
        "rise_low": low,
        "rise_high": high,
        "covariate": attribution.covariate,
        "label": attribution.label,
        "concept": attribution.concept,
        "axis": attribution.axis,
    }
    for i, cause in enumerate(attribution.causes[:CAUSES_SHOWN], 1):
        detail |= {
            f"cause_{i}_feature": cause.feature,
            f"cause_{i}_kind": cause.kind,
            f"cause_{i}_contribution": cause.contribution,
            f"cause_{i}_q_value": cause.q_value,
        }
    for i, segment in enumerate(attribution.segments, 1):
        detail |= {
            f"segment_{i}_values": values_of(layout.features[segment.axis], segment.code),
            f"segment_{i}_rows": segment.rows,
            f"segment_{i}_share_before": segment.share_before,
            f"segment_{i}_share": segment.share,
            f"segment_{i}_loss_before": segment.loss_before,
            f"segment_{i}_loss": segment.loss,
            f"segment_{i}_change": segment.change,
            f"segment_{i}_change_low": segment.interval[0],
            f"segment_{i}_change_high": segment.interval[1],
            f"segment_{i}_contribution": segment.contribution,
        }
    return detail


def attribution_sentences(layout: PerformanceLayout, attribution: Attribution) -> list[str]:
    """How far the loss moved, the kind of cause, the feature that adds most, and the values it falls on; only what is known."""
    if attribution.rise is None or attribution.interval is None:
        return [f"Too few labelled rows to say why ({attribution.rows:,}, and {attribution.rows_before:,} before)."]
    rise, (low, high) = attribution.rise, attribution.interval
    moved = "rose" if rise > 0 else "fell"
    told = (
        f"The {attribution.loss} {moved} from {_number(attribution.before)} to {_number(attribution.after)}"
        f" ({rise:+.2g}, 95 % interval {low:+.2g} to {high:+.2g}, {attribution.rows:,} labelled rows)"
    )
    if attribution.cause == "none":
        return [f"{told}: no more than chance."]
    texts = [f"{told}.", _kind(attribution)]
    if attribution.causes:
        texts.append(_cause(attribution.causes[0], rise))
    texts += [_segment(layout, segment, rise, attribution.loss) for segment in attribution.segments]
    return texts


def _kind(attribution: Attribution) -> str:
    sure = attribution.certainty
    if attribution.cause == "unknown" or sure is None:
        return "Neither features nor scores are known that could tell why."
    words = "Clearly" if sure >= _CLEAR else "Probably" if sure >= _LIKELY else "Perhaps"
    shift = (attribution.covariate or 0.0) + (attribution.label or 0.0)
    share = max(0.0, min(1.0, shift / (attribution.rise or 1.0)))
    return f"{words} {_KINDS[attribution.cause]}: {100 * share:.0f} % of it follows from the shift."


def _cause(cause: FeatureCause, rise: float) -> str:
    part = _part(cause.contribution, rise)
    if cause.kind == "mix":
        return f"{part} comes with other values of {cause.feature}."
    return f"{part} comes from some values of {cause.feature}, more than from the others."


def _segment(layout: PerformanceLayout, segment: Segment, rise: float, loss: str) -> str:
    values = values_of(layout.features[segment.axis], segment.code)
    before = "unknown" if segment.loss_before is None else _number(segment.loss_before)
    share = f"{_percent(segment.share)} of rows"
    if abs(segment.share - segment.share_before) >= 0.01:
        share += f", {_percent(segment.share_before)} before"
    return (
        f"{_part(segment.contribution, rise)} falls on {values}: {loss} {before} -> {_number(segment.loss)} on {share}."
    )


def _part(contribution: float, rise: float) -> str:
    share = contribution / rise if rise else 0.0
    moved = "rise" if rise > 0 else "fall"
    if share > 0.9:
        return f"Nearly all of the {moved}"
    return f"Most of the {moved}" if share > 0.5 else f"{100 * share:.0f} % of the {moved}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else "all"
