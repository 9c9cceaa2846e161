"""What the gates of a retraining look at, gathered from the configuration and the closer's transaction. The gates are in `alerts.retraining`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from alerts.alert import DATA_FAULTS
from alerts.retraining import LEGAL, Budget, Facts, Latest, Mode, Reason, RetrainingStatus
from alerts.retraining_run import Deadlines, Help, unhelpful_running
from alerts.time_windows import TimeWindow
from monitor import config as configured
from monitor.config import Config, Model, Retraining
from monitor.retraining.judging import verdict_of
from monitor.store import AlertRow, ClosingTransaction, RetrainingRow, Store

REFUSALS = frozenset(Reason) - {Reason.AUTOMATIC, Reason.PROPOSED, Reason.DID_NOT_HELP}
# Drift that goes on asks again when these have passed. Where a request was under way, that one is the answer to it.
PASSING = REFUSALS - {Reason.MODE_OFF, Reason.CAUSE_IS_DATA_FAULT, Reason.REQUEST_ACTIVE}
EVER_MS = -(2**62)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What is configured for all models together, and the days on which a model is left alone (its own, and the fleet's)."""

    max_active: int | None = None
    budgets: tuple[Budget, ...] = ()
    freeze: Mapping[str, tuple[TimeWindow, ...]] = field(default_factory=dict)
    active_ms: int = Deadlines().approval_ms + Deadlines().answer_ms + Deadlines().run_ms

    @classmethod
    def of(cls, config: Config) -> Gates:
        fleet = config.retraining
        deadlines = fleet.deadlines()
        return cls(
            max_active=fleet.max_active,
            budgets=_budgets(fleet.budget),
            freeze={
                name: config.windows_of((*fleet.freeze, *model.retraining.freeze))
                for name, model in config.models.items()
                if model.retraining is not None
            },
            active_ms=deadlines.approval_ms + deadlines.answer_ms + deadlines.run_ms,
        )


@dataclass(slots=True, kw_only=True)
class Ledger:
    """The requests there are, as one turn of closing sees them: what it asks for itself is added."""

    model: Model
    settings: Retraining
    gates: Gates
    faulty: bool
    over: Sequence[AlertRow]  # data faults that ended in this turn
    paused: bool
    own: list[RetrainingRow]
    others: Sequence[RetrainingRow]
    unhelpful: int
    new_labels: int | None
    now_ms: int

    @classmethod
    def read(
        cls, tx: ClosingTransaction, model: Model, settings: Retraining, gates: Gates, rows: Sequence[AlertRow], *,
        faulty: bool, at_ms: int, now_ms: int,
    ) -> Ledger:  # fmt: skip
        """Only under the lock: what it holds must not change before the request is written."""
        own = sorted(tx.retraining_rows(model.name), key=lambda row: (row.at_ms, row.recorded_at_ms))
        span_ms = max([gates.active_ms, *(budget.per_ms for budget in gates.budgets)])
        pauses = tx.retraining_pauses()
        return cls(
            model=model,
            settings=settings,
            gates=gates,
            faulty=faulty,
            over=[row for row in rows if row.status == "resolved" and row.monitor in DATA_FAULTS],
            paused="" in pauses or model.name in pauses,
            own=own,
            others=[row for row in tx.fleet_retraining(at_ms - span_ms) if row.model != model.name],
            unhelpful=_unhelpful(tx, own, rows, now_ms),
            new_labels=_new_labels(tx, model, settings, own),
            now_ms=now_ms,
        )

    def facts(self, cause: AlertRow, at_ms: int) -> Facts:
        """`at_ms`: when what decided the cause became known, in the stream's own time."""
        latest = max(self.own, key=lambda row: (row.at_ms, row.recorded_at_ms), default=None)
        settings, gates = self.settings, self.gates
        return Facts(
            mode=Mode(settings.mode), monitor=cause.monitor, at_ms=at_ms, now_ms=self.now_ms,
            page_max_age_ms=self.model.page_max_age_ms, cooldown_ms=settings.cooldown_ms, timeout_ms=settings.timeout_ms,
            data_fault_active=self.faulty or any((row.ends_at_ms or row.at_ms) > cause.starts_at_ms for row in self.over),
            latest=Latest(status=RetrainingStatus(latest.status), at_ms=latest.at_ms) if latest else None,
            paused=self.paused, budgets=_budgets(settings.budget), spent_ms=[row.at_ms for row in self.own],
            fleet_budgets=gates.budgets, fleet_spent_ms=[row.at_ms for row in (*self.own, *self.others)],
            fleet_active=sum(1 for row in self.others if LEGAL[RetrainingStatus(row.status)]), fleet_limit=gates.max_active,
            freeze=gates.freeze.get(self.model.name, ()), min_new_labels=settings.min_new_labels, new_labels=self.new_labels,
            unhelpful=self.unhelpful, patience=settings.patience,
        )  # fmt: skip


def facts_of_approval(store: Store, model: Model, gates: Gates, row: RetrainingRow, now_ms: int) -> Facts:
    """What a person's approval is held against: the kill switch, data faults and the calendar."""
    pauses = store.retraining_pauses()
    faulty = any(alert.model == model.name and alert.monitor in DATA_FAULTS for alert in store.firing_alerts())
    return Facts(
        mode=Mode(model.retraining.mode if model.retraining is not None else "off"),
        monitor="", at_ms=row.at_ms, now_ms=now_ms, page_max_age_ms=model.page_max_age_ms, data_fault_active=faulty,
        paused="" in pauses or model.name in pauses, freeze=gates.freeze.get(model.name, ()),
    )  # fmt: skip


def _budgets(budget: configured.Budget | None) -> tuple[Budget, ...]:
    return () if budget is None else (budget.budget(),)


def _unhelpful(tx: ClosingTransaction, own: Sequence[RetrainingRow], rows: Sequence[AlertRow], now_ms: int) -> int:
    """How many of the newest requests came to nothing, the alerts of this turn among what is held against them."""
    history = []
    for row in own:
        detail = json.loads(row.detail)
        helped = Help(detail["help"]) if detail.get("help") else None
        if helped is None and row.status == RetrainingStatus.SUCCEEDED:
            helped = verdict_of(tx, row, rows, now_ms).help
        if not detail.get("unheard"):
            history.append((RetrainingStatus(row.status), helped))
    return unhelpful_running(history)


def _new_labels(tx: ClosingTransaction, model: Model, settings: Retraining, own: Sequence[RetrainingRow]) -> int | None:
    """Labels since the cause of the last retraining that succeeded; None where no labels are watched."""
    if settings.min_new_labels <= 0 or not model.monitors.performance:
        return None
    trained = [row.at_ms for row in own if row.status == RetrainingStatus.SUCCEEDED]
    return tx.new_labels(max(trained, default=EVER_MS))
