"""Reading Parquet without threads of its own.

pyarrow's ``read_table`` leaves work on its threads when it returns, and a process that ends meanwhile is
aborted now and then ("terminate called without an active exception"; apache/arrow, reports 34314 and 33975),
after everything went well. Our tables are small: one thread reads them as fast.
"""

from collections.abc import Container, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pathprep.storage import regular
from pathprep.words import counted

MOST_CELLS = 1 << 28  # of a table that is read: a file may say in a few bytes that it has any number


def shape(path: Path) -> tuple[int, int]:
    """Rows and columns of a file, as it says itself; nothing else of it is read.

    Raises:
        OSError: it cannot be read, or is a pipe or the like.
        pyarrow.ArrowException: it is damaged.
    """
    with regular.open_regular(path) as opened, pq.ParquetFile(opened) as file:
        return file.metadata.num_rows, file.metadata.num_columns


def read(
    source: bytes | Path,
    columns: Sequence[str] | None = None,
    schema: pa.Schema | None = None,
    filled: Container[str] = (),
) -> pa.Table:
    """A whole table.

    Args:
        source: a file's bytes, or its path.
        columns: those that are wanted, in their order; None for all.
        schema: what the columns are cast to; those that the file lacks are null. None: as they are stored.
        filled: columns in which no row may be null, of ``schema``.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowInvalid: it is damaged, says that it has more than MOST_CELLS, or its columns do not hold
            what ``schema`` says. pyarrow.ArrowException: it is damaged.
        KeyError: a column that the file lacks and ``schema`` has not.
    """
    opened = pa.BufferReader(source) if isinstance(source, bytes) else regular.open_regular(source)
    with opened, pq.ParquetFile(opened) as file:
        stored = file.schema_arrow.names
        wanted = list(columns) if columns is not None else stored if schema is None else schema.names
        cells = file.metadata.num_rows * len(wanted)
        if cells > MOST_CELLS:
            raise pa.ArrowInvalid(f"says that it has {cells:,} cells, at most {MOST_CELLS:,} are read")
        # a table without columns would not know its number of rows
        table = file.read([name for name in wanted if name in stored] or stored[:1], use_threads=False)
    if schema is None:
        return table.select(wanted)
    fields = [schema.field(name) for name in wanted]
    found = [_cast(table, field) for field in fields]
    for field, column in zip(fields, found, strict=True):
        if field.name in filled and column.null_count:
            raise pa.ArrowInvalid(f"column {field.name}: {counted(column.null_count, 'row')} without a value")
    return pa.table(found, schema=pa.schema(fields))


def _cast(table: pa.Table, field: pa.Field) -> pa.Array | pa.ChunkedArray:
    if field.name not in table.column_names:
        return pa.nulls(len(table), field.type)
    try:
        return table[field.name].cast(field.type)
    except (pa.ArrowException, KeyError) as error:  # of another kind; there twice
        raise pa.ArrowInvalid(f"column {field.name}: {error}") from None
