"""Rows and counts of scored predictions for tests of performance: profiles from columns, and binary windows drawn cell by cell."""

from __future__ import annotations

import numpy as np
from scipy.stats import norm

from detectors.bins import NumericBins
from detectors.performance.layout import MASS_SCALE, SUM_SCALE, PerformanceLayout
from detectors.performance.profile import PerformanceProfile, empty, fold_labelled, fold_predicted, merge
from detectors.performance.scored import NO_CLASS, LabelledRows, PredictedRows


def predicted(n, *, score=None, scores=None, decision=None, weight=None):
    return PredictedRows(
        score=np.full(n, np.nan) if score is None else score,
        scores=scores,
        decision=np.full(n, NO_CLASS, np.uint8) if decision is None else np.asarray(decision).astype(np.uint8),
        weight=np.ones(n) if weight is None else weight,
        codes=np.zeros((n, 0), np.uint8),
        keys=np.arange(n, dtype=np.uint64),
    )


def labelled(rows, *, label=None, truth=None, value=None):
    n = len(rows)
    return LabelledRows(
        predicted=rows,
        label=np.zeros(n, np.uint8) if label is None else np.asarray(label).astype(np.uint8),
        truth=np.full(n, np.nan) if truth is None else truth,
        value=np.full(n, np.nan) if value is None else value,
        delay_ms=np.zeros(n, np.int64),
        sign=np.ones(n, np.int8),
    )


def profile_of(layout, rows, **outcome):
    """All rows predicted and labelled."""
    return merge(fold_predicted(layout, rows, sampled=False), fold_labelled(layout, labelled(rows, **outcome)))


class BinaryCells:
    """A binary model with one score in each of many bins: windows are multinomial draws of (bin, label), exact and quick."""

    def __init__(self, *, mean=0.0, sd=1.5, threshold=0.5, overconfident=0.0, bins=256):
        z = norm.ppf((np.arange(bins) + 0.5) / bins) * sd + mean
        self.score = 1 / (1 + np.exp(-z))
        positive = 1 / (1 + np.exp(-z * (1 - overconfident)))
        self.chance = np.stack([1 - positive, positive], axis=1) / bins
        self.decision = (self.score >= threshold).astype(int)
        edges = (self.score[1:] + self.score[:-1]) / 2
        self.layout = PerformanceLayout(
            task="binary",
            classes=("no", "yes"),
            score_bins=(NumericBins(edges=edges, lo=0.0, hi=1.0, inside=(0, bins)),),
        )

    @property
    def error(self):
        return float(np.where(self.decision == 1, self.chance[:, 0], self.chance[:, 1]).sum())

    def with_error(self, error):
        """Chances under which that share of decisions is wrong: right rows turn wrong in proportion, or wrong ones right."""
        chance = self.chance.copy()
        bins = np.arange(len(chance))
        source = self.decision if error > self.error else 1 - self.decision
        share = (error - self.error) / (1 - self.error) if error > self.error else 1 - error / self.error
        moved = chance[bins, source] * share
        chance[bins, source] -= moved
        chance[bins, 1 - source] += moved
        return chance

    def draw(self, rng, n, times, chance=None):
        chance = self.chance if chance is None else chance
        return rng.multinomial(n, chance.ravel() / chance.sum(), size=times).reshape(times, -1, 2)

    def expected(self, n=10**9):
        return np.rint(self.chance * n).astype(np.int64)

    def profile(self, counts):
        layout, n = self.layout, int(counts.sum())
        vector = np.zeros(layout.size, np.int64)
        rows = np.zeros((len(counts) + 1, 3, 2), np.int64)
        rows[np.arange(len(counts)), self.decision] = counts
        layout.view(vector, "rows")[:] = layout.view(vector, "labelled_rows")[:] = n
        layout.view(vector, "labelled")[:] = rows
        layout.view(vector, "mass")[:] = rows * MASS_SCALE
        layout.view(vector, "score_mass")[:-1] = np.rint(counts.sum(axis=1) * self.score * MASS_SCALE)
        layout.view(vector, "confusion_weight_squared")[..., 0] = rows.sum(axis=0) * (SUM_SCALE >> 32)
        log_loss = -np.log(np.stack([1 - self.score, self.score], axis=1))
        brier = np.stack([self.score, 1 - self.score], axis=1) ** 2
        sums = {"weight_squared": n, "scored_weight_squared": n}
        for name, loss in (("log_loss", log_loss), ("brier", brier)):
            sums |= {name: (counts * loss).sum(), f"{name}_weighted": (counts * loss).sum()}
            sums[f"{name}_squared"] = (counts * loss * loss).sum()
        for name, total in sums.items():
            whole = round(float(total) * SUM_SCALE)
            layout.view(vector, name)[:] = whole >> 32, whole & 0xFFFFFFFF
        return PerformanceProfile(vector=vector, sample=empty(layout).sample)
