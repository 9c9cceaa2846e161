from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import detectors
from detectors.metrics.custom import CustomMetric
from detectors.metrics.measured import unknown

COST = '''
"""What decisions cost a row: a missed positive 10, a false alarm 1."""

import math

from detectors.metrics.custom import CustomMetric
from detectors.metrics.intervals import positive
from detectors.metrics.measured import ClassCounts, Measured, effective, measured, unknown


def cost(counts: ClassCounts) -> Measured:
    whole, (_, fp), (fn, _) = counts.weights.sum(), *counts.weights
    rows = int(counts.row_counts.sum())
    if not whole > 0:
        return unknown(rows)
    value, count = (10 * fn + fp) / whole, effective(whole, counts.squares.sum())
    return measured(value, positive(value, math.sqrt(((100 * fn + fp) / whole - value**2) / count)), rows, count)


METRIC = CustomMetric(name="cost", task="binary", better="low", unit="units", measure=cost, tolerance=0.1)
'''
JUDGE = """
import json
import numpy as np
from detectors.metrics.registry import METRICS
from detectors.performance.judge import PerformancePolicy, judge_performance
from parts.scored_rows import BinaryCells

cells = BinaryCells(mean=-2.0, sd=3.0)
known = cells.profile(cells.expected(15_000))
found = []
for chance in (None, cells.with_error(0.2)):
    counts = cells.draw(np.random.default_rng(1), 3000, 1, chance)[0]
    (one,) = (f for f in judge_performance(cells.layout, known, cells.profile(counts), PerformancePolicy()) if f.subject == "cost")
    found.append([one.state, one.unit, one.value, one.threshold - one.baseline])
print(json.dumps({"metrics": METRICS, "found": found}))
"""


def program(folder: Path, files: dict[str, str], code: str) -> subprocess.CompletedProcess[str]:
    """The package as it is, with these files dropped in."""
    package = Path(detectors.__file__).parent
    shutil.copytree(package, folder / "detectors", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        (folder / "detectors" / "metrics" / name).write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(folder), str(Path(__file__).resolve().parents[2])])
    env = {**os.environ, "PYTHONPATH": path}
    return subprocess.run([sys.executable, "-c", code], env=env, cwd=folder, capture_output=True, text=True, timeout=60)


def test_one_file_in_the_folder_is_a_metric_that_is_judged(tmp_path):
    done = program(tmp_path, {"custom_cost.py": COST}, JUDGE)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["metrics"]["binary"][-1] == "cost"
    assert "cost" not in told["metrics"]["regression"]
    healthy, worse = told["found"]
    assert healthy[:2] == ["ok", "units"]
    assert worse[0] == "drift"
    assert worse[2] > 1.5 * healthy[2]
    assert worse[3] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"custom_cost.py": COST.replace('name="cost"', 'name="f1"')}, "there is a metric f1 already"),
        ({"custom_cost.py": COST, "custom_price.py": COST}, "there is a metric cost already"),
        ({"custom_cost.py": "COST = 1"}, "custom_cost.py has no METRIC"),
    ],
)
def test_a_file_that_cannot_be_a_metric_is_told(tmp_path, files, words):
    done = program(tmp_path, files, "import detectors.metrics.registry")
    assert done.returncode == 1
    assert words in done.stderr


@pytest.mark.parametrize(
    "change", [{"name": "Cost $"}, {"task": "ranking"}, {"better": "up"}, {"unit": "dollars"}, {"tolerance": -1.0}]
)
def test_what_a_metric_declares_is_checked(change):
    declared = {"name": "cost", "task": "binary", "better": "low", "unit": "loss", "measure": lambda _: unknown(0)}
    CustomMetric(**declared)
    with pytest.raises(ValueError):
        CustomMetric(**{**declared, **change})
