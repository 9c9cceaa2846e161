"""The name of a reference: SHA-256 of its content and settings, whatever file it came from."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator

import numpy as np

from detectors.columns import CategoryColumn, Column, Marker, NumericColumn, Status, category_text
from detectors.reference.types import ReferenceSettings, ReferenceTable

FORMAT = 1
_LENGTH = struct.Struct("<Q")
_TEXT_STATUS = {
    None: Status.MISSING,
    Marker.NAN: Status.NAN,
    Marker.ABSENT: Status.ABSENT,
    Marker.INVALID: Status.INVALID,
}


def reference_hash(table: ReferenceTable, settings: ReferenceSettings) -> str:
    """64 hex digits. Equal for equal values, times and settings, in whatever order the columns come; any other row order is another hash."""
    digest = hashlib.sha256()
    for part in _parts(table, settings):
        digest.update(_LENGTH.pack(len(part)))
        digest.update(part)
    return digest.hexdigest()


def settings_text(settings: ReferenceSettings) -> str:
    """Canonical JSON of the settings that enter the hash."""
    entering: dict[str, object] = {
        "task": settings.task,
        "positive_label": settings.positive_label,
        "order": settings.order,
        "kinds": dict(settings.kinds),
        "ranges": {name: [float(low), float(high)] for name, (low, high) in settings.ranges.items()},
        "columns": dict(settings.columns),
        "segments": sorted(settings.segments),
    }
    if settings.decision_threshold is not None:
        entering["decision_threshold"] = settings.decision_threshold
    return json.dumps(entering, sort_keys=True, separators=(",", ":"))


def _parts(table: ReferenceTable, settings: ReferenceSettings) -> Iterator[bytes]:
    """Every part is hashed after its length, so that no two tables run into the same bytes."""
    yield f"driftline reference {FORMAT}".encode()
    yield settings_text(settings).encode()
    yield _LENGTH.pack(table.rows)
    yield b"" if table.times_ms is None else b"t" + np.ascontiguousarray(table.times_ms, dtype="<i8").tobytes()
    for name, role in (("version", table.version), ("score", table.score), ("predicted", table.label_predicted)):
        yield from _column(name, role)
    for name, role in (("label", table.label), ("value", table.value)):
        yield from _column(name, role)
    if table.weight is not None:
        yield from _column("weight", table.weight)
    for group, columns in (("scores", table.scores), ("features", table.features)):
        yield group.encode() + _LENGTH.pack(len(columns))
        for name in sorted(columns):
            yield from _column(name, columns[name])
    yield json.dumps(sorted(table.arrays)).encode()


def _column(name: str, column: Column | None) -> Iterator[bytes]:
    yield name.encode("utf-8", "surrogatepass")
    if column is None:
        yield b"none"
    elif isinstance(column, NumericColumn):
        yield b"numeric"
        yield from _numeric(column)
    else:
        yield b"categorical"
        yield from _categorical(column)


def _numeric(column: NumericColumn) -> Iterator[bytes]:
    values = column.values + 0.0  # -0.0 is 0.0
    missing = np.isnan(values)
    values[missing] = np.nan  # of all the bit patterns of NaN, one
    yield values.astype("<f8").tobytes()
    status = np.where(missing, np.uint8(Status.MISSING), np.uint8(0)) if column.status is None else column.status
    yield status.astype(np.uint8).tobytes()


def _categorical(column: CategoryColumn) -> Iterator[bytes]:
    encoded = {value: _cell(value) for value in set(column.values)}
    yield b"".join(map(encoded.__getitem__, column.values))


def _cell(value: object) -> bytes:
    """A status byte, and for a value its length and UTF-8 text."""
    if value is None or isinstance(value, Marker):
        return bytes([_TEXT_STATUS[value]])
    assert isinstance(value, str | int | float)
    text = category_text(value).encode("utf-8", "surrogatepass")
    return bytes([Status.VALUE]) + struct.pack("<I", len(text)) + text
