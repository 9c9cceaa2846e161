"""Arrival profiles as bytes: a versioned header and a zlib body, columns by byte plane. Equal profiles give equal bytes."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from detectors.concept.arrival import UNIT, ArrivalProfile, ArrivalRows

_MAGIC = b"DLA1"  # the last byte is the version of the format
_HEAD = struct.Struct("<qqqBQ")  # labels, loss, squared loss, are single losses kept, number of them
_BODY_LIMIT = 1 << 30


def encode(profile: ArrivalProfile) -> bytes:
    """Bytes that `decode` reads. OverflowError beyond 2**43 labels."""
    rows = profile.rows
    body = b""
    if rows is not None:
        steps = np.diff(rows.ts_ms, prepend=np.int64(0))
        columns = (_zigzag(steps), rows.keys, rows.loss.view(np.uint64), _zigzag(rows.count))
        body = b"".join(_written(column) for column in columns)
    try:
        head = _HEAD.pack(
            profile.labels, profile.loss, profile.loss_squared, rows is not None, 0 if rows is None else len(rows.count)
        )
    except struct.error as error:
        raise OverflowError(f"an arrival profile too large to write: {error}") from None
    pack = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    return _MAGIC + pack.compress(head + body) + pack.flush()


def decode(data: bytes) -> ArrivalProfile:
    """The profile that was encoded. ValueError when `data` is damaged, of another version, or contradicts itself."""
    if data[: len(_MAGIC)] != _MAGIC:
        raise ValueError("not an arrival profile of this version")
    body = _inflated(data[len(_MAGIC) :])
    labels, loss, loss_squared, kept, size = _HEAD.unpack_from(body)
    rows = None
    if kept not in (0, 1) or (not kept and (size or len(body) != _HEAD.size)):
        raise ValueError("damaged arrival profile: its length does not fit its header")
    if kept:
        rows = _rows(body, size)
        squared = -(-(rows.loss * rows.loss) // UNIT)
        sums = [int(rows.count.sum()), int((rows.count * rows.loss).sum()), int((rows.count * squared).sum())]
        if sums != [labels, loss, loss_squared]:
            raise ValueError("damaged arrival profile: its losses do not add up to its sums")
    return ArrivalProfile(labels=labels, loss=loss, loss_squared=loss_squared, rows=rows)


def _rows(body: bytes, size: int) -> ArrivalRows:
    at, columns = _HEAD.size, []
    for _ in range(4):
        column, at = _read(body, at, size)
        columns.append(column)
    if at != len(body):
        raise ValueError("damaged arrival profile: its length does not fit its header")
    steps, keys, loss, count = columns
    ts_ms = np.cumsum(_unzigzag(steps), dtype=np.int64)
    rows = ArrivalRows(ts_ms=ts_ms, keys=keys, loss=loss.view(np.int64), count=_unzigzag(count))
    if size and (int(loss.max()) > UNIT or not bool(rows.count.all()) or not _rising(rows)):
        raise ValueError("damaged arrival profile: its losses are not as they were written")
    return rows


def _rising(rows: ArrivalRows) -> bool:
    same_time, same_key = rows.ts_ms[1:] == rows.ts_ms[:-1], rows.keys[1:] == rows.keys[:-1]
    later, larger = rows.ts_ms[1:] > rows.ts_ms[:-1], rows.keys[1:] > rows.keys[:-1]
    return bool((later | (same_time & (larger | (same_key & (rows.loss[1:] > rows.loss[:-1]))))).all())


def _inflated(data: bytes) -> bytes:
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(data, _BODY_LIMIT)
    except zlib.error as error:
        raise ValueError(f"damaged arrival profile: {error}") from None
    if not inflate.eof or inflate.unused_data or len(body) < _HEAD.size:
        raise ValueError("damaged arrival profile: cut off, or followed by something else")
    return body


def _written(numbers: NDArray[np.uint64]) -> bytes:
    """One byte that says how many bytes a number has, then the numbers plane by plane."""
    width = max(1, (int(numbers.max(initial=0)).bit_length() + 7) // 8)
    planes = numbers.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :width]
    return bytes([width]) + planes.T.tobytes()


def _read(body: bytes, at: int, size: int) -> tuple[NDArray[np.uint64], int]:
    width = body[at] if at < len(body) else 0
    end = at + 1 + width * size
    if not 1 <= width <= 8 or end > len(body):
        raise ValueError("damaged arrival profile: its length does not fit its header")
    numbers = np.zeros((size, 8), dtype=np.uint8)
    numbers[:, :width] = np.frombuffer(body, np.uint8, width * size, at + 1).reshape(width, size).T
    return numbers.reshape(-1).view("<u8").astype(np.uint64), end


def _zigzag(numbers: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Small numbers of either sign become small numbers without one."""
    return ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)


def _unzigzag(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (numbers >> np.uint64(1)).view(np.int64) ^ -((numbers & np.uint64(1)).view(np.int64))
