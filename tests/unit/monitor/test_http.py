"""The HTTP server as a scraper and an orchestrator see it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import httpx2
import pytest

from monitor.errors import UserError
from monitor.http import HttpServer, build_app


class Service:
    """What the pages are asked from."""

    def __init__(self) -> None:
        self.alive: str | None = None
        self.is_ready: str | None = None
        self.accepts: list[str] = []

    def render(self, accept: str) -> tuple[bytes, str]:
        self.accepts.append(accept)
        return b"driftline_up 1\n", "text/plain; version=0.0.4; charset=utf-8"


def serving(service: Service, token: str | None = None) -> Iterator[httpx2.Client]:
    app = build_app(render=service.render, live=lambda: service.alive, ready=lambda: service.is_ready, token=token)
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    host, port = server.address
    with httpx2.Client(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield client
    server.stop()


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    yield from serving(service)


@pytest.fixture
def guarded(service: Service) -> Iterator[httpx2.Client]:
    yield from serving(service, token="s3cret")


def test_metrics_come_with_the_content_type_of_the_encoder(client, service):
    answer = client.get("/metrics", headers={"accept": "application/openmetrics-text"})
    assert (answer.status_code, answer.text) == (200, "driftline_up 1\n")
    assert answer.headers.get_list("content-type") == ["text/plain; version=0.0.4; charset=utf-8"]
    assert service.accepts == ["application/openmetrics-text"]


@pytest.mark.parametrize(("page", "probe"), [("/livez", "alive"), ("/readyz", "is_ready")])
def test_a_probe_says_why_not(client, service, page, probe):
    assert client.get(page).json() == {"status": "ok"}
    setattr(service, probe, "the store is out of reach")
    answer = client.get(page)
    assert answer.status_code == 503
    assert answer.json() == {"status": "unavailable", "reason": "the store is out of reach"}
    other = "/readyz" if page == "/livez" else "/livez"
    assert client.get(other).status_code == 200


@pytest.mark.parametrize(
    "header", [{}, {"authorization": "Bearer s3cre"}, {"authorization": "s3cret"}, {"authorization": "Bearer é"}]
)
def test_metrics_ask_for_the_token(guarded, service, header):
    encoded = {name: value.encode() for name, value in header.items()}
    answer = guarded.get("/metrics", headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert service.accepts == []
    assert "s3cret" not in answer.text


def test_the_token_opens_and_probes_need_none(guarded):
    assert guarded.get("/metrics", headers={"authorization": "Bearer s3cret"}).status_code == 200
    assert guarded.get("/livez").status_code == 200
    assert guarded.get("/readyz").status_code == 200


def test_the_interface_is_described_and_nothing_else_is_served(client):
    assert set(client.get("/api/v1/openapi.json").json()["paths"]) == {"/metrics", "/livez", "/readyz"}
    for page in ("/docs", "/redoc", "/openapi.json", "/.env"):
        assert client.get(page).status_code == 404


def test_a_port_in_use_is_one_clear_line(service):
    app = build_app(render=service.render, live=lambda: None, ready=lambda: None)
    first = HttpServer(app, "127.0.0.1", 0)
    first.start()
    try:
        with pytest.raises(UserError, match=rf"cannot listen on 127\.0\.0\.1:{first.address[1]}: .*in use"):
            HttpServer(app, "127.0.0.1", first.address[1])
    finally:
        first.stop()


def test_stop_frees_the_port_ends_the_thread_and_may_be_called_twice(service):
    app = build_app(render=service.render, live=lambda: None, ready=lambda: None)
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    port = server.address[1]
    server.stop()
    server.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "http"]
    again = HttpServer(app, "127.0.0.1", port)
    again.stop()  # never started
