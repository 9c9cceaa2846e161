from __future__ import annotations

import json
import math
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.bins import SCORE_BINS, NumericBins, bin_of, numeric_bins
from detectors.columns import ABSENT, INVALID, NAN, CategoryColumn, NumericColumn, Status, category_text
from detectors.performance.features import coarse_feature
from detectors.performance.layout import (
    CODES,
    CoarseFeature,
    PerformanceLayout,
    codes_of,
    decode_layout,
    delay_edges_seconds,
    encode_layout,
    performance_layout,
)
from detectors.performance.layout import INVALID as INVALID_CODE
from detectors.performance.layout import MISSING as MISSING_CODE
from detectors.performance.layout import OTHER as OTHER_CODE
from detectors.performance.slots import SUMS

RNG = np.random.default_rng(5)
FEATURES = {
    "income": NumericColumn(RNG.lognormal(size=400)),
    "region": CategoryColumn(RNG.choice(["EU", "US", "1"], 400).tolist()),
    "nothing": NumericColumn(np.full(400, np.nan)),
}
UNIT_BINS = numeric_bins(np.linspace(0, 1, 9), 4)


def layouts() -> list[PerformanceLayout]:
    return [
        performance_layout(task="binary", classes=("no", "yes"), score=RNG.random(400), features=FEATURES),
        performance_layout(task="multiclass", classes=tuple("abc"), scores=RNG.dirichlet(np.ones(3), 400)),
        performance_layout(
            task="regression", predicted_value=RNG.normal(size=400), truth=RNG.normal(7, 3, 400), features=FEATURES
        ),
    ]


@pytest.mark.parametrize("layout", layouts(), ids=lambda layout: layout.task)
def test_slots_cover_the_vector_once_and_views_are_no_copies(layout: PerformanceLayout) -> None:
    vector = np.zeros(layout.size, np.int64)
    places = {(place.start, place.stop): name for name, (place, _) in layout.slots.items()}  # aliases fall together
    for name in places.values():
        layout.view(vector, name)[...] += 1
    assert (vector == 1).all()
    for name, (place, shape) in layout.slots.items():
        assert layout.view(vector, name).shape == shape
        assert place.stop - place.start == math.prod(shape)
    assert [layout.slots[name][0].start for name in ("rows", "labelled_rows")] == [0, 1]
    assert layout.slots[SUMS[layout.task][-1]][0].stop == layout.size
    with pytest.raises(KeyError):
        layout.view(vector, "nonsense")


def test_shapes_are_those_of_the_contract() -> None:
    binary, multiclass, regression = layouts()
    cells = binary.score_bins[0].count + 1
    assert binary.slots["labelled"][1] == (cells, 3, 2) == binary.slots["mass"][1]
    assert binary.slots["predicted"][1] == (cells, 3)
    assert binary.slots["feature_loss"][1] == (3, CODES)
    assert multiclass.slots["labelled"][1] == (4, 3)
    assert multiclass.slots["score_mass"][1] == (3, multiclass.bins + 1, 2)
    assert regression.slots["mass"][1] == (1,)
    assert regression.slots["squared_weighted"] == regression.slots["abs_squared"]


def test_two_limbs_read_as_the_sum_they_hold() -> None:
    layout = layouts()[2]
    vector = np.zeros(layout.size, np.int64)
    layout.view(vector, "error")[:] = (-256 * 3, 2**31)  # -3 and 2**-9
    assert layout.total(vector, "error") == -3 + 2**-9
    layout.view(vector, "value")[:] = (4, 256 * 10, 0, 0, 2**20 * 5)
    assert layout.value_totals(vector) == (4, 10.0, 5.0)
    binary = layouts()[0]
    other = np.zeros(binary.size, np.int64)
    binary.view(other, "confusion_weight_squared")[1, 0] = (512, 0)
    assert binary.totals(other, "confusion_weight_squared").tolist() == [[0, 0], [2, 0], [0, 0]]


def test_delay_edges_are_one_millisecond_then_half_octaves() -> None:
    assert len(delay_edges_seconds) == 63
    assert delay_edges_seconds[0] == 0.001
    np.testing.assert_allclose(delay_edges_seconds[1:], 2.0 ** (np.arange(62) / 2), rtol=1e-3)


def test_scores_get_256_bins_and_classes_in_number_get_fewer() -> None:
    score = RNG.random(9000)
    binary = performance_layout(task="binary", classes=("0", "1"), score=np.append(score, [np.nan, np.inf]))
    assert np.array_equal(binary.score_bins[0].edges, numeric_bins(score, SCORE_BINS).edges)
    many = performance_layout(
        task="multiclass", classes=tuple(map(str, range(64))), scores=RNG.dirichlet(np.ones(64), 3000)
    )
    assert len(many.score_bins) == 64
    assert max(bins.count for bins in many.score_bins) == many.bins < 100


def test_a_reference_without_scores_gets_equal_parts() -> None:
    binary = performance_layout(task="binary", classes=("0", "1"))
    assert bin_of(binary.score_bins[0], [-0.1, 0.0, 0.5, 0.9999, 1.0, 1.1]).tolist() == [0, 1, 129, 256, 257, 257]
    assert performance_layout(task="regression").score_bins[0].count == 1
    with_truth = performance_layout(task="regression", truth=np.array([1.0, 2.0, 4.0]))
    assert with_truth.score_bins[0].count > 3
    assert performance_layout(task="multiclass", classes=("a", "b")).bins == 258


def test_range_of_truth_and_span() -> None:
    layout = performance_layout(task="regression", truth=np.array([3.0, np.nan, -2.0, np.inf]))
    assert (layout.truth_lo, layout.truth_hi, layout.span) == (-2.0, 3.0, 5.0)
    constant = performance_layout(task="regression", truth=np.array([4.0, 4.0]))
    assert (constant.truth_lo, constant.span) == (4.0, 1.0)
    assert performance_layout(task="regression", truth=np.array([np.nan])).span == 1.0
    assert math.isfinite(performance_layout(task="regression", truth=np.array([-1.7e308, 1.7e308])).span)


def test_unit_of_weights_is_the_power_of_two_nearest_to_their_mean() -> None:
    weight = np.array([900_000.0, 1_200_000.0, 0.0])
    assert performance_layout(task="binary", classes=("0", "1"), weight=weight).weight_unit == 2.0**20
    assert performance_layout(task="binary", classes=("0", "1"), weight=np.array([0.0])).weight_unit == 1.0
    assert performance_layout(task="binary", classes=("0", "1")).weight_unit == 1.0


def test_parts_that_do_not_fit_the_task_are_refused() -> None:
    one = (UNIT_BINS,)
    for wrong in (
        {"task": "binary", "classes": ("a",), "score_bins": one},
        {"task": "binary", "classes": ("a", "a"), "score_bins": one},
        {"task": "multiclass", "classes": ("a", "b"), "score_bins": one},
        {"task": "multiclass", "classes": tuple(map(str, range(65))), "score_bins": one * 65},
        {"task": "regression", "classes": ("a",), "score_bins": one},
        {"task": "regression", "score_bins": one, "truth_lo": 2.0, "truth_hi": 1.0},
        {"task": "regression", "score_bins": one, "truth_lo": math.nan},
        {"task": "regression", "score_bins": one, "weight_unit": 0.0},
        {"task": "ranking", "score_bins": one},
    ):
        with pytest.raises(ValueError):
            PerformanceLayout(**wrong)
    wide = NumericBins(edges=np.arange(70_000.0), lo=0.0, hi=1.0, inside=(0, 1))
    with pytest.raises(ValueError, match="more than 65535"):
        PerformanceLayout(task="regression", score_bins=(wide,))


@pytest.mark.parametrize("layout", layouts(), ids=lambda layout: layout.task)
def test_a_layout_survives_json_to_the_last_bit(layout: PerformanceLayout) -> None:
    content = json.loads(json.dumps(encode_layout(layout)))
    back = decode_layout(content)
    assert encode_layout(back) == content
    assert (back.slots, back.size, back.truth_lo) == (layout.slots, layout.size, layout.truth_lo)
    for mine, other in zip(back.score_bins, layout.score_bins, strict=True):
        assert np.array_equal(mine.edges, other.edges)
        assert (mine.lo, mine.hi, mine.inside) == (other.lo, other.hi, other.inside)
    for mine, other in zip(back.features, layout.features, strict=True):
        assert (mine.name, mine.kind, mine.categories) == (other.name, other.kind, other.categories)
        assert np.array_equal(mine.edges, other.edges)


def test_a_damaged_layout_is_refused() -> None:
    good = encode_layout(layouts()[0])
    for change in (
        {"format": 2},
        {"task": "ranking"},
        {"classes": ["a"]},
        {"score_bins": None},
        {"score_bins": [{}]},
        {"features": [{"name": "x"}]},
        {"truth": ["zz", "0x1p0"]},
        {"truth": ["0x1p0"]},
        {"weight_unit": "0x1p9999"},
    ):
        with pytest.raises(ValueError):
            decode_layout({**good, **change})
    with pytest.raises(ValueError):
        decode_layout({})


NUMBERS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 2.5, math.inf, -math.inf]), st.floats(-5, 5))


@given(
    st.lists(st.floats(-4, 4), max_size=60),
    st.lists(st.one_of(NUMBERS, st.sampled_from(list(Status)[1:])), max_size=30),
)
def test_numeric_codes_are_bins_between_edges(reference: list[float], cells: list[float | Status]) -> None:
    feature = coarse_feature("x", NumericColumn(np.array(reference, dtype=np.float64)))
    values = np.array([math.nan if isinstance(cell, Status) else cell for cell in cells], dtype=np.float64)
    status = np.array([cell if isinstance(cell, Status) else 0 for cell in cells], dtype=np.uint8)
    wanted = []
    for cell in cells:
        if isinstance(cell, Status):
            wanted.append(INVALID_CODE if cell is Status.INVALID else MISSING_CODE)
        else:
            wanted.append(bisect_right(feature.edges.tolist(), cell))
    assert codes_of(feature, NumericColumn(values, status)).tolist() == wanted
    assert len(feature.edges) <= 12
    plain = codes_of(feature, NumericColumn(values)).tolist()
    assert plain == [
        MISSING_CODE if isinstance(cell, Status) else code for cell, code in zip(cells, wanted, strict=True)
    ]


def test_coarse_bins_hold_equal_shares_and_keep_what_lies_beyond_apart() -> None:
    values = RNG.normal(size=11_000)
    feature = coarse_feature("x", NumericColumn(values))
    rows = np.bincount(codes_of(feature, NumericColumn(values)), minlength=CODES)
    assert rows.tolist() == [0] + [1000] * 11 + [0, 0, 0, 0]
    beyond = codes_of(feature, NumericColumn(np.array([values.min() - 1, values.max() + 1e-9])))
    assert beyond.tolist() == [0, 12]


@given(st.lists(st.sampled_from(["a", "b", "1", 1, 1.0, 2.5, "2.5", 7, None, NAN, ABSENT, INVALID]), max_size=40))
def test_category_codes_are_places_of_texts(cells: list) -> None:
    feature = CoarseFeature(name="c", kind="categorical", categories=("b", "1", "2.5"))
    special = {None: MISSING_CODE, NAN: MISSING_CODE, ABSENT: MISSING_CODE, INVALID: INVALID_CODE}
    places = {"b": 0, "1": 1, "2.5": 2}
    markers = (NAN, ABSENT, INVALID)
    wanted = [
        special[cell] if cell is None or cell in markers else places.get(category_text(cell), OTHER_CODE)
        for cell in cells
    ]
    codes = codes_of(feature, CategoryColumn(cells))
    assert codes.tolist() == wanted
    assert codes.dtype == np.uint8


def test_the_most_frequent_categories_get_codes() -> None:
    texts = [f"c{i}" for i in range(20) for _ in range(40 - i)] + [None, INVALID]
    feature = coarse_feature("c", CategoryColumn(texts))
    assert feature.categories == tuple(f"c{i}" for i in range(12))
    assert feature.kind == "categorical"


def test_features_and_columns_that_do_not_fit_are_refused() -> None:
    for wrong in (
        {"kind": "numeric", "edges": np.arange(13.0)},
        {"kind": "numeric", "edges": np.array([1.0, 1.0])},
        {"kind": "categorical", "categories": tuple(map(str, range(13)))},
        {"kind": "categorical", "categories": ("a", "a")},
    ):
        with pytest.raises(ValueError):
            CoarseFeature(name="x", **wrong)
    with pytest.raises(ValueError, match="is numeric"):
        codes_of(CoarseFeature(name="x", kind="numeric"), CategoryColumn(["a"]))
    with pytest.raises(ValueError, match="is categorical"):
        codes_of(CoarseFeature(name="x", kind="categorical"), NumericColumn(np.zeros(1)))
