"""From configuration files to a Config, or to every mistake in them at once."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from monitor.config.checks import check_references
from monitor.config.receivers import FILES as RECEIVER_FILES
from monitor.config.types import Config, ConfigFile
from monitor.config.words import translate
from monitor.config.yaml import Document, Mark, Problem, read_document
from monitor.config.yaml import Path as KeyPath
from monitor.errors import UserError


def load_config(path: str | Path) -> Config:
    """The configuration in `path` with its includes. Raises UserError whose message has one line for every mistake found:
    `file:line:column: path: message (fix)`. Secrets are not read here.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(
            f"{file}: no such configuration file (name one with -c, or write one with `driftline init TABLE`)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: {_why(error)}") from None
    return _config(read_document(text, str(file)), file.resolve().parent)


def parse_config(data: Mapping[str, Any], base_dir: Path) -> Config:
    """The same for a configuration that a program makes up. The places in its errors mean little."""
    return _config(read_document(json.dumps(data, indent=1), "configuration"), base_dir.resolve())


def _config(document: Document, base_dir: Path) -> Config:
    problems = document.problems
    if not isinstance(document.data, dict):
        if not problems:
            what = "is empty" if document.data is None else "should be a mapping"
            problems.append(Problem(Mark(document.file, 1, 1), (), what, "start with `models:`"))
        raise _refusal(problems)
    _include(document)
    _apply_defaults(document)
    _spell_out_intervals(document)
    _resolve_paths(document, base_dir)
    parsed = None
    try:
        parsed = ConfigFile.model_validate(document.data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        problems.extend(translate(document, details) for details in found if not _follows(details, found))
    problems.extend(check_references(document))
    if parsed is None or problems:
        raise _refusal(problems)
    return Config(
        base_dir=base_dir,
        store=parsed.store,
        models={name: model.named(name) for name, model in parsed.models.items()},
        sources={name: entry.chosen() for name, entry in parsed.sources.items()},
        receivers={name: entry.chosen() for name, entry in parsed.receivers.items()},
        routes=parsed.routes,
        retraining_targets={name: entry.chosen() for name, entry in parsed.retraining_targets.items()},
        retention=parsed.retention,
        http=parsed.http,
        fallbacks={name: entry.fallback for name, entry in parsed.receivers.items() if entry.fallback is not None},
        links=parsed.links,
        egress=parsed.egress,
        heartbeat=parsed.heartbeat,
        limits={name: limit for name, entry in parsed.receivers.items() if (limit := entry.storm_limit()) is not None},
        time_intervals=parsed.time_intervals,
        false_alarms=parsed.false_alarms,
        retraining=parsed.retraining,
    )


def _follows(details: ErrorDetails, found: list[ErrorDetails]) -> bool:
    """A list counts as too short when one of its items is wrong, which is told already."""
    place = details["loc"]
    return details["type"] == "too_short" and any(
        other["loc"][: len(place)] == place and len(other["loc"]) > len(place) for other in found
    )


def _refusal(problems: list[Problem]) -> UserError:
    lines = dict.fromkeys(str(p) for p in sorted(problems, key=lambda p: (p.mark, p.message)))
    return UserError("\n".join(lines))


# --- files in files ---


def _include(document: Document) -> None:
    """Take over the `models` of every file that `include` names. What is not right about them becomes a problem."""
    patterns = document.data.get("include", ())
    models = document.data.setdefault("models", {}) if "include" in document.data else None
    if not isinstance(patterns, tuple) or not isinstance(models, dict):
        return
    for i, pattern in enumerate(patterns):
        mark = document.mark(("include", i))
        if not isinstance(pattern, str):
            continue  # the types say so
        here = Path(document.file).parent
        found = [str(here / name) for name in sorted(glob.glob(pattern, root_dir=here, recursive=True))]  # noqa: PTH207  # takes absolute patterns too
        if not found:
            document.problems.append(
                Problem(mark, ("include", i), f"{pattern} matches no file", "paths are relative to this file")
            )
        for name in found:
            _take_over(document, models, name)


def _take_over(document: Document, models: dict[str, Any], name: str) -> None:
    try:
        part = read_document(Path(name).read_text(encoding="utf-8-sig"), name)
    except (OSError, UnicodeDecodeError) as error:
        document.problems.append(Problem(Mark(name, 1, 1), (), _why(error)))
        return
    document.problems.extend(part.problems)
    if part.data is None:
        return
    if not isinstance(part.data, dict) or not isinstance(part.data.get("models"), dict):
        document.problems.append(Problem(Mark(name, 1, 1), (), "an included file holds `models:` and nothing else"))
        return
    for key in part.data.keys() - {"models"}:
        document.problems.append(
            Problem(part.mark((key,), key=True), (key,), "an included file holds `models:` and nothing else")
        )
    for model, data in part.data["models"].items():
        path = ("models", model)
        if model in models:
            fix = f"the other is at {document.mark(path, key=True)}; rename or remove one"
            document.problems.append(Problem(part.mark(path, key=True), path, "this model is configured twice", fix))
            continue
        models[model] = data
        document.keys |= {p: mark for p, mark in part.keys.items() if p[:2] == path}
        document.values |= {p: mark for p, mark in part.values.items() if p[:2] == path}


def _apply_defaults(document: Document) -> None:
    """Lay every model over `defaults`; mappings are merged, the model's own value wins."""
    _spell_out_window(document, ("defaults",), document.data.get("defaults"))
    models = document.data.get("models")
    if not isinstance(models, dict):
        return
    defaults = document.data.get("defaults")
    for name, model in models.items():
        path = ("models", name)
        if model is None:
            model = models[name] = {}  # noqa: PLW2901  # `churn:` alone is a model of defaults
        _spell_out_window(document, path, model)
        if isinstance(defaults, dict) and isinstance(model, dict):
            models[name] = _merged(document, defaults, ("defaults",), model, path)


def _spell_out_window(document: Document, path: KeyPath, model: object) -> None:
    if isinstance(model, dict) and isinstance(model.get("window"), str):
        size = (*path, "window", "size")
        document.keys[size] = document.values[size] = document.mark((*path, "window"))
        model["window"] = {"size": model["window"]}


def _spell_out_intervals(document: Document) -> None:
    intervals = document.data.get("time_intervals")
    for name, times in intervals.items() if isinstance(intervals, dict) else ():
        path: KeyPath = ("time_intervals", name)
        if isinstance(times, str | tuple):
            listed = (*path, "times")
            _copy_marks(document, path, (*listed, 0) if isinstance(times, str) else listed, times)
            intervals[name] = {"times": (times,) if isinstance(times, str) else times}


def _merged(
    document: Document, base: dict[str, Any], base_path: KeyPath, own: dict[str, Any], path: KeyPath
) -> dict[str, Any]:
    out = dict(own)
    for key, value in base.items():
        if key not in own:
            out[key] = value
            _copy_marks(document, (*base_path, key), (*path, key), value)
        elif isinstance(value, dict) and isinstance(own[key], dict):
            out[key] = _merged(document, value, (*base_path, key), own[key], (*path, key))
    return out


def _copy_marks(document: Document, origin: KeyPath, target: KeyPath, value: object) -> None:
    for marks in (document.keys, document.values):
        if origin in marks:
            marks[target] = marks[origin]
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, tuple) else ()
    for key, child in children:
        _copy_marks(document, (*origin, key), (*target, key), child)


# --- paths are relative to the file that names them ---

_MODEL = (("models", "*"), ("defaults",))
_PATHS: tuple[KeyPath, ...] = (
    *((*start, "reference", "path") for start in _MODEL),
    ("sources", "*", "file", "paths", "*"),
    ("sources", "*", "kafka", "security", "ca_file"),
    ("sources", "*", "kafka", "security", "password", "file"),
    *RECEIVER_FILES,
    ("http", "tokens", "admin", "file"),
)


def _resolve_paths(document: Document, base_dir: Path) -> None:
    here = Path(document.file).parent
    for pattern in _PATHS:
        for path, text in list(_matching(document.data, pattern)):
            if isinstance(text, str) and text:
                folder = Path(document.mark(path).file).parent
                start = base_dir if folder == here else folder.resolve()
                if "paths" in pattern:  # these are globs, the folder is not
                    start = Path(glob.escape(str(start)))
                document.data = _replaced(document.data, path, str(start / text))
    store = document.data.get("store", "sqlite:///driftline.db")
    if isinstance(store, str) and store.startswith("sqlite:///") and store != "sqlite:///":
        document.data["store"] = f"sqlite:///{base_dir / store.removeprefix('sqlite:///')}"


def _matching(data: object, pattern: KeyPath, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    if not pattern:
        yield path, data
        return
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, tuple) else ()
    for key, value in items:
        if pattern[0] in ("*", key):
            yield from _matching(value, pattern[1:], (*path, key))


def _replaced(data: object, path: KeyPath, value: str) -> object:
    """A copy along `path`, since anchors and defaults share their values."""
    if isinstance(data, dict) and path:
        return data | {path[0]: _replaced(data[path[0]], path[1:], value)}
    if isinstance(data, tuple) and path:
        return tuple(_replaced(child, path[1:], value) if i == path[0] else child for i, child in enumerate(data))
    return value


def _why(error: OSError | UnicodeDecodeError) -> str:
    return f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "is not UTF-8 text"
