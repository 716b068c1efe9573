"""What the headers of a response say."""

import datetime
import email.utils
import re
from typing import Final

import httpx

__all__ = ["body_length", "content_range", "retry_after", "validator"]

_CONTENT_RANGE: Final = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)")


def validator(response: httpx.Response) -> str | None:
    """What tells for sure that a file is unchanged: a strong ETag, else a date of modification.

    A date does only if it is older than the answer by a second (RFC 9110, 8.8.2.2): a file may change twice within
    one. Like browsers, we take it too where the ETag is a weak one.
    """
    tag = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return str(tag)
    modified, now = _date(response, "Last-Modified"), _date(response, "Date")
    if modified is None or now is None or (now - modified).total_seconds() < 1:
        return None
    return str(response.headers["Last-Modified"])


def body_length(response: httpx.Response) -> int | None:
    """Bytes of the body, None if they are not announced (RFC 9112, 6.3)."""
    length = response.headers.get("Content-Length")
    return None if length is None or "Transfer-Encoding" in response.headers else int(length)


def content_range(response: httpx.Response) -> tuple[int | None, int | None, int | None]:
    """First and last byte that a 206 brings, and the size of the file; None for what is not said (RFC 9110, 14.4)."""
    match = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None:
        return None, None, None
    first, last, size = (None if group in (None, "*") else int(group) for group in match.groups())
    return first, last, size


def retry_after(response: httpx.Response) -> float:
    """Seconds to wait: a number, or a date (RFC 9110, 10.2.3) by the server's own clock if it tells it."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]{1,9}", value):
        return float(value)
    until = _date(response, "Retry-After")
    if until is None:
        return 0.0
    now = _date(response, "Date") or datetime.datetime.now(datetime.UTC)
    return max(0.0, (until - now).total_seconds())


def _date(response: httpx.Response, name: str) -> datetime.datetime | None:
    try:
        date = email.utils.parsedate_to_datetime(response.headers.get(name, ""))
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=datetime.UTC)
