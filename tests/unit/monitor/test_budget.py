"""The budget of series as a law: whatever there is to show, so many series and no more, the worst first, and nothing is left out unsaid."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from monitor import metric_families as f
from monitor import telemetry as t
from monitor.budget import CORE_SHARE, NAMED_MAX, OTHERS, PROCESS_SHARE, Budget, ModelSeries, choose
from monitor.series import Subject
from monitor.telemetry import Histogram
from monitor.verdicts import Verdicts


def sample(model: str, number: int):
    return f.WINDOW_ROWS, (model, "", str(number)), 1.0


@st.composite
def subjects(draw: st.DrawFn, model: str) -> list[Subject]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        subject = Subject(
            model, "1", f"f{number}", first=draw(st.booleans()), severity=draw(st.sampled_from([None, 0, 1, 2]))
        )
        subject.score, subject.excess = draw(st.sampled_from([None, 0.5])), draw(st.floats(0, 3))
        subject.values = [sample(model, place) for place in range(draw(st.integers(0, 4)))]
        made += [subject] * (subject.size > 0)
    return made


def verdicts(found: list[Subject]) -> Verdicts:
    quiet = sorted([s for s in found if not s.severity and not s.first], key=lambda s: (-s.excess, s.name))
    return Verdicts(
        signature=(), severe=sorted([s for s in found if s.severity], key=lambda s: s.urgency),
        whole=[s for s in found if s.first and not s.severity], quiet=quiet, quiet_series=sum(s.size for s in quiet),
        least=min((s.size for s in quiet), default=0), features={},
    )  # fmt: skip


@st.composite
def fleets(draw: st.DrawFn) -> list[ModelSeries]:
    return [
        ModelSeries(
            model=(name := f"m{number}"),
            core=[sample(name, place) for place in range(draw(st.integers(0, 20)))],
            units=[[sample(name, place) for place in range(size)] for size in draw(st.lists(st.integers(1, 8), max_size=3))],
            verdicts=[verdicts(draw(subjects(name))) for _ in range(draw(st.integers(0, 2)))],
        )
        for number in range(draw(st.integers(0, 8)))
    ]  # fmt: skip


process = st.lists(
    st.one_of(
        st.just((f.BUILD_INFO, ("1", "2"), 1.0)), st.just((t.BATCH, ("checkpoint",), Histogram([0] * len(t.BATCH.buckets) + [0])))
    ),
    max_size=12,
)  # fmt: skip


def series(samples) -> int:
    return sum(len(value.counts) + 2 if isinstance(value, Histogram) else 1 for _, _, value in samples)


def of_subjects(fleet: list[ModelSeries]) -> list[Subject]:
    return [
        subject for found in fleet for one in found.verdicts for subject in (*one.severe, *one.whole, *one.quiet)
    ]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), st.integers(1, 60), process, fleets())
def test_the_budget_is_never_exceeded_and_what_is_not_shown_is_counted(most, model_max, own, fleet):
    budget = Budget(most, model_max)
    shown = choose(budget, own, fleet)
    offered = series(own) + sum(
        series(found.core) + sum(map(len, found.units)) + sum(s.size for one in found.verdicts for s in (*one.severe, *one.whole, *one.quiet))
        for found in fleet
    )  # fmt: skip
    assert series(shown) <= most
    assert series(shown) + budget.left_out.total() == offered
    assert budget.left == most - series(shown)
    assert all(count >= 0 for count in budget.left_out.values())
    assert sum(budget.told().values()) == budget.left_out.total()


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 400), process, fleets())
def test_nothing_quiet_is_shown_in_place_of_something_worse(most, own, fleet):
    """Of the severe: one that is left out is larger than any less severe one that is shown and not larger than the room it would have needed."""
    budget = Budget(most, 10_000)
    shown = {sample[:2] for sample in choose(budget, own, fleet)}
    seen = Counter(
        (s.decision, s.labels) for s in of_subjects(fleet)
    )  # of two that look alike nobody could tell which is shown
    told_apart = [s for s in of_subjects(fleet) if seen[s.decision, s.labels] == 1]
    severe = sorted([s for s in told_apart if s.severity], key=lambda s: s.urgency)
    quiet = [s for s in told_apart if not s.severity and s.decision and s.severity is not None]
    left_out = [s for s in severe if (s.decision, s.labels) not in shown]
    for worse in left_out:
        rest = [
            s
            for s in quiet
            if (s.decision, s.labels) in shown and (s.model, s.name) not in {(x.model, x.name) for x in severe}
        ]
        assert all(s.size < worse.size for s in rest)


@given(st.integers(0, 400), fleets())
def test_a_crowd_of_models_leaves_room_for_the_worst(most, fleet):
    """Names of topics may take half of the budget, the core of models nine tenths of the rest before what has drifted is asked."""
    topics = [(t.GAPS, (str(number),), 1.0) for number in range(1_000)]
    budget = Budget(most)
    shown = choose(budget, topics, fleet)
    assert sum(metric is t.GAPS for metric, _, _ in shown) <= most * PROCESS_SHARE + 1
    first = min((s for s in of_subjects(fleet) if s.severity), key=lambda s: s.urgency, default=None)
    room = int(most * (1 - PROCESS_SHARE)) * (1 - CORE_SHARE)
    if first is not None and first.size <= int(room):
        assert (first.decision, first.labels) in {sample[:2] for sample in shown}


def test_models_are_named_up_to_a_limit_those_that_miss_most_first():
    budget = Budget(0)
    for number in range(NAMED_MAX + 50):
        budget.take(f"m{number}", number + 1)
    budget.take("", 7)
    told = budget.told()
    assert next(iter(told)) == f"m{NAMED_MAX + 49}"
    assert len(told) == NAMED_MAX + 1
    assert told[OTHERS] == sum(range(1, 51)) + 7
