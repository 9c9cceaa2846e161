"""What a configuration may say about those who are told: receivers, the texts they get, and the way out."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from alerts import storm
from alerts.addresses import is_mail_address
from alerts.message import DEFAULT_TEXT, DEFAULT_TITLE, Wording, check_link, check_template
from monitor.config.routes import OrOff, ReceiverLimit, is_off
from monitor.config.values import AlertLabel, OneOf, PositiveDuration, SecretValue, Strict, Text, Url


def _address(value: str) -> str:
    if not is_mail_address(value):
        raise ValueError("should be a mail address such as drift@example.com or Drift <drift@example.com>")
    return value


def _addresses(value: object) -> tuple[str, ...]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list | tuple) or not found or not all(isinstance(item, str) for item in found):
        raise ValueError("should be a mail address or a list of them")
    return tuple(_address(item) for item in found)


def _between(value: int) -> int:
    if not 10_000 <= value <= 3_600_000:
        raise ValueError("should be from 10s to 1h")
    return value


MailAddress = Annotated[str, StringConstraints(max_length=320), AfterValidator(_address)]
MailAddresses = Annotated[
    tuple[str, ...],
    PlainValidator(_addresses),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]
TemplateText = Annotated[str, StringConstraints(min_length=1, max_length=10_000), AfterValidator(check_template)]
Link = Annotated[str, StringConstraints(max_length=2_000), AfterValidator(check_link)]
Links = Annotated[dict[AlertLabel, Link], Field(max_length=10)]


class Egress(Strict):
    """`deny_private` refuses targets whose names lead to private addresses: for installations that several parties share."""

    deny_private: bool = False


class TemplateConfig(Strict):
    """`$title`, `$what`, `$since`, `$performance`, `$cause`, `$action`, `$links` and what identifies the incident.

    A line of `text` whose placeholders are all empty is left out.
    """

    title: TemplateText = DEFAULT_TITLE
    text: TemplateText = DEFAULT_TEXT

    def wording(self, links: dict[str, str]) -> Wording:
        return Wording(title=self.title, text=self.text, links=links)


class Webhook(Strict):
    """Signed as Standard Webhooks say."""

    url: Url = Field(repr=False)
    secret: SecretValue


class LogReceiver(Strict):
    """Writes alerts to the service's own log."""


class PagerDuty(Strict):
    """Events API v2. `url` is for the EU region (https://events.eu.pagerduty.com/v2/enqueue) or a relay."""

    routing_key: SecretValue
    url: Url | None = Field(default=None, repr=False)
    template: TemplateConfig = TemplateConfig()


class Slack(Strict):
    """An incoming webhook (`url`), or a bot (`token` and `channel`), which also marks an incident as over."""

    url: SecretValue | None = None
    token: SecretValue | None = None
    channel: Text | None = None
    template: TemplateConfig = TemplateConfig()

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        bot = (self.token is not None, self.channel is not None)
        if (self.url is not None and any(bot)) or (self.url is None and not all(bot)):
            raise ValueError("should hold either url, or token and channel")
        return self


class Email(Strict):
    """By SMTP. `starttls: false` is for a relay beside us, and goes without log-in: a password is never sent in the open."""

    host: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.:_-]+$", max_length=253)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 587
    sender: MailAddress = Field(alias="from")
    to: MailAddresses
    username: Text | None = None
    password: SecretValue | None = None
    starttls: bool = True
    ca_file: Text | None = None
    template: TemplateConfig = TemplateConfig()

    @model_validator(mode="after")
    def _log_in(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.username is not None and not self.starttls:
            raise ValueError("a password is not sent without encryption (leave out starttls: false)")
        return self


class Alertmanager(Strict):
    """`urls` name every member of the cluster, not a balancer before them. Active alerts are repeated every `resend`.

    `heartbeat` keeps an alert DriftlineHeartbeat firing for as long as Driftline is well.
    """

    urls: Annotated[tuple[Url, ...], Field(min_length=1, max_length=20)] = Field(repr=False)
    token: SecretValue | None = None
    resend_ms: Annotated[PositiveDuration, AfterValidator(_between)] = Field(default=60_000, alias="resend")
    heartbeat: bool = False


class Apprise(Strict):
    """Whatever the library of that name reaches; `url` is its address of one service. Needs the extra `apprise`."""

    url: SecretValue
    template: TemplateConfig = TemplateConfig()


Receiver = Webhook | LogReceiver | PagerDuty | Slack | Email | Alertmanager | Apprise
STREAMS = (Webhook, LogReceiver, Alertmanager)  # machines, which are told everything that happens


class ReceiverEntry(OneOf):
    """`fallback` names a receiver that is told too when this one cannot be reached. `limit` is for those that wake people."""

    beside: ClassVar[frozenset[str]] = frozenset({"fallback", "limit"})

    webhook: Webhook | None = None
    log: LogReceiver | None = None
    pagerduty: PagerDuty | None = None
    slack: Slack | None = None
    email: Email | None = None
    alertmanager: Alertmanager | None = None
    apprise: Apprise | None = None
    fallback: Text | None = None
    limit: Annotated[
        Annotated[ReceiverLimit, OrOff()] | None, BeforeValidator(lambda value: None if is_off(value) else value)
    ] = None

    @model_validator(mode="after")
    def _limits_people(self) -> Self:
        if self.limit is not None and isinstance(self.chosen(), STREAMS):
            raise ValueError(
                "limit is for receivers that wake people; a webhook, a log and an Alertmanager get everything"
            )
        return self

    def chosen(self) -> Receiver:
        kinds = (self.webhook, self.pagerduty, self.slack, self.email, self.alertmanager, self.apprise, self.log)
        return next((kind for kind in kinds if kind is not None), LogReceiver())

    def storm_limit(self) -> storm.Limit | None:
        """PagerDuty has one unless it is switched off, others only where it is stated."""
        if self.limit is not None:
            return self.limit.limit()
        return storm.Limit() if self.pagerduty is not None and "limit" not in self.model_fields_set else None


class Heartbeat(Strict):
    """POSTs to `url` every so often while all is well, for a dead man's switch that calls when nothing comes."""

    url: SecretValue
    every_ms: Annotated[PositiveDuration, AfterValidator(_between)] = Field(default=60_000, alias="every")


# Where the files of secrets and certificates are named, relative to the file that names them.
FILES: tuple[tuple[str, ...], ...] = (
    ("receivers", "*", "webhook", "secret", "file"),
    ("receivers", "*", "pagerduty", "routing_key", "file"),
    ("receivers", "*", "slack", "url", "file"),
    ("receivers", "*", "slack", "token", "file"),
    ("receivers", "*", "email", "password", "file"),
    ("receivers", "*", "email", "ca_file"),
    ("receivers", "*", "alertmanager", "token", "file"),
    ("receivers", "*", "apprise", "url", "file"),
    ("retraining_targets", "*", "*", "secret", "file"),
    ("retraining_targets", "*", "*", "ca_file"),
    ("retraining", "callback", "secret", "file"),
    ("heartbeat", "url", "file"),
)
