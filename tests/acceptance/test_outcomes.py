"""Histories of a model whose outcomes come late: performance, concept drift, estimates, limits and segments, through the real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.store import AlertRow
from parts.outcome_world import (
    BINARY,
    NO,
    YES,
    OutcomeWorld,
    Scored,
    hour_of_rows,
    outcome,
    outcomes,
    predictions,
)
from parts.world import HOUR, T0

DAY = 24


@pytest.fixture
def world(tmp_path: Path) -> Iterator[OutcomeWorld]:
    world = OutcomeWorld(tmp_path)
    yield world
    world.close()


def accuracy(rows: list[Scored]) -> float:
    return sum(row.right for row in rows) / len(rows)


# -- provisional, final, revised


def test_a_window_is_written_before_its_labels_and_revised_as_they_come(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send(predictions(rows))
    world.turn(1)
    world.turn(1.1)
    window, found = world.performance(0), world.metric(0)
    assert (window.status, window.revision, window.rows) == ("provisional", 1, 300)
    assert (found["state"], found["value"], found["detail"]["labelled"]) == ("insufficient_data", None, 0)
    world.send(outcomes(rows[:150], 3 * HOUR))
    world.turn(4)
    world.turn(4.1)
    window, found = world.performance(0), world.metric(0)
    assert (window.status, window.revision) == ("provisional", 2)
    assert (found["value"], found["detail"]["coverage"]) == (pytest.approx(accuracy(rows[:150])), 0.5)
    world.send(outcomes(rows[150:286], 4 * HOUR))
    world.turn(5.5)
    world.turn(5.6)
    assert (world.performance(0).status, world.performance(0).revision) == ("final", 3), "286 of 300 are labelled"
    world.send([row.other().outcome(6 * HOUR) for row in rows[:20]])
    world.turn(7.5)
    world.turn(7.6)
    window, found = world.performance(0), world.metric(0)
    assert (window.status, window.revision) == ("revised", 4)
    assert found["value"] == pytest.approx(accuracy([row.other() for row in rows[:20]] + rows[20:286]))
    assert world.joined("corrections") == 20


def test_maturity_makes_a_window_final_without_a_new_revision(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send([*predictions(rows), *outcomes(rows[:150])])
    world.turn(1)
    world.turn(1.1)
    before = world.performance(0)
    world.turn(1 + DAY)
    assert world.performance(0).status == "provisional"
    world.turn(1.1 + DAY)
    after = world.performance(0)
    assert (before.status, after.status) == ("provisional", "final")
    assert (after.revision, after.digest) == (before.revision, before.digest)


def test_a_window_is_final_however_long_nobody_looked(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send([*predictions(rows), *outcomes(rows[:150])])
    world.turn(1)
    world.turn(1.1)
    world.turn(60 * DAY)
    assert world.performance(0).status == "final"


def test_labels_that_change_no_count_make_no_revision(world: OutcomeWorld) -> None:
    rows = world.labelled_hours([0])
    world.send(outcomes(rows))
    world.turn(2)
    world.turn(2.5)
    assert world.performance(0).revision == 1
    assert world.joined("repeats") == 300


# -- verdicts that late labels turn


def test_a_window_that_was_ok_turns_to_drift_and_its_alert_is_marked_corrected(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send([*predictions(rows), *outcomes(rows[:120])])
    world.turn(1)
    world.turn(1.1)
    assert world.performance(0).state == "ok"
    world.send([row.other().outcome(5 * HOUR) for row in rows[120:240]] + outcomes(rows[240:], 5 * HOUR))
    world.turn(6)
    world.turn(6.1)
    assert (world.performance(0).state, world.performance(0).status) == ("drift", "final")
    assert world.told() == [("firing", True, "drifted", 0, 1, None)]


def test_a_drift_that_nothing_was_known_of_before_is_no_correction(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0, wrong=0.4)
    world.send(predictions(rows))
    world.turn(1)
    world.turn(1.1)
    world.send(outcomes(rows, 5 * HOUR))
    world.turn(6)
    world.turn(6.1)
    assert world.told() == [("firing", False, "drifted", 0, 1, None)]


def test_corrected_labels_take_a_drift_back(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    swapped = [row.other() for row in rows[:150]]
    world.send([*predictions(rows), *outcomes(swapped), *outcomes(rows[150:])])
    world.turn(1)
    world.turn(1.1)
    assert world.told() == [("firing", False, "drifted", 0, 1, None)]
    world.send(outcomes(rows[:150], 4 * HOUR))
    world.turn(5.5)
    world.turn(5.6)
    window = world.performance(0)
    assert (window.state, window.status, window.revision) == ("ok", "revised", 2)
    assert world.told()[1:] == [("resolved", True, "corrected", 0, 1, 1)]
    assert all(row.status == "resolved" for row in world.store.alerts() if row.monitor == "performance")


def test_a_window_with_few_of_its_labels_ends_no_alert(world: OutcomeWorld) -> None:
    world.labelled_hours([0], wrong=0.4)
    for hour in (1, 2):
        rows = hour_of_rows(hour)
        world.send([*predictions(rows), *outcomes(rows[:120])])
        world.turn(hour + 1)
        world.turn(hour + 1.2)
    assert [world.performance(hour).state for hour in (1, 2)] == ["ok", "ok"]
    assert [status for status, *_ in world.told()] == ["firing"]
    for hour in (1, 2):
        world.send(outcomes(hour_of_rows(hour)[120:], 3 * HOUR))
    world.turn(6)
    world.turn(6.1)
    assert world.told()[1:] == [("resolved", False, "cleared", 0, 3, 1)]


# -- what pairs with what


def test_outcomes_first_and_copies_of_everything_count_once(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0, 200)
    events = [*outcomes(rows), *predictions(rows)]
    world.send(events)
    world.turn(1)
    world.send(events)
    world.send(list(reversed(events)))
    world.turn(1.1)
    world.turn(1.2)
    found = world.metric(0)
    assert (world.performance(0).rows, found["detail"]["labelled"]) == (200, 200)
    assert found["value"] == pytest.approx(accuracy(rows))
    assert (world.joined("pairs"), world.joined("copies"), world.joined("repeats")) == (200, 400, 400)


def test_the_newest_outcome_stands_in_whatever_order_they_come(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0, 200)
    world.send([*outcomes(rows, 20), *[row.other().outcome(10) for row in rows], *predictions(rows)])
    world.turn(1)
    world.turn(1.1)
    assert world.metric(0)["value"] == pytest.approx(accuracy(rows))
    assert world.performance(0).status == "final"


def test_tombstones_take_predictions_out_of_performance(tmp_path: Path) -> None:
    world = OutcomeWorld(tmp_path, tombstones=True)
    rows = hour_of_rows(0)
    world.retract([row.id for row in rows[:20]])
    world.send([*predictions(rows), *outcomes(rows)])
    world.turn(1)
    world.turn(1.1)
    assert world.performance(0).rows == 280
    world.retract([row.id for row in rows[20:50]])
    world.send(outcomes(rows[20:50], 3 * HOUR))
    world.turn(5)
    world.turn(5.1)
    window, found = world.performance(0), world.metric(0)
    assert (window.rows, window.revision, found["detail"]["labelled"]) == (250, 2, 250)
    assert found["value"] == pytest.approx(accuracy(rows[50:]))
    assert world.joined("retracted") == 50
    assert world.one("data", 0).rows == 300, "data windows count records"
    world.close()


def test_a_window_all_of_whose_predictions_are_retracted_keeps_no_figures(tmp_path: Path) -> None:
    world = OutcomeWorld(tmp_path, tombstones=True)
    rows = hour_of_rows(0, wrong=0.4)
    world.send([*predictions(rows), *outcomes(rows)])
    world.turn(1)
    world.turn(1.1)
    assert world.told() == [("firing", False, "drifted", 0, 1, None)]
    world.retract([row.id for row in rows])
    world.turn(5)
    world.turn(5.1)
    assert (world.performance(0).rows, world.performance(0).state) == (0, "no_data")
    assert world.told()[1:] == [("resolved", True, "corrected", 0, 1, 1)]
    world.labelled_hours([5, 6])
    assert world.performance(6).state == "ok"
    world.close()


def test_null_values_are_ignored_where_nothing_says_that_they_retract(world: OutcomeWorld) -> None:
    rows = world.labelled_hours([0])
    world.retract([row.id for row in rows])
    world.turn(2)
    world.turn(2.1)
    assert (world.performance(0).rows, world.joined("retracted")) == (300, 0)


def test_an_outcome_without_a_version_counts_for_every_version(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send(
        [*predictions(rows), *[row.prediction(version="2", prediction={"label": NO, "score": 0.3}) for row in rows]]
    )
    world.send(outcomes(rows))
    world.turn(1)
    world.turn(1.1)
    assert world.metric(0)["value"] == pytest.approx(accuracy(rows))
    assert world.metric(0, version="2")["value"] == pytest.approx(sum(row.truth == NO for row in rows) / 300)
    assert world.joined("pairs") == 600


def test_an_outcome_that_names_its_version_beats_one_that_names_none(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send([*predictions(rows), *[row.prediction(version="2") for row in rows]])
    world.send([row.other().outcome(10, version="2") for row in rows] + outcomes(rows, HOUR))
    world.turn(2.1)
    world.turn(2.2)
    assert world.metric(0)["value"] == pytest.approx(accuracy(rows))
    assert world.metric(0, version="2")["value"] == pytest.approx(1 - accuracy(rows))


def test_of_a_customer_scored_twice_the_first_score_counts(world: OutcomeWorld) -> None:
    """The same id, scored again by one version: the smallest (time, content) stands, wherever it comes in the stream."""
    rows = hour_of_rows(0)
    again = [row.prediction(ts=row.ts_ms + 3 * HOUR, prediction={"label": YES, "score": 0.99}) for row in rows]
    world.send([*again[:150], *predictions(rows), *again[150:], *outcomes(rows, 2 * HOUR)])
    world.turn(5)
    world.turn(5.1)
    assert world.metric(0)["value"] == pytest.approx(accuracy(rows))
    assert (world.performance(0).rows, world.joined("conflicts")) == (300, 300)
    assert [row.start_ms for row in world.windows("performance")] == [T0], "the later score makes no window"
    assert world.one("data", 3).rows == 300, "data windows count both"


def test_a_label_outside_the_classes_is_counted_and_judges_nothing(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send([*predictions(rows), *outcomes(rows[100:]), *[row.outcome(label="moved") for row in rows[:100]]])
    world.turn(1)
    world.turn(1.1)
    found = world.metric(0)
    assert (found["detail"]["labelled"], found["rows"]) == (200, 300)
    assert found["value"] == pytest.approx(accuracy(rows[100:]))


def test_labels_are_read_through_the_label_map(tmp_path: Path) -> None:
    world = OutcomeWorld(tmp_path, BINARY + f'    label_map: {{{{"1": {YES}, "false": {NO}}}}}\n')
    rows = hour_of_rows(0)
    spelled = {YES: [1, 1.0, "1", YES], NO: [False, "false", NO]}
    world.send(predictions(rows))
    world.send([row.outcome(label=spelled[row.truth][i % len(spelled[row.truth])]) for i, row in enumerate(rows)])
    world.turn(1)
    world.turn(1.1)
    found = world.metric(0)
    assert (found["detail"]["labelled"], found["value"]) == (300, pytest.approx(accuracy(rows)))
    world.close()


def test_money_without_labels_is_summed_and_labels_nothing(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0)
    world.send([*predictions(rows), *[outcome(row.id, row.ts_ms + 5, value=2.5) for row in rows]])
    world.turn(1)
    world.turn(1.1)
    assert world.metric(0)["detail"]["labelled"] == 0
    assert [row.monitor for row in world.windows() if row.monitor == "concept"] == []


# -- without labels


def test_without_labels_performance_is_estimated_and_only_that(world: OutcomeWorld) -> None:
    rows = hour_of_rows(0, 900)
    world.send(predictions(rows))
    world.turn(1)
    world.turn(1.1)
    guess = world.metric(0, check="estimated")
    assert (guess["state"], guess["detail"]["source"], guess["detail"]["validity"]) == ("ok", "estimated", "ok")
    assert guess["interval"][0] < accuracy(rows) < guess["interval"][1]
    assert abs(guess["value"] - accuracy(rows)) < 0.04
    assert world.metric(0)["state"] == "insufficient_data"


def test_labels_that_contradict_an_estimate_switch_it_off(world: OutcomeWorld) -> None:
    world.labelled_hours(range(4))
    assert world.metric(3, check="estimated")["state"] == "ok"
    assert world.metric(3, check="estimated")["detail"]["past_error"] < 0.05
    world.labelled_hours([4, 5], wrong=0.35)
    world.labelled_hours([6])
    guess = world.metric(6, check="estimated")
    assert guess["state"] == "insufficient_data"
    assert guess["detail"]["validity"] == "contradicted by labels"
    assert T0 + 4 * HOUR <= guess["detail"]["contradicted_since_ms"] <= T0 + 5 * HOUR


# -- concept drift


def test_a_concept_drift_opens_and_closes_with_the_recovery(world: OutcomeWorld) -> None:
    world.labelled_hours(range(3))
    world.labelled_hours([3, 4, 5], wrong=0.35)
    world.labelled_hours(range(6, 12))
    fired, ended = world.told("concept", "error", "e_sr")
    assert fired[:3] == ("firing", False, "drifted")
    assert 3 <= fired[3] <= 5
    assert ended[:4] == ("resolved", False, "cleared", fired[3])
    assert ended[4] <= 10
    found = [row for row in world.windows("concept") if row.state == "drift"]
    assert {row.status for row in found} == {"final"}


def test_an_improvement_pages_nobody(world: OutcomeWorld) -> None:
    """Customers who are easier to tell: more is right, and scores mean what they meant."""
    for hour in range(6):
        rows = hour_of_rows(hour, spread=4.0)
        world.send([*predictions(rows), *outcomes(rows)])
        world.turn(hour + 1)
        world.turn(hour + 1.2)
    assert world.metric(5)["value"] > world.metric(5)["baseline"] + 0.05
    assert [row for row in world.alerts() if row.monitor in ("performance", "concept")] == []


def test_labels_too_late_for_their_arrival_pane_move_the_detector_again(world: OutcomeWorld) -> None:
    rows = world.labelled_hours(range(4))
    before = world.one("concept", 2)
    late = hour_of_rows(1, 200, wrong=0.5, seed=7)
    world.send([*predictions(late), *outcomes(late, HOUR)])
    world.turn(5)
    world.turn(5.1)
    after = world.one("concept", 2)
    assert after.revision == before.revision + 1
    assert (before.rows, after.rows) == (300, 500)
    assert len(rows) == 1200


def test_what_an_end_of_input_left_provisional_is_final_once_time_has_passed(world: OutcomeWorld) -> None:
    for hour in (0, 1):
        rows = hour_of_rows(hour)
        world.send([*predictions(rows), *outcomes(rows, 0)])
    world.turn(2)
    world.finish()
    assert [world.one("concept", hour).status for hour in (0, 1)] == ["final", "provisional"]
    rows = hour_of_rows(3)
    world.send([*predictions(rows), *outcomes(rows, 0)])
    world.turn(4)
    world.turn(4.1)
    for monitor in ("concept", "performance"):
        assert [world.one(monitor, hour).status for hour in (0, 1, 3)] == ["final"] * 3
        assert world.one(monitor, 1).revision == 1


def test_a_version_that_comes_late_in_the_life_of_a_model_is_learned_of_too(world: OutcomeWorld) -> None:
    for hour in range(70):
        world.send(predictions(hour_of_rows(hour, 1)))
    world.turn(70)
    world.turn(70.1)
    world.labelled_hours([70, 71], version="2")
    assert world.metric(71, check="estimated", version="2")["detail"]["past_error"] < 0.1


# -- how old a verdict is


ROUTED = (
    BINARY
    + "receivers: {{robot: {{webhook: {{url: http://localhost:1/hook, secret: {{env: NEVER_READ}}}}}}}}\nroutes: [{{receiver: robot}}]\n"
)


def receivers(world: OutcomeWorld, row: AlertRow) -> set[str]:
    with world.store._db.read() as connection:
        from monitor.store.tables import outbox

        return {r.receiver for r in connection.execute(outbox.select()) if row.id.encode() in r.body}


def test_fresh_labels_of_old_predictions_are_told(tmp_path: Path) -> None:
    """Two weeks late, more than any page's age: what counts is when the loss became known."""
    world = OutcomeWorld(tmp_path, ROUTED.replace("maturity: 1d", "maturity: 30d"))
    rows = hour_of_rows(0, wrong=0.4)
    world.send(predictions(rows))
    world.turn(1)
    world.turn(1.1)
    world.send(outcomes(rows, 14 * DAY * HOUR))
    world.turn(14 * DAY + 1)
    world.turn(14 * DAY + 1.1)
    fired = next(row for row in world.alerts() if row.subject == "accuracy")
    assert receivers(world, fired) >= {"robot"}
    world.close()


def test_a_backlog_is_not_told(tmp_path: Path) -> None:
    """A year-old stream, read at once: alerts are stored, nobody is woken."""
    world = OutcomeWorld(tmp_path, ROUTED)
    for hour in range(3):
        rows = hour_of_rows(hour, wrong=0.4)
        world.send([*predictions(rows), *outcomes(rows)])
    world.turn(365 * DAY)
    world.turn(365 * DAY + 0.1)
    fired = next(row for row in world.alerts() if row.subject == "accuracy")
    assert receivers(world, fired) <= {"log"}
    world.close()


def test_a_loss_that_labels_show_asks_for_retraining(tmp_path: Path) -> None:
    target = (
        "retraining_targets: {{airflow: {{webhook: {{url: http://localhost:1/dags, secret: {{env: NEVER_READ}}}}}}}}\n"
    )
    world = OutcomeWorld(tmp_path, BINARY + "    retraining: {{target: airflow}}\n" + target)
    world.labelled_hours([0])
    assert world.store.retraining() == []
    world.labelled_hours([1], wrong=0.4)
    (asked,) = world.store.retraining()
    assert (asked.status, asked.at_ms) == ("requested", T0 + 2 * HOUR)
    world.close()


def test_labels_of_a_version_that_serves_nobody_any_more_wake_nobody(tmp_path: Path) -> None:
    """Its windows say what was true of it; an alert would have nobody to act on it."""
    world = OutcomeWorld(tmp_path, ROUTED.replace("maturity: 1d", "maturity: 30d"))
    old = [row for hour in range(2) for row in hour_of_rows(hour, wrong=0.4)]
    world.send(predictions(old))
    world.turn(2)
    for hour in range(2, 5):
        world.send(predictions(hour_of_rows(hour, version="2")))
        world.turn(hour + 1)
        world.turn(hour + 1.1)
    world.send(outcomes(old, 4 * HOUR))
    world.turn(7)
    world.turn(7.1)
    states = {row.state for row in world.windows("performance", "1")}
    assert "drift" in states
    assert [row.subject for row in world.alerts() if row.monitor in ("performance", "concept")] == []
    world.close()


def test_an_alert_about_performance_ends_when_a_newer_version_has_taken_over(tmp_path: Path) -> None:
    world = OutcomeWorld(tmp_path, ROUTED.replace("maturity: 1d", "maturity: 30d"))
    for hour in range(2):
        rows = hour_of_rows(hour, wrong=0.4)
        world.send([*predictions(rows), *outcomes(rows)])
        world.turn(hour + 1)
        world.turn(hour + 1.9)
    assert {row.status for row in world.alerts() if row.subject == "accuracy"} == {"firing"}
    for hour in range(2, 6):
        world.send(predictions(hour_of_rows(hour, version="2")))
        world.turn(hour + 1)
        world.turn(hour + 1.1)
    last = [row for row in world.alerts() if row.subject == "accuracy"][-1]
    assert (last.status, last.reason) == ("resolved", "new_version")
    world.close()


def test_a_version_beside_a_newer_one_is_still_answered_for(tmp_path: Path) -> None:
    world = OutcomeWorld(tmp_path, ROUTED.replace("maturity: 1d", "maturity: 30d"))
    old: list[Scored] = []
    for hour in range(4):
        rows = hour_of_rows(hour, wrong=0.4)
        old += rows
        world.send([*predictions(rows), *predictions(hour_of_rows(hour, version="2", seed=7))])
        world.turn(hour + 1)
        world.turn(hour + 1.1)
    world.send(outcomes(old, 4 * HOUR))
    world.turn(7)
    world.turn(7.1)
    fired = {(row.version, row.status) for row in world.alerts() if row.subject == "accuracy"}
    assert fired == {("1", "firing")}
    world.close()
