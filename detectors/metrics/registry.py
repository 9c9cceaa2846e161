"""How good were the predictions of a window? Every metric of the task with its 95 % interval, from the window's exact counts.

A metric is a function of the window's counts (`detectors.metrics.measured`) in the table of its task, or a file of its own in this folder
(`detectors.metrics.custom`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detectors import metrics as package
from detectors.metrics.binary import BINARY
from detectors.metrics.calibration import ReliabilityGroup, reliability
from detectors.metrics.counts import binary_counts, multiclass_counts, number_counts
from detectors.metrics.custom import Better, CustomMetric, found_in
from detectors.metrics.intervals import UNKNOWN, mean_error, normal
from detectors.metrics.measured import Measured, measured
from detectors.metrics.multiclass import MULTICLASS
from detectors.metrics.regression import REGRESSION
from detectors.performance.layout import PerformanceLayout, Task
from detectors.performance.profile import PerformanceProfile

__all__ = ["BETTER", "CUSTOM", "METRICS", "UNITS", "Measured", "ReliabilityGroup", "metrics", "reliability_curve"]

_BUILT_IN: Mapping[Task, Mapping[str, Callable[[Any], Measured]]] = {
    "binary": BINARY,
    "multiclass": MULTICLASS,
    "regression": REGRESSION,
}
_OF_OUTCOMES = ("value_sum", "value_mean")


def _custom() -> dict[str, CustomMetric]:
    taken = {name for table in _BUILT_IN.values() for name in table} | set(_OF_OUTCOMES)
    found: dict[str, CustomMetric] = {}
    for metric in found_in(package.__name__, package.__path__):
        if metric.name in taken or metric.name in found:
            raise ValueError(f"there is a metric {metric.name} already")
        found[metric.name] = metric
    return found


CUSTOM: Mapping[str, CustomMetric] = _custom()
_FUNCTIONS: Mapping[Task, Mapping[str, Callable[[Any], Measured]]] = {
    task: {**table, **{name: metric.measure for name, metric in CUSTOM.items() if metric.task == task}}
    for task, table in _BUILT_IN.items()
}
METRICS: Mapping[Task, tuple[str, ...]] = {task: tuple(table) for task, table in _FUNCTIONS.items()}
BETTER: Mapping[str, Better] = {
    **dict.fromkeys(
        ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc", "kappa", "roc_auc", "pr_auc", "r2"),
        "high",
    ),
    **dict.fromkeys(("log_loss", "brier", "ece", "mae", "rmse", "mape", "smape", "wape"), "low"),
    "bias": "zero",
    **{name: metric.better for name, metric in CUSTOM.items()},
}  # fmt: skip
UNITS: Mapping[str, str] = {
    **dict.fromkeys(("accuracy", "precision", "recall", "specificity", "mape", "smape", "wape"), "share"),
    **dict.fromkeys(("balanced_accuracy", "f1", "mcc", "kappa", "roc_auc", "pr_auc", "r2"), "score"),
    **dict.fromkeys(("log_loss", "brier", "ece"), "loss"),
    **dict.fromkeys(("mae", "rmse", "bias"), "units"),
    **{name: metric.unit for name, metric in CUSTOM.items()},
}


def metrics(layout: PerformanceLayout, profile: PerformanceProfile) -> dict[str, Measured]:
    """Every metric of the task by name, in the order of METRICS; then `value_sum` and `value_mean` where outcomes came with a value.

    Labelled rows only. Metrics of decisions are of the rows with a decision, metrics of scores of the rows with a score.
    """
    vector = profile.vector
    counts_of = {"binary": binary_counts, "multiclass": multiclass_counts, "regression": number_counts}[layout.task]
    counts = counts_of(layout, vector)
    found = {name: metric(counts) for name, metric in _FUNCTIONS[layout.task].items()}
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
