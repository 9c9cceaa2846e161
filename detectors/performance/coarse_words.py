"""Coarse codes in words: which values of a feature a code stands for."""

from __future__ import annotations

from detectors.performance.features import CoarseFeature
from detectors.performance.slots import INVALID, MISSING, OTHER


def values_of(feature: CoarseFeature, code: int) -> str:
    """`income in [4.1, 9)`, `country = DE`, `country is another value`, `income is missing`, `income is invalid`.

    A code that the feature cannot have (beyond its edges or categories) is named by its number.
    """
    if code in (MISSING, INVALID):
        return f"{feature.name} is {'missing' if code == MISSING else 'invalid'}"
    if feature.kind == "categorical":
        if code == OTHER:
            return f"{feature.name} is another value"
        return (
            f"{feature.name} = {feature.categories[code]}"
            if code < len(feature.categories)
            else _unnamed(feature, code)
        )
    edges = feature.edges.tolist()
    if code > len(edges):
        return _unnamed(feature, code)
    if not edges:
        return f"{feature.name} has a value"
    if code == 0:
        return f"{feature.name} < {number(edges[0])}"
    if code == len(edges):
        return f"{feature.name} >= {number(edges[-1])}"
    return f"{feature.name} in [{number(edges[code - 1])}, {number(edges[code])})"


def _unnamed(feature: CoarseFeature, code: int) -> str:
    return f"{feature.name} has code {code}"


def number(value: float) -> str:
    """An edge as people read it, four digits."""
    return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e12 else f"{value:,.0f}"
