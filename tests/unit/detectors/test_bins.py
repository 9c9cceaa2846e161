from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.bins import bin_of, category_bins, numeric_bins

NUMBERS = st.one_of(
    st.integers(-5, 5).map(float), st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([0.0, -0.0])
)


@given(st.lists(NUMBERS, min_size=1, max_size=300), st.sampled_from([4, 64, 256]))
def test_edges_rise_strictly_and_hold_the_reference_inside(values: list[float], bins: int) -> None:
    made = numeric_bins(np.array(values), bins)
    assert (np.diff(made.edges) > 0).all()
    places = bin_of(made, values)
    assert places.min() >= 1
    assert places.max() <= made.count - 2 if made.edges[-1] < math.inf else True
    assert made.inside == (1, made.count - 1)


@given(st.lists(NUMBERS, min_size=1, max_size=60), st.lists(NUMBERS, max_size=60))
def test_bin_holds_its_lower_edge_and_not_its_upper(reference: list[float], values: list[float]) -> None:
    made = numeric_bins(np.array(reference))
    edges = made.edges.tolist()
    everything = values + edges
    assert bin_of(made, everything).tolist() == [bisect_right(edges, x) for x in everything]
    for x in everything:
        place = bisect_right(edges, x)
        assert place == 0 or edges[place - 1] <= x
        assert place == len(edges) or x < edges[place]


def test_no_bin_is_much_heavier_than_its_share_unless_it_is_one_value() -> None:
    values = np.concatenate([np.random.default_rng(3).normal(size=20_000), np.zeros(5_000), np.full(400, 7.5)])
    made = numeric_bins(values)
    places = bin_of(made, values)
    for place in np.unique(places).tolist():
        held = values[places == place]
        assert len(held) <= math.ceil(len(values) / 64) or len(set(held)) == 1


@pytest.mark.parametrize(("bins", "count", "own"), [(64, 8, True), (64, 7, False), (256, 2, True)])
def test_a_value_above_half_a_bin_of_mass_is_its_own_bin(bins: int, count: int, own: bool) -> None:
    values = np.concatenate([np.arange(1000 - count) + 0.25, np.full(count, 500.5)])
    edges = numeric_bins(values, bins).edges
    assert (np.nextafter(500.5, np.inf) in edges) is own


def test_tail_edges_are_reference_values_at_their_ranks() -> None:
    edges = numeric_bins(np.arange(10_000, dtype=np.float64)).edges
    for value in (0.0, 10.0, 50.0, 100.0, 9900.0, 9950.0, 9990.0):
        assert value in edges
    assert edges[-1] == np.nextafter(9999.0, np.inf)


def test_a_constant_has_below_itself_and_above() -> None:
    made = numeric_bins(np.full(50, -0.0))
    assert made.constant
    assert bin_of(made, [-1e-300, -0.0, 0.0, 5e-324, 1.0]).tolist() == [0, 1, 1, 2, 2]


def test_extremes_of_float_do_not_overflow() -> None:
    top = float(np.finfo(np.float64).max)
    made = numeric_bins(np.array([-top, 0.0, top]))
    assert math.isfinite(made.hi - made.lo)
    assert bin_of(made, [-top, top]).tolist() == [1, made.count - 2]


def test_a_configured_range_takes_the_place_of_the_extremes() -> None:
    wide = numeric_bins(np.linspace(10, 20, 100), value_range=(0.0, 100.0))
    inside = range(*wide.inside)
    assert [int(place) in inside for place in bin_of(wide, [-0.1, 0.0, 5.0, 15.0, 100.0, 100.1])] == [
        False, True, True, True, True, False,
    ]  # fmt: skip
    narrow = numeric_bins(np.linspace(10, 20, 100), value_range=(12.0, 15.0))
    inside = range(*narrow.inside)
    assert [int(place) in inside for place in bin_of(narrow, [11.9, 12.0, 15.0, 15.1, 21.0])] == [
        False, True, True, False, False,
    ]  # fmt: skip


def test_no_value_no_bins() -> None:
    with pytest.raises(ValueError, match="at least one"):
        numeric_bins(np.zeros(0))


def test_categories_fall_by_frequency_then_text() -> None:
    made = category_bins({"b": 2, "c": 5, "a": 2, "é": 1})
    assert made.categories == ("c", "a", "b", "é")
    assert made.complete
    assert made.count == 5


def test_the_dictionary_keeps_the_most_frequent() -> None:
    made = category_bins({f"{i:03d}": 1000 - i for i in range(300)})
    assert made.categories == tuple(f"{i:03d}" for i in range(256))
    assert not made.complete
