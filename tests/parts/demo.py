"""The demo as somebody watches it: on a terminal, so that it goes on serving when it is through."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from pathlib import Path

from tests.parts.broker import REPOSITORY
from tests.parts.observability import Server


class Demo(Server):
    """`said` is what it has printed so far."""

    def __init__(self, folder: Path, port: int) -> None:
        self._ours, theirs = pty.openpty()
        folder.mkdir()
        command = [sys.executable, "-m", "monitor", "demo", "--listen", f"127.0.0.1:{port}"]
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        )
        os.close(theirs)
        self.said = b""

    def through(self, seconds: float) -> str:
        """What it printed, once it serves on."""
        os.set_blocking(self._ours, False)
        end = time.monotonic() + seconds
        while b"until Ctrl-C" not in self.said and time.monotonic() < end and self.process.poll() is None:
            try:
                self.said += os.read(self._ours, 65_536)
            except (BlockingIOError, OSError):
                time.sleep(0.2)
        return self.said.decode()

    def close(self) -> None:
        super().close()
        os.close(self._ours)
