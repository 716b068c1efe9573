"""Parquet files (parquet.apache.org/docs/file-format): each row is a record, and row groups can be read alone."""

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice, pairwise
from typing import Any, Final

import pyarrow.parquet as pq

from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, choose_starts, damaged, open_input
from corpusmill.pipeline.sources.tables.columns import (
    TABLE_ERRORS,
    batch_rows,
    check_names,
    find_columns,
    raise_failure,
    row_record,
)
from corpusmill.pipeline.sources.tables.parquet_footer import FooterError, RowGroup, read_footer

__all__ = ["ranges", "records"]

_ROWS: Final = 256
_BUFFER: Final = 1 << 20


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of whole row groups of at least `target_bytes` each; the last one may be smaller.

    A row group belongs to the range that the first of its bytes is in. A file without a footer is one range.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    with open_input(location) as file:
        try:
            groups = read_footer(file)
        except FooterError:
            groups = []
    starts = choose_starts((group.start for group in groups[1:]), target_bytes)
    return list(pairwise([*starts, n_bytes]))


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
        "damaged_length" (fewer rows than the footer says) stands for the rest of the row group; one row "bomb" for a
        row group that grows too much; one row "damaged_header" for one that runs into the next one, or for a file
        without a footer.

    Raises:
        SourceError: there is no such file, or it has no column of text.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        try:
            groups = read_footer(file)
            # pre_buffer would hold all of a row group
            table = pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True)
            check_names(table.schema_arrow)
        except (FooterError, *TABLE_ERRORS) as error:
            raise_failure(error)
            yield damaged(piece.file_path, piece.start, piece.end - piece.start, reason="damaged_header")
            return
        columns = find_columns(table.schema_arrow, piece)
        for group in groups:
            if piece.start <= group.start < piece.end:
                yield from _read_group(piece, table, group, columns)


def _read_group(piece: Slice, table: pq.ParquetFile, group: RowGroup, columns: Mapping[str, str]) -> Iterator[Record]:
    chunks = [chunk for chunk in group.chunks if chunk.column in columns.values()]
    sizes = [chunk.n_bytes for chunk in chunks]
    length = group.end - group.start
    row = 0
    reason: DamageReason = "damaged_length"
    if group.overlaps:
        reason = "damaged_header"
    elif piece.is_bomb(sum(chunk.n_packed for chunk in chunks), sum(sizes)):
        reason = "bomb"
    else:
        # No value is larger than its column is unpacked, but a dictionary can repeat the largest one in each row.
        at_a_time = min(max(1, piece.max_bytes // max([1, *sizes])), _ROWS)
        for n_rows in (at_a_time, 1):  # one by one again up to a damaged page
            try:
                for values in _rows(table, group, columns, n_rows, first=row):
                    place = f"{piece.file_path}:{group.first_row + row}"
                    yield row_record(piece, values, place=place, offset=group.start, length=length, record_index=row)
                    row += 1
                break
            except TABLE_ERRORS as error:
                raise_failure(error)
                reason = "damaged_compression"
    if row < group.n_rows:
        key = f"{piece.file_path}:{group.first_row + row}:damaged"
        yield Record(key=key, offset=group.start, length=length, record_index=row, reason=reason)


def _rows(
    table: pq.ParquetFile, group: RowGroup, columns: Mapping[str, str], n_rows: int, *, first: int
) -> Iterator[dict[str, Any]]:
    """The rows of a row group from one on, of which `n_rows` are decoded at a time."""
    names = list(dict.fromkeys(columns.values()))
    for batch in table.iter_batches(n_rows, [group.index], names, use_threads=False):
        if first < batch.num_rows:
            yield from islice(batch_rows(batch, columns), first, None)
        first = max(0, first - batch.num_rows)
