"""WARC (ISO 28500) and ARC files, plain or packed by gzip: one member a record, one for all, or anything between.

`resync.RecordReader` reads any file, healthy or not, and proves each record. Most records need no proof, as each fills
one gzip member whose checksum is right: these are read here, in a tenth of the time. At the first record of which that
cannot be said `RecordReader` goes on, for a while.

In .gz files offset and length are those of the gzip member, as a rule one a record. The records of a member that holds
several have no length and are told apart by `record_index`. A record may also fill several members, or begin and end
within members, as in files packed by bgzip: its offset is that of the member it begins in.
"""

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import suppress
from typing import IO, Final

from corpusmill.pipeline.sources.record import Record, Slice, open_input
from corpusmill.pipeline.sources.warc import arc
from corpusmill.pipeline.sources.warc import header as warc_header
from corpusmill.pipeline.sources.warc.content import (
    Place,
    block_limit,
    is_counted,
    make_record,
    split_block,
)
from corpusmill.pipeline.sources.warc.gzip_text import MAGIC, GzipText
from corpusmill.pipeline.sources.warc.header import Format, Layouts
from corpusmill.pipeline.sources.warc.members import sound_members
from corpusmill.pipeline.sources.warc.resync import RecordReader
from corpusmill.pipeline.sources.warc.text import BLOCK, Region

__all__ = ["ranges", "records"]

_PATIENCE: Final = 8
_END: Final = warc_header.ENDS[0]
_FORMATS: Final[tuple[Format, ...]] = (warc_header, arc)


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """A file is one range: payloads may look like records; only who reads from the start can tell."""
    return [(0, n_bytes)]


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The responses, resources and conversions of a file, and its damage.

    Args:
        piece: the whole file, from 0 to its size, or `spans` of it, each of them whole gzip members.
        counts: gets "warc_<type>" for each record of another type, "arc_filedesc" for heads of ARC files, and
            "warc_truncated" and "warc_segmented" for records that hold a part of their document.

    Yields:
        A record each, in the order of the file. Each damaged stretch is one record, as long as nothing in it can be
        read. A record whose HTTP body alone is bad, or that is too large, has a reason by itself.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        for region in _regions(piece, file):
            yield from _read(piece, region, counts)


def _regions(piece: Slice, file: IO[bytes]) -> Iterator[Region]:
    stored_at = piece.start
    for start, length in piece.spans or [(piece.start, piece.end - piece.start)]:
        yield Region(file, stored_at, start, length)
        stored_at += length


def _read(piece: Slice, region: Region, counts: Counter[str]) -> Iterator[Record]:
    form, packed = _detect(piece, region)
    reader = RecordReader(piece, region, counts, form, packed=packed)
    position, patience = region.start, _PATIENCE
    while position < region.end:
        if packed and form is warc_header:
            start = position
            position = yield from _read_healthy(piece, region, counts, start)
            patience = 2 * patience if position == start else _PATIENCE
        position = yield from reader.read(position, patience)


def _detect(piece: Slice, region: Region) -> tuple[Format, bool]:
    """Format of a file, and whether it is packed: by its first bytes, else by what a search finds, else by its name."""
    head = region.look(region.start, BLOCK)
    packed = head.startswith(MAGIC)
    if packed:
        head = GzipText(region, region.start, BLOCK, piece).look(0, BLOCK)
    is_certain = packed and bool(head)
    head = head.lstrip()
    for form in _FORMATS:
        with suppress(EOFError):
            if form.parse(head, strict=False) is not None:
                return form, packed
    found = [
        (place, form, is_packed)
        for form in _FORMATS
        for is_packed in ((True,) if is_certain else (True, False))
        if (place := RecordReader(piece, region, Counter(), form, packed=is_packed).find()) is not None
    ]
    if found:
        return min(found, key=lambda place: place[0])[1:]
    begun = next((form for form in _FORMATS if form.START.match(head)), None)
    return begun or warc_header, packed or (begun is None and piece.file_path.endswith(".gz"))


def _read_healthy(piece: Slice, region: Region, counts: Counter[str], start: int) -> Generator[Record, None, int]:
    """The records from a gzip member on that fill one sound member each, in the usual form.

    Returns:
        Where the first member begins of which that cannot be said.
    """
    limit, layouts = block_limit(piece), Layouts()
    for after, text in sound_members(region, start, limit):
        found = layouts.parse(text)
        if found is None:
            return start
        header, size = found
        is_alone = size + header.length + len(_END) == len(text) and text.endswith(_END)
        if not is_alone or piece.is_bomb(after - start, len(text)):
            return start
        if not is_counted(header, counts):
            head, body = split_block(header, text, size, size + header.length)
            yield make_record(piece, counts, header, Place(start, 0, after - start), head, body)
        start = after
    return start
