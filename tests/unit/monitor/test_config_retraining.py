"""Retraining in the configuration: models, fleet and targets; a wrong blank is found before anything is sent."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from alerts import retraining
from alerts.retraining import RetrainingStatus
from alerts.retraining_presets import PRESETS, databricks, github_workflow
from alerts.retraining_run import Deadlines
from alerts.retraining_targets import Auth, render
from monitor.config import HttpTarget, Webhook, load_config
from monitor.config.checks import SAMPLE
from monitor.config.retraining import TargetEntry
from monitor.errors import UserError
from monitor.results import alert_object
from monitor.secret import Secret
from monitor.store import AlertRow

DAY = 86_400_000


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text):
        Path("driftline.yaml").write_text(text)
        return load_config("driftline.yaml")

    return load


def target(load, entry) -> HttpTarget:
    found = load(f"models: {{m: {{}}}}\nretraining_targets: {{t: {entry}}}").retraining_targets["t"]
    assert isinstance(found, HttpTarget)
    return found


def test_the_gates_of_a_model_and_of_the_fleet_are_read(load, tmp_path) -> None:
    config = load("""\
models:
  m:
    retraining:
      {mode: auto, target: t, cooldown: 2d, min_new_labels: 500, budget: {requests: 2, per: 30d}, freeze: [xmas], timeout: 3d, patience: 4}
  n: {retraining: {target: t}}
time_intervals: {xmas: 2026-12-24..2027-01-01}
retraining:
  {max_active: 3, budget: {requests: 10, per: 7d}, freeze: [xmas], callback: {url: "https://d.example", secret: {file: s}}, answer: 2h}
http: {listen: "127.0.0.1:8080"}
retraining_targets: {t: {webhook: {url: "https://x/y", secret: {env: A}}}}
""")
    m, n = config.models["m"].retraining, config.models["n"].retraining
    assert (m.min_new_labels, m.freeze, m.timeout_ms, m.patience) == (500, ("xmas",), 3 * DAY, 4)
    assert m.budget.budget() == retraining.Budget(requests=2, per_ms=30 * DAY)
    assert (n.mode, n.min_new_labels, n.budget, n.freeze, n.timeout_ms, n.patience) == ("propose", 0, None, (), DAY, 2)
    fleet = config.retraining
    assert (fleet.max_active, fleet.budget.requests) == (3, 10)
    assert fleet.callback.secret == Secret("file", str(tmp_path / "s"))
    assert fleet.deadlines() == Deadlines(answer_ms=7_200_000)
    assert isinstance(config.retraining_targets["t"], Webhook)


def test_without_a_word_nothing_is_limited_and_nobody_reports(load) -> None:
    fleet = load("models: {m: {}}").retraining
    assert (fleet.max_active, fleet.budget, fleet.freeze, fleet.callback) == (None, None, (), None)
    assert fleet.deadlines() == Deadlines()


def test_a_target_by_http_is_read_whole(load, tmp_path) -> None:
    found = target(
        load,
        """
  {http: {
    url: "https://jobs.example/{{ request.model }}/runs", method: PUT, headers: {x-request: "{{ request.id }}"},
    body: {id: "{{ request.id }}", x-trace: [1, {model: "{{ request.model }}"}]},
    auth: {mode: client, user: me, token_url: "https://login.example/token", scope: jobs}, secret: {file: key.txt},
    repeated: [409], success: {pointer: /ok, values: [true, 1]}, run_id: /run/id, run_url: "header:Location",
    poll: {url: "https://jobs.example/runs/{{ run.id }}", pointers: [/state], states: {DONE: succeeded, BUSY: running}}}}""",
    )
    made = found.target
    assert found.secret == Secret("file", str(tmp_path / "key.txt"))
    assert found.auth == Auth(mode="client", user="me", token_url="https://login.example/token", scope="jobs")
    assert (made.method, made.repeated, made.run_id, made.run_url) == ("PUT", {409}, "/run/id", "header:Location")
    assert made.success == ("/ok", ("true", "1"))
    assert made.poll.states == {"DONE": RetrainingStatus.SUCCEEDED, "BUSY": RetrainingStatus.RUNNING}
    sent = render(made, SAMPLE, token="t")
    assert sent.url == "https://jobs.example/m/runs"
    assert sent.headers["x-request"] == "0"
    assert json.loads(sent.body) == {"id": "0", "x-trace": [1, {"model": "m"}]}


def test_a_form_is_a_mapping_of_texts(load) -> None:
    found = target(load, '{http: {url: "https://x/", form: true, body: {token: "{{ request.id }}", n: 1}}}')
    assert render(found.target, SAMPLE).body == b"token=0&n=1"


def test_presets_are_the_functions_of_their_names(load) -> None:
    gh = target(load, "{github_workflow: {owner: o, repository: r, workflow: w.yml, ref: dev, secret: {env: A}}}")
    assert gh.target == github_workflow(owner="o", repository="r", workflow="w.yml", ref="dev")
    bricks = target(
        load,
        "{databricks: {url: 'https://d', job_id: 7, auth: {mode: client, user: u, token_url: 'https://d/t'}, secret: {env: A}}}",
    )
    auth = Auth(mode="client", user="u", token_url="https://d/t")
    assert bricks.target == databricks(url="https://d", job_id=7, auth=auth)
    airflow = target(load, "{airflow3: {url: 'https://a', dag: d, auth: {mode: login, user: u}, secret: {env: A}}}")
    assert airflow.auth.token_url == "https://a/auth/token"
    job = target(
        load,
        "{kubernetes_job: {url: 'https://k', namespace: ml, image: i, command: [run], keep: 1h, secret: {env: A}}}",
    )
    assert job.target.body["spec"]["ttlSecondsAfterFinished"] == 3_600
    dispatch = target(load, "{github_dispatch: {owner: o, repository: r, secret: {env: A}}}")
    assert dispatch.target.body["event_type"] == "driftline-retraining"


def test_every_preset_has_its_key() -> None:
    assert set(TargetEntry.model_fields) == {"webhook", "http", *PRESETS}


def test_neither_secret_nor_body_nor_address_is_shown(load) -> None:
    config = load(
        "models: {m: {}}\nretraining_targets: {t: {http: {url: 'https://x/planted', body: planted, headers: {a: planted}}}}"
    )
    assert "planted" not in repr(TargetEntry.model_validate({"http": {"url": "https://x/planted", "body": "planted"}}))
    assert isinstance(config.retraining_targets["t"], HttpTarget)


@pytest.mark.parametrize(
    ("http", "told"),
    [
        ('url: "https://x/{{ request.ide }}"', "2:38: retraining_targets.t.http.url: there is no {{ request.ide }} (known: alert.at,"),
        ('url: "https://x/", body: {a: [1, "{{ alert.foo }}"]}', "2:66: retraining_targets.t.http.body.a.1: there is no {{ alert.foo }}"),
        ('url: "https://x/", body: {x-a: "{{ foo.a }}"}', "retraining_targets.t.http.body.x-a: there is no {{ foo.a }}"),
        ('url: "https://x/", headers: {x-a: "{{ run.id }}"}', "retraining_targets.t.http.headers.x-a: there is no {{ run.id }}"),
        ('url: "https://x/", headers: {a: "\u00e9"}', "retraining_targets.t.http.headers.a: a header holds printable ASCII only"),
        ('url: "https://x/", headers: {"a b": c}', "retraining_targets.t.http.headers: 'a b' is no name of a header"),
        ('url: "https://x/", headers: {Authorization: planted}', "http.headers: a secret is not written here (use auth"),
        ('url: "https://x/", body: {a: .inf}', "retraining_targets.t.http.body.a: Out of range float"),
        ('url: "https://x/", body: [a], form: true', "retraining_targets.t.http: the body of a form is a mapping of texts"),
        ('url: "ftp://x/{{ request.id }}"', "retraining_targets.t.http.url: should be a URL that starts with http://"),
        ('url: "https://x/", auth: {mode: bearer}', "retraining_targets.t.http: auth bearer needs a secret (add secret: {env: NAME})"),
        ('url: "https://x/", secret: {env: A}', "retraining_targets.t.http: the secret is not used (say how with auth: {mode: bearer})"),
        ('url: "https://x/", auth: {mode: login, user: u}, secret: {env: A}', "http: auth login needs a token_url"),
        ('url: "https://x/", auth: {mode: basic}, secret: {env: A}', "http.auth: mode basic needs a user"),
        ('url: "https://x/", auth: {mode: bearer, user: u}, secret: {env: A}', "http.auth: mode bearer has no user"),
        ('url: "https://x/", run_id: id', "http.run_id: has characters that are not allowed here"),
        ('url: "https://x/", poll: {url: "https://x/{{ run.ids }}", pointers: [/a], states: {A: failed}}', "http.poll.url: there is no {{ run.ids }}"),
        ('url: "https://x/", poll: {url: "https://x/", pointers: [/a], states: {A: lost}}', "http.poll.states.A: should be accepted, running, succeeded, failed"),
        ('url: "https://x/", repeated: [99]', "http.repeated.0: should be greater than or equal to 200"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_target_is_told_with_its_place(load, http, told) -> None:
    with pytest.raises(UserError) as caught:
        load(f"models: {{m: {{}}}}\nretraining_targets: {{t: {{http: {{{http}}}}}}}")
    [line] = str(caught.value).splitlines()
    assert told in line
    assert "planted" not in line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: {m: {retraining: {target: t, budget: {requests: 0, per: 1d}}}}", "models.m.retraining.budget.requests: should be greater"),
        ("models: {m: {retraining: {target: t, budget: {requests: 1}}}}", "models.m.retraining.budget.per: is missing"),
        ("models: {m: {retraining: {target: t, freeze: [x]}}}", "models.m.retraining.freeze.0: unknown time interval x"),
        ("defaults: {retraining: {target: t, freeze: [x]}}\nmodels: {m: {}, n: {}}", "1:45: defaults.retraining.freeze.0: unknown time"),
        ("models: {m: {retraining: {target: t, patience: 0}}}", "models.m.retraining.patience: should be greater"),
        ("models: {m: {}}\nretraining: {freeze: [x]}", "2:23: retraining.freeze.0: unknown time interval x"),
        ("models: {m: {}}\nhttp: {}\nretraining: {callback: {url: d, secret: {env: A}}}", "retraining.callback.url: should be a URL"),
        ("models: {m: {}}\nhttp: {}\nretraining: {callback: {url: 'https://d', secret: planted}}", "retraining.callback.secret: a secret is not"),
        ("models: {m: {}}\nretraining: {callback: {url: 'https://d', secret: {env: A}}}", "2:14: retraining.callback: nothing listens for it (add http"),
        ("models: {m: {}}\nretraining: {max_active: 0}", "retraining.max_active: should be greater"),
    ],
)  # fmt: skip
def test_a_mistake_about_retraining_is_told_with_its_place(load, text, told) -> None:
    with pytest.raises(UserError) as caught:
        load(text + '\nretraining_targets: {t: {webhook: {url: "https://x/y", secret: {env: A}}}}')
    [line] = str(caught.value).splitlines()
    assert told in line
    assert "planted" not in line


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("airflow3: {url: 'https://a', dag: a/b, secret: {env: A}}", "t.airflow3.dag: has characters that are not allowed"),
        ("databricks: {url: 'https://d', job_id: '7', secret: {env: A}}", "t.databricks.job_id"),
        ("databricks: {url: 'https://d', job_id: 7}", "t.databricks: auth bearer needs a secret (add secret: {env: NAME})"),
        ("github_workflow: {owner: o, repository: ..}", "t.github_workflow.workflow: is missing"),
        ("github_dispatch: {owner: o, repository: .., secret: {env: A}}", "t.github_dispatch: '..' cannot be part of a path"),
        ("jenkins: {}", "retraining_targets.t.jenkins: unknown key"),
        ("http: {url: 'https://x/'}, webhook: {url: 'https://x/', secret: {env: A}}", "retraining_targets.t: should hold exactly one of"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_preset_is_told(load, entry, told) -> None:
    with pytest.raises(UserError) as caught:
        load(f"models: {{m: {{}}}}\nretraining_targets: {{t: {{{entry}}}}}")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "place"),
    [
        ("http: {url: 'http://10.0.0.1/'}", "http.url"),
        ("http: {url: 'https://x/', poll: {url: 'http://10.0.0.1/', pointers: [/a], states: {A: failed}}}", "http.poll.url"),
        (
            "airflow3: {url: 'https://x', dag: d, auth: {mode: login, user: u, token_url: 'http://10.0.0.1/'}, secret: {env: A}}",
            "airflow3.auth.token_url",
        ),
        ("github_dispatch: {owner: o, repository: r, api: 'http://10.0.0.1', secret: {env: A}}", "github_dispatch.api"),
    ],
)  # fmt: skip
def test_deny_private_closes_every_address_of_a_target(load, entry, place) -> None:
    text = f"models: {{m: {{}}}}\nretraining_targets: {{t: {{{entry}}}}}\n"
    load(text)
    with pytest.raises(UserError, match=f"retraining_targets.t.{place}: 10.0.0.1 is private"):
        load(text + "egress: {deny_private: true}")


def test_the_sample_names_what_a_real_request_does() -> None:
    """What blanks are checked against, and what they are filled from, are the same names."""
    row = AlertRow(
        **{
            field.name: 0 if "ms" in field.name else ""
            for field in fields(AlertRow)
            if field.name not in ("segment", "seq")
        }
    )
    assert {name for name in SAMPLE if name.startswith("alert.")} == {f"alert.{name}" for name in alert_object(row)}
