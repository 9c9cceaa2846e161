"""ADWIN, the adaptive window: do an older and a newer part of the window differ in their mean? (Bifet and Gavalda 2007.)

The same answers as river 0.26, index for index; its bound and its restart after each announced change are kept.
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
from detectors.concept.types import ArrivalPane, Verdict

_VERSION = 1

Bucket = tuple[float, float]  # sum, and sum of squared deviations from its mean, of 2**row losses


@dataclass(frozen=True, slots=True, kw_only=True)
class AdwinState:
    """Since the last signal: losses, the window's length, sum and squared deviations, and its buckets by row, oldest first.

    Row i holds buckets of 2**i losses; higher rows are older. `watched`: losses in all.
    """

    losses: int = 0
    width: int = 0
    total: float = 0.0
    deviations: float = 0.0
    rows: tuple[tuple[Bucket, ...], ...] = ((),)
    watched: int = 0
    episode: Episode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adwin:
    """Defaults as in river. `ignore_improvements`: a fall of the mean restarts the window, as in river, but opens no episode.

    ValueError for options outside their range.
    """

    name: ClassVar[str] = "adwin"
    needs_sequence: ClassVar[bool] = True
    baseline: Baseline
    delta: float = 0.002
    clock: int = 32
    max_buckets: int = 5
    min_window_length: int = 5
    grace_period: int = 10
    ignore_improvements: bool = True

    def __post_init__(self) -> None:
        if not 0.0 < self.delta < 1.0 or min(self.clock, self.max_buckets, self.min_window_length) < 1:
            raise ValueError("delta must be in (0, 1), clock, max_buckets and min_window_length at least 1")
        if self.grace_period < 2:
            raise ValueError("grace_period must be at least 2")

    def start(self) -> AdwinState:
        """Nothing seen yet."""
        return AdwinState()

    def signals(self, state: AdwinState, losses: Iterable[float]) -> tuple[AdwinState, list[Signal], float]:
        """The state after more losses, the changes announced at them, and the largest ratio of a difference of means to its bound."""
        window = _Window(self, state)
        found, ratio, index = [], 0.0, -1
        for index, loss in enumerate(losses):
            window.insert(loss)
            if window.losses % self.clock == 0 and window.width > self.grace_period:
                before, before_total = window.width, window.total
                largest = window.shrink()
                ratio = max(ratio, largest)
                if window.width < before:
                    dropped = (before_total - window.total) / (before - window.width)
                    found.append(Signal(index=index, worse=window.total / window.width > dropped))
                    window = _Window(self, AdwinState())
        return window.frozen(state.watched + index + 1, state.episode), found, ratio

    def step(self, state: AdwinState, pane: ArrivalPane) -> tuple[AdwinState, Verdict]:
        """Take in the next pane. Evidence: the largest ratio of a difference of means to its bound; above 1 is a change."""
        after, found, ratio = self.signals(state, losses_in_order(pane, self.name))
        episode, verdict = followed(
            baseline=self.baseline,
            pane=pane,
            before=state.episode,
            signals=found,
            ignore_improvements=self.ignore_improvements,
            evidence=ratio,
            watched=after.watched,
        )
        return replace(after, episode=episode), replace(verdict, detail={**verdict.detail, "width": after.width})

    def encode(self, state: AdwinState) -> str:
        """As JSON; floats in hexadecimal, so that nothing is rounded."""
        return encoded(
            self.name,
            _VERSION,
            {
                "losses": state.losses,
                "width": state.width,
                "total": state.total.hex(),
                "deviations": state.deviations.hex(),
                "rows": [[[total.hex(), deviations.hex()] for total, deviations in row] for row in state.rows],
                "watched": state.watched,
                "episode": written_episode(state.episode),
            },
        )

    def decode(self, text: str) -> AdwinState:
        """The state that was encoded. ValueError when it is damaged or of another detector or version."""
        return decoded(self.name, _VERSION, text, _read)


class _Window:
    """A state while losses are put into it."""

    def __init__(self, options: Adwin, state: AdwinState) -> None:
        self.options = options
        self.losses, self.width = state.losses, state.width
        self.total, self.deviations = state.total, state.deviations
        self.rows = [list(row) for row in state.rows]

    def frozen(self, watched: int, episode: Episode | None) -> AdwinState:
        return AdwinState(
            losses=self.losses,
            width=self.width,
            total=self.total,
            deviations=self.deviations,
            rows=tuple(tuple(row) for row in self.rows),
            watched=watched,
            episode=episode,
        )

    def insert(self, loss: float) -> None:
        self.losses += 1
        self.width += 1
        if self.width > 1:
            others = self.width - 1
            distance = loss - self.total / others
            self.deviations += others * distance * distance / self.width
        self.total += loss
        self.rows[0].append((loss, 0.0))
        if len(self.rows[0]) > self.options.max_buckets:
            self._compress()

    def _compress(self) -> None:
        """Join the two oldest buckets of each row that has one too many."""
        row = 0
        while row < len(self.rows) and len(self.rows[row]) > self.options.max_buckets:
            if row + 1 == len(self.rows):
                self.rows.append([])
            (total1, deviations1), (total2, deviations2) = self.rows[row][:2]
            del self.rows[row][:2]
            size = float(2**row)
            distance = total1 / size - total2 / size
            between = size * size * distance * distance / (size + size)
            self.rows[row + 1].append((total1 + total2, deviations1 + deviations2 + between))
            row += 1

    def shrink(self) -> float:
        """Drop the oldest bucket as long as any cut shows a difference. The largest ratio of a difference to its bound is returned."""
        largest = 0.0
        while (ratio := self._largest_ratio()) > 0.0:
            largest = max(largest, ratio)
            if ratio <= 1.0:
                break
            self._drop_oldest()
        return largest

    def _largest_ratio(self) -> float:
        """Over the cuts between buckets, from the oldest, up to the first ratio above 1; 0 where rounding made the variance negative."""
        least = self.options.min_window_length
        if self.deviations < 0.0 or self.width < 2:
            return 0.0
        spread = 2.0 * (self.deviations / self.width)
        doubt = math.log(2.0 * math.log(self.width) / self.options.delta)
        n0, n1, u0, u1, largest = 0, self.width, 0.0, self.total, 0.0
        for row in range(len(self.rows) - 1, -1, -1):
            size = 1 << row
            for total, _ in self.rows[row]:
                n0, n1, u0, u1 = n0 + size, n1 - size, u0 + total, u1 - total
                if n0 < least or n1 < least:
                    continue
                harmonic = 1.0 / (n0 - least + 1) + 1.0 / (n1 - least + 1)
                bound = math.sqrt(spread * harmonic * doubt) + 2.0 / 3.0 * doubt * harmonic
                largest = max(largest, abs(u0 / n0 - u1 / n1) / bound)
                if largest > 1.0:
                    return largest
        return largest

    def _drop_oldest(self) -> None:
        size = 1 << (len(self.rows) - 1)
        total, deviations = self.rows[-1].pop(0)
        self.width -= size
        self.total -= total
        distance = total / size - self.total / self.width
        self.deviations -= deviations + size * self.width * distance * distance / (size + self.width)
        if not self.rows[-1]:
            self.rows.pop()


def _read(fields: dict[str, Any]) -> AdwinState:
    return AdwinState(
        losses=int(fields["losses"]),
        width=int(fields["width"]),
        total=float.fromhex(fields["total"]),
        deviations=float.fromhex(fields["deviations"]),
        rows=tuple(
            tuple((float.fromhex(total), float.fromhex(deviations)) for total, deviations in row)
            for row in fields["rows"]
        ),
        watched=int(fields["watched"]),
        episode=read_episode(fields["episode"]),
    )
