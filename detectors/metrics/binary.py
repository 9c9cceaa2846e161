"""Metrics of two classes from the four cells of the confusion table: truth in rows, decision in columns, negative before positive."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from detectors.metrics.agreement import accuracy, balanced_accuracy, kappa, mcc
from detectors.metrics.calibration import brier, ece, log_loss
from detectors.metrics.measured import ClassCounts, Measured, measured, ratio
from detectors.metrics.ranking import pr_auc, roc_auc


def precision(counts: ClassCounts) -> Measured:
    """Of the rows decided positive, the share that is."""
    fp, tp = counts.weights[:, 1].tolist()
    return ratio(tp, fp + tp, float(counts.squares[:, 1].sum()), int(counts.row_counts[:, 1].sum()))


def recall(counts: ClassCounts) -> Measured:
    """Of the positive rows, the share decided so."""
    return _hit_rate(counts, 1)


def specificity(counts: ClassCounts) -> Measured:
    """Of the negative rows, the share decided so."""
    return _hit_rate(counts, 0)


def _hit_rate(counts: ClassCounts, truth: int) -> Measured:
    row = counts.weights[truth].tolist()
    return ratio(row[truth], sum(row), float(counts.squares[truth].sum()), int(counts.row_counts[truth].sum()))


def f1(counts: ClassCounts) -> Measured:
    """2 tp / (2 tp + fp + fn). Its interval is Wilson's of tp / (tp + fp + fn), of which F is a rising function; `rows` are tp + fp + fn."""
    (_, fp), (fn, tp) = counts.weights.tolist()
    rows = int(counts.row_counts.sum() - counts.row_counts[0, 0])
    union = ratio(tp, tp + fp + fn, float(counts.squares.sum() - counts.squares[0, 0]), rows)
    if union.value is None or union.low is None or union.high is None:
        return union
    interval = (2.0 * union.low / (1.0 + union.low), 2.0 * union.high / (1.0 + union.high))
    return measured(2.0 * tp / (2.0 * tp + fp + fn), interval, rows, union.effective_rows)


BINARY: Mapping[str, Callable[[ClassCounts], Measured]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "recall": recall,
    "specificity": specificity,
    "f1": f1,
    "mcc": mcc,
    "kappa": kappa,
    "roc_auc": roc_auc,
    "pr_auc": pr_auc,
    "log_loss": log_loss,
    "brier": brier,
    "ece": ece,
}
