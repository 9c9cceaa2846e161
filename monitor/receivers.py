"""From the configuration to those who carry messages: every receiver and retraining target by the name outbox rows carry."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from alerts import egress, routing
from alerts.fallback import WithFallback
from alerts.message import Wording
from alerts.notifiers.alertmanager import AlertmanagerNotifier
from alerts.notifiers.apprise import AppriseNotifier
from alerts.notifiers.email import EmailNotifier, MailServer
from alerts.notifiers.log import LogNotifier
from alerts.notifiers.pagerduty import PagerDutyNotifier
from alerts.notifiers.slack import Posts, SlackBotNotifier, SlackWebhookNotifier
from alerts.notifiers.webhook import WebhookNotifier
from alerts.ports import Notifier
from monitor.closing.requests import TARGET
from monitor.config import Config
from monitor.config.receivers import Alertmanager, Apprise, Email, LogReceiver, PagerDuty, Receiver, Slack, Webhook
from monitor.errors import UserError
from monitor.results import alert_object
from monitor.retraining.targets import target_notifier
from monitor.store import Store


def notifiers(config: Config, posts: Callable[[str], Posts] | None = None) -> dict[str, Notifier]:
    """All of them, the log included. `posts`: where a receiver's first messages of incidents are kept; without it, in this process.

    Raises UserError for a secret that is not there, or an address or key that is none.
    """
    made: dict[str, Notifier] = {routing.LOG: LogNotifier()}
    for name, receiver in config.receivers.items():
        made[name] = notifier(name, receiver, config, posts)
    for name, target in config.retraining_targets.items():
        made[TARGET + name] = target_notifier(name, target, config)
    return made | {
        name: WithFallback(made[name], made[other], f"receiver {other}") for name, other in config.fallbacks.items()
    }


def notifier(name: str, receiver: Receiver, config: Config, posts: Callable[[str], Posts] | None = None) -> Notifier:
    """One of them, without its fallback."""
    kept = None if posts is None else posts(name)
    try:
        return _made(receiver, config, egress.Egress(deny_private=config.egress.deny_private), kept)
    except ValueError as error:
        raise UserError(f"receiver {name}: {error}") from error
    except OSError as error:  # of a certificate's file
        raise UserError(f"receiver {name}: ca_file cannot be read: {error.strerror or 'no certificate'}") from None


def _made(receiver: Receiver, config: Config, out: egress.Egress, posts: Posts | None) -> Notifier:
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
            return _slack(receiver, receiver.template.wording(links), out, posts)
        case Email():
            return _email(receiver, receiver.template.wording(links), out)
        case Apprise():
            return AppriseNotifier(receiver.url.reveal(), wording=receiver.template.wording(links), egress=out)
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


def _slack(receiver: Slack, wording: Wording, out: egress.Egress, posts: Posts | None) -> Notifier:
    if receiver.url is not None:
        return SlackWebhookNotifier(receiver.url.reveal(), wording=wording, egress=out)
    if receiver.token is None or receiver.channel is None:
        raise ValueError("slack needs url, or token and channel")
    return SlackBotNotifier(receiver.token.reveal(), receiver.channel, posts=posts, wording=wording, egress=out)


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
    told = store.told_to(receiver)
    return [alert_object(row) for row in store.firing_alerts() if row.id in told and row.model in config.models]
