"""Profiles: exact counts of rows by bin. Any split, order and tree of merges of the same rows gives the same profile, bit for bit."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detectors.columns import CategoryColumn, Column, NumericColumn
from detectors.layout import SLOT_COUNT, Layout, SubjectBins

__all__ = ["Layout", "Profile", "SubjectBins", "decode", "empty", "encode", "fold", "merge"]

_SLICE_ROWS = 2048  # more rows at once would leave the cache; the answer is the same
_FIXED_POINT = 2.0**32


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Counts of `rows` rows in the cells of a layout, and one fixed-point sum for each numeric subject.

    `counts` (int64, layout.size) adds up to `rows` within each subject. A value x adds round((x - lo) / (hi - lo) * 2**32) to its sum,
    x clipped to [lo, hi] before, 0 where lo == hi. A profile must not be changed; `merge` makes a new one.
    """

    rows: int
    counts: NDArray[np.int64]
    sums: NDArray[np.int64]


def fold(layout: Layout, columns: Sequence[Column], rows: NDArray[np.int64] | None = None) -> Profile:
    """Count a block of rows. `columns` in the order of the layout's subjects, of equal length; `rows` selects places in them (all if None).

    ValueError when number, kind or length of the columns do not fit.
    """
    numbers = [column for column in columns if isinstance(column, NumericColumn)]
    texts = [column for column in columns if isinstance(column, CategoryColumn)]
    _check(layout, columns, len(numbers))
    size = len(columns[0]) if rows is None and columns else len(rows) if rows is not None else 0
    profile = Profile(rows=size, counts=np.zeros(layout.size, np.int64), sums=np.zeros(len(layout.numeric), np.int64))
    if size == 0:
        return profile
    where = _run(rows, size)
    if texts:
        _fold_categories(layout, texts, where, profile.counts)
    for start in range(0, size if numbers else 0, _SLICE_ROWS):
        stop = min(start + _SLICE_ROWS, size)
        part = slice(where.start + start, where.start + stop) if isinstance(where, slice) else where[start:stop]
        _fold_numbers(layout, numbers, part, profile)
    return profile


def _run(rows: NDArray[np.int64] | None, size: int) -> slice | NDArray[np.int64]:
    """The rows as a slice where they follow each other, as the rows of a pane mostly do: cutting is cheaper than picking."""
    first = 0 if rows is None else int(rows[0])
    if rows is None or (int(rows[-1]) - first == size - 1 and bool((rows[1:] - rows[:-1] == 1).all())):
        return slice(first, first + size)
    return rows


def merge(a: Profile, b: Profile) -> Profile:
    """The profile of the rows of both. ValueError when they are of different layouts, as far as sizes tell."""
    if len(a.counts) != len(b.counts) or len(a.sums) != len(b.sums):
        raise ValueError("profiles of different layouts cannot be merged")
    return Profile(rows=a.rows + b.rows, counts=a.counts + b.counts, sums=a.sums + b.sums)


def empty(layout: Layout) -> Profile:
    """The profile of no rows."""
    return Profile(rows=0, counts=np.zeros(layout.size, np.int64), sums=np.zeros(len(layout.numeric), np.int64))


def _fold_numbers(
    layout: Layout, columns: list[NumericColumn], part: slice | NDArray[np.int64], profile: Profile
) -> None:
    """Sorting each column and looking its edges up is three times as fast as looking every value up."""
    matrix = np.array([column.values[part] for column in columns], dtype=np.float64)
    matrix.sort(axis=1)  # NaN last, so that the place of the key NaN is the number of values
    places = np.concatenate([row.searchsorted(keys) for row, keys in zip(matrix, layout.keys, strict=True)])
    inside = places.copy()
    inside[1:] -= places[:-1]
    inside[layout.key_starts] = places[layout.key_starts]
    profile.counts[layout.key_cells] += inside
    without_value = matrix.shape[1] - places[layout.key_ends]
    if all(column.status is None for column in columns):
        profile.counts[layout.missing_cells] += without_value
    else:
        for i in without_value.nonzero()[0].tolist():
            first = int(layout.missing_cells[i])
            profile.counts[first : first + SLOT_COUNT] += _slots(columns[i], part, int(without_value[i]))
    profile.sums[:] += _fixed_point(layout, matrix)


def _slots(column: NumericColumn, part: slice | NDArray[np.int64], without_value: int) -> NDArray[np.int64]:
    if column.status is None:
        return np.array([without_value] + [0] * (SLOT_COUNT - 1))
    return np.bincount(column.status[part], minlength=SLOT_COUNT + 1)[1:]


def _fixed_point(layout: Layout, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows of `matrix` clipped, scaled and summed. Terms are whole numbers up to 2**32, so float sums of a slice are exact in any order."""
    np.fmax(matrix, layout.lo, out=matrix)  # a NaN becomes lo, which adds 0
    np.fmin(matrix, layout.hi, out=matrix)
    matrix -= layout.lo
    matrix /= layout.span
    matrix *= _FIXED_POINT
    np.rint(matrix, out=matrix)
    return np.asarray(matrix.sum(axis=1), dtype=np.int64)


def _fold_categories(
    layout: Layout, columns: list[CategoryColumn], where: slice | NDArray[np.int64], counts: NDArray[np.int64]
) -> None:
    cells: list[int] = []
    weights: list[int] = []
    places: list[int] = [] if isinstance(where, slice) else where.tolist()
    lookups = (cell_of for cell_of in layout.cell_of if cell_of is not None)
    for column, cell_of in zip(columns, lookups, strict=True):
        values = column.values[where] if isinstance(where, slice) else map(column.values.__getitem__, places)
        tally = Counter(values)
        cells.extend(map(cell_of.__getitem__, tally))
        weights.extend(tally.values())
    counts += np.bincount(cells, weights=weights, minlength=len(counts)).astype(np.int64)


def _check(layout: Layout, columns: Sequence[Column], numbers: int) -> None:
    fits = len(columns) == len(layout.subjects) and numbers == len(layout.numeric)
    fits = fits and all(
        isinstance(column, NumericColumn) is (cell_of is None)
        for column, cell_of in zip(columns, layout.cell_of, strict=True)
    )
    if not fits or len({len(column) for column in columns}) > 1:
        raise ValueError("columns do not fit the layout: other number, kinds or lengths")


_MAGIC = b"DLP1"  # the last byte is the version of the format
_BODY = struct.Struct("<QIIBB")  # rows, cells, sums, bytes of a count, bytes of a sum
_BODY_LIMIT = 1 << 28


def encode(profile: Profile) -> bytes:
    """Bytes that `decode` reads: a versioned header and a zlib body with every number as wide as the largest of its kind needs.

    Equal profiles give equal bytes with one zlib. Numbers are stored byte plane by byte plane, which packs better.
    """
    counts_width, counts = _planes(profile.counts)
    sums_width, sums = _planes(profile.sums)
    head = _BODY.pack(profile.rows, len(profile.counts), len(profile.sums), counts_width, sums_width)
    pack = zlib.compressobj(
        1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE
    )  # searching for repeats finds none in counts
    return _MAGIC + pack.compress(head + counts + sums) + pack.flush()


def decode(data: bytes, layout: Layout | None) -> Profile:
    """The profile that was encoded. ValueError when `data` is damaged, of another version, or does not fit `layout` (if given)."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not a profile of this version")
    body = _inflated(data[len(_MAGIC) :])
    rows, cells, sums, counts_width, sums_width = _BODY.unpack_from(body)
    if layout is not None and (cells != layout.size or sums != len(layout.numeric)):
        raise ValueError(
            f"the profile has {cells} cells and {sums} sums, its layout {layout.size} and {len(layout.numeric)}"
        )
    split = _BODY.size + cells * counts_width
    if not (1 <= counts_width <= 8 and 1 <= sums_width <= 8) or len(body) != split + sums * sums_width:
        raise ValueError("damaged profile: its length does not fit its header")
    return Profile(
        rows=rows,
        counts=_numbers(body[_BODY.size : split], cells, counts_width),
        sums=_numbers(body[split:], sums, sums_width),
    )


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(data, _BODY_LIMIT)
    except zlib.error as error:
        raise ValueError(f"damaged profile: {error}") from None
    if not inflate.eof or inflate.unused_data or len(body) < _BODY.size:
        raise ValueError("damaged profile: cut off, or followed by something else")
    return body


def _planes(numbers: NDArray[np.int64]) -> tuple[int, bytes]:
    largest = int(numbers.max(initial=0))
    width = max(1, (largest.bit_length() + 7) // 8)
    planes = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width]
    return width, planes.T.tobytes()


def _numbers(data: bytes, count: int, width: int) -> NDArray[np.int64]:
    numbers = np.zeros((count, 8), dtype=np.uint8)
    numbers[:, :width] = np.frombuffer(data, dtype=np.uint8).reshape(width, count).T
    return numbers.reshape(-1).view("<u8").astype(np.int64)
