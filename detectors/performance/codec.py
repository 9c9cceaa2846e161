"""Performance profiles as bytes, for the store."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from detectors.performance.layout import PerformanceLayout
from detectors.performance.profile import SAMPLE_ROWS, PerformanceProfile, Sample
from detectors.performance.slots import PLACED, SUMS

_MAGIC = b"DLF2"  # the last byte is the version of the format
_BEFORE = (
    b"DLF1"  # the same without the slot `placed` of three or more classes, its checksum without the version; still read
)
_CHECK = struct.Struct("<I")  # CRC-32 of the version and of everything behind the checksum
_HEAD = struct.Struct(
    "<IIBIHHH"
)  # cells, cells not 0, bytes of each, bytes of the vector, sample rows, score columns, features
_START = len(_MAGIC) + _CHECK.size + _HEAD.size
_CELL_LIMIT = 1 << 26


def encode(profile: PerformanceProfile) -> bytes:
    """Bytes that `decode` reads: a header with a checksum, the vector, the sample. Equal profiles give equal bytes with one zlib.

    The vector, mostly zeros: a bit for each cell that is not, then these by byte planes, as wide as the largest needs, negative numbers
    folded in between the others; packed. The sample as it is, two codes in a byte: hashes and even bins do not pack.
    """
    vector = profile.vector
    used = vector != 0
    numbers = vector[used]
    folded = ((numbers << 1) ^ (numbers >> 63)).view(np.uint64)
    width = max(1, (int(folded.max(initial=0)).bit_length() + 7) // 8)
    planes = folded.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes()
    pack = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
    packed = pack.compress(np.packbits(used).tobytes() + planes) + pack.flush()
    sample = profile.sample
    columns = sample.score_bin.shape[1] if sample.score_bin.ndim == 2 else 0
    head = _HEAD.pack(len(vector), len(numbers), width, len(packed), len(sample), columns, sample.codes.shape[1])
    body = head + packed + _sample_bytes(sample)
    return _MAGIC + _CHECK.pack(zlib.crc32(body, zlib.crc32(_MAGIC))) + body


def counts(profile: PerformanceProfile) -> bytes:
    """The vector in bytes that depend on nothing else (no zlib, no sample): what a digest is taken of."""
    return profile.vector.astype("<i8", copy=False).tobytes()


def decode(data: bytes, layout: PerformanceLayout | None) -> PerformanceProfile:
    """The profile that was encoded, also by the version before. ValueError when `data` is damaged, of another version, or does not fit `layout`
    (if given).
    """
    magic = data[: len(_MAGIC)]
    if magic not in (_MAGIC, _BEFORE):
        raise ValueError("not a performance profile of this version")
    body = memoryview(data)[len(_MAGIC) + _CHECK.size :]
    begun = zlib.crc32(magic) if magic == _MAGIC else 0
    if len(data) < _START or zlib.crc32(body, begun) != _CHECK.unpack_from(data, len(_MAGIC))[0]:
        raise ValueError("damaged performance profile: its checksum is another")
    cells, used, width, packed, rows, columns, features = _HEAD.unpack_from(data, len(_MAGIC) + _CHECK.size)
    if not (2 <= cells <= _CELL_LIMIT and used <= cells and 1 <= width <= 8 and rows <= SAMPLE_ROWS):
        raise ValueError("damaged performance profile: its header cannot be")
    missing = columns * len(PLACED) * 2 if magic == _BEFORE else 0
    if layout is not None:
        wanted = (layout.size, len(layout.classes) if layout.task == "multiclass" else 0, len(layout.features))
        if (cells + missing, columns, features) != wanted:
            raise ValueError(
                f"the performance profile has {cells + missing} cells, {columns} score columns and {features} features,"
                f" its layout {wanted[0]}, {wanted[1]} and {wanted[2]}"
            )
    end = _START + packed
    vector = _vector(data[_START:end], cells, used, width)
    if missing:
        sums = 2 * len(SUMS["multiclass"])  # behind the slot
        vector = np.concatenate([vector[:-sums], np.zeros(missing, np.int64), vector[-sums:]])
    return PerformanceProfile(vector=vector, sample=_sample(data[end:], rows, columns, features))


def _vector(packed: bytes, cells: int, used: int, width: int) -> NDArray[np.int64]:
    bits = (cells + 7) // 8
    inflate = zlib.decompressobj()
    try:
        body = inflate.decompress(packed, bits + used * width + 1)
    except zlib.error as error:
        raise ValueError(f"damaged performance profile: {error}") from None
    if not inflate.eof or inflate.unused_data or len(body) != bits + used * width:
        raise ValueError("damaged performance profile: its length does not fit its header")
    places = np.unpackbits(np.frombuffer(body, np.uint8, bits), count=cells).view(np.bool_)
    if int(places.sum()) != used:
        raise ValueError("damaged performance profile: its cells do not fit its header")
    folded = np.zeros((used, 8), dtype=np.uint8)
    folded[:, :width] = np.frombuffer(body, np.uint8, offset=bits).reshape(width, used).T
    numbers = folded.reshape(-1).view("<u8").astype(np.uint64, copy=False)
    vector = np.zeros(cells, np.int64)
    vector[places] = (numbers >> np.uint64(1)).view(np.int64) ^ -(numbers & np.uint64(1)).view(np.int64)
    return vector


def _sample_bytes(sample: Sample) -> bytes:
    codes = sample.codes.ravel()
    if len(codes) % 2:
        codes = np.append(codes, np.uint8(0))
    return b"".join(
        (
            sample.keys.astype("<u8", copy=False).tobytes(),
            sample.score_bin.astype("<u2", copy=False).tobytes(),
            sample.decision.tobytes(),
            (codes[0::2] | (codes[1::2] << 4)).tobytes(),
        )
    )


def _sample(data: bytes, rows: int, columns: int, features: int) -> Sample:
    bins = rows * max(columns, 1)
    if len(data) != rows * 9 + bins * 2 + (rows * features + 1) // 2:
        raise ValueError("damaged performance profile: the length of its sample does not fit its header")
    pairs = np.frombuffer(data, np.uint8, offset=rows * 9 + bins * 2)
    codes = np.stack([pairs & 15, pairs >> 4], axis=1).ravel()[: rows * features]
    score_bin = np.frombuffer(data, "<u2", bins, rows * 8).astype(np.uint16)
    return Sample(
        keys=np.frombuffer(data, "<u8", rows).astype(np.uint64),
        score_bin=score_bin.reshape(rows, columns) if columns else score_bin,
        decision=np.frombuffer(data, np.uint8, rows, rows * 8 + bins * 2).copy(),
        codes=codes.reshape(rows, features),
    )
