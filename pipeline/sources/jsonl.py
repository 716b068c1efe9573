"""JSON Lines (jsonlines.org): one JSON object a line, .jsonl, .jsonl.gz or .jsonl.zst; each line is a record.

Which line is where counts in bytes of the decompressed text, so an id does not depend on the compression. The
compression is told by the first bytes of the file, not by its name.
"""

import codecs
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any, Final, cast

import pyarrow as pa

from corpusmill.pipeline.sources.record import (
    Record,
    Slice,
    damaged,
    is_decode_error,
    open_input,
    parse_date,
)

__all__ = ["ranges", "records"]

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BLOCK: Final = 1 << 20
_FIELDS: Final = ("text", "title", "url", "date", "language")


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of `target_bytes` of an uncompressed file; a compressed one is one range.

    A line belongs to the range that its first byte is in.

    Raises:
        SourceError: there is no such file.
    """
    with open_input(location) as file:
        if _compression(file):
            return [(0, n_bytes)]
    starts = range(0, max(n_bytes, 1), target_bytes)
    return [(start, min(start + target_bytes, n_bytes)) for start in starts]


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The lines of a range that are not blank.

    `piece.columns` maps a field of the document (text, title, url, date, language) to its key in the line; a field
    it does not have is read from the key of its own name. The record key is the value of the key mapped to "id",
    else the place of the line.

    Args:
        piece: a range that `ranges` gave.
        counts: unused: all lines are records.

    Yields:
        A record for each line; "damaged_row" for one that is not a JSON object in UTF-8, "too_large" for one of more
        than `piece.max_bytes` bytes. Where a compressed stream breaks off, one row "damaged_compression" ends the file.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    end = piece.start
    try:
        with open_input(piece.location) as file:
            compression = _compression(file)
            for offset, length, line in _lines(file, compression, piece):
                end = offset + length
                if line.strip():
                    yield _parse(piece, offset, None if compression else length, line)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        yield damaged(piece.file_path, end, None, reason="damaged_compression")
    except OSError as error:
        if not is_decode_error(error):
            raise
        yield damaged(piece.file_path, end, None, reason="damaged_compression")


def _compression(file: IO[bytes]) -> str | None:
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    return "gzip" if head.startswith(_GZIP) else "zstd" if head == _ZSTD else None


def _lines(file: IO[bytes], compression: str | None, piece: Slice) -> Iterator[tuple[int, int, bytes]]:
    """Offset, length and bytes of each line of a range; of a line above `max_bytes` only the beginning."""
    start, end, most = piece.start, piece.end, piece.max_bytes
    stream = file
    if compression == "gzip":
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file))
    elif compression == "zstd":
        stream = io.BufferedReader(pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"))
    elif start > 0:  # the line that runs into the range belongs to the one before
        file.seek(start - 1)
        start += _skip_line(file) - 1
    while (compression or start < end) and (line := stream.readline(most + 1)):
        length = len(line)
        if length > most and not line.endswith(b"\n"):
            length += _skip_line(stream)
        yield start, length, line.removeprefix(codecs.BOM_UTF8) if start == 0 else line
        start += length


def _skip_line(stream: IO[bytes]) -> int:
    """Skip the rest of a line, however long; returns the number of bytes."""
    n_bytes = 0
    while part := stream.readline(_BLOCK):
        n_bytes += len(part)
        if part.endswith(b"\n"):
            break
    return n_bytes


def _parse(piece: Slice, offset: int, length: int | None, line: bytes) -> Record:
    if len(line) > piece.max_bytes:
        return Record(key=f"{piece.file_path}:{offset}", offset=offset, length=length, reason="too_large")
    try:
        value = json.loads(line.decode())
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return damaged(piece.file_path, offset, length, reason="damaged_row")
    fields = {field: _string(value.get(piece.columns.get(field, field))) for field in _FIELDS}
    text = fields["text"] or ""
    has_text = bool(text.strip())
    return Record(
        key=_key(piece, value) or f"{piece.file_path}:{offset}",
        offset=offset,
        length=length,
        url=fields["url"],
        title=fields["title"],
        date=parse_date(fields["date"]),
        content=text.encode() if has_text else None,
        media_type="text/plain",
        charset="utf-8",
        language=fields["language"],
        reason=None if has_text else "no_text",
    )


def _key(piece: Slice, value: Mapping[str, Any]) -> str | None:
    """The mapped id, a string or an integer; None where there is none."""
    if "id" not in piece.columns:
        return None
    key = value.get(piece.columns["id"])
    return str(key) if isinstance(key, int) and not isinstance(key, bool) else _string(key)


def _string(value: Any) -> str | None:
    r"""A string that has an encoding: JSON may hold half a surrogate pair ("\ud83d"), which becomes U+FFFD."""
    if not isinstance(value, str) or value.isascii():
        return value if isinstance(value, str) else None
    return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
