"""One spelling for every label: `1`, `1.0` and `"1"` are one label, `true` is `"true"`."""

from __future__ import annotations

import math
import re

from detectors.columns import category_text

JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def normalise_label(value: str | float | bool) -> str:
    """The text that names a label, wherever it was written: configuration, table or event.

    Strings that are a JSON number or boolean are read as that first; every other string stays as it is.
    Raises ValueError for NaN and infinities, which name nothing.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if len(value) > 300 or not JSON_NUMBER.fullmatch(value):
            return value
        number = int(value) if value.lstrip("-").isdigit() else float(value)
        return category_text(number) if math.isfinite(number) else value
    if not math.isfinite(value):
        raise ValueError("a label cannot be NaN or infinite")
    return category_text(value)
