"""The rows of a table as canonical JSON events, so that a table goes the same way as a stream and gives the same windows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from detectors.columns import category_text
from monitor.config import Columns, Kind, Model, ReferenceConfig, Task
from monitor.errors import UserError
from monitor.tables.columns import Cell, cells, kind_of, times_ms
from monitor.tables.files import is_csv, read_blocks, read_table
from monitor.tables.roles import Roles, assign_roles, infer_task

if TYPE_CHECKING:
    import pyarrow as pa

_encode = msgspec.json.Encoder().encode


def table_events(
    source: Any,  # a path or a DataFrame
    model: Model,
    *,
    columns: Columns | None = None,
    task: Task | None = None,
    kinds: Mapping[str, Kind] | None = None,
    block_rows: int = 1_000,
) -> Iterator[list[bytes]]:
    """The events of a table's rows in row order, in lists of `block_rows` rows: a prediction, and its outcome where the label is not null.

    `columns` is laid over the reference's. `task` and `kinds` are those of the model's reference, where they are known; a CSV cell of a
    numeric feature that is a number stays one though other cells of its column are none. A cell that the envelope cannot hold is passed
    on as it is, for the codec to refuse: nothing is dropped here. Without an id column the id is the row's place in the file.
    Raises UserError, from the first `next`, for a table that cannot be read or has no timestamps.
    """
    name = Path(source).name if isinstance(source, str | Path) else "the table"
    parts = read_blocks(source) if isinstance(source, str | Path) else iter([read_table(source)])
    csv = isinstance(source, str | Path) and is_csv(source)
    numeric = {feature for feature, kind in (kinds or {}).items() if kind == "numeric"} if csv else set()
    reference = model.reference or ReferenceConfig(path="-")
    layout = reference.columns if columns is None else columns.over(reference.columns)
    roles: Roles | None = None
    first_row = 0
    for part in parts:
        if roles is None:
            roles = assign_roles(part.schema.names, layout, reference.ignore, where=str(source), strict=False)
            if "timestamp" not in roles.columns:
                fix = f"name its column with columns: {{timestamp: NAME}}; it has {', '.join(part.schema.names[:8])}"
                raise UserError(
                    f"{name}: a table without timestamps can be a reference, but neither a source nor replayed ({fix})"
                )
            task = model.task or task or infer_task(part, roles, positive_label=model.positive_label)[0]
        maker = _EventMaker(model.name, roles, regression=task == "regression", prefix=Path(name).stem, numeric=numeric)
        for start in range(0, part.num_rows, block_rows):
            block = part.slice(start, block_rows)
            yield maker.events(block, first_row + start)
        first_row += part.num_rows


class _EventMaker:
    def __init__(self, model: str, roles: Roles, *, regression: bool, prefix: str, numeric: set[str]) -> None:
        self._model = model
        self._roles = roles
        self._answer = "value" if regression else "label"
        self._prefix = prefix
        self._numeric = numeric

    def events(self, block: pa.Table, first_row: int) -> list[bytes]:
        names = [name for name in self._roles.features if kind_of(block[name]) != "array"]
        features = [self._feature_cells(block, name) for name in names]
        odd = _rows_not_finite(features)
        ids, times = self._ids(block, first_row), _stamps(block, self._roles, "timestamp")
        label_times = (
            _stamps(block, self._roles, "label_timestamp") if "label_timestamp" in self._roles.columns else times
        )
        versions = [None if cell is None else _text(cell) for cell in self._cells(block, "version")]
        labels, weights = self._cells(block, "label"), self._cells(block, "weight")
        out: list[bytes] = []
        for row, (answer, values) in enumerate(zip(self._answers(block), _rows(features, len(block)), strict=True)):
            event: dict[str, Any] = {"type": "prediction", "model": self._model, "id": ids[row], "ts": times[row]}
            if versions[row] is not None:
                event["version"] = versions[row]
            event["features"] = dict(zip(names, values, strict=True))
            event["prediction"] = answer
            if _given(weights[row]):
                event["weight"] = weights[row]
            out.append(json.dumps(event).encode() if row in odd else _encode(event))
            if _given(labels[row]):
                stamp = times[row] if label_times[row] is None else label_times[row]
                outcome = {"type": "outcome", "model": self._model, "id": ids[row], "ts": stamp, "label": labels[row]}
                if versions[row] is not None:
                    outcome["version"] = versions[row]
                out.append(_encode(outcome))
        return out

    def _feature_cells(self, block: pa.Table, name: str) -> list[Cell]:
        values = cells(block[name])
        if name in self._numeric:
            return [_number(value) if isinstance(value, str) else value for value in values]
        return values

    def _ids(self, block: pa.Table, first_row: int) -> list[str | None]:
        if "id" not in self._roles.columns:
            return [f"{self._prefix}-{first_row + row}" for row in range(len(block))]
        return [None if cell is None else _text(cell) for cell in self._cells(block, "id")]

    def _answers(self, block: pa.Table) -> list[dict[str, Any]]:
        predictions, scores = self._cells(block, "prediction"), self._cells(block, "score")
        out: list[dict[str, Any]] = []
        for prediction, score in zip(predictions, scores, strict=True):
            answer: dict[str, Any] = {}
            if _given(prediction):
                answer[self._answer] = prediction
            if _given(score):
                answer["score"] = score
            out.append(answer)
        if self._roles.scores:
            by_class = [cells(block[name]) for name in self._roles.scores.values()]
            for answer, row in zip(out, _rows(by_class, len(block)), strict=True):
                answer["scores"] = {k: v for k, v in zip(self._roles.scores, row, strict=True) if _given(v)}
        return out

    def _cells(self, block: pa.Table, role: str) -> Sequence[Cell]:
        column = self._roles.get(block, role)
        return [None] * len(block) if column is None else cells(column)


def _stamps(block: pa.Table, roles: Roles, role: str) -> list[Cell]:
    """Epoch ms; a cell that is no time stays as it is, for the codec to say so."""
    column = roles.get(block, role)
    assert column is not None
    times, wrong = times_ms(column)
    stamps: list[Cell] = times.tolist()
    if wrong:
        raw = cells(column)
        for row in wrong:
            stamps[row] = raw[row] if _given(raw[row]) else None
    return stamps


def _rows(columns: Sequence[Sequence[Cell]], rows: int) -> Iterator[tuple[Cell, ...]]:
    return zip(*columns, strict=True) if columns else iter([()] * rows)


def _rows_not_finite(columns: Sequence[Sequence[Cell]]) -> set[int]:
    """Rows with a NaN or an infinity, which only Python's own JSON writes as such."""
    out: set[int] = set()
    for column in columns:
        floats = np.array([value if isinstance(value, float) else 0.0 for value in column], dtype=np.float64)
        out.update(np.flatnonzero(~np.isfinite(floats)).tolist())
    return out


def _given(cell: Cell) -> bool:
    return cell is not None and cell == cell  # noqa: PLR0124  # NaN stands for nothing here


def _text(cell: str | float | bool) -> str:
    return ("true" if cell else "false") if isinstance(cell, bool) else category_text(cell)


def _number(text: str) -> Cell:
    from monitor.decoding.labels import JSON_NUMBER

    return float(text) if JSON_NUMBER.fullmatch(text) else text
