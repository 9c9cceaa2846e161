"""Retraining requests: what alerts of one closing ask for, inside the closer's transaction. The gates are in `alerts.retraining`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from alerts import lifecycle, retraining
from alerts.routing import DECISIONS
from monitor.config import Model
from monitor.results import alert_object, retraining_object
from monitor.retraining.gates import PASSING, Gates, Ledger
from monitor.store import AlertRow, ClosingTransaction, OutboxRow, RetrainingRow, ToldRow

REQUEST_LIFE_MS = 3 * 86_400_000
TARGET = "retraining:"  # before the name of a retraining target where receivers are named


def request_retraining(
    tx: ClosingTransaction,
    model: Model,
    gates: Gates,
    rows: Sequence[AlertRow],
    *,
    still: Mapping[str, tuple[str, int]],
    faulty: bool,
    known_ms: Callable[[AlertRow], int],
    refused: Callable[[str, str, str], None],
    now_ms: int,
) -> list[RetrainingRow]:
    """Ask for what the new transitions give reason for, and keep with each alert what was decided and why.

    `still`: alerts that go on drifting (id -> fingerprint, end of the last drifting window): asked for again where only the moment was
    wrong. `faulty`: a data fault of the model is active; `known_ms`: when what decided a transition became known, in the stream's own time;
    `refused` hears the model, the target and the gate of each refusal.
    """
    settings = model.retraining
    if settings is None:
        return []
    causes = [*_asked_in_vain(tx, still), *(row for row in rows if _may_be_cause(row))]
    if not causes:
        return []
    # One closer at a time, over all models: a budget of the whole fleet is counted and spent in one go.
    tx.lock_retraining()
    at_ms = {cause.id: known_ms(cause) for cause in causes}
    ledger = Ledger.read(tx, model, settings, gates, rows, faulty=faulty, at_ms=min(at_ms.values()), now_ms=now_ms)
    made: list[RetrainingRow] = []
    told: list[ToldRow] = []
    for cause in causes:
        decision = retraining.decide(ledger.facts(cause, at_ms[cause.id]))
        told.append(
            ToldRow(
                alert=cause.id, receiver=DECISIONS, outcome=str(decision.reason), detail=decision.text, at_ms=now_ms
            )
        )
        if not decision.create:
            refused(model.name, settings.target or "", str(decision.reason))
        elif settings.target is not None:
            row = _request(cause, settings.target, settings.mode, decision, now_ms)
            if not tx.put_retraining(row):
                continue  # asked for before, by this worker or another: one request an episode
            if decision.deliver:
                tx.put_outbox(retraining_message(row, now_ms, cause))
            ledger.own.append(row)
            made.append(row)
    tx.put_told(told)
    return made


def _asked_in_vain(tx: ClosingTransaction, still: Mapping[str, tuple[str, int]]) -> list[AlertRow]:
    """Those that were refused for a reason that passes, as of their last drifting window."""
    refused = [alert for alert, told in tx.told_to(DECISIONS, list(still)).items() if told.outcome in PASSING]
    again = []
    for mark, at_ms in (still[alert] for alert in sorted(refused)):
        last = tx.alert_rows(mark)[-1]
        if last.status == "firing":
            again.append(replace(last, at_ms=max(at_ms, last.at_ms)))
    return again


def _may_be_cause(row: AlertRow) -> bool:
    return row.status == "firing" and not row.corrected and row.reason == lifecycle.Reason.DRIFTED


def _request(cause: AlertRow, target: str, mode: str, decision: retraining.Decision, now_ms: int) -> RetrainingRow:
    detail = {"alert": cause.id, "fingerprint": cause.fingerprint, "gates": decision.text}
    return RetrainingRow(
        id=retraining.request_id(cause.model, cause.fingerprint, cause.starts_at_ms), model=cause.model,
        version=cause.version, target=target, status=str(retraining.RetrainingStatus.REQUESTED), mode=mode, reason=cause.text,
        at_ms=cause.at_ms, recorded_at_ms=now_ms, detail=json.dumps(detail if decision.deliver else {**detail, "waits": True}),
    )  # fmt: skip


def retraining_message(row: RetrainingRow, now_ms: int, cause: AlertRow | None) -> OutboxRow:
    """The request to a target, as it waits in the outbox: what any target may want to know of it. Its id is the request's, so that a copy
    is recognised. `cause` is None where it has been forgotten.
    """
    data: Mapping[str, Any] = {
        **retraining_object(row),
        "version": row.version or None,
        "alert": None if cause is None else alert_object(cause),
    }
    return OutboxRow(
        id=row.id, kind="retraining", receiver=TARGET + row.target, ordering_key=row.model,
        body=retraining.render_request(now_ms, data), created_at_ms=now_ms, next_attempt_at_ms=now_ms,
        expires_at_ms=now_ms + REQUEST_LIFE_MS,
    )  # fmt: skip
