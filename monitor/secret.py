"""A secret that is only named in the configuration, read when it is used, and never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monitor.errors import UserError


@dataclass(frozen=True, slots=True)
class Secret:
    """Where a secret is: the name of an environment variable, or a file. Files are read anew each time (they rotate)."""

    source: str  # "env" or "file"
    place: str

    @classmethod
    def parse(cls, value: object) -> Secret:
        """From `{env: NAME}` or `{file: PATH}`. The error (a ValueError) holds nothing of what was given instead."""
        if isinstance(value, Secret):
            return value
        if isinstance(value, Mapping) and len(value) == 1:
            ((source, place),) = value.items()
            if source in ("env", "file") and isinstance(place, str) and place:
                return cls(source, place)
        raise ValueError("a secret is not written here (write {env: NAME} or {file: PATH})")

    def reveal(self) -> str:
        """The secret itself, without the line end that files have. Raises UserError naming the variable or file."""
        if self.source == "env":
            if not (text := os.environ.get(self.place)):
                raise UserError(
                    f"environment variable {self.place} is not set (the configuration takes a secret from it)"
                )
            return text
        try:
            text = Path(self.place).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UserError(f"{self.place}: cannot be read as a secret: {reason}") from None
        if not text:
            raise UserError(f"{self.place}: is empty (the configuration takes a secret from it)")
        return text
