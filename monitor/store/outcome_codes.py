"""Small numbers for what the rows of the join belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from monitor.joining.outcomes import LayoutKey
from monitor.store.engine import Database, upsert
from monitor.store.tables import join_layout

_t = join_layout.c
_KEY = (_t.model, _t.version, _t.reference)


class _Layouts(dict[int, LayoutKey]):
    """What is known by now, and more when it is asked for."""

    def __init__(self, known: Mapping[int, LayoutKey], read: Callable[[], Mapping[int, LayoutKey]]) -> None:
        super().__init__(known)
        self._read = read

    def __missing__(self, code: int) -> LayoutKey:
        self.update(self._read())
        if code not in self:
            raise KeyError(code)
        return self[code]


class Codes:
    """The codes this process knows. It only ever learns what was committed, so no rolled back transaction leaves a wrong one behind."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._by_layout: dict[LayoutKey, int] = {}
        self._by_code: dict[int, LayoutKey] = {}

    def of(self, layouts: Iterable[LayoutKey]) -> dict[LayoutKey, int]:
        """A code for each, and for (model, "", "") of each; new ones are made, in a transaction of their own."""
        wanted = set(layouts)
        wanted |= {LayoutKey(layout.model, "", "") for layout in wanted}
        if not self._by_layout.keys() >= wanted:
            self._make(sorted(wanted - self._by_layout.keys()))
        return {layout: self._by_layout[layout] for layout in wanted}

    def models(self) -> dict[str, int]:
        """The codes of all models."""
        with self._db.read() as connection:
            self._read(connection)
        return {layout.model: code for layout, code in self._by_layout.items() if layout[1:] == ("", "")}

    def layouts(self, connection: Connection) -> dict[int, LayoutKey]:
        """By code; one that another process made is read when it is asked for with []."""
        return _Layouts(self._by_code, lambda: self._read(connection))

    def _make(self, layouts: list[LayoutKey]) -> None:
        with self._db.write() as connection:
            connection.execute(
                upsert(connection, join_layout).on_conflict_do_nothing(), [layout._asdict() for layout in layouts]
            )
        with self._db.read() as connection:
            self._read(connection)

    def _read(self, connection: Connection) -> dict[int, LayoutKey]:
        for code, *key in connection.execute(sa.select(_t.code, *_KEY)):
            layout = LayoutKey(*key)
            self._by_layout[layout], self._by_code[code] = code, layout
        return self._by_code
