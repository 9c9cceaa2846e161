"""What users set, ask and rely on in performance: limits, segments, how labels come, equal digests, every task's figures."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from alerts.envelope import rfc3339
from monitor.commands import objects
from monitor.config.load import load_config
from monitor.replay import replay
from monitor.store import WindowRow
from parts.outcome_world import (
    BINARY,
    MINUTE,
    OutcomeWorld,
    Scored,
    encoded,
    finding_in,
    hour_of_rows,
    outcomes,
    predictions,
    write_binary_reference,
)
from parts.world import HOUR, T0

EU, US = '{"region":"EU"}', '{"region":"US"}'
SEGMENTED = BINARY + "    segments: [region]\n"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OutcomeWorld]:
    world = OutcomeWorld(tmp_path)
    yield world
    world.close()


# -- limits


def limited(folder: Path, *limits: str) -> OutcomeWorld:
    return OutcomeWorld(folder, BINARY + "    limits:\n" + "".join(f"      {limit}\n" for limit in limits))


def test_a_limit_fires_when_the_whole_interval_lies_beyond_it(tmp_path: Path) -> None:
    world = limited(tmp_path, "accuracy: {{min: 0.78, severity: critical}}")
    world.labelled_hours([0])
    world.labelled_hours([1], wrong=0.08)
    world.labelled_hours([2], wrong=0.25)
    fine, unsure, broken = (finding_in(world.performance(hour), "accuracy", "limit") for hour in range(3))
    assert [found["state"] for found in (fine, unsure, broken)] == ["ok", "warning", "drift"]
    assert unsure["value"] < 0.78 < unsure["interval"][1]
    assert broken["interval"][1] < 0.78
    assert (broken["severity"], broken["threshold"], broken["detail"]["bound"]) == ("critical", 0.78, "min")
    (alert,) = [row for row in world.alerts() if row.check == "limit"]
    assert (alert.subject, alert.severity, alert.starts_at_ms) == ("accuracy", "critical", T0 + 2 * HOUR)
    world.close()


def test_a_limit_on_the_value_asks_nothing_else(tmp_path: Path) -> None:
    world = limited(tmp_path, "accuracy: {{min: 0.78, on: value}}")
    world.labelled_hours([0])
    world.labelled_hours([1], wrong=0.08)
    assert [finding_in(world.performance(hour), "accuracy", "limit")["state"] for hour in (0, 1)] == ["ok", "drift"]
    world.close()


def test_limits_of_a_feature_are_judged_where_the_feature_is(tmp_path: Path) -> None:
    world = limited(tmp_path, "x.missing: {{max: 0.05}}", "x.drift: {{max: 0.5}}", "f1: {{min: 0.2}}")
    rows = hour_of_rows(0, spread=4.0)
    events = [json.loads(row.prediction()) for row in rows]
    for event in events[:60]:
        event["features"]["x"] = None
    world.send([encoded(event) for event in events])
    world.turn(1)
    world.turn(1.1)
    limits = {
        row.monitor: [(f["subject"], f["state"]) for f in objects(row)[0]["findings"] if f["check"] == "limit"]
        for row in world.windows()
    }
    assert limits["quality"] == [("x.missing", "drift")]
    assert limits["data"] == [("x.drift", "drift")]
    assert [subject for subject, _ in limits["performance"]] == ["f1"]
    assert limits.get("prediction", []) == []
    assert {(row.monitor, row.subject) for row in world.alerts() if row.check == "limit"} == {
        ("quality", "x.missing"), ("data", "x.drift"),
    }  # fmt: skip
    world.close()


# -- segments


def test_a_loss_in_one_region_is_told_of_that_region(tmp_path: Path) -> None:
    world = OutcomeWorld(tmp_path, SEGMENTED)
    world.labelled_hours([0, 1], rows=500)
    world.labelled_hours([2, 3], rows=500, wrong={"EU": 0.0, "US": 0.45})
    segments = {segment: [world.performance(hour, segment=segment) for hour in range(4)] for segment in (EU, US)}
    assert [row.state for row in segments[EU]] == ["ok"] * 4
    assert [row.state for row in segments[US]] == ["ok", "ok", "drift", "drift"]
    assert objects(segments[US][2])[0]["segment"] == {"region": "US"}
    for hour in range(4):
        parts = [world.performance(hour, segment=segment).rows for segment in (EU, US)]
        assert sum(parts) == world.performance(hour).rows == 500
    told = {(row.monitor, row.segment) for row in world.alerts() if row.segment is not None}
    assert told == {("performance", US), ("concept", US)}
    assert objects(next(row for row in world.alerts() if row.segment))[0]["segment"] == {"region": "US"}
    world.close()


def test_a_segment_is_compared_with_its_own_past(tmp_path: Path) -> None:
    """A region that always was hard is no loss of today."""
    rng = np.random.default_rng(3)
    path = write_binary_reference(tmp_path / "reference.parquet")
    table = pq.read_table(path).to_pydict()
    turned = [r == "US" and rng.random() < 0.3 for r in table["region"]]
    table["label"] = [
        {"stay": "leave", "leave": "stay"}[label] if turn else label for label, turn in zip(table["label"], turned, strict=True)
    ]  # fmt: skip
    pq.write_table(pa.table(table), path)
    world = OutcomeWorld(tmp_path, SEGMENTED)
    world.labelled_hours([0], rows=600, wrong={"EU": 0.0, "US": 0.3})
    baselines = {segment: world.metric(0, segment=segment)["baseline"] for segment in (EU, US)}
    assert baselines[EU] - baselines[US] > 0.1
    assert [world.performance(0, segment=segment).state for segment in (EU, US)] == ["ok", "ok"]
    world.close()


def test_values_that_were_too_rare_share_other_which_has_its_window(tmp_path: Path) -> None:
    world = OutcomeWorld(tmp_path, SEGMENTED)
    rows = hour_of_rows(0)
    strange = [row.prediction(features={"x": row.x, "region": "MARS"}) for row in rows[:150]]
    world.send([*strange, *predictions(rows[150:]), *outcomes(rows)])
    world.turn(1)
    world.turn(1.1)
    other = world.performance(0, segment='{"region":"other"}')
    assert (other.rows, other.state) == (150, "not_configured")
    world.close()


# -- how labels come


def test_a_drop_of_coverage_is_a_finding_of_its_own(world: OutcomeWorld) -> None:
    world.labelled_hours(range(7))
    rows = hour_of_rows(7)
    world.send([*predictions(rows), *outcomes(rows[:120])])
    world.turn(8)
    world.turn(8.2)
    world.turn(12.2)
    world.send(outcomes(hour_of_rows(7)[120:121], 5 * HOUR))
    world.turn(13)
    world.turn(13.2)
    found = finding_in(world.performance(7), "labels", "coverage")
    assert (found["state"], found["severity"]) == ("drift", "warning")
    assert (found["value"], found["baseline"]) == (pytest.approx(121 / 300), 1.0)
    assert [row.status for row in world.alerts() if row.check == "coverage"] == ["firing"]


def test_labels_that_stay_away_altogether_are_told_too(world: OutcomeWorld) -> None:
    """They always are three hours late. Then nothing comes that would have a window judged again; time does."""
    for hour in range(13):
        world.send(predictions(hour_of_rows(hour)))
        world.send(outcomes(hour_of_rows(hour - 3), 3 * HOUR) if 3 <= hour < 10 else [])
        world.turn(hour + 1)
        world.turn(hour + 1.1)
    found = finding_in(world.performance(8), "labels", "coverage")
    assert (found["state"], found["value"]) == ("drift", 0.0)
    assert found["baseline"] > 0.5
    fired = [row for row in world.alerts() if row.check == "coverage"]
    assert [(row.status, row.starts_at_ms) for row in fired] == [("firing", T0 + 7 * HOUR)]


def chosen(rows: Sequence[Scored]) -> list[Scored]:
    """Labels only for those the model is sure of, and wrong ones at that."""
    return [row if i % 3 else row.other() for i, row in enumerate(rows) if abs(row.score - 0.5) > 0.25]


def test_labels_of_a_chosen_few_are_found_and_hold_a_loss_back_until_the_window_is_final(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0, 900)
    world.send([*predictions(rows), *outcomes(chosen(rows))])
    world.turn(1)
    world.turn(1.1)
    found, loss = finding_in(world.performance(0), "labels", "selective"), world.metric(0)
    assert (found["state"], loss["state"]) == ("warning", "warning")
    assert loss["interval"][1] < loss["baseline"]
    assert "do not stand for all rows" in loss["detail"]["reason"]
    assert world.told() == []
    world.turn(26)
    window = world.performance(0)
    assert (window.status, window.state, world.metric(0)["state"]) == ("final", "drift", "drift")
    assert finding_in(window, "labels", "selective")["state"] == "drift"
    assert world.told() == [("firing", True, "drifted", 0, 1, None)]


# -- the same events, the same windows


def performance_digests(world: OutcomeWorld) -> dict[tuple[str, str | None, int], tuple[str, int]]:
    return {
        (row.version, row.segment, (row.start_ms - T0) // HOUR): (row.digest, row.rows)
        for row in world.windows("performance")
    }


def _events() -> list[bytes]:
    """Two versions, corrections, conflicts, versions named and not, money; outcomes from half an hour to five hours late."""
    events: list[bytes] = []
    for hour in range(4):
        rows = hour_of_rows(hour, 60)
        events += predictions(rows)
        events += [row.prediction(version="2", prediction={"label": "stay", "score": 0.2}) for row in rows[:20]]
        events += [
            row.prediction(ts=row.ts_ms + HOUR, prediction={"label": "leave", "score": 0.9}) for row in rows[20:25]
        ]
        events += outcomes(rows[:40]) + outcomes(rows[40:55], 5 * HOUR)
        events += [row.other().outcome(2 * HOUR) for row in rows[10:20]]
        events += [row.other().outcome(version="2", value=4.5) for row in rows[:10]]
    return events


def played(batches: Sequence[Sequence[bytes]], *, workers: int = 1, close: bool = True) -> dict[Any, Any]:
    with tempfile.TemporaryDirectory() as folder:
        world = OutcomeWorld(Path(folder), SEGMENTED, partitions=2)
        ingests = [world.ingest, *(world.worker(f"other-{i}") for i in range(workers - 1))]
        for place, batch in enumerate(batches):
            for index, value in enumerate(batch):
                world.send([value], partition=index % 2)
            world.clock.ms = T0 + int((20 + place / 10) * HOUR)
            for _ in range(3):
                for ingest in ingests:
                    while ingest.step(0.0):
                        pass
                    ingest.checkpoint()
            if close:
                world.closer.step()
        world.closer.finish_input()
        digests = performance_digests(world)
        world.close()
    return digests


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False), st.integers(1, 2), st.booleans())
def test_any_order_cut_and_number_of_workers_gives_equal_digests(
    chance: random.Random, workers: int, close: bool
) -> None:
    events = _events()
    events += chance.sample(events, 60)
    chance.shuffle(events)
    cuts = sorted(chance.sample(range(1, len(events)), 4))
    batches = [events[a:b] for a, b in zip([0, *cuts], [*cuts, len(events)], strict=True)]
    assert played(batches, workers=workers, close=close) == ORDERED


ORDERED = played([_events()])


def test_the_ordered_run_holds_what_the_test_is_about() -> None:
    assert {(version, segment) for version, segment, _ in ORDERED} == {
        (version, segment) for version in ("1", "2") for segment in (None, EU, US)
    }
    assert [ORDERED["1", None, hour][1] for hour in range(4)] == [60] * 4


# -- every task, end to end


def replayed(folder: Path, config: str, events: Sequence[dict[str, Any]]) -> list[WindowRow]:
    (folder / "driftline.yaml").write_text(config)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    decided: list[Any] = []
    replay(
        load_config(folder / "driftline.yaml"), [folder / "events.jsonl"], model=None, store_url=None,
        now_ms=lambda: T0, decided=decided.append,
    )  # fmt: skip
    newest = {row.id: row for row in decided if isinstance(row, WindowRow) and row.monitor == "performance"}
    return sorted(newest.values(), key=lambda row: row.start_ms)


def pair(i: int, ts_ms: int, features: dict[str, Any], prediction: dict[str, Any], label: Any) -> list[dict[str, Any]]:
    head = {"model": "m", "id": str(i)}
    return [
        {
            "type": "prediction",
            **head,
            "version": "1",
            "ts": rfc3339(ts_ms),
            "features": features,
            "prediction": prediction,
        },
        {"type": "outcome", **head, "ts": rfc3339(ts_ms + 90 * MINUTE), "label": label},
    ]


def test_a_multiclass_model_gives_the_figures_of_scikit_learn(tmp_path: Path) -> None:
    rng, classes = np.random.default_rng(5), np.array(["a", "b", "c"])
    rows = 1_800
    logits = rng.normal(0, 1.5, (rows, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.array([rng.choice(3, p=row) for row in p])
    p, decision = p.round(9), p.argmax(axis=1)
    ref, live = slice(0, 1_200), slice(1_200, rows)
    columns = {f"p_{name}": p[ref, k] for k, name in enumerate(classes)}
    pq.write_table(
        pa.table({"x": logits[ref, 0], "prediction": classes[decision[ref]], "label": classes[truth[ref]], **columns}),
        tmp_path / "reference.parquet",
    )
    config = (
        f"store: sqlite:///{tmp_path}/s.db\nmodels:\n  m:\n    task: multiclass\n    window: 1h\n    reference:\n      path: reference.parquet\n"
        "      columns: {scores: {a: p_a, b: p_b, c: p_c}}\n"
    )
    events = []
    for i in range(1_200, rows):
        scores = {name: float(p[i, k]) for k, name in enumerate(classes)}
        ts_ms = T0 + (i - 1_200) * HOUR // 600
        events += pair(
            i, ts_ms, {"x": float(logits[i, 0])}, {"label": classes[decision[i]], "scores": scores}, classes[truth[i]]
        )
    (window,) = replayed(tmp_path, config, events)
    y, d, s = truth[live], decision[live], p[live] / p[live].sum(axis=1, keepdims=True)
    expected = {
        "accuracy": oracle.accuracy_score(y, d), "balanced_accuracy": oracle.balanced_accuracy_score(y, d),
        "precision": oracle.precision_score(y, d, average="macro"), "recall": oracle.recall_score(y, d, average="macro"),
        "f1": oracle.f1_score(y, d, average="macro"), "mcc": oracle.matthews_corrcoef(y, d), "kappa": oracle.cohen_kappa_score(y, d),
    }  # fmt: skip
    found = {name: finding_in(window, name) for name in (*expected, "log_loss", "roc_auc")}
    assert {name: found[name]["value"] for name in expected} == pytest.approx(expected, abs=1e-12)
    assert found["log_loss"]["value"] == pytest.approx(oracle.log_loss(y, s), abs=1e-6)
    assert found["roc_auc"]["value"] == pytest.approx(oracle.roc_auc_score(y, s, multi_class="ovr"), abs=0.005)


def test_a_regression_model_gives_the_figures_of_scikit_learn(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    rows = 1_500
    x = rng.normal(0, 1, rows)
    truth = (50 + 10 * x + rng.normal(0, 3, rows)).round(6)
    value = (50 + 10 * x).round(6)
    pq.write_table(
        pa.table({"x": x[:1_000], "prediction": value[:1_000], "label": truth[:1_000]}), tmp_path / "reference.parquet"
    )
    config = f"store: sqlite:///{tmp_path}/s.db\nmodels:\n  m:\n    task: regression\n    window: 1h\n    reference: {{path: reference.parquet}}\n"
    events = []
    for i in range(1_000, rows):
        label = str(truth[i]) if i % 2 else float(truth[i])  # a number written as text is a number
        events += pair(i, T0 + (i - 1_000) * HOUR // 500, {"x": float(x[i])}, {"value": float(value[i])}, label)
    (window,) = replayed(tmp_path, config, events)
    y, p = truth[1_000:], value[1_000:]
    expected = {
        "mae": oracle.mean_absolute_error(y, p), "rmse": oracle.root_mean_squared_error(y, p),
        "mape": oracle.mean_absolute_percentage_error(y, p), "bias": float((p - y).mean()), "r2": oracle.r2_score(y, p),
        "wape": float(np.abs(y - p).sum() / np.abs(y).sum()), "smape": float((2 * np.abs(y - p) / (np.abs(y) + np.abs(p))).mean()),
    }  # fmt: skip
    assert {name: finding_in(window, name)["value"] for name in expected} == pytest.approx(expected, abs=1e-9)
    assert finding_in(window, "mae", "estimated")["state"] == "ok"
