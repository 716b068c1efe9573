"""From the header and block of a WARC or ARC record to the document in it, or the reason why there is none."""

import re
from collections import Counter
from typing import Final

from corpusmill.pipeline.sources.body import BodyError, decode_body
from corpusmill.pipeline.sources.record import Record, Slice, parse_date
from corpusmill.pipeline.sources.warc_header import MAX_HEADER, Header

__all__ = ["block_limit", "make_record"]

_RECORDS: Final = ("response", "resource", "conversion")
_HTML: Final = ("text/html", "application/xhtml+xml")
_MORE: Final = {"conversion": ("text/plain",)}
_MEDIA_TYPE = re.compile(r"\s*([\w.+-]+/[\w.+-]+)")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)
_STATUS = re.compile(rb"HTTP/\d[\d.]*[ \t]+(\d{3})(?!\d)")
_FIELD_LINE = re.compile(rb"[A-Za-z][A-Za-z0-9-]*[ \t]*:")
_FIELD = re.compile(rb"\n(content-type|content-encoding|transfer-encoding)[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_BLANK_LINE = re.compile(rb"\n\r?\n")
_MARKUP = re.compile(rb"<!doctype\s+html|<html", re.IGNORECASE)
_SNIFFED: Final = 1024


def block_limit(piece: Slice) -> int:
    """Most bytes that a block may have: of a longer one, only the beginning is looked at."""
    return piece.max_bytes + MAX_HEADER


def make_record(
    piece: Slice,
    counts: Counter[str],
    header: Header,
    block: bytes,
    *,
    offset: int,
    record_index: int,
    length: int | None,
) -> Record | None:
    """The record with this header and block; None for one of a type that is only counted.

    Args:
        piece: what is read.
        counts: gets the types that are only counted ("warc_request", "arc_filedesc"), and, of the others,
            "warc_truncated" and "warc_segmented", which hold a part of their document.
        header: of the record.
        block: all of it, or, where it is longer than `block_limit`, its beginning.
        offset: see `Record`.
        record_index: see `Record`.
        length: see `Record`.
    """
    if header.kind not in _RECORDS:
        counts["arc_filedesc" if header.kind == "filedesc" else f"warc_{header.kind}"] += 1
        return None
    fields = header.fields
    url = fields.get(b"warc-target-uri", b"").decode("utf-8", "replace")
    record = Record(
        key=f"{piece.file_path}:{offset}:{record_index}",
        offset=offset,
        length=length,
        record_index=record_index,
        url=url.strip().removeprefix("<").removesuffix(">") or None,
        date=parse_date(fields.get(b"warc-date", b"").decode("latin-1")),
    )
    if b"warc-truncated" in fields:
        record.truncated = fields[b"warc-truncated"].decode("latin-1").strip().lower()
        counts["warc_truncated"] += 1
    if b"warc-segment-number" in fields:
        counts["warc_segmented"] += 1
    _describe(record, piece, header, block)
    return record


def _describe(record: Record, piece: Slice, header: Header, block: bytes) -> None:
    """Set content, media type and charset, and the reason if there is no document."""
    declared = header.fields.get(b"content-type", b"").decode("latin-1")
    body, content_encoding, transfer_encoding = block, "", ""
    if header.kind == "response" and (block.startswith(b"HTTP/") or declared.lower().startswith("application/http")):
        head, body = _split(block)
        if len(head) > MAX_HEADER:
            record.reason = "damaged_header"
            return
        record.reason = _judge_status(head)
        declared, content_encoding, transfer_encoding = _read_fields(head)
        declared = declared or header.fields.get(b"warc-identified-payload-type", b"").decode("latin-1")
    media_type = _MEDIA_TYPE.match(declared)
    charset = _CHARSET.search(declared)
    record.media_type = media_type[1].lower() if media_type else None
    record.charset = charset[1].lower() if charset else None
    if record.reason is None and record.media_type not in (None, *_HTML, *_MORE.get(header.kind, ())):
        record.reason = "not_html"
    if record.reason is None:
        is_whole = header.length <= block_limit(piece)
        record.reason = _decode(record, piece, body, content_encoding, transfer_encoding) if is_whole else "too_large"


def _split(block: bytes) -> tuple[bytes, bytes]:
    """Head and body of an HTTP response; one without a status line, or without any head, is taken as it is."""
    if not block.startswith(b"HTTP/") and not _FIELD_LINE.match(block):
        return (b"", block) if block.lstrip()[:1] in (b"<", b"") else (block, b"")
    blank = _BLANK_LINE.search(block)
    return (block, b"") if blank is None else (block[: blank.start() + 1], block[blank.end() :])


def _judge_status(head: bytes) -> str | None:
    """The reason that the status gives for there being no document; no status counts as 200."""
    status = _STATUS.match(head)
    if status is None:
        return "status" if head and not _FIELD_LINE.match(head) else None
    code = int(status[1])
    return None if code == 200 else "redirect" if 300 <= code < 400 else "status"


def _read_fields(head: bytes) -> tuple[str, str, str]:
    """Values of Content-Type (the first), Content-Encoding and Transfer-Encoding (all of them)."""
    values: dict[bytes, list[str]] = {}
    for name, value in _FIELD.findall(b"\n" + head):
        values.setdefault(name.lower(), []).append(value.decode("latin-1"))
    return (
        values.get(b"content-type", [""])[0],
        ",".join(values.get(b"content-encoding", ())),
        ",".join(values.get(b"transfer-encoding", ())),
    )


def _decode(
    record: Record, piece: Slice, body: bytes, content_encoding: str, transfer_encoding: str
) -> str | None:
    """Set the content, and the media type if none is declared; returns the reason if there is none."""
    if content_encoding or transfer_encoding:
        try:
            body = decode_body(
                body, piece, transfer_encoding=transfer_encoding, content_encoding=content_encoding
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
