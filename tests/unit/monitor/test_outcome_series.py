"""Performance and concept drift in a scrape: which window speaks when labels are late, and what becomes of each figure."""

from __future__ import annotations

from dataclasses import replace

import pytest

from detectors.finding import Finding, Severity, State
from monitor import telemetry as t
from monitor.labelled import LOOKED_UP_A_SCRAPE
from monitor.metrics import Metrics
from monitor.store import Store
from tests.parts.exposition import DAY_MS, HOUR_MS, LABELS, FakeStore, facts, figures, finding, scrape, shown, window

NOTHING = figures("realised", State.INSUFFICIENT_DATA)
NO_LABELS = replace(LABELS, value=0.0, detail={**LABELS.detail, "labelled": 0})


def performance(*findings: Finding, **rest):
    return window(*findings, monitor="performance", **rest)


def test_a_metric_has_its_value_interval_baseline_limit_and_decision():
    got = shown(performance(*figures("realised", State.DRIFT, Severity.CRITICAL, value=0.7), LABELS))
    of = ("accuracy", "churn", "7")
    assert got["performance_value", "realised", *of] == 0.7
    assert got["performance_bound", "lower", "realised", *of] == pytest.approx(0.68)
    assert got["performance_bound", "upper", "realised", *of] == pytest.approx(0.72)
    assert got["performance_baseline_value", *of] == 0.85
    assert got["performance_threshold_value", *of] == 0.8
    assert got["performance_severity", *of] == 2
    assert got["performance_window_end_timestamp_seconds", "realised", "churn", "7"] == 10 * 86_400


def test_metrics_are_no_features():
    got = shown(performance(*figures(), LABELS), window(finding()))
    assert sum(value for key, value in got.items() if key[0] == "drift_features") == 1
    assert {key[1] for key in got if key[0] == "drift_severity"} == {"income"}


def test_realised_figures_come_from_the_newest_window_that_labels_judged_and_estimates_from_the_newest():
    newest = performance(*NOTHING, *figures("estimated", value=0.82), NO_LABELS, end_ms=20 * DAY_MS, decided=9)
    late = performance(*figures(value=0.7), LABELS, end_ms=6 * DAY_MS, revision=3, decided=8)
    older = performance(*figures(value=0.9), LABELS, end_ms=5 * DAY_MS, revision=4, decided=7)
    got = shown(newest, again=[older, late])
    assert got["performance_value", "realised", "accuracy", "churn", "7"] == 0.7
    assert got["performance_value", "estimated", "accuracy", "churn", "7"] == 0.82
    assert got["performance_window_end_timestamp_seconds", "realised", "churn", "7"] == 6 * 86_400
    assert got["performance_window_end_timestamp_seconds", "estimated", "churn", "7"] == 20 * 86_400
    assert got["window_end_timestamp_seconds", "performance", "churn", "7"] == 20 * 86_400
    assert got["performance_labelled_rows", "churn", "7"] == 400
    assert got["label_coverage_ratio", "churn", "7"] == 0.8


def test_no_figure_is_shown_before_there_are_labels():
    got = shown(performance(*NOTHING, replace(NO_LABELS, state=State.INSUFFICIENT_DATA)))
    assert not [key for key in got if key[0] in ("performance_value", "performance_severity", "label_coverage_ratio")]


def test_how_labels_come_is_told_and_judged():
    missing = replace(NO_LABELS, state=State.DRIFT, severity=Severity.WARNING)
    got = shown(performance(*NOTHING, missing))
    assert got["performance_severity", "__labels__", "churn", "7"] == 1
    assert got["label_final_coverage_ratio", "churn", "7"] == 0.95
    delays = [got["label_delay_seconds", "churn", "7", percentile] for percentile in ("50", "90", "99")]
    assert delays == [600, 3_600, 86_400]


def test_a_limit_a_user_set_is_the_one_in_force():
    limit = finding("accuracy", "limit", State.DRIFT, Severity.CRITICAL, value=0.81)
    got = shown(performance(*figures(value=0.81), limit, LABELS))
    assert got["performance_severity", "accuracy", "churn", "7"] == 2
    assert got["performance_threshold_value", "accuracy", "churn", "7"] == 0.14


def test_segments_never_become_series(tmp_path):
    """They would be the newest that labels have judged: the store's queries leave them out."""
    store = Store.open(f"sqlite:///{tmp_path}/driftline.db", durable=False)
    whole = performance(*figures(value=0.7), LABELS, end_ms=6 * DAY_MS)
    segment = replace(performance(*figures(value=0.1), LABELS, end_ms=7 * DAY_MS), id="s", segment='{"region":"EU"}')
    with store.closing("churn") as tx:
        tx.put_window(performance(*NOTHING, end_ms=20 * DAY_MS))
        for row in (whole, replace(whole, revision=2), segment, replace(segment, revision=2)):
            tx.put_window(row)
    metrics = Metrics(store, t.Telemetry(), facts())
    key = ("performance_value", "realised", "accuracy", "churn", "7")
    assert scrape(metrics)[key] == 0.7
    with store.closing("churn") as tx:
        tx.put_window(replace(segment, revision=3))
        tx.put_window(replace(performance(*figures(value=0.6), LABELS, end_ms=6 * DAY_MS), revision=3))
    assert scrape(metrics)[key] == 0.6
    assert "EU" not in metrics.render()[0].decode()
    store.close()


def test_detectors_of_concept_drift_and_the_loss_they_watch():
    alarm = Finding(
        subject="error", check="e_sr", state=State.DRIFT, severity=Severity.CRITICAL, value=0.3, baseline=0.1, threshold=0.15,
        unit="share", rows=500,
    )  # fmt: skip
    beside = replace(alarm, check="adwin", state=State.WARNING, severity=None)
    got = shown(window(alarm, beside, monitor="concept"))
    assert got["concept_drift_severity", "e_sr", "churn", "7"] == 2
    assert got["concept_drift_severity", "adwin", "churn", "7"] == 0
    assert got["concept_loss_ratio", "churn", "7"] == 0.3
    assert got["concept_baseline_loss_ratio", "churn", "7"] == 0.1
    assert got["concept_tolerated_loss_ratio", "churn", "7"] == 0.15
    assert got["window_rows", "concept", "churn", "7"] == 500
    quiet = shown(window(replace(alarm, state=State.INSUFFICIENT_DATA, severity=None), monitor="concept"))
    assert not [key for key in quiet if key[0].startswith("concept_drift_severity")]


def test_labels_that_come_between_scrapes_move_the_realised_figure_on():
    store = FakeStore([performance(*NOTHING, end_ms=20 * DAY_MS, decided=5)])
    metrics = Metrics(store, t.Telemetry(), facts())
    key = ("performance_value", "realised", "accuracy", "churn", "7")
    assert key not in scrape(metrics)
    store.again = [performance(*figures(value=0.8), end_ms=6 * DAY_MS, revision=2, decided=6)]
    assert scrape(metrics)[key] == 0.8
    store.again.append(performance(*figures(value=0.7), end_ms=7 * DAY_MS, revision=2, decided=7))
    assert scrape(metrics)[key] == 0.7
    store.again[0] = performance(*figures(value=0.1), end_ms=6 * DAY_MS, revision=3, decided=8)  # an older window again
    assert scrape(metrics)[key] == 0.7
    store.again[1] = performance(*figures(value=0.6), end_ms=7 * DAY_MS, revision=3, decided=9)
    assert scrape(metrics)[key] == 0.6
    assert store.looked_up == 1
    store.again[1] = replace(store.again[1], withdrawn=True, revision=4, decided=10)
    assert scrape(metrics)[key] == 0.1
    store.windows = []
    assert key not in scrape(metrics)


def test_the_first_scrapes_of_very_many_models_look_up_some_at_a_time():
    models = [f"m{i}" for i in range(LOOKED_UP_A_SCRAPE + 10)]
    store = FakeStore([performance(*NOTHING, model=model, decided=1) for model in models])
    metrics = Metrics(store, t.Telemetry(), facts(*models))
    scrape(metrics)
    assert store.looked_up == LOOKED_UP_A_SCRAPE
    scrape(metrics)
    scrape(metrics)
    assert store.looked_up == len(models)


def test_the_headline_of_a_quiet_model_is_shown_before_its_features():
    features = window(*[finding(f"f{i}", value=0.13) for i in range(1_000)])
    got = shown(features, performance(*figures(), LABELS))
    assert got["exported_series_suppressed", "churn"] > 0
    assert ("performance_value", "realised", "accuracy", "churn", "7") in got


def test_what_the_join_did_is_counted():
    from monitor.joining.outcomes import JoinCounts
    from monitor.store import ExpiredRows, JoinSize

    telemetry = t.Telemetry()
    telemetry.joined(JoinCounts(pairs=3, orphans=1))
    telemetry.joined(JoinCounts(pairs=2))
    telemetry.join_expired(ExpiredRows(unlabelled=4))
    telemetry.join_holds(JoinSize(rows=10, bytes=2_000))
    telemetry.outcome_delays("churn", [-5.0, 30.0, HOUR_MS])
    assert telemetry.values(t.JOINED)["pairs",] == 5
    assert telemetry.values(t.JOINED)["orphans",] == 1
    assert telemetry.values(t.JOIN_EXPIRED)["unlabelled",] == 4
    assert (telemetry.values(t.JOIN_ROWS), telemetry.values(t.JOIN_BYTES)) == ({(): 10}, {(): 2_000})
    assert telemetry.histograms(t.OUTCOME_DELAY)["churn",].counts[0] == 2
