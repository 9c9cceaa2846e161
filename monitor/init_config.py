"""`driftline init TABLE`: a commented configuration for a table, with what was inferred and why."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from detectors.columns import CategoryColumn, NumericColumn
from detectors.reference.build import Reference, ReferenceRefused, build_reference
from monitor.config import Columns, Model
from monitor.errors import UserError
from monitor.tables.columns import kind_of, label_column, numeric_column, times_ms
from monitor.tables.files import read_table
from monitor.tables.load import load_reference_table
from monitor.tables.roles import Roles, assign_roles, infer_task

if TYPE_CHECKING:
    import pyarrow as pa

# Names that columns of these roles go by, the best first. Compared in lower case.
_NAMES = {
    "id": ("id", "prediction_id", "request_id", "row_id", "uuid"),
    "timestamp": ("timestamp", "ts", "event_time", "scored_at", "datetime", "time", "created_at", "date"),
    "version": ("version", "model_version"),
    "prediction": ("prediction", "predicted", "predicted_label", "predicted_class", "y_pred"),
    "score": (
        "score",
        "probability",
        "proba",
        "predicted_probability",
        "prediction_score",
        "y_score",
        "y_proba",
        "y_pred_proba",
    ),
    "label": ("label", "target", "y_true", "y", "actual", "ground_truth", "outcome"),
    "label_timestamp": ("label_timestamp", "labelled_at", "label_ts"),
    "weight": ("weight", "sample_weight"),
}
_POSITIVE = ("1", "true", "True", "yes", "Yes", "Y", "positive")
_SHOWN = 200  # features listed in the comment


def propose(table: str | Path, config_dir: Path | None = None) -> str:
    """The text of a configuration that loads when it is stored in `config_dir` (None: the working directory).

    Raises UserError when the table cannot be read or cannot be a reference.
    """
    path = Path(table)
    raw = read_table(path)
    columns = _columns(raw)
    where = str(path)
    roles = assign_roles(raw.schema.names, columns, (), where=where, strict=False)
    task, reason = infer_task(raw, roles, positive_label=None)
    positive, why = _positive_label(raw, roles) if task == "binary" else (None, "")
    settings = {"task": task, "reference": {"path": str(path), "columns": columns}}
    model = Model.model_validate(settings | ({} if positive is None else {"positive_label": positive})).named(
        _name(path)
    )
    loaded = load_reference_table(model)
    try:
        reference = build_reference(loaded.table, loaded.settings)
    except ReferenceRefused as refusal:
        raise UserError(f"{path}: {refusal}") from None
    relative = os.path.relpath(path, config_dir or Path())
    lines = [
        f"# Written by `driftline init {path.name}`: {raw.num_rows} rows, {len(raw.schema.names)} columns. What is a guess says so.",
        "# Next: `driftline check`, then `driftline reference build`, then `driftline run`.",
        *(f"# Note: {warning}" for warning in reference.warnings),
        "",
        "store: sqlite:///driftline.db",
        "",
        "models:",
        f"  {_plain(model.name)}:",
        f"    task: {task}{_comment(reason)}",
    ]
    if positive is not None:
        lines.append(f"    positive_label: {_label(positive)}{_comment(why)}")
    lines += _reference_lines(relative if not path.is_absolute() else str(path), columns, roles, reference)
    lines += ["    window: 1d", *_feature_lines(loaded.table.features, reference), "", *_SOURCES]
    return "\n".join(lines) + "\n"


_SOURCES = (
    "# Where predictions come from (or feed files with `driftline replay`):",
    "# sources:",
    "#   live: {kafka: {bootstrap_servers: [localhost:9092], topics: {ml.predictions: canonical}}}",
    "",
    "# Who is told (findings are always in `driftline status`):",
    "# receivers:",
    "#   robot: {webhook: {url: http://localhost:8000/drift, secret: {env: HOOK_SECRET}}}",
    "# routes:",
    "#   - {receiver: robot}",
)


def _columns(raw: pa.Table) -> Columns:
    by_lower = {name.lower(): name for name in reversed(raw.schema.names)}
    found: dict[str, str | None] = {}
    for role, names in _NAMES.items():
        candidates = [by_lower[name] for name in names if name in by_lower]
        name = next((name for name in candidates if _can_be(role, raw, name)), None)
        if name is not None and name != role:
            found[role] = name
        elif name is None and role in raw.schema.names:
            found[role] = None  # its name is free for a feature
    if "label" not in found and "label" not in raw.schema.names:
        prediction = found.get("prediction") or "prediction"
        label = _label_like(raw, prediction, {*found.values(), *_NAMES}) if prediction in raw.schema.names else None
        if label is not None:
            found["label"] = label
    return Columns.model_validate(found)


def _label_like(raw: pa.Table, prediction: str, taken: set[str | None]) -> str | None:
    """The column that holds just the values of the prediction and agrees with it best, in 60 % of rows at least."""
    predicted = label_column(raw[prediction], {}).values
    values = set(predicted) - {None}
    if not 2 <= len(values) <= 20:
        return None
    agreement: dict[str, float] = {}
    for name in raw.schema.names:
        if name not in taken and name != prediction and kind_of(raw[name]) != "array":
            texts = label_column(raw[name], {}).values
            if set(texts) - {None} == values:
                agreement[name] = sum(a == b for a, b in zip(texts, predicted, strict=True)) / len(texts)
    best = max(agreement, key=lambda name: agreement[name], default=None)
    return best if best is not None and agreement[best] >= 0.6 else None


def _can_be(role: str, raw: pa.Table, name: str) -> bool:
    column = raw[name]
    if role in ("timestamp", "label_timestamp"):
        times, wrong = times_ms(column)
        return len(times) > 0 and not wrong and int(times.min()) > 946_684_800_000  # before 2000: no milliseconds
    if role in ("score", "weight"):
        if kind_of(column) != "numeric":
            return False
        values = numeric_column(column).values
        return role == "weight" or bool(((values >= 0) & (values <= 1) | np.isnan(values)).all())
    return kind_of(column) != "array"


def _positive_label(raw: pa.Table, roles: Roles) -> tuple[str | None, str]:
    for role in ("label", "prediction"):
        column = roles.get(raw, role)
        if column is None:
            continue
        counts = Counter(text for text in label_column(column, {}).values if isinstance(text, str))
        if not counts:
            continue
        usual = next((text for text in _POSITIVE if text in counts), None)
        label = usual or min(counts, key=lambda text: (counts[text], text))
        others = ", ".join(sorted(counts.keys() - {label})) or "none"
        return label, f"a guess: the event that scores are the probability of; the other label is {others}"
    return None, ""


def _reference_lines(path: str, columns: Columns, roles: Roles, reference: Reference) -> list[str]:
    lines = ["    reference:", f"      path: {_plain(path)}"]
    if "timestamp" not in roles.columns:
        lines.append(
            "      order: unknown  # write `time` if the rows are in time order: only then can drift be more than a warning"
        )
    stated = {role: getattr(columns, role) for role in columns.model_fields_set}
    if stated:
        lines.append("      columns:")
        guess = "  # a guess: it agrees with the prediction; if it is a feature, take this line away"
        for role, name in stated.items():
            guessed = role == "label" and name is not None and name.lower() not in _NAMES["label"]
            lines.append(f"        {role}: {'null' if name is None else _plain(name)}{guess if guessed else ''}")
    lines += [
        f"      # column {role} is taken as the {role} (`columns: {{{role}: null}}` makes it a feature)"
        for role in sorted(roles.columns.keys() - stated.keys())
    ]
    if reference.excluded:
        lines.append("      ignore:")
        lines += [f"        - {_plain(name)}{_comment(reason)}" for name, reason in reference.excluded.items()]
    return lines


def _feature_lines(features: object, reference: Reference) -> list[str]:
    assert isinstance(features, dict)
    lines = ["    # Inferred from the reference; to fix a kind, take away the `#`:", "    # features:"]
    shown = [name for name in features if name not in reference.excluded]
    for name in shown[:_SHOWN]:
        note = "  constant: checked for quality only" if name in reference.constants else ""
        lines.append(f"    #   {_plain(name)}: {{kind: {_kind(features[name])}}}{note}")
    if len(shown) > _SHOWN:
        lines.append(f"    #   and {len(shown) - _SHOWN} more")
    return lines if shown else []


def _kind(column: NumericColumn | CategoryColumn) -> str:
    return "numeric" if isinstance(column, NumericColumn) else "categorical"


def _name(path: Path) -> str:
    stem = path.name.partition(".")[0]
    if stem in ("reference", "ref", "train", "training", "data"):  # the folder says more
        stem = path.resolve().parent.name
    return re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_") or "model"


_WORDS = frozenset(
    {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}
)  # other readers of YAML 1.1 take these amiss


def _plain(text: str) -> str:
    """As a YAML scalar: quoted unless every reader takes it as the same text."""
    if re.fullmatch(r"[A-Za-z_./][A-Za-z0-9_./-]*", text) and text.lower() not in _WORDS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _label(text: str) -> str:
    return text if text.isdigit() or text in ("true", "false") else _plain(text)


def _comment(text: str) -> str:
    return "  # " + " ".join(text.split())
