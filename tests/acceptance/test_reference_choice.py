"""`reference build MODEL FILE` as a user meets it: the next `run` takes the chosen table, and no advice leads in a circle."""

from __future__ import annotations

import json
from pathlib import Path

from parts.program import Room
from parts.world import hour_of_events, write_reference


def in_force(room: Room) -> dict[str, str]:
    rows = [json.loads(line) for line in room.run("reference", "list", "--json").stdout.splitlines()]
    return {"hash": rows[-1]["hash"], "source": Path(rows[-1]["source"]).name}


def test_a_chosen_table_is_in_force_until_the_configured_one_changes(tmp_path: Path) -> None:
    write_reference(tmp_path / "reference.parquet", rows=1_500)
    write_reference(tmp_path / "other.parquet", rows=1_500, seed=2)
    (tmp_path / "events.jsonl").write_bytes(b"".join(value + b"\n" for value in hour_of_events(0)))
    model = {
        "task": "unlabelled",
        "reference": {"path": "reference.parquet"},
        "window": {"size": "1h", "min_rows": 100},
    }
    room = Room(tmp_path, {"churn": model}, {"file": {"paths": ["events.jsonl"]}})
    room.run("reference", "build", "churn")
    room.run("reference", "build", "churn", "other.parquet")
    room.catch_up()
    chosen = in_force(room)
    assert chosen["source"] == "other.parquet"
    used = {window["reference"] for window in room.results().values() if window["monitor"] == "data"}
    assert used == {chosen["hash"]}

    write_reference(tmp_path / "reference.parquet", rows=1_500, seed=3)
    ended = room.start("run", "--until-caught-up").end(60)
    assert (ended.status, ended.stderr.count("\n")) == (2, 1)
    assert "`driftline reference build churn`" in ended.stderr
    room.run("reference", "build", "churn")  # as it says
    room.catch_up()
    assert in_force(room)["source"] == "reference.parquet"
    room.close()
