"""How strict the tests are: what a model's configuration and its false-alarm budget may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

TOLERATED_PSI = 0.02  # about a shift of .14 sd: below it nobody has been seen to act


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`min_rows` rows with a value are needed to judge a distribution, `quality_min_rows` rows to judge quality.

    `tolerate_sd`: feature -> the shift in sd that is nobody's concern (default .1414). `level_scale`, in (0, 1], multiplies every
    error rate: the false-alarm budget may lower them, never raise them (ValueError).
    """

    min_rows: int = 200
    quality_min_rows: int = 50
    tolerate_sd: Mapping[str, float] = field(default_factory=dict)
    level_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.level_scale <= 1.0:
            raise ValueError(f"level_scale must be in (0, 1], not {self.level_scale}")
        if any(not tolerated > 0.0 for tolerated in self.tolerate_sd.values()):
            raise ValueError("tolerate_sd must be greater than 0")
