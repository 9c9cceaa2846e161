"""Groups against timelines, and against Alertmanager's own rules written down a second time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.alert import Alert
from alerts.grouping import (
    Audience,
    Group,
    Timing,
    Untold,
    Why,
    acknowledge,
    arrive,
    decode_group,
    encode_group,
    joined,
    look,
    taken_back,
)
from alerts.lifecycle import Severity

PEOPLE, STREAM = Audience.PEOPLE, Audience.STREAM
TIMING = Timing(wait_ms=30, interval_ms=300, repeat_ms=1_000)


def alert(name: str, *, firing: bool = True, seq: int = 0, critical: bool = False, acknowledged: bool = False) -> Alert:
    return Alert(
        id=name,
        seq=seq,
        incident="i",
        model="m",
        monitor="data",
        subject=name,
        severity=Severity.CRITICAL if critical else Severity.WARNING,
        firing=firing,
        starts_at_ms=0,
        at_ms=1,
        acknowledged=acknowledged,
    )


@dataclass
class Timeline:
    """A group on virtual time: say what happens when; `sent` is what came out, (time, why, firing, resolved)."""

    audience: Audience = PEOPLE
    timing: Timing = TIMING
    group: Group | None = None
    muted: set[str] = field(default_factory=set)
    sent: list[tuple[int, str, str, str]] = field(default_factory=list)
    transitions: list[int] = field(default_factory=list)
    now: int = 0
    seq: int = 0

    def until(self, now: int) -> None:
        """Look whenever it is due."""
        while self.group is not None and self.group.look_ms is not None and self.group.look_ms <= now:
            self.now = max(self.now, self.group.look_ms)
            found = look(self.group, self.timing, self.audience, dict.fromkeys(self.muted, "said"), self.now)
            self.group = found.group
            if (notice := found.notice) is not None:
                self.sent.append((self.now, str(notice.why), " ".join(notice.firing), " ".join(notice.resolved)))
                self.transitions += notice.transitions
        self.now = now

    def at(self, now: int, what: str) -> None:
        """`+a` fires, `!a` is critical, `-a` is over, `?a` is muted, `.a` not any more, `ack a`."""
        self.until(now)
        for word in what.split():
            sign, name = word[0], word[1:]
            if sign == "?":
                self.muted.add(name)
            elif sign == ".":
                self.muted.discard(name)
            elif sign == "@" and self.group is not None:
                self.group = acknowledge(self.group, name)
            elif sign == "#" and self.group is not None:
                self.group = acknowledge(self.group, name, taken=False)
            else:
                self.seq += 1
                arrival = alert(name, firing=sign != "-", seq=self.seq, critical=sign == "!")
                self.group = arrive(self.group, [arrival], self.timing, now)


def run(*happens: tuple[int, str], until: int = 10_000, **kind) -> Timeline:
    timeline = Timeline(**kind)
    for now, what in happens:
        timeline.at(now, what)
    timeline.until(until)
    return timeline


def test_group_wait_collects_and_group_interval_spaces_what_follows() -> None:
    timeline = run((0, "+a"), (20, "+b"), (40, "+c"), (100, "+d"), until=700)
    assert timeline.sent == [(30, "new", "a b", ""), (330, "new", "a b c d", "")]


def test_the_first_message_comes_after_group_wait_and_not_before() -> None:
    assert run((0, "+a"), until=29).sent == []
    assert run((0, "+a"), until=30).sent == [(30, "new", "a", "")]


def test_an_arrival_later_than_the_interval_waits_for_the_next_tick_of_the_group() -> None:
    assert run((0, "+a"), (500, "+b"), until=900).sent == [(30, "new", "a", ""), (630, "new", "a b", "")]
    assert run((0, "+a"), (630, "+b"), until=900).sent[1:] == [(630, "new", "a b", "")]


def test_what_arrives_at_the_moment_of_a_look_waits_for_the_next() -> None:
    assert run((0, "+a"), (30, "+b"), until=900).sent == [(30, "new", "a", ""), (330, "new", "a b", "")]


def test_a_muted_one_that_is_looked_at_does_not_put_off_the_repetition_of_others() -> None:
    minute = Timing(wait_ms=30, interval_ms=60_000, repeat_ms=150_000)
    timeline = run((0, "+a ?b +b"), timing=minute, until=400_000)
    assert timeline.sent == [(30, "new", "a", ""), (180_030, "repeated", "a", ""), (360_030, "repeated", "a", "")]
    quick = run((0, "+a ?b +b"), timing=Timing(wait_ms=30, interval_ms=300, repeat_ms=1_000), until=1_500)
    assert quick.sent == [(30, "new", "a", ""), (1_230, "repeated", "a", "")]


def test_what_fires_is_repeated_at_the_first_tick_after_repeat_interval() -> None:
    times = [sent[:2] for sent in run((0, "+a"), until=3_000).sent]
    assert times == [(30, "new"), (1_230, "repeated"), (2_430, "repeated")]
    assert len(run((0, "+a"), timing=replace(TIMING, repeat_ms=None)).sent) == 1


def test_one_that_is_over_is_told_once_and_forgotten() -> None:
    timeline = run((0, "+a +b"), (100, "-a"), (400, "-b"))
    assert timeline.sent == [(30, "new", "a b", ""), (330, "resolved", "b", "a"), (630, "resolved", "", "b")]
    assert timeline.group is None


def test_people_are_not_told_what_was_over_before_its_message() -> None:
    timeline = run((0, "+a"), (10, "-a"))
    assert (timeline.sent, timeline.group) == ([], None)


def test_a_stream_is_told_everything_in_order_also_what_was_over_at_once() -> None:
    timeline = run((0, "+a"), (10, "-a"), (11, "+b !b"), (40, "-b"), audience=STREAM)
    assert timeline.transitions == [1, 2, 3, 4, 5]
    assert timeline.group is None


def test_a_stream_without_wait_is_told_at_once() -> None:
    timing = Timing(wait_ms=0, interval_ms=1, repeat_ms=None)
    timeline = run((5, "+a"), (6, "+b"), (900, "-a"), audience=STREAM, timing=timing)
    assert timeline.sent == [(5, "new", "a", ""), (6, "new", "b", ""), (900, "resolved", "", "a")]


def test_one_that_becomes_critical_is_news() -> None:
    assert run((0, "+a"), (50, "!a"), until=700).sent == [(30, "new", "a", ""), (330, "escalated", "a", "")]


def test_one_that_is_acknowledged_is_not_repeated_but_told_when_worse_and_when_over() -> None:
    timeline = run((0, "+a"), (100, "@a"), until=9_000)
    assert [sent[1] for sent in timeline.sent] == ["new"]
    timeline.at(9_000, "!a")
    timeline.until(9_400)
    timeline.at(9_500, "-a")
    timeline.until(10_000)
    assert [sent[1] for sent in timeline.sent] == ["new", "escalated", "resolved"]


def test_one_that_is_taken_back_into_nobodys_hand_is_repeated_again() -> None:
    timeline = run((0, "+a"), (100, "@a"), (5_000, "#a"), until=5_400)
    assert [sent[1] for sent in timeline.sent] == ["new", "repeated"]


def test_an_acknowledged_group_is_repeated_when_another_joins() -> None:
    timeline = run((0, "+a"), (100, "@a"), (5_000, "+b"), until=6_900)
    assert [sent[1:3] for sent in timeline.sent] == [("new", "a"), ("new", "a b"), ("repeated", "a b")]


def test_what_is_muted_is_told_when_it_is_no_longer() -> None:
    timeline = run(
        (0, "?a +a"), (1_000, ".a"), timing=Timing(wait_ms=30, interval_ms=300, repeat_ms=None), until=100_000
    )
    assert [sent[1:] for sent in timeline.sent] == [("new", "a", "")]
    assert timeline.sent[0][0] > 1_000


def test_what_was_muted_all_its_life_is_told_to_no_person() -> None:
    timeline = run((0, "?a +a"), (1_000, "-a"), audience=Audience.PEOPLE, until=200_000)
    assert (timeline.sent, timeline.group) == ([], None)


def test_a_stream_hears_afterwards_of_what_was_muted_all_its_life() -> None:
    timeline = run((0, "?a +a"), (1_000, "-a"), audience=Audience.STREAM, until=200_000)
    assert timeline.sent == []
    timeline = run((0, "?a +a"), (1_000, "-a"), (200_000, ".a"), audience=Audience.STREAM, until=400_000)
    assert (timeline.transitions, timeline.group) == ([1, 2], None)
    assert [sent[1:] for sent in timeline.sent] == [("resolved", "", "a")]


def test_who_heard_it_fire_hears_the_end_though_it_is_muted_by_then() -> None:
    for audience in Audience:
        timeline = run((0, "+a"), (100, "?a"), (200, "-a"), audience=audience)
        assert [sent[1:] for sent in timeline.sent] == [("new", "a", ""), ("resolved", "", "a")]


def test_a_muted_one_is_mentioned_by_those_that_are_told() -> None:
    group = arrive(None, [alert("a"), alert("b", seq=1)], TIMING, 0)
    found = look(group, TIMING, PEOPLE, {"b": "said"}, 30)
    assert found.notice is not None
    assert (found.notice.firing, found.notice.muted) == (("a",), ("b",))
    assert found.untold == {"b": Untold.MUTED}


def test_every_member_that_is_not_told_has_its_reason() -> None:
    group = arrive(None, [alert("a"), alert("b", seq=1)], TIMING, 0)
    assert look(group, TIMING, PEOPLE, {}, 29).untold == {"a": Untold.WAITING, "b": Untold.WAITING}
    first = look(group, TIMING, PEOPLE, {}, 30)
    assert first.untold == {}
    assert first.group is not None
    later = arrive(first.group, [alert("c", seq=2), alert("d", seq=3), alert("d", seq=4, firing=False)], TIMING, 40)
    found = look(later, TIMING, PEOPLE, {}, 330)
    assert found.untold == {"a": Untold.ALREADY_TOLD, "b": Untold.ALREADY_TOLD, "d": Untold.OVER_BEFORE_TOLD}
    assert found.notice is not None
    assert (found.notice.why, found.notice.firing, found.notice.transitions) == (Why.NEW, ("a", "b", "c"), (2,))


def test_flushing_tells_at_once_and_only_what_is_new() -> None:
    group = arrive(None, [alert("a")], TIMING, 0)
    first = look(group, TIMING, PEOPLE, {}, 1, flush=True)
    assert first.notice is not None
    assert first.group is not None
    assert look(first.group, TIMING, PEOPLE, {}, 2, flush=True).notice is None


def test_the_same_transition_twice_is_one() -> None:
    once = arrive(None, [alert("a", seq=3)], TIMING, 0)
    assert arrive(once, [alert("a", seq=3)], TIMING, 0) == once


def test_two_groups_that_turn_out_to_be_one() -> None:
    one, other = arrive(None, [alert("a")], TIMING, 0), arrive(None, [alert("b", seq=1)], TIMING, 10)
    both = joined(other, one)
    assert (set(both.members), both.look_ms) == ({"a", "b"}, 30)
    assert joined(None, one) == one


def test_a_message_that_was_not_sent_after_all_leaves_no_trace() -> None:
    group = look(arrive(None, [alert("a")], TIMING, 0), TIMING, PEOPLE, {}, 30).group
    assert group is not None
    back = arrive(taken_back(group), [alert("a", seq=1, firing=False)], TIMING, 40)
    assert back.sent_ms is None
    assert look(back, TIMING, PEOPLE, {}, 330).untold == {"a": Untold.OVER_BEFORE_TOLD}


@pytest.mark.parametrize("kind", [{"wait_ms": -1}, {"interval_ms": 0}, {"repeat_ms": 0}])
def test_a_timing_that_cannot_be_is_refused(kind) -> None:
    with pytest.raises(ValueError, match="group_"):
        Timing(**kind)


# -- laws


actions = st.tuples(st.integers(0, 200), st.sampled_from(["+", "-", "!"]), st.sampled_from("abc"))


def consistent(steps) -> list[tuple[int, str, str]]:
    """Waits turned into times; of each alert only changes that its life cycle can have."""
    now, status, out = -1, {}, []
    for wait, sign, name in steps:
        now += 2 * wait + 2  # odd, while groups are looked at in even moments: nothing happens at the very same time
        before = status.get(name, "-")
        if sign == before or (sign == "+" and before == "!") or (sign == "!" and before == "-"):
            continue
        status[name] = sign
        out.append((now, sign, name))
    return out


def alertmanager(steps, timing: Timing, until: int) -> list[tuple[int, str, str]]:
    """dispatch.go and notify.go on paper: a timer that ticks, a log of what was sent. A severity is a label there, so
    another one is another alert; that one then replaces the first is ours."""
    sent, alive, log_firing, log_resolved, log_ms, tick = [], {}, set(), set(), None, None
    steps = list(steps)
    while steps or tick is not None:
        if steps and (tick is None or steps[0][0] < tick):
            now, sign, name = steps.pop(0)
            tick = now + timing.wait_ms if tick is None else tick
            alive[name] = sign
            continue
        if tick > until:
            break
        firing = {(n, s) for n, s in alive.items() if s != "-"}
        resolved = {n for n, s in alive.items() if s == "-"}
        heard = {n for n, _ in log_firing}
        if firing - log_firing:
            update = True
        elif not firing:
            update = bool(log_firing & {(n, s) for n in resolved for s in "+!"})
        elif (resolved & heard) - log_resolved:
            update = True
        else:
            update = log_ms is not None and timing.repeat_ms is not None and tick >= log_ms + timing.repeat_ms
        if update:
            sent.append((tick, " ".join(sorted(n for n, _ in firing)), " ".join(sorted(resolved & heard))))
            log_firing, log_resolved, log_ms = firing, resolved, tick
        alive = {n: s for n, s in alive.items() if s != "-"}
        tick = tick + timing.interval_ms if alive else None
        if not alive:
            log_firing, log_ms = set(), None
    return sent


timings = st.builds(
    Timing,
    wait_ms=st.integers(0, 30).map(lambda half: 2 * half + 1),
    interval_ms=st.integers(10, 100).map(lambda half: 2 * half),
    repeat_ms=st.none() | st.integers(1, 900),
)
once = st.builds(Timing, wait_ms=st.integers(0, 60), interval_ms=st.integers(1, 200), repeat_ms=st.none())


@settings(max_examples=200, deadline=None)
@given(st.lists(actions, max_size=12), timings)
def test_people_are_told_when_alertmanager_would_tell_them(steps, timing) -> None:
    steps = consistent(steps)
    timeline = run(*((now, sign + name) for now, sign, name in steps), timing=timing, until=6_000)
    ours = [(t, " ".join(sorted(f.split())), " ".join(sorted(r.split()))) for t, _, f, r in timeline.sent]
    assert ours == alertmanager(steps, timing, 6_000)


@settings(deadline=None)
@given(st.lists(actions, max_size=20), once, st.lists(st.tuples(st.integers(0, 4_000), st.sampled_from("abc"))))
def test_a_stream_misses_nothing_and_keeps_the_order(steps, timing, mutes) -> None:
    steps = consistent(steps)
    happens = [(now, sign + name) for now, sign, name in steps]
    timeline = run(*happens, audience=STREAM, timing=timing, until=100_000)
    assert timeline.transitions == list(range(1, len(steps) + 1))
    muting = sorted(happens + [(now, "?" + name) for now, name in mutes])
    muted = run(*muting, audience=STREAM, timing=timing, until=500_000)
    for name in "abc":
        mine = [seq for seq, (_, _, who) in enumerate(steps, 1) if who == name]
        assert [seq for seq in muted.transitions if seq in mine] == [s for s in mine if s in muted.transitions]


@settings(deadline=None)
@given(st.lists(actions, max_size=20), once)
def test_whoever_hears_that_it_fires_hears_that_it_is_over(steps, timing) -> None:
    steps = consistent(steps)
    timeline = run(*((now, sign + name) for now, sign, name in steps), timing=timing, until=100_000)
    open_ones: set[str] = set()
    for _, _, firing, resolved in timeline.sent:
        assert set(resolved.split()) <= open_ones
        open_ones = (open_ones | set(firing.split())) - set(resolved.split())
    assert open_ones == {name for name in "abc" if [s for _, s, n in steps if n == name][-1:] not in ([], ["-"])}


@settings(deadline=None)
@given(st.lists(actions, max_size=8), timings, st.sampled_from(Audience))
def test_a_group_is_stored_and_read_back_as_it_was(steps, timing, audience) -> None:
    timeline = Timeline(audience=audience, timing=timing)
    for now, sign, name in consistent(steps):
        timeline.at(now, sign + name)
        if timeline.group is not None:
            assert decode_group(encode_group(timeline.group)) == timeline.group


@pytest.mark.parametrize("broken", ["{}", "[]", '{"format":1}', '{"format":1,"members":[[]]}', '{"format":2}'])
def test_a_broken_group_is_refused(broken) -> None:
    with pytest.raises(ValueError):
        decode_group(broken)


def test_what_a_machine_has_heard_counts_as_told_though_it_is_muted_by_now() -> None:
    """Who forgets what is not repeated must hear on of it: the record says that it knows."""
    timing = Timing(wait_ms=0, interval_ms=1, repeat_ms=None)
    told = look(arrive(None, [alert("a", seq=1)], timing, 0), timing, STREAM, {}, 0)
    assert told.group is not None
    again = look(told.group, timing, STREAM, {"a": "out of hours"}, 10, flush=True)
    assert again.untold == {"a": Untold.ALREADY_TOLD}
    escalated = arrive(told.group, [alert("a", seq=2, critical=True)], timing, 20)
    held = look(escalated, timing, STREAM, {"a": "out of hours"}, 20, flush=True)
    assert held.untold == {"a": Untold.MUTED}
