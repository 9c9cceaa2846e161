"""Who carries a request to those who train: a signed webhook, or any HTTP API by a target with blanks, filled in when it is sent.

Secrets are read anew for each attempt and the call-back's token is made then, so neither is ever stored.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from alerts import retraining_targets as templates
from alerts.delivery import Delivered, GaveUp, Outcome, Retry, classify
from alerts.egress import Answer, Egress, HttpEdge, Limits, authorities
from alerts.notifiers.webhook import WebhookNotifier
from alerts.ports import Notifier
from alerts.retraining import RetrainingStatus
from alerts.retraining_targets import Rendered, Values
from monitor.config import Config, HttpTarget, Webhook
from monitor.config.checks import SAMPLE
from monitor.errors import UserError
from monitor.retraining.callback import CallBackAddress

R = TypeVar("R", bound=Rendered | None)

# Every name that `check` lets a blank have can be filled, also where the alert is forgotten.
ALERT_KEYS = tuple(name.removeprefix("alert.") for name in SAMPLE if name.startswith("alert."))


def target_notifier(name: str, target: Webhook | HttpTarget, config: Config) -> Notifier:
    """The one who carries requests to this target. Raises UserError for a secret or address that cannot be used."""
    egress, callback = Egress(deny_private=config.egress.deny_private), CallBackAddress.of(config)
    try:
        if callback is not None:
            callback.token_of("")
        if isinstance(target, Webhook):
            return SignedRequest(target, callback, egress)
        return HttpRequest(target, callback, egress)
    except (ValueError, UserError) as error:
        raise UserError(f"retraining target {name}: {error}") from error
    except OSError as error:
        raise UserError(
            f"retraining target {name}: ca_file cannot be read: {error.strerror or 'no certificate'}"
        ) from None


class SignedRequest:
    """The request as a signed webhook: the retraining object, and where to report to if that is configured."""

    def __init__(self, target: Webhook, callback: CallBackAddress | None, egress: Egress) -> None:
        self._target, self._callback, self._egress = target, callback, egress
        first = self._made()
        self.limit_seconds, self.host = first.limit_seconds, first.host
        first.close()

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        document = json.loads(body)
        data = {name: value for name, value in document["data"].items() if name != "alert"}
        try:
            if self._callback is not None:
                data["callback"] = {
                    "url": self._callback.url_of(message_id),
                    "token": self._callback.token_of(message_id),
                }
            notifier = self._made()
        except (UserError, ValueError) as error:  # of a secret that is being replaced
            return Retry(None, str(error))
        try:
            return notifier.send(message_id, _exact({**document, "data": data}), attempted_at_ms)
        finally:
            notifier.close()

    def close(self) -> None:
        """Nothing is kept open."""

    def __repr__(self) -> str:
        return f"SignedRequest({self.host})"

    def _made(self) -> WebhookNotifier:
        return WebhookNotifier(self._target.url, self._target.secret.reveal(), egress=self._egress)


class HttpRequest:
    """The request in the words of the target's API; also asks for the run where the target knows how."""

    def __init__(self, target: HttpTarget, callback: CallBackAddress | None, egress: Egress) -> None:
        self._target, self._secret, self._ca_file = target.target, target.secret, target.ca_file
        self._callback, self._egress, self._limits = callback, egress, Limits()
        self.limit_seconds = 2 * self._limits.total_seconds  # a token may have to be fetched first
        self._revealed()
        authorities(self._ca_file)

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        target = self._target
        try:
            known = self._known(message_id, json.loads(body)["data"])
            rendered = self._rendered_with(lambda secret, token: templates.render(target, known, secret, token))
        except UserError as error:
            return Retry(None, str(error))
        except ValueError as error:
            return GaveUp(str(error))
        if isinstance(rendered, Retry | GaveUp):
            return rendered
        host, answer = self._exchange(rendered, read=bool(target.run_id or target.run_url or target.success))
        if not isinstance(answer, Answer):
            return answer
        told = templates.read_answer(target, answer.status, answer.headers, answer.body, attempted_at_ms)
        match told.outcome:
            case Delivered():
                return Delivered(told.run_id, told.run_url)
            case Retry():
                return Retry(told.outcome.after_seconds, f"{host} {told.outcome.error}")
            case GaveUp():
                return GaveUp(f"{host} {told.outcome.error}")

    def can_poll(self, run_id: str | None) -> bool:
        return templates.can_poll(self._target, run_id)

    def poll(self, request: Mapping[str, Any], run_id: str | None) -> RetrainingStatus | Retry | GaveUp | None:
        """Where the run stands; None where the target says nothing that we know or cannot be asked."""
        known = templates.values(request=request, alert=plain({}), callback_url=None, callback_token=None)
        try:
            rendered = self._rendered_with(
                lambda secret, token: templates.poll_request(self._target, known, run_id, secret, token)
            )
        except (UserError, ValueError) as error:
            return Retry(None, str(error))
        if rendered is None or isinstance(rendered, Retry | GaveUp):
            return rendered
        host, answer = self._exchange(rendered, read=True)
        if not isinstance(answer, Answer):
            return answer
        found = templates.read_poll(self._target, answer.status, answer.body)
        return Retry(found.after_seconds, f"{host} {found.error}") if isinstance(found, Retry) else found

    def close(self) -> None:
        """Nothing is kept open."""

    def __repr__(self) -> str:
        return f"HttpRequest({self._target.method})"

    def _known(self, request: str, data: Mapping[str, Any]) -> Values:
        return templates.values(
            request={name: value for name, value in data.items() if name != "alert"},
            alert=plain(data.get("alert") or {}),
            callback_url=None if self._callback is None else self._callback.url_of(request),
            callback_token=None if self._callback is None else self._callback.token_of(request),
        )

    def _revealed(self) -> str | None:
        return None if self._secret is None else self._secret.reveal()

    def _rendered_with(self, render: Callable[[str | None, str | None], R]) -> R | Retry | GaveUp:
        secret, token = self._revealed(), None
        if self._target.auth.fetches_token:
            fetched = self._token(secret or "")
            if not isinstance(fetched, str):
                return fetched
            token = fetched
        return render(secret, token)

    def _token(self, secret: str) -> str | Retry | GaveUp:
        host, answer = self._exchange(templates.token_request(self._target.auth, secret), read=True)
        if not isinstance(answer, Answer):
            return answer
        match classify(answer.status, answer.headers, 0):
            case Delivered():
                return templates.token_of(answer.body) or GaveUp(f"no token in the answer of {host}")
            case Retry() as retry:
                return Retry(retry.after_seconds, f"no token from {host}: {retry.error}")
            case GaveUp() as refused:
                return GaveUp(f"no token from {host}: {refused.error}")

    def _exchange(self, rendered: Rendered, *, read: bool) -> tuple[str, Answer | Retry | GaveUp]:
        """The host, and what came of it. The address differs from request to request, so the edge is made for each."""
        try:
            edge = HttpEdge(rendered.url, limits=self._limits, egress=self._egress, ca_file=self._ca_file)
        except OSError:  # a file that is being replaced
            return "", Retry(None, "ca_file cannot be read")
        try:
            return edge.host, edge.post(rendered.body, rendered.headers, method=rendered.method, read=read)
        finally:
            edge.close()


def plain(alert: Mapping[str, Any]) -> dict[str, str | int | float | bool | None]:
    """An alert object as blanks can name it: `alert.segment` as `region=north`. Of an alert that is forgotten all is None."""
    out: dict[str, str | int | float | bool | None] = dict.fromkeys(ALERT_KEYS)
    out |= {name: value for name, value in alert.items() if not isinstance(value, dict | list)}
    if isinstance(alert.get("segment"), dict):
        out["segment"] = ",".join(f"{name}={value}" for name, value in alert["segment"].items())
    return out


def _exact(document: Mapping[str, Any]) -> bytes:
    """As `alerts.envelope` has it, so that a body that was read and written is the same bytes."""
    return json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
