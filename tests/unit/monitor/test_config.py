"""Configuration: what a good file gives, and every mistake with its place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monitor.config import (
    Columns,
    FileSource,
    KafkaSource,
    LogReceiver,
    MemorySource,
    Secret,
    Webhook,
    load_config,
    parse_config,
    parse_duration,
)
from monitor.errors import UserError
from monitor.schema_json import config_schema

HOUR = 3_600_000
DAY = 24 * HOUR
ROOT = Path(__file__).parents[3]


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a text as `driftline.yaml` in a folder that holds ref.parquet, with the folder as working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ref.parquet").touch()

    def load(text):
        Path("driftline.yaml").write_text(text)
        return load_config("driftline.yaml")

    return load


@pytest.fixture
def errors(load):
    def errors(text):
        with pytest.raises(UserError) as caught:
            load(text)
        return str(caught.value).splitlines()

    return errors


def model(load, body):
    return load(f"models: {{m: {body}}}").models["m"]


# --- what a good file gives


def test_the_minimal_file_has_the_defaults_of_the_design(load, tmp_path):
    config = load("models: {churn: {reference: {path: ref.parquet}}}")
    churn = config.models["churn"]
    assert config.store == f"sqlite:///{tmp_path}/driftline.db"
    assert (churn.name, churn.task, churn.positive_label) == ("churn", None, None)
    assert (churn.window.size_ms, churn.window.min_rows, churn.window.max_ms) == (DAY, 200, 7 * DAY)
    assert churn.reference.path == str(tmp_path / "ref.parquet")
    assert churn.reference.order == "unknown"
    assert (churn.lateness_ms, churn.page_max_age_ms) == (60_000, 6 * HOUR)
    assert config.http is None
    assert config.base_dir == tmp_path


FULL = """
store: postgresql+psycopg://user@host/db
defaults: {window: 1h, labels: {team: risk}}
sources:
  live:
    kafka:
      bootstrap_servers: [localhost:9092]
      group_id: driftline
      topics: {ml.predictions: canonical, ml.outcomes: canonical}
      start: 2026-01-01T00:00:00Z
      session_timeout: 6s
      security: {protocol: SASL_SSL, mechanism: SCRAM-SHA-512, username: driftline, password: {env: KAFKA_PASSWORD}, ca_file: ca.pem}
  history: {file: {paths: [events/*.jsonl.gz]}}
  nightly: {file: {paths: [scored/*.parquet], format: table, model: churn, columns: {timestamp: scored_at}}}
  inner: {memory: {}}
models:
  churn:
    task: binary
    positive_label: leave
    decision_threshold: 0.5
    label_map: {"true": leave, 0: stay}
    reference: {path: ref.parquet, order: time, columns: {score: p_leave, label: churned, weight: null}, ignore: [row_hash]}
    window: {size: 1h, min_rows: 50, max: 2d}
    lateness: 500ms
    features: {income: {kind: numeric, range: [0, 1e7], tolerate_sd: 0.2}}
    labels: {owner: growth}
    retraining: {mode: propose, target: airflow, cooldown: 24h}
    page_max_age: 6h
receivers:
  robot: {webhook: {url: http://hooks.internal:8000/drift, secret: {env: HOOK_SECRET}}}
  log: {log: {}}
routes:
  - {match: {severity: critical, team: risk}, receiver: robot}
  - {receiver: log}
retraining_targets:
  airflow: {webhook: {url: https://airflow.example/api, secret: {file: secret.txt}}}
retention: {windows: 400d, quarantine: 30d}
http: {listen: 0.0.0.0:8080, tokens: {admin: {env: DRIFTLINE_TOKEN}}}
"""


def test_the_whole_file_is_read(load, tmp_path):
    config = load(FULL)
    churn = config.models["churn"]
    assert (churn.window.size_ms, churn.window.min_rows, churn.window.max_ms) == (HOUR, 50, 2 * DAY)
    assert churn.labels == {"team": "risk", "owner": "growth"}
    assert churn.label_map == {"true": "leave", "0": "stay"}
    assert churn.features["income"].range == (0, 1e7)
    assert (churn.lateness_ms, churn.retraining.cooldown_ms, churn.retraining.target) == (500, DAY, "airflow")
    assert churn.reference.columns.roles() == {
        "id": "id", "timestamp": "timestamp", "version": "version", "prediction": "prediction", "score": "p_leave",
        "label": "churned", "label_timestamp": "label_timestamp", "weight": None,
    }  # fmt: skip
    live = config.sources["live"]
    assert isinstance(live, KafkaSource)
    assert (live.start, live.session_timeout_ms) == (1_767_225_600_000, 6_000)
    assert live.security.ca_file == str(tmp_path / "ca.pem")
    nightly = config.sources["nightly"]
    assert isinstance(nightly, FileSource)
    assert nightly.paths == (str(tmp_path / "scored/*.parquet"),)
    assert isinstance(config.sources["inner"], MemorySource)
    assert isinstance(config.receivers["robot"], Webhook)
    assert isinstance(config.receivers["log"], LogReceiver)
    assert [route.receiver for route in config.routes] == ["robot", "log"]
    assert config.retraining_targets["airflow"].secret == Secret("file", str(tmp_path / "secret.txt"))
    assert config.retention.windows_ms == 400 * DAY
    assert (config.http.host, config.http.port) == ("0.0.0.0", 8080)


def test_json_is_yaml_also_with_characters_beyond_16_bits(load):
    text = json.dumps(
        {"models": {"m": {"labels": {"team": "\U0001f600"}, "task": "binary", "positive_label": 1}}}, indent=1
    )
    assert "\\ud83d" in text
    assert load(text).models["m"].labels == {"team": "\U0001f600"}
    assert load(text).models["m"].positive_label == "1"


def test_a_program_can_make_one_up(tmp_path):
    config = parse_config({"models": {"m": {"window": "1h"}}, "sources": {"s": {"memory": {}}}}, tmp_path)
    assert config.models["m"].window.size_ms == HOUR
    assert config.store == f"sqlite:///{tmp_path.resolve()}/driftline.db"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("1", "1"),
        ("1.0", "1"),
        ('"1"', "1"),
        ("true", "true"),
        ('"true"', "true"),
        ("leave", "leave"),
        ('"01"', "01"),
        ("off", "off"),
    ],
)
def test_labels_have_one_spelling(load, written, read):
    assert model(load, f"{{positive_label: {written}}}").positive_label == read


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("500ms", 500), ("60s", 60_000), ("5m", 300_000), ("1h", HOUR), ("7d", 7 * DAY), ("0s", 0)],
)
def test_durations(text, milliseconds):
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("value", [60, 1.5, "60", "1w", "-1s", "1 h", "", None, True, "1h30m", "१s"])
def test_what_is_no_duration(value):
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


def test_words_that_other_yaml_takes_for_booleans_are_words(load):
    assert model(load, "{retraining: {mode: off}}").retraining.mode == "off"


def test_x_keys_are_ignored_everywhere_and_serve_as_anchors(load):
    config = load(
        "x-base: &base {window: 1h, x-note: hm}\nmodels:\n  a:\n    <<: *base\n    x-why: because\n    lateness: 1s\n"
    )
    assert config.models["a"].window.size_ms == HOUR
    assert config.models["a"].lateness_ms == 1000


def test_defaults_are_merged_deeply_under_every_model_and_its_own_value_wins(load):
    config = load(
        "defaults: {window: {size: 1h, min_rows: 10}, labels: {team: a}, reference: {order: time}, retraining: {target: t}}\n"
        "models: {m: {window: 6h, labels: {owner: b}, reference: {path: ref.parquet}}, n: {window: {min_rows: 20}, reference: {path: ref.parquet}, retraining: {mode: off}}}\n"
        "retraining_targets: {t: {webhook: {url: http://x/, secret: {env: A}}}}\n"
    )  # fmt: skip
    m, n = config.models["m"], config.models["n"]
    assert (m.window.size_ms, m.window.min_rows, m.labels) == (6 * HOUR, 10, {"team": "a", "owner": "b"})
    assert m.reference.order == "time"
    assert (n.window.size_ms, n.window.min_rows, n.retraining.mode, n.retraining.target) == (HOUR, 20, "off", "t")


def test_a_model_may_be_all_defaults(load):
    assert load("defaults: {window: 1h}\nmodels:\n  m:\n").models["m"].window.size_ms == HOUR


def test_what_defaults_leave_out_is_missing_in_the_model(errors):
    found = errors("defaults: {reference: {order: time}}\nmodels: {m: {}}")
    assert found == ["driftline.yaml:1:12: models.m.reference.path: is missing"]


@pytest.fixture
def included(tmp_path, load):
    def included(main, **parts):
        for name, text in parts.items():
            path = tmp_path / "models" / f"{name}.yaml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return load(main)

    return included


def test_included_models_take_paths_from_their_own_file(included, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/own.parquet").touch()
    config = included(
        "include: [models/*.yaml]\ndefaults: {window: 1h}\nmodels: {main: {reference: {path: ref.parquet}}}",
        a="models: {a: {reference: {path: own.parquet}}}",
        b="x-note: 1\nmodels: {b: {}}",
    )
    assert sorted(config.models) == ["a", "b", "main"]
    assert config.models["a"].reference.path == str(tmp_path / "models/own.parquet")
    assert config.models["a"].window.size_ms == HOUR


def test_includes_alone_are_enough(included):
    assert list(included("include: [models/*.yaml]", a="models: {a: {}}").models) == ["a"]


# --- what is wrong, and where


def test_all_errors_at_once_each_with_its_place(errors):
    text = """\
stroe: sqlite:///x.db
defaults: {latenes: 5m}
models:
  churn:
    task: binry
    window: 7h
    reference: {path: nowhere.parquet}
    features:
      income: {range: [1, 0]}
      age: {kind: text}
    joint: [region]
  other:
    retraining: {mode: auto, target: airflo}
sources:
  live: {kafka: {bootstrap_servers: localhost, topics: {a: canonical}, session_timeout: 10}}
  nightly: {file: {paths: [a.parquet], format: table, model: chrn}}
receivers: {robot: {webhook: {url: hooks, secret: hunter2}}}
routes: [{receiver: robt}]
retraining_targets: {airflow: {webhook: {url: "https://x/y", secret: {env: A}}}}
http: {listen: "0.0.0.0:80"}
"""
    found = errors(text)
    keys = "alerts, decision_threshold, false_alarms, features, label_map, labels, lateness, limits, maturity, monitors, outcomes, page_max_age, positive_label, reference, retraining, segments, task, window"
    assert found == [
        "driftline.yaml:1:1: stroe: unknown key (did you mean store?)",
        "driftline.yaml:2:12: defaults.latenes: unknown key (did you mean lateness?)",
        "driftline.yaml:5:11: models.churn.task: should be binary, multiclass, regression or unlabelled",
        "driftline.yaml:6:13: models.churn.window.size: should divide a day (such as 5m, 1h, 6h) or be whole days (1d, 7d)",
        f"driftline.yaml:7:23: models.churn.reference.path: no such file: {Path.cwd()}/nowhere.parquet (paths are relative to the file that names them)",
        "driftline.yaml:9:15: models.churn.features.income: range should be [smallest, largest]",
        "driftline.yaml:10:19: models.churn.features.age.kind: should be numeric, categorical or boolean",
        f"driftline.yaml:11:5: models.churn.joint: unknown key (known here: {keys})",
        "driftline.yaml:13:38: models.other.retraining.target: unknown retraining target airflo (did you mean airflow?)",
        "driftline.yaml:15:37: sources.live.kafka.bootstrap_servers: should be a list (write [a, b])",
        "driftline.yaml:15:89: sources.live.kafka.session_timeout: is not a duration (write 500ms, 60s, 5m, 1h or 7d)",
        "driftline.yaml:16:62: sources.nightly.file.model: unknown model chrn (did you mean churn?)",
        "driftline.yaml:17:36: receivers.robot.webhook.url: should be a URL that starts with http:// or https://",
        "driftline.yaml:17:51: receivers.robot.webhook.secret: a secret is not written here (write {env: NAME} or {file: PATH})",
        "driftline.yaml:18:21: routes.0.receiver: unknown receiver robt (did you mean robot?)",
        "driftline.yaml:20:7: http: listening on 0.0.0.0 beyond this machine needs a token (add tokens: {admin: {env: DRIFTLINE_TOKEN}}, or listen on 127.0.0.1)",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "driftline.yaml:1:1: is empty (start with `models:`)"),
        ("[1]", "driftline.yaml:1:1: should be a mapping (start with `models:`)"),
        ("models: {}", "driftline.yaml:1:9: models: should not be empty (name at least one model)"),
        ("sources: {s: {memory: {}}}", "driftline.yaml:1:1: models: is missing (name at least one model)"),
        ("models: {m: {}}\nmodels: {n: {}}", "driftline.yaml:2:1: models: is given twice (the first is in line 1; remove one)"),
        ("models: {m: {window: 1h, window: 2h}}", "driftline.yaml:1:26: models.m.window: is given twice (the first is in line 1; remove one)"),
        ("models: {m: {}}\nroutes: [{match: {version: 7}, receiver: r}]\nreceivers: {r: {log: {}}}", "driftline.yaml:2:28: routes.0.match.version: should be text (write it in quotes)"),
        ("models: {m: {reference: {path: ref.parquet, columns: {version: 7}}}}", "driftline.yaml:1:64: models.m.reference.columns.version: should be text (write it in quotes)"),
        ("models: {m: {labels: {model: x}}}", "driftline.yaml:1:22: models.m.labels: model: set by Driftline itself; choose another name"),
        ("models: {m: {labels: {a-b: x}}}", "driftline.yaml:1:23: models.m.labels.a-b: has characters that are not allowed here"),
        ("models: {m: {task: regression, positive_label: 1}}", "driftline.yaml:1:13: models.m: a regression model has no positive_label"),
        ("models: {m: {retraining: {}}}", "driftline.yaml:1:26: models.m.retraining: names no target"),
        ("models: {m: {window: 10ms}}", "driftline.yaml:1:22: models.m.window.size: should be at least 1s"),
        ("models: {m: {window: {size: 2d, max: 1d}}}", "driftline.yaml:1:22: models.m.window: max should not be shorter than size"),
        ("models: {m: {decision_threshold: .nan}}", "driftline.yaml:1:34: models.m.decision_threshold: should be a finite number"),
        ("models: {m: {}}\nsources: {s: {kafka: {bootstrap_servers: [a], topics: {}}}}", "driftline.yaml:2:55: sources.s.kafka.topics: should not be empty"),
        ("models: {m: {}}\nsources: {s: {}}", "driftline.yaml:2:14: sources.s: should hold exactly one of: kafka, file, memory"),
        ("models: {m: {}}\nsources: {s: {file: {paths: [a], format: table}}}", "driftline.yaml:2:21: sources.s.file: format: table needs the model that scored the rows (add model: NAME)"),
        ("models: {m: {}}\nstore: mysql://x", "driftline.yaml:2:8: store: should be sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"),
        ("models: {m: {}}\ninclude: [more/*.yaml]", "driftline.yaml:2:11: include.0: more/*.yaml matches no file (paths are relative to this file)"),
        ("models: [", "driftline.yaml:2:1: is not YAML: while parsing a flow node did not find expected node content"),
        ("models: {m: {}}\n---\nmodels: {}", "driftline.yaml:2:1: is not YAML: expected a single document in the stream but found another document"),
        ("models: &a {m: *a}", "driftline.yaml:1:9: is not YAML: an anchor contains itself"),
        ("models: {m: !!python/object:os.system {}}", None),
        ("models: {m: {}}\nreceivers: {retraining: {log: {}}}", "driftline.yaml:2:13: receivers.retraining: stands for what was decided about retraining (choose another name)"),
        ("models: {m: {}}\nretraining_targets: {r: {webhook: {url: http://x/, secret: {env: A}}}}\nreceivers: {r: {log: {}}}", "driftline.yaml:2:22: retraining_targets.r: is the name of a receiver too (choose another name)"),
        ("models: {m: {}}\nsources: {s: {kafka: {bootstrap_servers: [a], topics: {t: canonical}, security: {protocol: SASL_SSL, username: u}}}}", "driftline.yaml:2:81: sources.s.kafka.security: protocol SASL_SSL needs mechanism, password"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_line(errors, text, line):
    found = errors(text)
    assert len(found) == 1
    assert line is None or found[0].startswith(line), found
    assert found[0].startswith("driftline.yaml:")


def test_a_mistake_in_an_included_file_names_that_file(included):
    with pytest.raises(UserError) as caught:
        included(
            "include: [models/*.yaml]\nmodels: {m: {}}",
            a="models:\n  m: {}\n",
            b="models: {b: {windw: 1h}}\nstore: x\n",
            c="- 1",
        )
    assert str(caught.value).splitlines() == [
        "models/a.yaml:2:3: models.m: this model is configured twice (the other is at driftline.yaml:2:10; rename or remove one)",
        "models/b.yaml:1:14: models.b.windw: unknown key (did you mean window?)",
        "models/b.yaml:2:1: store: an included file holds `models:` and nothing else",
        "models/c.yaml:1:1: an included file holds `models:` and nothing else",
    ]


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"^.*nope.yaml: no such configuration file \(.*\)$"):
        load_config(tmp_path / "nope.yaml")


def test_deep_nesting_is_an_error_and_no_crash(errors):
    assert len(errors("[" * 5000)) == 1
    assert len(errors("{a: " * 900)) == 1


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "127.8.0.1:1", "localhost:8080", "[::1]:8080"])
def test_this_machine_needs_no_token(load, listen):
    assert load(f"models: {{m: {{}}}}\nhttp: {{listen: '{listen}'}}").http.port


@pytest.mark.parametrize("listen", ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080", "example.org:80"])
def test_others_need_one(errors, listen):
    assert "needs a token" in errors(f"models: {{m: {{}}}}\nhttp: {{listen: '{listen}'}}")[0]


# --- secrets


def test_a_secret_is_read_at_use_and_never_shown(monkeypatch, tmp_path):
    secret = Secret.parse({"env": "DRIFTLINE_TEST_SECRET"})
    monkeypatch.delenv("DRIFTLINE_TEST_SECRET", raising=False)
    with pytest.raises(UserError, match="DRIFTLINE_TEST_SECRET is not set"):
        secret.reveal()
    monkeypatch.setenv("DRIFTLINE_TEST_SECRET", "hunter2")
    assert secret.reveal() == "hunter2"
    assert "hunter2" not in f"{secret!r} {secret}"
    (tmp_path / "key").write_text("hunter3\n")
    assert Secret.parse({"file": str(tmp_path / "key")}).reveal() == "hunter3"
    with pytest.raises(UserError, match="cannot be read"):
        Secret.parse({"file": str(tmp_path / "none")}).reveal()


def test_no_error_shows_a_secret_that_was_written_into_the_file(errors):
    for value in ("hunter2", "{env: hunter2, file: x}", "[hunter2]", "{enw: hunter2}"):
        found = errors(f"models: {{m: {{}}}}\nreceivers: {{r: {{webhook: {{url: http://x/, secret: {value}}}}}}}")
        assert "hunter2" not in "".join(found)


def test_the_password_of_a_store_is_not_in_the_representation(load):
    assert "hunter2" not in repr(load("models: {m: {}}\nstore: postgresql://u:hunter2@h/d"))


# --- columns, schema


def test_columns_of_a_source_lie_over_those_of_the_reference():
    base = Columns.model_validate({"score": "p", "timestamp": "at"})
    assert Columns.model_validate({"timestamp": "scored_at"}).over(base).roles()["timestamp"] == "scored_at"
    assert Columns.model_validate({"timestamp": "scored_at"}).over(base).roles()["score"] == "p"


def test_the_committed_schema_is_up_to_date():
    committed = (ROOT / "driftline.schema.json").read_text()
    assert committed == config_schema(), "run: python -m monitor.schema_json > driftline.schema.json"


def test_the_schema_knows_short_forms_and_free_keys():
    schema = json.loads(config_schema())
    assert schema["$defs"]["Model"]["properties"]["window"]["anyOf"][0]["type"] == "string"
    assert schema["$defs"]["Model"]["patternProperties"] == {"^x-": {}}
    assert "required" not in schema["$defs"]["ReferenceConfigDefaults"]


# --- the shapes that the acceptance programs write

REFERENCE = {"path": "ref.parquet", "order": "time"}
SHAPES = [
    {"models": {f"m{i}": {"task": "binary", "positive_label": 1, "window": "1h", "page_max_age": "48h", "reference": REFERENCE} for i in range(4)},
     "sources": {"file": {"file": {"paths": ["events.jsonl"]}}}, "receivers": {"hook": {"webhook": {"url": "http://127.0.0.1:1/", "secret": {"env": "HOOK"}}}}, "routes": [{"receiver": "hook"}]},
    {"models": {"e": {"task": "binary", "positive_label": 1, "window": "1d", "reference": REFERENCE | {"columns": {"score": "p", "label": "employed"}, "ignore": ["year"]}}},
     "sources": {"live": {"kafka": {"bootstrap_servers": ["127.0.0.1:9"], "group_id": "accept", "topics": {"ml.predictions": "canonical"}, "session_timeout": "6s"}}}},
    {"models": {"e": {}}, "sources": {"file": {"file": {"paths": ["/abs/mixed.jsonl"], "format": "canonical"}}}},
    {"models": {"m": {"task": "binary", "positive_label": 1, "window": "1h", "reference": {"path": "ref.parquet", "order": "unknown"}}}},
]  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_what_programs_write_loads(load, shape, tmp_path):
    assert load(json.dumps({"store": f"sqlite:///{tmp_path}/driftline.db", **shape}, indent=1)).models
