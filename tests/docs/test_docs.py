"""Documents cannot lie: their links lead somewhere, the commands they name exist, their configuration loads."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
NAMED_FILE = re.compile(r"`((?:monitor|detectors|alerts|tests|docs|scripts|benchmarks|grafana)/[\w./-]+)`")
MAKE = re.compile(r"`?\bmake ([a-z]+)`")
DRIFTLINE = re.compile(r"(?:^|`)driftline ((?:[a-z][a-z-]*)(?: [a-z][a-z-]*)?)", re.MULTILINE)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, as forges make them."""
    headings = re.findall(r"^#+ +(.+)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path):
    broken = []
    for link in LINK.findall(FENCE.sub("", document.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (document.parent / place) if place else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_named_files_exist(document: Path):
    named = NAMED_FILE.findall(document.read_text())
    assert [place for place in named if "NAME" not in place and not (ROOT / place).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_named_make_targets_exist(document: Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"demo", "test", "check", "bench"} <= targets
    assert set(MAKE.findall(document.read_text())) <= targets


def commands() -> set[str]:
    """Every command of the program, those of a group as `group command`."""
    from monitor.cli import app

    found = set()
    for first, command in get_command(app).commands.items():
        found.add(first)
        found |= {f"{first} {second}" for second in getattr(command, "commands", {})}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_named_commands_exist(document: Path):
    known = commands()
    groups = {command.split()[0] for command in known if " " in command}
    named = {
        words if words.split()[0] in groups else words.split()[0] for words in DRIFTLINE.findall(document.read_text())
    }
    assert named <= known


def examples() -> list[tuple[str, str]]:
    """The YAML blocks that are configurations of their own."""
    return [
        (name(document), body)
        for document in DOCUMENTS
        for language, body in FENCE.findall(document.read_text())
        if language == "yaml" and re.search(r"^models:", body, re.MULTILINE)
    ]


def test_there_are_configuration_examples():
    assert any(document == "README.md" for document, _ in examples())


@pytest.mark.parametrize(("document", "body"), examples(), ids=lambda value: value if value.endswith(".md") else "")
def test_configuration_examples_load(document: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from monitor.config import load_config

    for secret in re.findall(r"env: (\w+)", body):
        monkeypatch.setenv(secret, "d2hhdCBhIHNlY3JldCBtYXkgYmU=")
    (tmp_path / "driftline.yaml").write_text(body)
    config = load_config(tmp_path / "driftline.yaml")
    assert set(config.models) == set(yaml.safe_load(body)["models"])
