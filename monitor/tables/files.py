"""Flat tables from Parquet, CSV and data frames, as Arrow tables whose types mean the same whatever the file was (DESIGN 4.6)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from monitor.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    ArrowColumn = pa.ChunkedArray[Any]

READ_ROWS = 65_536  # rows of a Parquet file in memory at a time

_INTEGER = r"^-?(0|[1-9][0-9]*)$"
_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"


def read_table(source: Any) -> pa.Table:  # a path, or a DataFrame of a pandas that we do not import
    """The whole table. Raises UserError for what cannot be read, with the file's name."""
    import pyarrow as pa

    if isinstance(source, str | Path):
        parts = list(read_blocks(source))
        return pa.concat_tables(parts)
    try:
        return _checked(pa.Table.from_pandas(source, preserve_index=False), "the data frame")
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise UserError(f"the data frame cannot be read as a table: {_first_line(error)}") from None


def read_blocks(path: str | Path) -> Iterator[pa.Table]:
    """The table in blocks of rows, at least one. A CSV file is one block: the type of a column depends on all of its cells."""
    import pyarrow as pa

    try:
        if is_csv(path):
            yield _checked(_read_csv(Path(path)), str(path))
        else:
            yield from _read_parquet(Path(path))
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{path}: cannot be read as {'CSV' if is_csv(path) else 'Parquet'}: {_first_line(error)}"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or _first_line(error)}") from None


def is_csv(path: str | Path) -> bool:
    """True for CSV by its name, False for Parquet. Raises UserError for any other name."""
    name = Path(path).name.lower()
    if name.endswith((".csv", ".csv.gz")):
        return True
    if name.endswith((".parquet", ".pq")):
        return False
    raise UserError(f"{path}: is not a table (it should end in .parquet, .csv or .csv.gz)")


def _read_parquet(path: Path) -> Iterator[pa.Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        empty = True
        for batch in file.iter_batches(batch_size=READ_ROWS):
            empty = False
            yield _checked(pa.Table.from_batches([batch]), str(path))
        if empty:
            yield _checked(file.schema_arrow.empty_table(), str(path))


def _read_csv(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    parse = csv.ParseOptions(newlines_in_values=True)
    with csv.open_csv(path, parse_options=parse) as reader:
        names = reader.schema.names
    # Every cell as text first: what Arrow would guess is not what JSON calls a number.
    texts = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()), null_values=[""], strings_can_be_null=True
    )
    table = csv.read_csv(path, parse_options=parse, convert_options=texts)
    return pa.table([_typed(column) for column in table.columns], names=table.schema.names)


def _typed(column: ArrowColumn) -> ArrowColumn:
    """A CSV column is numeric only if every cell is a JSON number, boolean only if every cell is one (Python's spelling too)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.null_count == len(column):
        return column.cast(pa.float64())
    if _all_match(column, _INTEGER):
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid:
            return column.cast(pa.float64())
    if _all_match(column, _NUMBER):
        return column.cast(pa.float64())
    if _all_match(column, "^(true|false)$") or _all_match(column, "^(True|False)$"):
        return cast("ArrowColumn", pc.equal(pc.utf8_lower(column), pa.scalar("true")))
    return column


def _all_match(column: ArrowColumn, pattern: str) -> bool:
    import pyarrow.compute as pc

    return bool(pc.all(pc.match_substring_regex(column, pattern), skip_nulls=True).as_py())


def number_cells(column: ArrowColumn) -> ArrowColumn:
    """The cells of a text column that are JSON numbers, as text; null elsewhere."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return cast(
        "ArrowColumn", pc.if_else(pc.match_substring_regex(column, _NUMBER), column, pa.scalar(None, column.type))
    )


def _checked(table: pa.Table, name: str) -> pa.Table:
    twice = sorted({column for column in table.schema.names if table.schema.names.count(column) > 1})
    if twice:
        raise UserError(f"{name}: two columns have the name {twice[0]} (rename one)")
    kept = [column for column in table.schema.names if not column.startswith("__index_level_")]  # pandas' index
    return table.select(kept)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["unreadable"])[0]
