"""Wikipedia's multistream dumps: `pages-articles-multistream.xml.bz2` with its index.

A multistream dump is a row of bz2 streams that can each be decoded alone: the first holds the head of the XML
document, the others 100 pages each, the last the closing tag; some tools put head or closing tag into the same
stream as pages. The index has a line ``offset:page id:title`` a page. A stream always starts on a byte, with a
magic number of 80 bits, so the next one can be found behind a damaged one.
"""

import bz2
import re
import urllib.parse
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from corpusmill.pipeline.sources.record import Record, Slice, damaged, is_decode_error, open_input, parse_date
from corpusmill.schemas.errors import SourceError

__all__ = ["find_index", "ranges", "records"]

_NAME = re.compile(r"-multistream(\d*)\.xml((?:-p\d+p\d+)?)\.bz2$")
_STREAM = re.compile(rb"BZh[1-9]\x31\x41\x59\x26\x53\x59")  # how any stream begins that is not empty
_XML = re.compile(
    rb"\s*(?P<head><mediawiki\b[^>]*>\s*(?:<siteinfo>.*?</siteinfo>)?)?"
    rb"\s*(?P<pages><page>.*</page>)?\s*(?:</mediawiki>)?\s*",
    re.DOTALL,
)
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_BLOCK = 1 << 16


def find_index(location: str) -> str:
    """Where the index of a multistream dump lies, by its name.

    Raises:
        SourceError: the name is not that of a multistream dump.
    """
    index, n_found = _NAME.subn(r"-multistream-index\1.txt\2.bz2", location)
    if not n_found:
        raise SourceError(
            f"{location} is not named …-multistream.xml.bz2; of Wikipedia's dumps only the multistream ones, "
            "with their …-multistream-index.txt.bz2, can be read"
        )
    return index


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Ranges of whole bz2 streams of at least `target_bytes` compressed bytes each; the last one may be smaller.

    Args:
        location: the dump; only its name is used.
        index: its index; None: `find_index`.
        n_bytes: size of the dump.
        target_bytes: wanted size of a range.

    Raises:
        SourceError: the index is missing, damaged, or not of this dump.
    """
    index = index or find_index(location)
    starts = [0]
    previous = 0
    try:
        with open_input(index) as file, bz2.open(file) as lines:
            for line in lines:
                offset = int(line.partition(b":")[0])
                if not previous <= offset < n_bytes:
                    raise SourceError(f"{index} names offset {offset}: not the index of {location}, {n_bytes} bytes")
                previous = offset
                if offset >= starts[-1] + target_bytes:
                    starts.append(offset)
    except SourceError as error:
        raise SourceError(f"{location} needs its index: {error}") from error
    except (EOFError, OSError, ValueError) as error:
        if isinstance(error, OSError) and not is_decode_error(error):
            raise
        raise SourceError(f"{index} is damaged ({error}); download it again") from error
    return list(zip(starts, [*starts[1:], n_bytes], strict=True))


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The revisions of the pages in a range of whole streams, as wikitext in UTF-8.

    Args:
        piece: a range that `ranges` gave.
        counts: unused: all that a dump holds are records.

    Yields:
        A record for each revision. A damaged stream is one row "damaged"; the next stream is read again.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        site = _read_site(file)
        for offset, length, xml in _streams(file, piece.start, piece.end):
            pages = None if xml is None else _parse_pages(xml)
            if pages is None:
                yield damaged(piece.file_path, offset, length, reason="damaged_compression")
                continue
            for index, record in enumerate(_revisions(pages, site)):
                record.offset, record.length, record.record_index = offset, length, index
                yield record


@dataclass(frozen=True, kw_only=True, slots=True)
class _Site:
    """What the head of a dump says of its wiki: the address that titles follow, and its language."""

    base: str | None = None
    language: str | None = None


def _read_site(file: IO[bytes]) -> _Site:
    _, xml = _decompress(file, 0, file.seek(0, 2))
    match = _XML.match(xml or b"")
    if not match or not match["head"]:
        return _Site()
    try:
        root = ET.fromstring(match["head"] + b"</mediawiki>")
    except ET.ParseError:
        return _Site()
    main_page = root.findtext("{*}siteinfo/{*}base") or ""
    start, wiki, _ = main_page.partition("/wiki/")  # a main page's title may hold a "/"
    base = start + wiki if wiki else main_page[: main_page.rfind("/") + 1]
    return _Site(base=base or None, language=root.get(_LANGUAGE))


def _streams(file: IO[bytes], start: int, end: int) -> Iterator[tuple[int, int, bytes | None]]:
    """Offset, length and content of each bz2 stream of a range; content None where the stream is damaged."""
    while start < end:
        length, xml = _decompress(file, start, end)
        if xml is None:
            length = _find_stream(file, start + 1, end) - start
        yield start, length, xml
        start += length


def _decompress(file: IO[bytes], start: int, end: int) -> tuple[int, bytes | None]:
    """Length and content of the bz2 stream at `start`; content None if it is damaged or not complete at `end`."""
    file.seek(start)
    decoder = bz2.BZ2Decompressor()
    parts: list[bytes] = []
    n_read = 0
    while not decoder.eof:
        block = file.read(min(_BLOCK, end - start - n_read))
        n_read += len(block)
        try:
            parts.append(decoder.decompress(block))
        except OSError:
            return n_read, None
        if not block:
            return n_read, None
    return n_read - len(decoder.unused_data), b"".join(parts)


def _find_stream(file: IO[bytes], start: int, end: int) -> int:
    """Where the next stream begins; `end` if there is none."""
    file.seek(start)
    seen = b""
    while start < end and (block := file.read(min(_BLOCK, end - start))):
        start += len(block)
        seen = seen[-9:] + block
        if match := _STREAM.search(seen):
            return start - len(seen) + match.start()
    return end


def _parse_pages(xml: bytes) -> ET.Element | None:
    """The `<page>` elements of a stream below one root; None if it is not well-formed."""
    match = _XML.fullmatch(xml)
    if match is None:
        return None
    try:
        return ET.fromstring(b"<pages>" + (match["pages"] or b"") + b"</pages>")
    except ET.ParseError:
        return None


def _revisions(pages: ET.Element, site: _Site) -> Iterator[Record]:
    for page in pages:
        title = page.findtext("title", "")
        reason = None
        if page.findtext("ns", "0").strip() != "0":
            reason = "other_namespace"
        elif page.find("redirect") is not None:
            reason = "redirect"
        for revision in page.iterfind("revision"):
            text = revision.findtext("text", "")
            why_not = reason or (None if text.strip() else "no_text")
            yield Record(
                key=f"{page.findtext('id', '')}:{revision.findtext('id', '')}",
                offset=0,
                url=site.base and site.base + _encode_title(title),
                title=title,
                date=parse_date(revision.findtext("timestamp")),
                content=None if why_not else text.encode(),
                media_type="text/x-wiki",
                charset="utf-8",
                language=site.language,
                reason=why_not,
            )


def _encode_title(title: str) -> str:
    """A title as it stands in the address of its page (MediaWiki's wfUrlencode)."""
    return urllib.parse.quote(title.replace(" ", "_"), safe=";@$!*(),/~:")
