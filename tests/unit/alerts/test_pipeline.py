"""The whole pipeline on virtual time, as timelines."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerts.desk import Outcome, Receiver
from alerts.grouping import Audience, Timing, Why
from alerts.lifecycle import AlertState, Observation, Phase, Policy, Signal, Status, Verdict, step
from alerts.matching import parse_matchers
from alerts.record import Page, record
from alerts.routing import Route
from alerts.time_windows import parse_time_window
from parts.alert_timeline import HOUR, PEOPLE, STREAM, Limit, Played, clock

ROUTES = (
    Route(receiver="hook", goes_on=True),
    Route(receiver="oncall", match={"severity": "critical"}),
    Route(receiver="team"),
)


def world(**kind) -> Played:
    return Played(receivers={"oncall": PEOPLE, "team": PEOPLE, "hook": STREAM}, routes=ROUTES, **kind)


@pytest.mark.parametrize(
    "timeline",
    [
        # One page per incident, one resolve, though three monitors speak.
        """
        10:00:00 fires churn quality age
        10:00:10 fires churn data age
        10:00:20 fires churn performance accuracy
        10:00:30 expect team new: churn/performance/accuracy churn/quality/age
        13:00:00 over churn quality age
        13:00:00 over churn data age
        13:00:00 over churn performance accuracy
        between 13:00:00 and 13:05:00 expect team resolved: -churn/performance/accuracy -churn/quality/age
        """,
        # Drift that its fault explained is told of once the fault is over and it is not.
        """
        10:00:00 fires churn quality age
        10:00:00 fires churn data age
        10:00:30 expect team new: churn/quality/age
        11:00:00 over churn quality age
        between 11:00:00 and 11:05:30 expect team new: -churn/quality/age churn/data/age
        """,
        # A silence mutes what comes, not what is over; what still fires when it ends is told then.
        """
        10:00:00 fires churn data age
        10:00:30 expect team new: churn/data/age
        12:00:00 silence model=churn for 2h
        12:30:00 fires churn data zip
        13:00:00 over churn data age
        between 13:00:00 and 13:05:00 expect team resolved: -churn/data/age
        between 14:00:00 and 14:05:30 expect team new: churn/data/zip
        """,
        # Who heard of the warning hears the end, too, and so does who was woken when it became critical.
        """
        10:00:00 fires churn data age
        10:00:30 expect team new: churn/data/age
        11:00:00 fires churn data age critical
        11:00:30 expect oncall new: churn/data/age
        between 11:00:00 and 11:05:30 expect team escalated: churn/data/age
        15:00:00 over churn data age
        between 15:00:00 and 15:05:30 expect oncall resolved: -churn/data/age
        between 15:00:00 and 15:05:30 expect team resolved: -churn/data/age
        """,
        # Repeated every twelve hours, unless somebody has it in hand.
        """
        10:00:00 fires churn data age
        10:00:30 expect team new: churn/data/age
        22:00:30 expect team repeated: churn/data/age
        23:00:00 ack churn data age
        day 3 10:00:00 over churn data age
        between day 3 10:00:00 and day 3 10:05:30 expect team resolved: -churn/data/age
        """,
        # The next episode is a page of its own.
        """
        10:00:00 fires churn data age
        10:00:30 expect team new: churn/data/age
        11:00:00 over churn data age
        between 11:00:00 and 11:05:30 expect team resolved: -churn/data/age
        12:00:00 fires churn data age
        12:00:30 expect team new: churn/data/age
        """,
        # An old window wakes nobody; it is told once a day, with what else was old.
        """
        10:00:00 fires churn data age stale
        11:00:00 fires fraud data zip stale
        day 1 10:00:00 expect team new: churn/data/age fraud/data/zip
        """,
        # Two models with the same feature fault in the same window are one incident, their drift included.
        """
        10:00:00 fires churn data income
        10:00:05 fires churn quality age
        10:00:06 fires fraud data zip
        10:00:10 fires fraud quality age
        10:00:20 fires other quality zip
        10:00:30 expect team new: churn/data/income churn/quality/age fraud/data/zip fraud/quality/age
        10:00:50 expect team new: other/quality/zip
        """,
        # A model that people know of already keeps its incident, and takes the other one in.
        """
        09:00:00 fires fraud data zip
        09:00:30 expect team new: fraud/data/zip
        10:00:00 fires churn quality age
        10:00:00 fires fraud quality age
        between 10:00:00 and 10:05:30 expect team new: churn/quality/age fraud/data/zip fraud/quality/age
        """,
    ],
)  # fmt: skip
def test_timelines(timeline) -> None:
    assert world().play(timeline) == []


def test_the_timelines_can_fail() -> None:
    faults = world().play(
        """
        10:00:00 fires churn data age
        10:00:29 expect team new: churn/data/age
        """
    )
    assert faults == ["not sent: team new: churn/data/age"]
    assert world().play("10:00:00 fires churn data age\n10:01:00 ack churn data age") == [
        "not expected: 10:00:30 expect team new: churn/data/age"
    ]


def test_a_stream_gets_every_transition_at_once_whatever_people_are_spared() -> None:
    played = world()
    played.play(
        """
        10:00:00 fires churn quality age
        10:00:00 fires churn data age
        10:00:01 over churn data age
        10:00:02 fires churn data age critical
        """
    )
    hook = [
        (s.at_ms, s.message.notice.transitions, s.message.order) for s in played.sent if s.message.receiver == "hook"
    ]
    ten = clock("10:00:00")
    assert hook == [(ten, (1, 2), "churn"), (ten + 1_000, (3,), "churn"), (ten + 2_000, (4,), "churn")]


def test_a_stream_keeps_the_order_of_a_model_across_incidents() -> None:
    played, now = world(), clock("10:00:00")
    for verb, monitor, subject in (
        ("fires", "quality", "age"), ("fires", "data", "zip"), ("over", "quality", "age"), ("over", "data", "zip"),
        ("fires", "quality", "age"),
    ):  # fmt: skip
        played.turn(now, [played.transition(now, "churn", monitor, subject, firing=verb == "fires")])
    played.until(now + 10)
    hook = [s.message for s in played.sent if s.message.receiver == "hook"]
    assert [seq for message in hook for seq in message.notice.transitions] == [1, 2, 3, 4, 5]


def test_each_message_of_a_stream_is_of_one_incident() -> None:
    played, now = world(), clock("10:00:00")
    one, two, three = (played.transition(now, "churn", "data", name, firing=True) for name in "abc")
    played.turn(now, [one, replace(two, incident="other"), three])
    hook = [(s.message.incidents, s.message.notice.transitions) for s in played.sent if s.message.receiver == "hook"]
    assert hook == [((one.incident,), (1,)), (("other",), (2,)), ((three.incident,), (3,))]


def test_an_end_that_nobody_waits_for_opens_no_group_of_people() -> None:
    played, now = Played(receivers={"team": PEOPLE}), clock("10:00:00")
    played.turn(now, [played.transition(now, "churn", "data", "age", firing=False)])
    assert (played.desk.groups, played.records, played.look_ms) == ({}, [], None)


def test_a_receiver_that_has_the_episode_is_not_told_again_by_another_route() -> None:
    routes = [Route(receiver="team", match={"severity": "critical"}), Route(receiver="team")]
    played = Played(receivers={"team": PEOPLE}, routes=routes)
    faults = played.play(
        """
        10:00:00 fires churn data age
        10:00:30 expect team new: churn/data/age
        10:01:00 fires churn data age critical
        10:05:30 expect team escalated: churn/data/age
        """
    )
    assert faults == []


def test_a_silence_spares_people_and_a_stream_still_hears() -> None:
    played = world()
    faults = played.play(
        """
        10:00:00 silence model=churn for 1h
        10:10:00 fires churn data age
        10:20:00 over churn data age
        """
    )
    assert faults == []
    hook = [(s.at_ms, s.message.notice.transitions) for s in played.sent if s.message.receiver == "hook"]
    assert hook == [(clock("10:10:00"), (1,)), (clock("10:20:00"), (2,))]


def test_a_stream_that_is_muted_for_some_hours_hears_everything_after_them() -> None:
    played = Played(
        receivers={"hook": STREAM}, routes=[Route(receiver="hook", mute=(parse_time_window("10:00-11:00"),))]
    )
    played.play(
        """
        10:10:00 fires churn data age
        10:20:00 over churn data age
        10:30:00 fires churn data zip
        10:40:00 fires churn data zip critical
        """
    )
    played.until(clock("12:00:00"))
    assert all(clock("11:00:00") <= sent.at_ms <= clock("11:01:00") for sent in played.sent)
    assert [sent.message.notice.transitions for sent in played.sent] == [(1, 2), (3, 4)], "one message an incident"


def test_every_alert_that_is_not_told_has_its_reason() -> None:
    played = Played(
        receivers={"team": PEOPLE},
        routes=[Route(receiver="team", match={"model": "churn"}, mute=(parse_time_window("12:00-13:00"),))],
    )
    played.play(
        """
        10:00:00 fires churn quality age
        10:00:00 fires churn data age
        10:00:00 fires other data age
        10:00:40 expect team new: churn/quality/age
        10:10:00 silence subject=zip for 10m
        10:10:30 fires churn quality zip
        10:40:00 over churn quality zip
        12:00:00 fires churn quality sex
        12:10:00 fires churn data sex stale
        12:30:00 over churn quality sex
        """
    )
    said = {(record.alert.partition("@")[0], str(record.outcome), record.detail) for _, record in played.records}
    why = "a data fault explains drift of the same feature: age (quality)"
    silence = 'subject="zip" until 1970-01-01T10:20:00.000Z by ada: w'
    assert said >= {
        ("churn/quality/age", "told", ""),
        ("churn/data/age", "inhibited", why),
        ("other/data/age", "unmatched", ""),
        ("churn/quality/zip", "silenced", silence),
        ("churn/quality/sex", "out_of_hours", "muted 12:00-13:00"),
        ("churn/data/sex", "stale", ""),
    }


def test_a_receiver_that_is_gone_ends_its_groups() -> None:
    played = world()
    played.play("10:00:00 fires churn data age\n10:00:30 expect team new: churn/data/age")
    played.receivers = {"oncall": PEOPLE}
    played.turn(clock("10:10:00"))
    assert played.desk.groups == {}
    assert {str(r.outcome) for at, r in played.records if at == clock("10:10:00")} == {"not_configured"}


def test_a_group_follows_its_route_when_routes_are_moved_about() -> None:
    slow = Route(receiver="team", matchers=parse_matchers("model=churn"), timing=Timing(wait_ms=5 * HOUR))
    played = Played(receivers={"team": PEOPLE}, routes=[slow])
    played.play("10:00:00 fires churn data age")
    played.routes = [Route(receiver="team", match={"model": "x"}), slow]
    assert played.play("15:00:00 expect team new: churn/data/age") == []


def test_without_routes_every_receiver_is_told() -> None:
    played = Played(receivers={"team": PEOPLE, "hook": STREAM})
    assert played.play("10:00:00 fires churn data age\n10:00:30 expect team new: churn/data/age") == []
    assert [s.message.receiver for s in played.sent] == ["hook", "team"]


def test_flushing_tells_what_waits() -> None:
    played = world()
    played.play("10:00:00 fires churn data age")
    played.turn(clock("10:00:01"), flush=True)
    assert [str(s) for s in played.sent if s.message.receiver == "team"] == ["10:00:01 expect team new: churn/data/age"]
    played.turn(clock("10:00:02"), flush=True)
    assert len([s for s in played.sent if s.message.receiver == "team"]) == 1


WAKING = Receiver(audience=Audience.PEOPLE, limit=Limit(messages=3, per_ms=HOUR, settle_ms=60_000))


def test_a_quarter_of_healthy_traffic_pages_no_more_than_the_tests_raise_false_alarms() -> None:
    """Sixty models whose monitors together are wrong once a quarter: windows of an hour, some false alarms last."""
    rng = random.Random(3)
    played = Played(receivers={"oncall": Receiver(audience=Audience.PEOPLE, limit=Limit())})
    hours, models = 91 * 24, [f"m{i:02d}" for i in range(60)]
    states: dict[tuple[str, str, str], AlertState] = {}
    false = {(model, hour) for model in models for hour in range(hours) if rng.random() < 1 / hours}
    monitors = ("quality", "data", "joint", "prediction", "performance")
    for hour in range(hours + 10):
        now = (hour + 1) * HOUR
        played.until(now)
        for model in models:
            if (model, hour) in false:
                name = (model, rng.choice(monitors), f"f{rng.randrange(20)}")
                states.setdefault(name, AlertState())
                drifting = {name}
            else:
                drifting = {name for name in states if name[0] == model and rng.random() < 0.3}
            for name in [name for name in states if name[0] == model]:
                signal = Signal.DRIFT if name in drifting else Signal.CLEAN
                window = Observation(window_id="w", start_ms=now - HOUR, end_ms=now, signal=signal)
                states[name], transition = step(states[name], window, Policy())
                if transition is not None:
                    firing = transition.status is Status.FIRING
                    played.turn(now, [played.transition(now, *name, firing=firing)])
                if states[name].phase is Phase.RESOLVED:
                    del states[name]
    pages = [s for s in played.sent if s.message.notice.why is Why.NEW]
    ends = [s for s in played.sent if s.message.notice.why is Why.RESOLVED]
    assert len(false) > 40
    assert len(pages) == len(ends) == len({s.message.key for s in pages}), "one page and one end for each"
    assert 0.9 * len(false) <= len(pages) <= len(false)
    told = [Page(incident=s.message.key, model=s.message.key, at_ms=s.at_ms, verdict=Verdict.FALSE) for s in pages]
    fleet = [replace(page, model="fleet") for page in told]
    kept = record("fleet", fleet, watched_ms=hours * HOUR, promised=float(len(models)))
    assert kept.kept
    assert kept.false_per_quarter == pytest.approx(len(pages), rel=0.01)


def test_an_old_window_wakes_nobody() -> None:
    played = Played(receivers={"oncall": WAKING, "team": PEOPLE})
    timeline = "10:00:00 fires churn data age stale\nday 1 10:00:00 expect team new: churn/data/age"
    assert played.play(timeline) == []


def test_the_unimportant_is_told_once_a_day() -> None:
    played = Played(
        receivers={"team": PEOPLE}, routes=[Route(receiver="team", match={"severity": "warning"}, digest=True)]
    )
    faults = played.play(
        """
        10:00:00 fires churn data age
        15:00:00 fires fraud quality zip
        20:00:00 over churn data age
        day 1 10:00:00 expect team new: fraud/quality/zip
        day 1 11:00:00 fires other data x
        day 2 10:00:00 expect team new: fraud/quality/zip other/data/x
        """
    )
    assert faults == []


def storm(models: int) -> Played:
    played = Played(receivers={"oncall": WAKING, "hook": STREAM})
    played.play("\n".join(f"10:00:00 fires m{i:03d} data f{i} {'critical' if i == 7 else ''}" for i in range(models)))
    played.until(clock("10:30:00"))
    return played


def test_a_storm_wakes_people_as_often_as_the_limit_says_and_streams_hear_all() -> None:
    played = storm(200)
    waking = [s for s in played.sent if s.message.receiver == "oncall"]
    assert [(s.what.partition(":")[0], s.at_ms - clock("10:00:00")) for s in waking] == [
        ("new", 30_000), ("new", 30_000), ("storm", 90_000),
    ]  # fmt: skip
    assert waking[0].what == "new: m007/data/f7"
    summary = waking[2].message.storm
    assert summary is not None
    assert summary.text.startswith("Storm: 198 incidents in 198 models (0 critical)")
    assert len(waking[2].message.notice.transitions) == 198
    told = [seq for s in played.sent if s.message.receiver == "hook" for seq in s.message.notice.transitions]
    assert sorted(told) == list(range(1, 201))
    collapsed = {r.alert for _, r in played.records if r.outcome is Outcome.COLLAPSED}
    assert len(collapsed) == 198


def test_a_storm_is_resolved_as_one_when_all_of_it_is_over() -> None:
    played = storm(6)
    played.play("\n".join(f"11:30:00 over m{i:03d} data f{i}" for i in range(5)))
    played.until(clock("12:00:00"))
    before = [s.what for s in played.sent if s.message.receiver == "oncall"]
    ends = [what for what in before if what.startswith("resolved")]
    assert ends == ["resolved: -m000/data/f0", "resolved: -m001/data/f1"], "those that were told alone"
    played.play("12:30:00 over m005 data f5")
    played.until(clock("13:00:00"))
    last = [s for s in played.sent if s.message.receiver == "oncall"][-1]
    assert (last.what, last.message.notice.why) == ("resolved:", Why.RESOLVED)
    assert last.message.key == next(s.message.key for s in played.sent if s.message.storm)
    assert (played.desk.groups, [s.summaries for s in played.desk.storms.values() if s.summaries]) == ({}, [])


def test_an_upstream_null_that_hits_two_hundred_models_is_one_message() -> None:
    played = Played(receivers={"oncall": WAKING})
    played.play("\n".join(f"10:00:{i % 20:02d} fires m{i:03d} quality income" for i in range(200)))
    played.until(clock("11:00:00"))
    assert len(played.sent) == 1
    assert len(played.sent[0].message.notice.firing) == 200
    assert len(played.sent[0].message.incidents) == 200


# -- laws

events = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.sampled_from(["churn", "fraud"]),
        st.sampled_from(["quality", "data", "performance"]),
        st.sampled_from(["age", "zip"]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=300, deadline=None)
@given(events, st.sampled_from([None, Limit(messages=2, per_ms=HOUR, settle_ms=60_000)]))
def test_nothing_is_lost_and_nobody_hears_an_end_without_a_beginning(events, limit) -> None:
    played = Played(receivers={"hook": STREAM, "team": Receiver(audience=Audience.PEOPLE, limit=limit)})
    now, fires = 0, {}
    for wait, model, monitor, subject, critical in events:
        now += wait * 1_000
        played.until(now)
        name = (model, monitor, subject)
        firing = not fires.get(name, False) or (critical and fires[name] == "warning")
        more = ("critical",) if critical and firing else ()
        fires[name] = ("critical" if more else "warning") if firing else False
        played.turn(now, [played.transition(now, *name, *more, firing=firing)])
    for name in [name for name, state in fires.items() if state]:
        now += 1_000
        played.until(now)
        played.turn(now, [played.transition(now, *name, firing=False)])
    played.until(now + 100 * HOUR)
    assert played.desk.groups == {}
    streamed = [seq for s in played.sent if s.message.receiver == "hook" for seq in s.message.notice.transitions]
    assert sorted(streamed) == list(range(1, played.seq + 1))
    for order in ("churn", "fraud"):
        mine = [
            q
            for s in played.sent
            if (s.message.receiver, s.message.order) == ("hook", order)
            for q in s.message.notice.transitions
        ]
        assert mine == sorted(mine)
    open_keys: set[str] = set()
    for sent in (s for s in played.sent if s.message.receiver == "team"):
        key, over = sent.message.key, sent.message.notice.why is Why.RESOLVED and not sent.message.notice.firing
        assert key in open_keys or not over, "an end without a beginning"
        (open_keys.discard if over else open_keys.add)(key)
    assert open_keys == set(), "a beginning without an end"
    if limit is not None:
        woken = [
            s.at_ms for s in played.sent if s.message.receiver == "team" and s.message.notice.why is not Why.RESOLVED
        ]
        assert all(sum(at - limit.per_ms < t <= at for t in woken) <= limit.messages for at in woken)
