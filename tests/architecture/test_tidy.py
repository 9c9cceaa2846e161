"""Taste that a formatter cannot hold: headers, sizes, names, and where the clock may be read."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("monitor", "detectors", "alerts")
CODE = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
ALL = CODE + sorted(path for folder in ("tests", "benchmarks") for path in (ROOT / folder).rglob("*.py"))

FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 450
TEST_FILE_LINES_MAX = 600  # a contract suite is one long list
# One loop over the bytes of a batch: a call a record would cost more than all the rest of reading it.
LONG_FUNCTIONS = {"monitor/sources/kafka_batches.py": {"unpack"}}
BANNED_NAMES = {"base", "common", "helper", "helpers", "manager", "misc", "tools", "util", "utils"}
PRINTING = ("monitor/cli", "monitor/commands.py", "monitor/show.py", "monitor/demo", "monitor/__main__.py")
# The edges that hand the time to everything else: the command line (which composes the service) and the demo.
WALL_CLOCK = ("monitor/cli", "monitor/demo")
WALL_CLOCK_CALLS = {
    ("time", "time"),
    ("time", "time_ns"),
    ("datetime", "now"),
    ("datetime", "utcnow"),
    ("datetime", "today"),
    ("date", "today"),
}
GLOBAL_RANDOM = {"random", "randint", "choice", "shuffle", "sample", "uniform", "normal", "seed"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str, str]]:
    """(call, the last word of what it is called on, the function's name)"""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                yield node, "", node.func.id
            elif isinstance(node.func, ast.Attribute):
                owner = node.func.value
                yield node, getattr(owner, "attr", getattr(owner, "id", "")), node.func.attr


def faults(path: Path, source: str) -> Iterator[str]:
    """Everything about one module that is not tidy, one line each."""
    tree, here = ast.parse(source), name(path)
    if not ast.get_docstring(tree) and not path.name.startswith("test_"):  # a test file's name says what it tests
        yield f"{here}: no module docstring"
    if tree.body[1:] and "from __future__ import annotations" not in source:
        yield f"{here}: no `from __future__ import annotations`"
    limit = TEST_FILE_LINES_MAX if here.startswith("tests/") else FILE_LINES_MAX
    if (lines := source.count("\n")) > limit:
        yield f"{here}: {lines} lines, at most {limit}"
    if (bad := path.stem) in BANNED_NAMES or (bad := path.parent.name) in BANNED_NAMES:
        yield f"{here}: `{bad}` says nothing about what is inside"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX and node.name not in LONG_FUNCTIONS.get(here, ()):
                yield f"{here}:{node.lineno}: {node.name} has {length} lines, at most {FUNCTION_LINES_MAX}"
    for number, line in enumerate(source.splitlines(), 1):
        if re.search(r"#.*\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b", line):
            yield f"{here}:{number}: an unfinished thing is an issue, not a comment"
    if path.is_relative_to(ROOT / "tests") or path.is_relative_to(ROOT / "benchmarks"):
        return
    yield from impurities(here, tree)


def impurities(here: str, tree: ast.Module) -> Iterator[str]:
    for node, owner, called in calls(tree):
        if (owner, called) == ("", "print") and not here.startswith(PRINTING):
            yield f"{here}:{node.lineno}: print"
        if (owner, called) in WALL_CLOCK_CALLS and not here.startswith(WALL_CLOCK):
            yield f"{here}:{node.lineno}: reads the wall clock; take the time as an argument"
        if owner == "random" and called in GLOBAL_RANDOM and not here.startswith("monitor/demo"):
            yield f"{here}:{node.lineno}: uses global random state"


@pytest.mark.parametrize("path", ALL, ids=name)
def test_a_module_is_tidy(path: Path):
    assert list(faults(path, path.read_text())) == []


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("x = 1\n", "docstring"),
        ('"""D."""\nimport os\n', "annotations"),
        ('"""D."""\n' + "\n" * 450, "at most 450"),
        ('"""D."""\ndef f():\n' + "    x = 1\n" * 60, "at most 60"),
        ('"""D."""\nx = 1  # TO' + "DO later\n", "unfinished"),
        ('"""D."""\nprint(1)\n', "print"),
        ('"""D."""\nimport time\ntime.time()\n', "wall clock"),
        ('"""D."""\nimport datetime as dt\ndt.datetime.now(dt.UTC)\n', "wall clock"),
        ('"""D."""\nimport numpy as np\nnp.random.normal()\n', "random"),
    ],
)
def test_the_rules_bite(source: str, fault: str):
    assert any(fault in line for line in faults(ROOT / "monitor/x.py", source))
    assert any("says nothing" in line for line in faults(ROOT / "monitor/utils.py", source))


def test_every_package_is_typed():
    assert [package for package in PACKAGES if not (ROOT / package / "py.typed").exists()] == []
