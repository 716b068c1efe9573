"""Bodies of HTTP messages as crawlers store them: chunked, compressed, cut short, or with headers that lie.

Three rules decide the doubtful cases. A body that looks plain is plain, whatever its headers say: Common Crawl and
others store decoded bodies below the headers of the encoded ones. A body that was cut in transfer keeps what arrived,
as a browser would show it. Compressed data with wrong bytes inside, or that fails its checksum, is damaged.

Every decoder works block by block, so a bomb costs the memory that a record may have and one block more.
"""

import codecs
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import brotli  # type: ignore[import-untyped]
import zstandard
from isal import isal_zlib

from corpusmill.pipeline.sources.record import DamageReason, Slice
from corpusmill.pipeline.sources.unpack import Decoder

__all__ = ["BodyError", "decode_body"]

_HEAD = 1024
_NOT_TEXT = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # control characters; ESC occurs in ISO-2022 text
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # no coding begins with these bytes and has content

_SIZE = rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\n]*)?\r?\n"
_FIRST_CHUNK = re.compile(rb"(?:\r?\n)?" + _SIZE)
_NEXT_CHUNK = re.compile(rb"\r?\n(?!0+\r?\n(?!\s*\Z))" + _SIZE)  # the last one only where the body ends
_CUT_CHUNK = re.compile(rb"(?:\r?\n)?[ \t]*[0-9a-fA-F]*[ \t]*(?:;[^\n]*)?\r?")

_MAX_CODINGS = 5  # as curl and urllib3 do: each one may cost as much as a whole record
_BLOCK, _SMALL_BLOCK = 1 << 13, 1 << 8  # of input; the most that it grows to is 8 MB, in deflate and in zstd
_OUTPUT = 1 << 16
_MAX_WINDOW = 8 << 20  # RFC 9659 §3

_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"


class BodyError(Exception):
    """A body that cannot be decoded.

    Attributes:
        reason: "damaged_body"; "too_large" or "bomb" where it decodes to more than the slice allows.
    """

    def __init__(self, reason: DamageReason) -> None:
        super().__init__(reason)
        self.reason: DamageReason = reason


def decode_body(body: bytes, piece: Slice, *, transfer_encoding: str = "", content_encoding: str = "") -> bytes:
    """Undo the transfer and content encodings of an HTTP body (RFC 9112 §7, RFC 9110 §8.4).

    Args:
        body: as stored.
        piece: sets the largest content and the largest ratio.
        transfer_encoding: value of Transfer-Encoding.
        content_encoding: value of Content-Encoding: gzip, deflate, br, zstd, or several in the order applied.

    Raises:
        BodyError: the body is damaged, of an unknown encoding, or grows too large.
    """
    codings = _list_codings(f"{content_encoding},{transfer_encoding}")
    if len(codings) > _MAX_CODINGS:
        raise BodyError("damaged_body")
    stored = len(body)
    for coding in reversed(codings):
        if coding == "chunked":
            body = _dechunk(body)
        elif body and not _looks_plain(body):
            body = _decompress(coding, body, stored, piece)
    if len(body) > piece.max_bytes:
        raise BodyError("too_large")
    return body


@functools.lru_cache(maxsize=1 << 8)
def _list_codings(applied: str) -> tuple[str, ...]:
    codings = (coding.partition(";")[0].strip() for coding in applied.lower().split(","))
    return tuple(coding for coding in codings if coding not in ("", "identity"))


def _looks_plain(body: bytes) -> bool:
    """Whether a body is text as it stands: compressed bytes soon hold a control character or are not UTF-8."""
    head = body[:_HEAD]
    if head.startswith(_UTF16):
        return True
    if _NOT_TEXT.search(head):
        return False
    if b"<" in head:
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _dechunk(body: bytes) -> bytes:
    """The content of a chunked body.

    A body whose first line is no size is not chunked. A chunk that does not end where its size says ends before the
    next line that is a size.
    """
    line = _FIRST_CHUNK.match(body)
    if line is None:
        return body
    content = io.BytesIO()
    while line is not None and int(line[1], 16):
        start, end = line.end(), line.end() + int(line[1], 16)
        line = _FIRST_CHUNK.match(body, end)
        if line is None and not _CUT_CHUNK.fullmatch(body, end):
            line = _NEXT_CHUNK.search(body, start)
            end = len(body) if line is None else line.start()
        content.write(memoryview(body)[start:end])
    return content.getvalue()


def _decompress(coding: str, body: bytes, stored: int, piece: Slice) -> bytes:
    decoder = _DECODERS.get(coding)
    if decoder is None:
        raise BodyError("damaged_body")
    content = io.BytesIO()
    try:
        for block in decoder(body):
            content.write(block)
            if piece.is_bomb(stored, content.tell()):
                raise BodyError("bomb")
            if content.tell() > piece.max_bytes:
                raise BodyError("too_large")
    except (isal_zlib.error, brotli.error, zstandard.ZstdError):  # type: ignore[misc]  # isal_zlib: its stub is wrong
        raise BodyError("damaged_body") from None
    return content.getvalue()


def _streams(body: bytes, new_decoder: Callable[[], Decoder], magic: bytes, n_input: int = _BLOCK) -> Iterator[bytes]:
    """The content of one or more compressed streams after each other; what else follows is no part of them."""
    position = 0
    arrived = False
    while position == 0 or body.startswith(magic, position):
        decoder = new_decoder()
        while not decoder.eof and position < len(body):
            block = decoder.decompress(body[position : position + n_input])
            position += n_input
            arrived = arrived or bool(block)
            yield block
        if not decoder.eof and not arrived:
            raise BodyError("damaged_body")
        position = min(position, len(body)) - len(decoder.unused_data)


def _gunzip(body: bytes) -> Iterator[bytes]:
    either = 32 + isal_zlib.MAX_WBITS  # gzip or zlib: servers mix them up
    return _streams(body, lambda: isal_zlib.decompressobj(either), _GZIP)


def _inflate(body: bytes) -> Iterator[bytes]:
    if body.startswith(_GZIP) or (body[0] & 15 == 8 and int.from_bytes(body[:2]) % 31 == 0):  # RFC 1950 §2.2
        return _gunzip(body)
    bare = -isal_zlib.MAX_WBITS  # many servers leave out the zlib frame
    return _streams(body, lambda: isal_zlib.decompressobj(bare), _GZIP)


def _unzstd(body: bytes) -> Iterator[bytes]:
    frames = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    return _streams(body, frames.decompressobj, _ZSTD, _SMALL_BLOCK)


def _unbrotli(body: bytes) -> Iterator[bytes]:
    decoder = brotli.Decompressor()
    arrived = False
    for start in range(0, len(body), _BLOCK):
        block = decoder.process(body[start : start + _BLOCK], output_buffer_limit=_OUTPUT)
        while block:
            arrived = True
            yield block
            block = decoder.process(b"", output_buffer_limit=_OUTPUT)
    if not arrived and not decoder.is_finished():
        raise BodyError("damaged_body")


_DECODERS: Final[Mapping[str, Callable[[bytes], Iterator[bytes]]]] = {
    "gzip": _gunzip,
    "x-gzip": _gunzip,
    "deflate": _inflate,
    "br": _unbrotli,
    "zstd": _unzstd,
}
