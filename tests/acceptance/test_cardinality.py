"""Names without end through the real intake: memory, store and series stay within their limits, and that is said.

A million of each takes the same way: `python -m tests.parts.bomb`.
"""

from __future__ import annotations

from pathlib import Path

from monitor.budget import PROCESS_SERIES_MAX
from monitor.store.checkpoint import UNCONFIGURED_NAMES_MAX
from monitor.versions import OTHER_VERSIONS, VERSIONS_MAX
from tests.parts import bomb

NAMES = 20_000
GROWN_BYTES_MAX = 40_000_000  # from the first tenth of the names to the last: a name that is kept costs more than 2 kB
DATABASE_BYTES_MAX = 20_000_000


def within_limits(cost: bomb.Cost) -> None:
    assert cost.grown_bytes < GROWN_BYTES_MAX
    assert cost.database_bytes < DATABASE_BYTES_MAX
    assert cost.metrics["exported_series",] <= PROCESS_SERIES_MAX


def test_models_that_nobody_configured_are_a_few_rows_and_a_counter(tmp_path: Path):
    cost = bomb.send(tmp_path, NAMES, bomb.models)
    within_limits(cost)
    assert cost.metrics["unconfigured_events_total",] == NAMES
    kept = cost.world.store.unconfigured()
    assert len(kept) == UNCONFIGURED_NAMES_MAX + 1
    assert sum(row.records for row in kept) == NAMES
    assert not [key for key in cost.metrics if any(label.startswith("model-") for label in key)]
    cost.world.store.close()


def test_versions_of_a_model_beyond_the_limit_are_judged_together_and_counted(tmp_path: Path):
    cost = bomb.send(tmp_path, NAMES, bomb.versions)
    within_limits(cost)
    assert (
        cost.metrics["other_version_events_total", "churn"] == NAMES - VERSIONS_MAX + 1
    )  # the event at the end is of another
    windows = cost.world.windows("data")
    assert len({row.version for row in windows}) == VERSIONS_MAX + 1  # the others as one
    together = [row for row in windows if row.version == OTHER_VERSIONS]
    assert sum(row.rows for row in together) == NAMES - VERSIONS_MAX  # nothing of them is lost
    assert {row.state for row in together} == {"drift"}  # all have the same `x`, and that is seen
    assert sum(row.rows for row in cost.world.windows("volume")) == NAMES
    cost.world.store.close()


def test_categories_of_a_feature_are_a_share_that_the_reference_does_not_know(tmp_path: Path):
    cost = bomb.send(tmp_path, NAMES, bomb.categories)
    within_limits(cost)
    last = cost.world.window("quality", 5)
    assert b"category-" not in last.findings
    unseen = [value for key, value in cost.metrics.items() if key[:2] == ("feature_unseen_category_ratio", "c")]
    assert unseen  # of the newest window, which is the single event at the end
    assert cost.metrics["exported_series",] < 200
    cost.world.store.close()


def test_a_restart_tells_the_same_versions_apart(tmp_path: Path):
    cost = bomb.send(tmp_path, 2_000, bomb.versions)
    world = cost.world
    before = {row.version for row in world.windows("data")}
    world.ingest.close()
    world.ingest = world.worker("two")
    world.send(
        [bomb.event(bomb.T0 + 9 * bomb.HOUR + n, 0.5, "a", version=f"later-{n}", name=f"l{n}") for n in range(50)]
    )
    world.turn(12)
    added = {row.version for row in world.windows("data")} - before
    assert added <= {OTHER_VERSIONS}
    world.store.close()
