"""Decompression with a ceiling: a batch of 8 KB may claim to be 32 GB, and the client's own decoders would believe it.

`decode` is what the batch reader (kafka_batches.py) uses. `bound_legacy_formats` puts the same decoders into kafka-python's reader of
message formats 0 and 1, the only place where its own are still called.
"""

from __future__ import annotations

import importlib
import struct
import zlib
from collections.abc import Callable

import lz4.frame
import snappy
import zstandard

MAX_BATCH_BYTES = 64 * 1024 * 1024
GZIP, SNAPPY, LZ4, ZSTD = 1, 2, 3, 4
_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER_BYTES = 16


class BatchTooLargeError(ValueError):
    """The batch holds more than the limit once decompressed."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"the batch is larger than {limit_bytes:,} bytes when decompressed")


def decode(codec: int, data: bytes, limit_bytes: int = MAX_BATCH_BYTES) -> bytes:
    """`data` decompressed by Kafka's codec number; at most `limit_bytes` and a little are ever held.

    Raises BatchTooLargeError, ValueError for an unknown codec, and whatever the codec's library raises for bytes that are not its own.
    """
    decoder = _DECODERS.get(codec)
    if decoder is None:
        raise ValueError(f"unknown compression codec {codec}")
    return decoder(data, limit_bytes)


def bound_legacy_formats(limit_bytes: int = MAX_BATCH_BYTES) -> None:
    """Replace the decoders that kafka-python's legacy reader has imported. Process-wide, idempotent; the last limit holds."""
    legacy = importlib.import_module("kafka.record.legacy_records")
    codecs = importlib.import_module("kafka.codec")  # its decoder of the oldest lz4 framing calls lz4_decode there
    names = (("gzip_decode", GZIP), ("snappy_decode", SNAPPY), ("lz4_decode", LZ4))
    for module, name, codec in [(legacy, *entry) for entry in names] + [(codecs, *names[2])]:
        if not hasattr(module, name):
            raise RuntimeError(f"kafka-python has moved {name}: monitor/sources/kafka_bounds.py needs a look")
        setattr(module, name, _bounded(codec, limit_bytes))


def _bounded(codec: int, limit_bytes: int) -> Callable[[bytes], bytes]:
    return lambda payload: decode(codec, bytes(payload), limit_bytes)


def _gzip(data: bytes, limit_bytes: int) -> bytes:
    parts, held = [], 0
    while data:
        stream = zlib.decompressobj(wbits=31)
        part = stream.decompress(data, limit_bytes - held + 1)
        held += len(part)
        if held > limit_bytes:
            raise BatchTooLargeError(limit_bytes)
        if not stream.eof:
            raise ValueError("the gzip stream ends early")
        parts.append(part)
        data = stream.unused_data
    return b"".join(parts)


def _snappy(data: bytes, limit_bytes: int) -> bytes:
    if not data.startswith(_XERIAL_MAGIC):
        return _snappy_block(data, limit_bytes, limit_bytes)
    parts, held, pos = [], 0, _XERIAL_HEADER_BYTES
    while pos < len(data):
        (size,) = struct.unpack_from(">i", data, pos)
        if size < 0 or pos + 4 + size > len(data):
            raise ValueError("a snappy block is longer than its batch")
        part = _snappy_block(data[pos + 4 : pos + 4 + size], limit_bytes - held, limit_bytes)
        held += len(part)
        parts.append(part)
        pos += 4 + size
    return b"".join(parts)


def _snappy_block(block: bytes, room_bytes: int, limit_bytes: int) -> bytes:
    """A raw snappy block says first how long it will be, and its library holds it to that."""
    size, shift = 0, 0
    for byte in block[:5]:
        size |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if size > room_bytes:
        raise BatchTooLargeError(limit_bytes)
    return bytes(snappy.decompress(block))


def _lz4(data: bytes, limit_bytes: int) -> bytes:
    stream = lz4.frame.LZ4FrameDecompressor()
    out = bytes(stream.decompress(data, max_length=limit_bytes + 1))
    if len(out) > limit_bytes:
        raise BatchTooLargeError(limit_bytes)
    if not stream.eof:
        raise ValueError("the lz4 frame ends early")
    return out


def _zstd(data: bytes, limit_bytes: int) -> bytes:
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        out = reader.read(limit_bytes + 1)
    if len(out) > limit_bytes:
        raise BatchTooLargeError(limit_bytes)
    return out


_DECODERS: dict[int, Callable[[bytes, int], bytes]] = {GZIP: _gzip, SNAPPY: _snappy, LZ4: _lz4, ZSTD: _zstd}
