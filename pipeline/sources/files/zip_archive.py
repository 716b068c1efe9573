"""Files in a zip archive (PKWARE APPNOTE), read so that no archive can do harm: nothing is ever written.

`zipfile` reads the central directory. Where that is missing or broken, entries are found by their local headers, from
front to back. Contents are decoded here, piece by piece, so that sizes and ratios are what they are, not what headers
say.
"""

import io
import re
import struct
import zipfile
import zlib
from dataclasses import dataclass
from typing import IO, Final

from corpusmill.pipeline.sources.record import DamageReason, Slice

__all__ = ["Entry", "is_zip", "next_entry", "read_directory", "read_entry"]

_LOCAL: Final = b"PK\x03\x04"
_EMPTY: Final = b"PK\x05\x06"
_HEADER: Final = struct.Struct("<4xHHHHHLLLHH")
_ENCRYPTED: Final = 0x1
_SIZES_FOLLOW: Final = 0x8
_UTF8: Final = 0x800
_STORED: Final = 0
_DEFLATED: Final = 8
_UNKNOWN: Final = 0xFFFFFFFF
_MAX_NAME: Final = 4096  # as long as file systems allow; headers of nothing but a name would take long otherwise
_UNSAFE: Final = re.compile(r"^[A-Za-z]:|\\|[\x00-\x1f\x7f]|(?:^|/)(?:\.{1,2})?(?:/|$)")
_PIECE: Final = 1 << 10
_BLOCK: Final = 1 << 16
_ERRORS: Final = (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A file of an archive.

    Attributes:
        name: path in the archive.
        start: where its local header begins.
        n_stored: its stored bytes; None where only its end tells.
        n_bytes: its bytes when unpacked, as the archive says; None where it does not.
        method: of compression.
        flags: general purpose bit flag.
        checksum: CRC-32; None where it is not known.
        overlaps: whether it runs into the next one, as in archives made to do harm.
    """

    name: str
    start: int
    n_stored: int | None
    n_bytes: int | None
    method: int
    flags: int
    checksum: int | None
    overlaps: bool = False

    @property
    def has_safe_name(self) -> bool:
        """Whether the name is a path below the archive, on every operating system."""
        return _UNSAFE.search(self.name) is None


def is_zip(file: IO[bytes]) -> bool:
    """Whether a file is an archive, by its first bytes; the file is left at its start."""
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    return head in (_LOCAL, _EMPTY)


def read_directory(file: IO[bytes]) -> list[Entry] | None:
    """The entries that the central directory names, in the order of their bytes; None if it cannot be read.

    Of several names for the same bytes it is the first.

    Raises:
        OSError: the disk or the network failed.
    """
    try:
        infos = zipfile.ZipFile(file).infolist()
    except _ERRORS:
        return None
    last = file.seek(0, io.SEEK_END) - 1
    found: dict[int, zipfile.ZipInfo] = {}
    for info in infos:
        found.setdefault(min(max(0, info.header_offset), last), info)
    entries = []
    starts = sorted(found)
    for start, limit in zip(starts, [*starts[1:], last + 1], strict=False):
        info = found[start]
        raw = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
        entries.append(
            Entry(
                name=_decode(raw),
                start=start,
                n_stored=info.compress_size,
                n_bytes=info.file_size,
                method=info.compress_type,
                flags=info.flag_bits,
                checksum=info.CRC,
                overlaps=start + _HEADER.size + len(raw) + info.compress_size > limit,
            )
        )
    return entries


def _decode(name: bytes) -> str:
    """A name in UTF-8, which many tools use without saying so, else in code page 437 (APPNOTE, appendix D)."""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("cp437")


def next_entry(file: IO[bytes], position: int) -> Entry | None:
    """The entry of the next local header from a position on; None if there is no other."""
    start = _find(file, position)
    if start is None:
        return None
    file.seek(start)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return None
    _, flags, method, _, _, checksum, n_stored, n_bytes, n_name, _ = _HEADER.unpack(header)
    is_known = n_stored != _UNKNOWN and not (flags & _SIZES_FOLLOW and n_stored == 0)
    return Entry(
        name=_decode(file.read(min(n_name, _MAX_NAME))),
        start=start,
        n_stored=n_stored if is_known else None,
        n_bytes=n_bytes if is_known else None,
        method=method,
        flags=flags,
        checksum=checksum if is_known else None,
    )


def _find(file: IO[bytes], position: int) -> int | None:
    file.seek(position)
    while block := file.read(_BLOCK):
        found = block.find(_LOCAL)
        if found >= 0:
            return position + found
        position += len(block)
        if len(block) == _BLOCK:
            position -= len(_LOCAL) - 1
            file.seek(position)
    return None


def read_entry(file: IO[bytes], entry: Entry, piece: Slice) -> tuple[bytes, DamageReason | None, int]:
    """The content of an entry.

    Args:
        file: the archive.
        entry: one of its entries.
        piece: sets the largest content and the largest ratio.

    Returns:
        Content, why there is none, and the position behind it.
    """
    file.seek(entry.start)
    header = file.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_LOCAL):
        return b"", "damaged_header", entry.start + len(_LOCAL)
    *_, n_name, n_extra = _HEADER.unpack(header)
    start = entry.start + _HEADER.size + n_name + n_extra
    file.seek(start)
    reason = _refuse(entry, piece)
    content = b""
    n_read = 0
    if reason is None:
        content, reason, n_read = _unpack(file, entry, piece)
    return content, reason, start + (n_read or entry.n_stored or 0)


def _refuse(entry: Entry, piece: Slice) -> DamageReason | None:
    """What the headers alone say against reading an entry."""
    if not entry.has_safe_name or entry.overlaps:
        return "damaged_header"
    if entry.flags & _ENCRYPTED:
        return "damaged_body"
    if entry.method not in (_STORED, _DEFLATED):
        return "damaged_compression"
    if entry.n_stored is None or entry.n_bytes is None:
        return "damaged_header" if entry.method == _STORED else None
    if piece.is_bomb(entry.n_stored, entry.n_bytes):
        return "bomb"
    return "too_large" if entry.n_bytes > piece.max_bytes else None


def _unpack(file: IO[bytes], entry: Entry, piece: Slice) -> tuple[bytes, DamageReason | None, int]:
    """Content, why there is none, and the number of stored bytes that were read."""
    decoder = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == _DEFLATED else None
    content = io.BytesIO()
    n_read = 0
    while decoder is None or not decoder.eof:
        block = file.read(_PIECE if entry.n_stored is None else min(_PIECE, entry.n_stored - n_read))
        n_read += len(block)
        if not block:
            break
        try:
            content.write(block if decoder is None else decoder.decompress(block))
        except zlib.error:
            return b"", "damaged_compression", n_read
        if piece.is_bomb(n_read, content.tell()):
            return b"", "bomb", n_read
        if content.tell() > piece.max_bytes:
            return b"", "too_large", n_read
    if decoder is not None and decoder.eof:
        n_read -= len(decoder.unused_data)
    elif decoder is not None or n_read != entry.n_stored:
        is_cut = entry.n_stored is None or n_read < entry.n_stored
        return b"", "damaged_end" if is_cut else "damaged_compression", n_read
    if entry.checksum not in (None, zlib.crc32(content.getbuffer())):
        return b"", "damaged_compression", n_read
    return content.getvalue(), None, n_read
