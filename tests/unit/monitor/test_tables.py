"""Tables: cells, CSV, and what becomes a reference."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest

from detectors.columns import INVALID, NAN, CategoryColumn, NumericColumn, Status
from detectors.reference.build import build_reference
from monitor.config import Model
from monitor.decoding.labels import normalise_label
from monitor.errors import UserError
from monitor.tables.columns import category_column, cells, kind_of, numeric_column, times_ms
from monitor.tables.files import read_table
from monitor.tables.load import load_reference_table


def column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


def model(**keys):
    reference = keys.pop("reference", {})
    return Model.model_validate({"reference": {"path": "-", **reference}, **keys}).named("m")


def refused(**keys):
    table = keys.pop("table")
    with pytest.raises(UserError) as caught:
        load_reference_table(model(**keys), table)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- cells


def test_labels_have_one_spelling():
    same = [
        [1, 1.0, "1", "1.0", "1e0"],
        [True, "true"],
        [False, "false"],
        ["leave"],
        ["01"],
        ["True"],
        [0, -0.0, "-0"],
        [0.1, "0.10"],
        [""],
    ]
    texts = [{normalise_label(value) for value in group} for group in same]
    assert all(len(group) == 1 for group in texts)
    assert len(set.union(*texts)) == len(same)
    assert normalise_label("9" * 400) == "9" * 400
    assert normalise_label("1e999") == "1e999"
    with pytest.raises(ValueError, match="NaN"):
        normalise_label(float("nan"))


def test_float32_is_read_through_its_shortest_decimal():
    narrow = column([0.1, 1e-8, 3.4e38, None], pa.float32())
    assert numeric_column(narrow).values.tolist()[:3] == [0.1, 1e-8, 3.4e38]
    assert cells(narrow) == [0.1, 1e-8, 3.4e38, None]
    assert category_column(narrow).values == [0.1, 1e-8, 3.4e38, None]


def test_null_nan_and_infinity_are_three_things():
    read = numeric_column(column([1.0, None, float("nan"), float("inf")]))
    assert read.status.tolist() == [Status.VALUE, Status.MISSING, Status.NAN, Status.INVALID]
    assert np.isnan(read.values[1:]).all()
    assert category_column(column([1.0, None, float("nan"), float("inf")])).values == [1.0, None, NAN, INVALID]
    assert numeric_column(column([1, None])).status is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (column([1, 2]), "numeric"),
        (column([1.5]), "numeric"),
        (column(["a"]), "categorical"),
        (column([True]), "categorical"),
        (column([1, 2]).dictionary_encode(), "categorical"),
        (column([None, None]), "numeric"),
        (column([[1], [2]]), "array"),
        (column([{"a": 1}]), "array"),
        (column([b"x"]), "array"),
    ],
)
def test_kinds_by_type(values, kind):
    assert kind_of(values) == kind


def test_categories_are_the_same_text_dictionary_encoded_or_not():
    for values in (["a", None, "b", "a"], [1, None, 2, 1], [True, None, False, True]):
        assert category_column(column(values)).values == category_column(column(values).dictionary_encode()).values
    assert category_column(column([True, None])).values == ["true", None]


def test_decimals_are_numbers_and_dates_are_texts():
    from datetime import date
    from decimal import Decimal

    assert numeric_column(column([Decimal("12.50"), None])).values.tolist()[0] == 12.5
    assert cells(column([date(2026, 1, 2), None])) == ["2026-01-02", None]


def test_text_is_no_number_unless_it_comes_from_csv():
    texts = column(["1.5", "x", None])
    assert numeric_column(texts).status.tolist() == [Status.INVALID, Status.INVALID, Status.MISSING]
    read = numeric_column(texts, text_numbers=True)
    assert read.values[0] == 1.5
    assert read.status.tolist() == [Status.VALUE, Status.INVALID, Status.MISSING]


@pytest.mark.parametrize(
    "values",
    [
        column(["2026-01-01T00:00:00.500Z"]),
        column(["2026-01-01 00:00:00.500"]),
        column(["2026-01-01T01:00:00.5+01:00"]),
        column([1_767_225_600_500]),
        column([1_767_225_600_500.0]),
        column([pd.Timestamp("2026-01-01 00:00:00.5009")]),
        column([pd.Timestamp("2026-01-01 01:00:00.5", tz="Europe/Berlin")]),
        column([1_767_225_600_500_900_000], pa.timestamp("ns")),
    ],
)
def test_times_in_every_spelling(values):
    times, wrong = times_ms(values)
    assert (times.tolist(), wrong) == ([1_767_225_600_500], {})


def test_a_date_alone_is_midnight_utc():
    assert times_ms(column(["2026-01-01"]))[0].tolist() == [1_767_225_600_000]


def test_what_is_no_time_is_named_by_row():
    for values in (["2026-01-01T00:00:00Z", "yesterday", None], [1_767_225_600_000.0, float("nan"), None]):
        times, wrong = times_ms(column(values))
        assert times[0] == 1_767_225_600_000
        assert sorted(wrong) == [1, 2]
    assert sorted(times_ms(column([pd.Timestamp("2026-01-01"), None]))[1]) == [1]


# --- CSV


def read_csv(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return read_table(path)


def test_a_csv_column_is_numeric_only_if_every_cell_is_a_json_number(tmp_path):
    header = "whole,real,zeros,plus,hex,word,nan,big,empty,flag,python,mixed"
    table = read_csv(
        tmp_path,
        f"{header}\n1,1.5,01,+1,0x1,1,1,123456789012345678901,,true,True,true\n-2,1e3,2,2,2,x,NaN,1,,false,False,True\n,,,,,,,,,,,\n",
    )
    kinds = {name: str(table[name].type) for name in table.schema.names}
    assert kinds == {
        "whole": "int64", "real": "double", "zeros": "string", "plus": "string", "hex": "string", "word": "string", "nan": "string",
        "big": "double", "empty": "double", "flag": "bool", "python": "bool", "mixed": "string",
    }  # fmt: skip
    assert table["whole"].to_pylist() == [1, -2, None]
    assert table["zeros"].to_pylist() == ["01", "2", None]


def test_csv_may_be_compressed_quoted_and_hold_line_ends(tmp_path):
    table = read_csv(tmp_path, '\ufeffa,b\n"x,y","q\nz"\n', "t.csv.gz")
    assert table.to_pylist() == [{"a": "x,y", "b": "q\nz"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"a,b\n1\n", "t.csv: cannot be read as CSV"),
        ("t.csv", b"", "t.csv: cannot be read as CSV"),
        ("t.csv", b"a\n\xff\xfe\n", "t.csv: cannot be read as CSV"),
        ("t.csv.gz", b"a,b\n1,2\n", "t.csv.gz: cannot be read"),
        ("t.parquet", b"PAR1 no", "t.parquet: cannot be read as Parquet"),
        ("t.csv", b"a,a\n1,2\n", "two columns have the name a"),
        ("t.xlsx", b"", "t.xlsx: is not a table"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_table(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path):
    for name in ("no.csv", "no.parquet"):
        with pytest.raises(UserError, match=f"{name}: no such file"):
            read_table(tmp_path / name)


# --- references


def frame(n=300):
    rng = np.random.default_rng(3)
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


BINARY = {"task": "binary", "positive_label": "leave"}


def test_roles_leave_the_features(tmp_path):
    frame().to_parquet(tmp_path / "r.parquet")
    table, settings, notes = load_reference_table(
        model(**BINARY, reference={"path": str(tmp_path / "r.parquet"), "ignore": ("age",)})
    )
    assert sorted(table.features) == ["country", "income", "member", "small"]
    assert table.times_ms[:2].tolist() == [1_767_225_600_000, 1_767_225_660_000]
    assert isinstance(table.features["income"], NumericColumn)
    assert isinstance(table.features["member"], CategoryColumn)
    assert set(table.label.values) == set(table.label_predicted.values) == {"stay", "leave"}
    assert (settings.task, settings.positive_label, settings.classes, notes) == (
        "binary",
        "leave",
        ("leave", "stay"),
        (),
    )
    assert (table.rows, len(table.score)) == (300, 300)


def test_one_content_has_one_hash_in_every_format(tmp_path):
    data = frame()
    data.to_parquet(tmp_path / "plain.parquet")
    data.astype({"country": "category", "prediction": "category"}).to_parquet(tmp_path / "dictionary.parquet")
    data.to_csv(tmp_path / "t.csv", index=False)
    data.to_csv(tmp_path / "t.csv.gz", index=False)
    pa.csv.write_csv(
        pa.Table.from_pandas(data.assign(timestamp=data["timestamp"].dt.as_unit("ms").astype("int64"))),
        tmp_path / "arrow.csv",
    )
    sources = [
        data,
        *(tmp_path / name for name in ("plain.parquet", "dictionary.parquet", "t.csv", "t.csv.gz", "arrow.csv")),
    ]
    hashes = {
        str(type(source)) + str(source)[-20:]: build_reference(*load_reference_table(model(**BINARY), source)[:2]).hash
        for source in sources
    }
    assert len(set(hashes.values())) == 1, hashes
    assert (
        build_reference(*load_reference_table(model(**BINARY), data.assign(age=data["age"] + 1))[:2]).hash
        not in hashes.values()
    )


def test_a_configured_kind_decides():
    features = {"age": {"kind": "categorical"}, "country": {"kind": "numeric"}}
    table, settings, _ = load_reference_table(model(**BINARY, features=features), frame())
    assert isinstance(table.features["age"], CategoryColumn)
    assert set(table.features["country"].status) == {Status.INVALID}
    assert settings.kinds == {"age": "categorical", "country": "numeric"}


def test_scores_of_classes_and_freed_names():
    data = frame().assign(prediction=0, label=1, p_a=0.2, p_b=0.8, weight=2.0)
    columns = {"scores": {"0": "p_a", 1: "p_b"}, "weight": None}
    table, settings, notes = load_reference_table(
        model(reference={"columns": columns}), data.assign(label=[0, 1] * 150)
    )
    assert settings.task == "multiclass"
    assert settings.classes == ("0", "1")
    assert list(table.scores) == ["0", "1"]
    assert "weight" in table.features
    assert "task multiclass inferred" in notes[0]
    assert settings.columns["scores.1"] == "p_b"


def test_weights_of_a_reference_are_read_and_must_not_be_negative():
    weights = [2.0, None, 0.5] * 100
    table, _, _ = load_reference_table(model(**BINARY), frame().assign(weight=weights))
    assert table.weight.values[[0, 2]].tolist() == [2.0, 0.5]
    assert np.isnan(table.weight.values[1])
    assert "weight" not in table.features
    message = refused(table=frame().assign(weight=[1.0, -1.0, 1.0] * 100), **BINARY)
    assert "column weight: a weight is not negative" in message
    assert "reference.columns.weight to null" in message


def test_the_label_map_brings_label_sets_together():
    data = frame().assign(label=[True, False] * 150)
    message = refused(table=data, **BINARY)
    assert "have no value in common" in message
    assert "label_map" in message
    table, _, _ = load_reference_table(model(**BINARY, label_map={"true": "leave", "false": "stay"}), data)
    assert set(table.label.values) == {"leave", "stay"}


def test_labels_written_as_numbers_text_or_booleans_meet():
    table, settings, _ = load_reference_table(
        model(task="binary", positive_label=1),
        frame().assign(label=[1.0, None, 0.0] * 100, prediction=["1", "0", "1"] * 100),
    )
    assert set(table.label.values) == {"1", "0", None}
    assert settings.classes == ("0", "1")


@pytest.mark.parametrize(
    ("changes", "drop", "task"),
    [
        ({"label": ["a", "b", "c"] * 100, "prediction": "a"}, [], "multiclass"),
        ({"label": np.linspace(0, 1, 300), "prediction": 0.5}, [], "regression"),
        ({"label": range(300), "prediction": 0.5}, [], "regression"),
        ({}, ["label", "prediction"], "binary"),
        ({"score": 7.0}, ["label", "prediction"], "unlabelled"),
        ({}, ["label", "prediction", "score"], "unlabelled"),
    ],
)
def test_the_task_is_inferred_and_told(changes, drop, task):
    _, settings, notes = load_reference_table(model(), frame().assign(**changes).drop(columns=drop))
    assert settings.task == task
    assert f"model m: task {task} inferred" in notes[0]


def test_regression_labels_are_numbers_also_as_text():
    data = frame().assign(label=["1.5", "x", None] * 100, prediction=np.linspace(0, 9, 300))
    table, _, _ = load_reference_table(model(task="regression"), data)
    assert table.label.status.tolist()[:3] == [Status.VALUE, Status.INVALID, Status.MISSING]
    assert table.value.values[-1] == 9
    assert table.label_predicted is None


@pytest.mark.parametrize(
    ("keys", "changes", "part"),
    [
        ({}, {}, "needs models.m.positive_label (one of leave, stay)"),
        ({"task": "binary", "positive_label": "go"}, {}, "these are go, leave, stay"),
        (
            {"task": "binary", "positive_label": "stay"},
            {"label": ["stay", "leave", "?"] * 100},
            "these are ?, leave, stay",
        ),
        (
            BINARY | {"reference": {"columns": {"score": "scor"}}},
            {},
            "columns.score: the table has no column scor (did you mean score?)",
        ),
        (BINARY | {"reference": {"ignore": ("yeer",)}}, {}, "ignore: the table has no column yeer"),
        (
            BINARY | {"features": {"incom": {"kind": "numeric"}}},
            {},
            "features.incom: the table has no column incom (did you mean income?)",
        ),
        (BINARY | {"reference": {"columns": {"score": "label"}}}, {}, "column label has two roles"),
        (BINARY, {"timestamp": "monday"}, "column timestamp, row 1: not an RFC 3339 time"),
        (BINARY, {"score": "high"}, "column score should hold numbers, it holds"),
    ],
)
def test_what_does_not_fit_is_one_line_with_the_fix(keys, changes, part):
    assert part in refused(table=frame().assign(**changes), **keys)


def test_arrays_are_named_and_kept_out():
    table, settings, _ = load_reference_table(model(**BINARY), frame().assign(embedding=[[1.0, 2.0]] * 300))
    assert table.arrays == {"embedding"}
    assert build_reference(table, settings).excluded["embedding"] == "holds arrays"


def test_a_model_without_reference_says_so():
    with pytest.raises(UserError, match=r"add models.m.reference.path"):
        load_reference_table(Model.model_validate({}).named("m"))
