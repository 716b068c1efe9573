"""WARC files, whole and damaged."""

import errno
import gzip
import hashlib
import io
import json
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline.sources import Slice, ranges, read

HTML = "<html><title>柏林</title><p>柏林是德国的首都。</p></html>"
DATE = "2026-11-24T08:00:00+00:00"


def warc(
    block: bytes,
    *,
    kind: str = "response",
    url: str | None = "http://例子.example/页",
    content_type: str = "application/http; msgtype=response",
    length: int | None = None,
    **more: str,
) -> bytes:
    """A WARC record; `length` lies about the size of the block."""
    headers = {
        "WARC-Type": kind,
        "WARC-Record-ID": "<urn:uuid:00000000-0000-0000-0000-000000000000>",
        "WARC-Date": "2026-11-24T08:00:00Z",
        "Content-Type": content_type,
        "Content-Length": str(len(block) if length is None else length),
    }
    headers |= {} if url is None else {"WARC-Target-URI": url}
    headers |= {name.replace("_", "-"): value for name, value in more.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + block + b"\r\n\r\n"


def http(
    body: bytes = HTML.encode(),
    *,
    status: str = "200 OK",
    content_type: str | None = "text/html; charset=UTF-8",
    more: str = "",
) -> bytes:
    media = "" if content_type is None else f"Content-Type: {content_type}\r\n"
    return f"HTTP/1.1 {status}\r\n{media}{more}\r\n".encode() + body


def member(*records: bytes) -> bytes:
    return gzip.compress(b"".join(records), mtime=0)


def pages(n: int) -> list[bytes]:
    """Responses that differ in size and content."""
    return [warc(http(f"<p>第{i}页{hashlib.sha512(bytes([i])).hexdigest() * (1 + 7 * i)}".encode())) for i in range(n)]


@pytest.fixture(scope="session")
def read_warc(read_file: Any, scratch: Path) -> Any:
    """Reads bytes as a WARC file: rows and counts."""

    def read_warc(data: bytes, **more: Any) -> tuple[list[dict[str, Any]], Counter[str]]:
        path = scratch / "网.warc.gz"
        path.write_bytes(data)
        result: tuple[list[dict[str, Any]], Counter[str]] = read_file(path, "warc", **more)
        return result

    return read_warc


# What a row says


def test_a_response_becomes_a_row(read_warc: Any) -> None:
    data = member(warc(http(HTML.encode("gbk"), content_type='text/html; charset="GBK"')))
    (row,), counts = read_warc(data)
    assert counts == Counter(records=1)
    assert row.pop("date").isoformat() == DATE
    assert len(row.pop("id")) == 32
    assert row == {
        "url": "http://例子.example/页",
        "title": None,
        "file_path": "网.warc.gz",
        "offset": 0,
        "length": len(data),
        "record_index": 0,
        "content": HTML.encode("gbk"),
        "media_type": "text/html",
        "charset": "gbk",
        "language": None,
        "reason": None,
        "truncated": None,
        "redirect": None,
    }


@pytest.mark.parametrize("compressed", [True, False])
def test_a_row_says_where_its_record_lies(read_warc: Any, compressed: bool) -> None:
    records = pages(5)
    records.insert(2, warc(b"via: x", kind="metadata", content_type="application/warc-fields"))
    records.insert(0, warc(b"software: x", kind="warcinfo", url=None))
    stored = [member(record) for record in records] if compressed else records
    data = b"".join(stored)
    rows, counts = read_warc(data)
    assert counts == Counter(records=5, warc_warcinfo=1, warc_metadata=1)
    cuts = [data[row["offset"] : row["offset"] + row["length"]] for row in rows]
    assert cuts == [stored[i] for i in (1, 2, 4, 5, 6)]
    for cut, row in zip(cuts, rows, strict=True):
        assert row["content"] in (gzip.decompress(cut) if compressed else cut)
        assert row["record_index"] == 0


def test_types_that_are_not_records_are_counted(read_warc: Any) -> None:
    kinds = ["warcinfo", "request", "metadata", "revisit", "continuation", "screenshot"]
    rows, counts = read_warc(b"".join(member(warc(http(), kind=kind)) for kind in kinds))
    assert rows == []
    expected = ["warcinfo", "request", "metadata", "revisit", "continuation", "unknown"]
    assert counts == Counter({f"warc_{kind}": 1 for kind in expected})


@pytest.mark.parametrize(
    ("record", "reason", "media_type"),
    [
        (warc(http(status="301 Moved")), "redirect", "text/html"),
        (warc(http(status="304 Not Modified", content_type=None)), "redirect", None),
        (warc(http(status="404 Not Found")), "status", "text/html"),
        (warc(http(status="206 Partial Content")), "status", "text/html"),
        (warc(b"no http at all"), "status", None),
        (warc(http(content_type="image/png")), "not_html", "image/png"),
        (warc(http(content_type="text/plain")), "not_html", "text/plain"),
        (warc(http(b"\x89PNG", content_type=None)), "not_html", None),
        (warc(b"example. IN A", content_type="text/dns", url="dns:example"), "not_html", "text/dns"),
        (warc(b"text", kind="resource", content_type="text/plain"), "not_html", "text/plain"),
        (warc(http(b"")), "no_text", "text/html"),
        (warc(http(b"\x1f\x8b\x00broken", more="Content-Encoding: gzip\r\n")), "damaged_body", "text/html"),
        (warc(http(more=f"X: {'x' * (1 << 20)}\r\n")), "damaged_header", None),
    ],
)
def test_records_without_a_document(read_warc: Any, record: bytes, reason: str, media_type: str | None) -> None:
    data = member(record)
    rows, _ = read_warc(data + member(warc(http())))
    assert [row["reason"] for row in rows] == [reason, None]
    assert rows[0]["content"] is None
    assert rows[0]["media_type"] == media_type
    assert (rows[0]["offset"], rows[0]["length"]) == (0, len(data))


@pytest.mark.parametrize(
    ("record", "media_type", "charset"),
    [
        (warc(http(content_type="Application/XHTML+XML")), "application/xhtml+xml", None),
        (warc(http(content_type="text/html;charset=Big5")), "text/html", "big5"),
        (warc(http(content_type="text/html charset='gb18030'")), "text/html", "gb18030"),
        (warc(http(content_type=None), WARC_Identified_Payload_Type="text/html"), "text/html", None),
        (warc(http(content_type=None)), "text/html", None),
        (warc(http().replace(b"HTTP/1.1 200 OK", b"HTTP/2 200")), "text/html", "utf-8"),
        (warc(http().replace(b"\r\n", b"\n")), "text/html", "utf-8"),
        (warc(http(more="Content-Length: 5\r\n")), "text/html", "utf-8"),
        (warc(http(more="X-Crawler-Content-Encoding: gzip\r\n")), "text/html", "utf-8"),
        (warc(http(gzip.compress(HTML.encode(), mtime=0), more="content-encoding: gzip\r\n")), "text/html", "utf-8"),
        (warc(http(more="Transfer-Encoding: chunked\r\n")), "text/html", "utf-8"),
        (warc(HTML.encode(), kind="resource", content_type="text/html; charset=utf-8"), "text/html", "utf-8"),
        (warc(HTML.encode(), kind="conversion", content_type="text/plain"), "text/plain", None),
    ],
)
def test_records_with_a_document(read_warc: Any, record: bytes, media_type: str, charset: str | None) -> None:
    (row,), _ = read_warc(member(record))
    assert row["content"] == HTML.encode()
    assert (row["media_type"], row["charset"], row["reason"]) == (media_type, charset, None)


def test_an_address_in_angle_brackets_as_wget_writes_it(read_warc: Any) -> None:
    (row,), _ = read_warc(warc(http(), url="<http://example.com/a b>"))
    assert row["url"] == "http://example.com/a b"


def test_bodies_above_the_limit_are_not_read(read_warc: Any) -> None:
    rows, _ = read_warc(member(warc(http(b"<" * 1001))) + member(warc(http(b"<" * 1000))), max_bytes=1000)
    assert [row["reason"] for row in rows] == ["too_large", None]


def test_a_member_that_grows_beyond_all_measure_is_a_bomb(read_warc: Any) -> None:
    bomb, fine = member(warc(http(bytes(4 << 20)))), member(warc(http()))
    rows, _ = read_warc(bomb + fine, max_ratio=100)
    assert [(row["reason"], row["offset"], row["length"]) for row in rows] == [
        ("bomb", 0, len(bomb)),
        (None, len(bomb), len(fine)),
    ]


def test_a_page_that_the_crawler_cut_says_so(read_warc: Any) -> None:
    (row,), counts = read_warc(member(warc(http(), WARC_Truncated="length")))
    assert (row["truncated"], row["content"], counts["warc_truncated"]) == ("length", HTML.encode(), 1)


def test_spans_of_a_file_have_the_places_that_they_have_in_the_whole(read_warc: Any) -> None:
    members = [member(record) for record in pages(5)]
    whole, _ = read_warc(b"".join(members))
    spans = [(row["offset"], row["length"]) for row in (whole[1], whole[3], whole[4])]
    some, _ = read_warc(
        members[1] + members[3] + members[4], spans=[spans[0], (spans[1][0], spans[1][1] + spans[2][1])]
    )
    assert some == [whole[1], whole[3], whole[4]]


# Unusual but sound files


def test_an_empty_file_has_no_records(read_warc: Any) -> None:
    assert read_warc(b"") == ([], Counter())


def test_records_of_one_member_share_its_offset(read_warc: Any) -> None:
    first, second, third = member(*pages(3)), member(warc(http())), member(*pages(2))
    rows, _ = read_warc(first + second + third)
    places = [(row["offset"], row["length"], row["record_index"]) for row in rows]
    shared = len(first) + len(second)
    assert places == [
        (0, None, 0),
        (0, None, 1),
        (0, None, 2),
        (len(first), len(second), 0),
        (shared, None, 0),
        (shared, None, 1),
    ]


def test_a_record_of_two_members_is_one_slice(read_warc: Any) -> None:
    record = warc(http())
    block = record.index(b"<html>")
    data = member(record[:block]) + member(record[block:])
    rows, _ = read_warc(data + data)
    assert [(row["offset"], row["length"]) for row in rows] == [(0, len(data)), (len(data), len(data))]
    assert [row["content"] for row in rows] == [HTML.encode()] * 2


def test_members_without_content_are_stepped_over(read_warc: Any) -> None:
    one, none = member(warc(http())), member()
    rows, _ = read_warc(none + one + none + none + one + none)
    assert [(row["offset"], row["length"]) for row in rows] == [
        (len(none), len(one)),
        (3 * len(none) + len(one), len(one)),
    ]


@pytest.mark.parametrize("compressed", [True, False])
def test_header_lines_that_end_in_a_bare_line_feed(read_warc: Any, compressed: bool) -> None:
    head, _, block = warc(http()).partition(b"\r\n\r\n")
    record = head.replace(b"\r\n", b"\n") + b"\n\n" + block
    data = member(record) if compressed else record
    rows, _ = read_warc(data * 2)
    assert [row["content"] for row in rows] == [HTML.encode()] * 2
    assert [row["offset"] for row in rows] == [0, len(data)]


def test_a_last_record_without_its_blank_line_is_whole(read_warc: Any) -> None:
    rows, _ = read_warc(warc(http()) + warc(http())[:-4])
    assert [row["reason"] for row in rows] == [None, None]


class FailingDisk(io.BytesIO):
    """A file that fails once, at the first read behind some place."""

    def __init__(self, data: bytes, place: int, error: OSError) -> None:
        super().__init__(data)
        self._place: float = place
        self._error = error

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() > self._place:
            self._place = math.inf
            raise self._error
        return super().read(size)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), ConnectionResetError("reset")])
@pytest.mark.parametrize("place", [-1, 100_000])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("in_header", [True, False])
def test_a_failing_disk_or_network_is_not_damage(
    monkeypatch: pytest.MonkeyPatch, error: OSError, place: int, compressed: bool, in_header: bool
) -> None:
    noise = hashlib.shake_256(b"x").hexdigest(150_000)
    data = warc(http(more=f"X: {noise}\r\n") if in_header else http(noise.encode()))
    data = member(data) if compressed else data
    monkeypatch.setattr("corpusmill.pipeline.sources.warc.reader.open_input", lambda _: FailingDisk(data, place, error))
    piece = Slice(source="s", kind="warc", file_path="f", location="f", start=0, end=len(data), columns={})
    with pytest.raises(type(error)) as raised:
        list(read(piece, Counter()))
    assert raised.value is error


# Real files


def test_a_file_is_one_unit() -> None:
    assert ranges("warc", "x.warc.gz", index=None, n_bytes=9, target_bytes=2) == [(0, 9)]


def test_every_page_of_the_crawl_is_byte_for_byte_there(shared_data: Path, read_file: Any) -> None:
    with gzip.open(shared_data / "crawl/dev.manifest.jsonl.gz") as lines:
        expected = {entry["uri"]: entry["sha1"] for entry in map(json.loads, lines)}
    found = {}
    for path in sorted((shared_data / "crawl").glob("*.warc.gz")):
        data = path.read_bytes()
        rows, counts = read_file(path, "warc")
        assert counts["warc_warcinfo"] == 1
        for row in rows:
            found[row["url"]] = hashlib.sha1(row["content"]).hexdigest()
        for row in rows[:: len(rows) // 10]:
            assert row["url"].encode() in gzip.decompress(data[row["offset"] : row["offset"] + row["length"]])
    assert found == expected


MEASURE = """
import resource, sys
from collections import Counter
from corpusmill.pipeline.sources import Slice, read
path, size = sys.argv[1], int(sys.argv[2])
def run(end):
    piece = Slice(source="s", kind="warc", file_path="f", location=path, start=0, end=end, columns={})
    counts = Counter()
    for batch in read(piece, counts):
        pass
    return counts["records"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
print(*run(size))
"""


def test_memory_does_not_grow_with_the_file(scratch: Path) -> None:
    page = member(warc(http(b"<" * (1 << 20))))
    film = member(warc(http(bytes(100 << 20), content_type="video/mp4")))
    peaks = {}
    for name, data, n_records in (("small", page * 20, 20), ("large", page * 150 + film, 151)):
        path = scratch / f"{name}.warc.gz"
        path.write_bytes(data)
        command = [sys.executable, "-c", MEASURE, str(path), str(len(data))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        n_found, peaks[name] = map(int, done.stdout.split())
        assert n_found == n_records
    assert peaks["large"] < peaks["small"] + 64  # MB; the file unpacks to 250 MB
