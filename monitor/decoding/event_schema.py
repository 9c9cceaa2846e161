"""What the codec knows of a model's events, and what it allows of any event."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from monitor.decoding.labels import JSON_NUMBER

Kind = Literal["numeric", "categorical", "boolean"]
Task = Literal["binary", "multiclass", "regression", "unlabelled"]

_UNREADABLE_NAME = re.compile(r'["\\\x00-\x1f]')


@dataclass(frozen=True, slots=True)
class FeatureSchema:
    """A feature by the name that events give it."""

    name: str
    kind: Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSchema:
    """The events of one model. Raises ValueError for names that no decoder can be made for.

    `label_map` goes from normalised label to the label that is meant; `classes` are meant labels, in the order of `EventBatch.scores`.
    """

    model: str
    task: Task
    features: tuple[FeatureSchema, ...]
    classes: tuple[str, ...] = ()
    label_map: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if len(set(names)) != len(names):
            raise ValueError(f"model {self.model}: two features of one name")
        for name in names:
            if _UNREADABLE_NAME.search(name):
                raise ValueError(f"model {self.model}: feature {name!r} holds a quote, backslash or control character")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Lengths are in characters, times in ms. `max_depth` holds where a value has to be read in full: nesting inside ignored
    fields of an otherwise clean record is skipped unseen (up to the several hundred levels that the interpreter allows)."""

    max_bytes: int = 256 * 1024
    max_depth: int = 16
    max_name_length: int = 256  # model, version, id, label
    max_text_length: int = 1024  # longer category values are counted by their hash
    future_tolerance_ms: int = 300_000
    earliest_ms: int = 946_684_800_000  # 2000-01-01


def label_number(value: str | float | None) -> float | None:
    """A label as a finite number, also from a text that reads as a JSON number; None when it is not one."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str) and JSON_NUMBER.fullmatch(value) is None:
        return None
    number = float(value)
    return number if abs(number) < float("inf") else None


def long_text_hash(text: str) -> str:
    """What stands for a category longer than `Limits.max_text_length`, in events and references alike."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
