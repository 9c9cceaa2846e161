"""e-SR: has the mean loss risen above what is tolerated? An e-Shiryaev-Roberts detector on sums of panes.

At most one false alarm in `guarantee_days` days is promised, on average, for every sequence of losses in [0, 1] whose mean, given the
past, never exceeds the tolerated one, dependent or not. (Shin, Ramdas, Rinaldo 2024, "E-detectors"; bets as in Waudby-Smith and Ramdas
2024.) The promise holds in arrival order if a label's delay says nothing about it, and with the 95 % confidence of the baseline's bound.
"Given the past" is meant label by label: errors that come in clusters do raise the mean given the past, and a bad hour is then a drift.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from detectors.concept.baseline import Baseline
from detectors.concept.episode import Episode
from detectors.concept.state import decoded, encoded, read_episode, written_episode
from detectors.concept.types import ArrivalPane, Verdict, finite_or_none

GUARANTEE_DAYS = 90.0
_BETS = np.geomspace(0.01, 0.9, 12)  # shares of what may be staked: 1 would lose everything at one loss of 0
_LOG_BETS = math.log(len(_BETS))
_NOTHING = (-math.inf,) * len(_BETS)
_VERSION = 1

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ESrState:
    """By bet: log of the Shiryaev-Roberts statistic in days, log of the capital since the likeliest onset, and that onset.

    `recovery`: the mirror statistic of an open episode. `watched`: labels since the (re)start.
    """

    evidence: tuple[float, ...] = _NOTHING
    growth: tuple[float, ...] = (0.0,) * len(_BETS)
    since_ms: tuple[int, ...] = (0,) * len(_BETS)
    watched: int = 0
    recovery: tuple[float, ...] | None = None
    episode: Episode | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ESr:
    """`guarantee_days`: at most one false alarm in so many days, over all the `segments` that share this budget together.

    An alarm opens an episode. It closes when the newest 500 labels or more are back at or under the tolerated mean, or when a mirrored
    detector says so (which, while the loss is truly too high, it does at most once in `guarantee_days` * `segments` days); then the
    detector starts anew. Only panes with labels count as time: silence is no evidence. ValueError for numbers that make no promise.
    """

    name: ClassVar[str] = "e_sr"
    needs_sequence: ClassVar[bool] = False
    baseline: Baseline
    guarantee_days: float = GUARANTEE_DAYS
    segments: int = 1

    def __post_init__(self) -> None:
        if not (math.isfinite(self.guarantee_days) and self.guarantee_days > 0.0 and self.segments >= 1):
            raise ValueError("guarantee_days must be greater than 0 and segments at least 1")

    def start(self) -> ESrState:
        """Nothing seen yet."""
        return ESrState()

    def step(self, state: ESrState, pane: ArrivalPane) -> tuple[ESrState, Verdict]:
        """Take in the next pane. One batch: an alarm, and the onset, are known to the pane."""
        threshold = self.baseline.threshold(pane.start_ms, pane.end_ms)
        if pane.labels == 0:
            return state, self._verdict(state, pane, threshold, before=state.episode, episode=state.episode)
        won = log_growth(pane.labels, pane.loss_sum, pane.loss_squared, threshold)
        evidence = np.logaddexp(np.array(state.evidence), math.log(pane.days)) + won
        onset = [pane.start_ms if g <= 0.0 else t for g, t in zip(state.growth, state.since_ms, strict=True)]
        growth = np.maximum(np.array(state.growth), 0.0) + won
        recovery, episode = None, None
        if state.episode is not None and state.recovery is not None:
            episode = state.episode.then(pane.labels, pane.loss_sum, pane.loss_squared, threshold)
            mirrored = pane.labels - 2.0 * pane.loss_sum + pane.loss_squared
            lost = log_growth(pane.labels, pane.labels - pane.loss_sum, max(mirrored, 0.0), 1.0 - threshold)
            recovery = np.logaddexp(np.array(state.recovery), math.log(pane.days)) + lost
            if episode.recovered or _log_mean(recovery) >= self._log_alarm:
                return ESrState(), self._verdict(ESrState(), pane, threshold, before=state.episode, episode=episode)
        elif _log_mean(evidence) >= self._log_alarm:
            episode = Episode(
                opened_ms=pane.start_ms,
                onset_ms=onset[int(np.argmax(growth))],
                labels=pane.labels,
                loss_sum=pane.loss_sum,
                loss_squared=pane.loss_squared,
                allowed=pane.labels * threshold,
            )
            recovery = np.array(_NOTHING)
        after = ESrState(
            evidence=tuple(evidence.tolist()),
            growth=tuple(growth.tolist()),
            since_ms=tuple(onset),
            watched=state.watched + pane.labels,
            recovery=None if recovery is None else tuple(recovery.tolist()),
            episode=episode,
        )
        return after, self._verdict(after, pane, threshold, before=state.episode, episode=episode)

    def encode(self, state: ESrState) -> str:
        """As JSON; floats in hexadecimal, so that nothing is rounded."""
        return encoded(
            self.name,
            _VERSION,
            {
                "evidence": [x.hex() for x in state.evidence],
                "growth": [x.hex() for x in state.growth],
                "since_ms": list(state.since_ms),
                "watched": state.watched,
                "recovery": None if state.recovery is None else [x.hex() for x in state.recovery],
                "episode": written_episode(state.episode),
            },
        )

    def decode(self, text: str) -> ESrState:
        """The state that was encoded. ValueError when it is damaged or of another detector or version."""
        return decoded(self.name, _VERSION, text, _read)

    @property
    def _log_alarm(self) -> float:
        return math.log(self.guarantee_days * self.segments)

    def _verdict(
        self, after: ESrState, pane: ArrivalPane, threshold: float, *, before: Episode | None, episode: Episode | None
    ) -> Verdict:
        """`before`: the episode open before this pane; `episode`: the same with this pane, or the one it opened."""
        evidence = _log_mean(np.array(after.evidence))
        return Verdict(
            drifting=after.episode is not None,
            opened=before is None and after.episode is not None,
            closed=before is not None and after.episode is None,
            value=pane.mean,
            baseline=self.baseline.mean,
            threshold=threshold,
            evidence=finite_or_none(evidence),
            onset_ms=None if episode is None else episode.onset_ms,
            labels_watched=after.watched,
            episode=episode,
            detail={
                "e_value": math.exp(min(evidence, 700.0)),
                "guarantee_days": self.guarantee_days,
                "segments": self.segments,
            },
        )


def log_growth(labels: int, loss_sum: float, loss_squared: float, threshold: float) -> Floats:
    """Log of what each bet on "the mean loss is above `threshold`" makes of a stake of 1 over a batch: at most its true gain.

    A bet with share f multiplies its capital by 1 + f (x - m) / m at a loss x. The order does not matter, but the product needs every
    x. Two lower bounds of it need sums only, and the larger one counts. The logarithm is concave, so for x in [0, 1] it lies above its
    chord, whose value at x is x log(1 + f (1 - m) / m) + (1 - x) log(1 - f): exact for losses of 0 and 1. And by Fan, Grama and Liu
    (2015, lemma 4.1) log(1 + f u) >= f u - (-log(1 - f) - f) u**2 for u = x / m - 1 >= -1: far better where losses vary little.
    A threshold outside (0, 1) cannot be exceeded or says nothing; no bet is made then.
    """
    if not 0.0 < threshold < 1.0:
        return np.zeros(len(_BETS))
    m = threshold
    ruin = np.log1p(-_BETS)
    chord = loss_sum * np.log1p(_BETS * ((1.0 - m) / m)) + (labels - loss_sum) * ruin
    drift = loss_sum / m - labels
    spread = max(loss_squared / m**2 - 2.0 * loss_sum / m + labels, 0.0)
    return np.maximum(chord, _BETS * drift + (ruin + _BETS) * spread)


def _log_mean(logs: Floats) -> float:
    return float(np.logaddexp.reduce(logs)) - _LOG_BETS


def _read(fields: dict[str, Any]) -> ESrState:
    recovery = fields["recovery"]
    return ESrState(
        evidence=_by_bet(fields["evidence"]),
        growth=_by_bet(fields["growth"]),
        since_ms=tuple(int(t) for t, _ in zip(fields["since_ms"], _BETS, strict=True)),
        watched=int(fields["watched"]),
        recovery=None if recovery is None else _by_bet(recovery),
        episode=read_episode(fields["episode"]),
    )


def _by_bet(texts: list[str]) -> tuple[float, ...]:
    return tuple(float.fromhex(text) for text, _ in zip(texts, _BETS, strict=True))
