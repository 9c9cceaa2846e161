"""What every command that judges events stands on: configuration, store, references, codec, closer. Built once, here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from alerts import routing
from detectors.judge import Policy
from monitor.adoption import ensure_references
from monitor.alerting import Alerting
from monitor.close import Closer, Decision, Watched
from monitor.config import Config, Model
from monitor.intake import Intake
from monitor.references import ReferenceBook
from monitor.store import Store
from monitor.telemetry import Telemetry


@dataclass(slots=True)
class Runtime:
    """Use `build`. `book` reads the references again when the store's generation has moved on."""

    config: Config
    store: Store
    now_ms: Callable[[], int]
    telemetry: Telemetry
    _book: ReferenceBook = field(default_factory=ReferenceBook)

    @classmethod
    def build(cls, config: Config, store: Store, now_ms: Callable[[], int]) -> Runtime:
        """Also builds references that the store lacks. Raises UserError for a changed or missing table."""
        ensure_references(store, config, now_ms())
        return cls(config, store, now_ms, Telemetry())

    def book(self) -> ReferenceBook:
        generation = self.store.reference_generation()
        if generation != self._book.generation:
            self._book = ReferenceBook.of(self.store.references(), generation)
        return self._book

    def new_intake(self) -> Intake:
        book = self.book()
        models = self.config.models.values()
        schemas = {model.name: book.schema(model) for model in models}
        return Intake(schemas, book, {model.name: model.window.size_ms for model in models})

    def closer(self, *, side_effects: bool, decided: Callable[[Decision], None] = lambda decision: None) -> Closer:
        """`side_effects` False: alerts are decided and stored, but nobody is told and nothing is requested."""
        alerting = Alerting(
            receivers=list(self.config.receivers),
            routes=[routing.Route(receiver=route.receiver, match=route.match) for route in self.config.routes],
            side_effects=side_effects,
        )
        watched = {name: Watched(model=model, policy=policy_of(model)) for name, model in self.config.models.items()}
        return Closer(
            self.store,
            watched,
            self.book,
            alerting,
            self.now_ms,
            frozenset(self.config.sources),
            decided,
            self.telemetry,
        )


def policy_of(model: Model) -> Policy:
    """How this model's windows are judged."""
    tolerances = {
        name: feature.tolerate_sd for name, feature in model.features.items() if feature.tolerate_sd is not None
    }
    return Policy(min_rows=model.window.min_rows, tolerate_sd=tolerances)
