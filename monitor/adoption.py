"""Building references from tables, and the rule that a changed table is an error until somebody adopts it.

Another table than the configured one may be put in its place, by name: then that one is in force, and the configured table is only
asked whether it is still what it was at that moment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from detectors.reference.build import Reference, ReferenceRefused, build_reference, encode_reference
from monitor.config import Config, Model
from monitor.errors import UserError
from monitor.store import ReferenceRow, Store
from monitor.tables.load import load_reference_table


def ensure_references(store: Store, config: Config, now_ms: int) -> list[ReferenceRow]:
    """Build what the configuration names and the store lacks. Returns what was built.

    Raises UserError where the configured table or its settings differ from what they were when the newest reference was built.
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
    """Build a reference and put it in force from the next window boundary. The same content, read and chosen as the newest one was: nothing happens.

    `path` names another table than the configured one, which is deliberate: that one is in force until somebody builds again.
    """
    row = _row(model, path, version=version, now_ms=now_ms)
    known = [old for old in store.references(model.name) if old.version == version]
    if known and (known[-1].hash, known[-1].settings) == (row.hash, row.settings):
        return known[-1]
    store.add_reference(row, window_ms=model.window.size_ms)
    return row


def _row(model: Model, path: Path | None, *, version: str, now_ms: int) -> ReferenceRow:
    source, reference, told = build(model, path)
    stated = settings_json(model)
    return ReferenceRow(
        hash=reference.hash,
        model=model.name,
        version=version,
        payload=encode_reference(reference),
        source_path=str(source.absolute()),
        source_sha256=file_sha256(source),
        settings=stated if version or _is_configured(model, source) else _set_aside(stated, model),
        rows=reference.rows,
        warnings=json.dumps([*told, *reference.warnings]),
        recorded_at_ms=now_ms,
    )


def _ingredients(model: Model) -> tuple[object, ...]:
    """All that a reference is made of. What was inferred is told with the model's name, so models that leave it to us share nothing."""
    assert model.reference is not None
    told = model.name if model.task is None else None
    return str(model.reference.path), settings_json(model), told


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


_READ_BY = ("task", "positive_label", "decision_threshold", "label_map", "reference", "features", "segments")


def settings_json(model: Model) -> str:
    """What the configuration says of how the table is read, as one canonical line: a first sign that a reference may have changed."""
    told = model.model_dump(mode="json", include=set(_READ_BY))
    told["reference"] = {key: value for key, value in (told["reference"] or {}).items() if key != "path"}
    told["features"] = {
        name: {key: feature[key] for key in ("kind", "range")} for name, feature in told["features"].items()
    }
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def _unchanged(model: Model, known: ReferenceRow) -> None:
    """Cheap while nothing changed; otherwise the content decides: the same values in another file are the same reference."""
    assert model.reference is not None
    source = Path(model.reference.path)
    stated = settings_json(model)
    if "instead_of" in json.loads(known.settings):
        _still_set_aside(model, stated, known)
        return
    if file_sha256(source) == known.source_sha256 and stated == known.settings:
        return
    if build(model)[1].hash != known.hash:
        raise UserError(
            f"{source}: the table, or how it is read, changed since the reference of model {model.name} was built "
            f"(run `driftline reference build {model.name}` to adopt it)"
        )


def _still_set_aside(model: Model, stated: str, known: ReferenceRow) -> None:
    """`known` was built from another table than the configured one: it stays in force while that one is as it was, and read as it was."""
    assert model.reference is not None
    configured, other = Path(model.reference.path), Path(known.source_path)
    now = _set_aside(stated, model)
    if now == known.settings:
        return
    if json.loads(now)["instead_of"] == json.loads(known.settings)["instead_of"]:  # so the table is read otherwise
        if other.is_file() and build(model, other)[1].hash == known.hash:
            return
        raise UserError(
            f"{other}: how the table is read changed since the reference of model {model.name} was built from it (run "
            f"`driftline reference build {model.name} {other}` to build it anew, or without the file to adopt {configured})"
        )
    if build(model)[1].hash != known.hash:
        raise UserError(
            f"{configured}: the table changed since {other} was put in its place as the reference of model {model.name} (run "
            f"`driftline reference build {model.name}` to adopt it, or `driftline reference build {model.name} {other}` to keep the other)"
        )


def _is_configured(model: Model, source: Path) -> bool:
    return model.reference is None or source.resolve() == Path(model.reference.path).resolve()


def _set_aside(stated: str, model: Model) -> str:
    """The settings, with what the configured table is at this moment; null where it is not there."""
    assert model.reference is not None
    configured = Path(model.reference.path)
    sha256 = file_sha256(configured) if configured.is_file() else None
    told = {**json.loads(stated), "instead_of": {"path": str(configured), "sha256": sha256}}
    return json.dumps(told, sort_keys=True, separators=(",", ":"))


def notes(row: ReferenceRow) -> Iterable[str]:
    """What the self-check had to say of a stored reference."""
    return [str(note) for note in json.loads(row.warnings)]
