"""Web pages as files: in folders, or in zip archives, which are told by their first bytes or their name."""

import io
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import IO, Final

from corpusmill.pipeline.sources.files.whole import file_record, read_files
from corpusmill.pipeline.sources.files.zip_archive import Entry, is_zip, next_entry, read_directory, read_entry
from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, choose_starts, damaged, open_input

__all__ = ["ranges", "records"]

_PAGES: Final = (".html", ".htm", ".xhtml")
_MEDIA_TYPE: Final = "text/html"


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of whole entries of an archive, of at least `target_bytes` each but for the last; else one range.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    with open_input(location) as file:
        entries = read_directory(file) if _is_archive(file, location) else None
    starts = choose_starts((entry.start for entry in (entries or [])[1:]), target_bytes)
    return list(pairwise([*starts, n_bytes]))


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The files of a slice, or the pages among the entries of an archive that begin in a range.

    Pages of archives are entries named .html, .htm or .xhtml; archives within archives stay closed. Offset and length
    are those of the local header and of the stored bytes.

    Args:
        piece: members of a folder, or a range that `ranges` gave.
        counts: gets "zip_other" for each entry of an archive that is no page.

    Yields:
        What `read_files` yields. For pages of archives also "damaged_header": a name that leaves the folder or is no
        name everywhere, a local header that is not there, bytes that run into the next entry; "damaged_body": an
        encrypted page; "damaged_compression": data that does not decode, or fails its checksum. An archive that breaks
        off ends with one "damaged_end"; one without a single entry is "damaged_header".

    Raises:
        SourceError: a file is not there.
        OSError: the disk or the network failed.
    """
    if not piece.members:
        with open_input(piece.location) as file:
            if _is_archive(file, piece.file_path):
                yield from _zip_records(file, piece, counts)
                return
    yield from read_files(piece, _MEDIA_TYPE)


def _is_archive(file: IO[bytes], name: str) -> bool:
    return is_zip(file) or name.lower().endswith(".zip")


def _zip_records(file: IO[bytes], piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    entries = read_directory(file)
    if entries is None:
        yield from _scan(file, piece, counts)
        return
    for entry in entries:
        if not piece.start <= entry.start < piece.end:
            continue
        if not entry.name.lower().endswith(_PAGES):
            counts["zip_other"] += 1
            continue
        content, reason, _ = read_entry(file, entry, piece)
        yield _record(piece, entry, content, reason)


def _scan(file: IO[bytes], piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The pages of an archive whose directory is missing or broken, found by their local headers."""
    size = file.seek(0, io.SEEK_END)
    position = 0
    reason: DamageReason | None = None
    while (entry := next_entry(file, position)) is not None:
        content, reason, end = read_entry(file, entry, piece)
        position = end if end <= size else entry.start + 1  # its lengths are wrong, so that others may follow
        if entry.name.lower().endswith(_PAGES):
            yield _record(piece, entry, content, reason)
        else:
            counts["zip_other"] += 1
            reason = None
    if reason != "damaged_end":
        what: DamageReason = "damaged_end" if position else "damaged_header"
        yield damaged(piece.file_path, position, size - position, reason=what)


def _record(piece: Slice, entry: Entry, content: bytes, reason: DamageReason | None) -> Record:
    if not entry.has_safe_name:
        return damaged(piece.file_path, entry.start, entry.n_stored, reason=reason or "damaged_header")
    return file_record(f"{piece.file_path}/{entry.name}", entry.start, entry.n_stored, content, reason, _MEDIA_TYPE)
