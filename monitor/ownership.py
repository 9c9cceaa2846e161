"""Are `monitor`, `detectors` and `alerts` ours? Their names are generic, so another distribution or a file in the
working directory can take their place without any warning from pip: that must stop the start, not corrupt results.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import MutableSequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from monitor.errors import UserError

DISTRIBUTION = "driftline"
PACKAGES = ("monitor", "detectors", "alerts")


def check() -> None:
    """Return when the three packages that Python would import are those of our distribution.

    Works for an installed wheel, an editable install and a source checkout that is not installed. Imports none of the packages.
    Raises UserError naming the file that is in the way. Not a defence against malice: only against collisions.
    """
    distribution = _distribution()
    home = _source_home(distribution)
    for package in PACKAGES:
        found = _origin(package)
        expected = (home or _site(distribution)) / package / "__init__.py"
        if found is None:
            raise UserError(
                f"{expected}: is missing, so package '{package}' is not Driftline's (was another distribution uninstalled over it? reinstall {DISTRIBUTION})"
            )
        if found.resolve() != expected.resolve():
            raise UserError(
                f"{found}: shadows Driftline's package '{package}' at {expected.parent} (rename or remove it, or give Driftline a virtual environment of its own)"
            )
        if home is None and not _as_recorded(distribution, package, found):
            raise UserError(
                f"{found}: is not the file that {DISTRIBUTION} installed; another distribution has written over it (reinstall {DISTRIBUTION} in a virtual environment of its own)"
            )


def drop_working_directory(path: MutableSequence[str]) -> None:
    """Take the working directory out of the import path `path`, in place, unless it is the home of this very package:
    a user's own `alerts.py` must not be imported instead of ours.
    """
    home, here = Path(__file__).resolve().parent.parent, Path.cwd()
    path[:] = [entry for entry in path if (Path(entry) if entry else here).resolve() != here or here == home]


def _distribution() -> importlib.metadata.Distribution | None:
    try:
        return importlib.metadata.distribution(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return None


def _site(distribution: importlib.metadata.Distribution | None) -> Path:
    assert distribution is not None, "without a distribution there is a source home"
    return Path(str(distribution.locate_file("")))


def _source_home(distribution: importlib.metadata.Distribution | None) -> Path | None:
    """The checkout the packages are imported from, None when they were installed as copies."""
    if distribution is None:
        return Path(__file__).resolve().parent.parent
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return Path(unquote(urlsplit(origin["url"]).path))
    return None


def _origin(package: str) -> Path | None:
    loaded = sys.modules.get(package)
    spec = loaded.__spec__ if loaded is not None else importlib.util.find_spec(package)
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _as_recorded(distribution: importlib.metadata.Distribution | None, package: str, found: Path) -> bool:
    """Compare `found` with the hash in the distribution's RECORD; a packager who ships no RECORD or hash is trusted."""
    name = f"{package}/__init__.py"
    files = (distribution.files if distribution is not None else None) or []
    record = next((file for file in files if file.as_posix() == name), None)
    if record is None or record.hash is None:
        return True
    digest = hashlib.new(record.hash.mode, found.read_bytes()).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=") == record.hash.value
