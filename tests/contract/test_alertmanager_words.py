"""Our matchers and routes against the real thing: `amtool config routes test` decides where an alert goes."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from alerts.matching import Matcher, Op, parse_matchers
from alerts.routing import Route, matching

pytestmark = pytest.mark.integration
LABELS = ("model", "severity", "team")
VALUES = ("churn", "fraud", "warning", "critical", "")
PATTERNS = ("warn.*", "churn|fraud", "c.+", ".*", "arning", "[cf].*", "", "chur")


def amtool(*words: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("amtool")
    if program is None:
        (pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip)("amtool is not installed")
    return subprocess.run([program, *words], capture_output=True, text=True, timeout=60)


def drawn(rng: random.Random) -> Route:
    matchers = []
    for _ in range(rng.randrange(3)):
        op = rng.choice(list(Op))
        value = rng.choice(PATTERNS if op in (Op.MATCHES, Op.NOT_MATCHES) else VALUES)
        matchers.append(Matcher(rng.choice(LABELS), op, value))
    return Route(receiver="", matchers=tuple(matchers), goes_on=rng.random() < 0.5)


def test_alerts_go_where_alertmanager_would_send_them(tmp_path: Path) -> None:
    rng = random.Random(5)
    for case in range(25):
        routes = [drawn(rng) for _ in range(4)]
        named = [Route(receiver=f"r{i}", matchers=r.matchers, goes_on=r.goes_on) for i, r in enumerate(routes)]
        lines = ["route:", "  receiver: none", "  routes:"]
        for route in named:
            lines += [f"  - receiver: {route.receiver}", f"    continue: {str(route.goes_on).lower()}"]
            if route.matchers:
                lines += ["    matchers:", *(f"    - '{matcher}'" for matcher in route.matchers)]
        lines += ["receivers:", "- name: none", *(f"- name: r{i}" for i in range(4))]
        path = tmp_path / f"{case}.yml"
        path.write_text("\n".join(lines))
        labels = {name: rng.choice(VALUES) for name in LABELS}
        words = [f"{name}={value}" for name, value in labels.items() if value]
        answer = amtool("config", "routes", "test", f"--config.file={path}", *(words or ["x=y"]))
        assert answer.returncode == 0, answer.stderr
        ours = ",".join(named[place].receiver for place in matching(labels, named)) or "none"
        assert answer.stdout.strip() == ours, (path.read_text(), labels)


@pytest.mark.parametrize("text", ['severity=~"warn.*"', "a=b", 'a!="b c"', "a!~x|y", r'a="\"q\""'])
def test_what_we_read_alertmanager_reads(text: str, tmp_path: Path) -> None:
    (matcher,) = parse_matchers(text)
    path = tmp_path / "one.yml"
    path.write_text(
        f"route:\n  receiver: none\n  routes:\n  - receiver: none\n    matchers:\n    - '{matcher}'\nreceivers:\n- name: none\n"
    )
    answer = amtool("check-config", str(path))
    assert answer.returncode == 0, answer.stderr
