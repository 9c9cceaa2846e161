"""What a scrape asks of the store to find the newest window that labels have judged."""

from __future__ import annotations

from dataclasses import replace

from monitor.store import Store
from tests.parts.exposition import DAY_MS, LABELS, figures, window


def performance(day: int, **rest):
    return window(*figures(), LABELS, monitor="performance", end_ms=day * DAY_MS, **rest)


def put(store: Store, *rows) -> None:
    with store.closing("churn") as tx:
        for row in rows:
            tx.put_window(row)


def test_windows_that_were_judged_again_come_latest_first_and_without_segments(store: Store):
    first, second, third = performance(1), performance(2), performance(3)
    segment = replace(performance(4), id="of a segment", segment='{"region":"EU"}')
    put(store, first, second, third, segment)
    put(store, *(replace(row, revision=2) for row in (first, second, segment)))
    found = store.judged_again("churn", "7", "performance", 10)
    assert [(row.end_ms, row.revision) for row in found] == [(2 * DAY_MS, 2), (DAY_MS, 2)]
    assert len(store.judged_again("churn", "7", "performance", 1)) == 1
    put(store, replace(second, revision=3, withdrawn=True))
    assert [row.end_ms for row in store.judged_again("churn", "7", "performance", 10)] == [DAY_MS]


def test_what_was_decided_since_is_read_once_and_goes_on_where_it_ended(store: Store):
    put(store, performance(1), performance(2), window(monitor="data"))
    rows, seen = store.windows_after(0, "performance")
    assert [row.end_ms for row in rows] == [DAY_MS, 2 * DAY_MS]
    assert store.windows_after(seen, "performance") == ([], seen)
    put(store, replace(performance(1), revision=2, withdrawn=True))
    again, last = store.windows_after(seen, "performance")
    assert [(row.end_ms, row.revision, row.withdrawn) for row in again] == [(DAY_MS, 2, True)]
    assert last > seen
    page, here = store.windows_after(0, "performance", limit=1)
    assert len(page) == 1
    assert [row.end_ms for row in store.windows_after(here, "performance", limit=1)[0]] == [DAY_MS]
