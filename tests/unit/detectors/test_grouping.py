from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.bins import category_bins, numeric_bins
from detectors.drift.grouping import grouped, grouping, psi
from detectors.layout import Layout, SubjectBins

COUNTS = st.lists(st.integers(0, 50), min_size=1, max_size=90).map(lambda c: np.array(c, np.int64))


@given(COUNTS, st.sampled_from([2, 10, 32]), st.booleans())
def test_every_group_has_mass_and_they_are_few(counts: np.ndarray, target: int, ordered: bool) -> None:
    groups = grouping(counts, target, ordered)
    assert len(groups) == len(counts)
    assert set(groups.tolist()) == set(range(int(groups.max()) + 1))
    assert groups.max() < target
    if counts.sum():
        assert (np.bincount(groups, weights=counts) > 0).all()
    if ordered:
        assert (np.diff(groups) >= 0).all()


def test_numeric_bins_are_cut_nearest_to_equal_mass() -> None:
    counts = np.array([0, 10, 10, 10, 10, 40, 10, 10, 0], np.int64)
    assert grouping(counts, 4, True).tolist() == [0, 0, 0, 1, 1, 2, 3, 3, 3]


def test_equal_bins_split_evenly() -> None:
    counts = np.array([0, *[100] * 64, 0], np.int64)
    sizes = np.bincount(grouping(counts, 32, True), weights=counts)
    assert sizes.tolist() == [200.0] * 32


def test_categories_keep_the_most_frequent_and_join_the_rest_with_other() -> None:
    assert grouping(np.array([50, 30, 10, 5, 5, 0]), 4, False).tolist() == [0, 1, 2, 3, 3, 3]
    assert grouping(np.array([50, 30, 0]), 10, False).tolist() == [0, 1, 1]  # other has no mass: with the rarest
    assert grouping(np.array([50, 30, 7]), 10, False).tolist() == [0, 1, 2]
    assert grouping(np.array([10, 30, 0]), 10, False).tolist() == [1, 0, 0 + 1]


def test_psi_is_the_formula() -> None:
    reference, window = [30, 50, 20, 0], [1, 7, 0, 4]
    p = [(x + 0.5) / (100 + 2) for x in reference]
    q = [(x + 0.5) / (12 + 2) for x in window]
    plain = sum((b - a) * math.log(b / a) for a, b in zip(p, q, strict=True))
    assert psi(np.array(reference), np.array(window)) == pytest.approx(plain, rel=1e-12)
    used = np.array([True] * 4 + [False] * 3)
    padded = psi(np.array([*reference, 0, 0, 0]), np.array([*window, 0, 0, 0]), used)
    assert padded == pytest.approx(plain, rel=1e-12)
    assert psi(np.array(reference), np.array(reference)) == 0


def test_all_subjects_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(5)
    layout = Layout(
        (
            SubjectBins("x", "feature", numeric_bins(rng.normal(size=3000))),
            SubjectBins("c", "feature", category_bins({"a": 5, "b": 3, "c": 1})),
            SubjectBins("k", "feature", numeric_bins(np.full(10, 3.0))),
        )
    )
    reference, window = rng.integers(0, 30, (2, layout.size))
    for target in (10, 32):
        groups = grouped(layout, reference, target)
        values = groups.psi(window)
        table = groups.of(window)
        for i in range(3):
            place = layout.bins_of(i)
            alone = grouping(reference[place], target, i != 1)
            counts = [np.bincount(alone, weights=part[place]) for part in (reference, window)]
            assert table[i, : len(counts[1])].tolist() == counts[1].tolist()
            assert table[i, len(counts[1]) :].sum() == 0
            assert values[i] == pytest.approx(float(psi(*counts)), rel=1e-12)
