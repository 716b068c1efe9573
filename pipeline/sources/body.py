"""Bodies of HTTP messages as crawlers store them: chunked, compressed, cut short, or with headers that lie.

Two rules decide the doubtful cases. A body that already looks like a page is one, whatever its headers say:
Common Crawl and others store decoded bodies below the headers of the encoded ones. And a body that was cut in
transfer keeps what arrived, as a browser would show it, while one with wrong bytes inside is damaged.
"""

import io
import re
import zlib
from collections.abc import Callable, Mapping
from typing import Final

from fastwarc.stream_io import BrotliReader


__all__ = ["BodyError", "decode_body"]

_CHUNK = re.compile(rb"(?:\A|\r?\n)[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # control characters; ESC occurs in ISO-2022 text
_HEAD = 1024
MAX_CONTENT = 64 << 20


class BodyError(Exception):
    """A body that cannot be decoded.

    Attributes:
        reason: "damaged", or "too_large" where it decodes to more than `MAX_CONTENT` bytes.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def decode_body(body: bytes, *, transfer_encoding: str = "", content_encoding: str = "") -> bytes:
    """Undo the transfer and content encodings of an HTTP body (RFC 9112 §7.1, RFC 9110 §8.4).

    Args:
        body: as stored.
        transfer_encoding: value of Transfer-Encoding; only "chunked" is undone.
        content_encoding: value of Content-Encoding: gzip, deflate, br, or several in the order applied.

    Raises:
        BodyError: the body is damaged, of an unknown encoding, or too large.
    """
    if "chunked" in transfer_encoding.lower():
        body = _dechunk(body)
    for coding in reversed(content_encoding.lower().split(",")):
        if coding.strip() in ("", "identity") or _looks_plain(body):
            continue
        if coding.strip() not in _DECODERS:
            raise BodyError("damaged")
        body = _DECODERS[coding.strip()](body)
    return body


def _looks_plain(body: bytes) -> bool:
    """Whether a body is markup as it stands: compressed bytes soon hold a control character."""
    return b"<" in body[:_HEAD] and not _NOT_TEXT.search(body, 0, _HEAD)


def _dechunk(body: bytes) -> bytes:
    chunks: list[bytes] = []
    position = 0
    while position < len(body):
        line = _CHUNK.match(body, position)
        if line is None:
            if not chunks:
                return body  # the header lies
            if b"\n" in body[position + 2 :]:
                raise BodyError("damaged")
            break  # cut within the line
        size = int(line[1], 16)
        if size == 0:
            break
        position = line.end() + size
        chunks.append(body[line.end() : position])
    return b"".join(chunks)


def _inflate(body: bytes, wbits: int) -> bytes:
    parts: list[bytes] = []
    room = MAX_CONTENT
    while not parts or body.startswith(b"\x1f\x8b"):  # gzip members may follow each other (RFC 1952 §2.2)
        decoder = zlib.decompressobj(wbits)
        try:
            parts.append(decoder.decompress(body, room + 1))
        except zlib.error:
            raise BodyError("damaged") from None
        room -= len(parts[-1])
        if room < 0:
            raise BodyError("too_large")
        body = decoder.unused_data
    if not any(parts) and not decoder.eof:
        raise BodyError("damaged")
    return b"".join(parts)


def _gunzip(body: bytes) -> bytes:
    return _inflate(body, 16 + zlib.MAX_WBITS)


def _deflate(body: bytes) -> bytes:
    try:
        return _inflate(body, zlib.MAX_WBITS)
    except BodyError as error:
        if error.reason == "too_large":
            raise
        return _inflate(body, -zlib.MAX_WBITS)  # many servers leave out the zlib frame


def _unbrotli(body: bytes) -> bytes:
    reader = BrotliReader(io.BytesIO(body))
    try:
        text = reader.read(MAX_CONTENT + 1)
    except OSError:
        raise BodyError("damaged") from None
    if len(text) > MAX_CONTENT:
        raise BodyError("too_large")
    return text


_DECODERS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _deflate,
    "br": _unbrotli,
}
