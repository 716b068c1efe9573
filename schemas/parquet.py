"""Reading and writing the tables of `schemas.tables` as Parquet.

The bytes of a file depend on its rows only: rows are regrouped into row groups of a fixed size, whatever batches
they arrive in, and each row group is written from contiguous memory.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmill.schemas.files import FileInfo, Files
from corpusmill.schemas.tables import Table

__all__ = ["ROW_GROUP", "TableWriter", "one_batch", "read_batches", "read_table", "write_table"]

ROW_GROUP = 512
"""Documents a row group: some MB of text, the grain at which a large unit is cut into shards."""

_SETTINGS: dict[str, Any] = {"compression": "zstd", "compression_level": 1}


class TableWriter:
    """Writes one table as it arrives in batches; nothing is visible before `publish`."""

    def __init__(
        self,
        files: Files,
        name: str,
        table: Table,
        *,
        extra: pa.Schema | None = None,
        metadata: Mapping[str, str] | None = None,
        row_group: int = ROW_GROUP,
        **settings: Any,
    ) -> None:
        self.schema = table.schema(extra=extra, metadata=metadata)
        self.n_rows = 0
        self._row_group = row_group
        self._staged = files.stage(name)
        try:
            self._writer = pq.ParquetWriter(self._staged, self.schema, **(_SETTINGS | settings))
        except Exception:
            self._staged.discard()
            raise
        self._pending: list[pa.RecordBatch] = []
        self._n_pending = 0

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Add rows; columns are taken by name and must have the schema's types."""
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        table = pa.Table.from_arrays([table.column(name) for name in self.schema.names], schema=self.schema)
        self.n_rows += table.num_rows
        self._n_pending += table.num_rows
        self._pending.append(table)
        if self._n_pending >= self._row_group:
            self._drain(self._n_pending - self._n_pending % self._row_group)

    def _drain(self, n_rows: int) -> None:
        table = pa.concat_tables(self._pending).combine_chunks()
        for start in range(0, n_rows, self._row_group):
            piece = table.slice(start, min(self._row_group, n_rows - start))
            self._writer.write_table(piece, row_group_size=self._row_group)
        rest = table.slice(n_rows)
        self._pending = [rest] if rest.num_rows else []
        self._n_pending = rest.num_rows

    def publish(self) -> FileInfo:
        """Write what is pending and put the file under its final name."""
        if self._n_pending:
            self._drain(self._n_pending)
        self._writer.close()
        return self._staged.publish()

    def discard(self) -> None:
        """Drop everything written so far."""
        with contextlib.suppress(OSError):  # closing writes a footer, for which a full disk has no room
            self._writer.close()
        self._staged.discard()


def write_table(files: Files, name: str, table: Table, rows: pa.Table, **options: Any) -> FileInfo:
    """Publish `rows` under `name` (options as for `TableWriter`)."""
    writer = TableWriter(files, name, table, **options)
    try:
        writer.write(rows)
        return writer.publish()
    except Exception:
        writer.discard()
        raise


def _open(files: Files, name: str, table: Table) -> pq.ParquetFile:
    source = files.path(name) if files.is_local else files.open(name)
    parquet = pq.ParquetFile(source, memory_map=files.is_local)
    table.check(parquet.schema_arrow, name)
    return parquet


def read_table(
    files: Files,
    name: str,
    table: Table,
    columns: Sequence[str] | None = None,
    row_groups: Sequence[int] | None = None,
) -> pa.Table:
    """Rows of a published file, or of some of its row groups.

    Raises:
        SchemaError: the file holds another table or major version.
    """
    with _open(files, name, table) as parquet:
        groups = range(parquet.num_row_groups) if row_groups is None else row_groups
        return parquet.read_row_groups(list(groups), columns=list(columns) if columns is not None else None)


def read_batches(
    files: Files, name: str, table: Table, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """A published file row group by row group."""
    with _open(files, name, table) as parquet:
        for group in range(parquet.num_row_groups):
            yield one_batch(parquet.read_row_group(group, columns=list(columns) if columns is not None else None))


def one_batch(table: pa.Table) -> pa.RecordBatch:
    """All rows of a table in one batch."""
    columns = [
        column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks or [column.combine_chunks()])
        for column in table.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=table.schema)
