"""The whole loop with real parts on both databases: drift, a signed request, a trainer that calls back, a new version with its own reference,
and the alert that closes for it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from alerts.sender import Sender
from monitor.adoption import adopt
from monitor.config.types import Http
from monitor.demo import free_port
from monitor.demo_trainer import Trainer
from monitor.exposition import serve
from monitor.receivers import notifiers
from monitor.retraining.follow import Follow
from monitor.service import Heartbeat
from parts.world import CONFIG, HOUR, T0, World, write_reference

SECRET = "whsec_" + base64.b64encode(b"trainer-and-driftline-share-this").decode()
RETRAINING = """    retraining: {{mode: auto, target: trainer, cooldown: 1h}}
http: {{listen: "127.0.0.1:8080"}}
retraining: {{callback: {{url: "http://127.0.0.1:PORT", secret: {{env: CALLBACK}}}}}}
retraining_targets: {{trainer: {{webhook: {{url: "URL", secret: {{env: HOOK}}}}}}}}
"""


def test_from_drift_to_the_alert_that_a_new_version_closes(
    tmp_path: Path, store_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", SECRET)
    monkeypatch.setenv("CALLBACK", "a-secret-of-the-call-backs-long-enough")
    table = tmp_path / "second.parquet"

    def train(model: str) -> str:
        assert model == "churn"
        write_reference(table, seed=7, shift=1.0)
        return "2"

    trainer, port = Trainer(SECRET, train), free_port()
    text = CONFIG + RETRAINING.replace("PORT", str(port)).replace("URL", trainer.url)
    world = World(tmp_path, text, store_url=store_url)
    server = serve(world.runtime, Heartbeat(), Http.model_validate({"listen": f"127.0.0.1:{port}"}))
    sender = Sender(world.store, notifiers(world.config), clock=world.clock, random=lambda: 0.0, owner="test")
    try:
        world.live([0])
        world.live([1], shift=1.0)
        (fired,) = world.alerts()
        assert (fired.status, fired.monitor, fired.subject, fired.version) == ("firing", "data", "x", "1")

        while world.store.outbox_pending():
            sender.send_due()
        assert trainer.trained(20) == [("churn", "2")]
        assert trainer.refused == []
        (row,) = world.store.retraining()
        assert (row.status, row.version) == ("succeeded", "1")
        detail = json.loads(row.detail)
        assert (detail["alert"], detail["version"], detail["run_id"]) == (fired.id, "2", f"demo-{row.id[:8]}")
        steps = [step.status for step in world.store.retraining_steps(row.id)]
        assert steps in (["requested", "delivered", "running", "succeeded"], ["requested", "delivered", "succeeded"])

        reference = adopt(world.store, world.config.models["churn"], path=table, version="2", now_ms=world.clock())
        world.live([2, 3, 4], shift=1.0, version="2")
        first, last = world.alerts()
        assert (first.id, first.status) == (last.id, "firing") == (fired.id, first.status)
        assert (last.status, last.reason, last.at_ms) == ("resolved", "new_version", T0 + 4 * HOUR), "after two windows"
        assert {w.reference for w in world.windows("data", "2")} == {reference.hash}
        assert {w.state for w in world.windows("data", "2")} == {"ok"}
        assert world.store.firing_alerts() == []
        assert len(world.store.retraining()) == 1

        Follow.of(world.config, world.store).turn(world.clock() + 24 * HOUR)
        assert json.loads(world.store.retraining()[0].detail)["help"] == "helped"
    finally:
        sender.close(2.0)
        server.stop()
        trainer.close()
        world.close()


def test_the_trainer_refuses_what_is_not_signed() -> None:
    runs: list[str] = []
    trainer = Trainer(SECRET, lambda model: runs.append(model) or "2")  # type: ignore[func-returns-value]
    try:
        headers = {"webhook-id": "r1", "webhook-timestamp": "1767571200", "webhook-signature": "v1,bm90IGl0"}
        assert trainer.take(headers, b"{}") == 401
        assert trainer.take({}, b"{}") == 401
        assert (runs, len(trainer.refused)) == ([], 2)
    finally:
        trainer.close()
