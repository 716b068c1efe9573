"""Wikipedia's dumps: MediaWiki exports, as XML or packed by bzip2, gzip or zstd; told by content, not by name.

A multistream dump is a row of bzip2 streams that can each be read alone: the first holds the head of the XML document,
the others 100 pages each, the last the closing tag; some tools put head or closing tag into the same stream as pages.
Its index has a line ``offset:page id:title`` a page. Programs that pack in parallel write many streams too, but cut
the XML anywhere: these, like all other packed dumps, are one document, read from its start to its end.
"""

import bz2
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice, pairwise
from typing import IO, Final, Literal

from corpusmill.pipeline.sources.record import (
    DamageReason,
    Record,
    Slice,
    choose_starts,
    damaged,
    is_decode_error,
    open_input,
)
from corpusmill.pipeline.sources.unpack import is_packed, open_content
from corpusmill.pipeline.sources.wikipedia.bzip2 import is_bzip2, read_blocks, stream_starts, streams
from corpusmill.pipeline.sources.wikipedia.export import PageReader, read_head
from corpusmill.pipeline.sources.wikipedia.page import Wanted
from corpusmill.schemas.errors import SourceError

__all__ = ["find_index", "ranges", "records"]

_NAME: Final = re.compile(r"-multistream(\d*)\.xml((?:-p\d+p\d+)?)\.bz2$")
_SNIFF: Final = 1 << 16
_BLOCK: Final = 1 << 18
_MAX_LINE: Final = 1 << 12
_MARK: Final = 10  # bytes that tell the start of a bzip2 stream
_MAX_LOOK: Final = 20  # streams
_CLOSING_STREAM: Final = 64  # bytes; a stream that holds the closing tag alone is shorter, one with a page is not

_Packing = Literal["bzip2", "other", "none"]


def find_index(location: str) -> str | None:
    """Where the index of a multistream dump lies, by its name; None if the name is not that of one."""
    index, n_found = _NAME.subn(r"-multistream-index\1.txt\2.bz2", location)
    return index if n_found else None


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of plain XML, or of whole streams of a multistream dump; any other dump is one range.

    Ranges of streams are at least `target_bytes` long, but for the last one.

    Args:
        location: the dump.
        index: its index; None: by its name. Without one that is whole and fits the dump, the dump is searched for
            streams, with the same result.
        n_bytes: size of the dump.
        target_bytes: wanted size of a range.

    Raises:
        SourceError: there is no such dump.
        OSError: the disk or the network failed.
    """
    piece = Slice(source="", kind="wikipedia", file_path="", location=location, start=0, end=n_bytes)
    starts: Iterable[int] = [0]
    with open_input(location) as file:
        packing = _packing(file)
        if read_head(_content(file, packing, piece)).encoding is None:
            pass
        elif packing == "none":
            starts = range(0, max(n_bytes, 1), target_bytes)
        elif packing == "bzip2" and _is_multistream(file, n_bytes, piece):
            indexed = _indexed_starts(file, index or find_index(location), n_bytes, target_bytes)
            starts = indexed or _choose(stream_starts(file, 0, n_bytes), n_bytes, target_bytes)
    return list(pairwise([*starts, n_bytes]))


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The revisions of the pages in a range, as wikitext in UTF-8.

    `piece.options`, all optional: `namespaces`, the numbers of those that have documents, [0]; `revisions`, "newest" or
    "all": which of several revisions of a page are documents, "newest".

    Args:
        piece: a range that `ranges` gave.
        counts: unused: all that a dump holds are records.

    Yields:
        A record for each revision. In a multistream dump its place is that of its stream; elsewhere that of its page,
        counted in bytes of the text. Of what is damaged only the pages that it lies in are lost: a record for each such
        stretch.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    wanted = Wanted(
        namespaces=frozenset(piece.options.get("namespaces", [0])),
        newest=piece.options.get("revisions", "newest") == "newest",
        max_bytes=piece.max_bytes,
    )
    with open_input(piece.location) as file:
        n_bytes = file.seek(0, io.SEEK_END)
        packing = _packing(file)
        head = read_head(_content(file, packing, piece))
        if head.encoding is None:
            yield damaged(piece.file_path, piece.start, piece.end - piece.start, reason="damaged_header")
        elif packing == "none":
            reader = PageReader(piece.file_path, head, wanted, start=piece.start, stop=piece.end, has_length=True)
            yield from reader.read(_content(file, packing, piece, piece.start))
        elif packing == "bzip2" and ((piece.start, piece.end) != (0, n_bytes) or _is_multistream(file, n_bytes, piece)):
            is_closed = piece.end < n_bytes
            for start, end in streams(file, piece.start, piece.end):
                reader = PageReader(piece.file_path, head, wanted, stream=(start, end - start))
                yield from reader.read(read_blocks(file, start, end, piece))
                is_closed = is_closed or reader.is_closed
            if not is_closed:
                yield damaged(piece.file_path, n_bytes, 0, reason="damaged_end")
        else:
            yield from PageReader(piece.file_path, head, wanted).read(_content(file, packing, piece))


def _packing(file: IO[bytes]) -> _Packing:
    file.seek(0)
    if is_bzip2(file.read(_SNIFF)):
        return "bzip2"
    return "other" if is_packed(file) else "none"


def _content(
    file: io.BufferedReader, packing: _Packing, piece: Slice, start: int = 0
) -> Iterator[bytes | DamageReason]:
    """The text of a dump, from byte `start` of it where it is not packed."""
    if packing == "bzip2":
        yield from read_blocks(file, 0, file.seek(0, io.SEEK_END), piece)
        return
    stream, unpacked = open_content(file, piece)
    if unpacked is None:
        stream.seek(start)
    while True:
        while block := stream.read(_BLOCK):
            yield block
        if unpacked is None or unpacked.damage is None:
            return
        yield unpacked.damage
        unpacked.resume()


def _is_multistream(file: IO[bytes], n_bytes: int, piece: Slice) -> bool:
    """Whether streams begin with a page: the first two behind the first stream that can be read tell."""
    later = islice(streams(file, 0, n_bytes), 1, _MAX_LOOK)
    first_blocks = (next(read_blocks(file, start, end, piece), None) for start, end in later)
    begins = (block.lstrip() for block in first_blocks if block and isinstance(block, bytes))
    found = list(islice(begins, 2))
    return bool(found) and found[0].startswith(b"<page>") and found[-1].startswith((b"<page>", b"</mediawiki>"))


def _indexed_starts(file: IO[bytes], index: str | None, n_bytes: int, target_bytes: int) -> list[int] | None:
    """Starts of ranges by the index of a dump; None if it has none that is whole and fits."""
    if index is None:
        return None
    try:
        with open_input(index) as packed, bz2.open(packed) as lines:
            offsets = list(_offsets(lines, n_bytes))
    except (SourceError, EOFError, ValueError):
        return None
    except OSError as error:
        if not is_decode_error(error):
            raise
        return None
    starts = _choose(offsets, n_bytes, target_bytes)
    if any(next(stream_starts(file, start, start + _MARK), None) != start for start in starts[1:]):
        return None
    to_end = stream_starts(file, offsets[-1], n_bytes)
    is_whole = next(to_end, None) == offsets[-1] and next(to_end, n_bytes) > n_bytes - _CLOSING_STREAM
    return starts if is_whole else None


def _offsets(lines: IO[bytes], n_bytes: int) -> Iterator[int]:
    """The offsets that an index names, each once.

    Raises:
        ValueError: it is not the index of a dump of `n_bytes`: there is one, they ascend, and no index is longer than
            its dump.
    """
    previous = -1
    n_read = 0
    while line := lines.readline(_MAX_LINE):
        offset = int(line.partition(b":")[0])
        n_read += len(line)
        if not previous <= offset < n_bytes or n_read > n_bytes:
            raise ValueError
        if offset > previous:
            yield offset
        previous = offset
    if previous < 0:
        raise ValueError


def _choose(offsets: Iterable[int], n_bytes: int, target_bytes: int) -> list[int]:
    """Starts of ranges of at least `target_bytes`, but for the last, which holds more than the closing tag."""
    return choose_starts((offset for offset in offsets if offset <= n_bytes - _CLOSING_STREAM), target_bytes)
