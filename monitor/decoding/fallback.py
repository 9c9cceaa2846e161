"""The slow way for one record: read it with the standard library and say what is wrong with it, or that nothing is."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from monitor.decoding.event_schema import Limits
from monitor.decoding.events import Reason

NAN_MARK = "\ue000NaN"  # a list of this one text stands for a bare NaN where JSON knows none
_NONFINITE = ((b"NaN", f'["{NAN_MARK}"]'.encode()), (b"-Infinity", b'["inf"]'), (b"Infinity", b'["inf"]'))
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_BRACKET = re.compile(r"[\[\]{}]")
_JSON_TYPES = {
    type(None): "null",
    bool: "boolean",
    int: "number",
    float: "number",
    str: "text",
    list: "array",
    dict: "object",
}


class UnfitError(Exception):
    """The record is no event. `detail` names field and fix and holds no payload text."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def mask_nonfinite(value: bytes) -> bytes | None:
    """The document with its bare NaN and Infinity tokens as arrays; None when it holds none.

    Inside a string the quotes of the array end that string early, which no decoder accepts: text is never changed unseen.
    """
    masked = value
    for token, array in _NONFINITE:
        masked = masked.replace(token, array)
    return masked if masked != value else None


def read_slowly(value: bytes, limits: Limits) -> dict[str, Any]:
    """The document as the standard library reads it: NaN and Infinity are floats, of duplicate keys the last wins. Raises UnfitError."""
    if value.startswith(b"\xef\xbb\xbf"):
        raise UnfitError(Reason.BAD_ENCODING, "starts with a byte order mark: send UTF-8 without one")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        raise UnfitError(Reason.BAD_ENCODING, f"not UTF-8 at byte {error.start}") from None
    if not text.strip():
        raise UnfitError(Reason.BAD_JSON, "empty")
    if _deeper_than(text, limits.max_depth):
        raise UnfitError(Reason.TOO_DEEP, f"nested deeper than {limits.max_depth} levels")
    try:
        document = json.loads(text, parse_int=_integer)
    except json.JSONDecodeError as error:
        what = "more than one document" if error.msg == "Extra data" else error.msg.partition(":")[0]
        raise UnfitError(Reason.BAD_JSON, f"{what} at character {error.pos} of {len(text)}") from None
    if not isinstance(document, dict):
        raise UnfitError(Reason.SCHEMA_VIOLATION, f"an event is an object, got {_type_of(document)}")
    return document


def check_envelope(event: dict[str, Any], limits: Limits) -> None:
    """Raises UnfitError for everything outside `features` and `segment` that DESIGN 4.2 does not allow. The time's value is not looked at."""
    if event.get("type") not in ("prediction", "outcome"):
        _refuse("type", 'expected "prediction" or "outcome"', event)
    _name(event, "model", limits)
    _name(event, "id", limits)
    _short_text(event, "version", limits, (type(None),))
    if "ts" not in event:
        _refuse("ts", "missing")
    if isinstance(event["ts"], bool) or not isinstance(event["ts"], str | int | float):
        raise UnfitError(Reason.BAD_TIMESTAMP, f"ts: expected text or epoch milliseconds, got {_type_of(event['ts'])}")
    if event["type"] == "outcome":
        _label(event, "label", limits)
        _number(event, "value", math.isfinite, "a finite number")
        return
    for field in ("features", "prediction"):
        if not isinstance(event.get(field, {} if field == "features" else None), dict):
            _refuse(field, "expected an object", event)
    if not isinstance(event.get("segment"), dict | None):
        _refuse("segment", "expected an object", event)
    _number(event, "weight", _is_weight, "a finite number of at least 0")
    _answer(event["prediction"], limits)


def check_texts(fields: dict[str, object]) -> None:
    """Raises UnfitError for a name that no database can store."""
    for field, text in fields.items():
        if isinstance(text, str) and not storable(text):
            raise UnfitError(Reason.BAD_ENCODING, f"{field}: holds U+0000 or half of a surrogate pair")


def storable(text: str) -> bool:
    """False for U+0000, which PostgreSQL refuses, and lone surrogates, which UTF-8 has no bytes for."""
    if "\0" in text:
        return False
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _answer(answer: dict[str, Any], limits: Limits) -> None:
    _label(answer, "label", limits, "prediction.")
    _number(answer, "score", _is_probability, "a probability from 0 to 1", "prediction.")
    _number(answer, "value", math.isfinite, "a finite number", "prediction.")
    scores = answer.get("scores")
    if not isinstance(scores, dict | None):
        _refuse("scores", "expected an object", answer, "prediction.")
    if any(not _fits(score, _is_probability) for score in (scores or {}).values()):
        _refuse("scores", "expected probabilities from 0 to 1", where="prediction.")


def _label(event: dict[str, Any], field: str, limits: Limits, where: str = "") -> None:
    label = event.get(field)
    if isinstance(label, float) and not math.isfinite(label):
        _refuse(field, "not finite", where=where)
    if isinstance(label, int) and not -(2**63) <= label < 2**63:
        _refuse(field, "an integer beyond 64 bits", where=where)
    _short_text(event, field, limits, (int, float, bool, type(None)), where)


def _name(event: dict[str, Any], field: str, limits: Limits) -> None:
    _short_text(event, field, limits, ())
    if not event[field]:
        _refuse(field, "empty")


def _short_text(event: dict[str, Any], field: str, limits: Limits, others: tuple[type, ...], where: str = "") -> None:
    value = event.get(field)
    if isinstance(value, str):
        if len(value) > limits.max_name_length:
            _refuse(field, f"longer than {limits.max_name_length} characters", where=where)
    elif not isinstance(value, others):
        _refuse(field, "expected text", event, where)


def _number(event: dict[str, Any], field: str, fits: Callable[[float], bool], wanted: str, where: str = "") -> None:
    if not _fits(event.get(field), fits):
        _refuse(field, f"expected {wanted}", event, where)


def _fits(value: object, fits: Callable[[float], bool]) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and fits(value))


def _is_probability(value: float) -> bool:
    return 0 <= value <= 1


def _is_weight(value: float) -> bool:
    return 0 <= value < math.inf


def _refuse(field: str, problem: str, event: dict[str, Any] | None = None, where: str = "") -> NoReturn:
    got = ""
    if event is not None:
        got = f", got {_type_of(event[field])}" if field in event else ", missing"
    raise UnfitError(Reason.SCHEMA_VIOLATION, f"{where}{field}: {problem}{got}")


def _type_of(value: object) -> str:
    return _JSON_TYPES.get(type(value), "something else")


def _integer(text: str) -> int | float:
    # Longer ones are beyond float64 (and, from 4,301 digits, beyond what the interpreter will convert).
    return int(text) if len(text) <= 308 else float(text)


def _deeper_than(text: str, limit: int) -> bool:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > limit:
            return True
    return False
