"""Concept drift detectors by name. A file concept_NAME.py holds the detector NAME as a dataclass of its options; here they are listed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from detectors.concept.adwin import Adwin
from detectors.concept.baseline import Baseline, baseline_of
from detectors.concept.ddm import Ddm
from detectors.concept.e_sr import ESr
from detectors.concept.episode import Episode
from detectors.concept.page_hinkley import PageHinkley
from detectors.concept.types import ArrivalPane, ConceptDetector, Verdict

__all__ = [
    "DEFAULT",
    "DETECTORS",
    "ArrivalPane",
    "Baseline",
    "ConceptDetector",
    "Episode",
    "Verdict",
    "baseline_of",
    "detector",
    "needs_sequence",
]

DETECTORS: Mapping[str, type[ESr | Adwin | Ddm | PageHinkley]] = {
    kind.name: kind for kind in (ESr, Adwin, Ddm, PageHinkley)
}
DEFAULT = ESr.name


def detector(
    name: str, baseline: Baseline, options: Mapping[str, float | int | bool] | None = None
) -> ConceptDetector[Any]:
    """The detector `name` with these options (all others at their defaults). ValueError for a name or an option that is not known."""
    kind = DETECTORS.get(name)
    if kind is None:
        raise ValueError(f"no concept detector {name!r}; there are {', '.join(DETECTORS)}")
    given = dict(options or {})
    known = {field.name for field in fields(kind)} - {"baseline"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    make: Any = kind
    made: ConceptDetector[Any] = make(baseline=baseline, **given)
    return made


def needs_sequence(names: Iterable[str]) -> bool:
    """Must arrival profiles keep single losses in order for any of these detectors? KeyError for a name that is not known."""
    return any(DETECTORS[name].needs_sequence for name in names)
