"""CSV (RFC 4180) and TSV files with a header, as they are or packed by gzip or zstd: each row is a record."""

import csv
import io
from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple

import pyarrow as pa

from corpusmill.pipeline.sources.columns import find_columns, row_record
from corpusmill.pipeline.sources.lines import Line, read_lines
from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged, open_input
from corpusmill.pipeline.sources.unpack import open_content

__all__ = ["csv_records"]

csv.field_size_limit(2**31 - 1)  # of the whole process; here rows are as long as the slice allows


class _Row(NamedTuple):
    """The cells of a row; None where its lines, read together, are no row."""

    offset: int
    length: int | None
    cells: list[str] | None
    reason: DamageReason = "damaged_row"


def csv_records(piece: Slice, delimiter: str) -> Iterator[Record]:
    """The rows of a whole file but its header.

    Columns are mapped as those of Parquet files; all hold strings. The record key is the value of the column mapped to
    "id", else relative name and offset of the row.

    Yields:
        A record for each row; "damaged_row" for one that does not have the header's number of cells, whose quotes are
        wrong, or that is not UTF-8; "too_large" for a line of more than `piece.max_bytes`. A quote that is never closed
        costs its line only. Damage in a packed file is one record.

    Raises:
        SourceError: there is no such file, or it has no column of text.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        rows = _rows(read_lines(*open_content(file, piece), piece), delimiter, piece.max_bytes)
        header: list[str] | None = None
        columns: dict[str, int] = {}
        for row in rows:
            if row.cells is None or (header is not None and len(row.cells) != len(header)):
                yield damaged(piece.file_path, row.offset, row.length, reason=row.reason)
            elif header is None:
                header = row.cells
                schema = pa.schema([(name, pa.string()) for name in header])
                columns = {field: header.index(name) for field, name in find_columns(schema, piece).items()}
            else:
                values = {field: row.cells[i].encode(errors="surrogateescape") for field, i in columns.items()}
                place = f"{piece.file_path}:{row.offset}"
                yield row_record(piece, values, place=place, offset=row.offset, length=row.length)
