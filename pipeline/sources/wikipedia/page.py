"""One `<page>` of a MediaWiki export to records, one a revision; schemas 0.3 to 0.11 (docs/export-*.xsd of MediaWiki).

The page is parsed as it comes (expat), so a page with a long history needs no more memory than one revision. It is
parsed alone, below no document type declaration, so there are no entities that could grow or lead to other files.
"""

import re
import urllib.parse
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import Final
from xml.parsers import expat

from corpusmill.pipeline.sources.record import Record, parse_date

__all__ = ["PageParser", "Site", "Wanted"]

_PAGE_FIELDS: Final = frozenset(["title", "ns", "id"])
_REVISION_FIELDS: Final = frozenset(["id", "timestamp", "model", "text"])
_MAX_FIELD: Final = 4096  # characters; titles have at most 255 bytes
_MAX_DEPTH: Final = 32  # the schemas know 4
_MAX_NAMES: Final = 1000  # of elements and attributes, which expat keeps; the schemas know about 60
_MAX_TOKEN: Final = 1 << 20  # bytes of a tag or comment, which expat keeps until it ends
_BLOCK: Final = 1 << 16
_BEFORE: Final = -(1 << 63)

_TARGET: Final = r"\s*:?\s*\[\[\s*:?([^\[\]|#\n]+)"
_REDIRECT: Final = re.compile(  # the magic words of the larger Wikipedias: languages/messages/ of MediaWiki
    r"""\s*[\#＃](?:REDIRECT|重定向|重新導向|転送|リダイレクト|넘겨주기|WEITERLEITUNG|VIRULEEDUNG|WIEDERLEIDEN|REDIRECTION
    |REDIRECCI[ÓO]N|REDIRECIONAMENTO|RINVI[AO]|RIMANDO|BIRZUZENDU|REDIRECTEAZA|DOORVERWIJZING|AANSTUUR|OMDIRIGERING
    |OHJAUS|UUDELLEENOHJAUS|SUUNA|PERADRESAVIMAS|PATRZ|PRZEKIERUJ|TAM|PŘESMĚRUJ|PRESMERUJ|PREUSMJERI|PREUSMERI(?:TEV)?
    |ÁTIRÁNYÍTÁS|YÖNLENDİR(?:ME)?|YÖNLƏNDİRMƏ|RIDREJTO|TILVÍSUN|ATHSHEOLADH|AIL-CYFEIRIO|ADKAS|RINDIRIZZA|ALIDIREKTU
    |ALIH|LENCONG|ĐỔI|ΑΝΑΚΑΤΕΥΘΥΝΣΗ|ПЕРЕНАПР(?:АВЛЕНИЕ|АВЛЕННЯ)?|ПЕРАНАКІРАВАННЕ|ВИЖ|ПРЕУСМЕРИ|ПРЕНАСОЧУВАЊЕ|АЙДАУ
    |ՎԵՐԱՀՂՈՒՄ|გადამისამართება|הפניה|ווייטערפירן|تحويل|تغییر_?مسیر|رجوع_مکرر|पुनर्प्रेषित|अनुप्रेषित|पुनर्निर्देशन
    |पुनर्निदेशन|পুনর্নির্দেশ|வழிமாற்று|దారిమార్పు|തിരിച്ചുവിടുക|เปลี่ยนทาง)"""
    + _TARGET,
    re.IGNORECASE | re.VERBOSE,
)
_ANY_REDIRECT: Final = re.compile(rf"\s*[#＃]\w+{_TARGET}")
_REDIRECT_BYTES: Final = 4096


class _PageError(Exception):
    """The page is other than any page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What the head of an export says of its wiki.

    Attributes:
        base: start of the address of a page, which its title follows.
        language: of the wiki.
        namespaces: name to number.
    """

    base: str | None = None
    language: str | None = None
    namespaces: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """Which revisions become documents.

    Attributes:
        namespaces: numbers of the namespaces.
        newest: of several revisions of a page, only the newest.
        max_bytes: most content.
    """

    namespaces: Set[int]
    newest: bool
    max_bytes: int


class PageParser:
    """Parses one page, given to `feed` in pieces of any size that begin with `<page>`; then `close`, or `drop`.

    All three return the revisions that are ready, with their number in the page as `record_index`, and 0 as `offset`.
    The newest so far is not ready before the page ends.

    Args:
        place: stands in the keys of revisions of a page where neither has an id.
        encoding: a name that expat knows.
        site: says how addresses and namespaces are called.
        wanted: what has content.

    Attributes:
        is_broken: whether the page cannot be parsed, or is other than any page; nothing is read behind that.
    """

    def __init__(self, place: str, encoding: str, site: Site, wanted: Wanted) -> None:
        self.is_broken = False
        self._place = place
        self._site = site
        self._wanted = wanted
        self._parser = expat.ParserCreate(encoding)
        self._parser.buffer_text = True
        self._parser.buffer_size = _BLOCK
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._rest = b""
        self._n_parsed = 0
        self._depth = 0
        self._page: dict[str, str] = {}
        self._revision: dict[str, str] | None = None
        self._field = ""
        self._parts: list[str] = []
        self._n_parts = 0
        self._text: list[bytes] = []
        self._n_text = 0
        self._is_redirect = False
        self._redirect: str | None = None
        self._n_revisions = 0
        self._newest: Record | None = None
        self._newest_order = (0, 0)
        self._ready: list[Record] = []

    def feed(self, data: bytes) -> list[Record]:
        """Parse the next piece, in blocks that are the same however the page is cut into pieces."""
        data = self._rest + data
        n_whole = len(data) - len(data) % _BLOCK
        for start in range(0, n_whole, _BLOCK):
            self._parse(data[start : start + _BLOCK])
        self._rest = data[n_whole:]
        return self._take()

    def close(self) -> list[Record]:
        """Parse the rest, to `</page>`. Nothing more is ready where the page `is_broken`; then `drop` it."""
        self._parse(self._rest)
        self.is_broken = self.is_broken or self._depth > 0
        if self.is_broken:
            return self._take()
        self._free()
        record = self._newest
        if record is None:
            return []
        if self._is_redirect and record.reason != "other_namespace":
            target = self._redirect or record.redirect or _target(_ANY_REDIRECT, bytes(record.content or b""))
            record.reason, record.redirect, record.content = "redirect", target, None
        return [*self._take(), record]

    def drop(self) -> list[Record]:
        """Give up a page that is broken, or has no end. What its newest revision is, nobody knows."""
        self._parse(self._rest)
        self._free()
        last = [] if self._wanted.newest or self._newest is None else [self._newest]
        return self._take() + last

    def _free(self) -> None:
        """Let go of the parser, which holds this object and is held by it."""
        self._rest = b""
        self._parser.StartElementHandler = self._parser.EndElementHandler = self._parser.CharacterDataHandler = None

    def _take(self) -> list[Record]:
        ready, self._ready = self._ready, []
        return ready

    def _parse(self, data: bytes) -> None:
        if self.is_broken:
            return
        self._n_parsed += len(data)
        try:
            self._parser.Parse(data, False)
        except (expat.ExpatError, _PageError):
            self.is_broken = True
        else:
            is_long = self._n_parsed - self._parser.CurrentByteIndex > _MAX_TOKEN
            self.is_broken = is_long or len(self._parser.intern) > _MAX_NAMES

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise _PageError("elements too deep")
        if self._depth == 2:
            if name == "revision":
                self._revision = {}
                self._text, self._n_text = [], 0
            elif name == "redirect":
                self._is_redirect = True
                self._redirect = attributes.get("title")
            elif name in _PAGE_FIELDS:
                self._collect(name)
        elif self._depth == 3 and self._revision is not None and name in _REVISION_FIELDS:
            self._collect(name)

    def _collect(self, name: str) -> None:
        self._field = name
        if name != "text":
            self._parts, self._n_parts = [], 0
            self._parser.CharacterDataHandler = self._add_part
        elif self._namespace() in self._wanted.namespaces:
            self._parser.CharacterDataHandler = self._add_text

    def _add_part(self, data: str) -> None:
        self._parts.append(data)
        self._n_parts += len(data)
        if self._n_parts > _MAX_FIELD:
            raise _PageError(f"<{self._field}> too long")

    def _add_text(self, data: str) -> None:
        content = data.encode()
        self._n_text += len(content)
        if self._n_text > self._wanted.max_bytes:
            self._text = []
        else:
            self._text.append(content)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._depth == 1 and self._revision is not None and name == "revision":
            self._add_revision(self._revision)
            self._revision = None
        elif name == self._field and self._depth in (1, 2):
            self._parser.CharacterDataHandler = None
            self._field = ""
            if name != "text":
                fields = self._page if self._revision is None else self._revision
                fields[name] = "".join(self._parts)

    def _namespace(self) -> int:
        """The number of the page's namespace; before schema 0.6 only the title tells."""
        number = self._page.get("ns", "").strip()
        if re.fullmatch(r"-?\d+", number):
            return int(number)
        name, colon, _ = self._page.get("title", "").partition(":")
        return self._site.namespaces.get(name, 0) if colon else 0

    def _add_revision(self, fields: dict[str, str]) -> None:
        """Make a record of the revision that ended; of two, the older one is ready, and the newer one waits."""
        record = self._record(fields)
        number = fields.get("id", "").strip()
        order = (_BEFORE if record.date is None else record.date, int(number) if number.isdecimal() else 0)
        older = self._newest
        if older is None or order > self._newest_order:
            self._newest, self._newest_order = record, order
        else:
            older = record
        if older is not None:
            if self._wanted.newest and older.reason != "other_namespace":
                older.reason, older.redirect, older.content = "old_revision", None, None
            self._ready.append(older)

    def _record(self, fields: dict[str, str]) -> Record:
        title = self._page.get("title")
        if not title:
            raise _PageError("a revision before the title")
        page_id, revision_id = self._page.get("id", ""), fields.get("id", "")
        index = self._n_revisions
        self._n_revisions += 1
        content = b"".join(self._text)
        self._text = []
        target = _target(_REDIRECT, content)
        reason = None
        if self._namespace() not in self._wanted.namespaces:
            reason = "other_namespace"
        elif target is not None:
            reason = "redirect"
        elif fields.get("model", "wikitext") != "wikitext":
            reason = "other_model"
        elif self._n_text > self._wanted.max_bytes:
            reason = "too_large"
        elif not _has_text(content):
            reason = "no_text"
        return Record(
            key=f"{page_id}:{revision_id}" if page_id or revision_id else f"{self._place}:{index}",
            offset=0,
            record_index=index,
            url=self._site.base and self._site.base + _encode_title(title),
            title=title,
            date=parse_date(fields.get("timestamp")),
            content=None if reason else content,
            media_type="text/x-wiki",
            charset="utf-8",
            language=self._site.language,
            reason=reason,
            redirect=target if reason == "redirect" else None,
        )


def _target(pattern: re.Pattern[str], content: bytes) -> str | None:
    """The title that a redirect leads to, as MediaWiki writes titles, without a section; None for other pages."""
    match = pattern.match(content[:_REDIRECT_BYTES].decode("utf-8", "ignore"))
    return match[1].replace("_", " ").strip() if match else None


def _has_text(content: bytes) -> bool:
    """Whether there is more than white space."""
    head = content[:_REDIRECT_BYTES].decode("utf-8", "ignore")
    return bool(head.strip() or content.decode().strip())


def _encode_title(title: str) -> str:
    """A title as it stands in the address of its page (MediaWiki's wfUrlencode)."""
    return urllib.parse.quote(title.replace(" ", "_"), safe=";@$!*(),/~:")
