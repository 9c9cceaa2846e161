from __future__ import annotations

import math
import zlib
from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.bins import CategoryBins, NumericBins, category_bins, numeric_bins
from detectors.columns import ABSENT, INVALID, NAN, CategoryColumn, Column, Marker, NumericColumn, Status, category_text
from detectors.profile import Layout, Profile, SubjectBins, decode, empty, encode, fold, merge

LAYOUT = Layout(
    (
        SubjectBins("x", "feature", numeric_bins(np.array([-1.0, 0, 0, 0, 0, 1, 2, 3, 5, 8, 13, 21.5]))),
        SubjectBins("c", "feature", category_bins({"a": 3, "1": 2, "0.5": 1, "true": 1})),
        SubjectBins("constant", "feature", numeric_bins(np.array([4.0]))),
        SubjectBins("score", "score", numeric_bins(np.linspace(0, 1, 50), 256)),
    )
)
NUMERIC_CELLS = st.one_of(
    st.sampled_from([-1.0, -0.0, 0.0, 0.5, 1.0, 4.0, 21.5, float(np.nextafter(21.5, 99)), 1e300, -1e300]),
    st.floats(-30, 30),
    st.sampled_from(list(Status)[1:]),
)
CATEGORY_CELLS = st.sampled_from(
    ["a", "1", 1, 1.0, 0.5, "0.5", "true", "zz", 17, 2.5, "1.0", None, NAN, ABSENT, INVALID]
)
ROW = st.tuples(NUMERIC_CELLS, CATEGORY_CELLS, NUMERIC_CELLS, NUMERIC_CELLS)
ROWS = st.lists(ROW, max_size=40)


def numeric_column(cells: list[float | Status]) -> NumericColumn:
    values = np.array([math.nan if isinstance(cell, Status) else cell for cell in cells], dtype=np.float64)
    status = np.array([cell if isinstance(cell, Status) else 0 for cell in cells], dtype=np.uint8)
    return NumericColumn(values, status if set(status.tolist()) - {0, 1} else None)


def columns_of(rows: list[tuple]) -> list[Column]:
    made: list[Column] = []
    for i, subject in enumerate(LAYOUT.subjects):
        cells = [row[i] for row in rows]
        made.append(numeric_column(cells) if isinstance(subject.bins, NumericBins) else CategoryColumn(cells))
    return made


def recount(rows: list[tuple]) -> tuple[list[int], list[int]]:
    """The definition, one cell at a time and without numpy."""
    counts, sums = [], []
    markers: list[Marker | None] = [None, NAN, ABSENT, INVALID]
    for i, subject in enumerate(LAYOUT.subjects):
        mine = [0] * subject.cells
        total = 0
        for row in rows:
            cell = row[i]
            if isinstance(subject.bins, CategoryBins):
                known = subject.bins.categories
                if cell is None or isinstance(cell, Marker):
                    mine[len(known) + 1 + markers.index(cell)] += 1
                else:
                    text = category_text(cell)
                    mine[known.index(text) if text in known else len(known)] += 1
            elif isinstance(cell, Status):
                mine[subject.bins.count + cell - 1] += 1
            else:
                mine[bisect_right(subject.bins.edges.tolist(), cell)] += 1
                lo, hi = subject.bins.lo, subject.bins.hi
                clipped = min(max(cell, lo), hi)
                total += 0 if lo == hi else round(Fraction((clipped - lo) / (hi - lo)) * 2**32)
        counts += mine
        if isinstance(subject.bins, NumericBins):
            sums.append(total)
    return counts, sums


def same(a: Profile, b: Profile) -> bool:
    return encode(a) == encode(b)


@given(ROWS)
def test_counts_and_sums_are_those_of_a_recount(rows: list[tuple]) -> None:
    profile = fold(LAYOUT, columns_of(rows))
    counts, sums = recount(rows)
    assert profile.rows == len(rows)
    assert profile.counts.tolist() == counts
    assert profile.sums.tolist() == sums


@given(ROWS, st.data())
def test_any_split_order_and_tree_of_merges_gives_the_same_bytes(rows: list[tuple], data: st.DataObject) -> None:
    whole = fold(LAYOUT, columns_of(rows))
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    bounds = [0, *cuts, len(rows)]
    parts = [fold(LAYOUT, columns_of(shuffled[a:b])) for a, b in pairwise(bounds)]
    while len(parts) > 1:
        first = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        second = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(merge(first, second))
    assert same(parts[0], whole)


@given(ROWS, st.data())
def test_selected_rows_count_as_if_they_were_alone(rows: list[tuple], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=20)) if rows else []
    part = fold(LAYOUT, columns_of(rows), np.array(chosen, dtype=np.int64))
    assert same(part, fold(LAYOUT, columns_of([rows[i] for i in chosen])))


def test_more_rows_than_a_slice_count_like_small_blocks() -> None:
    rng = np.random.default_rng(11)
    size = 5000
    cells = [rng.normal(2, 9, size).round(rng.integers(0, 4)) for _ in range(3)]
    for values in cells:
        values[rng.random(size) < 0.1] = np.nan
    status = np.where(np.isnan(cells[0]), rng.integers(1, 5, size), 0).astype(np.uint8)
    texts = rng.choice(["a", "1", "new"], size).tolist()
    columns = [NumericColumn(cells[0], status), CategoryColumn(texts), NumericColumn(cells[1]), NumericColumn(cells[2])]
    order = rng.permutation(size)
    total = empty(LAYOUT)
    for part in np.array_split(order, 37):
        total = merge(total, fold(LAYOUT, columns, part))
    whole = fold(LAYOUT, columns)
    assert same(whole, total)
    assert same(whole, fold(LAYOUT, columns, order))
    assert (np.add.reduceat(whole.counts, LAYOUT.offsets[:-1]) == size).all()


def test_equal_numbers_of_other_types_are_one_category_whoever_comes_first() -> None:
    layout = Layout((SubjectBins("c", "feature", category_bins({"100000000000000000000": 2, "1e+20": 1, "1": 1})),))
    profiles = [fold(layout, [CategoryColumn(v)]) for v in ([1e20, 10**20, 1.0], [10**20, 1e20, 1])]
    assert same(*profiles)


def test_empty_is_neutral() -> None:
    profile = fold(LAYOUT, columns_of([(1.0, "a", 2.0, 0.3)]))
    assert same(merge(profile, empty(LAYOUT)), profile)
    assert same(fold(LAYOUT, columns_of([])), empty(LAYOUT))


def test_columns_that_do_not_fit_are_refused() -> None:
    columns = columns_of([(1.0, "a", 2.0, 0.3)])
    other = NumericColumn(np.zeros(2))
    for wrong in (columns[:3], [columns[1], columns[0], *columns[2:]], [*columns[:3], other]):
        with pytest.raises(ValueError, match="do not fit"):
            fold(LAYOUT, wrong)
    with pytest.raises(ValueError, match="different layouts"):
        merge(empty(LAYOUT), empty(Layout(LAYOUT.subjects[:2])))


@given(ROWS, st.sampled_from([1, 300, 70_000, 2**33]))
def test_codec_gives_back_what_it_was_given(rows: list[tuple], times: int) -> None:
    one = fold(LAYOUT, columns_of(rows))
    profile = Profile(rows=one.rows * times, counts=one.counts * times, sums=one.sums)
    for layout in (LAYOUT, None):
        back = decode(encode(profile), layout)
        assert back.rows == profile.rows
        assert np.array_equal(back.counts, profile.counts)
        assert np.array_equal(back.sums, profile.sums)
        assert (back.counts.dtype, back.sums.dtype) == (np.int64, np.int64)


def test_codec_of_a_layout_without_numbers_or_without_subjects() -> None:
    for layout in (Layout(()), Layout(LAYOUT.subjects[1:2])):
        assert same(decode(encode(empty(layout)), layout), empty(layout))


@given(ROWS, st.data())
@settings(max_examples=300)
def test_damage_is_refused_or_does_no_harm(rows: list[tuple], data: st.DataObject) -> None:
    """Some bits of a zlib stream mean nothing; whatever else is changed must be noticed."""
    profile = fold(LAYOUT, columns_of(rows))
    good = encode(profile)
    place = data.draw(st.integers(0, len(good) - 1))
    changed = bytes([good[place] ^ data.draw(st.integers(1, 255))])
    kind = data.draw(st.sampled_from(["flip", "cut", "grow", "drop"]))
    bad = {
        "flip": good[:place] + changed + good[place + 1 :],
        "cut": good[:place],
        "grow": good + changed,
        "drop": good[:place] + good[place + 1 :],
    }[kind]
    if bad == good:
        return
    try:
        back = decode(bad, LAYOUT)
    except ValueError:
        return
    assert kind == "flip"
    assert same(back, profile)


def test_other_versions_sizes_and_lengths_are_refused() -> None:
    good = encode(empty(LAYOUT))
    with pytest.raises(ValueError, match="version"):
        decode(b"DLP2" + good[4:], LAYOUT)
    with pytest.raises(ValueError, match="version"):
        decode(b"", LAYOUT)
    with pytest.raises(ValueError, match="its layout"):
        decode(good, Layout(LAYOUT.subjects[:2]))
    body = zlib.decompress(good[4:])
    for wrong in (body[:-1], body + b"\0", body[:5], body[:16] + b"\x00" + body[17:], body[:16] + b"\x09" + body[17:]):
        with pytest.raises(ValueError, match="damaged"):
            decode(good[:4] + zlib.compress(wrong), None)


def test_bytes_of_this_version_stay_readable() -> None:
    """Golden: what is stored today must be read for ever. The body is compared before zlib, whose bytes may differ by build."""
    layout = Layout((SubjectBins("x", "feature", numeric_bins(np.array([0.0, 4.0]))), LAYOUT.subjects[1]))
    columns = [
        NumericColumn(np.array([0.0, 1.0, 4.0, np.nan, 9.0]), np.array([0, 0, 0, 3, 0], np.uint8)),
        CategoryColumn(["a", None, "new", 1.0, INVALID]),
    ]
    profile = fold(layout, columns)
    body = bytes.fromhex(
        "0500000000000000"  # rows
        "1200000001000000"  # 18 cells, 1 sum
        "0105"  # widths
        "000101010100000100"  # x: four bins hold a row, then absent
        "010100000101000001"  # c: a, 1, other, missing and invalid
        "0000004002"  # 0 + 1/4 + 1 + 1, times 2**32
    )
    assert encode(profile)[:4] == b"DLP1"
    assert zlib.decompress(encode(profile)[4:]).hex() == body.hex()
    assert same(decode(b"DLP1" + zlib.compress(body), layout), profile)


def test_a_hundred_features_of_a_thousand_rows_take_six_kilobytes() -> None:
    rng = np.random.default_rng(2)
    layout = Layout(tuple(SubjectBins(f"f{i}", "feature", numeric_bins(rng.normal(size=20_000))) for i in range(100)))
    profile = fold(layout, [NumericColumn(rng.normal(size=1000)) for _ in range(100)])
    assert len(encode(profile)) < 6000
