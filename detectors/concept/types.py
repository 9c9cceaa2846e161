"""What concept drift detectors are given and what they answer: panes of arrived losses, verdicts, the port."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from detectors.concept.baseline import Baseline
from detectors.concept.episode import Episode

DAY_MS = 86_400_000
RESOLUTION = 2.0**-20  # losses are kept in whole multiples of this

StateT = TypeVar("StateT")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrivalPane:
    """Losses of the labels whose outcome time is in [start_ms, end_ms); every loss is in [0, 1], 0 or 1 for a classification.

    `loss_squared` must be no smaller than the sum of the squared losses. `sequence`: the losses in order of (outcome time, id hash),
    None where no detector needs them. ValueError when the numbers contradict each other: no `labels` losses in [0, 1] have such sums.
    """

    start_ms: int
    end_ms: int
    labels: int
    loss_sum: float
    loss_squared: float
    sequence: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        slack = self.labels * RESOLUTION
        possible = self.labels >= 0 and 0.0 <= self.loss_sum <= self.labels
        if not possible or not 0.0 <= self.loss_squared <= self.loss_sum + slack:
            raise ValueError(f"no {self.labels} losses in [0, 1] have the sums {self.loss_sum}, {self.loss_squared}")
        if self.end_ms <= self.start_ms:
            raise ValueError("an arrival pane ends after it starts")
        if self.sequence is not None and len(self.sequence) != self.labels:
            raise ValueError(f"{len(self.sequence)} losses in order, but {self.labels} labels")

    @property
    def days(self) -> float:
        """Its length."""
        return (self.end_ms - self.start_ms) / DAY_MS

    @property
    def mean(self) -> float | None:
        """Mean loss; None without labels."""
        return self.loss_sum / self.labels if self.labels else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a detector says after a pane.

    `drifting`: an episode is open; `opened`, `closed`: by this pane. `value`: mean loss of the pane (None: no labels). `baseline`: the
    reference's mean loss. `threshold`: the mean loss that is tolerated in this pane. `evidence`: the detector's own statistic (e-SR:
    log of the e-value). `onset_ms`: start of the pane in which the episode's trouble seems to have begun. `labels_watched`: labels the
    detector has taken in since it last (re)started. `episode`: what was seen since the alarm; on closing, for the last time.
    """

    drifting: bool
    opened: bool
    closed: bool
    value: float | None
    baseline: float
    threshold: float
    evidence: float | None
    onset_ms: int | None
    labels_watched: int
    episode: Episode | None = None
    detail: Mapping[str, float | int | str | None] = field(default_factory=dict)


class ConceptDetector(Protocol[StateT]):
    """Watches the losses of one (model, version, reference, segment) as labels arrive, pane after pane, each pane once and in order.

    A state is frozen and is all there is: `decode(encode(state))` equals `state`, and going on from it gives the same verdicts.
    `needs_sequence`: panes must have `sequence` (ValueError otherwise). `decode` raises ValueError when the text is damaged or of
    another detector or version.
    """

    name: ClassVar[str]
    needs_sequence: ClassVar[bool]

    @property
    def baseline(self) -> Baseline: ...

    def start(self) -> StateT: ...

    def step(self, state: StateT, pane: ArrivalPane) -> tuple[StateT, Verdict]: ...

    def encode(self, state: StateT) -> str: ...

    def decode(self, text: str) -> StateT: ...


def finite_or_none(number: float) -> float | None:
    """`number`, None where it is infinite or NaN: what may go into a finding's detail."""
    return number if math.isfinite(number) else None
