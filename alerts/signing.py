"""Standard Webhooks 1.0: the three headers by which a receiver knows that a message is ours, and that it is the same
one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NoReturn

from standardwebhooks import Webhook

_PREFIX = "whsec_"
_SHORTEST_BYTES, _LONGEST_BYTES = 24, 64


class Signer:
    """Holds one secret, and shows it to nobody: not in its repr, not when pickled, not in an error.

    Raises ValueError for a secret that is not `whsec_` + base64 of 24 to 64 bytes; white space around it is ignored,
    since files end in a newline.
    """

    __slots__ = ("_webhook",)

    def __init__(self, secret: str) -> None:
        self._webhook = Webhook(_key(secret))

    def headers(self, message_id: str, attempted_at_ms: int, body: bytes) -> dict[str, str]:
        """Headers for exactly these bytes (UTF-8). The id is the same for all attempts, the time this attempt's."""
        # The library drops the zone of what it is given, so it must be UTC.
        attempted_at = datetime.fromtimestamp(attempted_at_ms // 1000, UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(attempted_at_ms // 1000),
            "webhook-signature": self._webhook.sign(message_id, attempted_at, body.decode()),
        }

    def __repr__(self) -> str:
        return "Signer(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Signer is not written anywhere")


def unsigned_headers(message_id: str, attempted_at_ms: int) -> Mapping[str, str]:
    """For a receiver without a secret: the id still lets it drop copies."""
    return {"webhook-id": message_id, "webhook-timestamp": str(attempted_at_ms // 1000)}


def _key(secret: str) -> bytes:
    text = secret.strip()
    if not text.startswith(_PREFIX):
        raise ValueError(
            f"a webhook secret begins with {_PREFIX}, followed by base64 of {_SHORTEST_BYTES} random bytes or more"
        )
    try:
        key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = None
    if key is None:  # outside the handler: the error must not drag the secret along as its context
        raise ValueError(f"a webhook secret is {_PREFIX} and then base64; this is not base64")
    if not _SHORTEST_BYTES <= len(key) <= _LONGEST_BYTES:
        raise ValueError(
            f"a webhook secret holds {_SHORTEST_BYTES} to {_LONGEST_BYTES} bytes; this one holds {len(key)}"
        )
    return key
