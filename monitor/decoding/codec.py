"""Record values to columns: `Codec.decode` turns a block of bytes into event batches and says of every other row why it is none."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from monitor.decoding.event_schema import (
    EventSchema,
    FeatureSchema,
    Kind,
    Limits,
    Task,
    label_number,
    long_text_hash,
)
from monitor.decoding.events import Block, Reason
from monitor.decoding.fallback import UnfitError, check_envelope, check_texts, mask_nonfinite, read_slowly
from monitor.decoding.model import Intake, ModelDecoder, Parts, admit
from monitor.decoding.timestamps import Stamp
from monitor.decoding.types import EventTypes

__all__ = [
    "Codec",
    "EventSchema",
    "FeatureSchema",
    "Kind",
    "Limits",
    "Task",
    "label_number",
    "long_text_hash",
]

_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')


class Codec:
    """Decodes canonical JSON events (DESIGN 4.2). Not for use from two threads at once.

    What becomes of a value depends on the value, its broker time and the schemas alone: not on the rest of its block, nor on earlier blocks.
    """

    def __init__(self, schemas: Mapping[str, EventSchema], limits: Limits | None = None) -> None:
        self._schemas = dict(schemas)
        self._limits = limits or Limits()
        self._any_model = EventTypes(None, self._limits)
        self._decoders: dict[str, ModelDecoder] = {}
        self._names = {name.encode(): name for name in self._schemas}
        self._mark, self._other_mark = b'"model":"', b'"model": "'

    def route(self, value: bytes) -> str | None:
        """The configured model that the value seems to be of: a hint, for gathering blocks of one model. `decode` does not trust it."""
        rest = value.partition(self._mark)[2]
        if not rest:
            rest = value.partition(self._other_mark)[2]
            if not rest:
                found = _MODEL.search(value)
                return self._names.get(found[1]) if found else None
            self._mark, self._other_mark = self._other_mark, self._mark  # producers keep to one way of writing
        return self._names.get(rest.partition(b'"')[0])

    def routes(self, values: Sequence[bytes]) -> list[str | None]:
        """`route` of many values, without a call for each."""
        names, mark = self._names, self._mark
        found = [names.get(value.partition(mark)[2].partition(b'"')[0]) for value in values]
        if None in found:
            found = [self.route(value) if hint is None else hint for hint, value in zip(found, values, strict=True)]
        return found

    def decode(
        self, model: str | None, values: Sequence[bytes | None], timestamps_ms: Sequence[int] | None = None
    ) -> Block:
        """The events of a block, best of 64-256 values that `route` gave this model. Never raises for what is in `values`.

        `timestamps_ms` are the broker's times of the values (negative: it has none); without them no time counts as future.
        """
        parts = Parts()
        rows, intake = self._take_in(values, timestamps_ms, parts)
        if model in self._schemas:
            self._decoder(model).decode(intake, rows, parts)
        else:
            self._find_models(intake, rows, parts)
        strays, parts.strays = parts.strays, {}
        for name, found in strays.items():
            found.sort(key=lambda pair: pair[0])
            if name in self._schemas:
                self._decoder(name).decode(intake, [row for row, _ in found], parts)
            else:
                self._unconfigured(name, intake, found, parts)
        parts.rejected.sort(key=lambda rejected: rejected.row)
        parts.unconfigured.sort()
        return Block(
            predictions=parts.predictions,
            outcomes=parts.outcomes,
            rejected=parts.rejected,
            unconfigured=parts.unconfigured,
        )

    def _decoder(self, model: str) -> ModelDecoder:
        decoder = self._decoders.get(model)
        if decoder is None:
            decoder = self._decoders[model] = ModelDecoder(self._schemas[model], self._any_model, self._limits)
        return decoder

    def _take_in(
        self, values: Sequence[bytes | None], timestamps_ms: Sequence[int] | None, parts: Parts
    ) -> tuple[Sequence[int], Intake]:
        """Looks at the block as one run of bytes: only where that is too long, not ASCII or holds a backslash are rows looked at singly."""
        rows: Sequence[int] = range(len(values))
        present: Sequence[bytes]
        try:
            joined = b"".join(values)  # type: ignore[arg-type]
            present = values  # type: ignore[assignment]
        except TypeError:  # null values
            rows = [row for row, value in enumerate(values) if value is not None]
            present = [value for value in values if value is not None]
            joined = b"".join(present)
        longest = max(map(len, present), default=0)
        refused: dict[int, UnfitError] = {}
        if not joined.isascii():
            refused |= _not_utf8(zip(rows, present, strict=True))
        if longest > self._limits.max_bytes:
            refused |= _too_large(zip(rows, present, strict=True), self._limits.max_bytes)
        suspects: Iterable[int] = ()
        if b"\\" in joined:
            suspects = [row for row, value in zip(rows, present, strict=True) if rb"\u0000" in value]
        for row, error in refused.items():
            parts.reject(row, error)
        intake = Intake(
            values=values,
            timestamps_ms=timestamps_ms,
            suspects=frozenset(suspects),
            odd_texts=longest > self._limits.max_text_length or b"\\" in joined,
        )
        return [row for row in rows if row not in refused] if refused else rows, intake

    def _find_models(self, intake: Intake, rows: Sequence[int], parts: Parts) -> None:
        for row in rows:
            value = intake.values[row] or b""
            try:
                model, stamp = self._head(value)
                check_texts({"model": model})
                parts.stray(model, row, stamp)
            except UnfitError as error:
                parts.reject(row, error)

    def _head(self, value: bytes) -> tuple[str, Stamp]:
        """Model and time of a sound envelope. Raises UnfitError."""
        head = self._any_model.attempt(value)
        if head is None and (masked := mask_nonfinite(value)) is not None:
            head = self._any_model.attempt(masked)
        if head is not None:
            return head.model, head.ts
        event = read_slowly(value, self._limits)
        check_envelope(event, self._limits)
        return event["model"], event["ts"]

    def _unconfigured(self, model: str, intake: Intake, found: Sequence[tuple[int, Stamp]], parts: Parts) -> None:
        records = [_Stamped(stamp) for _, stamp in found]
        rows, _, _ = admit(intake, [row for row, _ in found], records, self._limits, parts)
        parts.unconfigured += [(row, model) for row in rows]


class _Stamped:
    __slots__ = ("ts",)

    def __init__(self, ts: Stamp) -> None:
        self.ts = ts


def _not_utf8(values: Iterable[tuple[int, bytes]]) -> dict[int, UnfitError]:
    refused = {}
    for row, value in values:
        try:
            value.decode()
        except UnicodeDecodeError as error:
            refused[row] = UnfitError(Reason.BAD_ENCODING, f"not UTF-8 at byte {error.start}")
    return refused


def _too_large(values: Iterable[tuple[int, bytes]], max_bytes: int) -> dict[int, UnfitError]:
    detail = f"longer than {max_bytes} bytes"
    return {row: UnfitError(Reason.TOO_LARGE, detail) for row, value in values if len(value) > max_bytes}
