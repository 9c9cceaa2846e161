"""msgspec types made from a model's schema: a strict set for the common case and a wide one that takes any value inside `features`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Union

import msgspec

from detectors.columns import ABSENT
from monitor.decoding.event_schema import EventSchema, FeatureSchema, Limits

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
Number = float | None
Probability = Annotated[float, msgspec.Meta(ge=0, le=1)] | None
Weight = Annotated[float, msgspec.Meta(ge=0)] | None

Record = Any  # a struct made at run time, or None
Type = Any  # a type made at run time

# What msgspec raises for bytes that are not an event of ours; some come from the interpreter below it.
DECODE_ERRORS = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)


class EventTypes:
    """The decoders of one schema. `schema=None` takes any model's envelope and no feature."""

    def __init__(self, schema: EventSchema | None, limits: Limits) -> None:
        name = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.max_name_length)]
        text = Annotated[str, msgspec.Meta(max_length=limits.max_name_length)]
        model: Any = name if schema is None else Literal[schema.model]
        label: Any = Union[text, Int64, float, bool, None]  # noqa: UP007 - the parts are values here
        self.outcome = _outcome(model, name, text, label)
        category: Any = Annotated[str, msgspec.Meta(max_length=limits.max_text_length)]
        strict = {"numeric": float | None, "categorical": Union[category, Int64, float, None], "boolean": bool | None}  # noqa: UP007
        wide = {"numeric": float | str | bool | list[Any] | dict[str, Any] | None, "categorical": Any, "boolean": Any}
        features = schema.features if schema is not None else ()
        self.strict_prediction = _prediction(model, name, text, label, _features(features, strict))
        self.wide_prediction = _prediction(model, name, text, label, _features(features, wide))
        self.wide_event: Any = Union[self.wide_prediction, self.outcome]  # noqa: UP007
        self.strict = msgspec.json.Decoder(Union[self.strict_prediction, self.outcome])  # noqa: UP007
        self.wide = msgspec.json.Decoder(self.wide_event)

    def attempt(self, value: bytes, *, wide: bool = False) -> Record:
        """The decoded event, or None where the value is none."""
        try:
            return (self.wide if wide else self.strict).decode(value)
        except DECODE_ERRORS:
            return None


def _features(features: tuple[FeatureSchema, ...], kinds: dict[str, Type]) -> Type:
    # Field names are numbered: any text may be a feature's name. `gc=False`: these hold no cycles and live for one block.
    fields = [(f"f{index}", kinds[feature.kind], ABSENT) for index, feature in enumerate(features)]
    names = {f"f{index}": feature.name for index, feature in enumerate(features)}
    return msgspec.defstruct("Features", fields, rename=names, gc=False)


def _prediction(model: Type, name: Type, text: Type, label: Type, features: Type) -> Type:
    answer = msgspec.defstruct(
        "Answer",
        [
            ("label", label, None),
            ("score", Probability, None),
            ("value", Number, None),
            ("scores", dict[str, Probability] | None, None),
        ],
        gc=False,
    )
    fields: list[Any] = [  # in the order of DESIGN 4.2: a key is looked for behind the one before it
        ("model", model),
        ("version", Union[text, None], ""),  # noqa: UP007
        ("id", name),
        ("ts", str | int | float),
        ("features", features, msgspec.field(default_factory=features)),
        ("prediction", answer),
        ("segment", dict[str, Any] | None, None),
        ("weight", Weight, None),
    ]
    return msgspec.defstruct("Prediction", fields, tag_field="type", tag="prediction", kw_only=True, gc=False)


def _outcome(model: Type, name: Type, text: Type, label: Type) -> Type:
    fields: list[Any] = [
        ("model", model),
        ("version", Union[text, None], ""),  # noqa: UP007
        ("id", name),
        ("ts", str | int | float),
        ("label", label, None),
        ("value", Number, None),
    ]
    return msgspec.defstruct("Outcome", fields, tag_field="type", tag="outcome", kw_only=True, gc=False)
