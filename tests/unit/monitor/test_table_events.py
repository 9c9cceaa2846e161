"""The rows of a table as events."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from detectors.columns import CategoryColumn, Marker, NumericColumn, category_text
from monitor.config import Columns, Model
from monitor.decoding.codec import Codec
from monitor.decoding.event_schema import EventSchema, FeatureSchema
from monitor.errors import UserError
from monitor.tables.events import table_events
from monitor.tables.load import load_reference_table

BINARY = {"task": "binary", "positive_label": "leave"}


def model(**keys):
    reference = keys.pop("reference", {})
    return Model.model_validate({"reference": {"path": "-", **reference}, **keys}).named("m")


def frame(n=300):
    rng = np.random.default_rng(4)
    return pd.DataFrame({
        "id": [f"r{i}" for i in range(n)],
        "timestamp": pd.date_range("2026-01-01", periods=n, freq="min", tz="UTC"),
        "income": rng.normal(size=n).round(3),
        "small": rng.normal(size=n).astype("float32"),
        "age": rng.integers(18, 90, n),
        "country": rng.choice(["DE", "FR", "01"], n),
        "member": rng.random(n) < 0.5,
        "prediction": rng.choice(["stay", "leave"], n),
        "score": rng.random(n),
        "label": rng.choice(["stay", "leave"], n),
    })  # fmt: skip


def events(source, m=None, **keys):
    return [json.loads(line) for block in table_events(source, m or model(**BINARY), **keys) for line in block]


def test_a_row_is_a_prediction_and_with_a_label_its_outcome():
    data = frame(2).assign(version=7, weight=[2.0, None], label=["stay", None], small=np.float32(0.1))
    first, outcome, second = events(data)
    assert list(first) == ["type", "model", "id", "ts", "version", "features", "prediction", "weight"]
    assert first["version"] == "7"
    assert first["ts"] == 1_767_225_600_000
    assert first["features"]["small"] == 0.1
    assert first["features"]["member"] in (True, False)
    assert set(first["prediction"]) == {"label", "score"}
    assert outcome == {
        "type": "outcome",
        "model": "m",
        "id": "r0",
        "ts": 1_767_225_600_000,
        "label": "stay",
        "version": "7",
    }
    assert (second["id"], second["type"]) == ("r1", "prediction")
    assert "weight" not in second


def test_the_outcome_has_the_time_of_its_label():
    data = frame(2).assign(label_timestamp=[pd.Timestamp("2026-02-01", tz="UTC"), None])
    assert [e["ts"] for e in events(data) if e["type"] == "outcome"] == [1_769_904_000_000, 1_767_225_660_000]


def test_numbers_survive_exactly():
    numbers = [0.1, 1e-300, 123456789.123456789, 2.0**53 + 2, -0.0]
    whole = [2**62 + 1, -(2**63), 0, 1, 2]
    read = events(frame(5).assign(income=numbers, age=whole))
    rows = [e["features"] for e in read if e["type"] == "prediction"]
    assert [row["income"] for row in rows] == numbers
    assert [row["age"] for row in rows] == whole


def test_nan_and_infinity_stay_what_they_are():
    table = pa.Table.from_pandas(frame(3)).set_column(2, "income", pa.array([float("nan"), float("inf"), None]))
    source = [e["features"]["income"] for e in events_of(table)]
    assert np.isnan(source[0])
    assert source[1:] == [float("inf"), None]


def events_of(table):
    """Of an Arrow table, which keeps NaN apart from null."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        pq.write_table(table, path)
        return [e for e in events(path) if e["type"] == "prediction"]


def test_every_format_gives_the_same_events(tmp_path):
    data = frame(50)
    data.to_parquet(tmp_path / "t.parquet")
    data.to_csv(tmp_path / "t.csv", index=False)
    assert events(tmp_path / "t.parquet") == events(tmp_path / "t.csv") == events(data)


def test_blocks_hold_rows_in_order_and_ids_count_through_them(tmp_path):
    frame(25).drop(columns=["id", "label"]).to_parquet(tmp_path / "scored.parquet")
    blocks = list(table_events(tmp_path / "scored.parquet", model(**BINARY), block_rows=10))
    assert [len(block) for block in blocks] == [10, 10, 5]
    assert [json.loads(line)["id"] for block in blocks for line in block] == [f"scored-{i}" for i in range(25)]


def test_regression_predictions_are_values_and_classes_have_scores():
    data = frame(1).assign(prediction=2.5, label=3.5, p_a=0.25)
    assert events(data, model(task="regression"))[0]["prediction"]["value"] == 2.5
    multiclass = model(task="multiclass", reference={"columns": {"scores": {"a": "p_a"}}})
    assert events(data, multiclass)[0]["prediction"]["scores"] == {"a": 0.25}


def test_the_task_of_the_reference_stands_in_for_one_that_is_not_configured():
    assert "value" in events(frame(1).assign(prediction=1), model(), task="regression")[0]["prediction"]


def test_source_columns_lie_over_those_of_the_reference():
    data = frame(1).rename(columns={"timestamp": "scored_at", "score": "p"})
    m = model(**BINARY, reference={"columns": {"score": "p", "label": "label"}})
    event = events(data, m, columns=Columns.model_validate({"timestamp": "scored_at"}))[0]
    assert event["ts"] == 1_767_225_600_000
    assert "score" in event["prediction"]


def test_a_table_without_timestamps_is_refused():
    with pytest.raises(UserError, match="without timestamps can be a reference, but neither a source nor replayed"):
        events(frame(1).drop(columns=["timestamp"]))


def test_cells_that_are_no_time_are_passed_on_for_the_codec_to_refuse():
    read = events(frame(2).drop(columns=["label"]).assign(timestamp=["yesterday", None]))
    assert [e["ts"] for e in read] == ["yesterday", None]


def test_a_csv_cell_of_a_numeric_feature_stays_a_number_though_its_column_is_text(tmp_path):
    (tmp_path / "t.csv").write_text("timestamp,income\n2026-01-01,1.5\n2026-01-01,x\n")
    m = model(task="unlabelled")
    assert [e["features"]["income"] for e in events(tmp_path / "t.csv", m)] == ["1.5", "x"]
    assert [e["features"]["income"] for e in events(tmp_path / "t.csv", m, kinds={"income": "numeric"})] == [1.5, "x"]


def test_the_codec_makes_of_the_events_what_the_reference_makes_of_the_rows():
    data = frame(200).drop(columns=["label"]).assign(
        small=np.random.default_rng(1).normal(size=200).astype("float32"), gaps=[1.5, None] * 100, whole=range(200),
        long=["x" * 3000, "\0", "", None] * 50, flag=[True, None] * 100, grade=pd.Categorical([3, 1] * 100),
    )  # fmt: skip
    m = model(**BINARY)
    table = load_reference_table(m, data).table
    kinds = {
        name: "numeric" if isinstance(column, NumericColumn) else "categorical"
        for name, column in table.features.items()
    }
    schema = EventSchema(
        model="m", task="binary", features=tuple(FeatureSchema(name, kind) for name, kind in kinds.items())
    )
    (block,) = table_events(data, m)
    decoded = Codec({"m": schema}).decode("m", block)
    assert not decoded.rejected
    (batch,) = decoded.predictions
    assert batch.times_ms.tolist() == table.times_ms.tolist()
    assert batch.label.values == table.label_predicted.values
    assert batch.score.values.tolist() == table.score.values.tolist()
    for (name, mine), theirs in zip(table.features.items(), batch.features, strict=True):
        if isinstance(mine, NumericColumn):
            np.testing.assert_array_equal(mine.values, theirs.values, err_msg=name)
        else:
            assert texts(mine) == texts(theirs), name


def texts(column: CategoryColumn):
    return [cell if cell is None or isinstance(cell, Marker) else category_text(cell) for cell in column.values]
