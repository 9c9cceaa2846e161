"""What is sent to whoever trains, and what the answer means: one shape for all targets, filled in per request.

A `Target` is a request with blanks: `{{ request.id }}` in its URL, headers and body. Blanks are filled after the
structure is fixed, so no value can break out of its place: in JSON a text that is one blank takes the value with its
type (`{{ request.version | text }}` is text whatever it holds), in a URL values are percent-encoded, in headers line breaks are refused. Nothing is sent from here.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlencode

from alerts.delivery import Delivered, GaveUp, Outcome, Retry, classify
from alerts.retraining import RetrainingStatus

_BLANK = re.compile(r"\{\{\s*([a-z_]+(?:\.[a-z_]+)*)\s*(\|\s*text\s*)?\}\}")
_LONGEST_ID = 200
_LARGEST_ANSWER = 65_536

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Values = Mapping[str, str | int | float | bool | None]  # dotted name -> value


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """How a target knows us. `secret` is not in here: it is read anew for each attempt and handed to `rendered`.

    `bearer`: the secret is the token (from a file that is replaced now and then, such as a service account's, too).
    `basic`: it is the password of `user`. `login`: a token is fetched first from `token_url` with user and password
    (Airflow 3). `client`: the same by OAuth 2 client credentials, `user` being the client's id. `header`: it is sent as
    the header `name`.
    """

    mode: Literal["none", "bearer", "basic", "login", "client", "header"] = "none"
    user: str = ""
    token_url: str = ""
    scope: str = ""
    name: str = "Authorization"

    @property
    def fetches_token(self) -> bool:
        return self.mode in ("login", "client")


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """How to ask for a run where nobody calls back: GET `url`, `{{ run.id }}` in it; the first pointer that finds one
    of `states` says where it stands.
    """

    url: str
    pointers: tuple[str, ...]
    states: Mapping[str, RetrainingStatus]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """`body` is JSON with blanks, or, with `form`, flat texts that are sent form-encoded.

    `repeated` are the statuses by which a target says that it has this request already. `success`: a JSON pointer that
    the answer must have with one of these values, for targets that answer 200 to everything. `run_id` and `run_url` are
    JSON pointers into the answer, or `header:NAME`.
    """

    url: str
    method: Literal["POST", "PUT"] = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Json = None
    form: bool = False
    auth: Auth = field(default_factory=Auth)
    repeated: frozenset[int] = frozenset()
    success: tuple[str, tuple[str, ...]] | None = None
    run_id: str | None = None
    run_url: str | None = None
    poll: Poll | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """A request as it goes out. Its repr shows neither headers nor body: they may hold a token."""

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came of it; `run_id` and `run_url` name the job at the target, as far as it told."""

    outcome: Outcome
    run_id: str | None = None
    run_url: str | None = None


def values(
    *,
    request: Mapping[str, str | int | float | bool | None],
    callback_url: str | None,
    callback_token: str | None,
    alert: Mapping[str, str | int | float | bool | None] | None = None,
) -> dict[str, str | int | float | bool | None]:
    """What blanks can be: `request.*` (the retraining object, with `version`), `alert.*` (its cause), `callback.url`,
    `callback.token`. `request.name` is the id as a Kubernetes name.
    """
    out: dict[str, str | int | float | bool | None] = {f"request.{name}": value for name, value in request.items()}
    out |= {f"alert.{name}": value for name, value in (alert or {}).items()}
    out |= {"callback.url": callback_url, "callback.token": callback_token}
    out["request.name"] = f"driftline-{str(request['id']).lower()}"[:63]
    return out


def render(target: Target, known: Values, secret: str | None = None, token: str | None = None) -> Rendered:
    """The request. `token` is what `token_of` found, for targets whose auth fetches one.

    Raises ValueError for a blank that is not known (`check` a configuration by rendering a sample), naming it.
    """
    headers = {name: _header(_text(value, known)) for name, value in target.headers.items()}
    headers |= _auth_headers(target.auth, secret, token)
    if target.form:
        if not isinstance(target.body, Mapping):
            raise ValueError("the body of a form is a mapping of texts")
        fields = {name: _text(str(value), known) for name, value in target.body.items()}
        body, kind = urlencode(fields).encode("ascii"), "application/x-www-form-urlencoded"
    else:
        filled = _filled(target.body, known)
        body = json.dumps(filled, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii")
        kind = "application/json"
    return Rendered(
        method=target.method, url=_url(target.url, known), headers={"content-type": kind, **headers}, body=body
    )


def token_request(auth: Auth, secret: str) -> Rendered:
    """The request that fetches a token, for `login` (JSON) and `client` (OAuth 2, form). Raises ValueError for others."""
    if auth.mode == "login":
        body = json.dumps({"username": auth.user, "password": secret}, separators=(",", ":")).encode("ascii")
        headers = {"content-type": "application/json", "accept": "application/json"}
        return Rendered(method="POST", url=auth.token_url, headers=headers, body=body)
    if auth.mode == "client":
        fields = {"grant_type": "client_credentials"} | ({"scope": auth.scope} if auth.scope else {})
        headers = {"content-type": "application/x-www-form-urlencoded", "authorization": _basic(auth.user, secret)}
        return Rendered(method="POST", url=auth.token_url, headers=headers, body=urlencode(fields).encode("ascii"))
    raise ValueError(f"auth {auth.mode} fetches no token")


def token_of(body: bytes) -> str | None:
    """The `access_token` of the answer to `token_request`; None where it holds none."""
    found = _at(_json(body), "/access_token")
    return found if isinstance(found, str) and found else None


def read_answer(target: Target, status: int, headers: Mapping[str, str], body: bytes, now_ms: int) -> Answer:
    """What the target's answer means. `headers` in lower case. Nothing of the answer but the run's id and URL is kept."""
    outcome = Delivered() if status in target.repeated else classify(status, headers, now_ms)
    document = _json(body)
    if isinstance(outcome, Delivered) and target.success is not None and status not in target.repeated:
        pointer, wanted = target.success
        if _scalar(_at(document, pointer)) not in wanted:
            outcome = GaveUp(f"answered HTTP {status}, but not with {' or '.join(wanted)} at {pointer}")
    if not isinstance(outcome, Delivered):
        return Answer(outcome=outcome)
    return Answer(
        outcome=outcome,
        run_id=_found(target.run_id, headers, document),
        run_url=_found(target.run_url, headers, document),
    )


def can_poll(target: Target, run_id: str | None) -> bool:
    """Whether the target can be asked for a run. Some know it by our own id, so its own name is not always needed."""
    if target.poll is None:
        return False
    return run_id is not None or not any(blank[1] == "run.id" for blank in _BLANK.finditer(target.poll.url))


def poll_request(
    target: Target, known: Values, run_id: str | None, secret: str | None = None, token: str | None = None
) -> Rendered | None:
    """The question how the run does; None for a target that cannot be asked."""
    if target.poll is None or not can_poll(target, run_id):
        return None
    headers = {"accept": "application/json", **_auth_headers(target.auth, secret, token)}
    return Rendered(method="GET", url=_url(target.poll.url, {**known, "run.id": run_id}), headers=headers, body=b"")


def read_poll(target: Target, status: int, body: bytes) -> RetrainingStatus | Retry | None:
    """Where the run stands; None where the answer says nothing that we know; `Retry` where there was no answer to read."""
    if target.poll is None:
        return None
    if status != 200:
        return Retry(None, f"answered HTTP {status}")
    document = _json(body)
    for pointer in target.poll.pointers:
        found = target.poll.states.get(_scalar(_at(document, pointer)) or "")
        if found is not None:
            return found
    return None


def _filled(template: Json, known: Values) -> Json:
    if isinstance(template, str):
        whole = _BLANK.fullmatch(template.strip())
        return _known(whole[1], known) if whole and not whole[2] else _text(template, known)
    if isinstance(template, Mapping):
        return {name: _filled(value, known) for name, value in template.items()}
    if isinstance(template, Sequence):
        return [_filled(value, known) for value in template]
    return template


def _text(template: str, known: Values) -> str:
    return _BLANK.sub(lambda blank: _plain(_known(blank[1], known)), template)


def _url(template: str, known: Values) -> str:
    return _BLANK.sub(lambda blank: quote(_plain(_known(blank[1], known)), safe=""), template)


def _known(name: str, known: Values) -> str | int | float | bool | None:
    if name not in known:
        raise ValueError(f"there is no {{{{ {name} }}}} (known: {', '.join(sorted(known))})")
    return known[name]


def _plain(value: str | float | bool | None) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _header(value: str) -> str:
    if not value.isascii() or any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise ValueError("a header holds printable ASCII only")
    return value


def _auth_headers(auth: Auth, secret: str | None, token: str | None) -> dict[str, str]:
    if auth.mode == "none":
        return {}
    given = token if auth.fetches_token else secret
    if not given:
        raise ValueError(f"auth {auth.mode} needs a {'token' if auth.fetches_token else 'secret'}")
    clean = given.strip()
    if auth.mode == "basic":
        return {"authorization": _basic(auth.user, clean)}
    if not clean.isascii() or any(ord(sign) < 32 for sign in clean):
        raise ValueError("the secret cannot be sent in a header")  # and is not shown
    return {auth.name.lower(): clean} if auth.mode == "header" else {"authorization": f"Bearer {clean}"}


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")


def _json(body: bytes) -> Any:
    if len(body) > _LARGEST_ANSWER:
        return None
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _at(document: Any, pointer: str) -> Any:
    """RFC 6901; None where it leads nowhere."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(name)
        elif isinstance(document, list) and name.isascii() and name.isdigit() and int(name[:9]) < len(document):
            document = document[int(name[:9])]
        else:
            return None
    return document


def _scalar(value: Any) -> str | None:
    return None if value is None or isinstance(value, dict | list) else _plain(value)


def _found(where: str | None, headers: Mapping[str, str], document: Any) -> str | None:
    """A short printable text, or None: it is shown to people and put into URLs."""
    if where is None:
        return None
    if where.startswith("header:"):
        value = headers.get(where.removeprefix("header:").lower())
    else:
        value = _scalar(_at(document, where))
    return value if value and len(value) <= _LONGEST_ID and value.isprintable() else None
