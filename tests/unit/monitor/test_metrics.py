"""What a scrape shows: of a real store's records, through the real encoder, read back by the client library's own parser."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from detectors.finding import Severity, State
from monitor import telemetry as t
from monitor.budget import NAMED_MAX
from monitor.metric_families import CONTRACT
from monitor.metrics import Metrics
from monitor.results import brief_findings
from monitor.series import subjects
from tests.parts.exposition import (
    DAY_MS,
    LABELS,
    FakeStore,
    alert,
    facts,
    figures,
    finding,
    request,
    scrape,
    shown,
    window,
)


def test_a_window_becomes_scores_thresholds_and_decisions():
    drifted = finding(state=State.DRIFT, severity=Severity.WARNING, value=0.31)
    got = shown(window(drifted, finding("age")))
    assert got["drift_score", "distribution", "income", "churn", "7"] == 0.31
    assert got["drift_threshold", "distribution", "income", "churn", "7"] == 0.14
    assert got["drift_severity", "income", "churn", "7"] == 1
    assert got["drift_severity", "age", "churn", "7"] == 0
    assert got["window_end_timestamp_seconds", "drift", "churn", "7"] == 10 * 86_400
    assert got["window_length_seconds", "churn"] == 3_600
    assert got["window_rows", "drift", "churn", "7"] == 500
    assert [got["drift_features", "churn", state] for state in ("ok", "warning", "critical", "insufficient_data")] == [
        1,
        1,
        0,
        0,
    ]


def test_severity_is_the_worst_of_all_checks_and_a_warning_state_is_none():
    nulls = finding("income", "missing", State.DRIFT, Severity.CRITICAL, value=0.4)
    got = shown(window(finding(state=State.WARNING, value=0.2)), window(nulls, monitor="quality"))
    assert got["drift_severity", "income", "churn", "7"] == 2
    assert got["feature_missing_ratio", "income", "churn", "7"] == 0.4
    assert shown(window(finding(state=State.WARNING, value=0.2)))["drift_severity", "income", "churn", "7"] == 0


@pytest.mark.parametrize(
    ("check", "family"),
    [
        ("missing", "feature_missing_ratio"),
        ("absent", "feature_absent_ratio"),
        ("invalid", "feature_invalid_ratio"),
        ("out_of_range", "feature_out_of_range_ratio"),
        ("unseen", "feature_unseen_category_ratio"),
    ],
)
def test_every_quality_share_has_a_family(check, family):
    assert shown(window(finding("x", check, value=0.25), monitor="quality"))[family, "x", "churn", "7"] == 0.25


def test_too_few_rows_show_no_number_and_are_counted():
    got = shown(
        window(
            finding(state=State.INSUFFICIENT_DATA, value=0.9), finding("zip", state=State.NOT_CONFIGURED, value=None)
        )
    )
    assert not [key for key in got if key[0] in ("drift_score", "drift_threshold", "drift_severity")]
    assert got["drift_features", "churn", "insufficient_data"] == 1


def test_whole_model_subjects_have_reserved_names_and_are_no_features():
    got = shown(window(finding("score"), monitor="prediction"), window(finding("score"), monitor="data"))
    assert got["drift_severity", "__score__", "churn", "7"] == got["drift_severity", "score", "churn", "7"] == 0
    assert sum(value for key, value in got.items() if key[0] == "drift_features") == 1


def test_versions_stand_side_by_side_until_one_is_retired():
    bad = finding(state=State.DRIFT, severity=Severity.CRITICAL, value=0.9)
    canary = window(bad, version="8", end_ms=9 * DAY_MS)
    retired = window(bad, version="6", end_ms=2 * DAY_MS)
    got = shown(window(finding()), canary, retired)
    versions = {key[3] for key in got if key[0] == "drift_severity"}
    assert versions == {"7", "8"}
    assert got["drift_features", "churn", "critical"] == 1  # the worse version counts
    assert {key[3] for key in got if key[0] == "model_info"} == {"7", "8"}


def test_models_without_a_window_are_known_and_models_without_configuration_are_not():
    got = shown(window(finding(), model="other"), models=("churn", "quiet"))
    assert got["model_info", "b" * 12, "churn", "", "growth", "binary"] == 1
    assert got["model_info", "", "quiet", "", "growth", "binary"] == 1
    assert got["baseline_created_timestamp_seconds", "churn"] == 1_700_000_000
    assert not [key for key in got if "other" in key]


def test_alerts_that_fire_are_counted_and_queues_shown():
    got = shown(alerts=[alert(), alert(status="resolved"), alert(severity="warning"), alert(severity="warning")])
    assert got["alerts_active", "churn", "critical"] == 1
    assert got["alerts_active", "churn", "warning"] == 2
    assert shown()["alerts_active", "churn", "critical"] == 0
    assert got["notification_queue_items", "oncall"] == 3
    assert got["build_info", "abc", "0.1.0"] == 1


def test_the_budget_keeps_the_most_severe_and_counts_the_rest():
    quiet = [finding(f"f{i:04d}") for i in range(900)]
    loud = finding("z_last", state=State.DRIFT, severity=Severity.CRITICAL, value=0.9)
    got = shown(window(*quiet, loud))
    features = {key[2] for key in got if key[0] == "drift_score"}
    assert "z_last" in features
    per_model = sum(key[0] in ("drift_score", "drift_threshold", "drift_severity") for key in got)
    assert per_model <= 2_000
    assert got["exported_series_suppressed", "churn"] == 901 * 3 - per_model
    assert got["drift_features", "churn", "ok"] == 900  # what is counted is not cut
    assert got["exported_series",] == len(got)


def test_the_process_budget_holds_over_models_spares_the_severe_one_and_is_fair_to_the_rest():
    models = [f"m{i}" for i in range(8)]
    windows = [window(*[finding(f"f{i}") for i in range(600)], model=model) for model in models]
    windows[7] = window(
        *[finding(f"f{i}", state=State.DRIFT, severity=Severity.WARNING, value=0.3) for i in range(600)], model="m7"
    )
    got = shown(*windows, models=models)
    assert got["exported_series",] <= 10_000
    suppressed = [got.get(("exported_series_suppressed", model), 0) for model in models]
    assert suppressed[7] == 0
    assert min(suppressed[:7]) > 0
    assert max(suppressed[:7]) - min(suppressed[:7]) <= 3  # quiet ones share what is left


def test_a_subject_comes_before_others_of_its_severity_by_its_excess():
    row = window(finding("a", value=0.1), finding("b", value=-0.4), finding("c", value=0.2))
    found = subjects([(row, brief_findings(row.findings))])
    assert [subject.name for subject in sorted(found, key=lambda found: found.urgency)] == ["b", "c", "a"]


def test_however_many_models_there_are_the_budget_holds_and_says_what_it_hit():
    models = [f"m{i:04d}" for i in range(1_500)]
    loud = finding("z", state=State.DRIFT, severity=Severity.CRITICAL, value=0.9)
    windows = [
        window(*[finding(f"f{i}") for i in range(5)], *([loud] * (n == 1_400)), model=m) for n, m in enumerate(models)
    ]
    got = shown(*windows, models=models)
    assert got["exported_series",] == len(got) <= got["exported_series_limit",] == 10_000
    assert got["drift_severity", "z", "m1400", "7"] == 2
    assert got["drift_features", "m1400", "critical"] == 1  # the worst models first, and whole
    named = {key[1]: value for key, value in got.items() if key[0] == "exported_series_suppressed"}
    assert len(named) == NAMED_MAX + 1
    assert named["__other__"] > 10_000


def test_of_quiet_models_those_with_an_alert_or_a_retraining_are_shown_whole_first():
    models = [f"m{i:04d}" for i in range(480)]
    rest = {"alerts": [alert("m0400")], "requests": [request("failed", model="m0401")]}
    got = shown(*[window(finding(), model=model) for model in models], models=models, **rest)
    assert got["alert_episodes_total", "m0400", "data", "critical"] == 1
    assert got["retraining_requests", "m0401", "failed"] == 1
    assert ("retraining_requests", "m0402", "failed") not in got


def test_versions_without_end_cannot_break_the_budget():
    windows = [window(finding(), version=f"v{i:05d}", end_ms=10 * DAY_MS + i) for i in range(20_000)]
    got = shown(*windows)
    assert got["exported_series",] == len(got) <= 10_000
    assert got["model_info", "a" * 12, "churn", "v19999", "growth", "binary"] == 1  # the newest is among them
    assert got["exported_series_suppressed", "churn"] > 50_000


def test_a_limit_on_a_feature_is_the_features_decision():
    limit = finding("income.missing", "limit", State.DRIFT, Severity.CRITICAL, value=0.2)
    got = shown(window(finding("income", "missing", value=0.2), limit, monitor="quality"))
    assert got["drift_severity", "income", "churn", "7"] == 2
    assert sum(value for key, value in got.items() if key[0] == "drift_features") == 1


def test_what_the_process_runs_on_is_told():
    got = shown()
    assert got["config_info", "c0ffee"] == 1
    assert got["config_last_reload_success_timestamp_seconds",] == 1_700_000_000
    assert got["exported_series_limit",] == 10_000
    assert got["exported_series_suppressed", "__other__"] == 0


def test_alerts_that_a_receiver_was_not_told_of_are_counted_and_those_it_was_are_not():
    telemetry = t.Telemetry()
    for outcome in ("silenced", "silenced", "held", "told"):
        telemetry.told("oncall", outcome)
    telemetry.retraining_refused("churn", "airflow", "cooldown")
    got = scrape(Metrics(FakeStore(), telemetry, facts()))
    untold = {key[1]: value for key, value in got.items() if key[0] == "alerts_untold_total" and key[2] == "oncall"}
    assert untold == {"silenced": 2, "held": 1, "out_of_hours": 0, "inhibited": 0, "stale": 0, "collapsed": 0}
    assert got["retrain_triggers_total", "churn", "cooldown", "airflow"] == 1


def test_references_and_alerts_that_are_over_are_not_read_with_every_scrape():
    store = FakeStore([window(finding())], [alert(), alert(id="2", status="resolved")])
    metrics = Metrics(store, t.Telemetry(), facts())
    for _ in range(3):
        assert scrape(metrics)["alert_episodes_total", "churn", "data", "critical"] == 2
    assert (store.reads["references"], store.reads["alerts"]) == (1, 1)
    store.firing.append(alert(id="3"))
    assert scrape(metrics)["alert_episodes_total", "churn", "data", "critical"] == 3


def test_what_was_read_ahead_is_not_decoded_again(monkeypatch):
    rows = [window(finding(), model=f"m{i}", monitor="data") for i in range(60)]
    rows += [window(*figures(), LABELS, model=f"m{i}", monitor="performance") for i in range(60)]
    store = FakeStore(rows)
    metrics = Metrics(store, t.Telemetry(), facts(*[f"m{i}" for i in range(60)]))
    metrics.warm()
    assert store.looked_up == 60  # also of more models than one scrape looks up
    decoded = []
    monkeypatch.setattr("monitor.verdicts.brief_findings", lambda data: decoded.append(data) or ())
    got = scrape(metrics)
    assert (decoded, store.looked_up) == ([], 60)
    assert got["drift_severity", "income", "m59", "7"] == 0
    store.broken = True
    metrics.warm()  # a store that is away is for a scrape to tell
    assert scrape(metrics)["collector_errors_total",] == 1


def test_what_is_known_to_exist_is_shown_as_zero():
    got = shown()
    assert got["dead_letter_events_total", "bad_json"] == got["join_events_total", "pairs"] == 0
    assert got["notifications_total", "oncall", "failed"] == 0
    assert got["retraining_requests", "churn", "open"] == 0
    assert got["retrain_triggers_total", "churn", "accepted", "airflow"] == 0
    assert got["clock_timestamp_seconds",] == 12 * 86_400


def test_retraining_and_concept_alarms_are_taken_from_the_store():
    alarm = alert(monitor="concept", check="e_sr", starts_at_ms=5_000)
    earlier = alert(monitor="concept", check="e_sr", starts_at_ms=1_000, status="resolved")
    segment = alert(monitor="concept", check="e_sr", segment='{"region":"EU"}')
    got = shown(
        alerts=[alarm, earlier, segment, alert(model="other")],
        requests=[request("accepted", at_ms=9_000), request("timed_out"), request("requested", model="other")],
    )
    assert got["concept_drift_detections_total", "e_sr", "churn"] == 2
    assert got["concept_drift_last_detection_timestamp_seconds", "e_sr", "churn"] == 5
    assert got["alert_episodes_total", "churn", "concept", "critical"] == 3
    assert [got["retraining_requests", "churn", s] for s in ("open", "succeeded", "failed")] == [1, 0, 1]
    assert got["retrain_last_trigger_timestamp_seconds", "churn"] == 9
    assert not [key for key in got if "other" in key]


def test_a_revision_replaces_what_was_shown():
    store = FakeStore([window(finding(value=0.1))])
    metrics = Metrics(store, t.Telemetry(), facts())
    key = ("drift_score", "distribution", "income", "churn", "7")
    assert scrape(metrics)[key] == 0.1
    store.windows = [window(finding(value=0.2), revision=2)]
    assert scrape(metrics)[key] == 0.2
    store.windows = []
    assert key not in scrape(metrics)


def test_while_the_store_is_away_the_process_still_tells():
    store, telemetry = FakeStore([window(finding())]), t.Telemetry()
    metrics = Metrics(store, telemetry, facts())
    telemetry.add(t.EVENTS, "churn", "prediction", "accepted", by=64)
    assert scrape(metrics)["collector_errors_total",] == 0
    store.broken = True
    got = scrape(metrics)
    assert got["collector_errors_total",] == 1
    assert got["events_total", "prediction", "churn", "accepted"] == 64
    assert not [key for key in got if key[0] == "drift_score"]
    store.broken = False
    assert ("drift_score", "distribution", "income", "churn", "7") in scrape(metrics)


def full() -> Metrics:
    """Every family has a series, and labels are as odd as names of models and features may be."""
    telemetry = t.Telemetry()
    for metric in t.CATALOGUE:
        labels = ['a "b" \\ c', "ä\n", "x"][: len(metric.labels)]
        match metric.kind:
            case t.Kind.COUNTER:
                telemetry.add(metric, *labels, by=2)
            case t.Kind.GAUGE:
                telemetry.set(metric, *labels, value=1.5)
            case t.Kind.HISTOGRAM:
                telemetry.observe(metric, *labels, seconds=0.02)
    odd = [
        finding('in"co\\me\n', check)
        for check in ("distribution", "missing", "absent", "invalid", "out_of_range", "unseen")
    ]
    performance = window(*figures("realised"), *figures("estimated"), LABELS, monitor="performance")
    concept = window(finding("error", "e_sr", baseline=0.1), monitor="concept")
    alerts = [alert(), alert(monitor="concept", check="e_sr")]
    store = FakeStore([window(*odd), performance, concept], alerts, requests=[request("requested")])
    return Metrics(store, telemetry, facts())


def test_every_metric_of_the_contract_and_no_other_is_shown():
    families = {family.name.removeprefix("driftline_"): family for family in plain(full().render()[0].decode())}
    families = {name: family for name, family in families.items() if not name.startswith("process_")}
    declared = {metric.name.removesuffix("_total"): metric for group in CONTRACT.values() for metric in group}
    assert families.keys() == declared.keys()
    for name, metric in declared.items():
        labels = {frozenset(sample.labels) - {"le"} for sample in families[name].samples}
        assert (name, families[name].type, labels) == (name, str(metric.kind), {frozenset(metric.labels)})


def test_openmetrics_is_given_to_those_who_ask_and_parses():
    body, content_type = full().render("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(body.decode())}
    assert families["driftline_events"].type == "counter"
    assert families["driftline_batch_duration_seconds"].type == "histogram"
    assert {family.type for family in families.values()} <= {"counter", "gauge", "histogram"}


def test_promtool_finds_nothing_to_say():
    promtool = shutil.which("promtool")
    if promtool is None:
        reason = "no promtool on the PATH (Debian: prometheus)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    body, _ = full().render()
    done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_counts_from_many_threads_add_up():
    telemetry = t.Telemetry()

    def work() -> None:
        for _ in range(2_000):
            telemetry.add(t.REBALANCES)
            telemetry.observe(t.BATCH, "fold", seconds=0.01)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert telemetry.values(t.REBALANCES) == {(): 16_000}
    assert sum(telemetry.histograms(t.BATCH)["fold",].counts) == 16_000


def test_a_histogram_counts_a_bound_into_its_own_bucket():
    telemetry = t.Telemetry()
    for seconds in (0.001, 0.0011, 1_000):
        telemetry.observe(t.BATCH, "fold", seconds=seconds)
    got = scrape(Metrics(FakeStore(), telemetry, facts()))
    buckets = {key[1]: value for key, value in got.items() if key[0] == "batch_duration_seconds_bucket"}
    assert (buckets["0.001"], buckets["0.003"], buckets["60.0"], buckets["+Inf"]) == (1, 2, 2, 3)
    assert got["batch_duration_seconds_sum", "fold"] == pytest.approx(1_000.0021)


def test_names_that_come_with_the_traffic_cannot_grow_the_memory():
    telemetry = t.Telemetry()
    for i in range(t.LABEL_SETS_MAX + 10):
        telemetry.add(t.GAPS, f"topic-{i}")
    values = telemetry.values(t.GAPS)
    assert len(values) == t.LABEL_SETS_MAX + 1
    assert values[t.OTHER,] == 10


def test_hundreds_of_models_have_series_of_their_own():
    telemetry = t.Telemetry()
    for i in range(t.LABEL_SETS_MAX):
        for kind in ("data", "quality"):
            telemetry.add(t.WINDOWS, f"m{i}", kind, "evaluated")
    assert len(telemetry.values(t.WINDOWS)) == 2 * t.LABEL_SETS_MAX


def test_a_wrong_label_or_kind_is_a_bug():
    telemetry = t.Telemetry()
    with pytest.raises(ValueError, match="events_total"):
        telemetry.add(t.EVENTS, "churn")
    with pytest.raises(ValueError, match="gauge"):
        telemetry.add(t.LAG, "topic", "0")


def test_a_gauge_of_a_partition_that_went_away_is_forgotten():
    telemetry = t.Telemetry()
    telemetry.set(t.LAG, "ml", "0", value=5)
    telemetry.forget(t.LAG, "ml", "0")
    telemetry.forget(t.LAG, "ml", "1")
    assert telemetry.values(t.LAG) == {}


def test_a_stored_checkpoint_is_told_by_model_and_reason():
    from monitor.decoding.events import Reason
    from monitor.intake import Harvest, Quarantined
    from monitor.ports import PartitionId

    telemetry = t.Telemetry()
    bad = Quarantined(PartitionId("ml", 0), 17, Reason.BAD_JSON, "detail")
    harvest = Harvest(
        predictions={"churn": 100},
        outcomes={"churn": 7},
        quarantine=[bad, bad],
        unconfigured={"x": 2, "y": 1},
        null_values=4,
    )
    telemetry.checkpointed(1_700_000_000_500, harvest, {"churn": 10})
    telemetry.store_failed()
    telemetry.rebalanced()
    assert telemetry.values(t.EVENTS) == {
        ("churn", "prediction", "accepted"): 90,
        ("churn", "prediction", "late"): 10,
        ("churn", "outcome", "accepted"): 7,
    }
    dead = {labels: records for labels, records in telemetry.values(t.DEAD_LETTERS).items() if records}
    assert dead == {("bad_json",): 2}
    assert telemetry.values(t.UNCONFIGURED) == {(): 3}
    assert telemetry.values(t.NULL_VALUES) == {(): 4}
    assert telemetry.values(t.CHECKPOINT) == {(): 1_700_000_000.5}
    assert telemetry.values(t.STORE_ERRORS)["checkpoint",] == 1
    assert telemetry.values(t.REBALANCES) == {(): 1}
