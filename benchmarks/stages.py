"""The stages of one event apart: bytes to columns, columns to counts, and the tests on finished counts."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from scipy import stats

from benchmarks.events import CATEGORICAL, NUMERIC, WORDS, events
from benchmarks.measure import Figure, interleaved
from benchmarks.world import one_model
from detectors.columns import Column
from detectors.judge import Policy, judge_distributions, judge_quality
from detectors.profile import Profile, fold, merge
from detectors.reference.build import Reference
from monitor.decoding.codec import Codec, EventSchema
from monitor.decoding.events import EventBatch
from monitor.intake import BLOCK_ROWS

SCIPY_ROWS = 10_000


def decode_and_fold(folder: Path, *, quick: bool) -> list[Figure]:
    """Decoding against what msgspec and the standard library need for the same bytes, and folding as a share of it."""
    count, repeats = (10_240, 3) if quick else (51_200, 7)
    reference, schema = one_model(folder)
    values = events(count)
    codec = Codec({"m0": schema})
    blocks = [values[i : i + BLOCK_ROWS] for i in range(0, count, BLOCK_ROWS)]
    batches = [batch for block in blocks for batch in codec.decode("m0", block).predictions]
    bare = _bare_decoder()
    seconds = interleaved(
        {
            "decode": lambda: _drop(codec.decode(codec.routes(block)[0], block) for block in blocks),
            "decode.bare": lambda: _drop([bare(value) for value in block] for block in blocks),
            "decode.json": lambda: _drop([json.loads(value) for value in block] for block in blocks),
            "fold.1000": _folding(reference, schema, batches, 1_000),
            "fold.100": _folding(reference, schema, batches, 100),
        },
        repeats,
    )
    us = {name: taken / count * 1e6 for name, taken in seconds.items()}
    size = sum(map(len, values)) / count
    texts = {
        "decode": (f"JSON of {size:.0f} bytes to columns, checked, in blocks of {BLOCK_ROWS}", "decode.bare"),
        "decode.bare": ("the same bytes through a typed msgspec decoder and nothing else", None),
        "decode.json": ("the same bytes through json.loads and nothing else", "decode"),
        "fold.1000": ("31 columns to counts, 1,000 rows at a time", "decode"),
        "fold.100": ("31 columns to counts, 100 rows at a time", "decode"),
    }
    return [
        Figure(
            name=name, what=what, cpu_us=us[name], per_second=1e6 / us[name],
            ratio=us[name] / us[against] if against else None, against=against,
        )
        for name, (what, against) in texts.items()
    ]  # fmt: skip


def verdicts(folder: Path, *, quick: bool) -> list[Figure]:
    """All tests of data, prediction and quality on finished counts, against scipy on the raw values."""
    reference, schema = one_model(folder)
    policy = Policy()
    codec = Codec({"m0": schema})
    values = events(SCIPY_ROWS)
    blocks = [values[i : i + BLOCK_ROWS] for i in range(0, SCIPY_ROWS, BLOCK_ROWS)]
    batches = [batch for block in blocks for batch in codec.decode("m0", block).predictions]
    profile = _profile(reference, schema, batches)
    direct = _scipy_direct()
    loops = 20 if quick else 100
    seconds = interleaved(
        {
            "tests": lambda: [_judge(reference, profile, policy) for _ in range(loops)],
            "tests.scipy": direct,
        },
        3 if quick else 7,
    )
    ours, theirs = seconds["tests"] / loops * 1e6, seconds["tests.scipy"] * 1e6
    what = "drift, prediction and quality of 31 columns on a finished profile"
    scipy = f"ks_2samp on 20 and chi2_contingency on 10 columns of {SCIPY_ROWS:,} rows against as many"
    return [
        Figure(name="tests", what=what, unit="window", cpu_us=ours, per_second=1e6 / ours),
        Figure(
            name="tests.scipy", what=scipy, unit="window", cpu_us=theirs, per_second=1e6 / theirs,
            ratio=theirs / ours, against="tests",
        ),
    ]  # fmt: skip


def _drop(blocks: Iterable[object]) -> None:
    """Run through the blocks without keeping them: what is made must die in the processor's cache, as it does in the service."""
    deque(blocks, maxlen=0)


def _bare_decoder() -> Callable[[bytes], object]:
    features = msgspec.defstruct(
        "Features",
        [(name, float | None, None) for name in NUMERIC] + [(name, str | None, None) for name in CATEGORICAL],
    )
    event = msgspec.defstruct("Event", [("id", str), ("ts", str), ("features", features)])
    return msgspec.json.Decoder(event).decode


def _columns(reference: Reference, schema: EventSchema, batch: EventBatch) -> list[Column]:
    places = {feature.name: place for place, feature in enumerate(schema.features)}
    return [
        batch.features[places[subject.name]] if subject.role == "feature" else batch.score
        for subject in reference.layout.subjects
    ]


def _profile(reference: Reference, schema: EventSchema, batches: Sequence[EventBatch]) -> Profile:
    whole: Profile | None = None
    for batch in batches:
        part = fold(reference.layout, _columns(reference, schema, batch))
        whole = part if whole is None else merge(whole, part)
    assert whole is not None
    return whole


def _folding(
    reference: Reference, schema: EventSchema, batches: Sequence[EventBatch], rows: int
) -> Callable[[], object]:
    values = events(sum(map(len, batches)))
    codec = Codec({"m0": schema})
    parts = [
        _columns(reference, schema, codec.decode("m0", values[i : i + rows]).predictions[0])
        for i in range(0, len(values), rows)
    ]
    return lambda: _drop(fold(reference.layout, columns) for columns in parts)


def _judge(reference: Reference, profile: Profile, policy: Policy) -> object:
    return judge_distributions(reference, profile, policy), judge_quality(reference, profile, policy)


def _scipy_direct() -> Callable[[], object]:
    rng = np.random.default_rng(5)
    numbers = rng.normal(100, 15, (2, len(NUMERIC), SCIPY_ROWS))
    words = rng.choice(WORDS, (2, len(CATEGORICAL), SCIPY_ROWS))

    def run() -> None:
        for old, new in zip(*numbers, strict=True):
            stats.ks_2samp(old, new)
        for old, new in zip(*words, strict=True):
            counts = [[int((column == word).sum()) for word in WORDS] for column in (old, new)]
            stats.chi2_contingency(counts)

    return run
