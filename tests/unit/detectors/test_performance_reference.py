"""How good a model was on its reference: by scikit-learn on the same rows, with weights and a threshold."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, log_loss

from detectors.columns import CategoryColumn, NumericColumn
from detectors.metrics.registry import metrics
from detectors.performance.reference import PerformanceReference, performance_reference
from detectors.reference.types import ReferenceSettings, ReferenceTable

RNG = np.random.default_rng(7)
ROWS = 3_000
SCORE = RNG.uniform(0.01, 0.99, ROWS)
TRUTH = (RNG.random(ROWS) < SCORE).astype(int)
WEIGHT = RNG.choice([0.5, 1.0, 4.0], ROWS)


def built(weight: NumericColumn | None = None, threshold: float = 0.5) -> PerformanceReference:
    table = ReferenceTable(
        rows=ROWS,
        features={"x": NumericColumn(SCORE * 3)},
        score=NumericColumn(SCORE),
        label=CategoryColumn([("no", "yes")[truth] for truth in TRUTH]),
        weight=weight,
    )
    settings = ReferenceSettings(
        task="binary", positive_label="yes", classes=("no", "yes"), decision_threshold=threshold
    )
    found = performance_reference(table, settings, ())
    assert found is not None
    return found


def value(of: PerformanceReference, name: str) -> float:
    found = metrics(of.layout, of.profile)[name].value
    assert found is not None
    return found


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
def test_the_baseline_is_decided_by_the_threshold(threshold: float) -> None:
    decided = (threshold <= SCORE).astype(int)
    assert value(built(threshold=threshold), "accuracy") == pytest.approx(accuracy_score(TRUTH, decided), abs=1e-12)


def test_rows_of_a_reference_count_by_their_weight() -> None:
    decided = (SCORE >= 0.5).astype(int)
    weighted = built(NumericColumn(WEIGHT))
    expected = accuracy_score(TRUTH, decided, sample_weight=WEIGHT)
    assert value(weighted, "accuracy") == pytest.approx(expected, abs=1e-12)
    assert value(weighted, "log_loss") == pytest.approx(log_loss(TRUTH, SCORE, sample_weight=WEIGHT), abs=1e-12)
    assert abs(expected - accuracy_score(TRUTH, decided)) > 1e-4


def test_a_row_without_a_weight_counts_one() -> None:
    some = np.where(np.arange(ROWS) % 2, np.nan, WEIGHT)
    expected = accuracy_score(TRUTH, (SCORE >= 0.5).astype(int), sample_weight=np.nan_to_num(some, nan=1.0))
    assert value(built(NumericColumn(some)), "accuracy") == pytest.approx(expected, abs=1e-12)


def test_weights_in_money_use_the_same_range_of_numbers() -> None:
    decided = (SCORE >= 0.5).astype(int)
    money = WEIGHT * 1e6
    expected = accuracy_score(TRUTH, decided, sample_weight=money)
    assert value(built(NumericColumn(money)), "accuracy") == pytest.approx(expected, abs=1e-9)
