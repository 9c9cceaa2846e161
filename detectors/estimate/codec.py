"""Estimators as bytes, for the store of references."""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detectors.estimate.types import Estimator, LossModel, ReferenceSample, Scatter

_MAGIC = b"DLE1"  # the last byte is the version of the format
_HEAD = struct.Struct("<II")  # CRC-32 of everything behind it, bytes of the JSON part
_BODY_LIMIT = 1 << 28
_METHODS = {"binary": ("raw", "isotonic", "reweighted"), "multiclass": ("raw", "isotonic", "reweighted"), "regression": ("bins", "modelled")}  # fmt: skip
_FLOAT_ARRAYS = ("rates", "doubt", "mean_scores", "shares")
_LOSS_ARRAYS = ("encodings", "bin_values", "coefficients", "residual_variance", "bin_loss", "bin_variance")


def encode_estimator(estimator: Estimator) -> bytes:
    """Bytes that `decode_estimator` reads. Equal estimators give equal bytes with one zlib."""
    arrays = {name: _floats(getattr(estimator, name)) for name in _FLOAT_ARRAYS}
    meta: dict[str, Any] = {
        "task": estimator.task,
        "method": estimator.method,
        "classes": estimator.classes,
        "bins": estimator.bins,
        "features": estimator.features,
        "rows": estimator.rows,
        "scatter": _hex(estimator.scatter),
        "plain_scatter": _hex(estimator.plain_scatter),
        "errors": {
            method: {name: error.hex() for name, error in errors.items()} for method, errors in estimator.errors.items()
        },
    }
    if estimator.sample is not None:
        meta["group_cells"] = estimator.sample.group_cells
        arrays |= _sample_arrays(estimator.sample)
    if estimator.loss is not None:
        meta["losses"] = list(estimator.loss.names)
        arrays |= {f"loss.{name}": _floats(getattr(estimator.loss, name)) for name in _LOSS_ARRAYS}
    meta["arrays"] = {name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()}
    text = json.dumps(meta, sort_keys=True, separators=(",", ":")).encode()
    order = sorted(arrays)
    packed = zlib.compress(text + b"".join(np.ascontiguousarray(arrays[name]).tobytes() for name in order), 6)
    body = struct.pack("<I", len(text)) + packed
    return _MAGIC + struct.pack("<I", zlib.crc32(body)) + body


def decode_estimator(data: bytes) -> Estimator:
    """The estimator that was encoded. ValueError when `data` is damaged or of another version."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not an estimator of this version")
    start = len(_MAGIC) + _HEAD.size
    if len(data) < start or zlib.crc32(data[len(_MAGIC) + 4 :]) != _HEAD.unpack_from(data, len(_MAGIC))[0]:
        raise ValueError("damaged estimator: its checksum is another")
    try:
        inflate = zlib.decompressobj()
        body = inflate.decompress(data[start:], _BODY_LIMIT)
        length = _HEAD.unpack_from(data, len(_MAGIC))[1]
        meta = json.loads(body[:length])
        return _estimator(meta, _arrays(meta["arrays"], body[length:]))
    except (zlib.error, KeyError, TypeError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"damaged estimator: {error}") from None


def _arrays(described: dict[str, Any], body: bytes) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    start = 0
    for name in sorted(described):
        kind, shape = described[name]
        size = math.prod(shape) * np.dtype(kind).itemsize
        if start + size > len(body):
            raise ValueError("damaged estimator: it is cut off")
        found[name] = np.frombuffer(body[start : start + size], dtype=kind).reshape(shape)
        start += size
    if start != len(body):
        raise ValueError("damaged estimator: more follows")
    return found


def _estimator(meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Estimator:
    if meta["method"] not in _METHODS.get(meta["task"], ()):
        raise ValueError("damaged estimator: a method that does not fit the task")
    loss = None
    if "losses" in meta:
        loss = LossModel(
            names=tuple(meta["losses"]), **{name: arrays[f"loss.{name}"].astype(np.float64) for name in _LOSS_ARRAYS}
        )
    return Estimator(
        task=meta["task"],
        method=meta["method"],
        classes=meta["classes"],
        bins=meta["bins"],
        features=meta["features"],
        rows=meta["rows"],
        **{name: arrays[name].astype(np.float64) for name in _FLOAT_ARRAYS},
        scatter=_scatters(meta["scatter"]),
        plain_scatter=_scatters(meta["plain_scatter"]),
        errors={
            method: {name: float.fromhex(error) for name, error in errors.items()}
            for method, errors in meta["errors"].items()
        },
        sample=_sample(meta, arrays) if "group_cells" in meta else None,
        loss=loss,
    )


def _hex(scatters: Mapping[str, Scatter]) -> dict[str, list[str]]:
    return {name: [scatter.steady.hex(), scatter.by_shift.hex()] for name, scatter in scatters.items()}


def _scatters(content: dict[str, list[str]]) -> dict[str, Scatter]:
    return {
        name: Scatter(steady=float.fromhex(steady), by_shift=float.fromhex(by_shift))
        for name, (steady, by_shift) in content.items()
    }


def _sample_arrays(sample: ReferenceSample) -> dict[str, NDArray[Any]]:
    """Two codes in a byte, feature by feature, which packs better; cells and hits as narrow as they are."""
    codes = sample.codes.T
    even = np.concatenate([codes, np.zeros((codes.shape[0], codes.shape[1] % 2), np.uint8)], axis=1)
    weight = sample.weight[:1] if len(sample) and bool((sample.weight == sample.weight[0]).all()) else sample.weight
    return {
        "sample.codes": (even[:, ::2] | even[:, 1::2] << 4).astype(np.uint8),
        "sample.group": sample.group,
        "sample.places": sample.places.T.astype("<i4"),
        "sample.hits": np.packbits(sample.hits.T, axis=1),
        "sample.weight": _floats(weight),
    }


def _sample(meta: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> ReferenceSample:
    group = arrays["sample.group"]
    rows = len(group)
    packed = arrays["sample.codes"]
    codes = np.empty((packed.shape[0], packed.shape[1] * 2), np.uint8)
    codes[:, ::2], codes[:, 1::2] = packed & 15, packed >> 4
    hits = np.unpackbits(arrays["sample.hits"], axis=1, count=rows)
    weight = arrays["sample.weight"].astype(np.float64)
    return ReferenceSample(
        codes=np.asfortranarray(codes[:, :rows].T),
        group=group.copy(),
        places=np.ascontiguousarray(arrays["sample.places"].T.astype(np.int32)),
        hits=np.ascontiguousarray(hits.T),
        weight=np.full(rows, weight[0]) if len(weight) == 1 else weight,
        group_cells=meta["group_cells"],
    )


def _floats(array: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(array, dtype="<f8")
