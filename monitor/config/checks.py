"""What one part of a configuration says about another: names that must exist, files that must be there.

Looks at the raw document, so that it also works where other parts are wrong, and in the same pass.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from alerts.addresses import is_public
from alerts.retraining_targets import Target, Values, render, values
from alerts.routing import DECISIONS
from monitor.config.words import written_at
from monitor.config.yaml import Document, Problem
from monitor.config.yaml import Path as KeyPath

# What blanks of a retraining target can be, see `alerts.retraining_targets.values`.
_REQUEST: Values = {"type": "retraining", "id": "0", "model": "m", "status": "requested", "at": "2026-01-01T00:00:00Z", "reason": "r",
            "version": "1"}  # fmt: skip
_ALERT: Values = {
    "type": "alert", "id": "0", "fingerprint": "0", "incident": "0", "model": "m", "version": "1", "segment": "region=EU",
    "monitor": "data", "subject": "income", "severity": "warning", "status": "firing", "corrected": False,
    "at": "2026-01-01T00:00:00Z", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None, "window": "0", "reason": "drifted",
    "text": "t",
}  # fmt: skip
SAMPLE = values(request=_REQUEST, alert=_ALERT, callback_url="https://driftline.example", callback_token="token")  # noqa: S106


def check_references(document: Document) -> Iterator[Problem]:
    """A problem for every name and file that is not there. Values of a wrong type are left to the types."""
    data = document.data
    yield from _missing_files(document)
    yield from _closed_addresses(document)
    yield from _apprise(document)
    yield from _taken_names(document)
    yield from _own_fallbacks(document)
    yield from _unheard_callback(document)
    named = (
        ("receiver", "receivers", _route_receivers(data)),
        ("receiver", "receivers", _fallbacks(data)),
        ("retraining target", "retraining_targets", _targets(data)),
        ("model", "models", _source_models(data)),
        ("model", "models", _tombstone_models(data)),
        ("time interval", "time_intervals", _intervals(data)),
    )
    for what, where, uses in named:
        known = sorted(_mapping(data.get(where)))
        for path, name in uses:
            if isinstance(name, str) and name not in known:
                fix = _advice(name, known, where)
                yield Problem(document.mark(path), written_at(document, path), f"unknown {what} {name}", fix)
    yield from _wrong_blanks(document)


def _advice(name: str, known: list[str], where: str) -> str:
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"did you mean {close[0]}?"
    return f"{where} has {', '.join(known[:10])}" if known else f"add it under {where}"


def _missing_files(document: Document) -> Iterator[Problem]:
    for name, model in _mapping(document.data.get("models")).items():
        path = ("models", name, "reference", "path")
        file = _mapping(_mapping(model).get("reference")).get("path")
        if isinstance(file, str) and file and not Path(file).is_file():
            yield Problem(
                document.mark(path), path, f"no such file: {file}", "paths are relative to the file that names them"
            )


def _route_receivers(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    routes = data.get("routes")
    for i, route in enumerate(routes if isinstance(routes, tuple) else ()):
        yield ("routes", i, "receiver"), _mapping(route).get("receiver")


def _fallbacks(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    for name, receiver in _mapping(data.get("receivers")).items():
        yield ("receivers", name, "fallback"), _mapping(receiver).get("fallback")


def _taken_names(document: Document) -> Iterator[Problem]:
    receivers = _mapping(document.data.get("receivers"))
    taken = (
        [(("receivers", DECISIONS), "stands for what was decided about retraining")] if DECISIONS in receivers else []
    )
    taken += [
        (("retraining_targets", name), "is the name of a receiver too")
        for name in _mapping(document.data.get("retraining_targets"))
        if name in receivers
    ]
    for place, message in taken:
        yield Problem(document.mark(place, key=True), place, message, "choose another name")


def _unheard_callback(document: Document) -> Iterator[Problem]:
    place = ("retraining", "callback")
    if _under(document.data, place) is not None and document.data.get("http") is None:
        yield Problem(
            document.mark(place, key=True), place, "nothing listens for it", "add http: {listen: 127.0.0.1:8080}"
        )


def _own_fallbacks(document: Document) -> Iterator[Problem]:
    for path, name in _fallbacks(document.data):
        if name == path[1]:
            yield Problem(document.mark(path), path, "is the receiver itself", "name another one")


def _closed_addresses(document: Document) -> Iterator[Problem]:
    """Targets that `egress.deny_private` closes as they are written; what a name leads to is seen when it is used."""
    data = document.data
    if _mapping(data.get("egress")).get("deny_private") is not True:
        return
    for path, host in _hosts(data):
        try:
            closed = host == "localhost" or not is_public(host)
        except ValueError:  # a name
            closed = False
        if closed:
            yield Problem(document.mark(path), path, f"{host} is private, which egress.deny_private closes")


def _apprise(document: Document) -> Iterator[Problem]:
    closed = _mapping(document.data.get("egress")).get("deny_private") is True
    for name, entry in _mapping(document.data.get("receivers")).items():
        path: KeyPath = ("receivers", name, "apprise")
        if "apprise" not in _mapping(entry):
            continue
        if importlib.util.find_spec("apprise") is None:
            fix = "pip install 'driftline[apprise]'"
            yield Problem(document.mark(path, key=True), path, "the library apprise is not installed", fix)
        if closed:
            what = "connects by itself, so it cannot be held to egress.deny_private"
            yield Problem(document.mark(path, key=True), path, what, "use another kind of receiver")


def _hosts(data: dict[str, Any]) -> Iterator[tuple[KeyPath, str]]:
    entries = [(w, n, e) for w in ("receivers", "retraining_targets") for n, e in _mapping(data.get(w)).items()]
    for where, name, entry in entries:
        for kind, settings in _mapping(entry).items():
            urls = _mapping(settings).get("urls")
            listed = [(("urls", i), url) for i, url in enumerate(urls)] if isinstance(urls, tuple) else []
            single = [(key, _under(settings, key)) for key in _ADDRESSES]
            for key, url in [*single, *listed]:
                if isinstance(url, str) and "://" in url:
                    with contextlib.suppress(ValueError):
                        yield (where, name, kind, *key), urlsplit(url).hostname or ""
            if isinstance(host := _mapping(settings).get("host"), str):
                yield (where, name, kind, "host"), host


_ADDRESSES: tuple[tuple[str, ...], ...] = (("url",), ("api",), ("poll", "url"), ("auth", "token_url"))


def _under(settings: object, key: tuple[str, ...]) -> object:
    for part in key:
        settings = _mapping(settings).get(part)
    return settings


def _targets(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    for name, model in _mapping(data.get("models")).items():
        yield ("models", name, "retraining", "target"), _mapping(_mapping(model).get("retraining")).get("target")


def _intervals(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    routes = data.get("routes")
    lists: list[tuple[KeyPath, Any]] = [
        (("routes", i, key), _mapping(route).get(key))
        for i, route in enumerate(routes if isinstance(routes, tuple) else ())
        for key in ("mute_time_intervals", "active_time_intervals")
    ]
    lists.append((("retraining", "freeze"), _mapping(data.get("retraining")).get("freeze")))
    for name, model in _mapping(data.get("models")).items():
        lists.append(
            (("models", name, "retraining", "freeze"), _mapping(_mapping(model).get("retraining")).get("freeze"))
        )
    for path, names in lists:
        for i, name in enumerate(names if isinstance(names, tuple) else ()):
            yield (*path, i), name


def _wrong_blanks(document: Document) -> Iterator[Problem]:
    """A sample request is filled in, text by text, so that each blank that is none is told where it stands."""
    for name, entry in _mapping(document.data.get("retraining_targets")).items():
        path: KeyPath = ("retraining_targets", name, "http")
        http = _mapping(_mapping(entry).get("http"))
        for key in ("url", "headers", "body", "poll"):
            known = SAMPLE | {"run.id": "1"} if key == "poll" else SAMPLE
            part = http.get(key) if key != "poll" else {"url": _mapping(http.get(key)).get("url")}
            for place, value in _texts(part, (*path, key)):
                target = Target(url="", headers={"x": value}) if key == "headers" else Target(url="", body=value)
                try:
                    render(target, known)
                except ValueError as error:
                    message, _, fix = str(error).partition(" (")
                    yield Problem(document.mark(place), place, message, fix.removesuffix(")"))


def _texts(value: object, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """The scalars in a structure, with their places."""
    if isinstance(value, dict | tuple):
        for key, child in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _texts(child, (*path, key))
    elif isinstance(value, str | float):
        yield path, value


def _source_models(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    for name, source in _mapping(data.get("sources")).items():
        yield ("sources", name, "file", "model"), _mapping(_mapping(source).get("file")).get("model")


def _tombstone_models(data: dict[str, Any]) -> Iterator[tuple[KeyPath, Any]]:
    for name, source in _mapping(data.get("sources")).items():
        kafka = _mapping(_mapping(source).get("kafka"))
        yield ("sources", name, "kafka", "tombstone", "model"), _mapping(kafka.get("tombstone")).get("model")


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
