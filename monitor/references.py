"""Which reference judges which pane: the book of a model's references, and the adoption of a changed table.

References are immutable. A new one takes force at a stored window boundary, so a pane has one reference for all its rows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

from detectors.bins import CategoryBins, NumericBins
from detectors.reference.build import Reference, decode_reference
from monitor.config import Model
from monitor.decoding.event_schema import EventSchema, FeatureSchema, Kind, Task
from monitor.errors import UserError
from monitor.store import ReferenceRow


@dataclass(frozen=True, slots=True)
class Adopted:
    """A reference in force from `effective_from_ms` on; `version` "" serves every version that has none of its own."""

    version: str
    effective_from_ms: int
    reference: Reference


@dataclass(slots=True)
class ReferenceBook:
    """All references of the configured models, by model and version, in the order in which they took force."""

    generation: int = 0
    _shelves: dict[tuple[str, str], list[Adopted]] = field(default_factory=dict)
    _by_hash: dict[str, Reference] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[ReferenceRow], generation: int) -> ReferenceBook:
        """The book of these stored rows. Decoding is done once a hash."""
        book = cls(generation=generation)
        for row in sorted(rows, key=lambda row: row.effective_from_ms):  # of equal ones the last added is in force
            reference = book._by_hash.get(row.hash)
            if reference is None:
                reference = book._by_hash[row.hash] = decode_reference(row.payload)
            book._shelves.setdefault((row.model, row.version), []).append(
                Adopted(row.version, row.effective_from_ms, reference)
            )
        return book

    def in_force(self, model: str, version: str, start_ms: int) -> Adopted | None:
        """The reference of a pane: the version's own, else the unversioned one; None where neither is in force yet."""
        for shelf_version in dict.fromkeys((version, "")):
            shelf = self._shelves.get((model, shelf_version), [])
            place = bisect_right([adopted.effective_from_ms for adopted in shelf], start_ms)
            if place:
                return shelf[place - 1]
        return None

    def by_hash(self, digest: str) -> Reference | None:
        return self._by_hash.get(digest)

    def of_model(self, model: str) -> list[Adopted]:
        return [adopted for (name, _), shelf in self._shelves.items() if name == model for adopted in shelf]

    def schema(self, model: Model) -> EventSchema:
        """What to decode of this model's events: every feature that one of its references judges.

        Raises UserError when two references of the model read the same feature as different kinds.
        """
        kinds: dict[str, Kind] = {}
        classes: tuple[str, ...] = ()
        task: Task | None = model.task
        for adopted in self.of_model(model.name):
            classes = tuple(dict.fromkeys((*classes, *(adopted.reference.settings.classes or ()))))
            task = task or cast("Task", adopted.reference.settings.task)
            for name, kind in _kinds(adopted.reference).items():
                if kinds.setdefault(name, kind) != kind:
                    raise UserError(
                        f"model {model.name}: feature {name} is {kinds[name]} in one reference and {kind} in another "
                        f"(set models.{model.name}.features.{name}.kind and build the references again)"
                    )
        try:
            return EventSchema(
                model=model.name,
                task=task or "unlabelled",
                features=tuple(FeatureSchema(name, kind) for name, kind in sorted(kinds.items())),
                classes=classes,
                label_map=model.label_map,
            )
        except ValueError as error:
            raise UserError(f"{error} (rename the column, or list it under reference.ignore)") from error


def _kinds(reference: Reference) -> dict[str, Kind]:
    return {subject.name: _kind(subject.bins) for subject in reference.layout.subjects if subject.role == "feature"}


def _kind(bins: NumericBins | CategoryBins) -> Kind:
    if isinstance(bins, NumericBins):
        return "numeric"
    return "boolean" if set(bins.categories) <= {"true", "false"} else "categorical"
