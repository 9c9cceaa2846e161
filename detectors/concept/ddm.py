"""DDM, the drift detection method: is the error rate far above the lowest it has been? (Gama, Medas, Castillo, Rodrigues 2004.)

The same numbers as river 0.26, index for index. One-sided; no bound on false alarms is promised by the method.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from detectors.concept.baseline import Baseline
from detectors.concept.episode import Episode
from detectors.concept.sequence import Signal, followed, losses_in_order
from detectors.concept.state import decoded, encoded, read_episode, written_episode
from detectors.concept.types import ArrivalPane, Verdict, finite_or_none

_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DdmState:
    """Since the last signal: losses, their mean, and mean and deviation where their sum was lowest. `watched`: losses in all."""

    losses: int = 0
    mean: float = 0.0
    lowest_mean: float = math.inf
    lowest_deviation: float = math.inf
    watched: int = 0
    episode: Episode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ddm:
    """Defaults as in river. `ignore_improvements` changes nothing here: only a rise is ever announced."""

    name: ClassVar[str] = "ddm"
    needs_sequence: ClassVar[bool] = True
    baseline: Baseline
    warm_start: int = 30
    warning_threshold: float = 2.0
    drift_threshold: float = 3.0
    ignore_improvements: bool = True

    def start(self) -> DdmState:
        """Nothing seen yet."""
        return DdmState()

    def signals(self, state: DdmState, losses: Iterable[float]) -> tuple[DdmState, list[Signal]]:
        """The state after more losses, and the rises announced at them."""
        n, mean, low_mean, low_deviation = state.losses, state.mean, state.lowest_mean, state.lowest_deviation
        found, index = [], -1
        for index, loss in enumerate(losses):
            n += 1
            mean += (1.0 / n) * (loss - mean)
            if n <= self.warm_start:
                continue
            deviation = math.sqrt(max(mean * (1.0 - mean), 0.0) / n)
            if mean + deviation <= low_mean + low_deviation:
                low_mean, low_deviation = mean, deviation
            if mean + deviation > low_mean + self.drift_threshold * low_deviation:
                found.append(Signal(index=index, worse=True))
                n, mean, low_mean, low_deviation = 0, 0.0, math.inf, math.inf
        after = DdmState(
            losses=n,
            mean=mean,
            lowest_mean=low_mean,
            lowest_deviation=low_deviation,
            watched=state.watched + index + 1,
            episode=state.episode,
        )
        return after, found

    def step(self, state: DdmState, pane: ArrivalPane) -> tuple[DdmState, Verdict]:
        """Take in the next pane. Evidence: how many of the lowest deviations the rate is above the lowest; None in the warm-up."""
        after, found = self.signals(state, losses_in_order(pane, self.name))
        evidence = self._deviations(after)
        episode, verdict = followed(
            baseline=self.baseline,
            pane=pane,
            before=state.episode,
            signals=found,
            ignore_improvements=self.ignore_improvements,
            evidence=evidence,
            watched=after.watched,
        )
        warned = int(evidence is not None and evidence > self.warning_threshold)
        return replace(after, episode=episode), replace(verdict, detail={**verdict.detail, "warned": warned})

    def encode(self, state: DdmState) -> str:
        """As JSON; floats in hexadecimal, so that nothing is rounded."""
        numbers = (state.mean, state.lowest_mean, state.lowest_deviation)
        return encoded(
            self.name,
            _VERSION,
            {
                "losses": state.losses,
                "numbers": [number.hex() for number in numbers],
                "watched": state.watched,
                "episode": written_episode(state.episode),
            },
        )

    def decode(self, text: str) -> DdmState:
        """The state that was encoded. ValueError when it is damaged or of another detector or version."""
        return decoded(self.name, _VERSION, text, _read)

    def _deviations(self, state: DdmState) -> float | None:
        if not 0.0 < state.lowest_deviation < math.inf:
            return None
        deviation = math.sqrt(max(state.mean * (1.0 - state.mean), 0.0) / state.losses)
        return finite_or_none((state.mean + deviation - state.lowest_mean) / state.lowest_deviation)


def _read(fields: dict[str, Any]) -> DdmState:
    mean, lowest_mean, lowest_deviation = map(float.fromhex, fields["numbers"])
    return DdmState(
        losses=int(fields["losses"]),
        mean=mean,
        lowest_mean=lowest_mean,
        lowest_deviation=lowest_deviation,
        watched=int(fields["watched"]),
        episode=read_episode(fields["episode"]),
    )
