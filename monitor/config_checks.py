"""What one part of a configuration says about another: names that must exist, files that must be there.

Looks at the raw document, so that it also works where other parts are wrong, and in the same pass.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from monitor.config_yaml import Document, Problem
from monitor.config_yaml import Path as KeyPath


def check_references(document: Document) -> Iterator[Problem]:
    """A problem for every name and file that is not there. Values of a wrong type are left to the types."""
    data = document.data
    yield from _missing_files(document)
    receivers = _mapping(data.get("receivers"))
    for name in _mapping(data.get("retraining_targets")):
        if name in receivers:
            place = ("retraining_targets", name)
            yield Problem(document.mark(place, key=True), place, "is the name of a receiver too", "choose another name")
    named = (
        ("receiver", "receivers", _route_receivers(data)),
        ("retraining target", "retraining_targets", _targets(data)),
        ("model", "models", _source_models(data)),
    )
    for what, where, uses in named:
        known = sorted(_mapping(data.get(where)))
        for path, name in uses:
            if isinstance(name, str) and name not in known:
                yield Problem(document.mark(path), path, f"unknown {what} {name}", _advice(name, known, where))


def _advice(name: str, known: list[str], where: str) -> str:
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"did you mean {close[0]}?"
    return f"{where} has {', '.join(known[:10])}" if known else f"add it under {where}"


def _missing_files(document: Document) -> Iterator[Problem]:
    for name, model in _mapping(document.data.get("models")).items():
        path = ("models", name, "reference", "path")
        file = _mapping(_mapping(model).get("reference")).get("path")
        if isinstance(file, str) and file and not Path(file).is_file():
            yield Problem(
                document.mark(path), path, f"no such file: {file}", "paths are relative to the file that names them"
            )


def _route_receivers(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    routes = data.get("routes")
    for i, route in enumerate(routes if isinstance(routes, tuple) else ()):
        yield ("routes", i, "receiver"), _mapping(route).get("receiver")


def _targets(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    for name, model in _mapping(data.get("models")).items():
        yield ("models", name, "retraining", "target"), _mapping(_mapping(model).get("retraining")).get("target")


def _source_models(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    for name, source in _mapping(data.get("sources")).items():
        yield ("sources", name, "file", "model"), _mapping(_mapping(source).get("file")).get("model")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
