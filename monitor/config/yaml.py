"""YAML with the place of every key and value, read by the rules of YAML 1.2 (so `off` is a word and `1e7` a number)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

MAX_NODES = 1_000_000  # anchors repeated in anchors grow without end: no configuration needs more

Path = tuple[str | int, ...]

_PAIR = re.compile(r"(?<!\\)\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


class Mark(NamedTuple):
    """A place in a file, counted from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to mend. `path` is where in the configuration, `fix` may be empty."""

    mark: Mark
    path: Path
    message: str
    fix: str = ""

    def __str__(self) -> str:
        where = f" {'.'.join(map(str, self.path))}:" if self.path else ""
        fix = f" ({self.fix})" if self.fix else ""
        return f"{self.mark}:{where} {self.message}{fix}"


@dataclass(slots=True)
class Document:
    """`data` is made of dicts with text keys, tuples and scalars; `keys` and `values` say where each path is written."""

    data: Any
    file: str
    keys: dict[Path, Mark] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where `path` is written, or else the nearest thing around it that is."""
        wanted = (self.keys, self.values) if key else (self.values, self.keys)
        if found := wanted[0].get(path) or wanted[1].get(path):
            return found
        return self.mark(path[:-1], key=True) if path else Mark(self.file, 1, 1)


def read_document(text: str, file: str) -> Document:
    """Never raises for what the text holds: `problems` says it, and `data` is None where nothing could be read.

    `x-*` keys are left out, but not of headers and bodies that are meant for others. Duplicate keys, foreign tags and further documents are problems.
    """
    document = Document(None, file)
    if text.lstrip().startswith("{"):  # JSON writes characters beyond 16 bits as two escapes, YAML as one
        text = _PAIR.sub(lambda pair: json.loads(f'"{pair[0]}"'), text)
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        document.data = None if node is None else _Builder(document).build(node, (), ())
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        mark = Mark(file, place.line + 1, place.column + 1) if place else Mark(file, 1, 1)
        document.problems.append(
            Problem(mark, (), f"is not YAML: {' '.join(filter(None, (error.context, error.problem)))}")
        )
    except yaml.YAMLError as error:
        document.problems.append(
            Problem(Mark(file, 1, 1), (), f"is not YAML: {getattr(error, 'reason', 'unreadable')}")
        )
    except RecursionError:
        document.problems.append(Problem(Mark(file, 1, 1), (), "is nested too deeply"))
    finally:
        if loader is not None:
            loader.dispose()
    return document


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C parser where PyYAML has it
    """Resolves plain scalars by YAML 1.2's core schema instead of 1.1's."""

    yaml_implicit_resolvers: Mapping[str, Any] = {}


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)\.?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))


_CONTAINERS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


def _is_foreign(path: Path) -> bool:
    return path[:1] == ("retraining_targets",) and path[2:3] == ("http",) and path[3:4] in (("headers",), ("body",))


class _Builder:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def build(self, node: yaml.Node, path: Path, around: tuple[int, ...]) -> object:
        """The value of a node. `around` holds the nodes it lies in, so that an anchor inside itself ends."""
        self._nodes += 1
        if id(node) in around or self._nodes > MAX_NODES:
            what = "contains itself" if id(node) in around else "repeats anchors without end"
            raise yaml.MarkedYAMLError(problem=f"an anchor {what}", problem_mark=node.start_mark)
        self._document.values[path] = self._mark(node)
        if not isinstance(node, yaml.ScalarNode) and node.tag not in _CONTAINERS:
            self._problem(node, path, f"unknown YAML tag {node.tag}", "remove it")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path, (*around, id(node)))
        if isinstance(node, yaml.SequenceNode):
            return tuple(self.build(child, (*path, i), (*around, id(node))) for i, child in enumerate(node.value))
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path, around: tuple[int, ...]) -> dict[str, Any]:
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        merged: list[yaml.Node] = []
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                merged.extend(value.value if isinstance(value, yaml.SequenceNode) else [value])
            elif not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "a key has to be text")
            elif key.value in pairs:
                first = pairs[key.value][0].start_mark.line + 1
                self._problem(key, (*path, key.value), "is given twice", f"the first is in line {first}; remove one")
            else:
                pairs[key.value] = (key, value)
        out: dict[str, Any] = {}
        for source in reversed(merged):  # the first of several merged mappings wins, so it is written last
            if isinstance(source, yaml.MappingNode):
                out |= self._mapping(source, path, around)
            else:
                self._problem(source, path, "<< takes a mapping or a list of mappings")
        self._document.values[path] = self._mark(node)
        for name, (key, value) in pairs.items():
            if not name.startswith("x-") or _is_foreign(path):
                self._document.keys[(*path, name)] = self._mark(key)
                out[name] = self.build(value, (*path, name), around)
        return out

    def _scalar(self, node: yaml.Node, path: Path) -> object:
        text = str(node.value)
        match node.tag.removeprefix("tag:yaml.org,2002:"):
            case "str":
                return text
            case "bool":
                return text.lower() == "true"
            case "null":
                return None
            case "int" if len(text) <= 300:  # longer ones are no setting of ours, and int() is slow on them
                return int(text)
            case "int" | "float":
                return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
        self._problem(node, path, f"unknown YAML tag {node.tag}", "remove it")
        return None

    def _mark(self, node: yaml.Node) -> Mark:
        return Mark(self._document.file, node.start_mark.line + 1, node.start_mark.column + 1)

    def _problem(self, node: yaml.Node, path: Path, message: str, fix: str = "") -> None:
        self._document.problems.append(Problem(self._mark(node), path, message, fix))
