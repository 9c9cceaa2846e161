"""A binary reference in memory and windows of the same model, for tests of how windows are judged and joined."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from detectors.columns import CategoryColumn, Column, NumericColumn
from detectors.performance.profile import PerformanceProfile, fold_labelled, fold_predicted, merge
from detectors.performance.reference import PerformanceReference
from detectors.performance.rows import predicted_rows
from detectors.performance.scored import LabelledRows
from detectors.reference.build import Reference, ReferenceSettings, ReferenceTable, build_reference

NO, YES = "no", "yes"
EU, US = '{"region":"EU"}', '{"region":"US"}'


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rows:
    """n scored rows: calibrated `score`, `truth` 0 or 1."""

    x: np.ndarray
    region: np.ndarray
    score: np.ndarray
    truth: np.ndarray

    @property
    def decision(self) -> np.ndarray:
        return (self.score >= 0.5).astype(int)

    @property
    def right(self) -> np.ndarray:
        return self.decision == self.truth

    def turned(self, where: np.ndarray) -> Rows:
        """With the other truth there."""
        return replace(self, truth=np.where(where, 1 - self.truth, self.truth))

    def columns(self) -> dict[str, Column]:
        return {"score": NumericColumn(self.score), "label": CategoryColumn([(NO, YES)[d] for d in self.decision])}

    def features(self) -> dict[str, Column]:
        return {"x": NumericColumn(self.x), "region": CategoryColumn(self.region.tolist())}


def drawn(n: int, seed: int = 0, *, wrong: float = 0.0) -> Rows:
    rng = np.random.default_rng(seed)
    x = rng.normal(0.0, 1.0, n)
    score = 1.0 / (1.0 + np.exp(-2.5 * x))
    truth = (rng.random(n) < score).astype(int)
    rows = Rows(x=x, region=rng.choice(["EU", "US"], n, p=[0.6, 0.4]), score=score, truth=truth)
    return rows.turned(rng.random(n) < wrong)


@lru_cache(maxsize=4)
def reference(hard_us: float = 0.0) -> Reference:
    """3,000 rows in two regions; in US a share of truths is turned."""
    rows = drawn(3_000, 99)
    rows = rows.turned((rows.region == "US") & (np.random.default_rng(5).random(3_000) < hard_us))
    table = ReferenceTable(
        rows=3_000, features=rows.features(), score=rows.columns()["score"], label_predicted=rows.columns()["label"],
        label=CategoryColumn([(NO, YES)[t] for t in rows.truth]),
    )  # fmt: skip
    settings = ReferenceSettings(task="binary", positive_label=YES, classes=(NO, YES), segments=("region",))
    return build_reference(table, settings)


def known(hard_us: float = 0.0) -> PerformanceReference:
    found = reference(hard_us).performance
    assert found is not None
    return found


def window(
    of: PerformanceReference, rows: Rows, *, labelled: np.ndarray | None = None, delay_ms: Any = 60_000
) -> PerformanceProfile:
    """The profile of these rows, of which those in `labelled` (a mask; None: all) have their outcome."""
    n = len(rows.x)
    predicted = predicted_rows(
        of.layout, rows.columns(), rows.features(), weights=None, keys=np.arange(n, dtype=np.uint64), decision_threshold=None
    )  # fmt: skip
    whole = LabelledRows(
        predicted=predicted, label=rows.truth.astype(np.uint8), truth=np.full(n, np.nan), value=np.full(n, np.nan),
        delay_ms=np.broadcast_to(np.asarray(delay_ms, np.int64), (n,)), sign=np.ones(n, np.int8),
    )  # fmt: skip
    known_rows = whole if labelled is None else whole.part(labelled)
    return merge(fold_predicted(of.layout, predicted, sampled=False), fold_labelled(of.layout, known_rows))
