"""The values of features that the rise of the mean loss falls on more than on the rest: at most three, each with its loss before and after."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from detectors.attribution.split import CELL_ROWS, Losses, Split
from detectors.drift.resemblance import Floats, benjamini_hochberg

LEVEL = 0.05  # false discovery rate over all values of all features
SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One value of one feature: `axis` its place among the features, `code` the coarse code.

    `loss_before` is None where the baseline has fewer than 30 labelled rows of it. `change` of its mean loss is drawn to the feature's
    average change as far as values do not differ beyond chance, but stays in `interval`, which holds for all segments shown
    together: their expected share of misses is 5 % (false coverage rate, Benjamini and Yekutieli 2005). `contribution`: what this value adds to the rise, by
    more rows of it and by a change of its loss beyond that of the rest.
    """

    axis: int
    code: int
    rows: int
    share_before: float
    share: float
    loss_before: float | None
    loss: float
    change: float
    interval: tuple[float, float]
    contribution: float
    q_value: float


def segments(before: Losses, after: Losses, parts: Split) -> list[Segment]:
    """The values whose contribution is not chance, greatest first. Only values with 30 labelled rows in the window are looked at."""
    p, q, away = parts.p, parts.q, parts.before - (parts.p * parts.before).sum(axis=1, keepdims=True)
    rest = np.maximum(1.0 - q, 1e-12)
    others, shrunk_others = _of_rest(parts.change, q, rest), _of_rest(parts.shrunk, q, rest)
    excess = (q - p) * away + q * (parts.change - others)
    contribution = (q - p) * away + q * (parts.shrunk - shrunk_others)
    noise = q * q * parts.variance
    doubt_rest = (noise.sum(axis=1, keepdims=True) - noise) / (rest * rest)
    m, n = before.rows.sum(axis=1, keepdims=True), after.rows.sum(axis=1, keepdims=True)
    error = np.sqrt(
        noise
        + q * q * doubt_rest
        + away * away * (q * (1.0 - q) / n + p * (1.0 - p) / m)
        + (q - p) ** 2 * parts.before_variance
    )
    direction = np.sign(parts.mix[:, None] + parts.rate[:, None])
    looked_at = (after.rows >= CELL_ROWS) & (q < 1.0)
    if not looked_at.any():
        return []
    z = np.divide(excess * direction, error, out=np.zeros_like(error), where=error > 0.0)
    q_values = np.ones_like(z)
    q_values[looked_at] = benjamini_hochberg(np.asarray(special.ndtr(-z[looked_at])))
    candidates = np.flatnonzero((looked_at & (q_values <= LEVEL) & (contribution * direction > 0.0)).reshape(-1))
    ranked = candidates[np.argsort(-np.abs(contribution.reshape(-1)[candidates]), kind="stable")][:SHOWN]
    width = -float(special.ndtri(LEVEL * max(len(ranked), 1) / (2.0 * looked_at.sum())))
    shape = parts.p.shape
    places = [divmod(int(cell), shape[1]) for cell in ranked]
    return [
        _segment((before, after), parts, at, width, (float(contribution[at]), float(q_values[at]))) for at in places
    ]


def _of_rest(change: Floats, q: Floats, rest: Floats) -> Floats:
    return np.asarray(((q * change).sum(axis=1, keepdims=True) - q * change) / rest)


def _segment(
    both: tuple[Losses, Losses], parts: Split, at: tuple[int, int], width: float, judged: tuple[float, float]
) -> Segment:
    before, after = both
    known = float(before.rows[at]) >= CELL_ROWS
    seen, half = float(parts.change[at]), width * float(np.sqrt(parts.variance[at]))
    low, high = seen - half, seen + half
    return Segment(
        axis=at[0],
        code=at[1],
        rows=int(after.rows[at]),
        share_before=float(parts.p[at]),
        share=float(parts.q[at]),
        loss_before=float(before.sums[at] / before.rows[at]) if known else None,
        loss=float(after.sums[at] / after.rows[at]),
        change=min(max(float(parts.shrunk[at]), low), high),
        interval=(low, high),
        contribution=judged[0],
        q_value=judged[1],
    )
