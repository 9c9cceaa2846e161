"""The written form of a concept detector's state: one JSON object that names its detector and version."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from detectors.concept.episode import Episode

StateT = TypeVar("StateT")


def encoded(detector: str, version: int, fields: Mapping[str, Any]) -> str:
    """One line of JSON; equal fields give equal text."""
    return json.dumps({"detector": detector, "version": version, **fields}, allow_nan=False, separators=(",", ":"))


def decoded(detector: str, version: int, text: str, read: Callable[[dict[str, Any]], StateT]) -> StateT:
    """What `read` makes of the fields. ValueError when the text is damaged, or of another detector or version."""
    try:
        fields = json.loads(text)
        if not isinstance(fields, dict) or (fields.get("detector"), fields.get("version")) != (detector, version):
            raise ValueError(f"not a state of {detector}, version {version}")
        return read(fields)
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"damaged state of {detector}: {type(error).__name__} {error}") from None


def written_episode(episode: Episode | None) -> dict[str, Any] | None:
    """JSON-able; None stays None."""
    if episode is None:
        return None
    return {
        "opened_ms": episode.opened_ms,
        "onset_ms": episode.onset_ms,
        "labels": episode.labels,
        "loss_sum": episode.loss_sum.hex(),
        "loss_squared": episode.loss_squared.hex(),
        "allowed": episode.allowed.hex(),
        "recent": [[labels, loss.hex(), allowed.hex()] for labels, loss, allowed in episode.recent],
    }


def read_episode(fields: dict[str, Any] | None) -> Episode | None:
    """Of what `written_episode` gave."""
    if fields is None:
        return None
    return Episode(
        opened_ms=int(fields["opened_ms"]),
        onset_ms=int(fields["onset_ms"]),
        labels=int(fields["labels"]),
        loss_sum=float.fromhex(fields["loss_sum"]),
        loss_squared=float.fromhex(fields["loss_squared"]),
        allowed=float.fromhex(fields["allowed"]),
        recent=tuple(
            (int(labels), float.fromhex(loss), float.fromhex(allowed)) for labels, loss, allowed in fields["recent"]
        ),
    )
