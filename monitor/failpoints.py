"""Named places at which a test lets this process die as `kill -9` would. Off unless DRIFTLINE_FAILPOINT is set; for tests only.

`DRIFTLINE_FAILPOINT=after_commit:3` ends the process with status 137 when it comes to `after_commit` for the third time: no `finally`,
no flush, no farewell to the broker or the database.
"""

from __future__ import annotations

import os

POINTS = ("after_claim", "after_join", "before_commit", "after_commit", "before_close_commit", "after_close_commit")
TELLING = ("before_telling_commit", "after_telling_commit", "after_send")
KILLED = 137  # what a shell calls a process ended by SIGKILL

_point, _, _times = os.environ.get("DRIFTLINE_FAILPOINT", "").partition(":")
_left = {_point: int(_times or 1)} if _point in POINTS + TELLING else {}


def reach(point: str) -> None:
    """Die here if the environment says so."""
    if point in _left:
        _left[point] -= 1
        if _left[point] == 0:
            os._exit(KILLED)
