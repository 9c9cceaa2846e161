"""The configuration: `load_config` and the types it gives. Start here; what a file may hold is in `types`."""

from __future__ import annotations

from monitor.config.load import load_config, parse_config
from monitor.config.receivers import Alertmanager, Apprise, Email, LogReceiver, PagerDuty, Receiver, Slack, Webhook
from monitor.config.retraining import Budget, CallBack, FleetRetraining, HttpTarget, Retraining
from monitor.config.routes import FalseAlarms, ModelFalseAlarms, ReceiverLimit, Route, TimeInterval
from monitor.config.types import (
    Columns,
    Config,
    FeatureConfig,
    FileSource,
    Http,
    KafkaSecurity,
    KafkaSource,
    MemorySource,
    Model,
    ReferenceConfig,
    Retention,
    SourceConfig,
    Window,
)
from monitor.config.values import Kind, Task, parse_duration
from monitor.secret import Secret

__all__ = [
    "load_config",
    "parse_config",
    "parse_duration",
    "Config",
    "Model",
    "ReferenceConfig",
    "Columns",
    "Window",
    "FeatureConfig",
    "Kind",
    "Task",
    "Retraining",
    "FleetRetraining",
    "Budget",
    "CallBack",
    "HttpTarget",
    "SourceConfig",
    "KafkaSource",
    "KafkaSecurity",
    "FileSource",
    "MemorySource",
    "Receiver",
    "Webhook",
    "LogReceiver",
    "PagerDuty",
    "Slack",
    "Email",
    "Alertmanager",
    "Apprise",
    "Route",
    "TimeInterval",
    "ReceiverLimit",
    "ModelFalseAlarms",
    "FalseAlarms",
    "Retention",
    "Http",
    "Secret",
]
