"""MediaWiki's XML exports as they stream by: finds each page, and goes on at the next one behind what cannot be read.

Pages are found by their tags alone. In an export `<page>` stands nowhere else, since MediaWiki escapes every "<" of a
text and writes neither comments nor CDATA. So a broken page cannot hide the next one, and each is parsed alone.
"""

import enum
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from corpusmill.pipeline.sources.record import DamageReason, Record, damaged
from corpusmill.pipeline.sources.wikipedia.page import PageParser, Site, Wanted

__all__ = ["Content", "Head", "PageReader", "read_head"]

Content = Iterable[bytes | DamageReason]
"""The text of an export in pieces of any size; a reason where a stretch of it could not be decoded."""

_MEDIAWIKI: Final = re.compile(r"<mediawiki\b[^<>]*>\s*(?:<siteinfo>.*?</siteinfo>)?", re.DOTALL)
_BETWEEN: Final = re.compile(  # pages: white space; the end of an export, its beginning, or both where two are joined
    r"\s*(?:</mediawiki>\s*)?(?:\ufeff?\s*(?:<\?xml\b[^<>]*\?>\s*)?"
    rf"{_MEDIAWIKI.pattern}\s*(?:</mediawiki>\s*)?)?",
    re.DOTALL,
)
_END: Final = "</mediawiki>"
_DECLARATION: Final = re.compile(rb"\s*<\?xml\b[^<>]*?\bencoding\s*=\s*[\"']([^\"']*)")
_BOMS: Final = {b"\xff\xfe": "UTF-16LE", b"\xfe\xff": "UTF-16BE"}
_UTF8: Final = ("utf-8", "utf8", "us-ascii", "ascii")
_LANGUAGE: Final = "{http://www.w3.org/XML/1998/namespace}lang"
_MAX_HEAD: Final = 1 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """What stands before the first page.

    Attributes:
        encoding: UTF-8, UTF-16LE or UTF-16BE; None for any other, which cannot be read.
        site: what it says of the wiki; nothing where it is damaged.
    """

    encoding: str | None
    site: Site


def read_head(content: Content) -> Head:
    """Read the beginning of an export, to the first page or 1 MB."""
    head = b""
    encoding: str | None = "UTF-8"
    for part in content:
        if isinstance(part, str):
            break
        head += part
        encoding = _encoding(head)
        if encoding is None or "<page>".encode(encoding) in head or len(head) >= _MAX_HEAD:
            break
    text = head[:_MAX_HEAD].decode(encoding or "ascii", "ignore")
    match = _MEDIAWIKI.search(text)
    return Head(encoding=encoding, site=_read_site(match[0]) if match else Site())


def _encoding(head: bytes) -> str | None:
    """By the byte order mark (Unicode 23.8), else as the XML declaration says (XML 1.0, appendix F)."""
    if head[:2] in _BOMS:
        return _BOMS[head[:2]]
    declared = _DECLARATION.match(head.removeprefix(b"\xef\xbb\xbf"))
    return "UTF-8" if declared is None or declared[1].decode("latin-1").lower() in _UTF8 else None


def _read_site(head: str) -> Site:
    try:
        root = ET.fromstring(head + _END)
    except ET.ParseError:
        return Site()
    main_page = root.findtext("{*}siteinfo/{*}base") or ""
    start, wiki, _ = main_page.partition("/wiki/")  # a main page's title may hold a "/"
    base = start + wiki if wiki else main_page[: main_page.rfind("/") + 1]
    return Site(
        base=base or None,
        language=root.get(_LANGUAGE),
        namespaces={
            name.text: int(name.get("key", ""))
            for name in root.iterfind("{*}siteinfo/{*}namespaces/{*}namespace")
            if name.text and re.fullmatch(r"-?\d{1,9}", name.get("key", ""))
        },
    )


class _State(enum.Enum):
    BEFORE = enum.auto()  # the first page of the range: what stands there belongs to the range before
    BETWEEN = enum.auto()  # pages
    PAGE = enum.auto()
    LOST = enum.auto()  # behind a stretch that was not decoded, until a page begins


class PageReader:
    """Reads the pages of an export, or of a part of one that can be read alone, once.

    A page that begins within `stop` is read whole, with what stands between it and the next.

    Args:
        file_path: stands in the keys of damage.
        head: of the export.
        wanted: which revisions become documents.
        start: where the content begins in the export, in bytes. Above 0 it begins anywhere within a page, which
            belongs to the range before.
        stop: where the range ends, in bytes; None: at the end of the export.
        has_length: whether there is random access to the content, so that places have a length.
        stream: offset and length of the compressed stream that the content is, if the export has several; places are
            then its place and a number in it, and the content need not hold the end of the export.

    Attributes:
        is_closed: once all is read, whether it ends with the end of the export, or with damage.
    """

    def __init__(
        self,
        file_path: str,
        head: Head,
        wanted: Wanted,
        *,
        start: int = 0,
        stop: int | None = None,
        has_length: bool = False,
        stream: tuple[int, int] | None = None,
    ) -> None:
        self.is_closed = False
        self._file_path = file_path
        self._encoding = head.encoding or "UTF-8"
        self._site = head.site
        self._wanted = wanted
        self._stop = stop
        self._has_length = has_length
        self._stream = stream
        self._state = _State.BEFORE if start > 0 else _State.BETWEEN
        self._position = start
        self._start = start  # of the page, or of what stands between two, or of what is lost
        self._between = b""
        self._reason: DamageReason = "damaged_row"
        self._parser: PageParser | None = None
        self._n_records = 0
        self._opens, self._closes = "<page>".encode(self._encoding), "</page>".encode(self._encoding)
        self._tag = "page>".encode(self._encoding)

    def read(self, content: Content) -> Iterator[Record]:
        """The revisions of the pages, and a record for each stretch that cannot be read.

        `offset` is that of the page in the content, `record_index` the number of the revision in the page. With
        `has_length`, `length` is that of the page, for its newest revision, which comes last: others are ready before
        the page ends.
        """
        rest = b""
        for part in content:
            if isinstance(part, str):
                yield from self._take(rest)
                rest = b""
                yield from self._lose(part)
                continue
            window = rest + part
            used = 0
            for at, after in self._tags(window):
                if after - at == len(self._opens):
                    yield from self._take(window[used:at])
                    yield from self._end_stretch()
                    if self._stop is not None and self._position >= self._stop:
                        return
                    self._begin_page()
                    yield from self._take(window[at:after])
                else:
                    yield from self._take(window[used:after])
                    yield from self._end_page()
                used = after
            kept = max(used, len(window) - len(self._closes) + 1)
            yield from self._take(window[used:kept])
            rest = window[kept:]
        yield from self._take(rest)
        damage = list(self._end_stretch(is_end=True))
        self.is_closed = bool(damage) or _END.encode(self._encoding) in self._between
        yield from damage

    def _tags(self, window: bytes) -> Iterator[tuple[int, int]]:
        """Start and end of each `<page>` and `</page>`."""
        at = window.find(self._tag)
        while at >= 0:
            after = at + len(self._tag)
            for tag in (self._opens, self._closes):
                if window[max(0, after - len(tag)) : after] == tag:
                    yield after - len(tag), after
            at = window.find(self._tag, after)

    def _take(self, data: bytes) -> Iterator[Record]:
        """Hand on what holds no tag of a page but the one that this page begins or ends with."""
        self._position += len(data)
        if self._state is _State.BETWEEN:
            self._between += data[: _MAX_HEAD + 1 - len(self._between)]
        elif self._parser is not None:
            yield from (self._place(record, None) for record in self._parser.feed(data))

    def _begin_page(self) -> None:
        self._state = _State.PAGE
        self._start = self._position
        places = (self._file_path, self._stream[0], self._start) if self._stream else (self._file_path, self._start)
        self._parser = PageParser(":".join(map(str, places)), self._encoding, self._site, self._wanted)

    def _end_page(self) -> Iterator[Record]:
        """At `</page>`."""
        if self._parser is None:
            return
        found = self._parser.close()
        is_broken = self._parser.is_broken
        for record in found:
            is_newest = record is found[-1] and not is_broken
            yield self._place(record, self._position - self._start if is_newest else None)
        if is_broken:
            yield from self._drop_page()
            yield self._damage("damaged_row")
        self._parser = None
        self._state = _State.BETWEEN
        self._start = self._position
        self._between = b""

    def _drop_page(self) -> Iterator[Record]:
        if self._parser is not None:
            yield from (self._place(record, None) for record in self._parser.drop())
        self._parser = None

    def _end_stretch(self, *, is_end: bool = False) -> Iterator[Record]:
        """At the next page, or the end of the content: tell what is before it, if that is not as it should be."""
        if self._state is _State.PAGE:
            yield from self._drop_page()
            yield self._damage("damaged_end" if is_end and self._stream is None else "damaged_row")
        elif self._state is _State.LOST:
            yield self._damage(self._reason)
        elif self._state is _State.BETWEEN and (reason := self._check_between(is_end)):
            yield self._damage(reason)

    def _check_between(self, is_end: bool) -> DamageReason | None:
        """What is wrong with what stands between two pages, before the first, or behind the last."""
        is_end = is_end and self._stream is None
        if self._between.isspace() and not is_end:
            return None
        between = self._between.decode(self._encoding, "replace")
        if len(self._between) > _MAX_HEAD or not _BETWEEN.fullmatch(between):
            is_head = self._start == 0 and self._stream is None
            return "damaged_header" if is_head else "damaged_end" if is_end and _END not in between else "damaged_row"
        return "damaged_end" if is_end and _END not in between else None

    def _lose(self, reason: DamageReason) -> Iterator[Record]:
        """A stretch of the content is missing: what follows cannot be read before the next page begins."""
        if self._state is not _State.LOST:
            yield from self._drop_page()
            self._state = _State.LOST
            self._reason = reason

    def _place(self, record: Record, length: int | None) -> Record:
        record.offset, record.length = self._start, length if self._has_length else None
        if self._stream is not None:
            record.offset, record.length = self._stream
            record.record_index = self._n_records
        self._n_records += 1
        return record

    def _damage(self, reason: DamageReason) -> Record:
        """The record for the stretch from `_start` to here."""
        record = self._place(damaged(self._file_path, self._start, None, reason=reason), self._position - self._start)
        if self._stream is not None:
            record.key = f"{self._file_path}:{record.offset}:{record.record_index}:damaged"
        return record
