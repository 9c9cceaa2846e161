from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from detectors.columns import CategoryColumn, NumericColumn
from detectors.finding import Monitor, Severity, State
from detectors.judge import Policy, judge_distribution, judge_distributions
from detectors.profile import empty, fold
from detectors.reference.build import ReferenceSettings, ReferenceTable, build_reference

ROWS = 12_000


def category(rng, n, shares=(0.5, 0.3, 0.2)):
    return rng.choice(np.array(["DE", "FR", "IT"], dtype=object), n, p=shares).tolist()


def table(rng, n=ROWS, **change):
    values = {
        "x": rng.standard_normal(n),
        "money": np.exp(rng.standard_normal(n)),
        "country": category(rng, n),
        "one": np.ones(n),
    }
    return values | {"score": rng.random(n)} | change


def column(values):
    return CategoryColumn(values) if isinstance(values, list) else NumericColumn(np.asarray(values, float))


def known(order="time", **change):
    found = {name: column(values) for name, values in table(np.random.default_rng(1), **change).items()}
    score = found.pop("score")
    settings = ReferenceSettings(task="binary", positive_label="1", order=order)
    return build_reference(ReferenceTable(rows=ROWS, features=found, score=score), settings)


def profile(reference, values):
    parts = {name: column(found) for name, found in values.items()}
    return fold(reference.layout, [parts[subject.name] for subject in reference.layout.subjects])


def judge(reference, values, monitor=Monitor.DATA, **policy):
    findings = judge_distribution(reference, profile(reference, values), Policy(**policy), monitor)
    return {finding.subject: finding for finding in findings}


REFERENCE = known()


def window(n=1000, seed=2, **change):
    return table(np.random.default_rng(seed), n, **change)


def shifted(by, n=1000, seed=2):
    return window(n, seed, x=np.random.default_rng(seed).standard_normal(n) + by)


def test_a_healthy_window_is_ok_in_every_subject_that_is_not_constant():
    found = judge(REFERENCE, window())
    assert set(found) == {"x", "money", "country"}
    assert {finding.state for finding in found.values()} == {State.OK}
    assert all(finding.severity is None and finding.q_value > 0.05 for finding in found.values())


def test_scores_are_judged_by_the_prediction_monitor_alone():
    found = judge(REFERENCE, window(score=np.random.default_rng(0).random(1000) ** 2), Monitor.PREDICTION)
    assert {name: finding.state for name, finding in found.items()} == {"score": State.DRIFT}


def test_a_shift_is_drift_with_its_size_interval_and_means():
    finding = judge(REFERENCE, shifted(0.5))["x"]
    assert (finding.state, finding.severity, finding.unit, finding.baseline) == (
        State.DRIFT,
        Severity.WARNING,
        "sd",
        0.0,
    )
    assert finding.threshold == pytest.approx(0.02**0.5)
    assert finding.interval[0] < 0.5 < finding.interval[1]
    assert finding.detail["mean"] - finding.detail["reference_mean"] == pytest.approx(0.5, abs=0.1)
    assert finding.p_value <= finding.q_value < 1e-6
    assert finding.rows == 1000


def test_a_moved_category_is_named_with_its_shares():
    moved = category(np.random.default_rng(3), 1000, (0.3, 0.5, 0.2))
    finding = judge(REFERENCE, window(country=moved))["country"]
    assert finding.state is State.DRIFT
    assert finding.detail["category"] in ("DE", "FR")
    assert finding.detail["ks"] is finding.detail["wasserstein"] is None
    assert abs(finding.detail["share"] - finding.detail["reference_share"]) > 0.1


def test_of_an_unordered_reference_both_keys_make_a_warning_that_says_why():
    finding = judge(known(order="unknown"), shifted(1.0))["x"]
    assert finding.state is State.WARNING
    assert finding.severity is None
    assert "order" in finding.detail["reason"]
    assert finding.detail["phi"] is None


def test_a_shift_below_the_tolerated_one_is_no_drift_however_many_rows():
    assert judge(REFERENCE, shifted(0.1, n=100_000))["x"].state is State.OK


def test_the_tolerated_shift_can_be_set_by_feature():
    strict = judge(REFERENCE, shifted(0.1, n=100_000), tolerate_sd={"x": 0.05})["x"]
    assert (strict.state, strict.threshold) == (State.DRIFT, pytest.approx(0.05))
    lax = judge(REFERENCE, shifted(0.5), tolerate_sd={"x": 1.0})["x"]
    assert (lax.state, lax.threshold) == (State.OK, pytest.approx(1.0))


def shifted_to_q_between(low, high):
    """A window whose evidence is of this strength, by its seed."""
    return next(s for s in range(2, 400) if low < judge(REFERENCE, shifted(0.3, 500, s))["x"].q_value < high)


def test_the_only_subject_of_a_family_is_not_tested_at_five_percent():
    """One subject at 5 % would be two false alarms a week of hourly windows; alone it has what one of 50 has."""
    assert judge(REFERENCE, shifted(0.3, 500, shifted_to_q_between(2e-3, 0.05)))["x"].state is not State.DRIFT


def test_a_lower_level_asks_for_more_evidence():
    seed = shifted_to_q_between(1e-5, 1e-3)
    assert judge(REFERENCE, shifted(0.3, 500, seed))["x"].state is State.DRIFT
    assert judge(REFERENCE, shifted(0.3, 500, seed), level_scale=0.001)["x"].state is not State.DRIFT


@pytest.mark.parametrize("scale", [0.0, 1.5])
def test_levels_can_only_be_lowered(scale):
    with pytest.raises(ValueError, match="level_scale"):
        Policy(level_scale=scale)


def test_too_few_rows_with_a_value_are_insufficient_and_say_how_many():
    values = window()
    values["x"][150:] = np.nan
    found = judge(REFERENCE, values)
    assert (found["x"].state, found["x"].rows) == (State.INSUFFICIENT_DATA, 150)
    assert "150" in found["x"].detail["reason"]
    assert found["money"].state is State.OK


def test_missing_values_alone_are_no_drift_of_the_distribution():
    values = window(3000)
    values["x"][np.random.default_rng(5).random(3000) < 0.6] = np.nan
    finding = judge(REFERENCE, values)["x"]
    assert finding.state is State.OK
    assert finding.detail["groups"] == 10, "1,200 rows with a value: coarse groups, though the window has 3,000 rows"
    assert judge(REFERENCE, values)["money"].detail["groups"] == 32


def test_excluded_features_are_not_configured():
    reference = known(row_hash=[f"{i:x}" for i in range(ROWS)])
    assert judge(reference, window())["row_hash"].state is State.NOT_CONFIGURED


def test_a_feature_called_score_is_not_taken_for_the_score():
    rng = np.random.default_rng(1)
    features = {"score": NumericColumn(rng.standard_normal(ROWS))}
    settings = ReferenceSettings(task="binary", positive_label="1", order="time")
    reference = build_reference(
        ReferenceTable(rows=ROWS, features=features, score=NumericColumn(rng.random(ROWS))), settings
    )
    columns = {"feature": NumericColumn(rng.standard_normal(1000) + 1), "score": NumericColumn(rng.random(1000))}
    counts = fold(reference.layout, [columns[subject.role] for subject in reference.layout.subjects])
    found = judge_distributions(reference, counts, Policy())
    assert [(f.subject, f.state) for f in found[Monitor.DATA]] == [("score", State.DRIFT)]
    assert [(f.subject, f.state) for f in found[Monitor.PREDICTION]] == [("prediction.score", State.OK)]


def test_no_rows_no_findings():
    assert judge_distributions(REFERENCE, empty(REFERENCE.layout), Policy()) == {
        Monitor.DATA: [],
        Monitor.PREDICTION: [],
    }


def test_a_window_without_a_single_value_is_insufficient():
    values = window(1000, x=np.full(1000, np.nan))
    assert judge(REFERENCE, values)["x"].state is State.INSUFFICIENT_DATA


@pytest.mark.parametrize("shift", [0.0, 0.2, 1.0])
def test_ks_and_wasserstein_from_bins_are_near_the_exact_ones(shift):
    reference_values = table(np.random.default_rng(1))["x"]
    values = shifted(shift, n=5000)
    detail = judge(REFERENCE, values)["x"].detail
    exact = stats.ks_2samp(values["x"], reference_values).statistic
    assert exact - 1 / 64 <= detail["ks"] <= exact + 1e-12
    clipped = np.clip(values["x"], reference_values.min(), reference_values.max())
    assert detail["wasserstein"] == pytest.approx(
        stats.wasserstein_distance(clipped, reference_values), rel=0.05, abs=0.01
    )
    assert detail["mean"] == pytest.approx(clipped.mean(), abs=1e-6)


def test_one_value_of_a_billion_changes_no_verdict_and_no_shown_distance_by_much():
    plain, spoiled = window(), window()
    spoiled["x"] = spoiled["x"].copy()
    spoiled["x"][0] = 1e9
    before, after = judge(REFERENCE, plain), judge(REFERENCE, spoiled)
    assert {n: f.state for n, f in before.items()} == {n: f.state for n, f in after.items()}
    assert after["x"].detail["wasserstein"] == pytest.approx(before["x"].detail["wasserstein"], abs=0.01)
    moved = shifted(0.5)
    moved["x"][0] = 1e9
    assert judge(REFERENCE, moved)["x"].state is State.DRIFT
