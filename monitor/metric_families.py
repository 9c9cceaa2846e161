"""The metrics that a scrape takes from the store: every family, declared once, with its help and labels. With those of
monitor/telemetry.py they are the contract; docs/reference/metrics.md is made from it.
"""

from __future__ import annotations

from collections.abc import Mapping

from monitor.telemetry import CATALOGUE, Kind, Metric

_VERSION = ("model", "model_version")
_FEATURE = (*_VERSION, "feature")
_METRIC = (*_VERSION, "metric")
_DETECTOR = (*_VERSION, "detector")


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(name, Kind.GAUGE, help, labels)


# --- the process
BUILD_INFO = _gauge("build_info", "Facts of this build.", "version", "revision")
CONFIG_INFO = _gauge(
    "config_info", "What is configured, as a short hash: processes that were given the same show the same.", "hash"
)
CONFIG_READ = _gauge(
    "config_last_reload_success_timestamp_seconds", "When this process read its configuration, which it does once."
)
CLOCK = _gauge(
    "clock_timestamp_seconds",
    "The time this service goes by: the wall clock, or a simulation's. Ages of event times are taken against it.",
)

# --- every configured model, also one without an event; never suppressed
MODEL_INFO = _gauge("model_info", "Facts of a model, for joins and routing.", *_VERSION, "task", "owner", "baseline")
BASELINE_CREATED = _gauge("baseline_created_timestamp_seconds", "When the newest reference was built.", "model")
WINDOW_LENGTH = _gauge("window_length_seconds", "Configured length of a window.", "model")
WINDOW_END = _gauge(
    "window_end_timestamp_seconds",
    "Event-time end of the newest window of a kind: drift (data, predictions, quality), volume, performance, concept.",
    *_VERSION,
    "kind",
)
WINDOW_ROWS = _gauge(
    "window_rows", "Predictions in the newest window; labels, where kind is concept.", *_VERSION, "kind"
)
DRIFT_FEATURES = _gauge("drift_features", "Features by state in the newest windows.", "model", "state")
ALERTS_ACTIVE = _gauge("alerts_active", "Alerts that fire now.", "model", "severity")
ALERT_EPISODES = Metric(
    "alert_episodes_total", Kind.COUNTER, "Alerts that began to fire, as far back as the store keeps them.",
    ("model", "monitor", "severity"),
)  # fmt: skip
CONCEPT_DETECTIONS = Metric(
    "concept_drift_detections_total", Kind.COUNTER, "Alarms of the detectors of concept drift.", ("model", "detector")
)
CONCEPT_LAST = _gauge(
    "concept_drift_last_detection_timestamp_seconds",
    "Start of the window with the newest alarm of concept drift.",
    "model",
    "detector",
)
QUEUE = _gauge("notification_queue_items", "Messages waiting to be sent.", "channel")
RETRAINING = _gauge(
    "retraining_requests", "Requests to retrain by where they stand: open, succeeded, failed.", "model", "status"
)
RETRAIN_LAST = _gauge(
    "retrain_last_trigger_timestamp_seconds", "Time of the window behind the newest request to retrain.", "model"
)

# --- by feature, metric and detector: what the series budget may suppress
DRIFT_SCORE = _gauge(
    "drift_score",
    "Distance of the newest window from the reference, in standard deviations.",
    *_FEATURE,
    "detector",
)
DRIFT_THRESHOLD = _gauge("drift_threshold", "Distance from which on it counts as drift.", *_FEATURE, "detector")
DRIFT_SEVERITY = _gauge(
    "drift_severity",
    "Decision of the newest windows: 0 none, 1 warning, 2 critical; the worst of all checks.",
    *_FEATURE,
)
MISSING = _gauge("feature_missing_ratio", "Share of null or NaN values in the newest window.", *_FEATURE)
ABSENT = _gauge("feature_absent_ratio", "Share of events without the feature in the newest window.", *_FEATURE)
INVALID = _gauge("feature_invalid_ratio", "Share of values of a wrong type in the newest window.", *_FEATURE)
OUT_OF_RANGE = _gauge(
    "feature_out_of_range_ratio", "Share of values outside the reference's range in the newest window.", *_FEATURE
)
UNSEEN = _gauge("feature_unseen_category_ratio", "Share of categories the reference does not know.", *_FEATURE)

PERFORMANCE_VALUE = _gauge(
    "performance_value",
    "A metric in the newest window for which it is known: realised (from labels) or estimated (without).",
    *_METRIC,
    "kind",
)
PERFORMANCE_BOUND = _gauge(
    "performance_bound", "The ends of its 95 % interval: lower, upper.", *_METRIC, "kind", "bound"
)
PERFORMANCE_BASELINE = _gauge("performance_baseline_value", "The same metric on the reference.", *_METRIC)
PERFORMANCE_THRESHOLD = _gauge(
    "performance_threshold_value", "The value from which on it counts as a loss, or the limit a user set.", *_METRIC
)
PERFORMANCE_SEVERITY = _gauge(
    "performance_severity", "Decision on a metric: 0 none, 1 warning, 2 critical; the worst of all checks.", *_METRIC
)
PERFORMANCE_WINDOW_END = _gauge(
    "performance_window_end_timestamp_seconds",
    "Event-time end of the window behind performance_value: labels come late, so realised figures are older.",
    *_VERSION,
    "kind",
)
LABELLED_ROWS = _gauge("performance_labelled_rows", "Labelled predictions behind the realised figures.", *_VERSION)
LABEL_COVERAGE = _gauge(
    "label_coverage_ratio", "Share of labelled predictions in the newest window that labels have judged.", *_VERSION
)
LABEL_FINAL = _gauge(
    "label_final_coverage_ratio",
    "Share of labelled predictions in windows old enough to have all of their labels.",
    *_VERSION,
)
LABEL_DELAY = _gauge(
    "label_delay_seconds", "Time within which 50, 90 and 99 % of the labels came.", *_VERSION, "percentile"
)
CONCEPT_SEVERITY = _gauge(
    "concept_drift_severity", "State of a detector of concept drift: 0 quiet, 1 warning, 2 critical.", *_DETECTOR
)
CONCEPT_LOSS = _gauge(
    "concept_loss_ratio", "Mean loss of the labels that came in the newest window, in the order of arrival.", *_VERSION
)
CONCEPT_BASELINE = _gauge("concept_baseline_loss_ratio", "The same on the reference.", *_VERSION)
CONCEPT_THRESHOLD = _gauge("concept_tolerated_loss_ratio", "The largest mean loss that is tolerated.", *_VERSION)

# --- the exposition itself
EXPORTED = _gauge("exported_series", "Series of this scrape.")
LIMIT = _gauge("exported_series_limit", "The series budget: a scrape never has more.")
SUPPRESSED = _gauge(
    "exported_series_suppressed",
    "Series left out for the budget; `__other__`: of models that are not named, and of the process.",
    "model",
)
COLLECTOR_SECONDS = _gauge("collector_duration_seconds", "Time this scrape took.")
COLLECTOR_ERRORS = Metric("collector_errors_total", Kind.COUNTER, "Scrapes that could not read the results.")

DETAILS = (
    DRIFT_SCORE, DRIFT_THRESHOLD, DRIFT_SEVERITY, MISSING, ABSENT, INVALID, OUT_OF_RANGE, UNSEEN,
    PERFORMANCE_VALUE, PERFORMANCE_BOUND, PERFORMANCE_BASELINE, PERFORMANCE_THRESHOLD, PERFORMANCE_SEVERITY,
    PERFORMANCE_WINDOW_END, LABELLED_ROWS, LABEL_COVERAGE, LABEL_FINAL, LABEL_DELAY,
    CONCEPT_SEVERITY, CONCEPT_LOSS, CONCEPT_BASELINE, CONCEPT_THRESHOLD,
)  # fmt: skip
OVERVIEW = (
    MODEL_INFO, BASELINE_CREATED, WINDOW_LENGTH, WINDOW_END, WINDOW_ROWS, DRIFT_FEATURES, ALERTS_ACTIVE, ALERT_EPISODES,
    CONCEPT_DETECTIONS, CONCEPT_LAST,
    RETRAINING, RETRAIN_LAST, QUEUE,
)  # fmt: skip
ITSELF = (BUILD_INFO, CONFIG_INFO, CONFIG_READ, CLOCK, EXPORTED, LIMIT, SUPPRESSED, COLLECTOR_SECONDS, COLLECTOR_ERRORS)

CONTRACT: Mapping[str, tuple[Metric, ...]] = {
    "Models and windows": OVERVIEW,
    "Features, metrics and detectors": DETAILS,
    "Work of this process": CATALOGUE,
    "The process and its exposition": ITSELF,
}
