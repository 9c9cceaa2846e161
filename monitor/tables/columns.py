"""Cells of an Arrow column as the codec would have made them of the same rows in JSON: numbers, categories, times, labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from detectors.columns import INVALID, NAN, Category, CategoryColumn, NumericColumn, Status
from monitor.decoding.event_schema import Limits, long_text_hash
from monitor.decoding.labels import normalise_label
from monitor.decoding.timestamps import parse_times
from monitor.tables.files import number_cells

if TYPE_CHECKING:
    import pyarrow as pa

    from monitor.tables.files import ArrowColumn

Cell = str | int | float | bool | None

_MAX_TEXT = Limits().max_text_length


def kind_of(column: ArrowColumn) -> Literal["numeric", "categorical", "array"]:
    """What a feature of this type is when nobody says. Dictionary-encoded columns are categories; "array" can be no feature."""
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind) or pa.types.is_boolean(kind) or _is_text(kind) or pa.types.is_temporal(kind):
        return "categorical"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind):
        return "numeric"
    return "array"


def numeric_column(column: ArrowColumn, *, text_numbers: bool = False) -> NumericColumn:
    """Numbers as float64; NaN and null apart, infinities and everything that is no number invalid.

    `text_numbers` reads texts that are JSON numbers, as in a CSV column of which other cells are none.
    """
    import pyarrow as pa

    column = _plain(column)
    is_null = _mask(column.is_null())
    if _is_text(column.type) and text_numbers:
        column = number_cells(column)
    numbers = pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)
    readable = numbers or (_is_text(column.type) and text_numbers)
    values = _float64(column) if readable else np.full(len(column), np.nan)
    unknown = np.isnan(values) & ~is_null
    infinite = np.isinf(values)
    values[infinite] = np.nan
    if not unknown.any() and not infinite.any():
        return NumericColumn(values)
    status = np.zeros(len(values), dtype=np.uint8)
    status[is_null] = Status.MISSING
    status[unknown] = Status.NAN if pa.types.is_floating(column.type) else Status.INVALID
    status[infinite] = Status.INVALID
    return NumericColumn(values, status)


def category_column(column: ArrowColumn) -> CategoryColumn:
    """Any scalar is its text; booleans are "true" and "false"."""
    known: dict[object, Category] = {}
    return CategoryColumn([_category(cell, known) for cell in cells(column)])


def label_column(column: ArrowColumn, label_map: Mapping[str, str]) -> CategoryColumn:
    """Normalised label texts after `label_map`; None for null and NaN."""
    known: dict[tuple[type, object], str | None] = {}
    out: list[Category] = []
    for cell in cells(column):
        key = (type(cell), cell)
        if key not in known:
            known[key] = label_text(cell, label_map)
        out.append(known[key])
    return CategoryColumn(out)


def label_text(cell: Cell, label_map: Mapping[str, str]) -> str | None:
    """The label that a cell means; None for null, NaN and infinities."""
    if cell is None or (isinstance(cell, float) and not np.isfinite(cell)):
        return None
    text = normalise_label(cell)
    return label_map.get(text, text)


def times_ms(column: ArrowColumn) -> tuple[NDArray[np.int64], dict[int, str]]:
    """Times in ms, and what is wrong by row (the time of a wrong one is 0). Texts without an offset are UTC."""
    import pyarrow as pa

    column = _plain(column)
    missing = {int(row): "is empty" for row in np.flatnonzero(_mask(column.is_null()))}
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        whole = column.cast(pa.timestamp("ms", tz=getattr(column.type, "tz", None)), safe=False).cast(pa.int64())
        times = np.array(whole.to_numpy(), dtype=np.float64) if missing else whole.to_numpy()
        return np.nan_to_num(times).astype(np.int64), missing
    if _is_text(column.type):
        column = _utc_texts(column)
    elif not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type):
        return np.zeros(len(column), np.int64), dict.fromkeys(range(len(column)), f"is not a time but {column.type}")
    stamps: list[Any] = column.to_pylist()
    for row, stamp in enumerate(stamps):
        if stamp is None or stamp != stamp or stamp in (np.inf, -np.inf):  # noqa: PLR0124  # NaN
            missing.setdefault(row, "is not a time")
            stamps[row] = 0
    times, wrong = parse_times(stamps)
    return times, wrong | missing


def cells(column: ArrowColumn) -> list[Cell]:
    """What JSON would hold: float32 through its shortest decimal, dates and times as ISO texts. NaN and infinities stay floats."""
    import pyarrow as pa

    column = _plain(column)
    kind = column.type
    if pa.types.is_float32(kind) or pa.types.is_float16(kind) or pa.types.is_decimal(kind):
        values: list[Cell] = _float64(column).tolist()
        for row in np.flatnonzero(_mask(column.is_null())):
            values[row] = None
        return values
    if pa.types.is_temporal(kind):
        return [None if value is None else _time_text(value) for value in column.to_pylist()]
    if kind_of(column) == "array":
        return [None] * len(column)
    return cast("list[Cell]", column.to_pylist())


def _category(cell: Cell, known: dict[object, Category]) -> Category:
    if isinstance(cell, str):
        if "\0" in cell:  # as the codec has it: no database stores it
            return INVALID
        if len(cell) <= _MAX_TEXT:
            return cell
        if cell not in known:
            known[cell] = long_text_hash(cell)
        return known[cell]
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and not np.isfinite(cell):
        return NAN if np.isnan(cell) else INVALID
    return cell


def _float64(column: ArrowColumn) -> NDArray[np.float64]:
    """Numbers as float64, NaN for null. Arrow's own cast would keep float32's binary value, which no one wrote."""
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.string())
    if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
        narrow = column.to_numpy()
        distinct, places = np.unique(narrow, return_inverse=True)
        return np.array([float(str(value)) for value in distinct], dtype=np.float64)[places]
    return np.array(column.cast(pa.float64(), safe=False).to_numpy(), dtype=np.float64)


def _plain(column: ArrowColumn) -> ArrowColumn:
    """Without dictionary encoding."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _mask(column: ArrowColumn) -> NDArray[np.bool_]:
    return np.array(column.to_numpy(), dtype=np.bool_)


def _time_text(value: Any) -> str:  # date, time, datetime, timedelta or pandas' Timestamp
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return text.replace("+00:00", "Z") if hasattr(value, "hour") else text


def _utc_texts(column: ArrowColumn) -> ArrowColumn:
    import pyarrow.compute as pc

    column = pc.replace_substring_regex(column, r"^(\d{4}-\d{2}-\d{2})$", r"\1T00:00:00Z")
    bare = r"^(\d{4}-\d{2}-\d{2})[ Tt](\d{2}:\d{2}:\d{2}(?:\.\d+)?)$"
    return pc.replace_substring_regex(column, bare, r"\1T\2Z")
