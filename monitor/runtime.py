"""What every command that judges events stands on: configuration, store, references, codec, closer. Built once, here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from detectors.concept.registry import needs_sequence
from detectors.finding import Severity
from detectors.judge import Policy
from detectors.limits import Limit, limit_of
from detectors.performance.judge import PerformancePolicy
from monitor.adoption import ensure_references
from monitor.closing.alerting import Alerting
from monitor.closing.closer import Closer, Watched
from monitor.closing.data import DataRules
from monitor.closing.performance_windows import Rules
from monitor.closing.scene import Decision
from monitor.config import Config, KafkaSource, Model, SourceConfig
from monitor.false_alarms import Budget, budgets_of
from monitor.intake import Intake
from monitor.joining.contributions import Joined
from monitor.limit_checks import check_limits
from monitor.references import ReferenceBook
from monitor.retraining.gates import Gates
from monitor.sources.opening import never_grows
from monitor.store import Store
from monitor.telemetry import Telemetry
from monitor.versions import Versions


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
        runtime = cls(config, store, now_ms, Telemetry())
        for model in config.models.values():
            if model.limits:
                check_limits(model, [adopted.reference for adopted in runtime.book().of_model(model.name)])
        return runtime

    def book(self) -> ReferenceBook:
        generation = self.store.reference_generation()
        if generation != self._book.generation:
            self._book = ReferenceBook.of(self.store.references(), generation)
        return self._book

    def new_intake(self, source: SourceConfig | None = None) -> Intake:
        """For the events of `source`, whose null values may be tombstones."""
        book = self.book()
        models = self.config.models.values()
        schemas = {model.name: book.schema(model) for model in models}
        tombstone = source.tombstone if isinstance(source, KafkaSource) else None
        return Intake(
            schemas,
            book,
            {model.name: model.window.size_ms for model in models},
            {model.name: self._joined(model) for model in models if model.monitors.performance},
            tombstones=None if tombstone is None else tombstone.model,
            versions=self._versions(book),
        )

    def _versions(self, book: ReferenceBook) -> Versions:
        """Those that have windows keep their places; one with a reference of its own needs none."""
        models = self.config.models
        pinned = {(name, adopted.version) for name in models for adopted in book.of_model(name) if adopted.version}
        versions = Versions({name: model.window.max_ms for name, model in models.items()}, frozenset(pinned))
        versions.know((row.model, row.version, row.end_ms) for row in self.store.newest_windows())
        return versions

    def _joined(self, model: Model) -> Joined:
        return Joined(
            size_ms=model.window.size_ms,
            retention_ms=self.config.retention.outcomes_ms,
            sample=model.outcomes.sample,
            decision_threshold=model.decision_threshold,
            concept=bool(model.monitors.concept),
            sequences=needs_sequence(model.monitors.concept),
        )

    def closer(self, *, side_effects: bool, decided: Callable[[Decision], None] = lambda decision: None) -> Closer:
        """`side_effects` False: alerts are decided and stored, but nobody is told and nothing is requested."""
        alerting = Alerting(
            side_effects=side_effects,
            gates=Gates.of(self.config),
            refused=self.telemetry.retraining_refused,
        )
        budgets = budgets_of(self.config)
        watched = {
            name: Watched(
                model=model,
                data=DataRules(policy=policy_of(model), limits=limits_of(model), budget=budgets[name]),
                performance=rules_of(model, budgets[name]),
            )
            for name, model in self.config.models.items()
        }
        return Closer(
            self.store,
            watched,
            self.book,
            alerting,
            self.now_ms,
            frozenset(self.config.sources),
            decided,
            self.telemetry,
            lambda source, partition: never_grows(self.config.sources.get(source), partition.topic),
        )


def policy_of(model: Model) -> Policy:
    """How this model's windows are judged."""
    tolerances = {
        name: feature.tolerate_sd for name, feature in model.features.items() if feature.tolerate_sd is not None
    }
    return Policy(min_rows=model.window.min_rows, tolerate_sd=tolerances)


def rules_of(model: Model, budget: Budget) -> Rules:
    """How this model's performance is judged."""
    return Rules(
        policy=PerformancePolicy(),
        estimate=model.monitors.estimate,
        limits=limits_of(model),
        sample=model.outcomes.sample,
        budget=budget,
    )


def limits_of(model: Model) -> tuple[Limit, ...]:
    return tuple(
        limit_of(name, min=limit.min, max=limit.max, severity=Severity(limit.severity), on=limit.on)
        for name, limit in model.limits.items()
    )
