"""The exception tree. What a user did wrong ends in one line on stderr and status 2; a bug keeps its traceback.

DriftlineError
├── UserError            configuration, file, flag: says what, where, and the fix; status 2
├── TransientError       broker or database out of reach for now: retried within limits by the loop
└── FencedError          another worker has claimed a partition of ours: drop what is not stored, claim again
"""

from __future__ import annotations


class DriftlineError(Exception):
    """Root of what Driftline raises on purpose."""


class UserError(DriftlineError):
    """The message is the one line a user sees: `file:line:column: path: message (fix)` or as much of it as applies."""


class TransientError(DriftlineError):
    """May go away by itself. Raised by sources and the store, retried with backoff by the loop."""


class FencedError(DriftlineError):
    """A checkpoint met a partition that another worker owns by now. Nothing of the checkpoint was stored."""
