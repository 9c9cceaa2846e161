"""The promise in the configuration reaches every judge of the model: what each could have seen is further away."""

from __future__ import annotations

from statistics import median

import pytest

from detectors.finding import Finding
from monitor.config import load_config
from monitor.results import decode_findings
from monitor.store import Store
from parts.healthy import Fleet, play


def judged(folder, pages: float) -> dict[tuple[str, str], list[Finding]]:
    """Findings of all windows of a healthy model by monitor and check."""
    folder.mkdir()
    play(folder, Fleet(hours=12, rows=300, pages=pages, close_hours=6, seed=6))
    store = Store.open(load_config(folder / "driftline.yaml").store, create=False)
    found: dict[tuple[str, str], list[Finding]] = {}
    for row in store.windows():
        for finding in decode_findings(row.findings):
            found.setdefault((row.monitor, finding.check), []).append(finding)
    store.close()
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    folder = tmp_path_factory.mktemp("budget")
    return judged(folder / "one", 1.0), judged(folder / "quarter", 0.25)


@pytest.mark.parametrize(
    "place", [("data", "distribution"), ("prediction", "distribution"), ("quality", "missing"), ("quality", "unseen")]
)
def test_a_smaller_promise_needs_a_larger_change(both, place):
    before, after = ([f.smallest_visible for f in found[place] if f.smallest_visible is not None] for found in both)
    assert len(before) == len(after) > 10
    assert all(one < other for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("check", ["realised", "estimated"])
def test_so_it_is_for_performance_by_labels_and_without(both, check):
    """The metrics of which less is worse: what would have been seen is further down."""
    before, after = (
        [f.smallest_visible for f in found["performance", check] if f.subject == "accuracy" and f.smallest_visible]
        for found in both
    )
    assert len(before) == len(after) > 5
    assert all(one > other for one, other in zip(before, after, strict=True))
    assert median(one - other for one, other in zip(before, after, strict=True)) < 0.05  # lowered, not muted


def test_concept_promises_a_longer_time(both):
    days = [
        {f.detail["guarantee_days"] for f in found["concept", "e_sr"] if "guarantee_days" in f.detail} for found in both
    ]
    assert days == [{90.0}, {360.0}]
