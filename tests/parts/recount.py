"""An independent recount: what every cell of every pane must hold, from the rows in plain Python. Shares no code with the service.

Only the questions are taken from the store - where the reference's bins begin and which categories it knows -, and the answers that it
gave: the counts in its pane states, read with the database's own driver and unpacked here.
"""

from __future__ import annotations

import json
import struct
import zlib
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

Cells = dict[tuple[str, str, str, str], int]  # (role, subject, cell, pane) -> rows
SLOTS = ("missing", "nan", "absent", "invalid")
_HEAD = struct.Struct("<QIIBB")


def stored_subjects(url: str) -> list[Any]:
    """[name, role, bins] of every subject of the one reference in the store, in the order of its cells."""
    ((payload,),) = query(url, "select payload from reference")
    return list(json.loads(zlib.decompress(bytes(payload)))["subjects"])


def stored_cells(url: str) -> tuple[Cells, dict[int, int]]:
    """The counts of every cell of every pane, zeros left out, and the rows of every pane: sums over the workers that wrote them."""
    subjects = stored_subjects(url)
    names = [(role, name, cell) for name, role, bins in subjects for cell in cell_names(bins)]
    cells: Cells = Counter()
    rows: dict[int, int] = Counter()
    for start_ms, pane_rows, profile in query(url, "select start_ms, rows, profile from state"):
        rows[start_ms] += pane_rows
        for name, count in zip(names, unpacked(bytes(profile)), strict=True):
            if count:
                cells[*name, str(start_ms)] += count
    return dict(cells), dict(rows)


def expected_cells(url: str, columns: dict[tuple[str, str], Sequence[Any]], starts_ms: Sequence[int]) -> Cells:
    """`columns` by (role, subject): a value for every row; `starts_ms`: the pane of every row."""
    cells: Cells = defaultdict(int)
    for name, role, bins in stored_subjects(url):
        known = {text: text for text in bins.get("categories", ())}
        for value, start_ms in zip(columns[role, name], starts_ms, strict=True):
            if value is None or value != value:  # noqa: PLR0124  only NaN does
                cell = "missing"
            elif "edges" in bins:
                cell = f"bin {bisect_right(bins['edges'], value)}"
            else:
                cell = known.get(str(value), "other")
            cells[role, name, cell, str(start_ms)] += 1
    return dict(cells)


def cell_names(bins: dict[str, Any]) -> list[str]:
    if "edges" in bins:
        return [*(f"bin {number}" for number in range(len(bins["edges"]) + 1)), *SLOTS]
    return [*bins["categories"], "other", *SLOTS]


def unpacked(profile: bytes) -> Iterable[int]:
    """The counts of a stored profile: a head, then each number's lowest byte, each number's second byte, and so on."""
    body = zlib.decompress(profile[4:])
    _, cells, _, width, _ = _HEAD.unpack_from(body)
    planes = [body[_HEAD.size + plane * cells : _HEAD.size + (plane + 1) * cells] for plane in range(width)]
    return [int.from_bytes(bytes(plane[cell] for plane in planes), "little") for cell in range(cells)]


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    if url.startswith("sqlite:///"):
        import sqlite3

        connection = sqlite3.connect(url.removeprefix("sqlite:///"))
        try:
            return connection.execute(statement).fetchall()
        finally:
            connection.close()
    import psycopg

    with psycopg.connect(url.replace("+psycopg", "")) as server:
        return list(server.execute(statement).fetchall())
