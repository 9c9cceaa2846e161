"""Matchers in Alertmanager's words: `=`, `!=`, `=~`, `!~` on labels, regular expressions anchored at both ends.

A label that is absent equals the empty text. Expressions are Python's, kept to what RE2 has too, and to shapes that
cannot take exponential time: a silence that somebody writes must not hold up the pages of others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

_LONGEST_PATTERN = 500
_MOST_REPEATS = 4  # unbounded repetitions in a row cost length ** repeats steps
_PART = re.compile(
    r'\s*(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s,{}"]*)', re.DOTALL
)
_SINGLE = re.compile(r"\s*(?P<name>[a-zA-Z_][a-zA-Z0-9_]*)\s*(?P<op>=~|!~|!=|=)\s*(?P<value>.*?)\s*", re.DOTALL)
_NOT_RE2 = re.compile(r"\(\?(?:[=!>(#]|<[=!]|P[=>])|[*+?}]\+")
_BACK_REFERENCE = re.compile(r"(?<!\\)(?:\\\\)*\\[1-9]")
_ESCAPE_OR_CLASS = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEAT = re.compile(r"[*+]|\{\d*,\d*\}|\{\d+\}")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


class Op(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    MATCHES = "=~"
    NOT_MATCHES = "!~"


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on one label. Raises ValueError for an expression that is broken or not allowed."""

    name: str
    op: Op
    value: str

    def __post_init__(self) -> None:
        if self.op in (Op.MATCHES, Op.NOT_MATCHES):
            _compiled(self.value)

    def fits(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.name, "")
        if self.op is Op.EQUAL:
            return value == self.value
        if self.op is Op.NOT_EQUAL:
            return value != self.value
        found = _compiled(self.value).fullmatch(value) is not None
        return found is (self.op is Op.MATCHES)

    def __str__(self) -> str:
        escaped = self.value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'{self.name}{self.op}"{escaped}"'


def fit(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """All of them hold; without any, everything fits."""
    return all(matcher.fits(labels) for matcher in matchers)


def exactly(match: Mapping[str, str]) -> tuple[Matcher, ...]:
    """The matchers of a `match: {label: value}`, in order of the labels."""
    return tuple(Matcher(name, Op.EQUAL, value) for name, value in sorted(match.items()))


def parse_matcher(text: str) -> Matcher:
    """One matcher as a shell hands it over: without quotes, all behind the sign is the value. Raises ValueError."""
    found = _SINGLE.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no matcher (write label=value, label!=value, label=~expression, label!~expression)"
        )
    return Matcher(found["name"], Op(found["op"]), _unquoted(found["value"]))


def parse_matchers(text: str) -> tuple[Matcher, ...]:
    r"""`model=churn severity=~"warn.*"`: apart by spaces or commas, in braces if you like. Raises ValueError.

    A value that holds a space, a comma or a brace stands in double quotes, in which `\"`, `\\` and `\n` are understood.
    """
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    matchers: list[Matcher] = []
    place = 0
    while place < len(rest):
        found = _PART.match(rest, place)
        if found is None or (found.end() < len(rest) and rest[found.end()] not in " \t\n,"):
            raise ValueError(
                f'cannot read the matchers at {rest[place : place + 40]!r} (such as: model=churn severity=~"warn.*")'
            )
        matchers.append(Matcher(found["name"], Op(found["op"]), _unquoted(found["value"])))
        place = found.end()
        separator = re.compile(r"\s*,?\s*").match(rest, place)
        place = separator.end() if separator is not None else place
    if not matchers:
        raise ValueError("no matcher is given")
    return tuple(matchers)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    if len(value) < 2 or not value.endswith('"') or not re.fullmatch(r'"(?:[^"\\]|\\.)*"', value, re.DOTALL):
        raise ValueError(f"the quotes of {value!r} do not match")
    # An escape that is unknown stays as it is, so that \d may be written plainly.
    return re.sub(r'\\([n"\\])', lambda found: _ESCAPES[found[1]], value[1:-1])


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    if len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"an expression has at most {_LONGEST_PATTERN} characters")
    plain = _ESCAPE_OR_CLASS.sub("x", pattern)  # escapes and classes are one sign each
    if _NOT_RE2.search(plain) or _BACK_REFERENCE.search(pattern):
        raise ValueError(f"{pattern!r} uses what Alertmanager's expressions do not have (look-around, back-references)")
    try:
        compiled = re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    if _is_costly(plain):
        raise ValueError(
            f"{pattern!r} may take for ever: at most {_MOST_REPEATS} repetitions, and none of a group that holds "
            "a repetition or an alternative"
        )
    return compiled


def _is_costly(plain: str) -> bool:
    """A group that is repeated and holds `|` or a repetition itself, or too many repetitions."""
    if len(_REPEAT.findall(plain)) > _MOST_REPEATS:
        return True
    holds = [False]  # of each open group, the whole text first: does it hold a repetition or an alternative?
    for place, sign in enumerate(plain):
        if sign == "(":
            holds.append(False)
        elif sign == ")" and len(holds) > 1:
            inner = holds.pop()
            if inner and _REPEAT.match(plain, place + 1):
                return True
            holds[-1] |= inner
        elif sign == "|" or _REPEAT.match(plain, place):
            holds[-1] = True
    return False
