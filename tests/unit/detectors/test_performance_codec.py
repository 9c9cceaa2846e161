from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors.columns import NumericColumn
from detectors.performance.codec import counts, decode, encode
from detectors.performance.layout import PerformanceLayout, performance_layout
from detectors.performance.profile import (
    SAMPLE_ROWS,
    PerformanceProfile,
    Sample,
    empty,
    fold_labelled,
    fold_predicted,
    merge,
)
from detectors.performance.scored import NO_CLASS, LabelledRows, PredictedRows

REFERENCE = np.random.default_rng(3).random(900)
FEATURES = {name: NumericColumn(REFERENCE) for name in ("a", "b", "c")}
LAYOUTS = {
    "binary": performance_layout(task="binary", classes=("no", "yes"), score=REFERENCE, features=FEATURES),
    "multiclass": performance_layout(task="multiclass", classes=tuple("xyz"), features=FEATURES),
    "regression": performance_layout(task="regression", truth=REFERENCE, features=FEATURES),
}
TASKS = tuple(LAYOUTS)


def block(layout: PerformanceLayout, size: int) -> LabelledRows:
    rng = np.random.default_rng(size)
    classes = max(len(layout.classes), 1)
    return LabelledRows(
        predicted=PredictedRows(
            score=rng.random(size),
            scores=rng.random((size, classes)) if layout.task == "multiclass" else None,
            decision=rng.choice([0, 1, NO_CLASS], size).astype(np.uint8),
            weight=np.ones(size),
            codes=rng.integers(0, 16, (size, len(layout.features))).astype(np.uint8),
            keys=rng.integers(0, 2**64, size, dtype=np.uint64),
        ),
        label=rng.integers(0, classes, size).astype(np.uint8),
        truth=rng.random(size),
        value=rng.normal(size=size),
        delay_ms=rng.integers(-9, 10**9, size),
        sign=rng.choice([1, 1, -1], size).astype(np.int8),
    )


def folded(task: str, size: int) -> PerformanceProfile:
    rows = block(LAYOUTS[task], size)
    return merge(fold_predicted(LAYOUTS[task], rows.predicted), fold_labelled(LAYOUTS[task], rows))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("size", [0, 1, 7, 2500])
@pytest.mark.parametrize("times", [1, -1, 70_000])
def test_codec_gives_back_what_it_was_given(task: str, size: int, times: int) -> None:
    layout = LAYOUTS[task]
    one = folded(task, size)
    profile = PerformanceProfile(vector=one.vector * times, sample=one.sample)
    for given_layout in (layout, None):
        back = decode(encode(profile), given_layout)
        assert np.array_equal(back.vector, profile.vector)
        for name in ("keys", "score_bin", "decision", "codes"):
            mine, other = getattr(back.sample, name), getattr(profile.sample, name)
            assert np.array_equal(mine, other)
            assert (mine.dtype, mine.shape) == (other.dtype, other.shape)
        assert counts(back) == counts(profile)


def test_codec_keeps_extreme_numbers() -> None:
    layout = LAYOUTS["regression"]
    vector = empty(layout).vector.copy()
    vector[:6] = [2**63 - 1, -(2**63), -1, 1, 0, 2**40]
    back = decode(encode(PerformanceProfile(vector=vector, sample=empty(layout).sample)), layout)
    assert np.array_equal(back.vector, vector)


@given(data=st.data())
@settings(max_examples=200)
def test_damaged_bytes_are_refused(data: st.DataObject) -> None:
    good = encode(folded("binary", data.draw(st.integers(0, 9))))
    place = data.draw(st.integers(0, len(good) - 1))
    changed = bytes([good[place] ^ data.draw(st.integers(1, 255))])
    for bad in (good[:place] + changed + good[place + 1 :], good[:place], good + changed):
        with pytest.raises(ValueError):
            decode(bad, LAYOUTS["binary"])


def test_bytes_whose_checksum_holds_but_whose_parts_do_not_fit_are_refused() -> None:
    good = encode(folded("binary", 1))
    head = struct.Struct("<IIBIHHH")
    fields = head.unpack_from(good, 8)
    body = good[8 + head.size :]

    def made(data: bytes, **change: int) -> bytes:
        names = ("cells", "used", "width", "packed", "rows", "columns", "features")
        content = head.pack(*{**dict(zip(names, fields, strict=True)), **change}.values()) + data
        return good[:4] + struct.pack("<I", zlib.crc32(good[:4] + content)) + content

    assert made(body) == good
    packed, used, width = fields[3], fields[1], fields[2]
    vector = zlib.compress(zlib.decompress(body[:packed])[:-1])
    blank = zlib.compress(bytes(len(zlib.decompress(body[:packed]))))
    changes: list[Callable[[], bytes]] = [
        lambda: made(body, cells=2**31),
        lambda: made(body, used=used - 1),
        lambda: made(body, width=width + 1),
        lambda: made(body, width=0),
        lambda: made(body, packed=packed - 1),
        lambda: made(body, rows=2),
        lambda: made(body, rows=SAMPLE_ROWS + 1),
        lambda: made(body, features=2),
        lambda: made(b"\x00" * packed + body[packed:]),
        lambda: made(vector + body[packed:], packed=len(vector)),
        lambda: made(blank + body[packed:], packed=len(blank)),
        lambda: b"DLF3" + good[4:],
        lambda: b"",
    ]
    for change in changes:
        with pytest.raises(ValueError):
            decode(change(), None)
    with pytest.raises(ValueError, match="its layout"):
        decode(good, LAYOUTS["regression"])


def test_bytes_of_this_version_stay_readable() -> None:
    """Golden: what is stored today must be read for ever. The body is compared before zlib, whose bytes may differ by build."""
    sample = Sample(
        keys=np.array([1, 2**63], np.uint64),
        score_bin=np.array([3, 260], np.uint16),
        decision=np.array([1, 255], np.uint8),
        codes=np.array([[1], [14]], np.uint8),
    )
    vector = np.array([2, 0, -1, 300, 0, 0, 0, 0, 0, 1], np.int64)
    good = encode(PerformanceProfile(vector=vector, sample=sample))
    assert good[:4] == b"DLF2"
    assert good[8:27].hex() == "0a0000000400000002" + struct.pack("<I", len(good) - 50).hex() + "020000000100"
    assert zlib.decompress(good[27:-23]).hex() == "b0400401580200000200"
    assert good[-23:].hex() == "010000000000000000000000000000800300040101ffe1"
    assert np.array_equal(decode(good, None).vector, vector)


def test_bytes_of_the_version_before_are_read_without_what_they_do_not_hold() -> None:
    for task in TASKS:
        layout, now = LAYOUTS[task], folded(task, 40)
        place = layout.slots["placed"][0] if task == "multiclass" else slice(0, 0)
        whole = now.vector.copy()
        whole[place] = 0
        before = PerformanceProfile(vector=np.delete(now.vector, np.arange(layout.size)[place]), sample=now.sample)
        body = encode(before)[8:]
        stored = b"DLF1" + struct.pack("<I", zlib.crc32(body)) + body
        for given_layout in (layout, None):
            assert np.array_equal(decode(stored, given_layout).vector, whole)
        with pytest.raises(ValueError, match="its layout"):
            decode(stored, LAYOUTS["regression" if task == "binary" else "binary"])


def test_a_binary_profile_of_a_thousand_rows_takes_few_kilobytes() -> None:
    rng = np.random.default_rng(1)
    layout = performance_layout(task="binary", classes=("0", "1"), score=rng.random(20_000))
    rows = block(layout, 1000).predicted
    assert len(encode(fold_predicted(layout, rows, sampled=False))) < 2500
    assert len(encode(fold_predicted(layout, rows))) < 2500 + 1000 * 11
