"""Plain text, as it is or packed by gzip or zstd: each file or each line is a record."""

from collections import Counter
from collections.abc import Iterator

from corpusmill.pipeline.sources.files.whole import UTF16_MARKS, is_binary, read_files
from corpusmill.pipeline.sources.lines import line_ranges, read_lines
from corpusmill.pipeline.sources.record import Record, Slice, damaged, open_input
from corpusmill.pipeline.sources.unpack import open_content

__all__ = ["line_records", "ranges", "records"]


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of `target_bytes`, for files that are read by line; a packed file is one range.

    Raises:
        SourceError: there is no such file.
    """
    return line_ranges(location, n_bytes, target_bytes)


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The files of a slice, or the lines of a range.

    Args:
        piece: `piece.options["each"]` says what a record is: "file" (default) or "line".
        counts: unused: all files, or lines, are records.

    Yields:
        What `read_files` or `line_records` yield.

    Raises:
        SourceError: a file is not there.
        OSError: the disk or the network failed.
    """
    if piece.options.get("each") == "line":
        return line_records(piece)
    return read_files(piece, "text/plain")


def line_records(piece: Slice) -> Iterator[Record]:
    """The lines of a range that are not blank, without their ends; the key is relative name and offset.

    Yields:
        A record for each line; "damaged_row" for one that is not text (UTF-16 cannot be read by line), "too_large" for
        one of more than `piece.max_bytes` bytes. One row "damaged_compression" or "damaged_end" stands for a stretch of
        a packed file that cannot be decoded, and "bomb" ends one that grows too much.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        for line in read_lines(*open_content(file, piece), piece):
            content = line.content.rstrip(b"\r\n")
            is_text = not is_binary(content) and not (line.offset == 0 and content.startswith(UTF16_MARKS))
            reason = line.reason or (None if is_text else "damaged_row")
            if reason is not None:
                yield damaged(piece.file_path, line.offset, line.length, reason=reason)
            elif content.strip():
                key = f"{piece.file_path}:{line.offset}"
                yield Record(key=key, offset=line.offset, length=line.length, content=content, media_type="text/plain")
