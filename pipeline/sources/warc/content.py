"""From the header and block of a WARC or ARC record to the document in it, or the reason why there is none."""

import functools
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from corpusmill.pipeline.sources.record import Record, Slice, parse_date
from corpusmill.pipeline.sources.warc.body import BodyError, decode_body
from corpusmill.pipeline.sources.warc.header import MAX_HEADER, Header

__all__ = ["HttpHead", "Place", "block_limit", "is_counted", "is_http", "make_record", "read_head", "split_block"]

_RECORDS: Final = ("response", "resource", "conversion")
_HTML: Final = ("text/html", "application/xhtml+xml")
_MORE: Final = {"conversion": ("text/plain",)}
_MEDIA_TYPE = re.compile(r"\s*([\w.+-]+/[\w.+-]+)")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)")
_STATUS = re.compile(rb"HTTP/\d[\d.]*[ \t]+(\d{3})(?!\d)")
_FIELD_LINE = re.compile(rb"[A-Za-z][A-Za-z0-9-]*[ \t]*:")
_FIELD = re.compile(rb"\n(content-type|content-encoding|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_MARKUP = re.compile(rb"<!doctype\s+html|<html", re.IGNORECASE)
_SNIFFED: Final = 1024


@dataclass(slots=True)
class HttpHead:
    """The head of an HTTP response.

    Attributes:
        reason: why the response has no document: "status", "redirect", "damaged_header".
        fields: values of Content-Type, Content-Encoding and Transfer-Encoding, by name in lower case.
    """

    reason: str | None
    fields: Mapping[bytes, bytes]


@dataclass(slots=True)
class Place:
    """Where a record lies; see `Record`."""

    offset: int
    record_index: int
    length: int | None


def block_limit(piece: Slice) -> int:
    """Most bytes that a block may have: of a longer one, only the beginning is looked at."""
    return piece.max_bytes + MAX_HEADER


def is_counted(header: Header, counts: Counter[str]) -> bool:
    """Whether a record is of a type that is only counted ("warc_request", "arc_filedesc"), which is done here."""
    if header.kind in _RECORDS:
        return False
    counts["arc_filedesc" if header.kind == "filedesc" else f"warc_{header.kind}"] += 1
    return True


def is_http(header: Header) -> bool:
    """Whether a record says that its block is an HTTP response."""
    return header.kind == "response" and header.fields.get(b"content-type", b"")[:16].lower() == b"application/http"


def read_head(head: bytes) -> HttpHead:
    """The head of an HTTP response, with or without a status line (RFC 9112 §4, or HTTP/2 as tools write it)."""
    if len(head) > MAX_HEADER:
        return HttpHead("damaged_header", {})
    reason = None
    if head.startswith(b"HTTP/"):
        status = _STATUS.match(head)
        if status is None or status[1] != b"200":
            reason = "redirect" if status and status[1].startswith(b"3") else "status"
    return HttpHead(reason, {name.lower(): value for name, value in reversed(_FIELD.findall(b"\n" + head))})


def split_block(
    header: Header, text: bytes, start: int = 0, end: int | None = None
) -> tuple[HttpHead | None, bytes | memoryview]:
    """HTTP head and body of a block; no head where it is no HTTP response. Without a status line it counts as 200.

    The body is a view: copying it would take as long as all else that is done with a page of some 100 kB.

    Args:
        header: of the record.
        text: holds the block.
        start: where in `text` it begins.
        end: where it ends; None: with `text`.
    """
    end = len(text) if end is None else end
    block = memoryview(text)[start:end]
    if not text.startswith(b"HTTP/", start, end):
        if not is_http(header):
            return None, block
        if not _FIELD_LINE.match(text, start, end):
            is_bare = text[start:end].lstrip()[:1] in (b"<", b"")
            return HttpHead(None if is_bare else "status", {}), block
    blank = _BLANK_LINE.search(text, start, end)
    if blank is None:
        return read_head(text[start:end]), b""
    return read_head(text[start : blank.start() + 1]), block[blank.end() - start :]


def make_record(
    piece: Slice, counts: Counter[str], header: Header, place: Place, head: HttpHead | None, body: bytes | memoryview
) -> Record:
    """The row of a record.

    Args:
        piece: what is read.
        counts: gets "warc_truncated" and "warc_segmented" for records that hold a part of their document.
        header: of the record.
        place: of the record.
        head: of the HTTP response in it, if it is one.
        body: of that, or the block; of one longer than `block_limit` it is the beginning.
    """
    fields = header.fields
    url = fields.get(b"warc-target-uri", b"").decode("utf-8", "replace")
    record = Record(
        key=f"{piece.file_path}:{place.offset}:{place.record_index}",
        offset=place.offset,
        length=place.length,
        record_index=place.record_index,
        url=url.strip().removeprefix("<").removesuffix(">") or None,
        date=parse_date(fields.get(b"warc-date", b"").decode("latin-1")),
    )
    if b"warc-truncated" in fields:
        record.truncated = fields[b"warc-truncated"].decode("latin-1").strip().lower()
        counts["warc_truncated"] += 1
    if b"warc-segment-number" in fields:
        counts["warc_segmented"] += 1
    declared = (fields if head is None else head.fields).get(b"content-type")
    record.media_type, record.charset = _read_type(declared or fields.get(b"warc-identified-payload-type", b""))
    if head is not None and head.reason is not None:
        record.reason = head.reason
    elif record.media_type not in (None, *_HTML, *_MORE.get(header.kind, ())):
        record.reason = "not_html"
    elif header.length > block_limit(piece):
        record.reason = "too_large"
    else:
        record.reason = _set_content(record, piece, head, body)
    return record


@functools.lru_cache(maxsize=1 << 10)
def _read_type(value: bytes) -> tuple[str | None, str | None]:
    """Media type and charset that a Content-Type gives."""
    text = value.decode("latin-1").lower()
    media_type, charset = _MEDIA_TYPE.match(text), _CHARSET.search(text)
    return media_type[1] if media_type else None, charset[1] if charset else None


def _set_content(record: Record, piece: Slice, head: HttpHead | None, body: bytes | memoryview) -> str | None:
    """Set the content, and the media type if none is declared; returns the reason if there is no document."""
    codings = head.fields.get(b"content-encoding", b"") if head else b""
    transfer_codings = head.fields.get(b"transfer-encoding", b"") if head else b""
    if codings or transfer_codings:
        try:
            body = decode_body(
                bytes(body),
                piece,
                transfer_encoding=transfer_codings.decode("latin-1"),
                content_encoding=codings.decode("latin-1"),
            )
        except BodyError as error:
            return error.reason
    if len(body) > piece.max_bytes:
        return "too_large"
    if not body:
        return "no_text"
    if record.media_type is None:
        if not _MARKUP.search(body, 0, _SNIFFED):
            return "not_html"
        record.media_type = _HTML[0]
    record.content = body
    return None
