"""The packages must be ours: each way in which another distribution or file can take their place is shown here."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from monitor import ownership

CHECKOUT = Path(ownership.__file__).resolve().parents[1]
PACKAGES = ("monitor", "detectors", "alerts")


def test_this_environment_is_ours():
    ownership.check()


def installed(site: Path) -> Path:
    """A site-packages folder into which pip has put a (small) driftline."""
    records = []
    for package in PACKAGES:
        (site / package).mkdir(parents=True)
        names = ["__init__.py"] + (["errors.py", "ownership.py", "__main__.py"] if package == "monitor" else [])
        for name in names:
            body = (CHECKOUT / package / name).read_bytes()
            (site / package / name).write_bytes(body)
            digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")
            records.append(f"{package}/{name},sha256={digest},{len(body)}")
    (site / "monitor/cli.py").write_text("def app():\n    print('started')\n")
    info = site / "driftline-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: driftline\nVersion: 0.1.0\n")
    (info / "RECORD").write_text("\n".join(records) + "\n")
    return site


def start(*paths: Path, cwd: Path, module: str = "monitor") -> subprocess.CompletedProcess[str]:
    """`python -m monitor` where only `paths` (and, as Python does it, the working directory) can be imported from."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, "-S", "-m", module]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return installed(tmp_path / "site")


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    folder.mkdir()
    return folder


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr


def test_an_installed_wheel_starts(site, here):
    done = start(site, cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")


def test_a_file_of_the_user_in_the_working_directory_is_not_imported(site, here):
    (here / "alerts.py").write_text("raise SystemExit('imported the wrong alerts')\n")
    done = start(site, cwd=here)
    assert (done.returncode, done.stdout) == (0, "started\n"), done.stderr


@pytest.mark.parametrize("place", ["detectors.py", "alerts/__init__.py"])
def test_a_package_earlier_on_the_path_is_named(site, here, tmp_path, place):
    intruder = tmp_path / "other" / place
    intruder.parent.mkdir(parents=True)
    intruder.write_text("raise SystemExit('imported')\n")
    refused(start(tmp_path / "other", site, cwd=here), str(intruder), "virtual environment")


def test_a_file_that_another_distribution_wrote_over_ours_is_named(site, here):
    (site / "detectors/__init__.py").write_text("'''of another distribution'''\n")
    refused(start(site, cwd=here), str(site / "detectors/__init__.py"), "another distribution")


def test_a_package_that_an_uninstall_took_along_is_named(site, here):
    (site / "alerts/__init__.py").unlink()
    refused(start(site, cwd=here), str(site / "alerts/__init__.py"), "missing", "reinstall")


def test_a_source_checkout_that_is_not_installed_starts(site, here):
    for info in site.glob("*.dist-info/*"):
        info.unlink()
    next(site.glob("*.dist-info")).rmdir()
    assert start(site, cwd=here).stdout == "started\n"
    assert start(cwd=site).stdout == "started\n"


def test_an_editable_install_is_ours_and_a_second_checkout_is_not(site, here, tmp_path):
    info = next(site.glob("*.dist-info"))
    for package in PACKAGES:
        (site / package).rename(tmp_path / package)
    (info / "direct_url.json").write_text(f'{{"url": "{tmp_path.as_uri()}", "dir_info": {{"editable": true}}}}')
    assert start(site, tmp_path, cwd=here).stdout == "started\n"
    (tmp_path / "second").mkdir()
    (tmp_path / "alerts").rename(tmp_path / "second/alerts")
    refused(start(site, tmp_path, tmp_path / "second", cwd=here), str(tmp_path / "second/alerts"), "shadows")


@pytest.mark.parametrize(
    ("body", "status", "stderr"),
    [
        (
            "from monitor.errors import UserError\n    raise UserError('driftline.yaml:3:5: models: mend it')",
            2,
            "mend it",
        ),
        ("raise KeyboardInterrupt", 130, ""),
        ("raise ValueError('a bug')", 1, "Traceback"),
    ],
)
def test_what_a_command_raises_becomes_a_status(site, here, body, status, stderr):
    (site / "monitor/cli.py").write_text(f"def app():\n    {body}\n")
    done = start(site, cwd=here)
    assert done.returncode == status
    assert stderr in done.stderr
    assert ("Traceback" in done.stderr) == (status == 1)


def test_a_reader_that_leaves_early_is_no_error(site, here):
    (site / "monitor/cli.py").write_text("def app():\n    print('x' * 10_000_000)\n")
    command = [sys.executable, "-S", "-m", "monitor"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(site)}
    process = subprocess.Popen(command, cwd=here, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 141
    assert errors == b""
