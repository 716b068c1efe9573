"""JSON Lines (jsonlines.org): one JSON object (RFC 8259) a line, as it is or packed by gzip or zstd.

Each line is a record. Which line is where counts in bytes of the content, so an id does not depend on the packing,
which is told by the first bytes of the file, not by its name. A file that is one JSON array is read element by element.
"""

import json
from collections import Counter
from collections.abc import Iterator

from corpusmill.pipeline.sources.lines import Line, line_ranges, read_lines
from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged, open_input
from corpusmill.pipeline.sources.tables.columns import FIELDS, row_record
from corpusmill.pipeline.sources.tables.json_array import HEAD_BYTES, is_array, read_elements
from corpusmill.pipeline.sources.unpack import open_content

__all__ = ["ranges", "records"]


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of `target_bytes` of a file of lines; an array or a packed file is one range.

    Raises:
        SourceError: there is no such file.
    """
    with open_input(location) as file:
        if is_array(file.read(HEAD_BYTES)):
            return [(0, n_bytes)]
    return line_ranges(location, n_bytes, target_bytes)


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The lines of a range that are not blank.

    `piece.columns` maps a field of the document (text, title, url, date, language) to its key in the line; a field
    it does not have is read from the key of its own name. The record key is the value of the key mapped to "id",
    else the place of the line.

    Args:
        piece: a range that `ranges` gave.
        counts: unused: all lines are records.

    Yields:
        A record for each line; "damaged_row" for one that is not a JSON object in UTF-8 or whose text is not a string,
        "damaged_end" for a last line that breaks off, "too_large" for one of more than `piece.max_bytes` bytes. One row
        "damaged_compression" or "damaged_end" stands for a stretch of a packed file that cannot be decoded, and "bomb"
        ends one that grows too much.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        stream, unpacked = open_content(file, piece)
        if piece.start == 0 and is_array(stream.peek()):
            found = read_elements(stream, unpacked, piece.max_bytes)
        else:
            found = read_lines(stream, unpacked, piece)
        for line in found:
            if line.reason is not None:
                yield damaged(piece.file_path, line.offset, line.length, reason=line.reason)
            elif line.content.strip():
                yield _parse(piece, line)


def _parse(piece: Slice, line: Line) -> Record:
    try:
        value = json.loads(line.content.decode())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        is_begun = line.content.lstrip().startswith(b"{") and line.content[-1:] not in b"}\n"
        reason: DamageReason = "damaged_end" if is_begun else "damaged_row"
        return damaged(piece.file_path, line.offset, line.length, reason=reason)
    fields = {field: value.get(piece.columns.get(field, field)) for field in FIELDS if field != "id"}
    if "id" in piece.columns:
        fields["id"] = value.get(piece.columns["id"])
    place = f"{piece.file_path}:{line.offset}"
    return row_record(piece, fields, place=place, offset=line.offset, length=line.length)
