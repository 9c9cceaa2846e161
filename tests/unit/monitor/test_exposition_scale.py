"""How large a scrape gets: five hundred models of a hundred features, and names that somebody invents by the million."""

from __future__ import annotations

import time

from monitor import telemetry as t
from monitor.budget import OTHERS, PROCESS_SERIES_MAX
from monitor.metrics import Metrics
from tests.parts import crowd
from tests.parts.exposition import FakeStore, facts, finding, scrape, window

MODELS, FEATURES = 500, 100
BYTES_MAX = 5_000_000
CPU_SECONDS_MAX = 1.0  # twice the 0.5 s that are wanted: machines that run tests are slow and shared


def test_five_hundred_models_of_a_hundred_features_are_a_small_and_quick_scrape():
    """The first one too, which decodes everything there is; what is served has been read ahead besides."""
    metrics = crowd.metrics(MODELS, FEATURES)
    seconds, body = [], b""
    for _ in range(4):
        begun = time.process_time()
        body, _ = metrics.render()
        seconds.append(time.process_time() - begun)
    series = sum(not line.startswith((b"#", b"process_")) for line in body.splitlines())
    print(
        f"{series} series, {len(body) / 1e6:.2f} MB, first {seconds[0]:.2f} s, then {min(seconds):.2f} s of processor time, "
        "made-up results included"
    )
    assert len(body) < BYTES_MAX
    assert series <= PROCESS_SERIES_MAX
    assert seconds[0] < CPU_SECONDS_MAX
    assert min(seconds) < CPU_SECONDS_MAX / 2


def test_every_model_keeps_what_boards_start_from_and_what_is_left_out_is_told():
    got = scrape(crowd.metrics(MODELS, FEATURES))
    for family, series in (("model_info", 1), ("drift_features", 4), ("events_total", 4), ("alerts_active", 2)):
        assert sum(key[0] == family for key in got) == MODELS * series, family
    assert sum(value for key, value in got.items() if key[0] == "drift_features") == MODELS * FEATURES
    suppressed = {key[1]: value for key, value in got.items() if key[0] == "exported_series_suppressed"}
    assert sum(suppressed.values()) > 100_000
    assert suppressed[OTHERS] < sum(suppressed.values())
    assert got["exported_series",] == len(got)


def test_a_larger_budget_shows_more_of_the_same():
    default, large = (scrape(crowd.metrics(50, FEATURES, series)) for series in (PROCESS_SERIES_MAX, 30_000))
    assert default.keys() - large.keys() <= {key for key in default if key[0] == "exported_series_suppressed"}
    assert len(default) < len(large) == large["exported_series",]
    assert large["exported_series_suppressed", OTHERS] == 0


def test_a_million_names_of_topics_stay_within_the_budget_and_the_memory_and_are_told_of():
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
