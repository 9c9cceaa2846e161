"""Is Driftline itself well? From the broker to the exposition, in the order of an event's path."""

from __future__ import annotations

from grafana_foundation_sdk.builders import dashboard

from grafana.board import parts as p
from grafana.board.frame import board

RATE = "[$__rate_interval]"


def pipeline() -> dashboard.Dashboard:
    made = board(
        "pipeline", "Pipeline", "Driftline itself: reading, storing, closing, sending, showing.", span="now-3h"
    )
    for panel in _figures():
        made = made.with_panel(panel)
    for title, panels in (("Reading", _reading()), ("Storing and closing", _closing()), ("Showing", _showing())):
        made = made.with_row(p.row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return made


def _figures() -> list[p.stat.Panel]:
    return [
        p.figure("Processes", "Processes that export.", "count(driftline_build_info)", limits=p.steps((None, p.RED), (1, p.GREEN)), width=3),
        p.figure(
            "Configs", "Different configurations that processes run on. More than one is right only while they are being restarted.",
            "count(count by (hash) (driftline_config_info))", limits=p.steps((None, p.GREEN), (2, p.ORANGE)), width=3,
        ),
        p.figure(
            "Config age", "How long ago the process that has run longest read its configuration.",
            f"{p.CLOCK} - min(driftline_config_last_reload_success_timestamp_seconds)", unit="s", decimals=0, width=3,
        ),
        p.figure(
            "Lag", "Records that wait to be read, all topics.", "sum(max by (topic, partition) (driftline_consumer_lag_records))",
            limits=p.steps((None, p.GREEN), (10_000, p.ORANGE), (100_000, p.RED)), decimals=0, spark=True, width=3,
        ),
        p.figure(
            "Watermark", "How far the slowest model is behind the service's clock.",
            f"{p.CLOCK} - min(max by (model) (driftline_watermark_timestamp_seconds))", unit="s", decimals=0, width=3,
        ),
        p.figure("Checkpoint", "How long ago progress was made durable.", f"{p.CLOCK} - max(driftline_checkpoint_timestamp_seconds)", unit="s", decimals=0, width=3),
        p.figure(
            "Quarantine", "Records that could not be used, in this range.", "sum(increase(driftline_dead_letter_events_total[$__range]))",
            limits=p.ANY_IS_WARNING, decimals=0, width=3,
        ),
        p.figure(
            "Store errors", "Failed operations, retried or not, in this range.", "sum(increase(driftline_store_errors_total[$__range]))",
            limits=p.ANY_IS_WARNING, decimals=0, width=3,
        ),
    ]  # fmt: skip


def _reading() -> list[p.timeseries.Panel]:
    return [
        p.lines(
            "Events", "Accepted and late events per second, all models.",
            p.query(f"sum by (kind, result) (rate(driftline_events_total{RATE}))", "{{kind}} {{result}}"), unit=p.EVENTS,
        ),
        p.lines("Lag", "Records between the last one read and the end.", p.query("sum by (topic) (max by (topic, partition) (driftline_consumer_lag_records))", "{{topic}}")),
        p.lines(
            "What was not used as sent",
            "Records per second: in quarantine, of models that nobody watches, without a value; and of more versions than are told apart, which are judged together.",
            p.query(f"sum by (reason) (rate(driftline_dead_letter_events_total{RATE})) > 0 or sum(rate(driftline_dead_letter_events_total{RATE}))", "quarantine {{reason}}"),
            p.query(f"sum(rate(driftline_unconfigured_events_total{RATE}))", "not configured", ref="B"),
            p.query(f"sum(rate(driftline_null_value_records_total{RATE}))", "no value", ref="C"),
            p.query(f"sum(rate(driftline_other_version_events_total{RATE})) or vector(0)", "too many versions", ref="D"),
            unit=p.EVENTS,
        ),
        p.lines(
            "Partitions", "Owned by all processes, and what has happened to them: gaps, stalls, rebalances, each in five minutes.",
            p.query("sum by (topic) (driftline_consumer_assigned_partitions)", "{{topic}}"),
            p.query("sum(increase(driftline_consumer_rebalances_total[5m]))", "rebalances", ref="B"),
            p.query("sum(increase(driftline_consumer_stalls_total[5m])) or vector(0)", "stalls", ref="C"),
            p.query("sum(increase(driftline_offset_gap_records_total[5m])) or vector(0)", "records in gaps", ref="D"),
            decimals=0,
        ),
    ]  # fmt: skip


def _closing() -> list[p.dm.Panel]:
    return [
        p.lines(
            "Watermark", "How far the models that are furthest behind lag behind the service's clock.",
            p.query(f"topk(10, {p.CLOCK} - max by (model) (driftline_watermark_timestamp_seconds))", "{{model}}"), unit="s",
        ),
        p.lines(
            "Windows", "Windows judged per second, by kind and result; where the series budget is spent, of the models that are shown whole.",
            p.query(f"sum by (kind, result) (rate(driftline_windows_total{RATE}))", "{{kind}} {{result}}"), unit=p.EVENTS,
        ),
        p.heat("Time of a checkpoint", "Counts, outcomes, quarantine and offsets in one transaction.", 'driftline_batch_duration_seconds_bucket{stage="checkpoint"}'),
        p.heat("Time to judge a window", "All monitors together.", "driftline_detector_duration_seconds_bucket"),
        p.lines(
            "Store errors", "Per second, by operation. What failed is done again.",
            p.query(f"sum by (operation) (rate(driftline_store_errors_total{RATE}))", "{{operation}}"), unit=p.EVENTS,
        ),
        p.lines(
            "Time by stage", "95th percentile of a batch: what was read becomes counts, is stored, windows are closed, alerts are told.",
            p.query(f"histogram_quantile(0.95, sum by (le, stage) (rate(driftline_batch_duration_seconds_bucket{RATE})))", "{{stage}}"), unit="s",
        ),
    ]  # fmt: skip


def _showing() -> list[p.timeseries.Panel]:
    return [
        p.lines(
            "Series", "Exported by each process, the most that a scrape may have, and what was left out for that budget.",
            p.query("driftline_exported_series", "{{instance}}"),
            p.query("sum(max by (model) (driftline_exported_series_suppressed))", "left out", ref="B"),
            p.query("max(driftline_exported_series_limit)", "limit", ref="C"), decimals=0,
        ).override_by_name("limit", [p.fixed(p.GREY), p.DASHED]).override_by_name("left out", [p.fixed(p.ORANGE)]),
        p.lines(
            "Time of a scrape", "Within each process, and scrapes that could not read the store, each in five minutes.",
            p.query("driftline_collector_duration_seconds", "{{instance}}"),
            p.query("sum(increase(driftline_collector_errors_total[5m]))", "without results", ref="B"), unit="s",
        ).override_by_name("without results", [p.property_of("unit", "short"), p.property_of("custom.axisPlacement", "right"), p.fixed(p.RED)]),
        p.lines(
            "Memory", "Resident, of each process.",
            p.query("process_resident_memory_bytes * on (instance) group_left () driftline_build_info", "{{instance}}"), unit="bytes",
        ),
        p.lines(
            "Processor", "Cores in use, of each process.",
            p.query(f"rate(process_cpu_seconds_total{RATE}) * on (instance) group_left () driftline_build_info", "{{instance}}"), unit="none", decimals=2,
        ),
    ]  # fmt: skip
