from __future__ import annotations

from alerts.grouping import Audience, Timing
from alerts.matching import parse_matchers
from alerts.routing import DIGEST, LOG, Reason, Route, decide, group_labels, labels, matching
from alerts.time_windows import parse_time_window

RECEIVERS = ["oncall", "team", "robot"]
ROUTES = [
    Route(receiver="oncall", match={"severity": "critical"}),
    Route(receiver="team", match={"team": "risk", "monitor": "data"}),
]


def test_the_first_route_that_fits_wins() -> None:
    both = {"severity": "critical", "team": "risk", "monitor": "data"}
    decision = decide(both, ROUTES, RECEIVERS)
    assert (decision.receivers, decision.reason, decision.route) == (("oncall", LOG), Reason.MATCHED, 0)
    assert decide({**both, "severity": "warning"}, ROUTES, RECEIVERS).receivers == ("team", LOG)


def test_all_of_a_match_must_fit_and_nothing_by_half() -> None:
    assert decide({"team": "risk", "monitor": "dat"}, ROUTES, RECEIVERS).reason is Reason.UNMATCHED
    assert decide({"team": "risk", "monitor": "dat"}, ROUTES, RECEIVERS).receivers == (LOG,)


def test_an_empty_match_fits_everything_and_an_empty_value_fits_an_absent_label() -> None:
    assert decide({}, [Route(receiver="team")], RECEIVERS).receivers == ("team", LOG)
    assert decide({}, [Route(receiver="team", match={"owner": ""})], RECEIVERS).receivers == ("team", LOG)


def test_without_routes_every_receiver_is_told_and_without_receivers_the_log() -> None:
    decision = decide({}, [], RECEIVERS)
    assert (decision.receivers, decision.reason) == ((*RECEIVERS, LOG), Reason.NO_ROUTES)
    assert decide({}, [], []).receivers == (LOG,)


def test_who_heard_it_fire_hears_the_rest_if_still_there() -> None:
    decision = decide({"severity": "critical"}, ROUTES, RECEIVERS, told=("team", "removed", LOG))
    assert decision.receivers == ("oncall", "team", LOG)


def test_a_receiver_called_log_is_told_once() -> None:
    assert decide({}, [], ["log", "team"]).receivers == ("team", LOG)


def test_an_alerts_own_labels_win_over_the_models() -> None:
    alert = {"severity": "warning", "model": "m", "version": None, "monitor": "data", "subject": "x", "text": "..."}
    assert labels(alert, {"team": "risk", "severity": "none", "version": "all"}) == {
        "team": "risk",
        "severity": "warning",
        "version": "all",
        "model": "m",
        "monitor": "data",
        "subject": "x",
    }


def test_matchers_and_match_must_both_fit() -> None:
    route = Route(receiver="team", match={"team": "risk"}, matchers=parse_matchers('severity=~"warn.*"'))
    assert [route.fits({"team": t, "severity": s}) for t in ("risk", "x") for s in ("warning", "critical")] == [
        True, False, False, False,
    ]  # fmt: skip


def test_a_route_that_continues_lets_the_next_ones_speak_too() -> None:
    routes = [
        Route(receiver="robot", goes_on=True),
        Route(receiver="oncall", matchers=parse_matchers("severity=critical"), goes_on=True),
        Route(receiver="team"),
        Route(receiver="oncall"),
    ]
    critical = decide({"severity": "critical"}, routes, RECEIVERS)
    assert (critical.receivers, critical.route, critical.routes) == (("oncall", "team", "robot", LOG), 0, (0, 1, 2))
    assert decide({}, routes, RECEIVERS).routes == (0, 2)


def test_a_receiver_that_several_routes_name_is_told_once_by_the_first() -> None:
    routes = [Route(receiver="team", goes_on=True), Route(receiver="team", digest=True)]
    assert matching({}, routes) == (0,)


def test_timing_comes_from_the_route_and_else_from_who_listens() -> None:
    own = Timing(wait_ms=1, interval_ms=2, repeat_ms=3)
    assert Route(receiver="x", timing=own).timing_for(Audience.PEOPLE) == own
    assert Route(receiver="x", timing=own, digest=True).timing_for(Audience.PEOPLE) == own
    assert Route(receiver="x").timing_for(Audience.PEOPLE) == Timing()
    assert Route(receiver="x").timing_for(Audience.STREAM).wait_ms == 0
    assert Route(receiver="x", digest=True).timing_for(Audience.PEOPLE) == DIGEST


def test_hours_mute_a_route() -> None:
    monday = 4 * 86_400_000  # 1970-01-05
    weekend, work = parse_time_window("sat,sun"), parse_time_window("mon-fri 09:00-17:00")
    route = Route(receiver="x", mute=(weekend,), active=(work,))
    assert route.out_of_hours(monday + 10 * 3_600_000) is None
    assert route.out_of_hours(monday + 8 * 3_600_000) == "outside mon-fri 09:00-17:00"
    assert route.out_of_hours(monday - 1) == "muted sat,sun"
    assert Route(receiver="x").out_of_hours(0) is None


def test_a_route_is_found_again_by_receiver_and_conditions() -> None:
    one = Route(receiver="x", match={"b": "2", "a": "1"}, matchers=parse_matchers("c=~d"))
    assert one.name == 'x{a="1",b="2",c=~"d"}'
    assert Route(receiver="x").name != Route(receiver="y").name


def test_group_labels() -> None:
    all_labels = {"model": "m", "team": "", "severity": "warning"}
    assert group_labels(all_labels, ("model", "team", "region")) == {"model": "m"}
    assert group_labels(all_labels, ("...",)) == {"model": "m", "severity": "warning"}
    assert group_labels(all_labels, ()) == {}


def test_a_segment_is_a_label_as_text() -> None:
    assert labels({"model": "m", "segment": {"region": "EU", "a": 1}}, {})["segment"] == "a=1,region=EU"
    assert "segment" not in labels({"model": "m", "segment": None}, {})
