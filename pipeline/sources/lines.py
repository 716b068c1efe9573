"""Lines of a file: of a byte range where it lies there as it is, of the whole content where it is packed."""

import codecs
import io
from collections.abc import Iterator
from typing import Final, NamedTuple

from corpusmill.pipeline.sources.record import DamageReason, Slice, open_input
from corpusmill.pipeline.sources.unpack import Unpacked, is_packed

__all__ = ["Line", "line_ranges", "read_lines"]

_BLOCK: Final = 1 << 20


class Line(NamedTuple):
    """A line, or a stretch that cannot be read.

    Attributes:
        offset: where it starts, in bytes of the content.
        length: with its end, in bytes of the content; None in a packed file.
        content: its bytes with the line end, without a byte order mark; empty where there is a `reason`.
        reason: what is wrong with the stretch.
    """

    offset: int
    length: int | None
    content: bytes
    reason: DamageReason | None = None


def line_ranges(location: str, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of `target_bytes`; a packed file is one range. A line belongs to the range that its first byte is in.

    Raises:
        SourceError: there is no such file.
    """
    with open_input(location) as file:
        if is_packed(file):
            return [(0, n_bytes)]
    starts = range(0, max(n_bytes, 1), target_bytes)
    return [(start, min(start + target_bytes, n_bytes)) for start in starts]


def read_lines(stream: io.BufferedReader, unpacked: Unpacked | None, piece: Slice) -> Iterator[Line]:
    r"""The lines (ended by \n) of a range that `ranges` gave, in bounded memory.

    A line of more than `piece.max_bytes`, its end included, is "too_large". Where a packed file breaks off, the line
    that was begun belongs to the damage, as does the rest of a line that the content goes on with; a member that
    follows damage is taken to begin with a line unless one before ended within a line.

    Args:
        stream: the content, from `open_content`.
        unpacked: what unpacks it, if it is packed.
        piece: the range.
    """
    if unpacked is not None:
        yield from _packed_lines(stream, unpacked, piece.max_bytes)
        return
    offset = piece.start
    if offset > 0:  # the line that runs into the range belongs to the one before
        stream.seek(offset - 1)
        offset += _skip_line(stream, piece.end - offset + 1) - 1
    while offset < piece.end:
        content, length = _read_line(stream, piece.max_bytes)
        if not length:
            break
        yield _line(offset, length, content, length)
        offset += length


def _packed_lines(stream: io.BufferedReader, unpacked: Unpacked, max_bytes: int) -> Iterator[Line]:
    offset = 0
    damaged_at: int | None = None
    is_rest = False
    while True:
        content, length = _read_line(stream, max_bytes)
        if unpacked.damage is not None:
            length = max(1, length)  # so that no line that follows has the place of the damage
            if offset != damaged_at:  # else no line lies between the two
                yield Line(offset, None, b"", unpacked.damage)
            damaged_at = offset + length
            unpacked.resume()
            is_rest = not unpacked.ends_lines
        elif not length:
            return
        elif is_rest:
            is_rest = False
        else:
            yield _line(offset, length, content, None)
        offset += length


def _line(offset: int, n_bytes: int, content: bytes, length: int | None) -> Line:
    if len(content) < n_bytes:
        return Line(offset, length, b"", "too_large")
    return Line(offset, length, content.removeprefix(codecs.BOM_UTF8) if offset == 0 else content)


def _read_line(stream: io.BufferedReader, max_bytes: int) -> tuple[bytes, int]:
    """The next line and its length in bytes; of one above `max_bytes` only the beginning."""
    content = stream.readline(max_bytes)
    n_bytes = len(content)
    if n_bytes == max_bytes and not content.endswith(b"\n"):
        n_bytes += _skip_line(stream)
    return content, n_bytes


def _skip_line(stream: io.BufferedReader, most: int | None = None) -> int:
    """Skip the rest of a line, but no more than `most` bytes; returns the number of bytes."""
    n_bytes = 0
    while most is None or n_bytes < most:
        limit = _BLOCK if most is None else min(_BLOCK, most - n_bytes)
        part = stream.readline(limit)
        n_bytes += len(part)
        if len(part) < limit or part.endswith(b"\n"):
            break
    return n_bytes
