from __future__ import annotations

from dataclasses import replace

import pytest

from alerts.matching import Matcher, Op, parse_matchers
from alerts.silence import (
    Silence,
    SilenceState,
    decode_silence,
    encode_silence,
    expire,
    silenced_by,
)

ONE = Silence(
    id="s1",
    matchers=parse_matchers('model=churn severity=~"warn.*"'),
    starts_ms=100,
    ends_ms=200,
    who="ada",
    why="move",
)
FITTING = {"model": "churn", "severity": "warning"}


def test_it_mutes_from_its_start_up_to_its_end() -> None:
    states = {now: ONE.state(now) for now in (99, 100, 199, 200)}
    assert states == {99: "pending", 100: "active", 199: "active", 200: "expired"}
    assert [now for now in (99, 100, 199, 200) if ONE.mutes(FITTING, now)] == [100, 199]
    assert not ONE.mutes({**FITTING, "severity": "critical"}, 150)


def test_the_silence_that_holds_longest_is_named() -> None:
    longer = replace(ONE, id="s2", ends_ms=300)
    assert silenced_by(FITTING, [ONE, longer], 150) == longer
    assert silenced_by(FITTING, [longer, ONE], 150) == longer
    assert silenced_by(FITTING, [ONE], 200) is None
    assert silenced_by({}, [ONE], 150) is None


def test_expiring_ends_an_active_one_and_undoes_one_that_has_not_begun() -> None:
    ended = expire(ONE, 150, "bob")
    assert (ended.starts_ms, ended.ends_ms, ended.expired_by, ended.who) == (100, 150, "bob", "ada")
    assert ended.state(150) is SilenceState.EXPIRED
    never = expire(ONE, 50, "bob")
    assert not any(never.mutes(FITTING, now) for now in range(40, 250))
    with pytest.raises(ValueError, match="is over"):
        expire(ONE, 200, "bob")
    with pytest.raises(ValueError, match="is over"):
        expire(ended, 160, "bob")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ends_ms": 100}, "end after"),
        ({"who": " "}, "who"),
        ({"why": ""}, "why"),
        ({"matchers": ()}, "empty text"),
        ({"matchers": (Matcher("model", Op.MATCHES, ".*"),)}, "empty text"),
        ({"matchers": (Matcher("model", Op.NOT_EQUAL, "x"),)}, "empty text"),
    ],
)
def test_a_silence_must_hold_for_something_and_say_why(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ONE, **changes)


def test_it_is_stored_and_read_back_as_it_was() -> None:
    for silence in (ONE, expire(ONE, 50, "bob"), expire(ONE, 150, "bob")):
        assert decode_silence(encode_silence(silence)) == silence
    for broken in ("{}", "[]", '{"format":2}', '{"format":1,"matchers":[]}', '{"format":1}', "x"):
        with pytest.raises(ValueError):
            decode_silence(broken)


def test_it_is_told_in_one_line() -> None:
    line = replace(ONE, why="a\nb").describe()
    assert line == 'model="churn" severity=~"warn.*" until 1970-01-01T00:00:00.200Z by ada: a b'
