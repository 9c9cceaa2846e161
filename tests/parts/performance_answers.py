"""The counts of performance that a store holds, read as they lie there. The answers, not the questions: nothing is recounted here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from detectors.performance.codec import decode
from monitor.references import ReferenceBook
from monitor.store import Store
from tests.parts.late_labels import Confusion, Window
from tests.parts.recount import query


def confusions(url: str) -> Mapping[Window, Confusion]:
    """Rows by [decision][label] of every pane of a binary model that has a decision for each row, added up over the workers that wrote them."""
    store = Store.open(url, create=False)
    try:
        book = ReferenceBook.of(store.references(), store.reference_generation())
    finally:
        store.close()
    rows = "select version, start_ms, reference, profile from performance_state where kind = 'pane' and segment = ''"
    sums: dict[Window, np.ndarray] = {}
    for version, start_ms, reference, profile in query(url, rows):
        known = book.by_hash(reference)
        if known is None or known.performance is None:
            raise ValueError(f"performance under a reference that the store lacks: {reference}")
        layout = known.performance.layout
        cells = layout.view(decode(bytes(profile), layout).vector, "labelled").sum(axis=0)
        sums[version, start_ms] = sums.get((version, start_ms), 0) + cells
    return {window: _confusion(cells) for window, cells in sums.items()}


def _confusion(cells: np.ndarray) -> Confusion:
    if cells[2:].any():
        raise ValueError("rows without a decision")
    (tn, fn), (fp, tp) = cells[:2].tolist()
    return (tn, fn), (fp, tp)
