"""What fastwarc and warcio read of WARC files, for bench/read: how far they get, and how fast.

Where they are asked how far they get, each is set as tolerant as it can be: fastwarc in quirks mode and without
decoding, as it stops at a body that it cannot decode; warcio reads ARC files too. A page is what our reader takes for
one: a response with status 200, a resource or a conversion, with content that is HTML (a conversion's may be plain
text).

warcio is no dependency of corpusmill: pip install warcio brotli
"""

import contextlib
import importlib.util
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastwarc.warc import ArchiveIterator, WarcRecordType

__all__ = ["SURVEYS", "Survey", "has_warcio", "read_by_fastwarc", "read_by_fastwarc_with_fields", "read_by_warcio"]

_HTML = ("text/html", "application/xhtml+xml")
_MEDIA_TYPES = {"response": _HTML, "resource": _HTML, "conversion": (*_HTML, "text/plain")}


@dataclass(kw_only=True, slots=True)
class Survey:
    """How far a reader gets in a file.

    Attributes:
        records: of any type.
        pages: with content.
        stop: what it says where it stops for good; "" at the end of the file.
    """

    records: int = 0
    pages: int = 0
    stop: str = ""


def has_warcio() -> bool:
    """Whether warcio is installed."""
    return importlib.util.find_spec("warcio") is not None


def _survey(archive: Iterator[Any], is_page: Callable[[Any], bool]) -> Survey:
    found = Survey()
    while True:
        try:
            record = next(archive)
        except StopIteration:
            return found
        except Exception as error:  # warcio lets through whatever happens inside
            found.stop = f"{type(error).__name__}: {' '.join(str(error).split())}"
            return found
        found.records += 1
        with contextlib.suppress(Exception):  # a body that cannot be read is no page, and the next record may be one
            found.pages += is_page(record)


def _survey_fastwarc(path: Path) -> Survey:
    def is_page(record: Any) -> bool:
        http = record.http_headers if record.is_http_parsed else None
        body = record.reader.read()
        return _is_page(
            str(record.record_type),
            None if http is None else str(http.status_code),
            (record.headers if http is None else http).get("Content-Type"),
            body,
        )

    with path.open("rb") as file:
        return _survey(iter(ArchiveIterator(file, quirks_mode=True)), is_page)


def _survey_warcio(path: Path) -> Survey:
    from warcio.archiveiterator import ArchiveIterator as Warcio

    def is_page(record: Any) -> bool:
        http = record.http_headers
        return _is_page(
            record.rec_type,
            None if http is None else http.get_statuscode(),
            (record.rec_headers if http is None else http).get_header("Content-Type"),
            record.content_stream().read(),
        )

    with path.open("rb") as file, contextlib.redirect_stderr(io.StringIO()):
        return _survey(iter(Warcio(file, arc2warc=True)), is_page)


def _is_page(kind: str, status: str | None, media_type: str | None, body: bytes) -> bool:
    is_wanted = (media_type or "").lower().strip().startswith(_MEDIA_TYPES.get(kind, ()))
    return is_wanted and (status == "200" or kind != "response") and bool(body)


SURVEYS: Mapping[str, Callable[[Path], Survey]] = {"fastwarc": _survey_fastwarc, "warcio": _survey_warcio}
"""How far a peer gets in a file, by its name."""


def read_by_fastwarc(paths: Sequence[Path]) -> int:
    """Read the bodies of all responses as they are stored; returns how many."""
    n = 0
    for path in paths:
        for record in ArchiveIterator(str(path), record_types=WarcRecordType.response):
            record.reader.read()
            n += 1
    return n


def read_by_fastwarc_with_fields(paths: Sequence[Path]) -> int:
    """Read what a row of our reader holds: decoded body, place, address, date, status, media type and charset."""
    n = 0
    for path in paths:
        for record in ArchiveIterator(str(path), record_types=WarcRecordType.response, auto_decode="all"):
            _ = (
                record.stream_pos,
                record.headers.get("WARC-Target-URI"),
                record.headers.get("WARC-Date"),
                record.http_headers.status_code,
                record.http_content_type,
                record.http_charset,
                record.reader.read(),
            )
            n += 1
    return n


def read_by_warcio(paths: Sequence[Path]) -> int:
    """Read the decoded bodies of all responses; returns how many."""
    from warcio.archiveiterator import ArchiveIterator as Warcio

    n = 0
    for path in paths:
        with path.open("rb") as file:
            for record in Warcio(file):
                if record.rec_type == "response":
                    record.content_stream().read()
                    n += 1
    return n
