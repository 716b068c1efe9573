"""The text of a run of gzip members (RFC 1952), with the place of each member, and the search for members.

The module decodes members itself, by zlib's raw inflate: a library that reads gzip files tells neither where a member
lies nor, if its checksum is wrong, where it ends. That is the best evidence there is of where to read on: what a broken
member holds, whole gzip files included, is not searched for members as long as its end can be found.
"""

import re
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from corpusmill.pipeline.sources.record import DamageReason, Slice
from corpusmill.pipeline.sources.unpack import GZIP_HEADER
from corpusmill.pipeline.sources.warc.text import BLOCK, Member, Region, Stop, Text

__all__ = ["MAGIC", "GzipText", "find_members"]

MAGIC: Final = b"\x1f\x8b"

_METHOD: Final = 8  # deflate
_CRC, _EXTRA, _NAME, _COMMENT, _RESERVED = 2, 4, 8, 16, 0xE0  # RFC 1952 §2.3.1
_FIXED: Final = 10
_TRAILER: Final = 8
_INPUT: Final = 1 << 14
_PROBE: Final = 1 << 10
_PROBED: Final = 1 << 6  # enough to tell chance; damage behind it costs less than all
_MEMBER = re.compile(rb"(?=%b)" % GZIP_HEADER, re.DOTALL)  # members may seem to begin within others


def find_members(region: Region, start: int, until: int | None = None) -> Iterator[int]:
    """Offsets from `start` on, and before `until`, at which a gzip member that is not empty seems to begin."""
    position = start
    while position < region.end and (until is None or position < until):
        block = region.look(position, BLOCK + _FIXED - 1)
        for match in _MEMBER.finditer(block):
            if until is not None and position + match.start() >= until:
                return
            if _has_content(region.look(position + match.start(), _PROBE)):
                yield position + match.start()
        if len(block) < _FIXED:
            return
        position += len(block) - _FIXED + 1


def _has_content(data: bytes) -> bool:
    try:
        size = _header_size(data)
        return size is not None and bool(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[size:], _PROBED))
    except (EOFError, zlib.error):
        return False


def _header_size(head: bytes) -> int | None:
    """Length of the gzip header at the start of `head`; None if it is none.

    Raises:
        EOFError: the header does not end within `head`.
    """
    if not head.startswith(MAGIC[: len(head)]):
        return None
    if len(head) < _FIXED:
        raise EOFError
    flags = head[3]
    if head[2] != _METHOD or flags & _RESERVED:
        return None
    size = _FIXED
    if flags & _EXTRA:
        size += 2 + int.from_bytes(head[size : size + 2], "little")
    for flag in (_NAME, _COMMENT):
        if flags & flag:
            size = head.find(b"\0", size) + 1
            if size == 0:
                raise EOFError
    if flags & _CRC:
        size += 2
    if size > len(head):
        raise EOFError
    return size


class GzipText(Text):
    """The text of the gzip members that follow each other from an offset on, up to the first that is not sound.

    Args:
        region: the file.
        offset: where the first member begins.
        window: see `Text`.
        piece: its limits tell what a bomb is.

    Attributes:
        work: bytes read and decoded.
    """

    def __init__(self, region: Region, offset: int, window: int, piece: Slice) -> None:
        super().__init__(0, window)
        self.work = 0
        self._region = region
        self._piece = piece
        self._members: deque[Member] = deque()
        self._open: Member | None = None
        self._next = offset
        self._input = b""
        self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc = 0

    def member(self, position: int) -> Member:
        """See `Text.member`."""
        return next((m for m in reversed(self._members) if m.start <= position), self._members[0])

    def boundary(self, position: int) -> int | None:
        """See `Text.boundary`."""
        return next((m.end for m in self._members if m.end is not None and m.end >= position), None)

    def ends_at(self, position: int) -> int | None:
        """See `Text.ends_at`."""
        return next((m.after for m in self._members if m.end == position and m.sound), None)

    @property
    def n_members(self) -> int:
        """How many members are known."""
        return len(self._members)

    def leads_to(self, offset: int) -> bool:
        """Whether a sound member ends just at an offset; reads up to there."""
        while self._next - len(self._input) < offset and self.end - self.position <= self.window and self.more():
            pass
        return any(member.after == offset and member.sound for member in self._members)

    def drop(self, position: int) -> None:
        """See `Text.drop`."""
        super().drop(position)
        while len(self._members) > 1 and self._members[1].start <= self.position:
            self._members.popleft()

    def more(self) -> bool:
        """See `Text.more`."""
        while self.stop is None:
            if self._open is None:
                self._begin_member()
            elif self._decode(self._open):
                return True
        return False

    def _fetch(self) -> bool:
        data = self._region.look(self._next, _INPUT)
        self._next += len(data)
        self._input += data
        self.work += len(data)
        return bool(data)

    def _stop(self, reason: DamageReason | None, offset: int, resume: int) -> None:
        self.stop = Stop(reason, offset, resume)

    def _begin_member(self) -> None:
        offset = self._next - len(self._input)
        size: int | None = None
        while size is None:
            try:
                size = _header_size(self._input)
            except EOFError:
                if len(self._input) <= 2 * BLOCK and self._fetch():
                    continue
                at_end = self._next == self._region.end
                if offset == self._region.end:
                    self._stop(None, offset, offset)
                else:
                    self._stop("damaged_end" if at_end else "damaged_compression", offset, offset + 1)
                return
            if size is None:
                is_gzip = self._input.startswith(MAGIC)
                self._stop("damaged_compression" if is_gzip else "damaged_header", offset, offset + 1)
                return
        self._input = self._input[size:]
        self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
        self._crc = 0
        self._open = Member(offset, self.end)
        if self._members and self._members[-1].start == self.end:
            self._members.pop()  # without content it is of no use, and there may be millions
        self._members.append(self._open)

    def _decode(self, member: Member) -> bool:
        """Decode some of a member; False if that brought no text."""
        if not self._input and not self._fetch():
            self._stop("damaged_end", member.offset, member.offset + 1)
            return False
        before = self._decoder.copy()
        try:
            text = self._decoder.decompress(self._input, BLOCK)
        except zlib.error:
            text = _decode_until_error(before, self._input)
            self.buffer += text
            self.work += len(text)
            self._stop("damaged_compression", member.offset, member.offset + 1)
            return bool(text)
        self._input = self._decoder.unused_data if self._decoder.eof else self._decoder.unconsumed_tail
        self._crc = zlib.crc32(text, self._crc)
        self.buffer += text
        self.work += len(text)
        n_stored = self._next - len(self._input) - member.offset
        n_text = self.end - member.start
        if self._decoder.eof:
            self._end_member(member, n_text)
        elif n_text > self.window and self._piece.is_bomb(n_stored, n_text):
            self._stop("bomb", member.offset, member.offset + 1)
        return bool(text)

    def _end_member(self, member: Member, n_text: int) -> None:
        while len(self._input) < _TRAILER and self._fetch():
            pass
        if len(self._input) < _TRAILER:
            self._stop("damaged_end", member.offset, member.offset + 1)
            return
        trailer = self._crc.to_bytes(4, "little") + (n_text & 0xFFFFFFFF).to_bytes(4, "little")
        matches = self._input.startswith(trailer)
        self._input = self._input[_TRAILER:]
        member.after = self._next - len(self._input)
        member.end = self.end
        reason: DamageReason | None = None
        if not matches:
            reason = "damaged_compression"
        elif self._piece.is_bomb(member.after - member.offset, n_text):
            reason = "bomb"
        if reason is None:
            member.sound = True
            self._open = None
        else:
            is_proper = member.after == self._region.end or self._region.look(member.after, 2) == MAGIC
            self._stop(reason, member.offset, member.after if is_proper else member.offset + 1)


def _decode_until_error(decoder: Any, data: bytes) -> bytes:
    """What decodes before the damage: zlib gives nothing of a piece of its input with an error in it."""
    text = bytearray()
    try:
        for i in range(len(data)):
            text += decoder.decompress(data[i : i + 1])
            if len(text) >= BLOCK:
                break
    except zlib.error:
        pass
    return bytes(text)
