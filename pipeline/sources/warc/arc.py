"""Headers of ARC records: one line a record, of version 1 (five fields) or 2 (ten).

The format: https://archive.org/web/researcher/ArcFileFormat.php. Fields are separated by single spaces, but URLs have
spaces too in real files, so a line is read from its end. An ARC record has no mark of its own: a line is a header if
it begins with a URL and has a date and a length where they belong. Its block is followed by one newline, which is
weak proof of its end, so a record that was searched for must be followed by the next one or the end of the file.
"""

import re
from datetime import UTC, datetime
from typing import Final

from corpusmill.pipeline.sources.warc.header import Header

__all__ = ["ENDS", "PROVING_ENDS", "START", "parse"]

START: Final = re.compile(
    rb"^([a-z][a-z0-9+.-]{1,30}:[^\r\n]{0,65536}?) ([^\s]{1,64}) (\d{14})\d{0,3} ([^\s]{1,255})"
    rb"(?: [^\s]{1,32} [^\s]{1,255} [^\s]{1,65536} \d{1,15} [^\s]{1,4096})? (\d{1,15})[ \t]*\r?\n",
    re.MULTILINE | re.IGNORECASE,
)
ENDS: Final = (b"\n", b"\r\n")
PROVING_ENDS: Final = ()


def parse(head: bytes, *, strict: bool) -> tuple[Header, int] | None:
    """See `Format.parse`. All headers are strict; the fields get the names that WARC has for them."""
    line = START.match(head)
    if line is None:
        if b"\n" not in head:
            raise EOFError
        return None
    url, _, date_digits, media_type, length = line.groups()
    try:
        date = datetime.strptime(date_digits.decode(), "%Y%m%d%H%M%S")
    except ValueError:
        return None
    is_http = url.lower().startswith((b"http:", b"https:"))
    fields = {
        b"warc-target-uri": url,
        b"warc-date": date.replace(tzinfo=UTC).isoformat().encode(),
        b"warc-identified-payload-type": media_type,
        b"content-type": b"application/http" if is_http else media_type,
    }
    kind = "filedesc" if url.lower().startswith(b"filedesc:") else "response"
    return Header(kind, int(length), fields), line.end()
