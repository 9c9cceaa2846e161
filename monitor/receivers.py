"""From the configuration to those who carry messages: every receiver and retraining target by the name outbox rows carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alerts import egress, routing
from alerts.fallback import WithFallback
from alerts.message import Wording
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.notifiers.email import EmailNotifier, MailServer
from alerts.notifiers.log import LogNotifier
from alerts.notifiers.pagerduty import PagerDutyNotifier
from alerts.notifiers.slack import SlackBotNotifier, SlackWebhookNotifier
from alerts.notifiers.webhook import WebhookNotifier
from alerts.ports import Notifier
from monitor.closing.alerting import TARGET
from monitor.config import Config
from monitor.config.receivers import Alertmanager, Email, LogReceiver, PagerDuty, Receiver, Slack, Webhook
from monitor.errors import UserError
from monitor.results import alert_object
from monitor.store import AlertRow, Store


def notifiers(config: Config) -> dict[str, Notifier]:
    """All of them, the log included. Raises UserError for a secret that is not there, or an address or key that is none."""
    made: dict[str, Notifier] = {routing.LOG: LogNotifier()}
    targets = {TARGET + name: target for name, target in config.retraining_targets.items()}
    for name, receiver in [*config.receivers.items(), *targets.items()]:
        made[name] = notifier(name, receiver, config)
    return made | {
        name: WithFallback(made[name], made[other], f"receiver {other}") for name, other in config.fallbacks.items()
    }


def notifier(name: str, receiver: Receiver, config: Config) -> Notifier:
    """One of them, without its fallback."""
    try:
        return _made(receiver, config, egress.Egress(deny_private=config.egress.deny_private))
    except ValueError as error:
        raise UserError(f"receiver {name}: {error}") from error
    except OSError as error:  # of a certificate's file
        raise UserError(f"receiver {name}: ca_file cannot be read: {error.strerror or 'no certificate'}") from None


def _made(receiver: Receiver, config: Config, out: egress.Egress) -> Notifier:
    links = dict(config.links)
    match receiver:
        case LogReceiver():
            return LogNotifier()
        case Webhook():
            return WebhookNotifier(receiver.url, receiver.secret.reveal(), egress=out)
        case PagerDuty():
            key, wording = receiver.routing_key.reveal(), receiver.template.wording(links)
            return PagerDutyNotifier(key, url=receiver.url, wording=wording, egress=out)
        case Slack():
            return _slack(receiver, receiver.template.wording(links), out)
        case Email():
            return _email(receiver, receiver.template.wording(links), out)
        case Alertmanager():
            return AlertmanagerNotifier(
                receiver.urls,
                labels={name: model.labels for name, model in config.models.items()},
                token=None if receiver.token is None else receiver.token.reveal(),
                resend_ms=receiver.resend_ms,
                heartbeat=receiver.heartbeat,
                wording=Wording(links=links),
                egress=out,
            )


def _slack(receiver: Slack, wording: Wording, out: egress.Egress) -> Notifier:
    if receiver.url is not None:
        return SlackWebhookNotifier(receiver.url.reveal(), wording=wording, egress=out)
    if receiver.token is None or receiver.channel is None:
        raise ValueError("slack needs url, or token and channel")
    return SlackBotNotifier(receiver.token.reveal(), receiver.channel, wording=wording, egress=out)


def _email(receiver: Email, wording: Wording, out: egress.Egress) -> Notifier:
    server = MailServer(
        host=receiver.host,
        port=receiver.port,
        username=receiver.username,
        password=None if receiver.password is None else receiver.password.reveal(),
        starttls=receiver.starttls,
        ca_file=receiver.ca_file,
    )
    return EmailNotifier(server, receiver.sender, receiver.to, wording=wording, egress=out)


def active_of(receiver: str, store: Store, config: Config) -> list[Mapping[str, Any]]:
    """The active alerts that a receiver has been told of: what one that forgets must hear again."""
    return [alert_object(row) for row in store.alerts() if row.status == "firing" and _told(row, receiver, config)]


def _told(row: AlertRow, receiver: str, config: Config) -> bool:
    """Whether a transition of this episode went to the receiver. One that became critical was told of as a warning before.

    Old windows are left to the log when they are decided, and so they are here.
    """
    model = config.models.get(row.model)
    if model is None or row.recorded_at_ms - row.at_ms > model.page_max_age_ms:
        return False
    routes = [routing.Route(receiver=route.receiver, match=route.match) for route in config.routes]
    severities = {row.severity} | ({"warning"} if row.reason in ("escalated", "corrected") else set())
    return any(
        receiver in routing.decide(routing.labels(alert, model.labels), routes, list(config.receivers)).receivers
        for alert in ({**alert_object(row), "severity": severity} for severity in severities)
    )
