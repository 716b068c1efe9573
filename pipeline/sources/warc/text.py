"""Bytes that a record reader looks at ahead of where it reads: those of a plain file here, of gzip in `gzip_text`."""

import abc
from dataclasses import dataclass
from typing import IO, Final

from corpusmill.pipeline.sources.record import DamageReason

__all__ = ["BLOCK", "Member", "PlainText", "Region", "Stop", "Text"]

BLOCK: Final = 1 << 16
_BLANK: Final = b" \t\r\n"


class Region:
    """A stretch of an original file, wherever it is stored; positions are those in the original.

    Args:
        file: what holds the stretch.
        stored_at: where in `file` it begins.
        start: where in the original it begins.
        length: its bytes.
    """

    def __init__(self, file: IO[bytes], stored_at: int, start: int, length: int) -> None:
        self.start = start
        self.end = start + length
        self._file = file
        self._shift = stored_at - start
        self.seek(start)

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, position: int) -> int:
        """Go to a position."""
        self._file.seek(position + self._shift)
        self._position = position
        return position

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the region, or of the file."""
        data = self._file.read(max(0, min(size, self.end - self._position)))
        self._position += len(data)
        return data

    def look(self, position: int, size: int) -> bytes:
        """Up to `size` bytes at a position."""
        if position >= self.end:
            return b""  # no disk seeks to where a record of absurd length would end
        if position != self._position:
            self.seek(position)
        return self.read(size)


@dataclass(slots=True)
class Member:
    """A gzip member, or a whole plain file; its content is `start` to `end` of the text.

    Attributes:
        offset: where it begins in the file.
        start: where its content begins in the text.
        end: where its content ends, None while that is not known.
        after: the offset behind it, None while that is not known.
        sound: whether all of it was read and its checksum is right.
    """

    offset: int
    start: int
    end: int | None = None
    after: int | None = None
    sound: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a text goes no further.

    Attributes:
        reason: what is wrong; None at the end of the file.
        offset: of the member, or the stretch between members, that cannot be read.
        resume: offset from which on another member may be found.
    """

    reason: DamageReason | None
    offset: int
    resume: int


class Text(abc.ABC):
    """A text that is read from front to back, with a window in which any place can be looked at.

    Positions count the bytes of the text. Those before `position`, the front, are gone.

    Attributes:
        position: the front.
        buffer: what is held, from the front on.
        window: most bytes that are held ahead of the front.
        stop: set when nothing more can be read.
    """

    def __init__(self, position: int, window: int) -> None:
        self.position = position
        self.buffer = bytearray()
        self.window = window
        self.stop: Stop | None = None

    @property
    def end(self) -> int:
        """Where what is held ends."""
        return self.position + len(self.buffer)

    @abc.abstractmethod
    def more(self) -> bool:
        """Hold some more bytes; False, with `stop` set, when there are none."""

    @abc.abstractmethod
    def member(self, position: int) -> Member:
        """The member that holds the byte at a position; the last one that is known where none does."""

    @abc.abstractmethod
    def boundary(self, position: int) -> int | None:
        """Where the first member ends that ends at `position` or behind; None while that is not known."""

    @abc.abstractmethod
    def ends_at(self, position: int) -> int | None:
        """The offset at which the file can be read on if a record ends at `position`; None within a member."""

    def settle(self, member: Member) -> None:
        """Read on until it is known where a member ends and whether it is sound, or the window is full."""
        while member.end is None and self.end - self.position <= self.window and self.more():
            pass

    def reach(self, position: int) -> bool:
        """Hold all up to `position`; False if the text is shorter, or the window."""
        while self.end < position:
            if position - self.position > self.window or not self.more():
                return False
        return True

    def look(self, position: int, size: int) -> bytes:
        """Up to `size` bytes at a position; fewer where the text or the window ends."""
        while self.end < position + size and self.end - self.position <= self.window and self.more():
            pass
        return bytes(self.buffer[position - self.position : position - self.position + size])

    def drop(self, position: int) -> None:
        """Move the front forward to `position`, or to the end of the text."""
        while self.end < position:
            self.position = self.end
            self.buffer.clear()
            if not self.more():
                return
        del self.buffer[: position - self.position]
        self.position = position

    def drop_blank(self) -> None:
        """Move the front over blanks and ends of lines."""
        while True:
            block = self.buffer[:64]
            n_blank = len(block) - len(block.lstrip(_BLANK))
            if n_blank < len(block) or not (block or self.more()):
                self.drop(self.position + n_blank)
                return
            self.drop(self.position + n_blank)

    def blank(self, position: int) -> int:
        """The first position from `position` on that is no blank and no end of a line, within some kilobytes."""
        text = self.look(position, 1 << 12)
        return position + len(text) - len(text.lstrip(_BLANK))


class PlainText(Text):
    """An uncompressed file, from an offset on; positions are offsets, and `look` reaches everywhere."""

    def __init__(self, region: Region, offset: int, window: int) -> None:
        super().__init__(offset, window)
        self._region = region
        self._file = Member(region.start, region.start, region.end, region.end, sound=True)

    def more(self) -> bool:
        """See `Text.more`."""
        data = self._region.look(self.end, BLOCK)
        self.buffer += data
        if not data:
            self.stop = Stop(None, self.end, self.end)
        return bool(data)

    def member(self, position: int) -> Member:
        """See `Text.member`."""
        return self._file

    def boundary(self, position: int) -> int | None:
        """See `Text.boundary`."""
        return self._region.end

    def ends_at(self, position: int) -> int | None:
        """See `Text.ends_at`."""
        return position

    def reach(self, position: int) -> bool:
        """See `Text.reach`: whether the file is that long."""
        return position <= self._region.end

    def look(self, position: int, size: int) -> bytes:
        """See `Text.look`."""
        if position + size - self.position <= self.window:
            return super().look(position, size)
        return self._region.look(position, size)

    def drop(self, position: int) -> None:
        """See `Text.drop`."""
        if position <= self.end:
            super().drop(position)
        else:
            self.buffer.clear()
            self.position = min(position, self._region.end)
