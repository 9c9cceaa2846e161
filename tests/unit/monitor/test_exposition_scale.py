"""How large a scrape gets: five hundred models of a hundred features, and names that somebody invents by the million."""

from __future__ import annotations

import time

from monitor import telemetry as t
from monitor.metrics import Metrics
from monitor.series import DETAIL_SERIES_A_MODEL, PROCESS_SERIES_MAX
from tests.parts import crowd
from tests.parts.exposition import FakeStore, facts, finding, scrape, window

MODELS, FEATURES = 500, 100
OVERVIEW_SERIES_A_MODEL = 40
BYTES_MAX = 5_000_000
CPU_SECONDS_MAX = 2.0  # four times the 0.5 s that are wanted: machines that run tests are slow and shared


def test_five_hundred_models_of_a_hundred_features_are_a_small_and_quick_scrape():
    metrics = crowd.metrics(MODELS, FEATURES)
    metrics.render()  # the first one decodes everything there is
    seconds, body = [], b""
    for _ in range(3):
        begun = time.process_time()
        body, _ = metrics.render()
        seconds.append(time.process_time() - begun)
    series = sum(not line.startswith(b"#") for line in body.splitlines())
    print(
        f"{series} series, {len(body) / 1e6:.2f} MB, {min(seconds):.2f} s of processor time, made-up results included"
    )
    assert len(body) < BYTES_MAX
    assert series <= MODELS * (DETAIL_SERIES_A_MODEL + OVERVIEW_SERIES_A_MODEL)
    assert min(seconds) < CPU_SECONDS_MAX


def test_what_is_suppressed_is_told_by_model_and_nothing_is_lost_from_the_overview():
    got = scrape(crowd.metrics(MODELS, FEATURES))
    suppressed = [value for key, value in got.items() if key[0] == "exported_series_suppressed"]
    assert len(suppressed) == MODELS
    assert sum(suppressed) > 100_000
    states = [value for key, value in got.items() if key[0] == "drift_features"]
    assert sum(states) == MODELS * FEATURES
    assert got["exported_series",] == len(got)


def test_a_million_names_stay_within_the_budget_and_the_memory_and_are_told_of():
    """Topics, operations and reasons are names from outside; models that nobody configured never reach a counter by model."""
    telemetry = t.Telemetry()
    metrics = Metrics(FakeStore([window(finding("c", "unseen", value=0.9), monitor="quality")]), telemetry, facts())
    before = len(metrics.render()[0])
    for number in range(1_000_000):
        telemetry.add(t.GAPS, f"topic-{number}")
    assert len(telemetry.values(t.GAPS)) == t.LABEL_SETS_MAX + 1  # and so its memory
    got = scrape(metrics)
    assert got["exported_series",] <= PROCESS_SERIES_MAX
    assert got["offset_gap_records_total", t.OTHER] == 1_000_000 - t.LABEL_SETS_MAX
    assert len(metrics.render()[0]) - before < 200_000


def test_a_million_models_and_categories_in_the_traffic_are_two_numbers():
    """What the intake counts of them is bounded before it gets here: a hundred names, and the rest under one."""
    from monitor.intake import Harvest

    telemetry = t.Telemetry()
    names = {f"model-{number}": 1 for number in range(1_000_000)}
    telemetry.checkpointed(0, Harvest(deltas={}, clocks={}, outcome_partitions=set(), unconfigured=names), {})
    found = [
        finding("c", "unseen", value=0.999, detail={"categories": 1_000_000}),
        finding("c", "distribution", value=2.0),
    ]
    got = scrape(Metrics(FakeStore([window(*found)]), telemetry, facts()))
    assert got["unconfigured_events_total",] == 1_000_000
    assert got["exported_series",] < 100
    assert got["feature_unseen_category_ratio", "c", "churn", "7"] == 0.999
