"""Building references from tables, and the rule that a changed table is an error until somebody adopts it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from detectors.reference import Reference, ReferenceRefused, build_reference, encode_reference
from monitor.config import Config, Model
from monitor.errors import UserError
from monitor.store import ReferenceRow, Store
from monitor.tables import load_reference_table


def ensure_references(store: Store, config: Config, now_ms: int) -> list[ReferenceRow]:
    """Build what the configuration names and the store lacks. Returns what was built.

    Raises UserError where a table or its settings differ from what the newest reference was built from.
    """
    built = []
    twins: dict[tuple[object, ...], ReferenceRow] = {}  # many models share one table: it is read and built once
    for model in config.models.values():
        if model.reference is None:
            continue
        known = [row for row in store.references(model.name) if row.version == ""]
        if not known:
            ingredients = _ingredients(model)
            twin = twins.get(ingredients)
            row = replace(twin, model=model.name) if twin is not None else _row(model, None, version="", now_ms=now_ms)
            store.add_reference(row, window_ms=model.window.size_ms)
            twins[ingredients] = row
            built.append(row)
        else:
            _unchanged(model, known[-1])
    return built


def adopt(store: Store, model: Model, *, path: Path | None = None, version: str = "", now_ms: int) -> ReferenceRow:
    """Build a reference and put it in force from the next window boundary. The same content and settings as the newest one: nothing happens."""
    row = _row(model, path, version=version, now_ms=now_ms)
    known = [old for old in store.references(model.name) if old.version == version]
    if known and known[-1].hash == row.hash:
        return known[-1]
    store.add_reference(row, window_ms=model.window.size_ms)
    return row


def _row(model: Model, path: Path | None, *, version: str, now_ms: int) -> ReferenceRow:
    source, reference, told = build(model, path)
    return ReferenceRow(
        hash=reference.hash,
        model=model.name,
        version=version,
        payload=encode_reference(reference),
        source_path=str(source),
        source_sha256=file_sha256(source),
        settings=settings_json(model),
        rows=reference.rows,
        warnings=json.dumps([*told, *reference.warnings]),
        recorded_at_ms=now_ms,
    )


def _ingredients(model: Model) -> tuple[object, ...]:
    """All that a reference is made of. What was inferred is told with the model's name, so models that leave it to us share nothing."""
    assert model.reference is not None
    told = model.name if model.task is None else None
    return str(model.reference.path), settings_json(model), model.decision_threshold, told


def build(model: Model, path: Path | None = None) -> tuple[Path, Reference, tuple[str, ...]]:
    """Read the table and build, without storing; the notes say what was inferred. Raises UserError naming the file, the column and the fix."""
    source = path if path is not None else Path(model.reference.path) if model.reference is not None else None
    if source is None:
        raise UserError(f"model {model.name} has no reference (add models.{model.name}.reference.path, or name a FILE)")
    loaded = load_reference_table(model, str(source))
    try:
        return source, build_reference(loaded.table, loaded.settings), tuple(loaded.notes)
    except ReferenceRefused as error:
        raise UserError(f"{source}: {error}") from error


def file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror} (is the path in models.*.reference.path right?)") from error


def settings_json(model: Model) -> str:
    """What the configuration says of how the table is read, as one canonical line: a first sign that a reference may have changed."""
    told = model.model_dump(mode="json", include={"task", "positive_label", "label_map", "reference", "features"})
    told["reference"] = {key: value for key, value in (told["reference"] or {}).items() if key != "path"}
    told["features"] = {
        name: {key: feature[key] for key in ("kind", "range")} for name, feature in told["features"].items()
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def _unchanged(model: Model, known: ReferenceRow) -> None:
    """Cheap while nothing changed; otherwise the content decides: the same values in another file are the same reference."""
    assert model.reference is not None
    source = Path(model.reference.path)
    if file_sha256(source) == known.source_sha256 and settings_json(model) == known.settings:
        return
    _, reference, _ = build(model)
    if reference.hash != known.hash:
        raise UserError(
            f"{source}: the table, or how it is read, changed since the reference of model {model.name} was built "
            f"(run `driftline reference build {model.name}` to adopt it)"
        )


def notes(row: ReferenceRow) -> Iterable[str]:
    """What the self-check had to say of a stored reference."""
    return [str(note) for note in json.loads(row.warnings)]
