"""The small values of a configuration: durations, labels, names, URLs. Each refuses what it cannot read with a sentence."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import CoreSchema

from monitor.decoding.labels import normalise_label
from monitor.secret import Secret

DAY_MS = 86_400_000
DETECTORS = ("adwin", "ddm", "e_sr", "page_hinkley")
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": DAY_MS}
_DURATION = r"^([0-9]{1,12})(ms|s|m|h|d)$"
_TIME = r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}:\d{2})"


def parse_duration(value: object) -> int:
    """`500ms`, `60s`, `5m`, `1h`, `7d` in milliseconds. Raises ValueError for anything else, also for a bare number."""
    found = re.fullmatch(_DURATION, value) if isinstance(value, str) else None
    if found is None:
        raise ValueError("is not a duration (write 500ms, 60s, 5m, 1h or 7d)")
    return int(found[1]) * _UNITS_MS[found[2]]


def _start(value: object) -> str | int:
    if value in ("earliest", "latest"):
        return str(value)
    if not isinstance(value, str) or not re.fullmatch(_TIME, value):
        raise ValueError("should be earliest, latest or a time such as 2026-01-31T00:00:00Z")
    return (datetime.fromisoformat(value) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _label(value: object) -> str:
    if not isinstance(value, str | int | float):
        raise ValueError("should be a label: a text, a number or a boolean")  # noqa: TRY004  # pydantic reads ValueError
    return normalise_label(value)


def _longer_than_zero(value: int) -> int:
    if value <= 0:
        raise ValueError("should be longer than zero")
    return value


def check_url(value: str) -> str:
    """The value itself. Raises ValueError for what is no address by HTTP."""
    if not re.fullmatch(r"https?://[^\s/?#]+([/?#]\S*)?", value):
        raise ValueError("should be a URL that starts with http:// or https://")
    return value


def _switch(value: object) -> bool:
    if value in (True, "on"):
        return True
    if value in (False, "off"):
        return False
    raise ValueError("should be on or off")


def _detectors(value: object) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if value is False or names == ["off"]:
        return ()
    if not isinstance(names, list | tuple) or not names or not all(name in DETECTORS for name in names):
        raise ValueError(f"should be off or some of: {', '.join(sorted(DETECTORS))}")
    return tuple(dict.fromkeys(map(str, names)))


class OrShort:
    """In the JSON schema: the mapping, or its short form."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "pattern": _DURATION}, handler(core)]}


Text = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
AlertLabel = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=100)]
Duration = Annotated[
    int,
    PlainValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _DURATION, "examples": ["60s", "7d"]}),
]
PositiveDuration = Annotated[Duration, AfterValidator(_longer_than_zero)]
Label = Annotated[str, PlainValidator(_label), WithJsonSchema({"type": ["string", "number", "boolean"]})]
Start = Annotated[str | int, PlainValidator(_start), WithJsonSchema({"type": "string"})]
Url = Annotated[str, AfterValidator(check_url)]
SecretValue = Annotated[
    Secret,
    PlainValidator(Secret.parse),
    WithJsonSchema(
        {
            "type": "object",
            "properties": {"env": {"type": "string"}, "file": {"type": "string"}},
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        }
    ),
]
Switch = Annotated[bool, PlainValidator(_switch), WithJsonSchema({"enum": ["on", "off", True, False]})]
Detectors = Annotated[
    tuple[str, ...],
    PlainValidator(_detectors),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": ["off", False, *sorted(DETECTORS)]},
                {"type": "array", "items": {"enum": sorted(DETECTORS)}, "minItems": 1},
            ]
        }
    ),
]
Task = Literal["binary", "multiclass", "regression", "unlabelled"]
Kind = Literal["numeric", "categorical", "boolean"]


class Strict(BaseModel):
    """Unknown keys are errors, and nothing is turned into another type in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_by_alias=True, validate_by_name=False)


class OneOf(Strict):
    """A mapping that holds exactly one of its keys, those in `beside` aside."""

    beside: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        kinds = [name for name in type(self).model_fields if name not in self.beside]
        stated = self.model_fields_set - self.beside
        if sum(getattr(self, name) is not None for name in kinds) != 1 or len(stated) != 1:
            raise ValueError(f"should hold exactly one of: {', '.join(kinds)}")
        return self
