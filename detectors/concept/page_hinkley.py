"""Page-Hinkley: has the sum of deviations from the running mean moved too far from its extreme? (Page 1954.)

The same numbers as river 0.26, index for index. No bound on false alarms is promised by the method.
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
_LOWEST_MAXIMUM = -1.0  # where the maximum of the falling sum starts, in river as in scikit-multiflow before it


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHinkleyState:
    """Since the last signal: losses, their mean, faded sums of deviations with their extremes. `watched`: losses in all."""

    losses: int = 0
    mean: float = 0.0
    rising: float = 0.0
    falling: float = 0.0
    rising_min: float = math.inf
    falling_max: float = _LOWEST_MAXIMUM
    watched: int = 0
    episode: Episode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageHinkley:
    """Defaults as in river. `ignore_improvements`: a fall of the mean resets the test, as in river, but opens no episode."""

    name: ClassVar[str] = "page_hinkley"
    needs_sequence: ClassVar[bool] = True
    baseline: Baseline
    min_instances: int = 30
    delta: float = 0.005
    threshold: float = 50.0
    alpha: float = 0.9999
    ignore_improvements: bool = True

    def start(self) -> PageHinkleyState:
        """Nothing seen yet."""
        return PageHinkleyState()

    def signals(self, state: PageHinkleyState, losses: Iterable[float]) -> tuple[PageHinkleyState, list[Signal]]:
        """The state after more losses, and the changes announced at them; rises and falls alike."""
        n, mean, rising, falling = state.losses, state.mean, state.rising, state.falling
        rising_min, falling_max = state.rising_min, state.falling_max
        found, index = [], -1
        for index, loss in enumerate(losses):
            n += 1
            mean += (1.0 / n) * (loss - mean)
            deviation = loss - mean
            rising = self.alpha * rising + deviation - self.delta
            falling = self.alpha * falling + deviation + self.delta
            rising_min = min(rising_min, rising)
            falling_max = max(falling_max, falling)
            if n < self.min_instances:
                continue
            worse = rising - rising_min > self.threshold
            if worse or falling_max - falling > self.threshold:
                found.append(Signal(index=index, worse=worse))
                n, mean, rising, falling, rising_min, falling_max = 0, 0.0, 0.0, 0.0, math.inf, _LOWEST_MAXIMUM
        after = PageHinkleyState(
            losses=n,
            mean=mean,
            rising=rising,
            falling=falling,
            rising_min=rising_min,
            falling_max=falling_max,
            watched=state.watched + index + 1,
            episode=state.episode,
        )
        return after, found

    def step(self, state: PageHinkleyState, pane: ArrivalPane) -> tuple[PageHinkleyState, Verdict]:
        """Take in the next pane. Evidence: the rise of the sum above its minimum."""
        after, found = self.signals(state, losses_in_order(pane, self.name))
        episode, verdict = followed(
            baseline=self.baseline,
            pane=pane,
            before=state.episode,
            signals=found,
            ignore_improvements=self.ignore_improvements,
            evidence=finite_or_none(after.rising - after.rising_min),
            watched=after.watched,
        )
        return replace(after, episode=episode), verdict

    def encode(self, state: PageHinkleyState) -> str:
        """As JSON; floats in hexadecimal, so that nothing is rounded."""
        numbers = (state.mean, state.rising, state.falling, state.rising_min, state.falling_max)
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

    def decode(self, text: str) -> PageHinkleyState:
        """The state that was encoded. ValueError when it is damaged or of another detector or version."""
        return decoded(self.name, _VERSION, text, _read)


def _read(fields: dict[str, Any]) -> PageHinkleyState:
    mean, rising, falling, rising_min, falling_max = map(float.fromhex, fields["numbers"])
    return PageHinkleyState(
        losses=int(fields["losses"]),
        mean=mean,
        rising=rising,
        falling=falling,
        rising_min=rising_min,
        falling_max=falling_max,
        watched=int(fields["watched"]),
        episode=read_episode(fields["episode"]),
    )
