"""How many versions of a model are told apart. What is kept of a version (counts, windows, series) is kept of each, so somebody who writes
a build number or a request's id as version must not fill the store: beyond the limit versions are judged together, under one name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

VERSIONS_MAX = 100  # of one model, in use at the same time
OTHER_VERSIONS = "__other__"


@dataclass(slots=True)
class Versions:
    """Versions that one intake tells apart, by model, each with the newest event time (ms) seen of it.

    A version has a place while events of it come; when all are taken one that has had no event for `kept_ms` of event time gives up its own.
    `pinned` ones, which have a reference of their own, and events without a version need none. What is decided depends on the order of
    events alone, not on how they were cut into blocks.
    """

    kept_ms: Mapping[str, int]
    pinned: frozenset[tuple[str, str]] = frozenset()
    most: int = VERSIONS_MAX
    _seen: dict[str, dict[str, int]] = field(default_factory=dict)
    _folding: set[str] = field(default_factory=set)  # models of which versions have been judged together

    def know(self, seen: Iterable[tuple[str, str, int]]) -> None:
        """(model, version, newest event time) of what was told apart before this process began. The newest come first."""
        for model, version, newest_ms in sorted(seen, key=lambda one: (-one[2], one[1])):
            places = self._seen.setdefault(model, {})
            if version == OTHER_VERSIONS:
                self._folding.add(model)
            if not self._needs_none(model, version) and len(places) < self.most:
                places.setdefault(version, newest_ms)

    def fold(self, model: str, versions: Sequence[str], times_ms: NDArray[np.int64]) -> tuple[Sequence[str], int]:
        """The versions to judge these events by, and how many of the events were given another than their own."""
        places = self._seen.setdefault(model, {})
        names = {version for version in set(versions) if not self._needs_none(model, version)}
        if not names:
            return versions, 0
        if len(names) == 1 and len(set(versions)) == 1 and (names <= places.keys() or len(places) < self.most):
            name, newest_ms = versions[0], int(times_ms.max())
            places[name] = max(newest_ms, places.get(name, newest_ms))
            return versions, 0
        if names <= places.keys():
            for version, time_ms in zip(versions, times_ms.tolist(), strict=True):
                if time_ms > places.get(version, time_ms):
                    places[version] = time_ms
            return versions, 0
        folded = [
            self._place(model, places, version, time_ms) if version in names else version
            for version, time_ms in zip(versions, times_ms.tolist(), strict=True)
        ]
        others = sum(one != other for one, other in zip(folded, versions, strict=True))
        if others:
            self._folding.add(model)
        return folded, others

    def fold_outcomes(self, model: str, versions: Sequence[str]) -> Sequence[str]:
        """The versions that these outcomes are about. One that may have been judged with others becomes "": whichever scored the id."""
        if model not in self._folding:
            return versions
        places = self._seen[model]
        return ["" if name not in places and (model, name) not in self.pinned else name for name in versions]

    def _needs_none(self, model: str, version: str) -> bool:
        return version in ("", OTHER_VERSIONS) or (model, version) in self.pinned

    def _place(self, model: str, places: dict[str, int], version: str, time_ms: int) -> str:
        if version not in places and len(places) >= self.most and not self._make_room(model, places, time_ms):
            return OTHER_VERSIONS
        places[version] = max(time_ms, places.get(version, time_ms))
        return version

    def _make_room(self, model: str, places: dict[str, int], time_ms: int) -> bool:
        oldest = min(places, key=lambda name: (places[name], name))
        if places[oldest] >= time_ms - self.kept_ms[model]:
            return False
        del places[oldest]
        return True
