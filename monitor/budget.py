"""Which series a scrape shows when there are too many, and what is said of the rest. Pure.

The budget of a process is a hard limit, however many models, versions, features and topics there are. In this order, while there is room:
what the process itself counts; of each model what every board and rule starts from; what has drifted, the most severe first; the rest of
what is about a whole model; and then of each model the feature that is nearest to its threshold, the second nearest, and so on.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from monitor.series import Sample, Subject
from monitor.telemetry import Histogram
from monitor.verdicts import Verdicts

PROCESS_SERIES_MAX = 10_000  # of one scrape, all families, unless `http.series` says otherwise; about 200 ms and 1 MB
MODEL_SERIES_MAX = 2_000  # of one model's features, metrics and detectors
OTHERS = "__other__"  # what was left out of models beyond those that are named, and of the process itself
NAMED_MAX = 100  # models of which is said by name how much was left out
PROCESS_SHARE = 0.5  # of the budget, for what is not about a model
CORE_SHARE = 0.9  # of what is left then, for the core of models: the worst of a large fleet must be seen too


@dataclass(slots=True)
class ModelSeries:
    """What there is to show of a model. `core` is shown as one or not at all, and so is each of `units`; the first go first.
    `awaited`: an alert of it fires, or a retraining was asked for.
    """

    model: str
    core: list[Sample] = field(default_factory=list)
    units: list[list[Sample]] = field(default_factory=list)
    verdicts: Sequence[Verdicts] = ()
    awaited: bool = False

    @property
    def severity(self) -> int:
        """0 quiet, 1 warning, 2 critical."""
        return max((found.severe[0].severity or 0 for found in self.verdicts if found.severe), default=0)


class Budget:
    """How many series may still be shown, and by model how many were left out (`""`: of the process)."""

    def __init__(self, series_max: int = PROCESS_SERIES_MAX, model_max: int = MODEL_SERIES_MAX) -> None:
        self.left = max(series_max, 0)
        self.left_out: Counter[str] = Counter()
        self._model_max = model_max
        self._spent: Counter[str] = Counter()

    def take(self, model: str, series: int, *, keep: int = 0) -> bool:
        """Whether `series` more of `model` may be shown; if not they count as left out. `keep`: so many must remain for others."""
        if series <= self.left - keep and self._spent[model] + series <= self._model_max:
            self._spent[model] += series
            self.left -= series
            return True
        self.left_out[model] += series
        return False

    def take_core(self, series: int, *, keep: int = 0) -> bool:
        """As `take`, beyond what one model may have, and nothing is counted."""
        if series > self.left - keep:
            return False
        self.left -= series
        return True

    def told(self) -> Mapping[str, int]:
        """What was left out by name, the most first, and of all others together under OTHERS, which is always there."""
        models = Counter({name: series for name, series in self.left_out.items() if name and series})
        named = dict(sorted(models.items(), key=lambda item: (-item[1], item[0]))[:NAMED_MAX])
        return {**named, OTHERS: self.left_out.total() - sum(named.values())}


def choose(budget: Budget, process: Iterable[Sample], models: Iterable[ModelSeries]) -> list[Sample]:
    """The samples to show. What they are and `budget.left_out` add up to all there is."""
    shown: list[Sample] = []
    keep = int(budget.left * (1 - PROCESS_SHARE))
    for sample in process:
        if budget.take_core(_series([sample]), keep=keep):
            shown.append(sample)
        else:
            budget.left_out[""] += _series([sample])
    ordered = sorted(models, key=lambda found: (-found.severity, not found.awaited, found.model))
    keep = int(budget.left * (1 - CORE_SHARE))
    without = [found for found in ordered if not _core(budget, shown, found, keep)]
    severe = [subject for found in ordered for verdicts in found.verdicts for subject in verdicts.severe]
    for subject in sorted(severe, key=lambda found: found.urgency):
        _subject(budget, shown, subject)
    for found in without:
        if not _core(budget, shown, found):
            budget.left_out[found.model] += _series(found.core)
    for found in ordered:
        for subject in [subject for verdicts in found.verdicts for subject in verdicts.whole]:
            _subject(budget, shown, subject)
        for unit in found.units:
            if budget.take(found.model, _series(unit)):
                shown += unit
    _take_turns(budget, shown, ordered)
    return shown


def _core(budget: Budget, shown: list[Sample], found: ModelSeries, keep: int = 0) -> bool:
    taken = budget.take_core(_series(found.core), keep=keep)
    if taken:
        shown += found.core
    return taken


def _subject(budget: Budget, shown: list[Sample], subject: Subject) -> None:
    if budget.take(subject.model, subject.size):
        shown += subject.samples


def _take_turns(budget: Budget, shown: list[Sample], ordered: Sequence[ModelSeries]) -> None:
    """The first quiet feature of each model, the second of each, and so on."""
    tracks = [(found.model, verdicts) for found in ordered for verdicts in found.verdicts if verdicts.quiet]
    least = min((verdicts.least for _, verdicts in tracks), default=0)
    looked: Counter[str] = Counter()
    for turn in itertools.count():
        these = [verdicts.quiet[turn] for _, verdicts in tracks if turn < len(verdicts.quiet)]
        if not these or budget.left < least:
            break
        for subject in sorted(these, key=lambda found: found.urgency):
            looked[subject.model] += subject.size
            _subject(budget, shown, subject)
    for model, verdicts in tracks:
        budget.left_out[model] += verdicts.quiet_series
    budget.left_out.subtract(looked)


def _series(samples: Sequence[Sample]) -> int:
    """A histogram is one for each bound, and its sum and count."""
    return sum(len(value.counts) + 2 if isinstance(value, Histogram) else 1 for _, _, value in samples)
