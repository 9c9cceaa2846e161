"""What a configuration file may hold (DESIGN 4.3): one class per mapping, the field's alias is its key.

Durations are milliseconds here. Only keys whose feature works are known; the rest is an error.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    FiniteFloat,
    PrivateAttr,
    SkipValidation,
    StringConstraints,
    field_validator,
    model_validator,
)

from alerts import storm
from alerts.lifecycle import Policy
from alerts.time_windows import TimeWindow
from detectors.limits import parse_limit
from monitor.config.receivers import Egress, Heartbeat, Links, Receiver, ReceiverEntry, Webhook
from monitor.config.retraining import FleetRetraining, HttpTarget, Retraining, TargetEntry
from monitor.config.routes import FalseAlarms, ModelFalseAlarms, OrTimes, Route, TimeInterval
from monitor.config.values import (
    DAY_MS,
    AlertLabel,
    Detectors,
    Duration,
    Kind,
    Label,
    Name,
    OneOf,
    OrShort,
    PositiveDuration,
    SecretValue,
    Start,
    Strict,
    Switch,
    Task,
    Text,
)


class Window(Strict):
    """Windows are aligned to UTC (multiples of a day to 1970-01-01), so the size fits into days or days into it."""

    size_ms: PositiveDuration = Field(default=DAY_MS, alias="size")
    min_rows: Annotated[int, Field(ge=1)] = 200
    max_ms: PositiveDuration = Field(default=7 * DAY_MS, alias="max")

    @field_validator("size_ms")
    @classmethod
    def _aligned(cls, size: int) -> int:
        if size < 1_000:
            raise ValueError("should be at least 1s")
        if DAY_MS % size and size % DAY_MS:
            raise ValueError("should divide a day (such as 5m, 1h, 6h) or be whole days (1d, 7d)")
        return size

    @model_validator(mode="after")
    def _room_to_pool(self) -> Self:
        if self.max_ms < self.size_ms:
            if "max_ms" in self.model_fields_set:
                raise ValueError("max should not be shorter than size")
            return self.model_copy(update={"max_ms": self.size_ms})
        return self


class Columns(Strict):
    """Role -> column of a table; None leaves the role empty and its name to a feature. `scores`: class -> column."""

    id: Text | None = "id"
    timestamp: Text | None = "timestamp"
    version: Text | None = "version"
    prediction: Text | None = "prediction"
    score: Text | None = "score"
    label: Text | None = "label"
    label_timestamp: Text | None = "label_timestamp"
    weight: Text | None = "weight"
    scores: dict[Label, Text] = Field(default_factory=dict)

    def roles(self) -> dict[str, str | None]:
        """Role -> column name, without `scores`."""
        return {name: getattr(self, name) for name in type(self).model_fields if name != "scores"}

    def over(self, base: Columns) -> Columns:
        """These where they were stated, `base` elsewhere."""
        return base.model_copy(update={name: getattr(self, name) for name in self.model_fields_set})


class ReferenceConfig(Strict):
    """`order` is what the user states about rows without timestamps."""

    path: Text
    order: Literal["time", "unknown"] = "unknown"
    columns: Columns = Columns()
    ignore: tuple[Text, ...] = ()


class FeatureConfig(Strict):
    """`kind` None is inferred from the reference; `tolerate_sd` None takes the default of the test."""

    kind: Kind | None = None
    range: tuple[FiniteFloat, FiniteFloat] | None = None
    tolerate_sd: Annotated[FiniteFloat, Field(gt=0, le=10)] | None = None

    @model_validator(mode="after")
    def _range_of_numbers(self) -> Self:
        if self.range is not None and self.range[0] > self.range[1]:
            raise ValueError("range should be [smallest, largest]")
        if self.range is not None and self.kind not in (None, "numeric"):
            raise ValueError(f"a {self.kind} feature has no range")
        return self


class Limit(Strict):
    """What a user will not have, whatever is usual: a metric, a feature's quality rate or drift value (`accuracy`, `income.missing`, `income.drift`).

    It fires when the whole interval lies beyond it; `on: value` when the value does.
    """

    min: FiniteFloat | None = None
    max: FiniteFloat | None = None
    severity: Literal["warning", "critical"] = "warning"
    on: Literal["interval", "value"] = "interval"

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("should hold min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min should not be above max")
        return self


class Monitors(Strict):
    """What is watched besides data, prediction, quality and volume. YAML reads a bare `off` as false; both are understood.

    `concept` names one detector or several; the first decides about alerts, the others are shown beside it.
    """

    performance: Switch = True
    estimate: Switch = True
    concept: Detectors = Field(default_factory=lambda: ("e_sr",))


class Alerts(Strict):
    """An alert fires after `for` drifting windows running and is over after `resolve_after` clean ones."""

    for_windows: Annotated[int, Field(ge=1, le=100)] = Field(default=1, alias="for")
    resolve_after: Annotated[int, Field(ge=1, le=100)] = 2

    @property
    def policy(self) -> Policy:
        return Policy(for_windows=self.for_windows, resolve_after=self.resolve_after)


class Outcomes(Strict):
    """`sample` is the share of prediction ids that are joined, chosen by a hash of the id, the same on both sides."""

    sample: Annotated[FiniteFloat, Field(gt=0, le=1)] = 1.0


class Model(Strict):
    """One watched model. `name` is its key under `models`."""

    task: Task | None = None
    positive_label: Label | None = None
    decision_threshold: Annotated[FiniteFloat, Field(ge=0, le=1)] | None = None
    label_map: dict[Label, Label] = Field(default_factory=dict)
    reference: ReferenceConfig | None = None
    window: Annotated[Window, OrShort()] = Window()
    lateness_ms: Duration = Field(default=60_000, alias="lateness")
    maturity_ms: PositiveDuration = Field(default=30 * DAY_MS, alias="maturity")
    features: dict[Text, FeatureConfig] = Field(default_factory=dict)
    segments: Annotated[tuple[Text, ...], Field(max_length=8)] = ()
    limits: Annotated[dict[Text, Limit], Field(max_length=200)] = Field(default_factory=dict)
    monitors: Monitors = Field(default_factory=Monitors)
    outcomes: Outcomes = Outcomes()
    labels: dict[AlertLabel, Text] = Field(default_factory=dict)
    retraining: Retraining | None = None
    alerts: Alerts = Alerts()
    false_alarms: ModelFalseAlarms | None = None
    page_max_age_ms: PositiveDuration = Field(default=6 * 3_600_000, alias="page_max_age")
    _name: str = PrivateAttr(default="")

    @property
    def name(self) -> str:
        return self._name

    def named(self, name: str) -> Model:
        """The same under `models: {name: ...}`."""
        model = self.model_copy()
        model._name = name  # noqa: SLF001  # of the copy, before anyone else has it
        return model

    @model_validator(mode="after")
    def _fits_task(self) -> Self:
        if self.task not in (None, "binary"):
            for key in ("positive_label", "decision_threshold"):
                if getattr(self, key) is not None:
                    raise ValueError(f"a {self.task} model has no {key}")
        return self

    @field_validator("limits")
    @classmethod
    def _readable(cls, limits: dict[str, Limit]) -> dict[str, Limit]:
        for name in limits:
            parse_limit(name)
        return limits

    @field_validator("labels")
    @classmethod
    def _not_ours(cls, labels: dict[str, str]) -> dict[str, str]:
        if taken := sorted(ALERT_LABELS & labels.keys()):
            raise ValueError(f"{', '.join(taken)}: set by Driftline itself; choose another name")
        return labels


ALERT_LABELS = frozenset({"model", "version", "segment", "monitor", "subject", "check", "severity", "incident"})


class KafkaSecurity(Strict):
    protocol: Literal["PLAINTEXT", "SSL", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = None
    username: Text | None = None
    password: SecretValue | None = None
    ca_file: Text | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        sasl = {"mechanism": self.mechanism, "username": self.username, "password": self.password}
        missing = [key for key, value in sasl.items() if value is None]
        if self.protocol == "SASL_SSL" and missing:
            raise ValueError(f"protocol {self.protocol} needs {', '.join(missing)}")
        if self.protocol != "SASL_SSL" and len(missing) < len(sasl):
            raise ValueError(f"protocol {self.protocol} sends no user name or password; write SASL_SSL")
        return self


class Tombstone(Strict):
    """A record with a null value takes back the prediction of `model` whose id is the record's key."""

    model: Text


class KafkaSource(Strict):
    """`start` (ms when it is a time) holds for partitions the store does not know."""

    bootstrap_servers: Annotated[tuple[Text, ...], Field(min_length=1)]
    group_id: Text = "driftline"
    topics: Annotated[dict[Text, Literal["canonical"]], Field(min_length=1)]
    start: Start = "earliest"
    tombstone: Tombstone | None = None
    session_timeout_ms: PositiveDuration = Field(default=10_000, alias="session_timeout")
    security: KafkaSecurity = KafkaSecurity()


class FileSource(Strict):
    """`paths` are absolute patterns. `model`, `columns` go with `format: table`; `columns` is laid over the reference's."""

    paths: Annotated[tuple[Text, ...], Field(min_length=1)]
    format: Literal["canonical", "table"] = "canonical"
    model: Text | None = None
    columns: Columns | None = None

    @model_validator(mode="after")
    def _table_keys(self) -> Self:
        if self.format == "table" and self.model is None:
            raise ValueError("format: table needs the model that scored the rows (add model: NAME)")
        if self.format == "canonical" and (self.model is not None or self.columns is not None):
            raise ValueError("model and columns go with format: table only")
        return self


class MemorySource(Strict):
    """The log inside the process that the demo and tests write to."""


class _SourceEntry(OneOf):
    kafka: KafkaSource | None = None
    file: FileSource | None = None
    memory: MemorySource | None = None

    def chosen(self) -> SourceConfig:
        return self.kafka or self.file or self.memory or MemorySource()


class Retention(Strict):
    windows_ms: PositiveDuration = Field(default=400 * DAY_MS, alias="windows")
    outcomes_ms: PositiveDuration = Field(default=90 * DAY_MS, alias="outcomes")
    quarantine_ms: PositiveDuration = Field(default=30 * DAY_MS, alias="quarantine")


class Tokens(Strict):
    admin: SecretValue | None = None


class Http(Strict):
    listen: Annotated[str, StringConstraints(pattern=r"^(\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):[0-9]{1,5}$")] = (
        "127.0.0.1:8080"
    )
    tokens: Tokens = Tokens()
    series: Annotated[int, Field(ge=1_000, le=1_000_000)] = 10_000  # of one scrape: a limit, whatever is watched

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.port > 65_535:
            raise ValueError("listen: a port is at most 65535")
        if self.tokens.admin is None and not is_loopback(self.host):
            raise ValueError(
                f"listening on {self.host} beyond this machine needs a token "
                "(add tokens: {admin: {env: DRIFTLINE_TOKEN}}, or listen on 127.0.0.1)"
            )
        return self


def is_loopback(host: str) -> bool:
    """True when only this machine can reach it. A name that is not an address counts as reachable, save localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ConfigFile(Strict):
    """The whole file, `include` and `defaults` already worked in."""

    store: Annotated[str, StringConstraints(pattern=r"^(sqlite:///.+|postgresql(\+psycopg)?://.+)$")] = (
        "sqlite:///driftline.db"
    )
    include: tuple[Text, ...] = ()
    defaults: SkipValidation[Model | None] = None  # may be incomplete: it is judged where it has been merged
    sources: dict[Name, _SourceEntry] = Field(default_factory=dict)
    models: Annotated[dict[Name, Model], Field(min_length=1)]
    receivers: dict[Name, ReceiverEntry] = Field(default_factory=dict)
    routes: tuple[Route, ...] = ()
    time_intervals: dict[Name, Annotated[TimeInterval, OrTimes()]] = Field(default_factory=dict)
    false_alarms: FalseAlarms = FalseAlarms()
    retraining: FleetRetraining = FleetRetraining()
    retraining_targets: dict[Name, TargetEntry] = Field(default_factory=dict)
    retention: Retention = Retention()
    links: Links = Field(default_factory=dict)
    egress: Egress = Egress()
    heartbeat: Heartbeat | None = None
    http: Http | None = None


SourceConfig = KafkaSource | FileSource | MemorySource


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the service runs on. Paths are absolute; secrets are not read yet. `http` None listens nowhere.

    `fallbacks`: receiver -> the one that is told too when it cannot be reached. `links`: name -> URL with placeholders.
    `limits`: receiver -> how many messages it may be sent, of those that have a limit.
    """

    base_dir: Path
    store: str = field(repr=False)  # may hold a password
    models: Mapping[str, Model]
    sources: Mapping[str, SourceConfig]
    receivers: Mapping[str, Receiver]
    routes: tuple[Route, ...]
    retraining_targets: Mapping[str, Webhook | HttpTarget]
    retention: Retention
    http: Http | None
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    egress: Egress = field(default_factory=Egress)
    heartbeat: Heartbeat | None = None
    limits: Mapping[str, storm.Limit] = field(default_factory=dict)
    time_intervals: Mapping[str, TimeInterval] = field(default_factory=dict)
    false_alarms: FalseAlarms = field(default_factory=FalseAlarms)
    retraining: FleetRetraining = field(default_factory=FleetRetraining)

    def windows_of(self, names: Iterable[str]) -> tuple[TimeWindow, ...]:
        """All spans of the named time intervals."""
        return tuple(window for name in names for window in self.time_intervals[name].windows())
