"""The content of sound gzip members (RFC 1952), fast: by ISA-L, which inflates about twice as fast as zlib."""

from collections.abc import Iterator
from typing import Final

from isal import isal_zlib

from corpusmill.pipeline.sources.warc.text import Region

__all__ = ["sound_members"]

_GZIP: Final = 31  # window bits: the decoder reads header and trailer, and checks both sums
_INPUT: Final = 1 << 15


def sound_members(region: Region, start: int, limit: int) -> Iterator[tuple[int, bytes]]:
    """The gzip members that follow each other from an offset on, up to the first one that is not sound or too long.

    Args:
        region: the file.
        start: where the first member begins.
        limit: most bytes that a member may hold.

    Yields:
        The offset behind a member, and what it holds.
    """
    end, data = start, b""  # `data` is what is read ahead, up to `end`
    while True:
        decoder = isal_zlib.decompressobj(_GZIP)
        parts, size = [], 0
        while not decoder.eof:
            if not data:
                data = region.look(end, _INPUT)
                end += len(data)
            if not data:
                return
            try:
                parts.append(decoder.decompress(data))
            except isal_zlib.error:  # type: ignore[misc]  # its stub takes the class for an instance
                return
            size += len(parts[-1])
            if size > limit:
                return
            data = decoder.unused_data
        yield end - len(data), parts[0] if len(parts) == 1 else b"".join(parts)
