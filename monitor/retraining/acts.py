"""What people do about retraining: approve, cancel, pause and resume. Every act is written down with who did it."""

from __future__ import annotations

import json
from collections.abc import Sequence

from alerts import retraining
from alerts.retraining import LEGAL, RetrainingStatus
from monitor.closing.requests import retraining_message
from monitor.config import Config
from monitor.errors import UserError
from monitor.retraining.gates import Gates, facts_of_approval
from monitor.store import ActRow, PauseRow, RetrainingRow, Store

_SHORTEST_PREFIX = 6


def request_named(store: Store, name: str) -> RetrainingRow:
    """The request of this id, or of the only id that begins so. Raises UserError."""
    found: Sequence[RetrainingRow] = [row for row in store.retraining() if row.id.startswith(name)]
    exact = [row for row in found if row.id == name]
    if exact:
        return exact[0]
    if len(name) < _SHORTEST_PREFIX or not found:
        raise UserError(f"retraining request {name} is unknown (see `driftline retraining list`)")
    if len(found) > 1:
        raise UserError(f"{name} begins the ids of {len(found)} retraining requests (write more of it)")
    return found[0]


def approve(store: Store, config: Config, name: str, *, who: str, now_ms: int) -> str:
    """Put a proposed request into the outbox. What may not be done by anybody is asked again: the kill switch, data faults, the calendar.

    Raises UserError for a request that is unknown or not waiting, and where a gate is shut.
    """
    row = request_named(store, name)
    model = config.models.get(row.model)
    if model is None:
        raise UserError(f"model {row.model} of request {row.id} is not configured any more")
    decision = retraining.may_deliver(facts_of_approval(store, model, Gates.of(config), row, now_ms))
    if not decision.deliver:
        raise UserError(f"retraining request {row.id} may not go out now: {decision.text}")
    cause = next(reversed(store.alert_history(cause_of(row))), None)
    waits = row.status == RetrainingStatus.REQUESTED and json.loads(row.detail).get("waits", row.mode == "propose")
    if waits:  # before the message is there: from then on the request is its target's
        kept = {"waits": False, "approved_by": who}
        store.set_retraining_status(row.id, RetrainingStatus.REQUESTED, f"approved by {who}", now_ms, kept)
    if not waits or not store.approve_retraining(retraining_message(row, now_ms, cause)):
        raise UserError(f"retraining request {row.id} is {row.status}, there is nothing to approve")
    store.put_act(ActRow(at_ms=now_ms, who=who, act="retraining approve", subject=row.id, detail=decision.text))
    return f"request {row.id} goes to {row.target}"


def cancel(store: Store, name: str, *, who: str, why: str, now_ms: int) -> str:
    """End a request. One that is under way at its target goes on there: only people can stop that. Raises UserError."""
    row = request_named(store, name)
    act = ActRow(at_ms=now_ms, who=who, act="retraining cancel", subject=row.id, detail=why)
    told = f"cancelled by {who}" + (f": {why}" if why else "")
    if not LEGAL[RetrainingStatus(row.status)] or not store.cancel_retraining(row.id, told, now_ms, act):
        raise UserError(f"retraining request {row.id} is {row.status}, there is nothing to cancel")
    if row.status == RetrainingStatus.REQUESTED:
        return f"request {row.id} is cancelled"
    return f"request {row.id} is cancelled here; {row.target} has it, stop the job there as well"


def pause(store: Store, config: Config, model: str | None, *, who: str, why: str, now_ms: int) -> str:
    """The kill switch: no request is made and none approved, of one model or of all. What is under way goes on. Raises UserError."""
    _known(config, model)
    act = ActRow(at_ms=now_ms, who=who, act="retraining pause", subject=model or "all", detail=why)
    store.pause_retraining(PauseRow(model=model or "", who=who, at_ms=now_ms, why=why), act)
    return f"retraining is paused for {model or 'all models'}; requests that went out are not called back"


def resume(store: Store, config: Config, model: str | None, *, who: str, now_ms: int) -> str:
    """Undo `pause` of the same model, or of all. Raises UserError where that is not paused."""
    _known(config, model)
    pauses = store.retraining_pauses()
    if (model or "") not in pauses:
        other = " (all models are: resume without a model)" if model and "" in pauses else ""
        raise UserError(f"retraining is not paused for {model or 'all models'}{other}")
    store.resume_retraining(
        model or "", ActRow(at_ms=now_ms, who=who, act="retraining resume", subject=model or "all", detail="")
    )
    still = sorted(name for name in pauses if name not in ("", model))
    rest = f"; still paused: {', '.join(still)}" if still and not model else ""
    blocked = "; all models are still paused" if model and "" in pauses else ""
    return f"retraining is resumed for {model or 'all models'}{rest}{blocked}"


def cause_of(row: RetrainingRow) -> str:
    """The id of the alert behind it."""
    return str(json.loads(row.detail).get("alert", ""))


def _known(config: Config, model: str | None) -> None:
    if model is not None and model not in config.models:
        raise UserError(f"model {model} is not configured (configured: {', '.join(sorted(config.models))})")
