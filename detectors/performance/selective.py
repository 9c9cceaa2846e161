"""Do the labelled rows stand for all? Labels often exist only for accepted loans or inspected parts, and then performance is theirs alone.

Labelled rows are compared with those that have no label, by score (multiclass: by decision) and by the coarse values of each feature,
in the resemblance test: evidence after Benjamini-Hochberg, and a difference of .14 sd. Both are rows with a decision (regression: with
a prediction), as only these enter performance. A label outside the classes counts as none. Rows are taken to be independent of each other.

Beside it the mean loss is shown as it would be if labels had come evenly over the scores (post-stratification): it mends a choice that was made
by the score, not one that was made by the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detectors.drift import resemblance
from detectors.drift.distribution import (
    COARSE,
    FEW_ROWS,
    FINE,
    FINE_FROM,
    LEVEL,
    LEVEL_EACH,
    LEVEL_EACH_FEW_ROWS,
    LEVEL_FEW_ROWS,
)
from detectors.drift.grouping import grouping
from detectors.drift.resemblance import Comparison, Floats, Sample, benjamini_hochberg
from detectors.finding import Finding, Severity, State
from detectors.performance.coarse_words import number, values_of
from detectors.performance.layout import LOSS_SCALE, PerformanceLayout
from detectors.performance.profile import PerformanceProfile
from detectors.policy import TOLERATED_PSI, Policy

SUBJECT, CHECK = "labels", "selective"
ENOUGH_COVERAGE = 0.95  # so few rows without a label cannot move performance much
_GROUP_ROWS = 30  # labelled rows below which a group's mean loss is not used on its own
_CELL_ROWS = 5.0  # rows expected in a cell of the smaller side; cells with fewer are taken together
_UNDECIDED = 0.01  # rows without a decision, as a share of the smaller side, that comparing by feature can bear: it cannot tell them apart
_TWO_SIDED_95 = 1.959963984540054
_DEFAULT = Policy()
_SMALL = "there is no doubt of it, but it is smaller than what is tolerated"
_UNSURE = "it would be large enough, but among this many comparisons it may be chance"

Detail = dict[str, float | int | str | None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Axis:
    """Counts of labelled and unlabelled rows by cell, and each cell in words."""

    name: str
    words: Sequence[str]
    labelled: Floats
    unlabelled: Floats


def selective_labels(layout: PerformanceLayout, profile: PerformanceProfile, policy: Policy = _DEFAULT) -> Finding:
    """`selective` of subject `labels`. Value: the greatest difference in sd between rows with and without a label, over score and features.

    ok without a test where 95 % are labelled; insufficient_data with fewer than `min_rows` rows on either side. Never critical.
    """
    predicted, labelled = decided_rows(layout, profile.vector)
    rows, known = int(predicted.sum()), int(labelled.sum())
    detail: Detail = {"labelled": known, "unlabelled": rows - known, "coverage": known / rows if rows else None}
    if profile.rows == 0 or rows == 0:
        return _unjudged(State.NO_DATA, 0, {**detail, "reason": "no rows with a prediction that can be compared"})
    if known >= ENOUGH_COVERAGE * rows:
        return _unjudged(State.OK, rows, {**detail, "reason": "nearly all rows are labelled"})
    if min(known, rows - known) < policy.min_rows:
        reason = f"{known} rows with and {rows - known} without a label, {policy.min_rows} of each are needed"
        return _unjudged(State.INSUFFICIENT_DATA, rows, {**detail, "reason": reason, "needed": policy.min_rows})
    axes = axes_of(layout, profile)
    if not axes:
        return _unjudged(
            State.NOT_CONFIGURED, rows, {**detail, "reason": "neither scores, decisions nor features to compare by"}
        )
    found = _judge(axes, rows, policy)
    worst = axes[int(found.detail["place"] or 0)]
    return _with_detail(found, detail | reweighted(layout, profile, worst.name))


def axes_of(layout: PerformanceLayout, profile: PerformanceProfile) -> list[Axis]:
    """What the two sides can be compared by, the score first. Features are left out where too many rows have no decision."""
    predicted, labelled = decided_rows(layout, profile.vector)
    axes = [_score_axis(layout, profile.vector)]
    undecided = profile.rows - int(predicted.sum())
    if undecided <= _UNDECIDED * min(labelled.sum(), (predicted - labelled).sum()):
        rows = layout.view(profile.vector, "feature_rows").astype(np.float64)
        with_label = layout.view(profile.vector, "feature_labelled").astype(np.float64)
        axes += [
            Axis(
                name=feature.name,
                words=[values_of(feature, code) for code in range(rows.shape[1])],
                labelled=with_label[i],
                unlabelled=np.maximum(rows[i] - with_label[i], 0.0),
            )
            for i, feature in enumerate(layout.features)
        ]
    axes = [_without_rare(axis) for axis in axes]
    return [axis for axis in axes if len(axis.words) > 1]


def decided_rows(layout: PerformanceLayout, vector: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Rows with a decision (regression: a prediction), all and labelled ones, by cell of the score; never more labelled ones than all.

    Binary: by score bin, the last "no score"; multiclass: by decision; regression: by bin of the predicted value.
    """
    predicted, labelled = layout.view(vector, "predicted"), layout.view(vector, "labelled")
    if layout.task == "binary":
        predicted, labelled = predicted[:, :2].sum(axis=1), labelled[:, :2].sum(axis=(1, 2))
    elif layout.task == "multiclass":
        predicted, labelled = predicted[:-1], labelled[:-1].sum(axis=1)
    else:
        predicted, labelled = predicted[:-1], labelled[:-1]
    rows = np.maximum(predicted, 0).astype(np.float64)
    return rows, np.clip(labelled, 0, rows)


def reweighted(layout: PerformanceLayout, profile: PerformanceProfile, axis: str) -> Detail:
    """The mean loss of the labelled rows, and as it would be had labels come evenly over the score (regression: over the values of the feature `axis`).

    `reweighted_beyond`: share of predictions where no label tells anything, which are left out; {} where nothing can be said.
    """
    vector = profile.vector
    total = layout.view(vector, "loss")
    if total[0] <= 0:
        return {}
    strata = _strata(layout, vector, axis)
    detail: Detail = {
        "loss": "scaled absolute error" if layout.task == "regression" else "error rate",
        "loss_labelled": float(total[1] / LOSS_SCALE / total[0]),
    }
    if strata is None:
        return detail
    predicted, labelled, sums, squares = strata
    used = labelled > 0.0
    beyond = float(predicted[~used].sum() / predicted.sum())
    weight = predicted[used] / predicted[used].sum()
    mean = sums[used] / labelled[used]
    variance = np.maximum(squares[used] / labelled[used] - mean * mean, 0.0) + 1.0 / (labelled[used] + 2.0)
    value = float(weight @ mean)
    half = _TWO_SIDED_95 * float(np.sqrt(weight * weight @ (variance / labelled[used])))
    return detail | {
        "loss_reweighted": value,
        "reweighted_low": max(value - half, 0.0),
        "reweighted_high": min(value + half, 1.0),
        "reweighted_beyond": beyond,
    }


def _strata(
    layout: PerformanceLayout, vector: NDArray[np.int64], axis: str
) -> tuple[Floats, Floats, Floats, Floats] | None:
    """Predictions, labelled rows, their losses and squared losses by group; a group without labelled rows holds what labels say nothing of."""
    if layout.task == "regression":
        place = next((i for i, feature in enumerate(layout.features) if feature.name == axis), None)
        if place is None:
            return None
        names = ("feature_rows", "feature_labelled", "feature_loss", "feature_loss_squared")
        rows, labelled, loss, squared = (
            np.maximum(layout.view(vector, name)[place], 0).astype(np.float64) for name in names
        )
        return _pooled((rows, labelled, loss / LOSS_SCALE, squared / LOSS_SCALE), labelled >= _GROUP_ROWS)
    rows, labelled = decided_rows(layout, vector)
    table = np.maximum(layout.view(vector, "labelled"), 0).astype(np.float64)
    if layout.task == "multiclass":
        wrong = table[:-1].sum(axis=1) - np.diagonal(table[:-1])
        return _pooled((rows, labelled, wrong, wrong), labelled >= _GROUP_ROWS)
    wrong = table[:, 0, 1] + table[:, 1, 0]
    groups = max(min(COARSE, int(labelled[:-1].sum()) // _GROUP_ROWS), 1)
    group = grouping(labelled[:-1].astype(np.int64), groups, ordered_bins=True)
    seen = np.flatnonzero(labelled[:-1])
    beyond = np.ones(len(group), dtype=np.bool_)
    if len(seen):
        beyond[seen[0] : seen[-1] + 1] = False
    places = np.append(np.where(beyond, group.max() + 2, group), group.max() + 1)
    parts: list[Floats] = [
        np.bincount(places, weights=part, minlength=int(group.max()) + 3).astype(np.float64)
        for part in (rows, labelled, wrong)
    ]
    return parts[0], parts[1], parts[2], parts[2]


def _pooled(
    parts: tuple[Floats, Floats, Floats, Floats], alone: NDArray[np.bool_]
) -> tuple[Floats, Floats, Floats, Floats]:
    """Cells that are not `alone` but have labelled rows become one; those without any stay as they are."""
    few = ~alone & (parts[1] > 0.0)
    first, second, third, fourth = (np.append(part[~few], part[few].sum()) for part in parts)
    return first, second, third, fourth


def _score_axis(layout: PerformanceLayout, vector: NDArray[np.int64]) -> Axis:
    rows, labelled = decided_rows(layout, vector)
    if layout.task == "multiclass":
        words = [f"decision = {text}" for text in layout.classes]
        return Axis(name="decision", words=words, labelled=labelled, unlabelled=rows - labelled)
    bins = rows[:-1] if layout.task == "binary" else rows
    if bins.sum() <= 0.0:
        return _decision_axis(layout, vector)
    smaller = min(labelled.sum(), (rows - labelled).sum())
    group = grouping(bins.astype(np.int64), FINE if smaller >= FINE_FROM else COARSE, ordered_bins=True)
    edges, name = layout.score_bins[0].edges.tolist(), "score" if layout.task == "binary" else "prediction"
    words = [_range(name, edges, np.flatnonzero(group == g)) for g in range(int(group.max()) + 1)]
    if layout.task == "binary":
        group, words = np.append(group, group.max() + 1), [*words, "no score"]
    both = [
        np.bincount(group, weights=part, minlength=len(words)).astype(np.float64)
        for part in (labelled, rows - labelled)
    ]
    return Axis(name=name, words=words, labelled=both[0], unlabelled=both[1])


def _decision_axis(layout: PerformanceLayout, vector: NDArray[np.int64]) -> Axis:
    """Binary without scores."""
    rows = np.maximum(layout.view(vector, "predicted")[:, :2].sum(axis=0), 0).astype(np.float64)
    labelled = np.clip(layout.view(vector, "labelled")[:, :2].sum(axis=(0, 2)), 0, rows)
    words = [f"decision = {text}" for text in layout.classes]
    return Axis(name="decision", words=words, labelled=labelled, unlabelled=rows - labelled)


def _range(name: str, edges: Sequence[float], bins: NDArray[np.int64]) -> str:
    first, last = int(bins[0]), int(bins[-1])
    low = None if first == 0 else number(edges[first - 1])
    high = None if last >= len(edges) else number(edges[last])
    if low is None:
        return f"{name} < {high}" if high is not None else f"any {name}"
    return f"{name} >= {low}" if high is None else f"{name} in [{low}, {high})"


def _without_rare(axis: Axis) -> Axis:
    """Cells in which the smaller side would expect fewer than 5 rows are one cell, and where that is too few as well, join the next rarest."""
    both = axis.labelled + axis.unlabelled
    expected = both / max(both.sum(), 1.0) * min(axis.labelled.sum(), axis.unlabelled.sum())
    order = np.argsort(expected, kind="stable")
    merged = expected[order] < _CELL_ROWS
    if merged.any() and not merged.all() and expected[order][merged].sum() < _CELL_ROWS:
        merged[int(merged.sum())] = True
    rare, kept = order[merged], np.sort(order[~merged])
    if len(rare) == 0:
        return axis
    return Axis(
        name=axis.name,
        words=[*(axis.words[i] for i in kept.tolist()), f"rare values of {axis.name}"],
        labelled=np.append(axis.labelled[kept], axis.labelled[rare].sum()),
        unlabelled=np.append(axis.unlabelled[kept], axis.unlabelled[rare].sum()),
    )


def _judge(axes: Sequence[Axis], rows: int, policy: Policy) -> Finding:
    seen, p, nu = _compare(axes)
    smaller = min(float(axes[0].labelled.sum()), float(axes[0].unlabelled.sum()))
    level, each = (LEVEL_FEW_ROWS, LEVEL_EACH_FEW_ROWS) if smaller < FEW_ROWS else (LEVEL, LEVEL_EACH)
    level = min(level, each * len(axes)) * policy.level_scale
    q, threshold = benjamini_hochberg(p), float(np.sqrt(TOLERATED_PSI))
    evidence, effect = q <= level, seen.effect >= threshold
    rank = 2 * (evidence & effect) + (evidence | (effect & (p <= level / 10.0)))
    place = int(np.lexsort((-p, seen.effect, rank))[-1])
    drifts = bool(evidence[place] and effect[place])
    state = State.DRIFT if drifts else State.WARNING if rank[place] else State.OK
    tolerated = np.array([TOLERATED_PSI])
    visible = resemblance.smallest_visible(
        seen.noise[place : place + 1], nu[place : place + 1], tolerated, np.array([level / len(axes)])
    )
    detail: Detail = {
        "place": place,
        "axis": axes[place].name,
        "axes": len(axes),
        "different": int((evidence & effect).sum()),
    }
    if state is State.WARNING:
        detail["reason"] = _SMALL if evidence[place] else _UNSURE
    return Finding(
        subject=SUBJECT,
        check=CHECK,
        state=state,
        severity=Severity.WARNING if drifts else None,
        value=float(seen.effect[place]),
        interval=(float(seen.low[place]), float(seen.high[place])),
        baseline=0.0,
        threshold=threshold,
        unit="sd",
        p_value=float(p[place]),
        q_value=float(q[place]),
        rows=rows,
        smallest_visible=float(visible[0]),
        detail=detail | _most_unlike(axes[place]),
    )


def _compare(axes: Sequence[Axis]) -> tuple[Comparison, Floats, Floats]:
    width = max(len(axis.words) for axis in axes)
    cells = np.array([np.arange(width) < len(axis.words) for axis in axes])
    sides = []
    for counts in ([axis.labelled for axis in axes], [axis.unlabelled for axis in axes]):
        padded = np.array([np.pad(row, (0, width - len(row))) for row in counts])
        sides.append(Sample(resemblance.smoothed(padded, cells), np.maximum(padded.sum(axis=1), 1.0)))
    nu = np.maximum(cells.sum(axis=1) - 1.0, 1.0)
    seen = resemblance.compare(sides[0], sides[1], np.ones(len(axes)), nu)
    return seen, resemblance.tail(seen.psi, seen.noise, nu, np.full(len(axes), TOLERATED_PSI)), nu


def _most_unlike(axis: Axis) -> Detail:
    """The cell whose share differs most."""
    labelled, unlabelled = axis.labelled / axis.labelled.sum(), axis.unlabelled / axis.unlabelled.sum()
    most = int(np.abs(labelled - unlabelled).argmax())
    return {
        "values": axis.words[most],
        "share_labelled": float(labelled[most]),
        "share_unlabelled": float(unlabelled[most]),
    }


def _with_detail(found: Finding, more: Detail) -> Finding:
    detail = {name: value for name, value in {**more, **found.detail}.items() if name != "place"}
    return replace(found, detail=detail)


def _unjudged(state: State, rows: int, detail: Detail) -> Finding:
    return Finding(subject=SUBJECT, check=CHECK, state=state, unit="sd", rows=rows, detail=detail)
