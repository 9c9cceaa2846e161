"""The subjects of every model version in use, worked out anew only where a window has changed since the last scrape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from detectors.finding import Monitor
from monitor import outcome_series, series
from monitor.outcome_series import Track
from monitor.results import brief_findings, decode_findings
from monitor.series import Judged, Subject
from monitor.store import WindowRow

_Signature = tuple[tuple[str, int, int], ...]


_OF_LABELS = frozenset({Monitor.PERFORMANCE, Monitor.CONCEPT})
_urgency = attrgetter("urgency")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Of one model version: its subjects, each kind with the most urgent first, and the state (0 ok, 1 warning, 2 critical, -1 insufficient
    data) of each feature. `quiet_series` is how many series all of `quiet` have, `least` how many the smallest of them has."""

    signature: _Signature
    severe: Sequence[Subject]
    whole: Sequence[Subject]  # quiet, and about the model as a whole
    quiet: Sequence[Subject]
    quiet_series: int
    least: int
    features: Mapping[str, int]


class VerdictBook:
    """`update` with the newest windows of every version in use, then ask."""

    def __init__(self) -> None:
        self._known: dict[Track, Verdicts] = {}

    def update(self, windows: Iterable[WindowRow], labelled: Mapping[Track, Judged]) -> None:
        rows: dict[Track, list[WindowRow]] = {}
        for window in windows:
            rows.setdefault((window.model, window.version), []).append(window)
        known = self._known
        self._known = {}
        for track, found in rows.items():
            judged = labelled.get(track)
            signature = tuple(map(_mark, found if judged is None else [*found, judged[0]]))
            before = known.get(track)
            unchanged = before is not None and before.signature == signature
            self._known[track] = before if before is not None and unchanged else _verdicts(signature, found, labelled)

    def of_models(self) -> Mapping[str, Sequence[Verdicts]]:
        """The verdicts on every version of a model."""
        found: dict[str, list[Verdicts]] = {}
        for (model, _), verdicts in self._known.items():
            found.setdefault(model, []).append(verdicts)
        return found

    def features(self) -> Counter[tuple[str, str]]:
        """How many features of a model are in which state; of its versions the worse one counts."""
        by_model: dict[str, list[Mapping[str, int]]] = {}
        for (model, _), verdicts in self._known.items():
            by_model.setdefault(model, []).append(verdicts.features)
        counts: Counter[tuple[str, str]] = Counter()
        for model, versions in by_model.items():
            worst = dict(versions[0])
            for version in versions[1:]:
                for feature, state in version.items():
                    worst[feature] = max(worst.get(feature, state), state)
            for state, features in Counter(worst.values()).items():
                counts[model, series.FEATURE_STATES[state]] += features
        return counts


def _mark(row: WindowRow) -> tuple[str, int, int]:
    return row.id, row.revision, row.decided


def _verdicts(signature: _Signature, windows: Sequence[WindowRow], labelled: Mapping[Track, Judged]) -> Verdicts:
    judged = [(window, decode_findings(window.findings)) for window in windows if window.monitor in _OF_LABELS]
    others = ((window, brief_findings(window.findings)) for window in windows if window.monitor not in _OF_LABELS)
    features = series.subjects(others)
    details = [*features, *outcome_series.performance(judged, labelled), *outcome_series.concept(judged)]
    quiet = [found for found in details if not found.severity and not found.first]
    quiet.sort(key=lambda found: (-found.excess, found.name))
    return Verdicts(
        signature=signature,
        severe=sorted([found for found in details if found.severity], key=_urgency),
        whole=sorted([found for found in details if found.first and not found.severity], key=_urgency),
        quiet=quiet,
        quiet_series=sum(found.size for found in quiet),
        least=min((found.size for found in quiet), default=0),
        features={
            found.name: -1 if found.severity is None else found.severity for found in features if found.is_feature
        },
    )
