"""Who a worker is: a name that tells another worker on the same machine whether this one still lives."""

from __future__ import annotations

import os
import socket
import uuid


def new_owner() -> str:
    """`host:pid:random`, unique for each incarnation of a worker."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def is_alive(owner: str) -> bool:
    """False only when the owner ran on this machine and is certainly gone. A lease of a worker elsewhere must expire by itself."""
    host, _, rest = owner.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return True
    try:
        os.kill(int(rest), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
