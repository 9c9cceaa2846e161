from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.delivery import Delivered, GaveUp, Retry
from alerts.retraining import RetrainingStatus
from alerts.retraining_presets import (
    FACTS,
    PRESETS,
    airflow3,
    databricks,
    github_dispatch,
    github_workflow,
    kubernetes_job,
)
from alerts.retraining_targets import (
    Auth,
    Poll,
    Target,
    can_poll,
    poll_request,
    read_answer,
    read_poll,
    render,
    token_of,
    token_request,
    values,
)

ID = "0123456789abcdef0123456789abcdef"
REQUEST = {
    "id": ID,
    "model": "churn",
    "version": None,
    "reason": 'a "b" {{ request.id }}\n',
    "at": "2026-11-25T10:00:00Z",
}
KNOWN = values(
    request=REQUEST,
    callback_url="https://us.example/api/v1/retraining/x/events",
    callback_token="tok",
    alert={"subject": "age"},
)
SECRET = "s3cret-value"


def body(target: Target, known=KNOWN) -> object:
    return json.loads(render(target, known, SECRET, SECRET).body)


# -- blanks


def test_a_text_that_is_one_blank_takes_the_value_with_its_type() -> None:
    template = {
        "a": "{{ request.version }}",
        "b": "v{{ request.version }}",
        "c": ["{{request.id}}", 1, None, True],
        "d": {"e": "{{ request.version | text }}"},
    }
    assert body(Target(url="https://x", body=template)) == {
        "a": None,
        "b": "v",
        "c": [ID, 1, None, True],
        "d": {"e": ""},
    }


def test_a_value_cannot_break_out_of_its_place() -> None:
    assert body(Target(url="https://x", body={"r": "<{{ request.reason }}>"})) == {"r": f"<{REQUEST['reason']}>"}
    hostile = {**KNOWN, "request.model": "../a?b=c#d/é"}
    assert (
        render(Target(url="https://x/m/{{ request.model }}/y"), hostile).url
        == "https://x/m/..%2Fa%3Fb%3Dc%23d%2F%C3%A9/y"
    )
    for wrong in ("a\r\nx: y", "a\nb", "é"):
        with pytest.raises(ValueError, match="header"):
            render(Target(url="https://x", headers={"x-m": "{{ request.model }}"}), {**KNOWN, "request.model": wrong})


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_value_arrives_as_it_was(text) -> None:
    known = {**KNOWN, "request.reason": text}
    assert body(Target(url="https://x", body=["{{ request.reason }}", "{{ request.reason | text }}"]), known) == [
        text,
        text,
    ]
    if text.encode("utf-8", "ignore").decode() == text:
        form = render(Target(url="https://x", body={"k": "{{ request.reason }}"}, form=True), known)
        assert parse_qs(form.body.decode(), keep_blank_values=True) == {"k": [text]}
        assert urlsplit(render(Target(url="https://x/{{ request.reason }}"), known).url).netloc == "x"


@pytest.mark.parametrize("place", ["url", "headers", "body"])
def test_a_blank_that_is_not_known_is_an_error_that_names_it(place) -> None:
    blank = "{{ request.nothing }}"
    kinds = {
        "url": {"url": blank},
        "headers": {"url": "u", "headers": {"a": blank}},
        "body": {"url": "u", "body": [blank]},
    }
    with pytest.raises(ValueError, match=r"request\.nothing.*request\.model"):
        render(Target(**kinds[place]), KNOWN)


def test_a_form_is_form_encoded() -> None:
    found = render(
        Target(
            url="https://x", form=True, body={"token": "{{ callback.token }}", "variables[M]": "{{ request.model }} é"}
        ),
        KNOWN,
    )
    assert found.headers["content-type"] == "application/x-www-form-urlencoded"
    assert parse_qs(found.body.decode()) == {"token": ["tok"], "variables[M]": ["churn é"]}
    with pytest.raises(ValueError, match="mapping"):
        render(Target(url="https://x", form=True, body=["a"]), KNOWN)


def test_a_repr_shows_no_secret() -> None:
    target = Target(url="https://x", body={"t": "{{ callback.token }}"}, auth=Auth(mode="bearer"))
    shown = repr(render(target, {**KNOWN, "callback.token": "hidden"}, SECRET))
    assert SECRET not in shown
    assert "hidden" not in shown


# -- auth


@pytest.mark.parametrize(
    ("auth", "secret", "token", "wanted"),
    [
        (Auth(), None, None, None),
        (Auth(mode="bearer"), "s\n", None, "Bearer s"),
        (Auth(mode="basic", user="u"), "p:w", None, "Basic " + base64.b64encode(b"u:p:w").decode()),
        (Auth(mode="login", user="u"), "p", "t", "Bearer t"),
        (Auth(mode="client", user="u"), "p", "t", "Bearer t"),
    ],
)
def test_auth_modes(auth, secret, token, wanted) -> None:
    assert render(Target(url="https://x", auth=auth), KNOWN, secret, token).headers.get("authorization") == wanted


def test_a_secret_may_be_a_header_of_its_own() -> None:
    target = Target(url="https://x", auth=Auth(mode="header", name="X-Api-Key"))
    assert render(target, KNOWN, "s").headers["x-api-key"] == "s"


@pytest.mark.parametrize("secret", [None, "", "s3cr\net"])
def test_a_secret_that_is_missing_or_cannot_be_sent_is_not_shown(secret) -> None:
    with pytest.raises(ValueError) as error:
        render(Target(url="https://x", auth=Auth(mode="bearer")), KNOWN, secret)
    assert "s3cr" not in str(error.value)


def test_a_token_is_fetched_by_login_or_as_a_client() -> None:
    login = token_request(Auth(mode="login", user="u", token_url="https://a/auth/token"), "p")
    assert (login.method, login.url, json.loads(login.body)) == (
        "POST",
        "https://a/auth/token",
        {"username": "u", "password": "p"},
    )
    client = token_request(Auth(mode="client", user="u", token_url="https://a/t", scope="s"), "p")
    assert parse_qs(client.body.decode()) == {"grant_type": ["client_credentials"], "scope": ["s"]}
    assert client.headers["authorization"] == "Basic " + base64.b64encode(b"u:p").decode()
    with pytest.raises(ValueError):
        token_request(Auth(mode="bearer"), "p")
    assert token_of(b'{"access_token":"t"}') == "t"
    assert [token_of(wrong) for wrong in (b"", b"{}", b'{"access_token":1}', b'{"access_token":""}', b"[]")] == [
        None
    ] * 5


# -- answers


def test_the_run_is_read_out_of_the_answer() -> None:
    target = Target(url="https://x", run_id="/a/0/b~1c", run_url="header:Location")
    answer = read_answer(target, 201, {"location": "https://x/run/5"}, b'{"a":[{"b/c":5}]}', 0)
    assert (answer.outcome, answer.run_id, answer.run_url) == (Delivered(), "5", "https://x/run/5")
    for strange in (
        b"",
        b"[]",
        b'{"a":{}}',
        b'{"a":[]}',
        b'{"a":[{"b/c":{}}]}',
        b'{"a":[{"b/c":"x\\ny"}]}',
        b'{"a":[{"b/c":"' + b"x" * 201 + b'"}]}',
    ):
        assert read_answer(target, 200, {}, strange, 0).run_id is None


def test_a_target_that_answers_200_to_everything_needs_a_pointer() -> None:
    target = Target(
        url="https://x",
        success=("/data/launchRun/__typename", ("LaunchRunSuccess",)),
        run_id="/id",
        repeated=frozenset({409}),
    )
    good = b'{"data":{"launchRun":{"__typename":"LaunchRunSuccess"}},"id":"r"}'
    assert read_answer(target, 200, {}, good, 0).run_id == "r"
    bad = read_answer(target, 200, {}, b'{"data":{"launchRun":{"__typename":"PythonError","message":"secret"}}}', 0)
    assert isinstance(bad.outcome, GaveUp)
    assert "secret" not in bad.outcome.error
    assert isinstance(read_answer(target, 200, {}, b"<html>", 0).outcome, GaveUp)
    assert read_answer(target, 409, {}, b"", 0).outcome == Delivered()


def test_failures_are_what_they_are_for_every_message() -> None:
    target = Target(url="https://x", run_id="/id")
    assert isinstance(read_answer(target, 503, {}, b'{"id":"r"}', 0).outcome, Retry)
    assert read_answer(target, 503, {}, b'{"id":"r"}', 0).run_id is None
    assert isinstance(read_answer(target, 409, {}, b"", 0).outcome, GaveUp)
    assert isinstance(read_answer(target, 302, {}, b"", 0).outcome, GaveUp)


def test_a_run_can_be_asked_for() -> None:
    poll = Poll(
        url="https://x/{{ run.id }}",
        pointers=("/a", "/b"),
        states={"ok": RetrainingStatus.SUCCEEDED, "go": RetrainingStatus.RUNNING},
    )
    target = Target(url="https://x", poll=poll, auth=Auth(mode="bearer"))
    asked = poll_request(target, KNOWN, "a/b", SECRET)
    assert asked is not None
    assert (asked.method, asked.url, asked.headers["authorization"]) == ("GET", "https://x/a%2Fb", f"Bearer {SECRET}")
    assert read_poll(target, 200, b'{"a":null,"b":"go"}') is RetrainingStatus.RUNNING
    assert read_poll(target, 200, b'{"a":"ok","b":"go"}') is RetrainingStatus.SUCCEEDED
    assert read_poll(target, 200, b'{"a":"new word"}') is None
    assert isinstance(read_poll(target, 500, b""), Retry)
    assert read_poll(Target(url="https://x"), 200, b"{}") is None
    assert poll_request(Target(url="https://x"), KNOWN, "r") is None


@pytest.mark.parametrize(
    ("url", "without", "with_it"),
    [("https://x/{{ request.id }}", True, True), ("https://x/{{run.id}}/{{ request.id }}", False, True)],
)
def test_a_run_is_asked_for_by_its_own_name_only_where_the_target_told_it(url: str, without, with_it) -> None:
    target = Target(url="https://x", poll=Poll(url=url, pointers=("/a",), states={}))
    assert (can_poll(target, None), can_poll(target, "r")) == (without, with_it)
    assert (poll_request(target, KNOWN, None) is not None) == without
    assert not can_poll(Target(url="https://x"), "r")


# -- presets

FILLED = {
    "request_id": ID,
    "model": "churn",
    "version": None,
    "reason": REQUEST["reason"],
    "callback_url": KNOWN["callback.url"],
    "callback_token": "tok",
}
TEXTS = {name: value or "" for name, value in FILLED.items()}
PLAIN = {
    "airflow3": {"url": "https://a.example/", "dag": "retrain"},
    "databricks": {"url": "https://d.example", "job_id": 5},
    "github_dispatch": {"owner": "o", "repository": "r"},
    "github_workflow": {"owner": "o", "repository": "r", "workflow": "train.yml"},
    "kubernetes_job": {"url": "https://k.example", "namespace": "ml", "image": "train:1"},
}


def test_airflow_3_takes_these_keys_and_no_others() -> None:
    target = airflow3(url="https://a.example/", dag="retrain", auth=Auth(mode="login", user="u"))
    found = render(target, KNOWN, "p", "jwt")
    assert (found.method, found.url, found.headers["authorization"]) == (
        "POST",
        "https://a.example/api/v2/dags/retrain/dagRuns",
        "Bearer jwt",
    )
    assert json.loads(found.body) == {"dag_run_id": ID, "logical_date": None, "conf": FILLED}
    assert target.auth.token_url == "https://a.example/auth/token"
    assert read_answer(target, 200, {}, json.dumps({"dag_run_id": ID, "state": "queued"}).encode(), 0).run_id == ID
    assert read_answer(target, 409, {}, b"{}", 0).outcome == Delivered()
    asked = poll_request(target, KNOWN, ID, None, "jwt")
    assert asked is not None
    assert asked.url == f"https://a.example/api/v2/dags/retrain/dagRuns/{ID}"
    assert read_poll(target, 200, b'{"state":"failed"}') is RetrainingStatus.FAILED


def test_github_dispatches() -> None:
    event = render(github_dispatch(owner="o", repository="r", event="go"), KNOWN, "t")
    assert event.url == "https://api.github.com/repos/o/r/dispatches"
    assert json.loads(event.body) == {"event_type": "go", "client_payload": FILLED}
    assert len(FACTS) <= 10
    flow = render(github_workflow(owner="o", repository="r", workflow="train.yml", ref="v1"), KNOWN, "t")
    assert flow.url == "https://api.github.com/repos/o/r/actions/workflows/train.yml/dispatches"
    assert json.loads(flow.body) == {"ref": "v1", "inputs": TEXTS}
    assert flow.headers["authorization"] == "Bearer t"
    assert "user-agent" in flow.headers
    with pytest.raises(ValueError, match="100"):
        github_dispatch(owner="o", repository="r", event="x" * 101)


def test_databricks_starts_exactly_one_run() -> None:
    target = databricks(url="https://d.example", job_id=5)
    found = json.loads(render(target, KNOWN, "t").body)
    assert found == {"job_id": 5, "job_parameters": TEXTS, "idempotency_token": ID}
    assert len(found["idempotency_token"]) <= 64
    assert read_answer(target, 200, {}, b'{"run_id":77}', 0).run_id == "77"
    asked = poll_request(target, KNOWN, "77", "t")
    assert asked is not None
    assert asked.url == "https://d.example/api/2.2/jobs/runs/get?run_id=77"
    running, done = (
        b'{"state":{"life_cycle_state":"RUNNING"}}',
        b'{"state":{"life_cycle_state":"TERMINATED","result_state":"SUCCESS"}}',
    )
    assert [read_poll(target, 200, answer) for answer in (running, done)] == [
        RetrainingStatus.RUNNING,
        RetrainingStatus.SUCCEEDED,
    ]


def test_a_kubernetes_job_has_the_name_of_its_request() -> None:
    target = kubernetes_job(
        url="https://k.example/", namespace="ml", image="train:1", command=["go"], service_account="sa"
    )
    found = render(target, KNOWN, "t")
    manifest = json.loads(found.body)
    assert found.url == "https://k.example/apis/batch/v1/namespaces/ml/jobs"
    assert manifest["metadata"]["name"] == f"driftline-{ID}"
    assert len(manifest["metadata"]["name"]) <= 63
    pod = manifest["spec"]["template"]["spec"]
    assert (pod["restartPolicy"], pod["serviceAccountName"], pod["containers"][0]["command"]) == ("Never", "sa", ["go"])
    assert {e["name"]: e["value"] for e in pod["containers"][0]["env"]} == {
        f"DRIFTLINE_{k.upper()}": v for k, v in TEXTS.items()
    }
    assert read_answer(target, 409, {}, b'{"kind":"Status"}', 0).outcome == Delivered()
    assert read_poll(target, 200, b'{"status":{"active":1}}') is RetrainingStatus.RUNNING
    both = b'{"status":{"conditions":[{"type":"SuccessCriteriaMet"},{"type":"Complete"}]}}'
    assert read_poll(target, 200, both) is RetrainingStatus.SUCCEEDED
    assert read_poll(target, 200, b'{"status":{"conditions":[{"type":"Failed"}]}}') is RetrainingStatus.FAILED


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_renders_and_names_the_request_and_the_way_back(name) -> None:
    target = PRESETS[name](**PLAIN[name])
    text = render(target, KNOWN, "t").body.decode()
    assert ID in text
    assert "tok" in text
    assert "{{" not in text.replace("{{ request.id }}\\n", "")  # that one is part of the reason, and stays as it was


@pytest.mark.parametrize("wrong", ["", "..", "a/b", "a?b", "a b", "é", "{{ x }}"])
def test_a_name_that_would_change_the_path_is_refused(wrong) -> None:
    for build in (
        lambda: airflow3(url="https://a", dag=wrong),
        lambda: github_workflow(owner="o", repository="r", workflow=wrong),
        lambda: github_dispatch(owner=wrong, repository="r"),
        lambda: kubernetes_job(url="https://k", namespace=wrong, image="i"),
    ):
        with pytest.raises(ValueError, match="path"):
            build()
