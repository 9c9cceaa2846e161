"""A PostgreSQL server of the session's own; one database per test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from tests.parts.broker import UnavailableError, free_port


class Server:
    """Runs in a temporary folder as the user `postgres` when we are root (the server refuses to run as root)."""

    def __init__(self, **settings: str) -> None:
        """`settings` of the server, besides or in place of ours: tests kill processes, not machines, and what survives that needs no fsync."""
        binaries = _binaries()
        self._folder = Path(tempfile.mkdtemp(prefix="dl-pg-"))  # short: a socket's path has 108 bytes at most
        self._as: dict[str, object] = {}
        if os.geteuid() == 0:
            try:
                owner = pwd.getpwnam("postgres")
            except KeyError:
                raise UnavailableError("running as root without a user `postgres`") from None
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
            self._as = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        self._folder.chmod(0o700)
        data, self.port = self._folder / "data", free_port()
        words = [binaries / "initdb", "-D", data, "-U", "driftline", "-A", "trust", "-E", "UTF8", "--no-locale"]
        subprocess.run(list(map(str, words)), check=True, capture_output=True, cwd=self._folder, **self._as)  # type: ignore[call-overload]
        settings = {"listen_addresses": "127.0.0.1", "fsync": "off", "shared_buffers": "64MB"} | settings
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        command = [binaries / "postgres", "-D", data, "-p", self.port, "-k", self._folder, *options]
        with (self._folder / "server.log").open("wb") as log:
            self._command = list(map(str, command))
            self._process = self._spawn(log)
        self._wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    def create_database(self) -> str:
        """A new empty database; its SQLAlchemy URL."""
        import psycopg

        name = "t" + uuid.uuid4().hex[:16]
        with psycopg.connect(
            f"host=127.0.0.1 port={self.port} user=driftline dbname=postgres", autocommit=True
        ) as connection:
            connection.execute(f"create database {name}")
        return f"postgresql+psycopg://driftline@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        """End the server at once (SIGQUIT); its data stay for `start`."""
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait(30)

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = self._spawn(log)
        self._wait()

    def close(self) -> None:
        if self._process.poll() is None:
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _spawn(self, log: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self._folder, **self._as)  # type: ignore[call-overload,no-any-return]

    def _wait(self) -> None:
        import psycopg

        end = time.monotonic() + 30
        while True:
            try:
                psycopg.connect(f"host=127.0.0.1 port={self.port} user=driftline dbname=postgres").close()
            except psycopg.OperationalError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise
                time.sleep(0.05)
            else:
                return


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    if elsewhere is None:
        raise UnavailableError("no PostgreSQL server here (Debian: postgresql-15)")
    return Path(elsewhere).resolve().parent
