"""An episode: from a detector's alarm until the loss is back where it may be. One rule of recovery for all detectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

RECOVERY_LABELS = 500  # so many of the newest labels tell whether the loss is back
_NOT_ABOVE, _BELOW = 1.645, 3.0  # standard errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """Sums over the panes from the alarm on, the pane of the alarm included.

    `allowed`: sum over panes of labels times tolerated mean loss. `recent`: (labels, loss, allowed) of the newest panes after the
    alarm, no more of them than are needed for RECOVERY_LABELS labels.
    """

    opened_ms: int
    onset_ms: int
    labels: int
    loss_sum: float
    loss_squared: float
    allowed: float
    recent: tuple[tuple[int, float, float], ...] = ()

    @property
    def recovered(self) -> bool:
        """Is the loss back, by the newest labels: RECOVERY_LABELS or more, in whole panes since the alarm?

        Yes where their mean is at or under the tolerated one. Also where it is not evidently above it (1.645 standard errors) and evidently
        below the mean of the episode before them (3 standard errors): a loss that has fallen from .90 to just about what is tolerated
        would otherwise toss a coin in every pane. Standard errors are those of losses of 0 and 1, the largest that a mean allows; a
        small drift is too near the tolerated mean for the second rule to matter.
        """
        labels = sum(entry[0] for entry in self.recent)
        if labels < RECOVERY_LABELS:
            return False
        loss, allowed = sum(entry[1] for entry in self.recent), sum(entry[2] for entry in self.recent)
        if loss <= allowed:
            return True
        before = self.labels - labels
        mean, threshold, earlier = loss / labels, allowed / labels, (self.loss_sum - loss) / before
        far = threshold + _NOT_ABOVE * _standard_error(threshold, labels)
        noise = _standard_error((mean + earlier) / 2.0, min(before, labels))
        return mean <= far and mean + _BELOW * noise <= earlier

    def then(self, labels: int, loss_sum: float, loss_squared: float, threshold: float) -> Episode:
        """The episode after one more pane with `labels` labels (possibly none) and the tolerated mean loss `threshold`."""
        if labels == 0:
            return self
        recent = [*self.recent, (labels, loss_sum, labels * threshold)]
        held = sum(entry[0] for entry in recent)
        while held - recent[0][0] >= RECOVERY_LABELS:
            held -= recent.pop(0)[0]
        return Episode(
            opened_ms=self.opened_ms,
            onset_ms=self.onset_ms,
            labels=self.labels + labels,
            loss_sum=self.loss_sum + loss_sum,
            loss_squared=self.loss_squared + loss_squared,
            allowed=self.allowed + labels * threshold,
            recent=tuple(recent),
        )


def _standard_error(mean: float, labels: int) -> float:
    return math.sqrt(max(mean * (1.0 - mean), 0.0) / labels)
