"""The hash of what is configured: the same for the same, whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from monitor.config.fingerprint import fingerprint
from monitor.config.load import load_config
from tests.parts.broker import REPOSITORY
from tests.parts.world import write_reference

CONFIG = """
store: sqlite:///x.db
http: {listen: "127.0.0.1:PORT"}
receivers:
  oncall: {webhook: {url: https://hook.example/a, secret: {env: SECRET}}}
retraining_targets:
  flow: {http: {url: https://flow.example/run, repeated: [409, 412, 425]}}
models:
  churn: {reference: {path: reference.parquet}, window: {size: 1h}, lateness: LATENESS}
"""
ASK = (
    "import sys; from monitor.config.fingerprint import fingerprint; from monitor.config.load import load_config; "
    "print(fingerprint(load_config(sys.argv[1])))"
)


def written(folder: Path, port: str = "8080", lateness: str = "60s") -> Path:
    folder.mkdir()
    write_reference(folder / "reference.parquet", rows=200)
    path = folder / "driftline.yaml"
    path.write_text(CONFIG.replace("PORT", port).replace("LATENESS", lateness))
    return path


def test_folder_and_port_do_not_matter_and_what_decides_does(tmp_path: Path):
    one, other = written(tmp_path / "a"), written(tmp_path / "b", port="9090")
    changed = written(tmp_path / "c", lateness="61s")
    assert fingerprint(load_config(one)) == fingerprint(load_config(other)) != fingerprint(load_config(changed))


def test_two_processes_agree(tmp_path: Path):
    path = written(tmp_path / "a")
    said = {
        subprocess.run(
            [sys.executable, "-c", ASK, str(path)], check=True, capture_output=True, text=True, cwd=REPOSITORY,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout.strip()
        for seed in ("1", "2")
    }  # fmt: skip
    assert said == {fingerprint(load_config(path))}
