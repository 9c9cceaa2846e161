"""Layout: the place of every count of a model's subjects in one flat vector."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detectors.bins import SLOTS, Bins, CategoryBins, NumericBins
from detectors.columns import Marker, category_text

Role = Literal["feature", "score", "label", "value", "scores"]
SLOT_COUNT = len(SLOTS)


@dataclass(frozen=True, slots=True, eq=False)
class SubjectBins:
    """One subject and its bins. `name` is the subject of its findings: the feature's name, "score", "label", "value" or "scores.CLASS".
    Names are unique within a role only: a feature may be called "score".
    """

    name: str
    role: Role
    bins: Bins

    @property
    def cells(self) -> int:
        return self.bins.count + SLOT_COUNT


class CellOf(dict[Hashable, int]):
    """Cell of a category value; what is not in it is `other`. Numbers are keys too, so a fold builds no text."""

    __slots__ = ("other",)

    def __init__(self, bins: CategoryBins, offset: int) -> None:
        self.other = offset + len(bins.categories)
        for cell, text in enumerate(bins.categories, start=offset):
            self[text] = cell
            number = _number(text)
            if number is not None:
                self.setdefault(number, cell)
        slots = (None, Marker.NAN, Marker.ABSENT, Marker.INVALID)
        self.update({marker: self.other + 1 + slot for slot, marker in enumerate(slots)})

    def __missing__(self, key: Hashable) -> int:
        return self.other


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Subject i owns cells offsets[i] .. offsets[i+1] of the vector `counts`: its bins, then SLOTS. Numeric subjects own, in order, one of `sums`.

    Derived, all by cell (length `size`) unless said otherwise; callers must not write to them:
    `subject_of` the subject's index; `slot_of` 0 for a bin, 1..4 for missing, nan, absent, invalid; `outside` True for bins out of range
    (numeric) and for `other` (categories); `numeric` (int64, by sum) the indices of the numeric subjects. `keys` of all sums end to end belong to
    the cells `key_cells`; the first and last of each sum stand at `key_starts` and `key_ends`, and `missing_cells` are the cells of their nulls.
    """

    subjects: tuple[SubjectBins, ...]
    size: int = field(init=False)
    offsets: NDArray[np.int64] = field(init=False, repr=False)
    numeric: NDArray[np.int64] = field(init=False, repr=False)
    subject_of: NDArray[np.int64] = field(init=False, repr=False)
    slot_of: NDArray[np.int64] = field(init=False, repr=False)
    outside: NDArray[np.bool_] = field(init=False, repr=False)
    keys: tuple[NDArray[np.float64], ...] = field(
        init=False, repr=False
    )  # by sum: the edges, then NaN, which sorts last
    key_cells: NDArray[np.int64] = field(init=False, repr=False)
    key_starts: NDArray[np.int64] = field(init=False, repr=False)  # by sum, as the next two
    key_ends: NDArray[np.int64] = field(init=False, repr=False)
    missing_cells: NDArray[np.int64] = field(init=False, repr=False)
    lo: NDArray[np.float64] = field(init=False, repr=False)  # by sum, as a column
    hi: NDArray[np.float64] = field(init=False, repr=False)
    span: NDArray[np.float64] = field(init=False, repr=False)  # hi - lo, and 1 where that is 0
    cell_of: tuple[CellOf | None, ...] = field(init=False, repr=False)  # by subject, None for numeric ones

    def __post_init__(self) -> None:
        cells = np.array([subject.cells for subject in self.subjects], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(cells)]).astype(np.int64)
        numeric = [(i, s.bins) for i, s in enumerate(self.subjects) if isinstance(s.bins, NumericBins)]
        first_cells = offsets[[i for i, _ in numeric]]
        widths = np.array([bins.count for _, bins in numeric], dtype=np.int64)
        ends = np.cumsum(widths)
        lo = np.array([[bins.lo] for _, bins in numeric], dtype=np.float64).reshape(-1, 1)
        hi = np.array([[bins.hi] for _, bins in numeric], dtype=np.float64).reshape(-1, 1)
        derived = {
            "size": int(offsets[-1]),
            "offsets": offsets,
            "numeric": np.array([i for i, _ in numeric], dtype=np.int64),
            "subject_of": np.repeat(np.arange(len(cells), dtype=np.int64), cells),
            "slot_of": _joined([np.r_[np.zeros(s.bins.count), 1 : SLOT_COUNT + 1] for s in self.subjects]).astype(
                np.int64
            ),
            "outside": _joined([_outside(subject.bins) for subject in self.subjects]).astype(np.bool_),
            "keys": tuple(np.append(bins.edges, np.nan) for _, bins in numeric),
            "key_cells": np.arange(widths.sum()) + np.repeat(first_cells - ends + widths, widths),
            "key_starts": ends - widths,
            "key_ends": ends - 1,
            "missing_cells": first_cells + widths,
            "lo": lo,
            "hi": hi,
            "span": np.where(hi > lo, hi - lo, 1.0),
            "cell_of": tuple(
                CellOf(subject.bins, int(offset)) if isinstance(subject.bins, CategoryBins) else None
                for subject, offset in zip(self.subjects, offsets[:-1], strict=True)
            ),
        }
        for name, value in derived.items():
            object.__setattr__(self, name, value)

    def bins_of(self, subject: int) -> slice:
        """The cells of the bins of a subject, without its slots."""
        return slice(int(self.offsets[subject]), int(self.offsets[subject + 1]) - SLOT_COUNT)


def _joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate(parts) if parts else np.zeros(0)


def _outside(bins: Bins) -> NDArray[np.float64]:
    flags = np.zeros(bins.count + SLOT_COUNT)
    if isinstance(bins, CategoryBins):
        flags[bins.count - 1] = 1
    else:
        flags[: bins.inside[0]] = 1
        flags[bins.inside[1] : bins.count] = 1
    return flags


def _number(text: str) -> int | float | None:
    """The number whose category text is `text`, if there is one."""
    if len(text) > 400:  # longer than any float, and int() refuses thousands of digits
        return None
    for parse in (int, float):
        try:
            number = parse(text)
        except ValueError:
            continue
        if not math.isnan(number) and category_text(number) == text:
            return number
    return None
