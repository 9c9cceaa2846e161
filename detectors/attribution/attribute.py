"""Why did performance fall? The rise of the mean loss between two profiles, split by causes.

The loss is that of the profiles: 1 where decision and label differ, in regression the absolute error as a share of the reference's
range of outcomes, at most 1. Labelled rows with a decision count, each alike (weights are left out). Three questions, one after the other:

    what kind     detectors.attribution.cause     covariate shift, label shift or concept change
    which feature detectors.attribution.split     mix part: its values came more often where the loss is high; local part: its loss rose
                                                  in some values more than in others. Ranked by what they add to the rise, not by how far they drifted
    which values  detectors.attribution.segments  at most three, with their loss before and after

Parts of related features overlap: they are readings of one rise, not terms of a sum. Intervals take rows to be independent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.attribution.cause import Cause, ClassTables, Verdict, significant, verdict
from detectors.attribution.segments import Segment, segments
from detectors.attribution.split import CELL_ROWS, Losses, Split, mean_with_error, split
from detectors.bins import NumericBins
from detectors.drift.grouping import grouping
from detectors.drift.resemblance import Floats, benjamini_hochberg
from detectors.performance.layout import LOSS_SCALE, PerformanceLayout
from detectors.performance.profile import PerformanceProfile

LEVEL = 0.05  # false discovery rate over features, for each kind of cause
SCORE_GROUPS = 10
_TWO_SIDED_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureCause:
    """One feature as a cause. kind "mix": other values; "rate": another loss for some of its values.

    `contribution`, in units of loss: its mix part, or what the values that stand out add to the rise. `interval` (95 %) is of the mix
    part; None for a rate, whose evidence is the chi-square of "the loss changed alike in all values". `q_value`: Benjamini-Hochberg over
    the features. `unevenness` (rate; 0 for mix): standard deviation over rows of the change of the loss of their value.
    """

    feature: str
    kind: Literal["mix", "rate"]
    contribution: float
    interval: tuple[float, float] | None
    q_value: float
    unevenness: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSplit:
    """`mix` + `rate` = the rise, for every feature. `p_value` of "the loss changed alike in all its values"."""

    feature: str
    mix: float
    mix_interval: tuple[float, float]
    rate: float
    rate_interval: tuple[float, float]
    local: float
    chi2: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """`rise` = `after` - `before`, mean losses of `rows_before` and `rows` labelled rows; positive: performance fell.

    `cause` is "none" where the interval of the rise holds 0, "unknown" (everything else empty) with fewer than 30 labelled rows on one
    side. `covariate` + `label` + `concept` = `rise`. `certainty` see Verdict. `axis`: what `covariate` was measured along, a feature or "score".
    `causes`: those that are not chance, the likeliest first; `segments` belong to `features` by place.
    """

    loss: str
    rows_before: int
    rows: int
    before: float | None = None
    after: float | None = None
    rise: float | None = None
    interval: tuple[float, float] | None = None
    cause: Cause = "unknown"
    certainty: float | None = None
    covariate: float | None = None
    label: float | None = None
    concept: float | None = None
    axis: str | None = None
    causes: tuple[FeatureCause, ...] = ()
    segments: tuple[Segment, ...] = ()
    features: tuple[FeatureSplit, ...] = ()


def attribute(layout: PerformanceLayout, baseline: PerformanceProfile, window: PerformanceProfile) -> Attribution:
    """Why the mean loss of `window` differs from that of `baseline`; both of `layout`. Never raises for profiles of any content."""
    names = tuple(feature.name for feature in layout.features)
    tables = class_tables(layout, baseline.vector, window.vector)
    total = _overall(layout, baseline.vector), _overall(layout, window.vector)
    by_feature = feature_losses(layout, baseline.vector), feature_losses(layout, window.vector)
    loss = "scaled absolute error" if layout.task == "regression" else "error rate"
    return attribute_losses(names, total, by_feature, tables, loss=loss)


def attribute_losses(
    names: tuple[str, ...],
    total: tuple[Losses, Losses],
    by_feature: tuple[Losses, Losses],
    tables: ClassTables | None,
    *,
    loss: str = "loss",
) -> Attribution:
    """`attribute` on plain sums, baseline first. `total`: one axis of one cell. `by_feature`: an axis a feature, in the order of `names`, over the same rows."""
    rows_before, rows = int(total[0].rows.sum()), int(total[1].rows.sum())
    if min(rows_before, rows) < CELL_ROWS:
        return Attribution(loss=loss, rows_before=rows_before, rows=rows)
    (before, error_before), (after, error_after) = mean_with_error(total[0]), mean_with_error(total[1])
    rise, error = after - before, float(np.hypot(error_before, error_after))
    parts = split(*by_feature) if names else None
    axes, axis_names = _axes(by_feature, names, tables)
    found = verdict((rise, error), split(*axes), tables) if axes is not None else _alone(rise, error)
    causes = _causes(names, parts, np.sign(rise)) if parts is not None and found.cause != "none" else []
    shown = segments(*by_feature, parts) if parts is not None and found.cause != "none" else []
    return Attribution(
        loss=loss,
        rows_before=rows_before,
        rows=rows,
        before=before,
        after=after,
        rise=rise,
        interval=_interval(rise, error),
        cause=found.cause,
        certainty=found.certainty,
        covariate=found.covariate,
        label=found.label,
        concept=found.concept,
        axis=None if found.axis is None else axis_names[found.axis],
        causes=tuple(_ranked(causes, found.cause)),
        segments=tuple(shown),
        features=_feature_splits(names, parts),
    )


def feature_losses(layout: PerformanceLayout, vector: NDArray[np.int64]) -> Losses:
    """Labelled rows and their losses by (feature, coarse code)."""
    return Losses(
        rows=np.maximum(layout.view(vector, "feature_labelled"), 0).astype(np.float64),
        sums=layout.view(vector, "feature_loss") / LOSS_SCALE,
        squares=layout.view(vector, "feature_loss_squared") / LOSS_SCALE,
    )


def class_tables(
    layout: PerformanceLayout, baseline: NDArray[np.int64], window: NDArray[np.int64]
) -> ClassTables | None:
    """Rows by what the model said and the class that came. Binary: ten groups of the baseline's scores, and no score, by decision; multiclass: by decision.

    None in regression. Rows without a decision have no loss and are left out.
    """
    if layout.task == "regression":
        return None
    before, after = (np.maximum(layout.view(vector, "labelled"), 0).astype(np.float64) for vector in (baseline, window))
    if layout.task == "multiclass":
        return ClassTables(before=before[:-1], after=after[:-1], loss=1.0 - np.eye(len(layout.classes)))
    group = score_groups(layout, baseline)
    before, after = (_by_group(table, group).reshape(-1, 2) for table in (before[:, :2], after[:, :2]))
    return ClassTables(before=before, after=after, loss=np.tile(1.0 - np.eye(2), (len(before) // 2, 1)))


def score_groups(layout: PerformanceLayout, vector: NDArray[np.int64]) -> NDArray[np.int64]:
    """Binary: the group of every score bin, made of about equal shares of the labelled rows of `vector`; the last for "no score"."""
    rows = np.maximum(layout.view(vector, "labelled"), 0).sum(axis=(1, 2))
    groups = grouping(rows[:-1], SCORE_GROUPS, ordered_bins=isinstance(layout.score_bins[0], NumericBins))
    return np.append(groups, groups.max() + 1)


def _by_group(table: Floats, group: NDArray[np.int64]) -> Floats:
    out = np.zeros((int(group.max()) + 1, *table.shape[1:]))
    np.add.at(out, group, table)
    return out


def _overall(layout: PerformanceLayout, vector: NDArray[np.int64]) -> Losses:
    rows, sums, squares = (layout.view(vector, "loss") / np.array([1, LOSS_SCALE, LOSS_SCALE])).reshape(3, 1, 1)
    return Losses(rows=np.maximum(rows, 0.0), sums=sums, squares=squares)


def _axes(
    by_feature: tuple[Losses, Losses], names: tuple[str, ...], tables: ClassTables | None
) -> tuple[tuple[Losses, Losses] | None, tuple[str, ...]]:
    """Everything that may stand for the rows: the score, then the features; cells filled up with empty ones to one width."""
    both = ([] if tables is None else [tables.by_cell()]) + ([by_feature] if names else [])
    if not both:
        return None, ()
    width = max(pair[0].rows.shape[1] for pair in both)
    before, after = (_stacked([pair[side] for pair in both], width) for side in (0, 1))
    return (before, after), (() if tables is None else ("score",)) + names


def _stacked(parts: list[Losses], width: int) -> Losses:
    rows, sums, squares = (
        np.vstack([np.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in arrays])
        for arrays in zip(*((part.rows, part.sums, part.squares) for part in parts), strict=True)
    )
    return Losses(rows=rows, sums=sums, squares=squares)


def _alone(rise: float, error: float) -> Verdict:
    """Neither features nor scores: nothing tells other rows from another relation."""
    cause: Cause = "unknown" if abs(rise) > _TWO_SIDED_95 * error else "none"
    return Verdict(cause=cause, certainty=None, covariate=0.0, label=0.0, concept=rise, axis=None)


def _causes(names: tuple[str, ...], parts: Split, direction: float) -> list[FeatureCause]:
    z = np.divide(np.abs(parts.mix), parts.mix_error, out=np.zeros_like(parts.mix), where=parts.mix_error > 0.0)
    mix_q = benjamini_hochberg(np.asarray(2.0 * special.ndtr(-z)))
    rate_q = benjamini_hochberg(parts.p_value)
    mixes = significant(parts.mix, parts.mix_error) & (parts.mix * direction > 0.0)
    found = [
        FeatureCause(
            feature=names[i],
            kind="mix",
            contribution=float(parts.mix[i]),
            interval=_interval(float(parts.mix[i]), float(parts.mix_error[i])),
            q_value=float(mix_q[i]),
        )
        for i in np.flatnonzero(mixes).tolist()
    ]
    found += [
        FeatureCause(
            feature=names[i],
            kind="rate",
            contribution=float(parts.local[i] * direction),
            interval=None,
            q_value=float(rate_q[i]),
            unevenness=float(parts.unevenness[i]),
        )
        for i in np.flatnonzero((rate_q <= LEVEL) & (parts.local > 0.0)).tolist()
    ]
    return found


def _ranked(causes: list[FeatureCause], kind: Cause) -> list[FeatureCause]:
    """The kind that the verdict names first (mixed: the greater contribution); mix by contribution, rate by unevenness.

    A rate's contribution does not rank: half of the rows may hold a whole rise that is really that of a tenth of them.
    """
    mixes = sorted((cause for cause in causes if cause.kind == "mix"), key=lambda cause: -abs(cause.contribution))
    rates = sorted((cause for cause in causes if cause.kind == "rate"), key=lambda cause: -cause.unevenness)
    if kind == "covariate_shift":
        return mixes + rates
    if kind != "mixed" or not (mixes and rates):
        return rates + mixes
    first = abs(mixes[0].contribution) >= abs(rates[0].contribution)
    return mixes + rates if first else rates + mixes


def _feature_splits(names: tuple[str, ...], parts: Split | None) -> tuple[FeatureSplit, ...]:
    if parts is None:
        return ()
    return tuple(
        FeatureSplit(
            feature=name,
            mix=float(parts.mix[i]),
            mix_interval=_interval(float(parts.mix[i]), float(parts.mix_error[i])),
            rate=float(parts.rate[i]),
            rate_interval=_interval(float(parts.rate[i]), float(parts.rate_error[i])),
            local=float(parts.local[i]),
            chi2=float(parts.chi2[i]),
            p_value=float(parts.p_value[i]),
        )
        for i, name in enumerate(names)
    )


def _interval(value: float, error: float) -> tuple[float, float]:
    return value - _TWO_SIDED_95 * error, value + _TWO_SIDED_95 * error
