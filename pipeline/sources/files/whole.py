"""Files that are one record each: the members of a slice, or the one file that it is."""

import codecs
import io
from collections.abc import Iterator
from typing import Final

from corpusmill.pipeline.sources.record import DamageReason, Record, Slice, damaged, open_input
from corpusmill.pipeline.sources.unpack import open_content

__all__ = ["UTF16_MARKS", "file_record", "is_binary", "read_files"]

_CONTROL: Final = bytes({*range(0x20)} - {*b"\t\n\v\f\r\x0e\x0f\x1b"})  # shifts and ESC are part of ISO 2022 text
UTF16_MARKS: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_files(piece: Slice, media_type: str) -> Iterator[Record]:
    """A record for each file, with all of its bytes; packed files (gzip, zstd) are told by their first bytes.

    Args:
        piece: the files.
        media_type: of the content.

    Yields:
        What `file_record` makes; "too_large" for a file of more than `piece.max_bytes` bytes, "bomb" for one that grows
        too much, "damaged_compression" and "damaged_end" for a packed one that cannot be decoded.

    Raises:
        SourceError: a file is not there.
        OSError: the disk or the network failed.
    """
    members = [(name, f"{piece.location}/{name}") for name, _ in piece.members]
    if not members and piece.start == 0:  # ranges after the first one hold nothing more
        members = [(piece.file_path, piece.location)]
    for name, location in members:
        content = b""
        reason: DamageReason | None = None
        with open_input(location) as file:
            size = file.seek(0, io.SEEK_END)
            stream, unpacked = open_content(file, piece)
            if size <= piece.max_bytes:
                content = stream.read(piece.max_bytes + 1)
                reason = None if unpacked is None else unpacked.damage
            if max(size, len(content)) > piece.max_bytes:
                reason = "too_large"
        yield file_record(name, 0, size if unpacked is None else None, content, reason, media_type)


def file_record(
    name: str, offset: int, length: int | None, content: bytes, reason: DamageReason | None, media_type: str
) -> Record:
    """The record of a file in a folder or an archive.

    Args:
        name: its path, which is the record's `file_path`; with the offset it is the key.
        offset: see `Record`.
        length: see `Record`.
        content: its bytes.
        reason: why it could not be read.
        media_type: of the content.

    Returns:
        The record; "no_text" for an empty file, "damaged_row" for one that is not text.
    """
    if reason is None and is_binary(content) and not _is_utf16(content):
        reason = "damaged_row"
    if reason is not None:
        record = damaged(name, offset, length, reason=reason)
    else:
        record = Record(key=f"{name}:{offset}:0", offset=offset, length=length)
        record.content, record.media_type = (content, media_type) if content else (None, None)
        record.reason = None if content else "no_text"
    record.file_path = name
    return record


def is_binary(content: bytes) -> bool:
    """Whether more than one byte, and more than a hundredth of all, are control characters that text does not have."""
    n_control = len(content) - len(content.translate(None, _CONTROL))
    return n_control > 1 + len(content) // 100


def _is_utf16(content: bytes) -> bool:
    """Whether there is a byte order mark, or NUL bytes stand where the high bytes of Latin letters are."""
    even, odd = content[::2].count(0), content[1::2].count(0)
    return content.startswith(UTF16_MARKS) or 20 * min(even, odd) < max(even, odd) > len(content) // 8
