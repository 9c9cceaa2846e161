from __future__ import annotations

from alerts.routing import LOG, Reason, Route, decide, labels

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
