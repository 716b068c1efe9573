"""CSV (RFC 4180) and TSV files with a header, as they are or packed by gzip or zstd: each row is a record."""

import csv
import io
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa

from corpusmill.pipeline.sources.lines import Line, read_lines
from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged, open_input
from corpusmill.pipeline.sources.tables.columns import find_columns, row_record
from corpusmill.pipeline.sources.unpack import Unpacked, open_content

__all__ = ["csv_records"]

csv.field_size_limit(2**31 - 1)  # of the whole process; here rows are as long as the slice allows


class _Row(NamedTuple):
    """The cells of a row, none for a blank line, or what is wrong with its first line."""

    offset: int
    length: int | None
    cells: list[str]
    reason: DamageReason | None = None


def csv_records(piece: Slice, delimiter: str) -> Iterator[Record]:
    """The rows of a whole file but its header.

    Columns are mapped as those of Parquet files; all hold strings. The record key is the value of the column mapped to
    "id", else relative name and offset of the row.

    Args:
        piece: the file, from 0 to its size.
        delimiter: what stands between cells.

    Yields:
        A record for each row that is not blank; "damaged_row" for one that has not as many cells as the header, whose
        quotes are wrong (one that is never closed costs its line only) or that is not UTF-8; "too_large" for a line of
        more than `piece.max_bytes`; "damaged_header" for a file whose first row cannot be read. Damage in a packed file
        is one record.

    Raises:
        SourceError: there is no such file, or it has no column of text.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        rows = (row for row in _rows(piece, *open_content(file, piece), delimiter) if row.cells or row.reason)
        header = next(rows, None)
        if header is None or header.reason is not None:
            yield damaged(piece.file_path, 0, piece.end, reason="damaged_header")
            return
        schema = pa.schema([(name, pa.string()) for name in header.cells])
        columns = {field: header.cells.index(name) for field, name in find_columns(schema, piece).items()}
        for row in rows:
            if len(row.cells) != len(header.cells):
                yield damaged(piece.file_path, row.offset, row.length, reason=row.reason or "damaged_row")
                continue
            values = {field: row.cells[i].encode(errors="surrogateescape") for field, i in columns.items()}
            place = f"{piece.file_path}:{row.offset}"
            yield row_record(piece, values, place=place, offset=row.offset, length=row.length)


def _rows(piece: Slice, stream: io.BufferedReader, unpacked: Unpacked | None, delimiter: str) -> Iterator[_Row]:
    lines = _Lines(read_lines(stream, unpacked, piece))
    for first in lines:
        if first.reason is not None:
            yield _Row(first.offset, first.length, [], first.reason)
            continue
        taken: list[Line] = []
        lines.put_back([first])
        try:
            cells = next(csv.reader(_texts(lines, taken, piece.max_bytes), delimiter=delimiter, strict=True))
        except csv.Error:
            lines.put_back(taken[1:])
            yield _Row(first.offset, first.length, [], "damaged_row")
            continue
        length = None if first.length is None else sum(line.length or 0 for line in taken)
        yield _Row(first.offset, length, cells)


def _texts(lines: "_Lines", taken: list[Line], max_bytes: int) -> Iterator[str]:
    """Lines as a row asks for them, until one cannot be read or they are too many; each is added to `taken`."""
    n_bytes = 0
    for line in lines:
        if line.reason is not None or n_bytes > max_bytes:
            lines.put_back([line])
            return
        taken.append(line)
        n_bytes += len(line.content)
        yield line.content.decode(errors="surrogateescape")


class _Lines:
    """Lines, of which some can be put back."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self._waiting: deque[Line] = deque()

    def __iter__(self) -> Iterator[Line]:
        return self

    def __next__(self) -> Line:
        return self._waiting.popleft() if self._waiting else next(self._lines)

    def put_back(self, lines: Sequence[Line]) -> None:
        """Have `lines` come next."""
        self._waiting.extendleft(reversed(lines))
