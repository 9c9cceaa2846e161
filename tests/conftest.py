"""Fixtures that start real parts once per session. Where a part cannot be had a test is SKIPPED with the reason; under CI=true it fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from tests.parts.alertmanager import Alertmanager
from tests.parts.broker import Broker, UnavailableError
from tests.parts.postgres import Server


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A skipped test is no green test where everything can be had: under CI=true any skip fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if _in_ci() and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    try:
        broker = Broker(tmp_path_factory.mktemp("kafka"))
    except UnavailableError as reason:
        _cannot(f"no Kafka broker: {reason}")
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    try:
        server = Server()
    except UnavailableError as reason:
        _cannot(f"no PostgreSQL: {reason}")
    yield server
    server.close()


@pytest.fixture
def postgres_url(postgres: Server) -> str:
    """An empty database of the test's own."""
    return postgres.create_database()


@pytest.fixture
def start_alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Alertmanager]]:
    """Starts one that tells the webhook at the address given."""
    started: list[Alertmanager] = []

    def start(webhook_url: str) -> Alertmanager:
        try:
            started.append(Alertmanager(tmp_path_factory.mktemp("alertmanager"), webhook_url))
        except UnavailableError as reason:
            _cannot(str(reason))
        return started[-1]

    yield start
    for part in started:
        part.close()


def _cannot(reason: str) -> NoReturn:
    if _in_ci():
        pytest.fail(reason)
    pytest.skip(reason)


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"
