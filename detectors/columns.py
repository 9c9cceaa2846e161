"""The columns that a fold reads: one feature, score or label of a block of rows, already sorted by the decoder into values and reasons for having none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

import numpy as np
from numpy.typing import NDArray


class Marker(Enum):
    """What stands in a categorical column where there is no usable value. `None` stands for a JSON null."""

    ABSENT = "absent"
    NAN = "nan"
    INVALID = "invalid"

    __hash__ = object.__hash__  # Enum's own is Python code, and a fold hashes one marker per absent cell


ABSENT, NAN, INVALID = Marker.ABSENT, Marker.NAN, Marker.INVALID

Category = str | int | float | Marker | None


class Status(IntEnum):
    """Why a numeric cell has no value; VALUE where it has one."""

    VALUE = 0
    MISSING = 1  # JSON null
    NAN = 2
    ABSENT = 3  # the key was not there
    INVALID = 4  # infinite, or of a wrong type


@dataclass(frozen=True, slots=True)
class NumericColumn:
    """`values` is float64, NaN wherever there is no usable number. `status` (uint8, members of Status) says why;
    `status=None` says that every NaN is a JSON null (the common case, which costs no second array)."""

    values: NDArray[np.float64]
    status: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class CategoryColumn:
    """`values` are str, int, float (1 and 1.0 are one category), None for null, or a Marker. Booleans have become "true" and "false" before."""

    values: Sequence[Category]

    def __len__(self) -> int:
        return len(self.values)


Column = NumericColumn | CategoryColumn


def category_text(value: str | float) -> str:
    """The text that names a category: strings as they are, integral floats without `.0`, other numbers in their shortest decimal."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        return str(int(value))
    return repr(value)
