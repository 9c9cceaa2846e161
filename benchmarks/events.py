"""The events that every benchmark reads: 20 numeric and 10 categorical features, 2 % null, about 690 bytes of JSON each."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

NUMERIC = [f"num_{i:02d}" for i in range(20)]
CATEGORICAL = [f"cat_{i:02d}" for i in range(10)]
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon"]
NULLS = 0.02
START_MS = 1_767_225_600_000


def reference_table(
    rows: int = 20_000,
    seed: int = 1,
    *,
    numeric: Sequence[str] = NUMERIC,
    categorical: Sequence[str] = CATEGORICAL,
) -> pa.Table:
    """A reference of the same kind as the events, in time order."""
    rng = np.random.default_rng(seed)
    columns: dict[str, object] = {
        name: pa.array(rng.normal(100, 15, rows).round(4), mask=rng.random(rows) < NULLS) for name in numeric
    }
    columns |= {name: rng.choice(WORDS, rows) for name in categorical}
    return pa.table({**columns, "score": rng.random(rows)})


def events(count: int, *, models: int = 1, seed: int = 2, step_ms: int = 100) -> list[bytes]:
    """Canonical predictions; with several models they interleave one by one."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(100, 15, (count, len(NUMERIC))).round(4)
    nulls = rng.random((count, len(NUMERIC))) < NULLS
    words = rng.integers(0, len(WORDS), (count, len(CATEGORICAL)))
    scores = rng.random(count).round(6)
    made = []
    for i in range(count):
        features: dict[str, object] = {
            name: None if null else value
            for name, value, null in zip(NUMERIC, numbers[i].tolist(), nulls[i].tolist(), strict=True)
        }
        features |= {name: WORDS[word] for name, word in zip(CATEGORICAL, words[i].tolist(), strict=True)}
        event = {
            "type": "prediction", "model": f"m{i % models}", "version": "1", "id": f"id-{i}", "ts": _stamp(START_MS + i * step_ms),
            "features": features, "prediction": {"score": float(scores[i])},
        }  # fmt: skip
        made.append(json.dumps(event, separators=(",", ":")).encode())
    return made


def _stamp(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms")) + "Z"
