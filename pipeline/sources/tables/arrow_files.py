"""Arrow IPC streams and files (arrow.apache.org/docs/format/Columnar.html), as `datasets` writes them.

Memory is that of the largest batch: 1,000 rows as `datasets` writes them.
"""

import io
from collections.abc import Iterator
from typing import Final

import pyarrow as pa

from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged, open_input
from corpusmill.pipeline.sources.tables.columns import (
    TABLE_ERRORS,
    batch_rows,
    check_names,
    find_columns,
    raise_failure,
    row_record,
)

__all__ = ["arrow_records"]

_FILE: Final = b"ARROW1\0\0"


def arrow_records(piece: Slice) -> Iterator[Record]:
    """The rows of a whole file, batch by batch.

    Columns are mapped as those of Parquet files. The record key is the value of the column mapped to "id", else
    relative name and number of the row. Offset and length are those of the batch.

    Args:
        piece: the file, from 0 to its size.

    Yields:
        A record for each row; one row "damaged_row" for batches after each other that cannot be read, "damaged_end"
        where the file breaks off, "damaged_header" for a file without a schema.

    Raises:
        SourceError: there is no such file, or it has no column of text.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        if file.read(len(_FILE)) != _FILE:  # a file is a stream with an index behind it
            file.seek(0)
        try:
            stream = pa.ipc.open_stream(file)
            check_names(stream.schema)
        except TABLE_ERRORS as error:
            raise_failure(error)
            yield damaged(piece.file_path, 0, size, reason="damaged_header")
            return
        columns = find_columns(stream.schema, piece)
        n_rows = 0
        bad: int | None = None
        reason: DamageReason = "damaged_row"
        while True:
            start = file.tell()
            try:
                rows = batch_rows(stream.read_next_batch(), columns)
            except StopIteration:
                break
            except TABLE_ERRORS as error:
                raise_failure(error)
                bad = start if bad is None else bad
                reason = "damaged_end" if file.tell() == size else "damaged_row"
                if file.tell() == start:
                    break
                continue
            if bad is not None:
                yield damaged(piece.file_path, bad, start - bad, reason="damaged_row")
                bad = None
            length = file.tell() - start
            for index, values in enumerate(rows):
                place = f"{piece.file_path}:{n_rows}"
                yield row_record(piece, values, place=place, offset=start, length=length, record_index=index)
                n_rows += 1
        if bad is not None:
            yield damaged(piece.file_path, bad, size - bad, reason=reason)
