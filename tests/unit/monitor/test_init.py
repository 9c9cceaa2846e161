"""`driftline init`: the proposal loads and builds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from monitor.config import load_config
from monitor.errors import UserError
from monitor.init_config import propose
from monitor.tables.load import load_reference_table


@pytest.fixture
def written(tmp_path, monkeypatch):
    """The proposal for a frame, and the configuration it is when stored beside the table."""
    monkeypatch.chdir(tmp_path)

    def written(data, name="churn.parquet"):
        data.to_csv(name, index=False) if name.endswith("csv") else data.to_parquet(name)
        text = propose(name)
        (tmp_path / "driftline.yaml").write_text(text)
        return text, load_config("driftline.yaml")

    return written


def frame(n=600):
    rng = np.random.default_rng(5)
    score = rng.random(n)
    label = (rng.random(n) < score).astype(int)
    return pd.DataFrame({
        "row_hash": [f"{i * 7919:x}-{i}" for i in range(n)],
        "scored_at": pd.date_range("2026-01-01", periods=n, freq="min"),
        "income": rng.normal(size=n),
        "plan: best": rng.choice(["a", "b"], n),
        "n": 1,
        "y_pred": (score > 0.5).astype(int),
        "predicted_probability": score,
        "churned": label,
    })  # fmt: skip


def test_the_proposal_loads_and_builds(written):
    text, config = written(frame())
    churn = config.models["churn"]
    assert (churn.task, churn.positive_label) == ("binary", "1")
    roles = churn.reference.columns.roles()
    assert (roles["timestamp"], roles["prediction"], roles["score"], roles["label"]) == (
        "scored_at",
        "y_pred",
        "predicted_probability",
        "churned",
    )
    assert churn.reference.ignore == ("row_hash",)
    table, settings, _ = load_reference_table(churn)
    assert sorted(table.features) == ["income", "n", "plan: best"]
    assert settings.task == "binary"
    assert "- row_hash  # is near-unique text: 600 different values in 600 rows" in text
    assert "label: churned  # a guess" in text
    assert "#   income: {kind: numeric}" in text
    assert '#   "plan: best": {kind: categorical}' in text
    assert '#   "n": {kind: numeric}  constant' in text
    assert "order:" not in text


def test_a_table_without_times_says_what_order_means(written):
    text, config = written(frame().drop(columns="scored_at"))
    assert config.models["churn"].reference.order == "unknown"
    assert "order: unknown  # write `time`" in text


def test_csv_and_regression(written):
    data = (
        frame()
        .assign(target=np.linspace(0, 1, 600), y_pred=np.linspace(0, 2, 600))
        .drop(columns=["churned", "predicted_probability"])
    )
    _, config = written(data, "price.csv")
    price = config.models["price"]
    assert (price.task, price.positive_label) == ("regression", None)
    assert price.reference.columns.label == "target"


def test_the_rarer_label_is_guessed_where_no_name_says_it(written):
    data = frame().assign(churned=["good"] * 400 + ["bad"] * 200, y_pred=["good"] * 400 + ["bad"] * 200)
    text, config = written(data)
    assert config.models["churn"].positive_label == "bad"
    assert "the other label is good" in text


def test_a_column_that_only_has_the_name_of_a_role_stays_a_feature(written):
    _, config = written(frame().assign(score=np.arange(600) % 50, timestamp="soon"))
    roles = config.models["churn"].reference.columns.roles()
    assert roles["score"] == "predicted_probability"
    assert roles["timestamp"] == "scored_at"
    table, _, _ = load_reference_table(config.models["churn"])
    assert {"score", "timestamp"} <= set(table.features)


def test_only_features(written):
    _, config = written(frame()[["income", "plan: best"]])
    assert config.models["churn"].task == "unlabelled"


def test_names_that_yaml_takes_amiss_are_quoted(written):
    data = frame().rename(columns={"row_hash": "no", "income": "#x"})
    _, config = written(data, "a b.parquet")
    assert config.models["a_b"].reference.ignore == ("no",)


def test_what_cannot_be_read_is_one_line(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        propose(tmp_path / "no.parquet")
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(UserError, match=r"empty.parquet: "):
        propose(tmp_path / "empty.parquet")
