"""bzip2 block by block: every block has a checksum, so what is read is verified, and damage costs a block.

A file is one or more streams: "BZh" and a digit, blocks, a footer. A stream begins on a byte, blocks and footer on any
bit, each with a magic number of 48 bits (J. Tsai, "BZIP2: Format Specification", 2016). As bzip2recover does, a block
is cut out by these numbers and decoded as a stream of its own. In compressed data such a number stands by chance once
in 2^48 bits; if one cuts a block in two, its halves are decoded as one.

Places in this module are bytes where they are called start and end, and bits where they are called bit.
"""

import bz2
import io
import re
from collections import deque
from collections.abc import Iterator
from itertools import chain, islice, pairwise
from typing import IO, Final, Literal

from corpusmill.pipeline.sources.record import DamageReason, Slice

__all__ = ["is_bzip2", "read_blocks", "stream_starts", "streams"]

_BLOCK: Final = 0x314159265359
_FOOTER: Final = 0x177245385090
_MAGIC_BITS: Final = 48
_FOOTER_BITS: Final = 80  # the magic number and the checksum of the stream
_HEADER_BITS: Final = 32
_PADDING_BITS: Final = 7  # at most, so that a stream ends with a byte
_MAX_FOOTER: Final = 11  # bytes that it covers
_HEADER: Final = re.compile(rb"BZh[1-9]")
_BLOCK_BYTES: Final = _BLOCK.to_bytes(6, "big")
_FOOTER_BYTES: Final = _FOOTER.to_bytes(6, "big")
_ALIGNED_BLOCK: Final = re.compile(re.escape(_BLOCK_BYTES))
_OVERLAP: Final = 24  # one byte less than the longest thing looked for: a footer, a header and the start of a block
_WINDOW: Final = 1 << 18
_PIECE: Final = 1 << 20
_MAX_BLOCK: Final = 1 << 20  # packed: bzip2 makes a block of 900,000 bytes at most 1 % longer, and 600 bytes

_Edge = tuple[int, Literal["block", "stream", "empty", "end"]]


def is_bzip2(head: bytes) -> bool:
    """Whether a file that begins so is bzip2: by its header, or by a block; no XML holds what that begins with."""
    return head.startswith(b"BZh") or _BLOCK_BYTES in head


def stream_starts(file: IO[bytes], start: int, end: int) -> Iterator[int]:
    """Where streams begin in a range of a file, in bytes, ascending. A header that is damaged follows a footer."""
    last = -1
    for position, window in _windows(file, start, end):
        for at in sorted(at for at, _ in _find_streams(window)):
            if position + at > last:
                last = position + at
                yield last


def streams(file: IO[bytes], start: int, end: int) -> Iterator[tuple[int, int]]:
    """The streams of a range, as (first byte, byte after the last); what lies between two streams counts as one."""
    starts = (found for found in stream_starts(file, start, end) if found > start)
    for first, following in pairwise(chain([start], starts, [end])):
        footer = next(_find_footers(file, first, following), None)
        after = following if footer is None else -(-(footer + _FOOTER_BITS) // 8)
        yield first, after
        if after < following:
            yield after, following


def read_blocks(file: IO[bytes], start: int, end: int, piece: Slice) -> Iterator[bytes | DamageReason]:
    """The content of a range of whole streams, block by block.

    Args:
        file: seekable; others may read from it meanwhile.
        start: first byte of the range.
        end: byte after it.
        piece: says what is a bomb, for each block.

    Yields:
        The content of a block, at most 46 MB, or, for a stretch that cannot be decoded, the reason.
    """
    at_end: DamageReason = "damaged_end" if file.seek(0, io.SEEK_END) == end else "damaged_compression"
    edges = _edges(file, start, end)
    ahead = deque(islice(edges, 3))
    done = start * 8
    while ahead:
        bit, kind = ahead.popleft()
        ahead.extend(islice(edges, 1))
        if bit - done > _PADDING_BITS + (_HEADER_BITS if kind == "block" else 0):
            yield at_end if kind == "end" else "damaged_compression"
        if kind != "block":
            done = bit if kind == "stream" else bit + _HEADER_BITS + _FOOTER_BITS
            continue
        content, done, breaks_off = _read_block(file, bit, ahead[0], piece)
        if content is None and ahead[0][1] == "block":
            content, joined, _ = _read_block(file, bit, ahead[1], piece)
            if content is not None:
                done = joined
                ahead.popleft()
                ahead.extend(islice(edges, 1))
        if content is None:
            content = at_end if breaks_off and ahead[0][1] == "end" else "damaged_compression"
        yield content


def _read_block(file: IO[bytes], bit: int, edge: _Edge, piece: Slice) -> tuple[bytes | DamageReason | None, int, bool]:
    """The content of the block before an edge, see `_decode`; the bit after it; whether its stream breaks off there."""
    after, kind = edge
    if kind == "block":
        content = _decode(file, bit, after, piece)
        if content is not None:
            return content, after, False
    footers = []  # there is one, too, before a block whose stream has lost its header
    for footer in _find_footers(file, bit // 8, after // 8):
        footers.append(footer)
        content = _decode(file, bit, footer, piece)
        if content is not None:
            return content, footer + _FOOTER_BITS, False
    return None, footers[0] + _FOOTER_BITS if footers else after, not footers


def _edges(file: IO[bytes], start: int, end: int) -> Iterator[_Edge]:
    """Where blocks and streams begin, ascending, and the end of the range."""
    last = -1
    for position, window in _windows(file, start, end):
        found: list[_Edge] = [(position * 8 + bit, "block") for bit in _find(window, _BLOCK)]
        found += [((position + at) * 8, kind) for at, kind in _find_streams(window)]
        for bit, kind in sorted(found):
            if bit > last:
                last = bit
                yield bit, kind
    yield end * 8, "end"


def _windows(file: IO[bytes], start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """A range in pieces that overlap, each with where it begins."""
    kept = b""
    while start < end:
        file.seek(start)
        block = file.read(min(_WINDOW, end - start))
        if not block:
            return
        window = kept + block
        yield start - len(kept), window
        start += len(block)
        kept = window[-_OVERLAP:]


def _find(window: bytes, magic: int) -> Iterator[int]:
    """Where a magic number begins, in bits from the start of `window`, in no order.

    It covers the last bits of a byte, five whole bytes, and the first bits of a seventh.
    """
    for shift in range(8):
        inner = (magic >> shift & (1 << 40) - 1).to_bytes(5, "big")
        at = window.find(inner, 1)
        while at > 0:
            cover = int.from_bytes(window[at - 1 : at + 6].ljust(7, b"\0"), "big")
            bit = (at - 1) * 8 + shift
            if cover >> 8 - shift & (1 << _MAGIC_BITS) - 1 == magic and bit + _MAGIC_BITS <= len(window) * 8:
                yield bit
            at = window.find(inner, at + 1)


def _find_streams(window: bytes) -> Iterator[tuple[int, Literal["stream", "empty"]]]:
    """Where streams begin in `window`, in bytes, in no order, and whether with a block.

    Two of three tell: the footer of another stream, a header, the number that a block or an empty stream's footer has.
    """
    for match in _HEADER.finditer(window):
        after = window[match.end() : match.end() + _MAGIC_BITS // 8]
        if after in (_BLOCK_BYTES, _FOOTER_BYTES) or _ends_stream(window, match.start()):
            yield match.start(), "empty" if after == _FOOTER_BYTES else "stream"
    for match in _ALIGNED_BLOCK.finditer(window):
        if _ends_stream(window, match.start() - _HEADER_BITS // 8):
            yield match.start() - _HEADER_BITS // 8, "stream"


def _ends_stream(window: bytes, end: int) -> bool:
    tail = window[max(0, end - _MAX_FOOTER) : max(0, end)]
    return any(bit + _FOOTER_BITS <= len(tail) * 8 for bit in _find(tail, _FOOTER))


def _find_footers(file: IO[bytes], start: int, end: int) -> Iterator[int]:
    """Where footers are in a range: first one that ends there, as it should, then any."""
    for position, window in chain(_windows(file, max(start, end - _MAX_FOOTER), end), _windows(file, start, end)):
        for bit in sorted(_find(window, _FOOTER)):
            if position * 8 + bit + _FOOTER_BITS <= end * 8:
                yield position * 8 + bit


def _decode(file: IO[bytes], bit: int, after: int, piece: Slice) -> bytes | DamageReason | None:
    """The content of the block in bits `bit` to `after`; "bomb" if it grows too much, None if it is damaged."""
    start = bit // 8
    file.seek(start)
    packed = file.read(min(-(-after // 8) - start, _MAX_BLOCK))
    n_bits = min(after - start * 8, len(packed) * 8)
    block = int.from_bytes(packed, "big") >> len(packed) * 8 - n_bits
    n_bits -= bit - start * 8
    block &= (1 << n_bits) - 1
    checksum = block >> max(0, n_bits - _FOOTER_BITS) & 0xFFFF_FFFF  # that of the only block is that of the stream
    n_bytes = -(-(n_bits + _FOOTER_BITS) // 8)
    stream = (block << _FOOTER_BITS | _FOOTER << 32 | checksum) << n_bytes * 8 - n_bits - _FOOTER_BITS
    decoder = bz2.BZ2Decompressor()
    parts: list[bytes] = []
    n_content = 0
    data = b"BZh9" + stream.to_bytes(n_bytes, "big")
    while not decoder.eof:
        try:
            part = decoder.decompress(data, _PIECE)
        except OSError:
            return None
        if not part and not decoder.eof:
            return None
        parts.append(part)
        n_content += len(part)
        if piece.is_bomb(len(packed), n_content):
            return "bomb"
        data = b""
    return None if decoder.unused_data else b"".join(parts)
