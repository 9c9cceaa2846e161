"""How far each model's pages can be trusted: what `alerts.record` makes of the pages sent, against what was promised."""

from __future__ import annotations

from alerts.record import Record, records
from monitor.config import Config
from monitor.false_alarms import budgets_of
from monitor.results import Object
from monitor.store import Store


def records_of(store: Store, config: Config) -> dict[str, Record]:
    """Of every configured model. It was watched from its first window to its last, in event time, as far back as pages are kept."""
    states = store.model_states()
    watched_ms = dict.fromkeys(config.models, 0)
    for name, state in states.items():
        if name in watched_ms and state.first_pane_ms is not None and state.frontier_ms is not None:
            watched_ms[name] = min(max(state.frontier_ms - state.first_pane_ms, 0), config.retention.windows_ms)
    promised = {name: budget.pages_per_quarter for name, budget in budgets_of(config).items()}
    return records(store.pages(), watched_ms=watched_ms, promised=promised)


def record_object(record: Record) -> Object:
    """As machines read it. `false_per_quarter` and its interval are None while nobody has judged a page."""
    low, high = record.low, record.high
    return {
        "pages": record.pages,
        "real": record.real,
        "expected": record.expected,
        "false": record.false,
        "share_real": record.share_real,
        "false_per_quarter": record.false_per_quarter,
        "interval": None if low is None or high is None else [low, high],
        "promised": record.promised,
        "kept": record.kept,
    }
