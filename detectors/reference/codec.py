"""References as bytes, for the store. Versioned JSON in zlib; floats in their shortest decimal, which reads back exactly."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from detectors.bins import Bins, CategoryBins, NumericBins
from detectors.layout import Layout, SubjectBins
from detectors.performance.codec import decode as decode_performance
from detectors.performance.codec import encode as encode_performance
from detectors.performance.layout import decode_layout, encode_layout
from detectors.performance.reference import PerformanceReference
from detectors.profile import decode, encode
from detectors.reference.dispersion import Dispersion
from detectors.reference.types import Reference, ReferenceSettings

FORMAT = 1


def encode_reference(reference: Reference) -> bytes:
    """Bytes that `decode_reference` reads."""
    text = json.dumps(_object(reference), sort_keys=True, separators=(",", ":"))
    return zlib.compress(text.encode(), 6)


def decode_reference(data: bytes) -> Reference:
    """The reference that was encoded. ValueError when `data` is damaged or of another version."""
    try:
        content = json.loads(zlib.decompress(data))
        if content["format"] != FORMAT:
            raise ValueError(f"a reference of format {content['format']}, this program reads {FORMAT}")
        return _reference(content)
    except (zlib.error, KeyError, TypeError, AttributeError, IndexError, binascii.Error) as error:
        raise ValueError(f"damaged reference: {error}") from None


def _object(reference: Reference) -> dict[str, Any]:
    settings = reference.settings
    return {
        "format": FORMAT,
        "hash": reference.hash,
        "rows": reference.rows,
        "subjects": [[s.name, s.role, _bins_object(s.bins)] for s in reference.layout.subjects],
        "profile": base64.b64encode(encode(reference.profile)).decode(),
        "settings": {
            **{name: getattr(settings, name) for name in _PLAIN},
            **{name: dict(getattr(settings, name)) for name in ("kinds", "ranges", "columns")},
        },
        "excluded": dict(reference.excluded),
        "ordered": reference.ordered,
        "blocks": reference.blocks,
        "dispersion": [
            [target, scale.phi.tolist(), scale.nu.tolist(), scale.known.tolist()]
            for target, scale in sorted(reference.dispersion.items())
        ],
        "share_phi": reference.share_phi.tolist(),
        "warnings": reference.warnings,
        "performance": None if reference.performance is None else _performance_object(reference.performance),
    }


_PLAIN = ("task", "positive_label", "order", "segments", "classes", "decision_threshold")


def _reference(content: Mapping[str, Any]) -> Reference:
    layout = Layout(tuple(SubjectBins(name, role, _bins(bins)) for name, role, bins in content["subjects"]))
    return Reference(
        hash=content["hash"],
        rows=content["rows"],
        layout=layout,
        profile=decode(base64.b64decode(content["profile"], validate=True), layout),
        settings=_settings(content["settings"]),
        excluded=content["excluded"],
        ordered=content["ordered"],
        blocks=content["blocks"],
        dispersion={
            target: Dispersion(
                phi=np.array(phi, np.float64), nu=np.array(nu, np.float64), known=np.array(known, np.bool_)
            )
            for target, phi, nu, known in content["dispersion"]
        },
        share_phi=np.array(content["share_phi"], dtype=np.float64).reshape(len(layout.subjects), -1),
        warnings=tuple(content["warnings"]),
        performance=_performance(content.get("performance")),  # references of the first release have none
    )


def _settings(content: Mapping[str, Any]) -> ReferenceSettings:
    classes = content["classes"]
    return ReferenceSettings(
        task=content["task"],
        positive_label=content["positive_label"],
        order=content["order"],
        kinds=content["kinds"],
        ranges={name: (low, high) for name, (low, high) in content["ranges"].items()},
        columns=content["columns"],
        segments=tuple(content["segments"]),
        classes=None if classes is None else tuple(classes),
        decision_threshold=content["decision_threshold"],
    )


def _bins_object(bins: Bins) -> dict[str, Any]:
    if isinstance(bins, CategoryBins):
        return {"categories": bins.categories, "complete": bins.complete}
    return {"edges": bins.edges.tolist(), "lo": bins.lo, "hi": bins.hi, "inside": bins.inside}


def _bins(content: Mapping[str, Any]) -> Bins:
    if "categories" in content:
        return CategoryBins(categories=tuple(content["categories"]), complete=content["complete"])
    first, last = content["inside"]
    edges = np.array(content["edges"], dtype=np.float64)
    return NumericBins(edges=edges, lo=content["lo"], hi=content["hi"], inside=(first, last))


def _performance_object(performance: PerformanceReference) -> dict[str, Any]:
    factors = performance.hour_factors
    return {
        "layout": encode_layout(performance.layout),
        "profile": _text(encode_performance(performance.profile)),
        "segment_values": {name: list(values) for name, values in performance.segment_values.items()},
        "segments": {text: _text(encode_performance(profile)) for text, profile in performance.segments.items()},
        "hour_factors": None if factors is None else factors.tolist(),
        "estimator": _text(performance.estimator),
    }


def _performance(content: Mapping[str, Any] | None) -> PerformanceReference | None:
    if content is None:
        return None
    factors = content["hour_factors"]
    layout = decode_layout(content["layout"])
    return PerformanceReference(
        layout=layout,
        profile=decode_performance(_data(content["profile"]), layout),
        segment_values={name: tuple(values) for name, values in content["segment_values"].items()},
        segments={text: decode_performance(_data(profile), layout) for text, profile in content["segments"].items()},
        hour_factors=None if factors is None else np.array(factors, dtype=np.float64),
        estimator=_data(content["estimator"]),
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _data(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
