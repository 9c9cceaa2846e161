"""Which column plays which role, and what kind of task a table is about."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from monitor.config import Columns, Model, Task
from monitor.errors import UserError
from monitor.tables.columns import kind_of, label_column, numeric_column

if TYPE_CHECKING:
    import pyarrow as pa

    from monitor.tables.files import ArrowColumn

_MOST_CLASSES = 20  # whole numbers with more different values than this are quantities


@dataclass(frozen=True, slots=True)
class Roles:
    """Role -> column, as far as the table has it; class -> column; and the columns that are left as features, in file order."""

    columns: dict[str, str]
    scores: dict[str, str]
    features: tuple[str, ...]

    def get(self, table: pa.Table, role: str) -> ArrowColumn | None:
        name = self.columns.get(role)
        return None if name is None else table[name]


def assign_roles(names: Sequence[str], columns: Columns, ignore: Iterable[str], *, where: str, strict: bool) -> Roles:
    """The roles of the columns `names`. `strict` refuses what the configuration names and the table lacks (else it is left out).

    Raises UserError, also for a column in two roles; `where` opens its message.
    """
    found = {role: name for role, name in columns.roles().items() if name is not None and name in names}
    stated = {role: getattr(columns, role) for role in columns.model_fields_set if role != "scores"}
    if strict:
        wanted = [f"columns.{role}" for role in stated], stated.values()
        _require(names, zip(*wanted, strict=True), where)
        _require(names, ((f"columns.scores.{label}", name) for label, name in columns.scores.items()), where)
        _require(names, (("ignore", name) for name in ignore), where)
    used = [*found.values(), *columns.scores.values()]
    twice = next((name for name in used if used.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"{where}: column {twice} has two roles (change reference.columns)")
    left_out = {*used, *ignore}
    return Roles(
        found,
        {label: name for label, name in columns.scores.items() if name in names},
        tuple(name for name in names if name not in left_out),
    )


def require_features(model: Model, features: Sequence[str], where: str) -> None:
    """Raises UserError when `features` of the configuration names a column that is no feature of the table."""
    _require(features, ((f"features.{name}", name) for name in model.features), where)


def require_segments(model: Model, table: pa.Table, features: Sequence[str], where: str) -> None:
    """Raises UserError when a declared segment is no feature of the table, or one that holds numbers and is not declared a category."""
    _require(features, (("segments", name) for name in model.segments), where)
    for name in model.segments:
        stated = model.features.get(name)
        if kind_of(table[name]) == "numeric" and (stated is None or stated.kind is None):
            raise UserError(
                f"{where}: segments: column {name} holds numbers (set models.{model.name}.features.{name}.kind: categorical "
                "if its values name groups)"
            )


def _require(names: Sequence[str], wanted: Iterable[tuple[str, str | None]], where: str) -> None:
    for path, name in wanted:
        if name is not None and name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
            hint = (
                f"did you mean {close[0]}?"
                if close
                else f"it has {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
            )
            raise UserError(f"{where}: {path}: the table has no column {name} ({hint})")


def infer_task(table: pa.Table, roles: Roles, *, positive_label: str | None) -> tuple[Task, str]:
    """The task and why, for a model whose configuration states none."""
    if positive_label is not None:
        return "binary", "positive_label is given"
    if roles.scores:
        return "multiclass", "columns.scores is given"
    for role in ("label", "prediction"):
        column = roles.get(table, role)
        if column is None or column.null_count == len(column):
            continue
        name, distinct = roles.columns[role], len(set(label_column(column, {}).values) - {None})
        if kind_of(column) == "numeric" and _is_quantity(column, distinct):
            return "regression", f"{role} column {name} holds numbers"
        if distinct <= 2:
            return "binary", f"{role} column {name} holds {distinct} values"
        return "multiclass", f"{role} column {name} holds {distinct} values"
    score = roles.get(table, "score")
    if score is not None:
        values = numeric_column(score).values
        if bool(((values >= 0) & (values <= 1) | np.isnan(values)).all()) and not np.isnan(values).all():
            return "binary", f"score column {roles.columns['score']} lies between 0 and 1"
    return "unlabelled", "the table has no label, prediction or probability"


def _is_quantity(column: ArrowColumn, distinct: int) -> bool:
    values = numeric_column(column).values
    values = values[~np.isnan(values)]
    return distinct > _MOST_CLASSES or bool((values != np.rint(values)).any())
