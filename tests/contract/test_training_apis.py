"""Requests by every kind of target, taken by APIs that refuse what the real ones refuse."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from alerts.delivery import Delivered, GaveUp, Retry
from alerts.envelope import rfc3339
from alerts.retraining import RetrainingStatus, render_request
from alerts.retraining_run import is_token_of
from monitor.config import Config, parse_config
from monitor.config.receivers import Egress
from monitor.errors import UserError
from monitor.retraining.targets import HttpRequest, target_notifier
from tests.parts.broker import make_certificates
from tests.parts.training_apis import Airflow3, Databricks, GitHub, Kubernetes, serving

ID = "0123456789abcdef0123456789abcdef"
NOW = 1_767_571_200_000
ALERT = {"type": "alert", "id": "a1", "subject": "income", "segment": {"region": "north"}, "at": rfc3339(NOW)}
FACTS = {
    "type": "retraining", "id": ID, "model": "churn", "status": "requested", "at": rfc3339(NOW), "reason": "income has moved",
    "version": None,
}  # fmt: skip
BODY = render_request(NOW, {**FACTS, "alert": ALERT})
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
CALLBACK_SECRET = "a-secret-of-the-call-backs-long-enough"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.setenv("CALLBACK", CALLBACK_SECRET)


def config(target: Mapping[str, Any], *, callback: bool = True) -> Config:
    document: dict[str, Any] = {"models": {"churn": {"task": "unlabelled"}}, "retraining_targets": {"it": target}}
    if callback:
        secret = {"env": "CALLBACK"}
        document["http"] = {"listen": "127.0.0.1:8080"}
        document["retraining"] = {"callback": {"url": "https://drift.example/base/", "secret": secret}}
    return parse_config(document, base_dir=Path())


def made(target: Mapping[str, Any], *, callback: bool = True):
    whole = config(target, callback=callback)
    return target_notifier("it", whole.retraining_targets["it"], whole)


def http_request(target: Mapping[str, Any]) -> HttpRequest:
    found = made(target)
    assert isinstance(found, HttpRequest)
    return found


def send(notifier):
    return notifier.send(ID, BODY, NOW)


# -- the signed webhook


def hook(**more: Any) -> Mapping[str, Any]:
    return {"webhook": {"url": "http://127.0.0.1:9/x", "secret": {"env": "HOOK"}, **more}}


def test_a_signed_request_is_the_retraining_object_and_verified_by_the_standards_own_library() -> None:
    now_ms = time.time_ns() // 1_000_000  # the library refuses old timestamps
    with serving(lambda asked: (202, None)) as (url, asked):
        assert made(hook(url=url), callback=False).send(ID, BODY, now_ms) == Delivered()
    (one,) = asked
    assert one.body == render_request(NOW, FACTS), "byte for byte, without what other targets are told"
    assert Webhook(SECRET).verify(one.body, dict(one.headers)) == json.loads(one.body)
    assert one.headers["webhook-id"] == ID
    for changed, headers in (
        (one.body.replace(b"churn", b"fraud"), one.headers),
        (one.body, {**one.headers, "webhook-id": "x"}),
    ):
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(changed, dict(headers))


def test_a_signed_request_says_where_to_report_to_with_a_token_of_its_own() -> None:
    with serving(lambda asked: (202, None)) as (url, asked):
        send(made(hook(url=url)))
        send(made(hook(url=url)))
    first, again = asked
    assert first.body == again.body, "the same bytes in every attempt"
    told = json.loads(first.body)["data"]["callback"]
    assert told["url"] == f"https://drift.example/base/api/v1/retraining/{ID}/events"
    assert is_token_of(ID, told["token"], [CALLBACK_SECRET.encode()])
    assert not is_token_of(ID.replace("0", "1"), told["token"], [CALLBACK_SECRET.encode()])


def test_a_secret_is_read_for_each_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    other = "whsec_" + base64.b64encode(b"n" * 32).decode()
    with serving(lambda asked: (202, None)) as (url, asked):
        notifier = made(hook(url=url), callback=False)
        monkeypatch.setenv("HOOK", other)
        notifier.send(ID, BODY, time.time_ns() // 1_000_000)
        monkeypatch.delenv("HOOK")
        missing = notifier.send(ID, BODY, NOW)
    assert Webhook(other).verify(asked[0].body, dict(asked[0].headers))
    assert isinstance(missing, Retry), "a file that is being replaced is there again in a moment"
    assert "HOOK is not set" in missing.error
    assert len(asked) == 1


def test_what_cannot_work_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBACK", "short")
    with pytest.raises(UserError, match=r"retraining target it: retraining.callback.secret: .*24 bytes"):
        made(hook())
    monkeypatch.setenv("HOOK", "no secret of the standard")
    with pytest.raises(UserError, match="retraining target it: a webhook secret begins with whsec_"):
        made(hook(), callback=False)


# -- the presets


def test_airflow_is_logged_into_and_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Airflow3()
    monkeypatch.setenv("AIRFLOW", api.password)
    with serving(api) as (url, asked):
        target = {
            "airflow3": {
                "url": url,
                "dag": "retrain",
                "auth": {"mode": "login", "user": api.user},
                "secret": {"env": "AIRFLOW"},
            }
        }
        notifier = http_request(target)
        assert send(notifier) == Delivered(run_id=ID)
        assert isinstance(send(notifier), Delivered), "it answers 409 to the copy"
        assert list(api.runs) == [ID]
        conf = api.runs[ID]["conf"]
        assert (conf["model"], conf["version"], conf["request_id"]) == ("churn", None, ID)
        assert is_token_of(ID, conf["callback_token"], [CALLBACK_SECRET.encode()])
        said = []
        for state in ("queued", "running", "success", "failed", "a new word"):
            api.runs[ID]["state"] = state
            said.append(notifier.poll(FACTS, None))
        assert said == ["accepted", "running", "succeeded", "failed", None]
        monkeypatch.setenv("AIRFLOW", "wrong")
        refused = send(notifier)
        unanswered = notifier.poll(FACTS, None)
    assert isinstance(refused, GaveUp)
    assert refused.error == f"no token from {url.removeprefix('http://')}: answered HTTP 401: the request was refused"
    assert isinstance(unanswered, GaveUp)
    assert "wrong" not in repr((refused, unanswered))
    assert all(api.password not in one.path for one in asked)


def test_databricks_runs_once_and_is_asked_by_its_own_id(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Databricks()
    monkeypatch.setenv("DATABRICKS", api.token)
    with serving(api) as (url, _):
        notifier = http_request({"databricks": {"url": url, "job_id": 7, "secret": {"env": "DATABRICKS"}}})
        assert send(notifier) == send(notifier) == Delivered(run_id="900")
        assert (notifier.can_poll(None), notifier.can_poll("900")) == (False, True)
        assert notifier.poll(FACTS, None) is None
        assert notifier.poll(FACTS, "900") is RetrainingStatus.ACCEPTED
        api.states[900] = {"life_cycle_state": "TERMINATED", "result_state": "SUCCESS"}
        assert notifier.poll(FACTS, "900") is RetrainingStatus.SUCCEEDED
        assert isinstance(notifier.poll(FACTS, "1"), Retry)


@pytest.mark.parametrize(("kind", "more"), [("github_dispatch", {}), ("github_workflow", {"workflow": "train.yml"})])
def test_github_is_dispatched_to(monkeypatch: pytest.MonkeyPatch, kind: str, more: dict[str, str]) -> None:
    api = GitHub()
    monkeypatch.setenv("GITHUB_SECRET", api.token)
    with serving(api) as (url, _):
        target = {"owner": "acme", "repository": "models", "api": url, "secret": {"env": "GITHUB_SECRET"}, **more}
        notifier = http_request({kind: target})
        assert send(notifier) == Delivered()
        assert not notifier.can_poll("x")
    (started,) = api.started
    told = started.get("client_payload") or started.get("inputs")
    assert told["request_id"] == ID


def test_a_kubernetes_job_is_there_once_and_its_token_is_read_each_time(tmp_path) -> None:
    api, file = Kubernetes(), tmp_path / "token"
    file.write_text(api.token + "\n")
    with serving(api) as (url, _):
        target = {"url": url, "namespace": "ml", "image": "acme/train:1", "secret": {"file": str(file)}}
        notifier = http_request({"kubernetes_job": target})
        name = f"driftline-{ID}"
        assert send(notifier) == Delivered(run_id=name)
        assert isinstance(send(notifier), Delivered)
        said = [notifier.poll(FACTS, None)]
        for status in ({"active": 1}, {"conditions": [{"type": "SuccessCriteriaMet"}, {"type": "Complete"}]}):
            api.jobs[name]["status"] = status
            said.append(notifier.poll(FACTS, name))
        assert said == [None, "running", "succeeded"]
        api.token = "the next token"
        assert isinstance(send(notifier), GaveUp)
        file.write_text(api.token)
        assert isinstance(send(notifier), Delivered)


def test_a_cluster_has_an_authority_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    api, ca_file = Kubernetes(), make_certificates(tmp_path)
    monkeypatch.setenv("ACCOUNT", api.token)
    with serving(api, tmp_path / "broker.pem") as (url, _):
        target = {"url": url, "namespace": "ml", "image": "acme/train:1", "secret": {"env": "ACCOUNT"}}
        stranger = send(http_request({"kubernetes_job": target}))
        assert isinstance(stranger, Retry)
        assert "CERTIFICATE_VERIFY_FAILED" in stranger.error
        notifier = http_request({"kubernetes_job": target | {"ca_file": str(ca_file)}})
        assert isinstance(send(notifier), Delivered)
        ca_file.unlink()
        assert send(notifier) == Retry(None, "ca_file cannot be read")
    with pytest.raises(UserError, match="retraining target it: ca_file cannot be read: No such file"):
        http_request({"kubernetes_job": target | {"ca_file": str(ca_file)}})


# -- by hand


def test_a_form_with_the_cause_and_an_answer_that_is_200_to_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "k3y")
    answers = [{"data": {"kind": "Failure"}}, {"data": {"kind": "Started", "run": 5, "url": "https://runs.example/5"}}]
    with serving(lambda asked: (200, answers.pop(0))) as (url, asked):
        target = {
            "url": url + "/m/{{ request.model }}", "method": "PUT", "form": True,
            "body": {"what": "{{ alert.subject }} in {{ alert.segment }}", "name": "{{ request.name }}"},
            "auth": {"mode": "header", "name": "X-Key"}, "secret": {"env": "KEY"},
            "success": {"pointer": "/data/kind", "values": ["Started"]}, "run_id": "/data/run", "run_url": "/data/url",
        }  # fmt: skip
        notifier = http_request({"http": target})
        assert isinstance(send(notifier), GaveUp)
        assert send(notifier) == Delivered("5", "https://runs.example/5")
    assert (asked[0].method, asked[0].path, asked[0].headers["x-key"]) == ("PUT", "/m/churn", "k3y")
    assert asked[0].body == f"what=income+in+region%3Dnorth&name=driftline-{ID}".encode()


def test_a_redirect_a_fault_and_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [307, 503]
    with serving(lambda asked: (answers.pop(0), None)) as (url, asked):
        notifier = http_request({"http": {"url": url, "body": {"id": "{{ request.id }}"}}})
        outcomes = [send(notifier), send(notifier)]
    assert [type(outcome) for outcome in outcomes] == [GaveUp, Retry]
    assert isinstance(send(notifier), Retry), "it has stopped listening"
    assert len(asked) == 2


def test_private_addresses_may_be_closed() -> None:
    whole = config({"http": {"url": "http://127.0.0.1:9/x"}})
    closed = replace(whole, egress=Egress(deny_private=True))
    outcome = target_notifier("it", whole.retraining_targets["it"], closed).send(ID, BODY, NOW)
    assert isinstance(outcome, GaveUp)
    assert "private address" in outcome.error
