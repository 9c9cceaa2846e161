"""What is configured, as a short hash: do two processes run on the same?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass, replace
from hashlib import sha256

from pydantic import BaseModel

from monitor.config.types import Config


def fingerprint(config: Config) -> str:
    """The same for all processes that were given the same, whatever they listen on and wherever the file lies. Twelve hexadecimal digits."""
    text = repr(_plain(replace(config, http=None))).replace(str(config.base_dir), "")
    return sha256(text.encode()).hexdigest()[:12]


def _plain(value: object) -> object:
    """In one order, whatever the order in which a process keeps sets and keys. Secrets are not read, so none is in it."""
    if isinstance(value, BaseModel):
        return _plain(dict(value))
    if isinstance(value, Mapping):
        return sorted((repr(key), _plain(one)) for key, one in value.items())
    if isinstance(value, AbstractSet):
        return sorted(map(repr, value))
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return [(one.name, _plain(getattr(value, one.name))) for one in fields(value) if one.repr]
    return repr(value)
