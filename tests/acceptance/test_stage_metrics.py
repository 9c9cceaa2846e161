"""Every stage reports its time and what it did not do: an alert that nobody was told of, a retraining that a gate refused."""

from __future__ import annotations

from pathlib import Path

from alerts.matching import parse_matchers
from alerts.silence import Silence
from monitor.exposition import facts
from monitor.metrics import Metrics
from monitor.store import ActRow
from tests.parts.exposition import scrape
from tests.parts.world import CONFIG, HOUR, T0, World

RULES = """
    retraining: {{mode: propose, target: jobs}}
receivers:
  oncall: {{slack: {{channel: C1, token: {{env: TOKEN}}}}}}
routes:
  - {{receiver: oncall}}
http: {{series: 5000}}
retraining_targets:
  jobs: {{webhook: {{url: https://jobs.example/run, secret: {{env: SECRET}}}}}}
"""


def test_what_was_silenced_and_what_was_refused_are_counted_and_every_stage_is_timed(tmp_path: Path):
    world = World(tmp_path, CONFIG + RULES)
    silence = Silence(
        id="s1",
        matchers=parse_matchers('model="churn"'),
        starts_ms=T0,
        ends_ms=T0 + 100 * HOUR,
        who="ada",
        why="a release",
    )
    world.store.put_silence(silence, ActRow(at_ms=T0, who="ada", act="silence", subject="s1", detail="{}"))
    world.live(range(3))
    world.live(range(3, 6), shift=1.5)
    world.live(range(6, 8), nulls=60)  # a data fault is no reason to train
    world.tell()
    got = scrape(Metrics(world.store, world.runtime.telemetry, facts(world.runtime)))
    assert got["exported_series_limit",] == 5_000
    assert got["config_last_reload_success_timestamp_seconds",] * 1000 == world.clock()
    assert got["alerts_untold_total", "silenced", "oncall"] >= 1
    assert got["alerts_untold_total", "held", "oncall"] == 0
    assert got["retrain_triggers_total", "churn", "accepted", "jobs"] == 1
    refused = {key[2]: count for key, count in got.items() if key[0] == "retrain_triggers_total"}
    assert refused.keys() & {"cause_is_data_fault", "data_fault_active", "request_active"}
    for stage in ("fold", "checkpoint", "close", "tell"):
        assert got["batch_duration_seconds_count", stage] >= 1, stage
    assert got["alerts_active", "churn", "critical"] + got["alerts_active", "churn", "warning"] >= 1
    world.close()
