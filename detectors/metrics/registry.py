"""How good were the predictions of a window? Every metric of the task with its 95 % interval, from the window's exact counts.

A metric is a function of the window's counts (`detectors.metrics.measured`) in the table of its task; one more is one more line there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from detectors.metrics.binary import BINARY
from detectors.metrics.calibration import ReliabilityGroup, reliability
from detectors.metrics.counts import binary_counts, multiclass_counts, number_counts
from detectors.metrics.intervals import UNKNOWN, mean_error, normal
from detectors.metrics.measured import Measured, measured
from detectors.metrics.multiclass import MULTICLASS
from detectors.metrics.regression import REGRESSION
from detectors.performance.layout import PerformanceLayout, Task
from detectors.performance.profile import PerformanceProfile

__all__ = ["BETTER", "METRICS", "Measured", "ReliabilityGroup", "metrics", "reliability_curve"]

METRICS: Mapping[Task, tuple[str, ...]] = {
    "binary": tuple(BINARY),
    "multiclass": tuple(MULTICLASS),
    "regression": tuple(REGRESSION),
}
BETTER: Mapping[str, Literal["high", "low", "zero"]] = {
    **dict.fromkeys(
        ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "kappa", "roc_auc", "pr_auc", "r2"),
        "high",
    ),
    **dict.fromkeys(("log_loss", "brier", "ece", "mae", "rmse", "mape", "smape", "wape"), "low"),
    "bias": "zero",
}  # fmt: skip


def metrics(layout: PerformanceLayout, profile: PerformanceProfile) -> dict[str, Measured]:
    """Every metric of the task by name, in the order of METRICS; then `value_sum` and `value_mean` where outcomes came with a value.

    Labelled rows only. Metrics of decisions are of the rows with a decision, metrics of scores of the rows with a score.
    """
    vector = profile.vector
    if layout.task == "regression":
        numbers = number_counts(layout, vector)
        found = {name: metric(numbers) for name, metric in REGRESSION.items()}
    elif layout.task == "binary":
        counts = binary_counts(layout, vector)
        found = {name: metric(counts) for name, metric in BINARY.items()}
    else:
        counts = multiclass_counts(layout, vector)
        found = {name: metric(counts) for name, metric in MULTICLASS.items()}
    rows, total, squares = layout.value_totals(vector)
    if rows > 0:
        mean = total / rows
        error = mean_error(mean, squares / rows, rows)
        found["value_sum"] = measured(total, UNKNOWN, rows, float(rows))
        found["value_mean"] = measured(mean, UNKNOWN if error is None else normal(mean, error), rows, float(rows))
    return found


def reliability_curve(layout: PerformanceLayout, profile: PerformanceProfile) -> tuple[ReliabilityGroup, ...]:
    """Share of positives by mean score, ten groups in rising order; empty for other tasks than binary and without scored labels."""
    return reliability(binary_counts(layout, profile.vector)) if layout.task == "binary" else ()
