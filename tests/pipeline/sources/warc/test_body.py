"""HTTP bodies, honest ones and others."""

import functools
import gzip
import random
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources.record import Slice
from corpusmill.pipeline.sources.warc.body import BodyError, decode_body

PIECE = Slice(source="s", kind="warc", file_path="f.warc", location="f.warc", start=0, end=1)
PAGE = "<html><p>正文，第一段。</p><p>Second paragraph.</p></html>".encode() * 20
NOISE = random.Random(1).randbytes(5000).hex().encode()  # compresses to half, so a cut leaves something


def chunked(body: bytes, size: int = 100, extension: bytes = b"", trailer: bytes = b"", form: bytes = b"%x") -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    lines = [form % len(part) + extension + b"\r\n" + part + b"\r\n" for part in parts]
    return b"".join(lines) + b"0\r\n" + trailer + b"\r\n"


def dechunk(body: bytes) -> bytes:
    """The plain reading of RFC 9112 §7.1.3, for correct bodies."""
    content = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        size = int(line.split(b";")[0], 16)
        if size == 0:
            return content
        content += body[:size]
        assert body[size : size + 2] == b"\r\n"
        body = body[size + 2 :]


def gzipped(body: bytes) -> bytes:
    return gzip.compress(body, mtime=0)


def raw_deflate(body: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return encoder.compress(body) + encoder.flush()


def zstd(body: bytes) -> bytes:
    """A frame that does not tell its size, in blocks as a server sends them."""
    encoder = zstandard.ZstdCompressor(write_content_size=False).compressobj()
    blocks = [
        encoder.compress(body[i : i + 500]) + encoder.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)
        for i in range(0, len(body), 500)
    ]
    return b"".join(blocks) + encoder.flush()


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzipped),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
    ("br", brotli.compress),
    ("zstd", zstd),
]


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("", PAGE),
        ("identity", PAGE),
        *((encoding, encode(PAGE)) for encoding, encode in ENCODERS),
        ("GZip", gzipped(PAGE)),
        ("x-gzip", gzipped(PAGE)),
        ("gzip;q=1.0", gzipped(PAGE)),
        ("zstd", zstandard.compress(PAGE)),
        ("gzip", zlib.compress(PAGE)),
        ("deflate", gzipped(PAGE)),
        ("gzip", gzipped(PAGE[:300]) + gzipped(PAGE[300:])),
        ("zstd", zstd(PAGE[:300]) + zstandard.compress(PAGE[300:])),
        ("gzip", gzipped(PAGE) + b"rubbish"),
        ("deflate", zlib.compress(PAGE) + b"rubbish"),
        ("deflate", raw_deflate(PAGE) + b"rubbish"),
        ("zstd", zstd(PAGE) + b"rubbish"),
        ("deflate, gzip", gzipped(zlib.compress(PAGE))),
        ("br,zstd ,gzip", gzipped(zstd(brotli.compress(PAGE)))),
        ("chunked", chunked(PAGE)),
    ],
)
def test_content_encodings(encoding: str, encoded: bytes) -> None:
    assert decode_body(encoded, PIECE, content_encoding=encoding) == PAGE
    assert decode_body(chunked(encoded), PIECE, transfer_encoding="Chunked", content_encoding=encoding) == PAGE


def test_transfer_encodings_are_undone_before_content_encodings() -> None:
    body = chunked(gzipped(brotli.compress(PAGE)))
    assert decode_body(body, PIECE, transfer_encoding="gzip, chunked", content_encoding="br") == PAGE


@settings(deadline=None, max_examples=100)
@given(
    body=st.binary(max_size=300),
    size=st.integers(1, 120),
    extension=st.sampled_from([b"", b";name=value", b' ; x="y"', b"  ", b"\t"]),
    trailer=st.sampled_from([b"", b"Expires: never\r\n"]),
    form=st.sampled_from([b"%x", b"%X", b"%06x", b" %x"]),
)
def test_chunks_of_any_size_and_content(body: bytes, size: int, extension: bytes, trailer: bytes, form: bytes) -> None:
    encoded = chunked(body, size, extension, trailer, form)
    assert decode_body(encoded, PIECE, transfer_encoding="chunked") == dechunk(encoded) == body


@settings(deadline=None, max_examples=100)
@given(body=st.binary(min_size=1, max_size=300), size=st.integers(1, 120), data=st.data())
def test_a_chunked_body_cut_anywhere_keeps_what_arrived(body: bytes, size: int, data: st.DataObject) -> None:
    whole = chunked(body, size)
    cut = data.draw(st.integers(len(b"%x\r\n" % min(size, len(body))), len(whole)))
    kept = decode_body(whole[:cut], PIECE, transfer_encoding="chunked")
    assert body.startswith(kept)
    assert len(kept) >= min(cut, len(whole) - 5) - (len(whole) - 5 - len(body))


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (b"5\r\nhello\r\n3\r\n world\r\n0\r\n\r\n", b"hello world"),  # too small
        (b"5\r\nhello\r\n2\r\n world\r\n3\r\nfoo\r\n0\r\n\r\n", b"hello worldfoo"),
        (b"9\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),  # too large, into the next
        (b"5\r\nhello\r\n1\r\n x\r\n0\r\nworld\r\n0\r\n\r\n", b"hello x\r\n0\r\nworld"),  # a last chunk that is none
        (b"5\r\nhello6\r\n world0\r\n\r\n", b"hello world"),  # no line ends after chunks
        (b"5\nhello\n6\n world\n0\n\n", b"hello world"),  # bare LF
        (b"\r\n5\r\nhello\r\n0\r\n\r\n", b"hello"),  # a line too many
        (b"5\r\nhello\r\n6\r\n world\r\n", b"hello world"),  # no last chunk
        (b"5\r\nhello\r\nxyz\r\n\x00\xff rubbish", b"hello\r\nxyz\r\n\x00\xff rubbish"),  # no size: nothing is lost
        (b"fffffffffffffff\r\nhello", b"hello"),
        (b"ffffffffffffffff\r\nhello", b"ffffffffffffffff\r\nhello"),  # of 16 digits: no size
        (b"<p>5\r\nhello", b"<p>5\r\nhello"),  # not chunked
        (b"", b""),
    ],
)
def test_chunks_that_are_wrong(encoded: bytes, expected: bytes) -> None:
    assert decode_body(encoded, PIECE, transfer_encoding="chunked") == expected


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.integers(1, 50), st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3))))
def test_no_chunked_body_raises(body: bytes, size: int, edits: list[tuple[int, bytes]]) -> None:
    encoded = chunked(body, size)
    for place, new in edits:
        encoded = encoded[:place] + new + encoded[place + 1 :]
    assert len(decode_body(encoded, PIECE, transfer_encoding="chunked")) <= len(encoded)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, br", "none", "utf-8", "text/html"])
@pytest.mark.parametrize(
    "page", [PAGE, "<p>пример".encode("cp1251"), "正文\n".encode(), PAGE.decode().encode("utf-16"), b"{}", b""]
)
def test_a_header_that_lies_about_a_plain_page(encoding: str, page: bytes) -> None:
    assert decode_body(page, PIECE, transfer_encoding="chunked", content_encoding=encoding) == page


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
def test_a_compressed_body_that_was_cut_keeps_what_arrived(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    encoded = encode(NOISE)
    kept = decode_body(encoded[: len(encoded) // 2], PIECE, content_encoding=encoding)
    assert 4000 < len(kept) < len(NOISE)
    assert NOISE.startswith(kept)


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", gzipped(b"")),
        ("deflate", zlib.compress(b"")),
        ("deflate", b"\x03\0"),
        ("br", b"\x06"),
        ("zstd", zstd(b"")),
    ],
)
def test_an_empty_page_is_no_damage(encoding: str, encoded: bytes) -> None:
    assert decode_body(encoded, PIECE, content_encoding=encoding) == b""


def flipped(encoded: bytes) -> bytes:
    middle = len(encoded) // 2
    return encoded[:middle] + bytes([encoded[middle] ^ 0xFF]) + encoded[middle + 1 :]


@pytest.mark.parametrize(
    ("encoding", "encoded"),
    [
        ("gzip", flipped(gzipped(PAGE))),
        ("gzip", gzipped(PAGE)[:-5] + b"\0" + gzipped(PAGE)[-4:]),  # checksum
        ("gzip", b"\x00\x01\x02 neither markup nor gzip"),
        ("gzip", gzipped(PAGE)[:5]),
        ("gzip", gzipped(PAGE) + b"\x1f\x8b\x08" + bytes(7) + b"\xff rubbish"),
        ("deflate", b"\x06\x01\x02 neither markup nor deflate"),
        ("br", b"\xff\x01\x02 neither markup nor brotli"),
        ("zstd", b"\x28\xb5\x2f\xfd\x00"),
        ("zstd", b"\x00 neither markup nor zstd"),
        ("compress", b"\x1f\x9d\x90 of no known coding"),
        (",".join(["gzip"] * 6), functools.reduce(lambda body, _: gzipped(body), range(6), PAGE)),  # too many
    ],
)
def test_damaged_bodies(encoding: str, encoded: bytes) -> None:
    with pytest.raises(BodyError) as error:
        decode_body(encoded, PIECE, content_encoding=encoding)
    assert error.value.reason == "damaged_body"


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=100), st.sampled_from(["gzip", "deflate", "br", "zstd", "br, gzip"]))
def test_any_bytes_give_a_body_or_a_reason(body: bytes, encoding: str) -> None:
    try:
        assert isinstance(decode_body(body, PIECE, content_encoding=encoding), bytes)
    except BodyError as error:
        assert error.reason == "damaged_body"


@pytest.mark.parametrize(("encoding", "encode"), ENCODERS)
def test_the_largest_content(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    small = Slice(source="s", kind="warc", file_path="f", location="f", start=0, end=1, max_bytes=len(NOISE))
    assert decode_body(encode(NOISE), small, content_encoding=encoding) == NOISE
    with pytest.raises(BodyError, match="too_large"):
        decode_body(encode(NOISE + b"0"), small, content_encoding=encoding)
    with pytest.raises(BodyError, match="too_large"):
        decode_body(NOISE + b"0", small)


def test_the_largest_ratio() -> None:
    """Two codings that each grow by less than 1000 are one bomb; below 1 MiB nothing is."""
    twice = gzipped(gzipped(bytes(2_000_000)))
    with pytest.raises(BodyError, match="bomb"):
        decode_body(twice, PIECE, content_encoding="gzip, gzip")
    assert len(decode_body(gzipped(gzipped(bytes(1 << 20))), PIECE, content_encoding="gzip, gzip")) == 1 << 20


@pytest.mark.parametrize(
    ("encoding", "bomb"),
    [
        ("gzip", "gzip.compress(bytes(10_000_000), 9) * 1000"),  # 10 GB
        ("zstd", "bytes.fromhex('28b52ffd0058') + bytes.fromhex('02001041') * 2_500_000"),  # 320 GB
        ("br", "brotli.compress(bytes(100_000_000), quality=1) * 1000"),
    ],
)
def test_a_bomb_costs_the_memory_of_one_record(encoding: str, bomb: str) -> None:
    """In a process of its own: at most 64 MiB, an eighth more as it grows, and a block above what it took before."""
    code = f"""
import brotli, gzip, pathlib, re
from corpusmill.pipeline.sources.warc.body import BodyError, decode_body
from corpusmill.pipeline.sources.record import Slice
def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1])
piece = Slice(source="s", kind="warc", file_path="f", location="f", start=0, end=1, max_ratio=10**9)
body = {bomb}
pathlib.Path("/proc/self/clear_refs").write_text("5")  # sets VmHWM to the present VmRSS
before = status("VmRSS")
try:
    decode_body(body, piece, content_encoding={encoding!r})
except BodyError as error:
    print(error.reason, (status("VmHWM") - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    reason = re.fullmatch(r"too_large (\d+)\n", done.stdout)
    assert reason, done
    assert int(reason[1]) < 64 + 8 + 33


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("warc/warcio-example-wrong-chunks.warc.gz", [(1270, True)]),  # its lengths are wrong, too
        ("warc/warcio-example-iana.org-chunked.warc", [(7223, True)]),  # its first size is "001c37"
        (
            "warc-edge/edge-http-quirks.warc.gz",
            [(19976, True), (6553, True), (14926, True), (4364, False)],
        ),  # the last cut
        ("warc-edge/edge-brotli.warc.gz", [(4483, True), (15351, True)]),
    ],
)
def test_real_bodies(shared_data: Path, name: str, expected: list[tuple[int, bool]]) -> None:
    """Bytes of each page, and whether it is there to its end."""
    found = []
    for record in ArchiveIterator(str(shared_data / name), record_types=WarcRecordType.response, auto_decode="none"):
        http = record.http_headers
        assert http is not None
        codings = {key: http.get(key.replace("_", "-")) or "" for key in ("transfer_encoding", "content_encoding")}
        page = decode_body(record.reader.read(), PIECE, **codings)
        if "html" in (http.get("Content-Type") or ""):
            found.append((len(page), page.endswith((b"</html>", b"</html>\n", b"</html>\r\n"))))
    assert found == expected
