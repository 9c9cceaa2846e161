"""What pydantic finds, in our words: the place, what is wrong, and the fix."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from functools import cache
from typing import Any

from pydantic_core import ErrorDetails

from monitor.config.types import ConfigFile
from monitor.config.yaml import Document, Problem
from monitor.config.yaml import Path as KeyPath


def translate(document: Document, error: ErrorDetails) -> Problem:
    path: KeyPath = tuple(part for part in error["loc"] if part != "[key]")
    about_key = error["type"] in ("extra_forbidden", "missing") or "[key]" in error["loc"]
    mark = document.mark(path, key=about_key)
    message, fix = _words(error, path)
    if error["type"] != "missing":
        path = written_at(document, path, key=about_key)
    return Problem(mark, path, message, fix)


def written_at(document: Document, path: KeyPath, *, key: bool = False) -> KeyPath:
    """The path, or that in `defaults` where it came from there: one mistake is one line, not one a model."""
    origin = ("defaults", *path[2:])
    from_defaults = path[:1] == ("models",) and len(path) > 2
    return origin if from_defaults and document.mark(path, key=key) == document.mark(origin, key=key) else path


def _words(error: ErrorDetails, path: KeyPath) -> tuple[str, str]:
    kind, context = error["type"], error.get("ctx", {})
    match kind:
        case "extra_forbidden":
            known = known_keys(path[:-1])
            close = difflib.get_close_matches(str(path[-1]), known, n=1, cutoff=0.6)
            return "unknown key", f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
        case "missing":
            return "is missing", "name at least one model" if path == ("models",) else ""
        case "too_short" | "string_too_short":
            return "should not be empty", "name at least one model" if path == ("models",) else ""
        case "string_type":
            return "should be text", "write it in quotes"
        case "literal_error":
            return f"should be {context.get('expected', '')}".replace("'", ""), ""
        case "tuple_type":
            return "should be a list", "write [a, b]"
        case "dict_type" | "model_type" | "model_attributes_type":
            return "should be a mapping", "write key: value"
        case "string_pattern_mismatch":
            return _SHAPES.get(path[-1], "has characters that are not allowed here"), ""
        case "value_error":
            message, opening, fix = str(context.get("error", error["msg"])).partition(" (")
            return message, fix.removesuffix(")") if opening else ""
    return error["msg"].replace("Input should", "should").replace("Dictionary", "").strip(), ""


_SHAPES: Mapping[str | int, str] = {
    "store": "should be sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE",
    "listen": "should be HOST:PORT, such as 127.0.0.1:8080",
}


def known_keys(path: KeyPath) -> list[str]:
    """The keys that the mapping at `path` may hold, from the JSON schema."""
    schema = _schema()
    node: object = schema
    for part in path:
        node = _child(_followed(node, schema), part)
    return sorted(_followed(node, schema).get("properties", ()))


def _child(node: dict[str, Any], part: str | int) -> object:
    if isinstance(part, int):
        return node.get("items", {})
    others = next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties") or {})
    return node.get("properties", {}).get(part, others)


def _followed(node: object, schema: dict[str, Any]) -> dict[str, Any]:
    """Through references and choices to the mapping or list itself."""
    while isinstance(node, dict):
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rpartition("/")[2]]
        elif "anyOf" in node:
            node = next((n for n in node["anyOf"] if "$ref" in n or n.get("type") in ("object", "array")), {})
        else:
            return node
    return {}


@cache
def _schema() -> dict[str, Any]:
    return ConfigFile.model_json_schema(by_alias=True)
