"""From cells to columns: transposed features of decoded events, with wrong types sorted out into INVALID."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detectors.columns import ABSENT, INVALID, NAN, Category, CategoryColumn, Column, Marker, NumericColumn, Status
from monitor.decoding.event_schema import EventSchema, long_text_hash
from monitor.decoding.fallback import NAN_MARK, storable

Cells = Sequence[Any]
_PLAIN_NUMERIC = {float, type(None)}
_PLAIN_TEXT = {str, type(None)}
_LARGEST_INT = 10**308  # as far as float64 goes; also keeps texts of integers short


class FeatureColumns:
    """Makes the feature columns of one schema."""

    def __init__(self, schema: EventSchema, max_text_length: int) -> None:
        self._kinds = [feature.kind for feature in schema.features]
        self._numeric = [i for i, kind in enumerate(self._kinds) if kind == "numeric"]
        self._index = {feature.name: i for i, feature in enumerate(schema.features)}
        self._max_text_length = max_text_length
        self._cleaners: list[Callable[[Any], Any]] = [
            _numeric_cell if kind == "numeric" else self._category_cell for kind in self._kinds
        ]

    def clean_row(self, cells: Cells) -> tuple[Any, ...]:
        """The cells of one event from the wide decoder, with what is of a wrong type as a Marker. Clean cells stay as they are."""
        return tuple([clean(cell) for clean, cell in zip(self._cleaners, cells, strict=True)])

    def clean_columns(self, columns: Sequence[Cells], *, odd_texts: bool) -> list[Cells]:
        """As `clean_row` for a whole block. `odd_texts`: whether some text may be too long or unstorable."""
        cleaned: list[Cells] = []
        for kind, clean, cells in zip(self._kinds, self._cleaners, columns, strict=True):
            types = set(map(type, cells))
            plain = types <= _PLAIN_NUMERIC if kind == "numeric" else types <= _PLAIN_TEXT and not odd_texts
            cleaned.append(cells if plain else [clean(cell) for cell in cells])
        return cleaned

    def fill_from_segments(self, columns: list[Cells], segments: Sequence[Mapping[str, Any] | None]) -> None:
        """`segment[name]` is the feature of that name where `features` lacks it."""
        named: set[str] = set().union(*[segment for segment in segments if segment])
        for name in named & self._index.keys():
            at = self._index[name]
            clean = self._cleaners[at]
            columns[at] = [
                clean(segment[name]) if cell is ABSENT and segment and name in segment else cell
                for cell, segment in zip(columns[at], segments, strict=True)
            ]

    def build(self, columns: Sequence[Cells], answers: Sequence[Cells] = ()) -> tuple[Column, ...]:
        """Columns of clean cells: the features, and after them the `answers`, which are numbers.

        All numbers become rows of one matrix: a call of numpy costs as much as a dozen cells.
        """
        numeric = [*[columns[i] for i in self._numeric], *answers]
        try:
            numbers = iter([NumericColumn(row) for row in np.array(numeric, np.float64)])
        except TypeError:  # there is a Marker in one of them
            numbers = iter([numeric_column(cells) for cells in numeric])
        features = [
            next(numbers)
            if kind == "numeric"
            else CategoryColumn(_texts_of_booleans(cells) if kind == "boolean" else cells)
            for kind, cells in zip(self._kinds, columns, strict=True)
        ]
        return (*features, *numbers)

    def _category_cell(self, cell: object) -> Category:
        if cell is None or isinstance(cell, Marker):
            return cell
        if isinstance(cell, str):
            if not storable(cell):
                return INVALID
            return cell if len(cell) <= self._max_text_length else long_text_hash(cell)
        if isinstance(cell, bool):
            return "true" if cell else "false"
        if isinstance(cell, int):
            return cell if abs(cell) < _LARGEST_INT else INVALID
        if isinstance(cell, float) and math.isfinite(cell):
            return cell
        return _not_a_value(cell)


def numeric_column(cells: Cells) -> NumericColumn:
    """`cells` are finite floats, None or Markers."""
    try:
        return NumericColumn(np.array(cells, np.float64))
    except TypeError:  # there is a Marker in it
        pass
    count = len(cells)
    if all(cell is ABSENT for cell in cells):
        return NumericColumn(np.full(count, np.nan), np.full(count, Status.ABSENT, np.uint8))
    values = np.array([cell if type(cell) is float else math.nan for cell in cells], np.float64)
    status = np.array([0 if type(cell) is float else _status(cell) for cell in cells], np.uint8)
    return NumericColumn(values, status)


def _status(cell: Marker | None) -> int:
    if cell is None:
        return Status.MISSING
    if cell is ABSENT:
        return Status.ABSENT
    return Status.NAN if cell is NAN else Status.INVALID


def _texts_of_booleans(cells: Cells) -> list[Category]:
    return ["true" if cell is True else "false" if cell is False else cell for cell in cells]


def _numeric_cell(cell: object) -> float | Marker | None:
    if isinstance(cell, float):
        return cell if math.isfinite(cell) else _not_a_value(cell)
    if cell is None or isinstance(cell, Marker):
        return cell
    if isinstance(cell, int) and not isinstance(cell, bool):
        return float(cell) if abs(cell) < _LARGEST_INT else INVALID
    return _not_a_value(cell)


def _not_a_value(cell: object) -> Marker:
    is_nan = cell == [NAN_MARK] if isinstance(cell, list) else isinstance(cell, float) and math.isnan(cell)
    return NAN if is_nan else INVALID
