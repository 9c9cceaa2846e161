from __future__ import annotations

import zlib
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detectors.concept.arrival import ArrivalProfile, empty, fold_arrival, merge, pane
from detectors.concept.arrival_codec import decode, encode

T0 = 1_767_571_200_000
LOSSES = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0, 1))
ROW = st.tuples(
    st.one_of(st.integers(T0, T0 + 5), st.integers(-(2**40), 2**42)),
    st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1)),
    LOSSES,
    st.sampled_from([1, 1, -1]),
)
ROWS = st.lists(ROW, max_size=30)


def folded(rows, *, with_sequence: bool = True) -> ArrivalProfile:
    ts, keys, losses, signs = zip(*rows, strict=True) if rows else ((), (), (), ())
    return fold_arrival(
        np.array(ts, np.int64),
        np.array(keys, np.uint64),
        np.array(losses, np.float64),
        np.array(signs, np.int8),
        with_sequence,
    )


def fixed(loss: float) -> int:
    return round(Fraction(loss) * 2**20)


def listed(profile: ArrivalProfile) -> list[tuple[int, int, int, int]]:
    rows = profile.rows
    return list(zip(rows.ts_ms.tolist(), rows.keys.tolist(), rows.loss.tolist(), rows.count.tolist(), strict=True))


@given(ROWS)
def test_a_profile_is_what_a_recount_gives(rows):
    profile = folded(rows)
    net = Counter()
    for ts, key, loss, sign in rows:
        net[ts, key, fixed(loss)] += sign
    assert listed(profile) == sorted((*place, count) for place, count in net.items() if count)
    assert profile.labels == sum(sign for *_, sign in rows)
    assert profile.loss == sum(sign * fixed(loss) for _, _, loss, sign in rows)
    squares = (sign * -(-(fixed(loss) ** 2) // 2**20) for _, _, loss, sign in rows)
    assert profile.loss_squared == sum(squares)


@given(ROWS, st.booleans(), st.data())
def test_any_split_order_and_tree_of_merges_gives_the_same_bytes(rows, with_sequence, data):
    shuffled = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=5)))
    parts = [folded(shuffled[a:b], with_sequence=with_sequence) for a, b in pairwise([0, *cuts, len(rows)])]
    while len(parts) > 1:
        first = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        second = parts.pop(data.draw(st.integers(0, len(parts) - 1)))
        parts.append(merge(first, second))
    assert encode(parts[0]) == encode(folded(rows, with_sequence=with_sequence))


@given(ROWS, ROWS, st.booleans())
def test_what_is_taken_back_leaves_no_trace(kept, gone, with_sequence):
    back = [(ts, key, loss, -sign) for ts, key, loss, sign in gone]
    both = merge(folded(kept + gone, with_sequence=with_sequence), folded(back, with_sequence=with_sequence))
    assert encode(both) == encode(folded(kept, with_sequence=with_sequence))


@given(ROWS)
def test_where_one_part_lost_sight_of_single_losses_the_sum_is_exact_and_the_sequence_unknown(rows):
    half = len(rows) // 2
    mixed = merge(folded(rows[:half]), folded(rows[half:], with_sequence=False))
    assert encode(mixed) == encode(folded(rows, with_sequence=False))
    assert encode(merge(folded(rows), empty(with_sequence=True))) == encode(folded(rows))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), LOSSES), max_size=40))
def test_a_pane_holds_the_losses_in_order_of_time_and_key(rows):
    made = pane(folded([(*row, 1) for row in rows]), 0, 10)
    expected = [fixed(loss) / 2**20 for _, _, loss in sorted((t, k, fixed(x) / 2**20) for t, k, x in rows)]
    assert made.sequence.tolist() == expected
    assert made.labels == len(rows)
    assert made.loss_sum == sum(expected)
    assert made.loss_squared >= sum(x * x for x in expected)
    assert made.loss_squared == pytest.approx(sum(x * x for x in expected), abs=len(rows) * 2**-20)
    assert pane(folded([(*row, 1) for row in rows], with_sequence=False), 0, 10).sequence is None


@pytest.mark.parametrize("with_sequence", [False, True])
def test_a_pane_that_lacks_what_it_takes_back_is_refused(with_sequence):
    with pytest.raises(ValueError):
        pane(folded([(5, 1, 1.0, -1)], with_sequence=with_sequence), 0, 10)
    with pytest.raises(ValueError):
        pane(folded([(5, 1, 0.0, 1), (5, 2, 1.0, -1), (5, 3, 0.0, 1)], with_sequence=True), 0, 10)


@pytest.mark.parametrize("loss", [-0.1, 1.0001, float("nan"), float("inf")])
def test_a_loss_outside_its_range_is_refused(loss):
    with pytest.raises(ValueError):
        folded([(T0, 1, loss, 1)])


def test_odd_columns_are_refused():
    with pytest.raises(ValueError):
        folded([(T0, 1, 0.5, 0)])
    with pytest.raises(ValueError):
        fold_arrival(np.zeros(2, np.int64), np.zeros(1, np.uint64), np.zeros(1), np.ones(1, np.int8), False)


@given(ROWS, st.booleans())
def test_bytes_are_read_as_they_were_written(rows, with_sequence):
    profile = folded(rows, with_sequence=with_sequence)
    read = decode(encode(profile))
    assert (read.labels, read.loss, read.loss_squared) == (profile.labels, profile.loss, profile.loss_squared)
    assert (read.rows is None) is (profile.rows is None)
    if with_sequence:
        assert listed(read) == listed(profile)
        assert [read.rows.ts_ms.dtype, read.rows.keys.dtype] == [np.int64, np.uint64]


def test_every_damage_is_noticed():
    rng = np.random.default_rng(1)
    rows = [(T0 + int(t), int(k), float(x), 1) for t, k, x in rng.integers(0, 2**20, (40, 3)) / [1, 1, 2**20]]
    survived = 0
    for profile in (folded(rows), folded(rows, with_sequence=False), empty(with_sequence=True)):
        data = encode(profile)
        for place in range(len(data)):
            for flip in (0x01, 0x80):
                bad = bytearray(data)
                bad[place] ^= flip
                try:
                    read = decode(bytes(bad))
                except ValueError:
                    continue
                survived += 1
                assert encode(read) == data
        for cut in range(len(data)):
            with pytest.raises(ValueError):
                decode(data[:cut])
        with pytest.raises(ValueError):
            decode(data + b"x")
    assert survived <= 3  # the last byte of a deflate stream may have bits that mean nothing


def test_bodies_that_contradict_themselves_are_refused():
    data = encode(folded([(T0, 1, 0.5, 1), (T0, 2, 1.0, 1), (T0 + 9, 1, 0.0, 1)]))
    body = zlib.decompress(data[4:])
    refused = 0
    for place in range(len(body)):
        bad = bytearray(body)
        bad[place] ^= 0x01
        try:
            read = decode(data[:4] + zlib.compress(bytes(bad)))
        except ValueError:
            refused += 1
        else:  # a time or a key that is as good as another
            assert (read.labels, read.loss, read.loss_squared) == (3, 3 * 2**19, 2**18 + 2**20)
    assert refused >= len(body) // 2
    for junk in (b"", b"DLA1", b"DLA2" + data[4:], b"DLA1" + zlib.compress(b"short")):
        with pytest.raises(ValueError):
            decode(junk)


def test_a_pane_of_5000_labels_is_small():
    rng = np.random.default_rng(2)
    columns = np.sort(rng.integers(T0, T0 + 3_600_000, 5000)), rng.integers(0, 2**64 - 1, 5000, dtype=np.uint64)
    whole = fold_arrival(*columns, (rng.random(5000) < 0.1).astype(float), np.ones(5000, np.int8), True)
    sums = fold_arrival(*columns, (rng.random(5000) < 0.1).astype(float), np.ones(5000, np.int8), False)
    assert len(encode(whole)) < 5000 * 13
    assert len(encode(sums)) < 64
