"""`explain`, `alerts show` and the record in `status`, on a store that the whole service filled: a feature of two models moves, one is silenced."""

from __future__ import annotations

import json
from io import StringIO

import pytest
from rich.console import Console
from typer.testing import CliRunner

from alerts.lifecycle import Acknowledgement, Severity, Verdict
from alerts.matching import parse_matchers
from alerts.silence import Silence
from monitor.cli import app
from monitor.config import load_config
from monitor.errors import UserError
from monitor.explain import alert_named, explanation
from monitor.show_explanation import show_explanation
from monitor.store import ActRow, Store
from monitor.trust import record_object, records_of
from parts.healthy import HOUR_MS, T0, Fleet, play

FLEET = Fleet(models=2, hours=36, labels=False, seed=5, spoiled_from=30, spoiled_sd=1.0)
SILENCED, PAGED = FLEET.names
LINKS = {"Board": "https://grafana.example/d/drift?var-model=$model&from=$start_ms"}


def silence(store):
    one = Silence(
        id="s1", matchers=parse_matchers(f"model={SILENCED}"), starts_ms=T0, ends_ms=T0 + 100 * HOUR_MS, who="ada", why="a known launch"
    )  # fmt: skip
    store.put_silence(one, ActRow(at_ms=T0, who="ada", act="silence", subject="s1", detail="a known launch"))


def acknowledge(store, alert):
    seen = Acknowledgement(
        alert=alert, who="grace", at_ms=T0 + 40 * HOUR_MS, severity=Severity.WARNING, verdict=Verdict.FALSE, comment="a test in production"
    )  # fmt: skip
    store.acknowledge(seen, ActRow(at_ms=seen.at_ms, who="grace", act="ack", subject=alert, detail=""))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("explain")
    play(path, FLEET, prepare=silence)
    with_store = Store.open(load_config(path / "driftline.yaml").store, create=False)
    acknowledge(with_store, next(row.id for row in with_store.alerts() if row.model == PAGED))
    with_store.close()
    return path


@pytest.fixture
def config(folder):
    return load_config(folder / "driftline.yaml")


@pytest.fixture
def store(config):
    opened = Store.open(config.store, create=False)
    yield opened
    opened.close()


def alert_of(store, model):
    (row,) = [row for row in store.alerts() if row.model == model]
    return row


def run(folder, *words):
    return CliRunner().invoke(app, [*words, "-c", str(folder / "driftline.yaml")], catch_exceptions=False)


def test_it_says_what_moved_by_how_much_how_sure_and_since_when(store):
    row = alert_of(store, PAGED)
    told = explanation(store, row, {})
    assert told["alert"]["id"] == row.id
    assert told["alert"]["status"] == "firing"
    finding = told["finding"]
    assert (finding["subject"], finding["check"], finding["unit"]) == ("x1", "distribution", "sd")
    assert finding["interval"][0] < finding["value"] < finding["interval"][1]
    assert finding["value"] == pytest.approx(1.0, abs=0.25)
    assert finding["evidence"]["q_value"] < 1e-6
    assert told["lasted_seconds"] == 6 * 3600  # to the newest window, not to the one that fired
    states = [one["state"] for one in told["windows"]]
    assert states == ["ok"] * 3 + ["drift"] * 6
    assert told["windows"][3]["start"] == told["alert"]["starts_at"]
    assert [step["status"] for step in told["history"]] == ["firing"]
    assert "x1" in told["cause"]
    assert told["action"]
    assert told["performance"] == {"window": None, "metrics": [], "split": None}  # nobody learns the outcome
    assert told["others"] == []


def test_it_says_who_was_told_who_was_not_and_why(store):
    paged = explanation(store, alert_of(store, PAGED), LINKS)
    assert [(one["receiver"], one["outcome"]) for one in paged["told"]] == [("oncall", "told")]
    assert [(one["who"], one["verdict"], one["comment"]) for one in paged["acknowledgements"]] == [
        ("grace", "false", "a test in production")
    ]
    assert paged["links"] == [
        {"name": "Board", "url": f"https://grafana.example/d/drift?var-model={PAGED}&from={FLEET.spoiled_ms}"}
    ]
    (silenced,) = explanation(store, alert_of(store, SILENCED), {})["told"]
    assert silenced["outcome"] == "silenced"
    assert "ada" in silenced["text"]
    assert "a known launch" in silenced["text"]


def test_people_read_the_same_on_a_terminal(store):
    out = StringIO()
    show_explanation(
        explanation(store, alert_of(store, SILENCED), LINKS), Console(file=out, width=160, highlight=False)
    )
    text = out.getvalue()
    for words in ("FIRING", f"{SILENCED} 1: x1 (data)", "x1 has moved by", "Since", "How sure", "Performance", "Likely cause",
                  "What to do", "https://grafana.example", "Who was told", "not told: silenced", "a known launch"):  # fmt: skip
        assert words in text, words
    assert text.count("drift ") >= 6


def test_the_commands_take_an_id_or_how_it_begins(folder, store):
    row = alert_of(store, PAGED)
    told = explanation(store, row, {})
    for words in (("explain", row.id), ("explain", row.id[:6]), ("alerts", "show", row.id[:8])):
        (line,) = run(folder, *words, "--json").stdout.splitlines()
        assert json.loads(line) == json.loads(json.dumps(told))
    assert "x1 has moved by" in run(folder, "alerts", "show", row.id).stdout


@pytest.mark.parametrize("wrong", ["abc", "zzzzzz", ""])
def test_a_name_that_fits_no_alert_is_told(store, wrong):
    with pytest.raises(UserError, match="alerts list"):
        alert_named(store, wrong)


def test_status_holds_pages_and_verdicts_against_the_promise(folder, store, config):
    objects = {
        one["model"]: one
        for one in map(json.loads, run(folder, "status", "--json").stdout.splitlines())
        if one["type"] == "model"
    }
    records = records_of(store, config)
    assert {name: one["record"] for name, one in objects.items()} == {n: record_object(r) for n, r in records.items()}
    paged, silenced = objects[PAGED]["record"], objects[SILENCED]["record"]
    assert (paged["pages"], paged["false"], paged["share_real"], paged["promised"]) == (1, 1, 0.0, 1.0)
    # One false page in a day and a half is 61 a quarter; the low end of the interval, 1.5, is still more than was promised.
    assert paged["false_per_quarter"] == pytest.approx(2190 / 36, rel=0.03)
    assert paged["interval"] == [
        pytest.approx(0.02532 * 2190 / 36, rel=0.03),
        pytest.approx(5.572 * 2190 / 36, rel=0.03),
    ]
    assert paged["kept"] is False
    assert (silenced["pages"], silenced["false_per_quarter"], silenced["interval"], silenced["kept"]) == (
        0,
        None,
        None,
        None,
    )
    assert "more than promised" in " ".join(run(folder, "status").stdout.split())
