"""The program `driftline` (also `python -m monitor`): start-up checks, then the command line, then one line per user error."""

from __future__ import annotations

import os
import sys

from monitor import ownership
from monitor.errors import TransientError, UserError


def main() -> None:
    """Run the command line and leave with its status: 2 for what the user can mend, 130 for Ctrl-C; a bug keeps its traceback."""
    try:
        ownership.drop_working_directory(sys.path)
        ownership.check()
        from monitor.cli import app  # only now is it sure that the packages below are ours

        try:
            app()
        finally:
            sys.stdout.flush()
    except (UserError, TransientError) as error:
        print(error, file=sys.stderr)  # noqa: T201  the one place where an error is shown
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (head, less) has left; without this Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
