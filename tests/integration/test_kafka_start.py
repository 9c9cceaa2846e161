"""`driftline run` on a Kafka source that cannot be used: one line that names the place and the fix, status 2."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import pytest

from parts.world import write_reference
from tests.parts.broker import Broker
from tests.parts.program import Room, Worker

pytestmark = pytest.mark.integration

NOBODY = "127.0.0.1:1"


def starting(folder: Path, address: str, topic: str) -> Worker:
    folder.mkdir()
    write_reference(folder / "reference.parquet", rows=1_500)
    model = {"task": "unlabelled", "reference": {"path": "reference.parquet"}, "window": "1h"}
    source = {"kafka": {"bootstrap_servers": [address], "group_id": topic, "topics": {topic: "canonical"}}}
    return Room(folder, {"churn": model}, source).start("run")


def refusal(worker: Worker) -> str:
    ended = worker.end(60)
    assert ended.status == 2, ended.stderr
    assert ended.stdout == ""
    assert ended.stderr.count(os.linesep) == 1, ended.stderr
    return ended.stderr


def test_a_wrong_topic_and_a_broker_that_is_not_there(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Both at once, the second from before the broker starts: it is asked for ten seconds."""
    nobody = starting(tmp_path / "nobody", NOBODY, "events")
    broker: Broker = request.getfixturevalue("broker")
    topic = "misspelt-" + uuid.uuid4().hex[:6]
    wrong = refusal(starting(tmp_path / "topic", broker.address, topic))
    assert f"source live: topic {topic} on Kafka at {broker.address} does not exist" in wrong
    assert "topics" in wrong.rpartition("(")[2], "the fix"
    unreachable = refusal(nobody)
    assert f"no Kafka broker reachable at {NOBODY}" in unreachable
    assert "sources.live.kafka.bootstrap_servers" in unreachable.rpartition("(")[2], "the fix"
