"""Layout of performance: the place of every count and sum in one flat vector of integers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.bins import NUMERIC_BINS, SCORE_BINS, NumericBins, numeric_bins
from detectors.columns import Column
from detectors.performance.features import CoarseFeature, coarse_feature, codes_of
from detectors.performance.slots import (
    ALIASES,
    CODES,
    INVALID,
    LOSS_SCALE,
    MASS_SCALE,
    MISSING,
    OTHER,
    SUM_SCALE,
    VALUE_SQUARED_SCALE,
    Shape,
    Task,
    delay_edges_seconds,
    slot_shapes,
)

__all__ = [
    "CODES",
    "INVALID",
    "LOSS_SCALE",
    "MASS_SCALE",
    "MISSING",
    "OTHER",
    "SUM_SCALE",
    "VALUE_SQUARED_SCALE",
    "CoarseFeature",
    "PerformanceLayout",
    "Task",
    "codes_of",
    "decode_layout",
    "delay_edges_seconds",
    "encode_layout",
    "performance_layout",
]

CLASS_LIMIT = 64
_BIN_LIMIT = 65_535  # a sample keeps bins in two bytes
_FINE_CLASSES = 8  # up to so many classes have SCORE_BINS bins each, more have NUMERIC_BINS


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PerformanceLayout:
    """Slots of one flat int64 vector of `size` cells. B: the most bins of any of `score_bins`; index B means "no score". K: classes. F: features.

    `classes`: binary (negative, positive), multiclass 2..64 texts, regression (). `score_bins`: one (binary: of P(positive); regression: of the
    predicted value), multiclass one for each class. `truth_lo`, `truth_hi`: range of the reference's truth (regression; span 1 where they are
    equal). `weight_unit`: weights are divided by it before they are counted, and cut at 65,536; no weighted mean depends on it.

    Slots of all tasks. "Rows" of outcomes are rows with a known label (regression: a finite truth), taken back with a sign of -1.
      rows, labelled_rows [1]; unknown_labels [1] outcomes without a known label, which count nowhere else; delay [64] by delay_edges_seconds
      delay_loss [64, 2] of rows with a loss, their number and losses by delay: do early labels tell the same as late ones?
      clipped [1] rows whose probability was cut in the log loss (regression: with a term cut to 2**40); outside [1] scored rows with a probability outside [0, 1]
      feature_rows [F, 16] predictions by code; feature_labelled, feature_loss, feature_loss_squared [F, 16] rows with a loss, their losses and squared
      losses in 2**-20; loss [3] rows, losses and squared losses of all. Loss: 1 where decision and label differ (rows without decision left out);
      regression min(|error| / span, 1). Unweighted.
      value [5] rows with a value, two limbs of their sum, two limbs of their squares (in 2**-20); see `value_totals`
    Slots of mass hold sums of weights in 2**-32. Slots of two limbs are read by `total`. Weights are in weight_unit, so are their squares.
    Binary. Decisions 0, 1, none; the score in a sum is cut to [0, 1].
      predicted, predicted_mass [B+1, 3] predictions and their weights; predicted_score_mass [B+1] weight * score of predictions
      labelled, mass [B+1, 3, 2] by (bin, decision, label); score_mass [B+1] weight * score of labelled rows
      weight_squared of all labelled rows; confusion_weight_squared [3, 2, 2] the same by (decision, label), last axis the limbs
      of labelled rows with a score: scored_weight_squared; log_loss, brier = sum w x; .._weighted = sum w**2 x; .._squared = sum w**2 x**2
    Multiclass. Decisions 0..K-1, K none. A row has scores when all K are given (for log loss and Brier, the sum over classes of squared differences).
      predicted, predicted_mass [K+1]; labelled, mass [K+1, K] by (decision, label); weight_squared, confusion_weight_squared [K+1, K, 2] and sums as binary
      score_rows [K, B+1] predictions by bin of each class's score; predicted_score_mass [K, B+1] their weight * score
      chosen_rows [K, B+1] predictions by (decision, bin of that class's score)
      score_mass [K, B+1, 2] weight of labelled rows by (class, bin, label is this class); class_score_mass [K, B+1] their weight * score
      placed [K, 6, 2] by label, of rows with scores: sums of w**2 times 1, a, c, a**2, a c, c**2, where a is `own` of the label's class in
      performance_placements, c the sum of `other` over the other classes; the limbs last
    Regression. e = (prediction - truth) / span, y = (truth - truth_lo) / span, t = |truth| / span, p = |e| / t where t > 0, s = 2|e| / (t + |prediction| / span), 0 where both are 0.
      predicted, predicted_mass [B+1]; labelled [B+1]. Everything else is of labelled rows with a prediction:
      mass [1]; zero_truth [1] rows with truth 0, which `ape*` leave out, and zero_mass [1] their weight; ape_weight_squared: sum w**2 without them
      sums of w x: abs |e|, squared e**2, error e, truth y, truth_squared y**2, ape p, sape s, abs_truth t
      sums of w**2 x: weight_squared 1, abs_weighted |e|, abs_squared e**2 (also squared_weighted, error_squared), squared_squared e**4, error_weighted e,
      squared_truth e**2 y, squared_truth_squared e**2 y**2, truth_weighted y, truth_squared_weighted y**2, truth_cubed_weighted y**3,
      truth_fourth_weighted y**4, ape_weighted p, ape_squared p**2, sape_weighted s, sape_squared s**2, abs_truth_weighted t, abs_truth_squared t**2, abs_abs_truth |e| t
    ValueError when the parts do not fit the task.
    """

    task: Task
    classes: tuple[str, ...] = ()
    score_bins: tuple[NumericBins, ...]
    features: tuple[CoarseFeature, ...] = ()
    truth_lo: float = 0.0
    truth_hi: float = 1.0
    weight_unit: float = 1.0
    bins: int = field(init=False)
    slots: Mapping[str, tuple[slice, Shape]] = field(init=False, repr=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        _check(self)
        bins = max(bins.count for bins in self.score_bins)
        if bins > _BIN_LIMIT:
            raise ValueError(f"{bins} score bins are more than {_BIN_LIMIT}")
        slots: dict[str, tuple[slice, Shape]] = {}
        start = 0
        for name, shape in slot_shapes(self.task, len(self.classes), bins, len(self.features)).items():
            slots[name] = (slice(start, start + prod(shape)), shape)
            start += prod(shape)
        slots.update({alias: slots[name] for alias, name in ALIASES[self.task].items()})
        object.__setattr__(self, "bins", bins)
        object.__setattr__(self, "slots", MappingProxyType(slots))
        object.__setattr__(self, "size", start)

    @property
    def span(self) -> float:
        """What regression errors are divided by."""
        return self.truth_hi - self.truth_lo if self.truth_hi > self.truth_lo else 1.0

    def view(self, vector: NDArray[np.int64], name: str) -> NDArray[np.int64]:
        """The slot `name` of `vector` in its shape, without a copy. KeyError when the task has no such slot."""
        place, shape = self.slots[name]
        return vector[place].reshape(shape)

    def total(self, vector: NDArray[np.int64], name: str) -> float:
        """The sum in a slot of two limbs, correctly rounded."""
        hi, lo = self.view(vector, name).tolist()
        return float((hi * 2**32 + lo) / SUM_SCALE)

    def totals(self, vector: NDArray[np.int64], name: str) -> NDArray[np.float64]:
        """The sums in a slot whose last axis are two limbs, in the shape of the other axes."""
        limbs = self.view(vector, name)
        pairs = limbs.reshape(-1, 2).tolist()
        return np.array([(hi * 2**32 + lo) / SUM_SCALE for hi, lo in pairs]).reshape(limbs.shape[:-1])

    def value_totals(self, vector: NDArray[np.int64]) -> tuple[int, float, float]:
        """Rows with a value, the sum of the values and the sum of their squares."""
        rows, hi, lo, square_hi, square_lo = self.view(vector, "value").tolist()
        return rows, (hi * 2**32 + lo) / SUM_SCALE, (square_hi * 2**32 + square_lo) / VALUE_SQUARED_SCALE


def _check(layout: PerformanceLayout) -> None:
    classes = len(layout.classes)
    fits = {
        "binary": classes == 2 and len(layout.score_bins) == 1,
        "multiclass": 2 <= classes <= CLASS_LIMIT and len(layout.score_bins) == classes,
        "regression": classes == 0 and len(layout.score_bins) == 1,
    }
    if not fits.get(layout.task, False) or len(set(layout.classes)) != classes:
        raise ValueError(
            f"{classes} classes and {len(layout.score_bins)} score bins do not fit a {layout.task} task"
            f" (binary 2 and 1, multiclass 2 to {CLASS_LIMIT} and as many, regression 0 and 1; no class twice)"
        )
    if not (np.isfinite([layout.truth_lo, layout.truth_hi]).all() and layout.truth_lo <= layout.truth_hi):
        raise ValueError("the range of the truth must be finite, and its ends in order")
    if not (np.isfinite(layout.weight_unit) and layout.weight_unit > 0):
        raise ValueError("the unit of weights must be positive and finite")


def performance_layout(
    *,
    task: Task,
    classes: Sequence[str] = (),
    score: NDArray[np.float64] | None = None,
    scores: NDArray[np.float64] | None = None,
    predicted_value: NDArray[np.float64] | None = None,
    truth: NDArray[np.float64] | None = None,
    weight: NDArray[np.float64] | None = None,
    features: Mapping[str, Column] | None = None,
) -> PerformanceLayout:
    """The layout of a reference. All arrays are the reference's columns (n; `scores` (n, K)), None where it has none; non-finite cells are passed over.

    Without scores in the reference the bins are equal parts of [0, 1] (regression: those of the truth, or one bin for all).
    `classes` as in PerformanceLayout. ValueError when they do not fit the task.
    """
    known_truth = _finite(truth)
    whole = task == "regression" and len(known_truth) > 0
    if task == "regression":
        values = _finite(predicted_value)
        bins: tuple[NumericBins, ...] = (_bins_of(values if len(values) else known_truth, NUMERIC_BINS, ()),)
    elif task == "binary":
        bins = (_bins_of(_finite(score), SCORE_BINS, _equal_parts(SCORE_BINS)),)
    else:
        count = SCORE_BINS if len(classes) <= _FINE_CLASSES else NUMERIC_BINS
        columns = [None] * len(classes) if scores is None else list(scores.T)
        bins = tuple(_bins_of(_finite(column), count, _equal_parts(count)) for column in columns)
    return PerformanceLayout(
        task=task,
        classes=tuple(classes),
        score_bins=bins,
        features=tuple(coarse_feature(name, column) for name, column in (features or {}).items()),
        truth_lo=float(np.clip(known_truth.min(), -8e307, 8e307)) + 0.0 if whole else 0.0,
        truth_hi=float(np.clip(known_truth.max(), -8e307, 8e307)) + 0.0 if whole else 1.0,
        weight_unit=_unit(_finite(weight)),
    )


def _finite(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
    return np.zeros(0) if values is None else values[np.isfinite(values)]


def _equal_parts(bins: int) -> Sequence[float]:
    return [part / bins for part in range(bins + 1)]


def _bins_of(values: NDArray[np.float64], bins: int, without: Sequence[float]) -> NumericBins:
    if len(values):
        return numeric_bins(values, bins)
    return NumericBins(edges=np.array(without, dtype=np.float64), lo=0.0, hi=1.0, inside=(0, len(without) + 1))


def _unit(weights: NDArray[np.float64]) -> float:
    """The power of two nearest to the mean weight: weights in money then use the same range of integers as weights about 1."""
    positive = weights[weights > 0]
    return float(2.0 ** np.clip(np.rint(np.log2(positive.mean())), -500, 500)) if len(positive) else 1.0


def encode_layout(layout: PerformanceLayout) -> dict[str, Any]:
    """The layout as what JSON can hold; floats as hexadecimal texts, which read back exactly."""
    return {
        "format": 1,
        "task": layout.task,
        "classes": list(layout.classes),
        "score_bins": [
            {"edges": _hex(bins.edges), "range": _hex([bins.lo, bins.hi]), "inside": list(bins.inside)}
            for bins in layout.score_bins
        ],
        "features": [
            {"name": f.name, "kind": f.kind, "edges": _hex(f.edges), "categories": list(f.categories)}
            for f in layout.features
        ],
        "truth": _hex([layout.truth_lo, layout.truth_hi]),
        "weight_unit": layout.weight_unit.hex(),
    }


def decode_layout(content: Mapping[str, Any]) -> PerformanceLayout:
    """The layout that was encoded. ValueError when `content` is damaged or of another format."""
    try:
        if content["format"] != 1:
            raise ValueError(f"a performance layout of format {content['format']}, this program reads 1")
        truth_lo, truth_hi = _floats(content["truth"])
        return PerformanceLayout(
            task=content["task"],
            classes=tuple(content["classes"]),
            score_bins=tuple(_score_bins(item) for item in content["score_bins"]),
            features=tuple(
                CoarseFeature(
                    name=item["name"],
                    kind=item["kind"],
                    edges=np.array(_floats(item["edges"]), dtype=np.float64),
                    categories=tuple(item["categories"]),
                )
                for item in content["features"]
            ),
            truth_lo=truth_lo,
            truth_hi=truth_hi,
            weight_unit=float.fromhex(content["weight_unit"]),
        )
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"damaged performance layout: {error}") from None


def _score_bins(content: Mapping[str, Any]) -> NumericBins:
    lo, hi = _floats(content["range"])
    first, last = content["inside"]
    return NumericBins(edges=np.array(_floats(content["edges"]), dtype=np.float64), lo=lo, hi=hi, inside=(first, last))


def _hex(values: Sequence[float] | NDArray[np.float64]) -> list[str]:
    return [float(value).hex() for value in values]


def _floats(texts: Sequence[str]) -> list[float]:
    return [float.fromhex(text) for text in texts]
