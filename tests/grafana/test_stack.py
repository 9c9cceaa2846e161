"""The demo stack: what its files name is there, and the real programs accept their configuration."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.parts.broker import REPOSITORY
from tests.parts.observability import GRAFANA

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES = {"kafka", "driftline", "postgres", "service", "prometheus", "alertmanager", "grafana"}


def run(program: str, *words: object) -> None:
    found = shutil.which(program)
    if found is None:
        reason = f"no {program} on the PATH (Debian: prometheus, prometheus-alertmanager)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    done = subprocess.run([found, *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_its_configuration_with_all_rules():
    run("promtool", "check", "config", GRAFANA / "prometheus.yml")


def test_alertmanager_accepts_its_configuration():
    run("amtool", "check-config", GRAFANA / "alertmanager.yml")


def test_the_compose_file_mounts_what_is_there_and_pins_what_it_pulls():
    assert COMPOSE["services"].keys() == SERVICES
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", []):
            place = volume.split(":")[0]
            assert not place.startswith(".") or (REPOSITORY / place).exists(), (name, volume)
        image = service.get("image", "built:here")
        assert image.partition(":")[2] not in ("", "latest"), name
        assert set(service.get("depends_on", {})) <= SERVICES, name


def test_everything_is_open_to_this_machine_only():
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_grafana_in_the_stack_is_given_what_its_provisioning_asks_for():
    asked = "".join(path.read_text() for path in (GRAFANA / "provisioning").rglob("*.yaml"))
    script = (REPOSITORY / "scripts/stack").read_text()
    for name in ("DRIFTLINE_PROMETHEUS_URL", "DRIFTLINE_SCRAPE_INTERVAL", "DRIFTLINE_DASHBOARDS"):
        assert f"${name}" in asked
        assert name in COMPOSE["services"]["grafana"]["environment"]
        assert f"{name}=" in script
