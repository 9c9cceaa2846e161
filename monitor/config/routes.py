"""What a configuration may say about who is told when: routes, time intervals, limits of receivers, false alarms."""

from __future__ import annotations

from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    FiniteFloat,
    GetJsonSchemaHandler,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from alerts import storm
from alerts.grouping import Timing
from alerts.matching import Matcher, parse_matcher, parse_matchers
from alerts.routing import GROUP_BY
from alerts.time_windows import TimeWindow, parse_time_window
from monitor.config.values import Duration, Name, PositiveDuration, Strict, Text, parse_duration

NEVER = 0  # a `repeat_interval` that is off


def is_off(value: object) -> bool:
    """`off`, which other readers of YAML take for false."""
    return value is False or value == "off"


def _matcher(value: object) -> Matcher:
    if isinstance(value, Matcher):
        return value
    if not isinstance(value, str):
        raise ValueError("should be text (write it in quotes)")  # noqa: TRY004  # pydantic reads ValueError
    return parse_matcher(value)


def _matchers(value: object) -> object:
    return parse_matchers(value) if isinstance(value, str) else value


def _repeat(value: object) -> int:
    if is_off(value):
        return NEVER
    if (repeat_ms := parse_duration(value)) == 0:
        raise ValueError("should be longer than zero (write off to tell once only)")
    return repeat_ms


def _time_text(value: str) -> str:
    parse_time_window(value)
    return value


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            "is no time zone that this system knows (write one such as Europe/Berlin or UTC; "
            "a system without time zones needs the package tzdata)"
        ) from None
    return value


class OrTimes:
    """In the JSON schema: the mapping, a list of its times, or a single one."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, handler(core)]}


class OrOff:
    """In the JSON schema: the mapping, or `off`."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": ["off", False]}, handler(core)]}


_ONE_MATCHER = {"type": "string", "examples": ["model=churn", 'severity=~"warn.*"']}
Matchers = Annotated[
    tuple[Annotated[Matcher, PlainValidator(_matcher)], ...],
    BeforeValidator(_matchers),
    WithJsonSchema({"anyOf": [_ONE_MATCHER, {"type": "array", "items": _ONE_MATCHER}]}),
]
GroupBy = Annotated[str, StringConstraints(pattern=r"^([a-zA-Z_][a-zA-Z0-9_]*|\.\.\.)$", max_length=100)]
Repeat = Annotated[
    int,
    PlainValidator(_repeat),
    WithJsonSchema({"anyOf": [{"enum": ["off", False]}, {"type": "string", "pattern": "^[0-9]{1,12}(ms|s|m|h|d)$"}]}),
]
TimeText = Annotated[str, StringConstraints(max_length=200), AfterValidator(_time_text)]
PagesPerQuarter = Annotated[FiniteFloat, Field(gt=0, le=10_000)]


class TimeInterval(Strict):
    """Spans of the calendar by name: `Mon-Fri 09:00-17:00`, `2026-12-24..2027-01-01`. `location` is their time zone.

    A list of times, or a single one, is short for the mapping.
    """

    times: Annotated[tuple[TimeText, ...], Field(min_length=1, max_length=100)]
    location: Annotated[str, AfterValidator(_zone)] = "UTC"

    def windows(self) -> tuple[TimeWindow, ...]:
        zone = ZoneInfo(self.location)
        return tuple(parse_time_window(text, zone) for text in self.times)


class Route(Strict):
    """The first route whose `match` and `matchers` all fit an alert's labels decides; with `continue` those after it do, too.

    What is left out of `group_wait`, `group_interval` and `repeat_interval` is as the kind of receiver has it.
    `mute_time_intervals` and `active_time_intervals` are names of `time_intervals`. `digest`: one message a day.
    """

    match: dict[Text, Text] = Field(default_factory=dict)
    matchers: Matchers = ()
    receiver: Text
    goes_on: bool = Field(default=False, alias="continue")
    group_by: Annotated[tuple[GroupBy, ...], Field(max_length=20)] = GROUP_BY
    wait_ms: Duration | None = Field(default=None, alias="group_wait")
    interval_ms: PositiveDuration | None = Field(default=None, alias="group_interval")
    repeat_ms: Repeat | None = Field(default=None, alias="repeat_interval")
    mute_time_intervals: tuple[Name, ...] = ()
    active_time_intervals: tuple[Name, ...] = ()
    digest: bool = False

    @model_validator(mode="after")
    def _one_rhythm(self) -> Self:
        if self.digest and any(value is not None for value in (self.wait_ms, self.interval_ms, self.repeat_ms)):
            raise ValueError("a digest goes out once a day (leave out group_wait, group_interval and repeat_interval)")
        return self

    def timing_over(self, usual: Timing) -> Timing | None:
        """The timing that is stated, `usual` elsewhere; None where nothing is."""
        if self.wait_ms is None and self.interval_ms is None and self.repeat_ms is None:
            return None
        return Timing(
            wait_ms=usual.wait_ms if self.wait_ms is None else self.wait_ms,
            interval_ms=usual.interval_ms if self.interval_ms is None else self.interval_ms,
            repeat_ms=usual.repeat_ms if self.repeat_ms is None else (self.repeat_ms or None),
        )


class ReceiverLimit(Strict):
    """At most `messages` within any `per`; the rest waits `settle` for what still comes and is told in one message."""

    messages: Annotated[int, Field(ge=1)] = 6
    per_ms: PositiveDuration = Field(default=3_600_000, alias="per")
    settle_ms: Duration = Field(default=60_000, alias="settle")

    @model_validator(mode="after")
    def _settles_in_time(self) -> Self:
        if self.settle_ms >= self.per_ms:
            raise ValueError("settle should be shorter than per")
        return self

    def limit(self) -> storm.Limit:
        return storm.Limit(messages=self.messages, per_ms=self.per_ms, settle_ms=self.settle_ms)


class ModelFalseAlarms(Strict):
    """Pages that a healthy model may cause. It sets error rates, it never mutes."""

    pages_per_quarter: PagesPerQuarter = 1.0


class FalseAlarms(Strict):
    """For every model that says nothing itself; `rotation_pages_per_week` is one budget for all models together."""

    pages_per_quarter: PagesPerQuarter = 1.0
    rotation_pages_per_week: PagesPerQuarter | None = None
