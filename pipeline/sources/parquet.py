"""Parquet files (parquet.apache.org/docs/file-format): each row is a record, and row groups can be read alone."""

import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmill.pipeline.sources.columns import batch_rows, find_columns, row_record
from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged, is_decode_error, open_input

__all__ = ["ranges", "records"]

_ROWS: Final = 256
_BUFFER: Final = 1 << 20
_ERRORS: Final = (pa.ArrowException, UnicodeDecodeError, OSError)  # what pyarrow raises for bad data, and more


@dataclass(frozen=True, kw_only=True, slots=True)
class _Group:
    """A row group.

    Attributes:
        index: its number in the footer.
        start: first byte of its columns.
        end: byte after its columns.
        first_row: number of its first row in the file.
        n_rows: how many rows the footer says it has.
        is_new: whether its bytes are no part of the row groups before it, as they may be in files made to do harm.
    """

    index: int
    start: int
    end: int
    first_row: int
    n_rows: int
    is_new: bool


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of whole row groups of at least `target_bytes` each; the last one may be smaller.

    A row group belongs to the range that the first of its bytes is in. A file without a footer is one range.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    starts = [0]
    with open_input(location) as file:
        try:
            groups = _groups(pq.ParquetFile(file).metadata, _size(file))
        except _ERRORS as error:
            _check(error)
            groups = []
    for group in groups:
        if group.start >= starts[-1] + target_bytes:
            starts.append(group.start)
    return list(zip(starts, [*starts[1:], n_bytes], strict=True))


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The rows of the row groups that begin in a range.

    `piece.columns` maps a field of the document (text, title, url, date, language) to its column; a field it does not
    have is read from the column of its own name, if there is one. The record key is the value of the column mapped to
    "id", else relative name and number of the row in the file. Offset and length are those of the row group.

    Args:
        piece: a range that `ranges` gave.
        counts: unused: all rows are records.

    Yields:
        A record for each row. From the first row of a row group that cannot be read, one row "damaged_compression" or
        "damaged_length" (fewer rows than the footer says) stands for the rest of the row group, and one row "bomb" for
        a row group that grows too much. One row "damaged_header" stands for a file without a footer.

    Raises:
        SourceError: there is no such file, or it has no column of text.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        try:
            table = pq.ParquetFile(file, buffer_size=_BUFFER, page_checksum_verification=True)
            schema, groups = table.schema_arrow, _groups(table.metadata, _size(file))
        except _ERRORS as error:
            _check(error)
            yield damaged(piece.file_path, piece.start, piece.end - piece.start, reason="damaged_header")
            return
        columns = find_columns(schema, piece)
        for group in groups:
            if piece.start <= group.start < piece.end:
                yield from _read_group(piece, table, group, columns)


def _check(error: Exception) -> None:
    """Raise again what is no damage."""
    if isinstance(error, OSError) and not is_decode_error(error):
        raise error


def _size(file: IO[bytes]) -> int:
    return file.seek(0, io.SEEK_END)


def _groups(footer: pq.FileMetaData, n_bytes: int) -> list[_Group]:
    """The row groups in the order of their bytes."""
    found = []
    first_row = 0
    for index in range(footer.num_row_groups):
        chunks = _chunks(footer.row_group(index))
        starts = [_start(chunk) for chunk in chunks]
        ends = [start + chunk.total_compressed_size for start, chunk in zip(starts, chunks, strict=True)]
        n_rows = max(0, footer.row_group(index).num_rows)
        found.append((min(max(0, min(starts, default=0)), n_bytes - 1), index, max(ends, default=0), first_row, n_rows))
        first_row += n_rows
    groups = []
    covered = 0
    for start, index, end, first_row, n_rows in sorted(found):
        is_new = start >= covered
        groups.append(
            _Group(index=index, start=start, end=end, first_row=first_row, n_rows=n_rows, is_new=is_new)
        )
        covered = max(covered, end)
    return groups


def _chunks(group: pq.RowGroupMetaData) -> list[pq.ColumnChunkMetaData]:
    return [group.column(i) for i in range(group.num_columns)]


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    """Where a column chunk begins: with its dictionary page if it has one; some writers say 0 where there is none."""
    first: int = chunk.data_page_offset
    dictionary = chunk.dictionary_page_offset
    return dictionary if dictionary and 0 < dictionary < first else first


def _read_group(piece: Slice, table: pq.ParquetFile, group: _Group, columns: Mapping[str, str]) -> Iterator[Record]:
    names = list(dict.fromkeys(columns.values()))
    chunks = [chunk for chunk in _chunks(table.metadata.row_group(group.index)) if chunk.path_in_schema in names]
    n_packed = sum(chunk.total_compressed_size for chunk in chunks)
    sizes = [chunk.total_uncompressed_size for chunk in chunks]
    # No value is larger than its chunk is unpacked, but a dictionary can repeat the largest one in each row.
    n_rows = min(max(1, piece.max_bytes // max(1, *sizes)), _ROWS)
    reason: DamageReason = "damaged_length"
    row = 0
    length = group.end - group.start
    try:
        if not group.is_new:
            reason = "damaged_header"
        elif piece.is_bomb(n_packed, sum(sizes)):
            reason = "bomb"
        else:
            for batch in table.iter_batches(n_rows, [group.index], names, use_threads=False):
                for values in batch_rows(batch, columns):
                    place = f"{piece.file_path}:{group.first_row + row}"
                    yield row_record(
                        piece, values, place=place, offset=group.start, length=length, record_index=row
                    )
                    row += 1
    except _ERRORS as error:
        _check(error)
        reason = "damaged_compression"
    if row < group.n_rows:
        yield Record(
            key=f"{piece.file_path}:{group.first_row + row}:damaged",
            offset=group.start,
            length=length,
            record_index=row,
            reason=reason,
        )
