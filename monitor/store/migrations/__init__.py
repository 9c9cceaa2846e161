"""The schema's history. Forward only; a state payload carries its own version."""

from __future__ import annotations

REVISIONS = ("0001", "0002", "0003")  # oldest first; a test compares them with the files in `versions`
HEAD = REVISIONS[-1]
