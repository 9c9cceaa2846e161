"""One word for why the mean loss rose: other rows, another mix of outcomes, or another relation between rows and outcomes.

Each explanation is a split of the same rise (detectors.attribution.split):

    covariate shift   the mix part along the axis that explains most: the score, or one feature's coarse values
    label shift       the mix part along the label, if the scores of each class look as before (P(x|y) kept) while P(y) moved
    concept change    what neither explains

Assumed: one axis can stand for the rows. A shift of several features at once that the score does not show is understated, and what is
missing then counts as concept change; sums over features would overstate it, because related features share their parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

from detectors.attribution.split import Losses, Split, split
from detectors.drift.resemblance import Floats, benjamini_hochberg

Cause = Literal["covariate_shift", "concept_change", "label_shift", "mixed", "none", "unknown"]

MOSTLY = 2.0 / 3.0  # an explanation that covers this part of the rise gives it its name; two that do not: mixed
LEVEL = 0.05  # false discovery rate over axes
# The misfit of "scores of each class as before" may be this part of the misfit of "classes of each score as before", both above what
# chance gives. Measured: tests/unit/detectors/test_attribution.py.
_LABEL_FIT = 0.25
_TWO_SIDED_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`covariate` + `label` + `concept` = the rise of the mean loss. `certainty`, 0 to 1: the chance that the share of the rise which the
    shift explains lies where `cause` says, if the explanation is of the right kind; for "none" and "unknown" it is None.

    `axis`: place of the axis whose mix part is `covariate` (or would be); None without any.
    """

    cause: Cause
    certainty: float | None
    covariate: float
    label: float
    concept: float
    axis: int | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClassTables:
    """Rows by (cell of score and decision, class) of both sides, and the loss (cell, class), 0 or 1, of such a row."""

    before: Floats
    after: Floats
    loss: Floats

    def by_cell(self) -> tuple[Losses, Losses]:
        """The axis of score and decision."""
        return self._along(self.before, 1), self._along(self.after, 1)

    def by_label(self) -> tuple[Losses, Losses]:
        return self._along(self.before, 0), self._along(self.after, 0)

    def _along(self, table: Floats, axis: int) -> Losses:
        sums = (table * self.loss).sum(axis=axis)[None, :]
        return Losses(rows=table.sum(axis=axis)[None, :], sums=sums, squares=sums)


def verdict(total: tuple[float, float], axes: Split, tables: ClassTables | None) -> Verdict:
    """`total`: the rise and its standard error. `axes`: all that may stand for the rows, the score (if any) first; none is fine."""
    rise, error = total
    axis = _best_axis(axes, rise) if len(axes.mix) else None
    mix, mix_error = (0.0, error) if axis is None else (float(axes.mix[axis]), float(axes.mix_error[axis]))
    rate_error = error if axis is None else float(axes.rate_error[axis])
    if abs(rise) <= _TWO_SIDED_95 * error:
        return Verdict(cause="none", certainty=None, covariate=mix, label=0.0, concept=rise - mix, axis=axis)
    if tables is not None and _label_model_fits(tables):
        by_label = split(*tables.by_label())
        part = float(by_label.mix[0])
        share, sure = _place(part / rise, rise, float(by_label.mix_error[0]), float(by_label.rate_error[0]))
        if share != "concept_change":
            cause: Cause = "mixed" if share == "mixed" else "label_shift"
            return Verdict(cause=cause, certainty=sure, covariate=0.0, label=part, concept=rise - part, axis=axis)
    share, sure = _place(mix / rise, rise, mix_error, rate_error)
    return Verdict(cause=share, certainty=sure, covariate=mix, label=0.0, concept=rise - mix, axis=axis)


def significant(mix: Floats, mix_error: Floats) -> NDArray[np.bool_]:
    """Mix parts that are not chance, Benjamini-Hochberg over the axes."""
    z = np.divide(np.abs(mix), mix_error, out=np.zeros_like(mix), where=mix_error > 0.0)
    return benjamini_hochberg(np.asarray(2.0 * special.ndtr(-z))) <= LEVEL


def _best_axis(axes: Split, rise: float) -> int:
    """The one that explains most, of those whose mix part is not chance; the first if that holds for none."""
    toward = axes.mix * np.sign(rise)
    candidates = np.where(significant(axes.mix, axes.mix_error) & (toward > 0.0), toward, -np.inf)
    return int(candidates.argmax()) if np.isfinite(candidates).any() else 0


def _place(share: float, rise: float, mix_error: float, rate_error: float) -> tuple[Cause, float]:
    """Where the share lies, and the chance that it does. mix - t (mix + rate) is nearly normal, its two parts nearly independent."""

    def above(t: float) -> float:
        spread = np.hypot((1.0 - t) * mix_error, t * rate_error)
        gap = abs(rise) * (share - t)
        return float(special.ndtr(gap / spread)) if spread > 0.0 else float(gap > 0.0)

    if share >= MOSTLY:
        return "covariate_shift", above(MOSTLY)
    if share <= 1.0 - MOSTLY:
        return "concept_change", 1.0 - above(1.0 - MOSTLY)
    return "mixed", above(1.0 - MOSTLY) - above(MOSTLY)


def _label_model_fits(tables: ClassTables) -> bool:
    """P(y) has moved, and "P(s|y) as before" fits far better than "P(y|s) as before"."""
    moved = _misfit(tables.before.sum(axis=0)[None, :], tables.after.sum(axis=0)[None, :])
    scores_of_class = _misfit(tables.before.T, tables.after.T)
    class_of_score = _misfit(tables.before, tables.after)
    if min(tables.before.sum(axis=0).min(), tables.after.sum(axis=0).min()) <= 0.0:
        return False  # a class that is new or gone is no shift of shares
    return (
        moved.p_value < LEVEL
        and class_of_score.p_value < LEVEL
        and scores_of_class.excess <= _LABEL_FIT * class_of_score.excess
    )


@dataclass(frozen=True, slots=True)
class _Misfit:
    excess: float
    p_value: float


def _misfit(before: Floats, after: Floats) -> _Misfit:
    """G squared of "the shares within each row are the same on both sides", less its degrees of freedom, and its p-value.

    Rows where one side holds fewer than 5, and columns with nothing, are left out.
    """
    excess, free = 0.0, 0
    for old, new in zip(before, after, strict=True):
        if min(old.sum(), new.sum()) < 5.0:
            continue
        both = np.array([old, new])[:, (old + new) > 0.0]
        expected = both.sum(axis=1, keepdims=True) * both.sum(axis=0, keepdims=True) / both.sum()
        seen = both > 0.0
        excess += 2.0 * float((both[seen] * np.log(both[seen] / expected[seen])).sum())
        free += both.shape[1] - 1
    p_value = float(special.chdtrc(free, excess)) if free else 1.0
    return _Misfit(max(excess - free, 0.0), p_value)
