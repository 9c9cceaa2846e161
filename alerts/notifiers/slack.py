"""Notifier `slack`: an incoming webhook, or a bot that also marks the first message of an incident when it is over."""

from __future__ import annotations

import json
import time
from collections import OrderedDict
from textwrap import wrap
from typing import Any, Protocol

from alerts.delivery import Delivered, GaveUp, Outcome, Retry
from alerts.egress import Answer, Egress, HttpEdge, Limits
from alerts.message import Message, Wording, clip, compose, what_lines

API_URL = "https://slack.com/api"

# Slack's: 150 characters a header, 3,000 a section, 50 blocks. All text together has a limit that is written nowhere,
# near 13,000 characters.
_HEADER, _SECTION, _TOTAL = 150, 3_000, 11_000
_PARAGRAPH = 550  # an escaped character is up to five

_TRY_AGAIN = frozenset({"fatal_error", "internal_error", "ratelimited", "request_timeout", "service_unavailable"})
# What may be shown of Slack's answers: words that are known beforehand, never the answer itself.
_KNOWN = frozenset({
    "account_inactive", "channel_not_found", "invalid_auth", "invalid_blocks", "is_archived", "missing_scope", "msg_too_long",
    "no_permission", "no_text", "not_authed", "not_in_channel", "restricted_action", "token_expired", "token_revoked",
    "too_many_attachments",
})  # fmt: skip
_CANNOT_EDIT = frozenset({"cant_update_message", "edit_window_closed", "message_not_found", "thread_not_found"})
_FORGET_AFTER = 10_000
_JSON = {"content-type": "application/json; charset=utf-8"}


class SlackWebhookNotifier:
    """Posts to an incoming webhook, which can neither edit nor thread: the end of an incident is a message of its own.

    Raises ValueError for a URL that cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        wording: Wording | None = None,
        limits: Limits | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._edge, self._wording = HttpEdge(url, limits=limits, egress=egress), wording
        self.limit_seconds = self._edge.limits.total_seconds
        self.host = self._edge.host

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        message = compose(body, self._wording)
        return self._edge.send(_encoded({"text": fallback(message), "blocks": blocks(message)}), _JSON, attempted_at_ms)

    def close(self) -> None:
        self._edge.close()

    def __repr__(self) -> str:
        return f"SlackWebhookNotifier({self.host})"


class Posts(Protocol):
    """Where the first post of an incident is kept: (channel, ts) by incident. What is not known is posted anew."""

    def recall(self, incident: str, /) -> tuple[str, str] | None: ...
    def remember(self, incident: str, channel: str, ts: str, /) -> None: ...
    def forget(self, incident: str, /) -> None: ...


class PostsInMemory:
    """Those of this process; after a restart an incident that is open goes on in a new message."""

    def __init__(self) -> None:
        self._posts: OrderedDict[str, tuple[str, str]] = OrderedDict()

    def recall(self, incident: str) -> tuple[str, str] | None:
        return self._posts.get(incident)

    def remember(self, incident: str, channel: str, ts: str) -> None:
        self._posts[incident] = (channel, ts)
        if len(self._posts) > _FORGET_AFTER:
            self._posts.popitem(last=False)

    def forget(self, incident: str) -> None:
        self._posts.pop(incident, None)


class SlackBotNotifier:
    """Posts an incident once, then answers in its thread; when it is over, the first message says so too.

    The bot needs the scope `chat:write` and must be in the channel. Raises ValueError for a URL that cannot be used.
    """

    def __init__(
        self,
        token: str,
        channel: str,
        *,
        posts: Posts | None = None,
        api_url: str = API_URL,
        wording: Wording | None = None,
        limits: Limits | None = None,
        egress: Egress | None = None,
    ) -> None:
        self._post = HttpEdge(f"{api_url}/chat.postMessage", limits=limits, egress=egress)
        self._update = HttpEdge(f"{api_url}/chat.update", limits=limits, egress=egress)
        self._headers = {**_JSON, "authorization": f"Bearer {token.strip()}"}
        self._channel, self._wording, self._posts = channel, wording, posts or PostsInMemory()
        self.limit_seconds = self._post.limits.total_seconds
        self.host = self._post.host

    def send(self, message_id: str, body: bytes, attempted_at_ms: int) -> Outcome:
        until = time.monotonic() + self.limit_seconds
        message = compose(body, self._wording)
        content = {"text": fallback(message), "blocks": blocks(message), "unfurl_links": False}
        first = self._posts.recall(message.incident)
        if first is not None and not message.firing:
            # First, since it may be done twice: a message that failed afterwards is tried again from here.
            edited = self._call(self._update, {"channel": first[0], "ts": first[1], **content}, attempted_at_ms, until)
            if isinstance(edited, str) and edited in _CANNOT_EDIT:
                first = None
            elif isinstance(edited, Retry):
                return edited
        thread = {} if first is None else {"channel": first[0], "thread_ts": first[1]}
        answer = self._call(self._post, {"channel": self._channel, **thread, **content}, attempted_at_ms, until)
        if isinstance(answer, dict):
            if not message.firing:
                self._posts.forget(message.incident)
            elif first is None:
                self._posts.remember(message.incident, str(answer.get("channel")), str(answer.get("ts")))
            return Delivered()
        if isinstance(answer, str):
            shown = answer if answer in _KNOWN | _CANNOT_EDIT else "an error"
            return GaveUp(f"{self.host} refused the message: {shown}")
        return answer

    def close(self) -> None:
        self._post.close()
        self._update.close()

    def __repr__(self) -> str:
        return f"SlackBotNotifier({self.host})"

    def _call(
        self, edge: HttpEdge, content: dict[str, Any], attempted_at_ms: int, until: float
    ) -> dict[str, Any] | str | Retry | GaveUp:
        """Slack's object when it says ok, else its error word, or what the missing answer means."""
        answer = edge.post(_encoded(content), self._headers, read=True, seconds=until - time.monotonic())
        if not isinstance(answer, Answer):
            return answer
        judged = edge.judge(answer, attempted_at_ms)
        if not isinstance(judged, Delivered):
            return judged
        try:
            said = json.loads(answer.body)
        except ValueError:
            said = None
        if not isinstance(said, dict):
            return Retry(None, f"{self.host} answered with something that is not Slack's")
        if said.get("ok") is True:
            return said
        error = str(said.get("error"))
        return Retry(None, f"{self.host} says {error}") if error in _TRY_AGAIN else error


def fallback(message: Message) -> str:
    """What notifications on a phone show."""
    return escape(clip(message.title, 300))


def blocks(message: Message) -> list[dict[str, Any]]:
    """Header, sections, links: within Slack's limits whatever the message holds."""
    badge = (
        "\N{LARGE GREEN CIRCLE}"
        if not message.firing
        else "\N{LARGE RED CIRCLE}"
        if message.critical
        else "\N{LARGE ORANGE CIRCLE}"
    )
    header = {"type": "plain_text", "text": clip(f"{badge} {message.title}", _HEADER), "emoji": False}
    out: list[dict[str, Any]] = [{"type": "header", "text": header}]
    out += [_section(text) for text in _sections(message)]
    if message.links and not message.custom:
        places = " · ".join(f"<{escape(url)}|{escape(name)}>" for name, url in message.links)
        if len(places) <= _SECTION:  # a link that is cut leads nowhere
            out.append(_section(places))
    out.append(
        {"type": "context", "elements": [{"type": "mrkdwn", "text": f"incident {escape(clip(message.incident, 64))}"}]}
    )
    return out


def escape(text: str) -> str:
    """So that no name can mention a channel or hide a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def _sections(message: Message) -> list[str]:
    """The text in pieces of a section's size, cut after escaping and only between lines."""
    pieces, piece, total = [], "", 0
    for paragraph in _paragraphs(message):
        total += len(paragraph) + 1
        if total > _TOTAL:
            piece = f"{piece}\n…"
            break
        if piece and len(piece) + len(paragraph) + 3 > _SECTION:
            pieces.append(piece)
            piece = paragraph
        else:
            piece = f"{piece}\n{paragraph}" if piece else paragraph
    if piece.strip():
        pieces.append(piece)
    return pieces


def _paragraphs(message: Message) -> list[str]:
    """Every one shorter than a section, also where each of its characters had to be escaped."""
    if message.custom:
        return [escape(clip(line, _PARAGRAPH)) for line in message.text.splitlines()]
    what = [f"• {escape(clip(line, _PARAGRAPH))}" for line in what_lines(message.alerts)]
    facts = [line for label, text in message.facts for line in _fact(label, text)]
    return [*what, *facts]


def _fact(label: str, text: str) -> list[str]:
    """A list of names goes on in the next line, everything else is cut."""
    lines = wrap(text, _PARAGRAPH) if label == "Models" else [clip(text, _PARAGRAPH)]
    return [f"*{escape(label)}:* {escape(lines[0])}", *map(escape, lines[1:])]


def _encoded(content: dict[str, Any]) -> bytes:
    return json.dumps(content, separators=(",", ":")).encode()
