from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.storm import (
    Held,
    Limit,
    StormState,
    admit,
    decode_storm,
    encode_storm,
    end,
    forget,
    summary_text,
)

LIMIT = Limit(messages=3, per_ms=1_000, settle_ms=50)


def held(key: str, *, critical: bool = False, models: tuple[str, ...] = ("m",), at: int = 0) -> Held:
    return Held(key=key, incident=key, models=models, is_critical=critical, text=key, at_ms=at)


def wanted(*keys: str) -> list[Held]:
    """An upper-case key is critical."""
    return [held(key, critical=key.isupper()) for key in keys]


def test_up_to_the_limit_less_one_everything_passes_and_the_rest_waits_for_the_summary() -> None:
    first = admit(StormState(), LIMIT, wanted("a", "b", "c", "d"), 0)
    assert (first.passed, first.summary, first.look_ms) == (("a", "b"), None, 50)
    more = admit(first.state, LIMIT, wanted("e"), 20)
    assert (more.passed, more.summary, more.look_ms) == ((), None, 50)
    last = admit(more.state, LIMIT, [], 50)
    assert last.passed == ()
    assert last.summary is not None
    assert [h.key for h in last.summary.held] == ["c", "d", "e"]
    assert last.summary.text.startswith("Storm: 3 incidents in 1 model (0 critical) since 1970-01-01T00:00:00.000Z")
    assert last.state.summaries == {last.summary.id: ("c", "d", "e")}
    assert [last.state.waits_for_no_end(key) for key in "abcdex"] == [False, False, True, True, True, False]
    assert [more.state.waits_for_no_end(key) for key in "abcdex"] == [False, False, True, True, True, False]
    assert (last.state.held, last.look_ms) == ((), None)


def test_critical_ones_pass_first() -> None:
    assert admit(StormState(), LIMIT, wanted("a", "b", "C"), 0).passed == ("C", "a")


def test_one_that_waits_alone_needs_no_summary() -> None:
    first = admit(StormState(), LIMIT, wanted("a", "b", "c"), 0)
    last = admit(first.state, LIMIT, [], 50)
    assert (last.passed, last.summary, last.state.summaries) == (("c",), None, {})
    assert last.state.alone == set("abc")


def test_when_the_limit_is_spent_all_waits_until_a_message_is_long_enough_ago() -> None:
    state = admit(StormState(), LIMIT, wanted("a", "b", "c"), 0).state
    state = admit(state, LIMIT, [], 50).state
    spent = admit(state, LIMIT, wanted("d", "e"), 60)
    assert (spent.passed, spent.summary, spent.look_ms) == ((), None, 1_000)
    assert admit(spent.state, LIMIT, [], 999).summary is None
    free = admit(spent.state, LIMIT, [], 1_000)
    assert free.summary is not None
    assert [h.key for h in free.summary.held] == ["d", "e"]


def test_a_limit_of_one_is_no_deadlock() -> None:
    limit = Limit(messages=1, per_ms=1_000, settle_ms=50)
    first = admit(StormState(), limit, wanted("a", "b", "c"), 0)
    assert (first.passed, first.look_ms) == (("a",), 1_000)
    assert admit(first.state, limit, [], 1_000).summary is not None


def test_what_waits_goes_before_what_comes() -> None:
    slow = Limit(messages=3, per_ms=1_000, settle_ms=900)
    state = admit(StormState(), slow, wanted("a", "b"), 0).state
    state = admit(state, slow, wanted("c"), 950).state
    late = admit(state, slow, wanted("d"), 1_001)
    assert (late.passed, [h.key for h in late.state.held], late.look_ms) == ((), ["c", "d"], 1_850)


def test_flushing_leaves_nothing_waiting() -> None:
    spent = admit(StormState(), LIMIT, wanted("a", "b", "c", "d"), 0, flush=True)
    assert spent.passed == ("a", "b")
    assert spent.summary is not None
    assert spent.state.held == ()


def test_a_newer_message_of_a_group_takes_the_place_of_the_one_that_waits() -> None:
    first = admit(StormState(), LIMIT, wanted("a", "b", "c", "d"), 0)
    again = admit(first.state, LIMIT, [held("c", critical=True)], 30)
    assert [(h.key, h.is_critical, h.at_ms) for h in again.state.held] == [("d", False, 0), ("c", True, 0)]


def test_one_that_was_collapsed_and_passes_later_stands_for_itself_again() -> None:
    state = admit(admit(StormState(), LIMIT, wanted("a", "b", "c", "d"), 0).state, LIMIT, [], 50).state
    later = admit(state, LIMIT, wanted("c"), 5_000)
    assert later.passed == ("c",)
    assert [later.state.waits_for_no_end(key) for key in "cd"] == [False, True]


def test_a_summary_is_over_when_all_that_it_stands_for_is() -> None:
    state = admit(admit(StormState(), LIMIT, wanted("a", "b", "c", "d"), 0).state, LIMIT, [], 50).state
    (name,) = state.summaries
    still, over = end(state, {"d"})
    assert (still.summaries, over, still.alone) == ({name: ("c", "d")}, (), frozenset())
    assert end(state, {"a", "x"}) == (replace(state, summaries={}, alone=frozenset("a")), (name,))


def test_what_is_over_waits_no_longer() -> None:
    first = admit(StormState(), LIMIT, wanted("a", "b", "c", "d"), 0)
    assert [h.key for h in forget(first.state, "c").held] == ["d"]


def test_the_summary_names_counts_and_the_most_affected_models() -> None:
    many = [held(str(i), critical=i < 3, models=(f"m{i % 5}",), at=i) for i in range(12)]
    assert summary_text(many) == (
        "Storm: 12 incidents in 5 models (3 critical) since 1970-01-01T00:00:00.000Z, told in this one message: "
        "m0, m1, m2 and 2 more models"
    )


@pytest.mark.parametrize("kind", [{"messages": 0}, {"per_ms": 0}, {"settle_ms": -1}, {"per_ms": 10, "settle_ms": 10}])
def test_a_limit_that_cannot_be_is_refused(kind) -> None:
    with pytest.raises(ValueError):
        Limit(**kind)


limits = st.builds(Limit, messages=st.integers(1, 4), per_ms=st.integers(100, 500), settle_ms=st.integers(0, 99))
arrivals = st.lists(st.tuples(st.integers(0, 200), st.lists(st.sampled_from("abcdefgH"), max_size=4, unique=True)))


@settings(deadline=None)
@given(limits, arrivals)
def test_nobody_is_woken_more_often_and_nothing_is_lost(limit, arrivals) -> None:
    state, sent, now, looks_ms = StormState(), [], 0, None
    asked: dict[str, int] = {}
    told: dict[str, int] = {}

    def take(found, at: int) -> None:
        sent.extend([at] * (len(found.passed) + (found.summary is not None)))
        for key in (*found.passed, *(h.key for h in (found.summary.held if found.summary else ()))):
            told[key] = told.get(key, 0) + 1

    for wait, keys in [*arrivals, (100_000, [])]:
        now += wait
        while looks_ms is not None and looks_ms <= now:
            at = looks_ms
            found = admit(state, limit, [], at)
            take(found, at)
            state, looks_ms = found.state, found.look_ms
            assert looks_ms is None or looks_ms > at
        for key in keys:
            asked[key] = asked.get(key, 0) + (key not in {h.key for h in state.held})
        found = admit(state, limit, wanted(*keys), now)
        take(found, now)
        state, looks_ms = found.state, found.look_ms
        assert decode_storm(encode_storm(state)) == state
    assert told == {key: count for key, count in asked.items() if count}
    assert all(sum(at - limit.per_ms < t <= at for t in sent) <= limit.messages for at in sent)


@pytest.mark.parametrize("broken", ["{}", "[]", '{"format":1}', '{"format":1,"held":[{}],"sent_ms":[]}', "x"])
def test_a_broken_state_is_refused(broken) -> None:
    with pytest.raises(ValueError):
        decode_storm(broken)
