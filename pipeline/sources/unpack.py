"""Content of files packed by gzip (RFC 1952) or zstd (RFC 8878): in bounded memory, and on after damage.

Both formats allow several streams (members, frames) after each other, so behind damage the next one can be read.
"""

import io
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, Any, Final, Protocol

import zstandard

from corpusmill.pipeline.sources.record import DamageReason, Slice

__all__ = ["GZIP_HEADER", "Decoder", "Unpacked", "is_packed", "open_content"]

_PIECE: Final = 1 << 10
"""Packed bytes that are decoded at a time; the most that they grow to is 1 MB in gzip, 32 MB in zstd."""

_BLOCK: Final = 1 << 16
_BUFFER: Final = 1 << 18
_HEADER: Final = 10
_NOT_PADDING: Final = re.compile(rb"[^\0]")


class Decoder(Protocol):
    """What the decoders of gzip and zstd have in common: `zlib.decompressobj`, `ZstdDecompressor.decompressobj`."""

    @property
    def eof(self) -> bool:
        """Whether the stream has ended."""

    @property
    def unused_data(self) -> bytes:
        """What came behind its end."""

    def decompress(self, data: bytes, /) -> bytes:
        """What further bytes decode to."""


@dataclass(frozen=True, slots=True)
class _Format:
    """How a stream begins (`magic`), how to tell that from chance behind damage (`header`), and its decoder."""

    magic: re.Pattern[bytes]
    header: re.Pattern[bytes]
    decoder: Callable[[], Decoder]


GZIP_HEADER: Final = rb"\x1f\x8b\x08[\x00-\x1f].{4}[\x00\x02\x04]."
"""Pattern (DOTALL) of what gzip members begin with as writers make them, not chance or malice.

The reserved flags are 0, and of the extra flags there are only those that RFC 1952 §2.3.1 defines. The system is any:
macOS writes 19, which the RFC does not know.
"""

_FRAME: Final = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # a frame, or one that is to be skipped
_FORMATS: Final = (
    _Format(
        re.compile(rb"\x1f\x8b"),
        re.compile(GZIP_HEADER, re.DOTALL),
        lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    ),
    _Format(_FRAME, _FRAME, lambda: zstandard.ZstdDecompressor().decompressobj()),
)


def is_packed(file: IO[bytes]) -> bool:
    """Whether a file is packed, by its first bytes; the file is left at its start."""
    return _format(file) is not None


def open_content(file: io.BufferedReader, piece: Slice) -> tuple[io.BufferedReader, "Unpacked | None"]:
    """The content of a file as a stream, and the unpacker that tells about damage; None for a file as it is."""
    found = _format(file)
    if found is not None:
        unpacked = Unpacked(file, piece, found)
        return io.BufferedReader(unpacked, _BUFFER), unpacked
    return file, None


def _format(file: IO[bytes]) -> _Format | None:
    file.seek(0)
    head = file.read(4)
    file.seek(0)
    return next((form for form in _FORMATS if form.magic.match(head)), None)


class Unpacked(io.RawIOBase):
    """The content of a packed file, as a stream that can break off and go on.

    Where `damage` is set, reads bring nothing until `resume` is called; they then go on at the next member or frame
    that begins behind the damage. Behind a bomb nothing follows. What can be decoded before the damage comes before it.
    NUL bytes after a member are padding, as for gzip itself.

    Attributes:
        damage: why the content breaks off here; None where a read that brings nothing is the end of the file.
        ends_lines: whether all members so far end with a line, so that the next one begins with one.
    """

    def __init__(self, file: io.BufferedReader, piece: Slice, form: _Format) -> None:
        self.damage: DamageReason | None = None
        self.ends_lines = True
        self._file = file
        self._piece = piece
        self._format = form
        self._decoder: Decoder | None = None
        self._start = 0
        self._lost = False
        self._ready = memoryview(b"")
        self._last = b""
        self._n_bytes = 0
        self._broken: DamageReason | None = None

    def readable(self) -> bool:
        """True."""
        return True

    def resume(self) -> None:
        """Go on behind the damage."""
        self.damage = self._broken = None

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer with what comes next; returns the number of bytes."""
        while not self._ready and self._broken is None and self._advance():
            pass
        if not self._ready:
            self.damage = self._broken
            return 0
        n = min(len(buffer), len(self._ready))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def _advance(self) -> bool:
        """One step: to the next member, or through the next bytes of this one. False at the end of the file."""
        if self._decoder is None:
            return self._begin()
        position = self._file.tell()
        piece = self._file.read(_PIECE)
        if not piece:
            self._break("damaged_end")
            return True
        try:
            content = self._decoder.decompress(piece)
        except (zlib.error, zstandard.ZstdError):
            content = self._salvage(position)
            self._break("damaged_compression")
        else:
            self._last = content[-1:] or self._last
            if self._decoder.eof:
                self._file.seek(-len(self._decoder.unused_data), io.SEEK_CUR)
                self._decoder = None
                self.ends_lines = self.ends_lines and self._last in (b"", b"\n")
        self._n_bytes += len(content)
        if self._piece.is_bomb(self._file.tell(), self._n_bytes):
            content = b""
            self._break("bomb")
            self._file.seek(0, io.SEEK_END)
        self._ready = memoryview(content)
        return True

    def _begin(self) -> bool:
        pattern = self._format.header if self._lost else _NOT_PADDING
        found = (not self._lost and self._is_at_member()) or self._seek(pattern)
        self._lost = False
        if found and self._is_at_member():
            self._start = self._file.tell()
            self._decoder = self._format.decoder()
        elif found:
            self._break("damaged_compression")
        return found

    def _is_at_member(self) -> bool:
        head = self._file.read(4)
        self._file.seek(-len(head), io.SEEK_CUR)
        return self._format.magic.match(head) is not None

    def _seek(self, pattern: re.Pattern[bytes]) -> bool:
        """Go to the next place that looks like `pattern`; False where there is none."""
        size = _PIECE
        while block := self._file.read(size):
            found = pattern.search(block)
            if found:
                self._file.seek(found.start() - len(block), io.SEEK_CUR)
                return True
            if len(block) == size:
                self._file.seek(1 - _HEADER, io.SEEK_CUR)
            size = _BLOCK
        return False

    def _break(self, reason: DamageReason) -> None:
        self._broken = reason
        self._decoder = None
        self._lost = True

    def _salvage(self, position: int) -> bytes:
        """What the bytes from `position` on decode to before the first bad one; goes behind that.

        A decoder that fails keeps what it decoded in that call to itself, and a checksum fails at the very end. So the
        member is decoded once more, its last bytes one by one.
        """
        decoder = self._format.decoder()
        self._file.seek(self._start)
        content = b""
        try:
            while self._file.tell() < position:
                decoder.decompress(self._file.read(_PIECE))
            while byte := self._file.read(1):
                content += decoder.decompress(byte)
        except (zlib.error, zstandard.ZstdError):
            pass
        return content
