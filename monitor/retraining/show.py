"""What `driftline retraining list` and `show` print: requests, where each stands and how it came there, and what the gates refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from alerts.envelope import rfc3339
from alerts.routing import DECISIONS
from monitor.results import retraining_object
from monitor.retraining.acts import cause_of, request_named
from monitor.retraining.gates import REFUSALS
from monitor.show import print_objects
from monitor.store import AlertRow, RetrainingRow, Store, ToldRow

REFUSALS_SHOWN = 20


def show_list(store: Store, *, model: str | None = None, refused: bool = False, as_json: bool) -> None:
    """Requests, oldest first; with `refused` the alerts for which none was made, each with the reason."""
    rows = [row for row in store.retraining() if model in (None, row.model)]
    refusals = [(told, alert) for told, alert in _refusals(store) if model in (None, alert.model)]
    if as_json:
        print_objects(map(refusal_object, refusals) if refused else map(retraining_object, rows))
        return
    console = Console()
    for paused, pause in sorted(store.retraining_pauses().items()):
        console.print(
            f"[bold]paused[/bold]: {escape(paused or 'all models')}, by {escape(pause.who)}: {escape(pause.why)}"
        )
    if refused:
        console.print(_refusal_table(refusals) if refusals else "nothing was refused")
        return
    table = _table("at (UTC)", "model", "status", "mode", "target", "id", "reason", "delivery")
    for row in rows:
        detail = json.loads(row.detail)
        table.add_row(
            _minute(row.at_ms), escape(row.model), row.status, row.mode, escape(row.target), row.id, escape(row.reason),
            escape(str(detail.get("delivery", "-"))),
        )  # fmt: skip
    console.print(table if rows else "no retraining requests")
    if refusals:
        console.print(f"{len(refusals)} alerts asked in vain: `driftline retraining list --refused` says why")


def show_request(store: Store, name: str, *, as_json: bool) -> None:
    """One request with all its steps. Raises UserError for one that is unknown."""
    row = request_named(store, name)
    whole = request_object(store, row)
    if as_json:
        print_objects([whole])
        return
    console = Console()
    console.print(
        f"[bold]{row.id}[/bold]  {escape(row.model)} {escape(row.version)}  {row.status}  ({row.mode}, {escape(row.target)})"
    )
    lines = {
        "asked for": row.reason, "alert": whole["alert"], "gates": whole["gates"], "run": whole["run_id"], "page": whole["url"],
        "new version": whole["new_version"], "the job says": whole["message"], "delivery": whole["delivery"],
        "approved by": whole["approved_by"], "helped": whole["help"],
    }  # fmt: skip
    for label, text in lines.items():
        if text:
            console.print(f"  {label}: {escape(str(text))}")
    for step in whole["steps"]:
        console.print(f"  {step['at']}  {step['status']:10} {escape(step['told'])}")


def request_object(store: Store, row: RetrainingRow) -> dict[str, Any]:
    """The retraining object, and everything that is known beside it; `null` is unknown."""
    detail = json.loads(row.detail)
    told = ("gates", "run_id", "url", "message", "delivery", "approved_by", "help")
    return {
        **retraining_object(row),
        "version": row.version or None,
        "target": row.target,
        "mode": row.mode,
        "alert": cause_of(row) or None,
        "new_version": detail.get("version"),
        **{name: detail.get(name) for name in told},
        "steps": [
            {"status": step.status, "at": rfc3339(step.at_ms), "told": step.told}
            for step in store.retraining_steps(row.id)
        ],
    }


def refusal_object(refusal: tuple[ToldRow, AlertRow]) -> dict[str, Any]:
    told, alert = refusal
    return {
        "type": "retraining_refusal", "model": alert.model, "alert": alert.id, "monitor": alert.monitor, "subject": alert.subject,
        "at": rfc3339(alert.at_ms), "reason": told.outcome, "text": told.detail, "decided_at": rfc3339(told.at_ms),
    }  # fmt: skip


def _refusals(store: Store) -> list[tuple[ToldRow, AlertRow]]:
    """Newest last."""
    return [(told, alert) for told, alert in store.told_by(DECISIONS) if told.outcome in REFUSALS]


def _refusal_table(refusals: list[tuple[ToldRow, AlertRow]]) -> Table:
    table = _table("decided (UTC)", "model", "monitor", "subject", "alert", "gate", "why")
    for told, alert in refusals[-REFUSALS_SHOWN:]:
        table.add_row(
            _minute(told.at_ms), escape(alert.model), alert.monitor, escape(alert.subject), alert.id, told.outcome, escape(told.detail)
        )  # fmt: skip
    return table


def _table(*names: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    return table


def _minute(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M")
