"""The call-back as a job uses it, and as somebody uses it who should not: over HTTP, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx2
import pytest

from alerts.retraining_run import callback_token
from monitor.http import REPORT_BYTES_MAX, HttpServer, build_app
from monitor.retraining.callback import CallBackAddress, CallBacks
from monitor.secret import Secret
from monitor.store import Store
from parts.stores import message, request

OLD, NEW = "the-secret-before-that-was-long-too", "the-secret-that-is-used-from-now-on"


@pytest.fixture
def client(store: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[httpx2.Client]:
    """Beyond loopback: everything else asks for the admin's token."""
    monkeypatch.setenv("CALLBACK", f"{NEW} {OLD}")
    address = CallBackAddress(url="https://drift.example", secret=Secret("env", "CALLBACK"))
    app = build_app(
        render=lambda accept: (b"", "text/plain"),
        live=lambda: None,
        ready=lambda: None,
        token="the-admins",
        reports=CallBacks(store, address, lambda: 77),
    )
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    host, port = server.address
    with httpx2.Client(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield client
    server.stop()


@pytest.fixture
def known(store: Store) -> Store:
    """Two requests: r1 has been delivered, r2 waits."""
    with store.closing("churn") as tx:
        for name in ("r1", "r2"):
            tx.put_retraining(request(name))
            tx.put_outbox(message(name, kind="retraining", receiver="retraining:airflow", ordering_key=name))
    store.set_retraining_status("r1", "delivered", "the target has it", 5)
    return store


def bearer(name: str, secret: str = NEW) -> dict[str, str]:
    return {"authorization": f"Bearer {callback_token(secret.encode(), name)}"}


def report(client: httpx2.Client, name: str, body: object, headers: dict[str, str] | None = None) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(
        f"/api/v1/retraining/{name}/events", content=content, headers=bearer(name) if headers is None else headers
    )


def state(store: Store, name: str) -> tuple[str, dict[str, object]]:
    (row,) = [row for row in store.retraining() if row.id == name]
    return row.status, json.loads(row.detail)


def test_a_job_reports_from_its_start_to_its_end(client: httpx2.Client, known: Store) -> None:
    for body in (
        {"status": "accepted", "run_id": 12},
        {"status": "running", "url": "https://runs.example/12"},
        {"status": "succeeded", "version": "8", "message": "auc 0.81"},
    ):
        answer = report(client, "r1", body)
        assert (answer.status_code, answer.json()) == (202, {"status": "changed"})
    status, detail = state(known, "r1")
    assert status == "succeeded"
    assert detail == {
        "run_id": "12", "url": "https://runs.example/12", "version": "8", "message": "auc 0.81", "ended_ms": 77,
        "delivery": "the job says: succeeded, auc 0.81",
    }  # fmt: skip
    assert [step.status for step in known.retraining_steps("r1")] == [
        "requested", "delivered", "accepted", "running", "succeeded",
    ]  # fmt: skip
    assert state(known, "r2")[0] == "requested"


def test_a_report_that_comes_again_or_late_changes_nothing(client: httpx2.Client, known: Store) -> None:
    assert report(client, "r1", {"status": "running"}).json() == {"status": "changed"}
    for late in ({"status": "running", "url": "https://runs.example/1"}, {"status": "accepted", "url": "http://old"}):
        answer = report(client, "r1", late)
        assert (answer.status_code, answer.json()) == (202, {"status": "repeated"})
    told = {"delivery": "the job says: running", "url": "https://runs.example/1"}
    assert state(known, "r1") == ("running", told)
    assert [step.status for step in known.retraining_steps("r1")] == ["requested", "delivered", "running"]


def test_a_report_may_come_before_we_know_that_the_request_arrived(client: httpx2.Client, known: Store) -> None:
    assert report(client, "r2", {"status": "running"}).status_code == 202
    assert [step.status for step in known.retraining_steps("r2")] == ["requested", "delivered", "running"]


FORGED: list[dict[str, str]] = [
    {},
    {"authorization": "Bearer"},
    {"authorization": "Bearer the-admins"},
    {"authorization": bearer("r1")["authorization"].removeprefix("Bearer ")},
    {"authorization": bearer("r1")["authorization"][:-1]},
    {"authorization": "Basic " + bearer("r1")["authorization"].removeprefix("Bearer ")},
    bearer("r1", "a-secret-that-never-was-configured"),
    bearer("r2"),
    bearer(""),
]


def test_without_the_token_of_this_very_request_nothing_is_read(client: httpx2.Client, known: Store) -> None:
    bodies = ({"status": "failed"}, b"no json", b"x" * (REPORT_BYTES_MAX + 1))
    for headers in FORGED:
        answers = [report(client, "r1", body, headers) for body in bodies]
        # whether it is there is not told either
        answers.append(report(client, "nothing", {"status": "failed"}, headers))
        assert {answer.status_code for answer in answers} == {401}, headers
        assert {answer.headers["www-authenticate"] for answer in answers} == {"Bearer"}
    assert state(known, "r1") == ("delivered", {"delivery": "the target has it"})


def test_the_secret_before_is_accepted_while_it_is_named(
    client: httpx2.Client, known: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report(client, "r1", {"status": "accepted"}, bearer("r1", OLD)).status_code == 202
    monkeypatch.setenv("CALLBACK", NEW)
    assert report(client, "r1", {"status": "running"}, bearer("r1", OLD)).status_code == 401
    assert report(client, "r1", {"status": "running"}).status_code == 202
    monkeypatch.delenv("CALLBACK")
    assert report(client, "r1", {"status": "failed"}).status_code == 401
    assert state(known, "r1")[0] == "running"


def test_a_request_that_is_not_there(client: httpx2.Client, known: Store) -> None:
    assert report(client, "r9", {"status": "failed"}).status_code == 404


@pytest.mark.parametrize("chunked", [False, True])
def test_a_report_that_is_too_long_is_not_read_to_its_end(client: httpx2.Client, known: Store, chunked: bool) -> None:
    body = json.dumps({"status": "failed", "message": "x" * REPORT_BYTES_MAX}).encode()
    content = iter([body[:100], body[100:]]) if chunked else body
    answer = client.post("/api/v1/retraining/r1/events", content=content, headers=bearer("r1"))
    assert answer.status_code == 413
    assert state(known, "r1")[0] == "delivered"


NO_REPORTS: list[object] = [
    b"",
    b"planted{",
    b"[]",
    b"\xff\xfe",
    {"status": "planted"},
    {"status": ["failed"]},
    {"status": "delivered"},
    {"status": "timed_out"},
    {"status": "failed", "message": {"planted": 1}},
    b"[" * 10_000,
]


def test_what_is_no_report_is_refused_and_not_repeated(client: httpx2.Client, known: Store) -> None:
    for body in NO_REPORTS:
        answer = report(client, "r1", body)
        assert answer.status_code == 422, body
        assert "planted" not in answer.text
    assert state(known, "r1")[0] == "delivered"


def test_what_has_ended_stays_as_it_ended_and_the_job_is_heard_all_the_same(
    client: httpx2.Client, known: Store
) -> None:
    ends = ("succeeded", "failed", "timed_out", "cancelled")
    with known.closing("churn") as tx:
        for end in ends:
            tx.put_retraining(request(end, status=end, detail='{"version": "7"}'))
    for end in ends:
        other = "failed" if end == "succeeded" else "succeeded"
        answer = report(client, end, {"status": other, "version": "planted"})
        assert answer.status_code == 409, end
        assert "planted" not in answer.text
        status, detail = state(known, end)
        assert (status, detail["version"]) == (end, "7")
        assert detail["delivery"] == f"the job says: {other} (not taken, it was {end})"
        assert report(client, end, {"status": "running"}).json() == {"status": "repeated"}
        assert state(known, end)[0] == end


def test_the_admins_token_does_not_open_it_and_its_token_opens_nothing_else(
    client: httpx2.Client, known: Store
) -> None:
    assert client.get("/metrics", headers=bearer("r1")).status_code == 401
    assert client.get("/api/v1/retraining/r1/events", headers=bearer("r1")).status_code == 405


def test_without_a_configured_call_back_there_is_none() -> None:
    app = build_app(render=lambda accept: (b"", "text/plain"), live=lambda: None, ready=lambda: None)
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    host, port = server.address
    answer = httpx2.post(f"http://{host}:{port}/api/v1/retraining/r1/events", content=b"{}", trust_env=False)
    server.stop()
    assert answer.status_code == 404
