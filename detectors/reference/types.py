"""What a reference is made from, and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from detectors.columns import Column, NumericColumn
from detectors.drift.grouping import TARGETS, Grouped, grouped
from detectors.layout import Layout
from detectors.profile import Profile
from detectors.reference.dispersion import Dispersion

if TYPE_CHECKING:
    from detectors.performance.reference import PerformanceReference


class ReferenceRefused(ValueError):
    """The table cannot be a reference. The message says why and what to do, on one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceSettings:
    """How the table was read. All but `classes`, which follow from the table's labels, enter the hash. `decision_threshold` does where it is
    given: how good the model was on these rows depends on it.

    `kinds` and `ranges` hold the configured features only; `columns` maps roles to column names (None: the role's name is freed).
    """

    task: str
    positive_label: str | None = None
    order: Literal["time", "unknown"] = "unknown"
    kinds: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    columns: Mapping[str, str | None] = field(default_factory=dict)
    segments: tuple[str, ...] = ()
    classes: tuple[str, ...] | None = None
    decision_threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceTable:
    """The rows of a reference as columns of equal length. `label` is what happened, `label_predicted` and `value` what the model said.
    `weight` holds finite numbers that are not negative; a row without one counts 1.

    `arrays` names the array-typed columns, which are in no mapping. `times_ms` None: the table has no timestamps.
    """

    rows: int
    features: Mapping[str, Column]
    times_ms: NDArray[np.int64] | None = None
    version: Column | None = None
    score: Column | None = None
    label_predicted: Column | None = None
    label: Column | None = None
    value: Column | None = None
    weight: NumericColumn | None = None
    scores: Mapping[str, Column] = field(default_factory=dict)
    arrays: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reference:
    """What windows are compared with. Immutable; equal hashes mean equal references.

    `layout` holds features by name, then score, label, value and scores by class, as far as the table had them with at least one value.
    `excluded`: feature -> why it is not judged. `ordered`: rows are in time order and enough for blocks, else distribution findings are
    warnings at most. `blocks`: how many (0 if not ordered). `dispersion`: by grouping target, see TARGETS.
    `share_phi` (subjects, 4): variance of the blocks' shares of missing (null or nan), absent, invalid, outside (out of range or other),
    divided by what independent rows would have; 1 at least, and 1 where not known. `performance`: how good the model was on these rows;
    None where the table does not say what happened.
    Derived: `constant` (by subject) and `constants` (names of constant features): quality checks only.
    """

    hash: str
    rows: int
    layout: Layout
    profile: Profile
    settings: ReferenceSettings
    excluded: Mapping[str, str]
    ordered: bool
    blocks: int
    dispersion: Mapping[int, Dispersion]
    share_phi: NDArray[np.float64]
    warnings: tuple[str, ...]
    performance: PerformanceReference | None = None
    constant: NDArray[np.bool_] = field(init=False, repr=False)
    constants: frozenset[str] = field(init=False, repr=False)
    _grouped: Mapping[int, Grouped] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        subjects = self.layout.subjects
        constant = np.array([subject.bins.constant for subject in subjects], dtype=np.bool_)
        named = frozenset(s.name for s in subjects if s.bins.constant and s.role == "feature")
        groups = {target: grouped(self.layout, self.profile.counts, target) for target in TARGETS}
        object.__setattr__(self, "constant", constant)
        object.__setattr__(self, "constants", named)
        object.__setattr__(self, "_grouped", groups)

    def grouped(self, target: int) -> Grouped:
        """The groups of all subjects for `target` (one of TARGETS; KeyError otherwise), made once."""
        return self._grouped[target]
