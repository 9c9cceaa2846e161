"""Made references and windows for the tests of estimates, with known truth."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from detectors.columns import NumericColumn
from detectors.performance.layout import PerformanceLayout, codes_of, performance_layout
from detectors.performance.profile import PerformanceProfile, fold_labelled, fold_predicted, merge
from detectors.performance.scored import NO_CLASS, LabelledRows, PredictedRows

SIZE = 12_000


def rows_of(
    layout: PerformanceLayout,
    x: NDArray[np.float64],
    *,
    score: NDArray[np.float64],
    decision: NDArray[np.uint8],
    label: NDArray[np.uint8],
    truth: NDArray[np.float64] | None = None,
    scores: NDArray[np.float64] | None = None,
) -> LabelledRows:
    count = len(score)
    codes = np.stack([codes_of(f, NumericColumn(x[:, j])) for j, f in enumerate(layout.features)], axis=1)
    keys = np.random.default_rng(count).permutation(count).astype(np.uint64)
    predicted = PredictedRows(
        score=score, scores=scores, decision=decision, weight=np.ones(count), codes=codes, keys=keys
    )
    return LabelledRows(
        predicted=predicted,
        label=label,
        truth=np.full(count, np.nan) if truth is None else truth,
        value=np.full(count, np.nan),
        delay_ms=np.zeros(count, np.int64),
        sign=np.ones(count, np.int8),
    )


def profile_of(layout: PerformanceLayout, rows: LabelledRows) -> PerformanceProfile:
    return merge(fold_predicted(layout, rows.predicted), fold_labelled(layout, rows))


def logistic(odds: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-odds))


def binary_draw(seed: int, size: int, *, shift: float = 0.0, hidden: float = 1.0, flip: bool = False) -> tuple[NDArray[np.float64], ...]:  # fmt: skip
    """Features x (n, 2), an overconfident score of the first, labels that depend on both (the second by `hidden`)."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(size, 2))
    x[:, 1] += shift
    p = logistic(1.2 * x[:, 0] - hidden * (x[:, 1] > 1.0))
    label = (random.random(size) < (1 - p if flip else p)).astype(np.uint8)
    score = logistic(2.0 * x[:, 0] + 0.3)
    return x, score, (score >= 0.5).astype(np.uint8), label


@lru_cache(maxsize=4)
def binary_case(hidden: float = 1.0) -> tuple[PerformanceLayout, LabelledRows]:
    x, score, decision, label = binary_draw(1, SIZE, hidden=hidden)
    layout = performance_layout(
        task="binary",
        classes=("no", "yes"),
        score=score,
        features={"a": NumericColumn(x[:, 0]), "b": NumericColumn(x[:, 1])},
    )
    return layout, rows_of(layout, x, score=score, decision=decision, label=label)


def binary_window(layout: PerformanceLayout, seed: int, *, size: int = 4000, shift: float = 0.0, hidden: float = 1.0, flip: bool = False) -> LabelledRows:  # fmt: skip
    x, score, decision, label = binary_draw(seed, size, shift=shift, hidden=hidden, flip=flip)
    return rows_of(layout, x, score=score, decision=decision, label=label)


def multiclass_draw(seed: int, size: int, spread: float = 1.0) -> tuple[NDArray[np.float64], ...]:
    random = np.random.default_rng(seed)
    x = random.normal(size=(size, 3)) * spread
    weights = np.exp(1.5 * x)
    p = weights / weights.sum(axis=1, keepdims=True)
    label = (random.random(size)[:, None] > p.cumsum(axis=1)).sum(axis=1).clip(0, 2).astype(np.uint8)
    sharp = p**2 / (p**2).sum(axis=1, keepdims=True)
    return x, sharp, label


@lru_cache(maxsize=1)
def multiclass_case() -> tuple[PerformanceLayout, LabelledRows]:
    x, scores, label = multiclass_draw(1, SIZE)
    layout = performance_layout(
        task="multiclass",
        classes=("a", "b", "c"),
        scores=scores,
        features={f"f{j}": NumericColumn(x[:, j]) for j in range(3)},
    )
    return layout, multiclass_rows(layout, x, scores, label)


def multiclass_rows(layout: PerformanceLayout, x: NDArray[np.float64], scores: NDArray[np.float64], label: NDArray[np.uint8]) -> LabelledRows:  # fmt: skip
    return rows_of(
        layout,
        x,
        score=np.full(len(x), np.nan),
        decision=scores.argmax(axis=1).astype(np.uint8),
        label=label,
        scores=scores,
    )


def regression_draw(seed: int, size: int, together: float = 0.0) -> tuple[NDArray[np.float64], ...]:
    """Noise grows where both features are high; `together` is their correlation."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(size, 2))
    x[:, 1] = together * x[:, 0] + np.sqrt(1 - together**2) * x[:, 1]
    value = 100 + 10 * x[:, 0]
    noise = np.exp(0.3 * x[:, 0] * x[:, 1]) * random.normal(size=size) * 3
    return x, value, value + noise


@lru_cache(maxsize=1)
def regression_case() -> tuple[PerformanceLayout, LabelledRows]:
    x, value, truth = regression_draw(1, SIZE)
    layout = performance_layout(
        task="regression",
        predicted_value=value,
        truth=truth,
        features={"a": NumericColumn(x[:, 0]), "b": NumericColumn(x[:, 1])},
    )
    return layout, regression_rows(layout, x, value, truth)


def regression_rows(layout: PerformanceLayout, x: NDArray[np.float64], value: NDArray[np.float64], truth: NDArray[np.float64]) -> LabelledRows:  # fmt: skip
    none = np.full(len(x), NO_CLASS, np.uint8)
    return rows_of(layout, x, score=value, decision=none, label=none, truth=truth)
