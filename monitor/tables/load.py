"""Reference tables: from a file and a model's configuration to what `build_reference` takes (DESIGN 4.6)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from detectors.columns import CategoryColumn, Column, NumericColumn, Status
from detectors.reference.types import ReferenceSettings, ReferenceTable
from monitor.config import FeatureConfig, Model, ReferenceConfig, Task
from monitor.decoding.event_schema import label_number
from monitor.errors import UserError
from monitor.tables.columns import category_column, kind_of, label_column, numeric_column, times_ms
from monitor.tables.files import is_csv, read_table
from monitor.tables.roles import Roles, assign_roles, infer_task, require_features, require_segments

if TYPE_CHECKING:
    import pyarrow as pa

    from monitor.tables.files import ArrowColumn


class LoadedReference(NamedTuple):
    """`notes` are lines for the user: what was inferred."""

    table: ReferenceTable
    settings: ReferenceSettings
    notes: tuple[str, ...]


def load_reference_table(model: Model, source: Any = None) -> LoadedReference:  # a path or a DataFrame
    """The reference of `model` from its configured file, or from `source` (a path or DataFrame) read by the same configuration.

    Raises UserError for a file that cannot be read, columns that are not there, times that are none, and labels that do not fit the task.
    """
    config = model.reference or ReferenceConfig(path="-")
    if source is None:
        if model.reference is None:
            raise UserError(f"model {model.name} has no reference (add models.{model.name}.reference.path)")
        source = model.reference.path
    csv = isinstance(source, str | Path) and is_csv(source)
    raw = read_table(source)
    where = f"model {model.name}, {source if isinstance(source, str | Path) else 'its table'}"
    roles = assign_roles(raw.schema.names, config.columns, config.ignore, where=where, strict=True)
    require_features(model, roles.features, where)
    require_segments(model, raw, roles.features, where)
    positive = None if model.positive_label is None else model.label_map.get(model.positive_label, model.positive_label)
    task, notes = _task(model, raw, roles)
    table = _reference_table(raw, roles, task, model, csv=csv, where=where)
    classes = _classes(table, task, where)
    _check_labels(table, classes, positive, model=model, task=task, where=where)
    settings = ReferenceSettings(
        task=task,
        positive_label=positive,
        order=config.order,
        kinds={name: feature.kind for name, feature in model.features.items() if feature.kind is not None},
        ranges={name: feature.range for name, feature in model.features.items() if feature.range is not None},
        columns=config.columns.roles() | {f"scores.{label}": name for label, name in config.columns.scores.items()},
        segments=tuple(sorted(model.segments)),
        classes=classes,
        decision_threshold=model.decision_threshold,
    )
    return LoadedReference(table, settings, notes)


def _task(model: Model, raw: pa.Table, roles: Roles) -> tuple[Task, tuple[str, ...]]:
    if model.task is not None:
        return model.task, ()
    task, reason = infer_task(raw, roles, positive_label=model.positive_label)
    return task, (f"model {model.name}: task {task} inferred ({reason}; state it with models.{model.name}.task)",)


def _reference_table(raw: pa.Table, roles: Roles, task: Task, model: Model, *, csv: bool, where: str) -> ReferenceTable:
    features: dict[str, Column] = {}
    arrays = set()
    for name in roles.features:
        if kind_of(raw[name]) == "array":
            arrays.add(name)
        else:
            features[name] = feature_column(raw[name], model.features.get(name), text_numbers=csv)
    prediction, score = roles.get(raw, "prediction"), roles.get(raw, "score")
    regression = task == "regression"
    return ReferenceTable(
        rows=raw.num_rows,
        features=features,
        times_ms=_times(raw, roles, where),
        version=_version(roles.get(raw, "version")),
        score=None if score is None else _numbers(score, roles.columns["score"], where),
        label_predicted=None if prediction is None or regression else label_column(prediction, model.label_map),
        label=_label(roles.get(raw, "label"), model, regression=regression),
        value=None if prediction is None or not regression else _label_numbers(prediction),
        weight=_weight(roles.get(raw, "weight"), roles, where),
        scores={
            model.label_map.get(label, label): _numbers(raw[name], name, where) for label, name in roles.scores.items()
        },
        arrays=frozenset(arrays),
    )


def feature_column(column: ArrowColumn, config: FeatureConfig | None, *, text_numbers: bool) -> Column:
    """A feature as its configured kind, else as its type says."""
    kind = (config.kind if config is not None else None) or kind_of(column)
    return numeric_column(column, text_numbers=text_numbers) if kind == "numeric" else category_column(column)


def _numbers(column: ArrowColumn, name: str, where: str) -> NumericColumn:
    if kind_of(column) != "numeric":
        raise UserError(f"{where}: column {name} should hold numbers, it holds {column.type}")
    return numeric_column(column)


def _weight(column: ArrowColumn | None, roles: Roles, where: str) -> NumericColumn | None:
    """As in events: a number that is not negative, or nothing, which counts 1."""
    if column is None:
        return None
    weights = _numbers(column, roles.columns["weight"], where)
    if bool((weights.values < 0).any()):
        raise UserError(
            f"{where}: column {roles.columns['weight']}: a weight is not negative (mend it, or set reference.columns.weight to null)"
        )
    return weights


def _label(column: ArrowColumn | None, model: Model, *, regression: bool) -> Column | None:
    if column is None:
        return None
    return _label_numbers(column) if regression else label_column(column, model.label_map)


def _label_numbers(column: ArrowColumn) -> NumericColumn:
    """Regression labels are numbers, also where they are written as text."""
    if kind_of(column) == "numeric":
        return numeric_column(column)
    import numpy as np

    texts = label_column(column, {}).values
    values = np.array([label_number(text) if isinstance(text, str) else None for text in texts], dtype=np.float64)
    given = np.array([text is not None for text in texts], dtype=np.bool_)
    status = np.where(np.isnan(values), np.where(given, Status.INVALID, Status.MISSING), Status.VALUE)
    return NumericColumn(values, status.astype(np.uint8))


def _version(column: ArrowColumn | None) -> CategoryColumn | None:
    return None if column is None else category_column(column)


def _times(raw: pa.Table, roles: Roles, where: str) -> Any:  # an int64 array or None
    column = roles.get(raw, "timestamp")
    if column is None:
        return None
    times, wrong = times_ms(column)
    if wrong:
        row, reason = min(wrong.items())
        raise UserError(
            f"{where}: column {roles.columns['timestamp']}, row {row + 1}: {reason} "
            f"({len(wrong)} of {raw.num_rows} rows; mend them, or set reference.columns.timestamp to null)"
        )
    return times


def _classes(table: ReferenceTable, task: Task, where: str) -> tuple[str, ...] | None:
    if task not in ("binary", "multiclass"):
        return None
    seen = _texts(table.label) | _texts(table.label_predicted)
    if task == "multiclass" and table.scores:
        if strange := sorted(seen - table.scores.keys()):
            raise UserError(
                f"{where}: label {strange[0]} has no column in columns.scores (add it, or map it by label_map)"
            )
        return tuple(sorted(table.scores))
    return tuple(sorted(seen)) or None


def _check_labels(
    table: ReferenceTable,
    classes: tuple[str, ...] | None,
    positive: str | None,
    *,
    model: Model,
    task: Task,
    where: str,
) -> None:
    actual, predicted = _texts(table.label), _texts(table.label_predicted)
    if task in ("binary", "multiclass") and actual and predicted and not actual & predicted:
        raise UserError(
            f"{where}: labels ({_some(actual)}) and predictions ({_some(predicted)}) have no value in common "
            f"(map them with models.{model.name}.label_map, such as label_map: {{{min(predicted)}: {min(actual)}}})"
        )
    if task != "binary" or classes is None:
        return
    if positive is None:
        raise UserError(
            f"{where}: a binary model needs models.{model.name}.positive_label (one of {_some(set(classes))})"
        )
    if len(set(classes) | {positive}) > 2:
        fix = f"set models.{model.name}.positive_label to one of them, state the task, or merge labels with label_map"
        raise UserError(f"{where}: a binary model has two labels, these are {_some(set(classes) | {positive})} ({fix})")


def _texts(column: Column | None) -> set[str]:
    if not isinstance(column, CategoryColumn):
        return set()
    return {value for value in column.values if isinstance(value, str)}


def _some(labels: set[str]) -> str:
    shown = sorted(labels)
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")
