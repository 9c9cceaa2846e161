"""Boards against Grafana's own types, of its newest release: a key or a value that it does not know is an error of the compiler."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.parts.broker import REPOSITORY
from tests.parts.observability import GRAFANA

PACKAGES = ("@grafana/schema@13.2.3", "typescript@5.9.3")
# Enumerations are plain words in JSON. What a query of an annotation may hold is the data source's business, and not in the type.
HEAD = """import type { Dashboard } from '@grafana/schema';
type Loose<T> = T extends string ? T | `${T}` : T extends number ? T | number : T extends (infer U)[] ? Loose<U>[]
  : T extends object ? { [K in keyof T]: Loose<T[K]> } : T;
"""
OF_THE_SOURCE = {"expr", "step", "titleFormat", "textFormat", "useValueForTime"}
FLAGS = [
    "--noEmit",
    "--strict",
    "--skipLibCheck",
    "--moduleResolution",
    "bundler",
    "--module",
    "esnext",
    "--target",
    "es2022",
]
Json = Any


@pytest.fixture(scope="module")
def compiler() -> Path:
    """A folder with TypeScript and the types, fetched once into `.cache`."""
    npm = shutil.which("npm")
    if npm is None:
        reason = "no npm on the PATH (Debian: nodejs, npm)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    home = Path(os.environ.get("DRIFTLINE_CACHE") or REPOSITORY / ".cache") / "grafana-schema"
    home.mkdir(parents=True, exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = " ".join(PACKAGES)
        complete = home / ".complete"
        if not complete.exists() or complete.read_text() != wanted:
            (home / "package.json").write_text('{"private": true}')
            words = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
            subprocess.run(words, cwd=home, check=True, capture_output=True, timeout=240)
            complete.write_text(wanted)
    return home


def compiled(home: Path, name: str, boards: list[Json]) -> str:
    """What the compiler says of them."""
    source = home / f"{name}.ts"
    lines = [
        f"export const board{i}: Loose<Dashboard> = {json.dumps(board, indent=1)};" for i, board in enumerate(boards)
    ]
    source.write_text(HEAD + "\n".join(lines))
    command = ["node", "node_modules/typescript/bin/tsc", *FLAGS, source.name]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=240)
    return done.stdout + done.stderr


def typed(board: Json) -> Json:
    for annotation in board.get("annotations", {}).get("list", []):
        for key in OF_THE_SOURCE:
            annotation.pop(key, None)
    return board


def test_every_board_is_what_grafana_says_a_board_is(compiler: Path):
    boards = [typed(json.loads(path.read_text())) for path in sorted((GRAFANA / "dashboards").glob("*.json"))]
    assert compiled(compiler, "boards", boards) == ""


def test_the_compiler_bites(compiler: Path):
    board = typed(json.loads((GRAFANA / "dashboards/feature.json").read_text()))
    board["graphTooltip"] = "crosshair"
    said = compiled(compiler, "wrong", [board, {**board, "graphTooltip": 1, "refreshing": True}])
    assert "graphTooltip" in said or "TS2322" in said
    assert "refreshing" in said
