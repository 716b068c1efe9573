"""HTTP bodies, honest ones and others."""

import gzip
import random
import zlib

import fastwarc.stream_io
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import body as body_module
from corpusmill.pipeline.sources.body import BodyError, decode_body

PAGE = "<html><p>正文，第一段。</p><p>Second paragraph.</p></html>".encode() * 20


def chunked(body: bytes, size: int = 100, extension: bytes = b"") -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


def brotli(body: bytes) -> bytes:
    out = bytearray()

    class Sink:
        def write(self, data: bytes) -> int:
            out.extend(data)
            return len(data)

        def flush(self) -> None:
            pass

    with fastwarc.stream_io.BrotliWriter(Sink()) as writer:
        writer.write(body)
    return bytes(out)


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("", PAGE),
        ("identity", PAGE),
        ("gzip", gzip.compress(PAGE, mtime=0)),
        ("GZip", gzip.compress(PAGE, mtime=0)),
        ("x-gzip", gzip.compress(PAGE, mtime=0)),
        ("deflate", zlib.compress(PAGE)),
        ("deflate", raw_deflate(PAGE)),
        ("br", brotli(PAGE)),
        ("gzip", gzip.compress(PAGE[:300], mtime=0) + gzip.compress(PAGE[300:], mtime=0)),
        ("gzip", gzip.compress(PAGE, mtime=0) + b"trailing rubbish"),
        ("deflate, gzip", gzip.compress(zlib.compress(PAGE), mtime=0)),
    ],
)
def test_content_encodings(encoding: str, encoded: bytes) -> None:
    assert decode_body(encoded, content_encoding=encoding) == PAGE
    assert decode_body(chunked(encoded), transfer_encoding="Chunked", content_encoding=encoding) == PAGE


@settings(deadline=None, max_examples=50)
@given(
    body=st.binary(max_size=300),
    size=st.integers(1, 120),
    extension=st.sampled_from([b"", b";name=value", b" ; x", b"  "]),
)
def test_chunks_of_any_size_and_content(body: bytes, size: int, extension: bytes) -> None:
    assert decode_body(chunked(body, size, extension), transfer_encoding="chunked") == body


@settings(deadline=None, max_examples=50)
@given(body=st.binary(min_size=1, max_size=300), size=st.integers(1, 120), data=st.data())
def test_a_chunked_body_cut_anywhere_keeps_what_arrived(body: bytes, size: int, data: st.DataObject) -> None:
    whole = chunked(body, size)
    cut = data.draw(st.integers(len(b"%x\r\n" % min(size, len(body))), len(whole)))
    kept = decode_body(whole[:cut], transfer_encoding="chunked")
    assert body.startswith(kept)
    assert len(kept) >= min(cut, len(whole) - 5) - (len(whole) - 5 - len(body))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, br", "none", "utf-8"])
def test_a_header_that_lies_about_a_plain_page(encoding: str) -> None:
    assert decode_body(PAGE, transfer_encoding="chunked", content_encoding=encoding) == PAGE


def test_a_gzip_body_that_was_cut_keeps_what_arrived() -> None:
    page = random.Random(1).randbytes(5000).hex().encode()
    kept = decode_body(gzip.compress(page, mtime=0)[:2500], content_encoding="gzip")
    assert 0 < len(kept) < len(page)
    assert page.startswith(kept)


FLIPPED = bytearray(gzip.compress(PAGE, mtime=0))
FLIPPED[len(FLIPPED) // 2] ^= 0xFF


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", bytes(FLIPPED)),
        ("gzip", b"\x00\x01\x02 neither markup nor gzip"),
        ("gzip", gzip.compress(PAGE, mtime=0)[:5]),
        ("deflate", b"\x00\x01\x02 neither markup nor deflate"),
        ("br", b"\xff\x01\x02 neither markup nor brotli"),
        ("zstd", b"\x28\xb5\x2f\xfd\x00"),
    ],
)
def test_damaged_bodies(encoding: str, encoded: bytes) -> None:
    with pytest.raises(BodyError, match="damaged"):
        decode_body(encoded, content_encoding=encoding)


def test_a_chunk_with_a_wrong_size_is_damage() -> None:
    with pytest.raises(BodyError, match="damaged"):
        decode_body(b"5\r\nhello\r\n3\r\n world\r\n0\r\n\r\n", transfer_encoding="chunked")


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", raw_deflate), ("br", brotli)])
def test_a_decompression_bomb_is_refused(encoding: str, encode: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module, "MAX_CONTENT", 100_000)
    assert callable(encode)
    assert len(decode_body(encode(bytes(100_000)), content_encoding=encoding)) == 100_000
    with pytest.raises(BodyError, match="too_large"):
        decode_body(encode(bytes(100_001)), content_encoding=encoding)
