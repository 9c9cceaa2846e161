from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, replace
from decimal import Decimal, getcontext
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.bins import NumericBins, numeric_bins
from detectors.performance.codec import encode
from detectors.performance.layout import CoarseFeature, PerformanceLayout, delay_edges_seconds, performance_layout
from detectors.performance.profile import (
    SAMPLE_ROWS,
    PerformanceProfile,
    empty,
    fold_labelled,
    fold_predicted,
    merge,
)
from detectors.performance.scored import NO_CLASS, LabelledRows, PredictedRows
from detectors.performance.slots import MASS_SCALE, SUM_SCALE, SUMS, VALUE_SQUARED_SCALE
from detectors.performance.sums import SLICE_ROWS, fixed_weights, natural_log, tally

FEATURES = tuple(CoarseFeature(name=name, kind="numeric", edges=np.arange(12.0)) for name in ("a", "b", "c"))


def unit_bins(parts: int) -> NumericBins:
    return numeric_bins(np.linspace(0, 1, 4 * parts + 1), parts)


LAYOUTS = {
    "binary": PerformanceLayout(
        task="binary", classes=("no", "yes"), score_bins=(unit_bins(8),), features=FEATURES, weight_unit=0.5
    ),
    "multiclass": PerformanceLayout(
        task="multiclass",
        classes=("x", "y", "z"),
        score_bins=(unit_bins(8), unit_bins(3), unit_bins(5)),
        features=FEATURES,
    ),
    "regression": PerformanceLayout(
        task="regression", score_bins=(unit_bins(6),), features=FEATURES, truth_lo=-1.0, truth_hi=2.0
    ),
}
TASKS = tuple(LAYOUTS)
every_task = pytest.mark.parametrize("task", TASKS)


@dataclass(frozen=True)
class Row:
    score: float
    scores: tuple[float, ...]
    decision: int
    weight: float
    codes: tuple[int, ...]
    key: int
    label: int
    truth: float
    value: float
    delay_ms: int
    sign: int = 1


PROBABILITY = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 1e-9, 0.1, -0.25, 1.5, math.nan, math.inf, -math.inf]), st.floats(0, 1)
)
AMOUNT = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 2.0, 1e-9, 1e5]), st.floats(-3, 3))


def row_of(task: str) -> st.SearchStrategy[Row]:
    classes = len(LAYOUTS[task].classes)
    codes = st.sampled_from([*range(classes), NO_CLASS]) if classes else st.just(NO_CLASS)
    prediction = st.one_of(AMOUNT, st.sampled_from([math.nan, math.inf, -math.inf, 1e300]))
    return st.builds(
        Row,
        score=prediction if task == "regression" else PROBABILITY,
        scores=st.tuples(*[PROBABILITY] * classes),
        decision=codes,
        weight=st.one_of(st.sampled_from([1.0, 0.1, 0.0, 3.0]), st.floats(0, 50)),
        codes=st.tuples(*[st.integers(0, 15)] * len(FEATURES)),
        key=st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1)),
        label=codes,
        truth=st.one_of(AMOUNT, st.just(math.nan)),
        value=st.sampled_from([math.nan, 0.0, -3.25, 17.1, 1e6]),
        delay_ms=st.one_of(st.sampled_from([-5, 0, 1, 999, 1000, 1413, 1414]), st.integers(-(10**6), 10**11)),
    )


ROWS = {task: st.lists(row_of(task), max_size=12) for task in TASKS}


def labelled(layout: PerformanceLayout, rows: list[Row]) -> LabelledRows:
    def column(name: str, kind: type) -> np.ndarray:
        return np.array([getattr(row, name) for row in rows], dtype=kind)

    classes = len(layout.classes)
    multiclass = layout.task == "multiclass"
    return LabelledRows(
        predicted=PredictedRows(
            score=np.full(len(rows), np.nan) if multiclass else column("score", np.float64),
            scores=column("scores", np.float64).reshape(len(rows), classes) if multiclass else None,
            decision=column("decision", np.uint8),
            weight=column("weight", np.float64),
            codes=column("codes", np.uint8).reshape(len(rows), len(layout.features)),
            keys=column("key", np.uint64),
        ),
        label=column("label", np.uint8),
        truth=column("truth", np.float64),
        value=column("value", np.float64),
        delay_ms=column("delay_ms", np.int64),
        sign=column("sign", np.int8),
    )


def folded(layout: PerformanceLayout, rows: list[Row], sampled: bool = True) -> PerformanceProfile:
    """Predictions and outcomes of the rows."""
    block = labelled(layout, rows)
    predictions = fold_predicted(layout, block.predicted, sampled=sampled, sign=block.sign)
    return merge(predictions, fold_labelled(layout, block))


def same(a: PerformanceProfile, b: PerformanceProfile) -> bool:
    return encode(a) == encode(b)


class Recount:
    """The definitions, one row at a time, with dicts and fractions."""

    def __init__(self, layout: PerformanceLayout) -> None:
        self.layout = layout
        self.exact: dict[tuple, int] = defaultdict(int)  # (slot, *place)
        self.sums: dict[tuple, Fraction] = defaultdict(Fraction)  # in the unit of the slot's integers
        self.slack: dict[tuple, float] = defaultdict(float)  # by which sums of rounded floats may differ

    def number(self, sign: int, name: str, *place: int, by: int = 1) -> None:
        self.exact[name, *place] += sign * by

    def sum(self, sign: int, name: str, *place: int, term: Fraction, scale: int = SUM_SCALE) -> None:
        self.sums[name, *place] += sign * min(max(term, Fraction(-(2**40))), Fraction(2**40)) * scale
        self.slack[name, *place] += 1.01 + min(abs(float(term)), 2.0**40) * scale * 2**-49

    def score_bin(self, which: int, score: float) -> int:
        return (
            self.layout.bins if math.isnan(score) else bisect_right(self.layout.score_bins[which].edges.tolist(), score)
        )

    def add(self, row: Row) -> None:
        s, unit = row.sign, Fraction(row.weight) / Fraction(self.layout.weight_unit)
        mass = round(unit * MASS_SCALE)
        weight = Fraction(mass, MASS_SCALE)
        self.number(s, "rows", 0)
        for feature, code in enumerate(row.codes):
            self.number(s, "feature_rows", feature, code)
        task = self.layout.task
        getattr(self, f"{task}_predicted")(row, mass, weight)
        known = math.isfinite(row.truth) if task == "regression" else row.label != NO_CLASS
        if math.isfinite(row.value):
            self.number(s, "value", 0)
            self.sum(s, "value", 1, term=Fraction(row.value))
            self.sums["value", 3] += s * Fraction(row.value) ** 2 * VALUE_SQUARED_SCALE
            self.slack["value", 3] += 1.01 + row.value**2 * 2**-30
        if not known:
            self.number(s, "unknown_labels", 0)
            return
        self.number(s, "labelled_rows", 0)
        edges = [Fraction(round(edge * 1000), 1000) for edge in delay_edges_seconds.tolist()]
        self.number(s, "delay", bisect_right(edges, Fraction(row.delay_ms, 1000)))
        getattr(self, f"{task}_labelled")(row, mass, weight)

    def loss(self, row: Row, loss: Fraction) -> None:
        once, twice = round(loss * 2**20), round(loss**2 * 2**20)
        self.number(row.sign, "loss", 0)
        self.number(row.sign, "loss", 1, by=once)
        self.number(row.sign, "loss", 2, by=twice)
        edges = [Fraction(round(edge * 1000), 1000) for edge in delay_edges_seconds.tolist()]
        place = bisect_right(edges, Fraction(row.delay_ms, 1000))
        self.number(row.sign, "delay_loss", place, 0)
        self.number(row.sign, "delay_loss", place, 1, by=once)
        for feature, code in enumerate(row.codes):
            self.number(row.sign, "feature_labelled", feature, code)
            self.number(row.sign, "feature_loss", feature, code, by=once)
            self.number(row.sign, "feature_loss_squared", feature, code, by=twice)

    def class_sums(self, row: Row, weight: Fraction, true_score: float, brier: Fraction, clipped: bool) -> None:
        loss = -Fraction(math.log(true_score))
        self.sum(row.sign, "scored_weight_squared", term=weight**2)
        for name, x in (("log_loss", loss), ("brier", brier)):
            self.sum(row.sign, name, term=weight * x)
            self.sum(row.sign, f"{name}_weighted", term=weight**2 * x)
            self.sum(row.sign, f"{name}_squared", term=weight**2 * x**2)
        self.number(row.sign, "clipped", 0, by=int(clipped))

    def wrong(self, row: Row) -> None:
        if row.decision != NO_CLASS:
            self.loss(row, Fraction(row.decision != row.label))

    def binary_predicted(self, row: Row, mass: int, weight: Fraction) -> None:
        place = self.score_bin(0, row.score)
        decision = min(row.decision, 2)
        self.number(row.sign, "predicted", place, decision)
        self.number(row.sign, "predicted_mass", place, decision, by=mass)
        if not math.isnan(row.score):
            score = Fraction(min(max(row.score, 0.0), 1.0))
            self.sum(row.sign, "predicted_score_mass", place, term=weight * score, scale=MASS_SCALE)

    def binary_labelled(self, row: Row, mass: int, weight: Fraction) -> None:
        place = self.score_bin(0, row.score)
        decision = min(row.decision, 2)
        self.number(row.sign, "labelled", place, decision, row.label)
        self.number(row.sign, "mass", place, decision, row.label, by=mass)
        self.sum(row.sign, "weight_squared", term=weight**2)
        self.sum(row.sign, "confusion_weight_squared", decision, row.label, term=weight**2)
        self.wrong(row)
        if math.isnan(row.score):
            return
        score = min(max(row.score, 0.0), 1.0)
        self.sum(row.sign, "score_mass", place, term=weight * Fraction(score), scale=MASS_SCALE)
        floored = min(max(score, 1e-7), 1 - 1e-7)
        self.number(row.sign, "outside", 0, by=int(score != row.score))
        true_score = floored if row.label == 1 else 1 - floored
        self.class_sums(row, weight, true_score, (Fraction(score) - row.label) ** 2, floored != row.score)

    def multiclass_predicted(self, row: Row, mass: int, weight: Fraction) -> None:
        decision = min(row.decision, 3)
        self.number(row.sign, "predicted", decision)
        self.number(row.sign, "predicted_mass", decision, by=mass)
        for place, score in enumerate(row.scores):
            cell = self.score_bin(place, score)
            self.number(row.sign, "score_rows", place, cell)
            if decision == place:
                self.number(row.sign, "chosen_rows", place, cell)
            if not math.isnan(score):
                term = weight * Fraction(min(max(score, 0.0), 1.0))
                self.sum(row.sign, "predicted_score_mass", place, cell, term=term, scale=MASS_SCALE)

    def multiclass_labelled(self, row: Row, mass: int, weight: Fraction) -> None:
        decision = min(row.decision, 3)
        self.number(row.sign, "labelled", decision, row.label)
        self.number(row.sign, "mass", decision, row.label, by=mass)
        self.sum(row.sign, "weight_squared", term=weight**2)
        self.sum(row.sign, "confusion_weight_squared", decision, row.label, term=weight**2)
        self.wrong(row)
        given = [min(max(score, 0.0), 1.0) for score in row.scores if not math.isnan(score)]
        for place, score in enumerate(row.scores):
            cell = self.score_bin(place, score)
            self.number(row.sign, "score_mass", place, cell, int(row.label == place), by=mass)
            if not math.isnan(score):
                term = weight * Fraction(min(max(score, 0.0), 1.0))
                self.sum(row.sign, "class_score_mass", place, cell, term=term, scale=MASS_SCALE)
        if len(given) == 3:
            self.number(row.sign, "outside", 0, by=int(tuple(given) != row.scores))
            floored = min(max(given[row.label], 1e-7), 1 - 1e-7)
            brier = sum((Fraction(score) - (place == row.label)) ** 2 for place, score in enumerate(given))
            self.class_sums(row, weight, floored, Fraction(brier), floored != row.scores[row.label])
            self.placed(row, weight)

    def placed(self, row: Row, weight: Fraction) -> None:
        """Shares of rows below and above the middle of a bin, were bins equally likely and scores right."""
        own, others, scale = Fraction(0), Fraction(0), Fraction(0)
        for place, bins in enumerate(self.layout.score_bins):
            ends = [Fraction(min(max(end, 1e-3), 1 - 1e-3)) for end in [bins.lo, *bins.edges.tolist(), bins.hi]]
            scores = [(a + b) / 2 for a, b in itertools.pairwise(ends)]
            cell, rate = self.score_bin(place, row.scores[place]), sum(scores) / len(scores)
            misses = [1 - score for score in scores]
            factor = 1 / (1 - min(rate, Fraction(9, 10)))
            scale += factor
            if place == row.label:
                own = (sum(misses[:cell]) + misses[cell] / 2) / sum(misses)
            else:
                others += factor * (sum(scores[cell + 1 :]) + scores[cell] / 2) / sum(scores)
        c = others / scale
        for place, x in enumerate((Fraction(1), own, c, own**2, own * c, c**2)):
            self.sum(row.sign, "placed", row.label, place, term=weight**2 * x)

    def regression_predicted(self, row: Row, mass: int, weight: Fraction) -> None:
        self.number(row.sign, "predicted", self.score_bin(0, row.score))
        self.number(row.sign, "predicted_mass", self.score_bin(0, row.score), by=mass)

    def regression_labelled(self, row: Row, mass: int, weight: Fraction) -> None:
        self.number(row.sign, "labelled", self.score_bin(0, row.score))
        if math.isnan(row.score):
            return
        self.number(row.sign, "mass", 0, by=mass)
        truth, lo, span = Fraction(row.truth), Fraction(self.layout.truth_lo), Fraction(self.layout.span)
        finite = math.isfinite(row.score)
        prediction = Fraction(row.score) if finite else Fraction(int(math.copysign(1, row.score)) * 2**1000)
        limit = Fraction(2**40)
        e = min(max((prediction - truth) / span, -limit), limit)
        a, y, t = abs(e), (truth - lo) / span, abs(truth) / span
        p = min(abs(prediction - truth) / abs(truth), limit) if truth else Fraction(0)
        size = abs(truth) + abs(prediction)
        s = 2 * abs(prediction - truth) / size if size else Fraction(0)
        if not truth:
            self.number(row.sign, "zero_truth", 0)
            self.number(row.sign, "zero_mass", 0, by=mass)
        w, w2 = weight, weight**2
        once = {"abs": a, "squared": e**2, "error": e, "truth": y, "truth_squared": y**2}
        once |= {"ape": p, "sape": s, "abs_truth": t}
        twice = {"weight_squared": Fraction(1), "abs_weighted": a, "abs_squared": a**2, "squared_squared": e**4}
        twice |= {"squared_truth": e**2 * y, "squared_truth_squared": e**2 * y**2, "error_weighted": e}
        twice |= {"truth_weighted": y, "truth_squared_weighted": y**2, "truth_cubed_weighted": y**3}
        twice |= {"truth_fourth_weighted": y**4, "ape_weighted": p, "ape_squared": p**2, "sape_weighted": s}
        twice |= {"ape_weight_squared": Fraction(truth != 0), "sape_squared": s**2, "abs_truth_weighted": t}
        twice |= {"abs_truth_squared": t**2, "abs_abs_truth": a * t}
        assert {*once, *twice} == set(SUMS["regression"])
        terms = {k: w * x for k, x in once.items()} | {k: w2 * x for k, x in twice.items()}
        for name, term in terms.items():
            self.sum(row.sign, name, term=term)
        self.number(row.sign, "clipped", 0, by=int(any(abs(term) > limit for term in terms.values())))
        self.loss(row, min(a, Fraction(1)))

    def check(self, vector: np.ndarray) -> None:
        """Every slot, every place."""
        names = {place.start: name for name, (place, _) in reversed(self.layout.slots.items())}  # first names win
        for name in names.values():
            slot = self.layout.view(vector, name)
            limbs = {key[1:] for key in self.sums if key[0] == name}
            if name in SUMS[self.layout.task] or name in {"weight_squared", "confusion_weight_squared", "placed"}:
                slot = limbed(slot)
            elif name == "value":
                slot = np.array([slot[0], limbed(slot[1:3]), 0, limbed(slot[3:5]), 0], dtype=object)
            for place in np.ndindex(slot.shape):
                key = (name, *place)
                got = int(slot[place])
                if place in limbs:
                    assert abs(got - self.sums[key]) <= self.slack[key], key
                else:
                    assert got == self.exact.get(key, 0), key


def limbed(slot: np.ndarray) -> np.ndarray:
    wide = slot.astype(object)
    return np.asarray(wide[..., 0] * 2**32 + wide[..., 1], dtype=object)


@every_task
@settings(max_examples=60)
@given(data=st.data())
def test_every_slot_is_that_of_a_recount(task: str, data: st.DataObject) -> None:
    rows = data.draw(ROWS[task])
    rows = [replace(row, sign=data.draw(st.sampled_from([1, 1, -1]))) for row in rows]
    recount = Recount(LAYOUTS[task])
    for row in rows:
        recount.add(row)
    profile = folded(LAYOUTS[task], rows)
    recount.check(profile.vector)
    assert profile.rows == sum(row.sign for row in rows)
    assert profile.vector.dtype == np.int64


@every_task
@settings(max_examples=60)
@given(data=st.data())
def test_any_split_order_and_tree_of_merges_gives_the_same_bytes(task: str, data: st.DataObject) -> None:
    layout = LAYOUTS[task]
    rows = data.draw(ROWS[task])
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    parts = [folded(layout, shuffled[a:b]) for a, b in pairwise([0, *cuts, len(rows)])]
    while len(parts) > 1:
        first = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        second = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(merge(first, second))
    assert same(parts[0], folded(layout, rows))


@every_task
@settings(max_examples=60)
@given(data=st.data())
def test_what_is_taken_back_was_never_there(task: str, data: st.DataObject) -> None:
    layout = LAYOUTS[task]
    kept, gone = data.draw(ROWS[task]), data.draw(ROWS[task])
    back = [replace(row, sign=-1) for row in gone]
    mixed = data.draw(st.permutations([*kept, *gone, *back]))
    cut = data.draw(st.integers(0, len(mixed)))
    whole = merge(folded(layout, mixed[:cut], sampled=False), folded(layout, mixed[cut:], sampled=False))
    assert same(whole, folded(layout, kept, sampled=False))


def many(task: str, size: int, seed: int, layout: PerformanceLayout | None = None) -> LabelledRows:
    rng = np.random.default_rng(seed)
    layout = layout or LAYOUTS[task]
    classes = len(layout.classes)
    multiclass = task == "multiclass"
    return LabelledRows(
        predicted=PredictedRows(
            score=np.full(size, np.nan) if multiclass else rng.random(size),
            scores=rng.dirichlet(np.ones(classes), size) if multiclass else None,
            decision=rng.integers(0, classes, size).astype(np.uint8) if classes else np.full(size, NO_CLASS, np.uint8),
            weight=rng.lognormal(0, 3, size),
            codes=rng.integers(0, 16, (size, len(layout.features))).astype(np.uint8),
            keys=rng.integers(0, 2**64, size, dtype=np.uint64),
        ),
        label=rng.integers(0, max(classes, 1), size).astype(np.uint8),
        truth=rng.normal(size=size),
        value=np.where(rng.random(size) < 0.5, np.nan, rng.normal(0, 1000, size)),
        delay_ms=rng.integers(-1000, 10**9, size),
        sign=np.ones(size, np.int8),
    )


@every_task
def test_more_rows_than_a_slice_count_like_small_blocks(task: str) -> None:
    layout = LAYOUTS[task]
    block = many(task, 2 * SLICE_ROWS + 77, 3)
    whole = merge(fold_predicted(layout, block.predicted), fold_labelled(layout, block))
    parts = np.array_split(np.random.default_rng(1).permutation(len(block)), 23)
    total = empty(layout)
    for part in parts:
        total = merge(total, fold_labelled(layout, block.part(part)))
        total = merge(fold_predicted(layout, block.part(part).predicted), total)
    assert same(total, whole)
    assert (whole.rows, whole.labelled_rows) == (len(block), len(block))


def test_the_sample_is_the_rows_with_the_least_keys() -> None:
    layout = LAYOUTS["binary"]
    rows = many("binary", 3 * SAMPLE_ROWS, 4).predicted
    sample = fold_predicted(layout, rows).sample
    order = np.argsort(rows.keys)[:SAMPLE_ROWS]
    assert sample.keys.tolist() == rows.keys[order].tolist()
    assert sample.decision.tolist() == rows.decision[order].tolist()
    assert np.array_equal(sample.codes, rows.codes[order])
    edges = layout.score_bins[0].edges.tolist()
    assert sample.score_bin.tolist() == [bisect_right(edges, score) for score in rows.score[order].tolist()]
    assert len(fold_predicted(layout, rows, sampled=False).sample) == 0


def test_equal_keys_are_cut_by_content_whatever_the_order() -> None:
    layout = LAYOUTS["multiclass"]
    rows = many("multiclass", SAMPLE_ROWS + 500, 5).predicted
    rows = replace_keys(rows, rows.keys % np.uint64(2))
    whole = fold_predicted(layout, rows)
    order = np.random.default_rng(2).permutation(len(rows))
    half = len(order) // 3
    other = merge(fold_predicted(layout, rows.part(order[half:])), fold_predicted(layout, rows.part(order[:half])))
    assert same(whole, other)
    assert len(whole.sample) == SAMPLE_ROWS


def replace_keys(rows: PredictedRows, keys: np.ndarray) -> PredictedRows:
    names = ("score", "scores", "decision", "weight", "codes")
    return PredictedRows(keys=keys.astype(np.uint64), **{name: getattr(rows, name) for name in names})


def test_a_prediction_taken_back_leaves_the_counts_but_not_the_sample() -> None:
    layout = LAYOUTS["binary"]
    rows = many("binary", 10, 6).predicted
    added = fold_predicted(layout, rows)
    both = merge(added, fold_predicted(layout, rows, sign=np.full(10, -1, np.int8)))
    assert both.rows == 0
    assert not both.vector.any()
    assert np.array_equal(both.sample.keys, added.sample.keys)


def test_great_and_small_weights_stay_exact() -> None:
    """Sums of weights pass 2**53 units of mass here, where floats would begin to round."""
    layout = LAYOUTS["binary"]
    block = many("binary", 2000, 7)
    weight = np.where(np.arange(2000) % 2 == 0, 20_000.1, 1e-9)
    names = ("score", "scores", "decision", "codes", "keys")
    rows = PredictedRows(weight=weight, **{name: getattr(block.predicted, name) for name in names})
    vector = fold_predicted(layout, rows).vector
    wanted = sum(round(Fraction(w) / Fraction(layout.weight_unit) * MASS_SCALE) for w in weight.tolist())
    assert int(layout.view(vector, "predicted_mass").sum()) == wanted
    assert wanted > 2**53
    units, whole = fixed_weights(np.array([1e9, 0.1]), 1.0)
    assert units.tolist() == [65536.0, round(0.1 * MASS_SCALE) / MASS_SCALE]
    assert whole.tolist() == [2.0**48, 429496730.0]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-(2**50), 2**50)), max_size=40))
def test_tally_adds_whole_numbers_exactly(pairs: list[tuple[int, int]]) -> None:
    index = np.array([place for place, _ in pairs], dtype=np.intp)
    amounts = np.array([float(amount) for _, amount in pairs])
    wanted = [sum(amount for place, amount in pairs if place == cell) for cell in range(4)]
    assert tally(index, amounts, 4).tolist() == wanted


@given(st.one_of(st.floats(1e-7, 1.0), st.floats(1e-300, 1e300)))
def test_logarithm_is_right_to_two_units_of_the_last_place(value: float) -> None:
    getcontext().prec = 40
    exact = Decimal(value).ln()
    got = float(natural_log(np.array([value]))[0])
    assert abs(Decimal(got) - exact) <= 2 * Decimal(math.ulp(float(exact)))
    if value == 1.0:
        assert got == 0.0


def test_constant_truth_has_a_span_of_one() -> None:
    layout = performance_layout(task="regression", truth=np.full(5, 4.0), predicted_value=np.full(5, 4.0))
    row = Row(5.5, (), NO_CLASS, 1.0, (), 1, NO_CLASS, 4.0, math.nan, 0)
    vector = folded(layout, [row]).vector
    assert [layout.total(vector, name) for name in ("abs", "squared", "truth", "ape")] == [1.5, 2.25, 0.0, 0.375]
    assert layout.view(vector, "loss").tolist() == [1, 2**20, 2**20]


def test_no_scores_no_decisions_and_one_class_only() -> None:
    layout = performance_layout(task="binary", classes=("0", "1"), score=np.zeros(50))
    rows = [Row(math.nan, (), NO_CLASS, 0.1, (), key, key % 2, math.nan, math.nan, 0) for key in range(4)]
    vector = folded(layout, rows).vector
    mass = round(0.1 * MASS_SCALE)
    assert layout.view(vector, "mass")[layout.bins].tolist() == [[0, 0], [0, 0], [2 * mass, 2 * mass]]
    assert layout.view(vector, "loss").tolist() == [0, 0, 0]
    assert layout.total(vector, "scored_weight_squared") == 0
    assert layout.total(vector, "weight_squared") == pytest.approx(4 * (mass / MASS_SCALE) ** 2, rel=1e-11)
    many_classes = performance_layout(task="multiclass", classes=tuple(f"{i:02}" for i in range(64)))
    block = many("multiclass", 300, 8, many_classes)
    names = ("score", "decision", "weight", "codes", "keys")
    without = PredictedRows(scores=None, **{name: getattr(block.predicted, name) for name in names})
    blind = fold_predicted(many_classes, without)
    assert many_classes.view(blind.vector, "score_rows")[:, -1].tolist() == [300] * 64
    assert (blind.sample.score_bin == many_classes.bins).all()
    whole = fold_labelled(many_classes, block)
    halves = [fold_labelled(many_classes, block.part(slice(a, b))) for a, b in ((0, 100), (100, 300))]
    assert same(whole, merge(*halves))
    assert int(many_classes.view(whole.vector, "labelled").sum()) == 300


@every_task
def test_empty_is_neutral(task: str) -> None:
    layout = LAYOUTS[task]
    block = many(task, 30, 9)
    profile = merge(fold_predicted(layout, block.predicted), fold_labelled(layout, block))
    assert same(merge(profile, empty(layout)), profile)
    assert same(folded(layout, []), empty(layout))


def test_rows_that_do_not_fit_are_refused() -> None:
    layout = LAYOUTS["binary"]
    block = many("binary", 5, 10)
    fields = {n: getattr(block.predicted, n) for n in ("score", "scores", "decision", "weight", "codes", "keys")}
    wrong: list[dict] = [
        {"weight": np.ones(4)},
        {"codes": fields["codes"][:, :2]},
        {"codes": np.full((5, 3), 16, np.uint8)},
        {"scores": np.zeros((5, 3))},
    ]
    for change in wrong:
        with pytest.raises(ValueError):
            fold_predicted(layout, PredictedRows(**{**fields, **change}))
    with pytest.raises(ValueError, match="sign for each"):
        fold_predicted(layout, block.predicted, sign=np.ones(4, np.int8))
    with pytest.raises(ValueError, match="1 or -1"):
        fold_predicted(layout, block.predicted, sign=np.full(5, 2, np.int8))
    short = {n: getattr(block, n) for n in ("predicted", "label", "truth", "value", "delay_ms")}
    with pytest.raises(ValueError, match="differ in length"):
        fold_labelled(layout, LabelledRows(**short, sign=np.ones(4, np.int8)))
    with pytest.raises(ValueError, match="different layouts"):
        merge(empty(layout), empty(LAYOUTS["regression"]))
