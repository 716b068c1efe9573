"""Multistream dumps, whole and damaged."""

import bz2
import gzip
import html
import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from corpusmill.pipeline.sources.wikipedia import find_index
from corpusmill.schemas.errors import SourceError

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="zh">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>zhwiki</dbname>
    <base>https://zh.wikipedia.org/wiki/Wikipedia:%E9%A6%96%E9%A1%B5</base>
    <namespaces><namespace key="0" case="first-letter" /></namespaces>
  </siteinfo>
"""
FOOT = "</mediawiki>"
NAME = "zhwiki-20261101-pages-articles-multistream.xml.bz2"


def page(number: int, title: str, *texts: str, namespace: int = 0, more: str = "") -> str:
    """A page; each text is a revision."""
    revisions = "".join(
        f"<revision><id>{number * 100 + i}</id><timestamp>2026-10-0{i + 1}T00:00:00Z</timestamp>"
        f'<model>wikitext</model><text xml:space="preserve">{escape(text)}</text></revision>\n'
        for i, text in enumerate(texts)
    )
    return f"  <page><title>{escape(title)}</title><ns>{namespace}</ns><id>{number}</id>{more}{revisions}</page>\n"


STREAMS = [
    page(1, "柏林", "'''柏林'''是[[德国]]的首都。") + page(2, "AC/DC & “friends”", "<b>Rock</b> & roll"),
    page(3, "讨论:柏林", "不是条目", namespace=1)
    + page(4, "柏林市", "#重定向 [[柏林]]", more='<redirect title="柏林" />'),
    page(5, "空", " \n") + page(6, "修订", "第一版", "第二版"),
    page(7, "汉堡", "'''汉堡'''" + "是一座城市。" * 50),
]
CONTENTS = ["'''柏林'''是[[德国]]的首都。", "<b>Rock</b> & roll", None, None, None, "第一版", "第二版"]
REASONS = [None, None, "other_namespace", "redirect", "no_text", None, None, None]


def write_dump(folder: Path, streams: Sequence[str], *, name: str = NAME) -> tuple[Path, list[int]]:
    """A dump with one bz2 stream a string, and its index; returns its path and where the streams start."""
    path = folder / name
    packed = [bz2.compress(stream.encode()) for stream in streams]
    starts = [sum(map(len, packed[:i])) for i in range(len(packed))]
    path.write_bytes(b"".join(packed))
    lines = [
        f"{start}:{page.findtext('id')}:{page.findtext('title')}\n"
        for start, stream in zip(starts, streams, strict=True)
        for page in ET.fromstring("<r>" + stream.replace(HEAD, "").replace(FOOT, "") + "</r>")
    ]
    Path(find_index(str(path))).write_bytes(bz2.compress("".join(lines).encode()))
    return path, starts


def read_units(path: Path, read_file: Any, target_bytes: int) -> list[dict[str, Any]]:
    """All rows, read in the units that `ranges` makes."""
    size = path.stat().st_size
    rows = []
    for start, end in ranges("wikipedia", str(path), index=None, n_bytes=size, target_bytes=target_bytes):
        rows += read_file(path, "wikipedia", start=start, end=end)[0]
    return rows


def test_a_revision_becomes_a_row(tmp_path: Path, read_file: Any) -> None:
    path, starts = write_dump(tmp_path, [HEAD, *STREAMS, FOOT])
    rows = read_units(path, read_file, 1)
    row = rows[1]
    assert row.pop("date").isoformat() == "2026-10-01T00:00:00+00:00"
    assert len(row.pop("id")) == 32
    assert row == {
        "url": "https://zh.wikipedia.org/wiki/AC/DC_%26_%E2%80%9Cfriends%E2%80%9D",
        "title": "AC/DC & “friends”",
        "file_path": NAME,
        "offset": starts[1],
        "length": starts[2] - starts[1],
        "record_index": 1,
        "content": b"<b>Rock</b> & roll",
        "media_type": "text/x-wiki",
        "charset": "utf-8",
        "language": "zh",
        "reason": None,
    }
    assert [row["reason"] for row in rows] == REASONS
    assert [row["content"] and row["content"].decode() for row in rows][:-1] == CONTENTS
    assert [row["record_index"] for row in rows] == [0, 1, 0, 1, 0, 1, 2, 0]


@pytest.mark.parametrize(
    "streams",
    [
        [HEAD, *STREAMS, FOOT],
        [HEAD, *STREAMS[:3], STREAMS[3] + FOOT],
        [HEAD + STREAMS[0], *STREAMS[1:], FOOT],
        [HEAD + "".join(STREAMS) + FOOT],
        ["\n" + HEAD + STREAMS[0], *STREAMS[1:]],
    ],
)
def test_head_and_foot_may_share_a_stream_with_pages(tmp_path: Path, read_file: Any, streams: list[str]) -> None:
    usual, _ = write_dump(tmp_path, [HEAD, *STREAMS, FOOT], name=f"a-{NAME}")
    path = tmp_path / NAME
    path.write_bytes(b"".join(bz2.compress(stream.encode()) for stream in streams))
    rows, _ = read_file(path, "wikipedia")
    places = ("offset", "length", "record_index", "file_path")
    expected = [{k: v for k, v in row.items() if k not in places} for row in read_units(usual, read_file, 1)]
    assert [{k: v for k, v in row.items() if k not in places} for row in rows] == expected


@settings(deadline=None, max_examples=20)
@given(target_bytes=st.integers(1, 3000))
def test_units_of_any_size_give_the_same_rows(scratch: Path, read_file: Any, target_bytes: int) -> None:
    path, starts = write_dump(scratch, [HEAD, *STREAMS, FOOT])
    size = path.stat().st_size
    cut = ranges("wikipedia", str(path), index=None, n_bytes=size, target_bytes=target_bytes)
    assert [start for start, _ in cut] == [0] + [end for _, end in cut[:-1]]
    assert cut[-1][1] == size
    assert {start for start, _ in cut} <= set(starts)
    assert all(end - start >= target_bytes for start, end in cut[:-1])
    assert read_units(path, read_file, target_bytes) == read_file(path, "wikipedia")[0]


# Damage costs the stream that it is in


@settings(deadline=None, max_examples=60)
@given(k=st.integers(1, 4), place=st.floats(0, 0.99), change=st.integers(1, 255))
def test_a_stream_with_a_changed_byte(scratch: Path, read_file: Any, k: int, place: float, change: int) -> None:
    path, starts = write_dump(scratch, [HEAD, *STREAMS, FOOT])
    good, _ = read_file(path, "wikipedia")
    data = bytearray(path.read_bytes())
    at = starts[k] + int(place * (starts[k + 1] - starts[k]))
    data[at] ^= change
    path.write_bytes(data)
    rows, _ = read_file(path, "wikipedia")
    damage = [row for row in rows if row["reason"] == "damaged"]
    if not damage:  # some bits of bz2 carry nothing: block size, spare Huffman tables, padding
        assert rows == good
        return
    assert [(row["offset"], row["length"]) for row in damage] == [(starts[k], starts[k + 1] - starts[k])]
    assert [row for row in rows if row["reason"] != "damaged"] == [row for row in good if row["offset"] != starts[k]]


def test_a_dump_that_was_cut(tmp_path: Path, read_file: Any) -> None:
    path, starts = write_dump(tmp_path, [HEAD, *STREAMS, FOOT])
    good, _ = read_file(path, "wikipedia")
    data = path.read_bytes()
    path.write_bytes(data[: starts[3] + 40])
    rows, _ = read_file(path, "wikipedia")
    assert rows[:-1] == [row for row in good if row["offset"] < starts[3]]
    assert (rows[-1]["reason"], rows[-1]["offset"], rows[-1]["length"]) == ("damaged", starts[3], 40)


@pytest.mark.parametrize(
    "stream",
    [
        STREAMS[1].replace("</page>", "", 1),
        STREAMS[1] + "  <page><title>半",
        STREAMS[1].replace("不是", "\x01"),
        "no XML at all",
    ],
)
def test_a_stream_with_broken_xml(tmp_path: Path, read_file: Any, stream: str) -> None:
    path = tmp_path / NAME
    packed = [bz2.compress(text.encode()) for text in (HEAD, STREAMS[0], stream, STREAMS[3], FOOT)]
    path.write_bytes(b"".join(packed))
    rows, _ = read_file(path, "wikipedia")
    assert [row["title"] for row in rows] == ["柏林", "AC/DC & “friends”", None, "汉堡"]
    damage = rows[2]
    start = len(packed[0]) + len(packed[1])
    assert (damage["reason"], damage["offset"], damage["length"]) == ("damaged", start, len(packed[2]))


def test_a_damaged_head_leaves_pages_without_address(tmp_path: Path, read_file: Any) -> None:
    path, starts = write_dump(tmp_path, [HEAD, *STREAMS, FOOT])
    data = bytearray(path.read_bytes())
    data[starts[1] // 2] ^= 0xFF
    path.write_bytes(data)
    rows, _ = read_file(path, "wikipedia")
    assert [row["reason"] for row in rows] == ["damaged", *REASONS]
    assert (rows[1]["title"], rows[1]["url"], rows[1]["language"]) == ("柏林", None, None)


# The index


@pytest.mark.parametrize(
    ("dump", "index"),
    [
        (
            "enwiki-20261101-pages-articles-multistream.xml.bz2",
            "enwiki-20261101-pages-articles-multistream-index.txt.bz2",
        ),
        (
            "https://x/zhwiki-20261101-pages-articles-multistream6.xml-p5p9.bz2",
            "https://x/zhwiki-20261101-pages-articles-multistream-index6.txt-p5p9.bz2",
        ),
    ],
)
def test_the_index_lies_beside_the_dump(dump: str, index: str) -> None:
    assert find_index(dump) == index


def test_a_dump_without_index_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"pages-articles\.xml\.bz2 is not named …-multistream\.xml\.bz2"):
        ranges("wikipedia", "enwiki-pages-articles.xml.bz2", index=None, n_bytes=1, target_bytes=1)
    path, _ = write_dump(tmp_path, [HEAD, *STREAMS, FOOT])
    Path(find_index(str(path))).unlink()
    with pytest.raises(SourceError, match=r"needs its index: .*-multistream-index\.txt\.bz2: no such file"):
        ranges("wikipedia", str(path), index=None, n_bytes=path.stat().st_size, target_bytes=1)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (bz2.compress(b"10:1:A\n5:2:B\n"), "names offset 5: not the index of"),
        (bz2.compress(b"10:1:A\n5000:2:B\n"), "names offset 5000: not the index of"),
        (bz2.compress(b"<html>"), "is damaged"),
        (bz2.compress(b"10:1:A\n")[:-4], "is damaged"),
        (b"plain", "is damaged"),
    ],
)
def test_an_index_that_does_not_fit(tmp_path: Path, index: bytes, message: str) -> None:
    path = tmp_path / "own-index.bz2"
    path.write_bytes(index)
    with pytest.raises(SourceError, match=message):
        ranges("wikipedia", str(tmp_path / NAME), index=str(path), n_bytes=5000, target_bytes=1)


# Real dumps


def test_a_real_dump_read_in_units_holds_what_the_plain_dump_holds(shared_data: Path, read_file: Any) -> None:
    folder = shared_data / "wiki"
    plain = folder / "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    root = ET.fromstring(bz2.decompress(plain.read_bytes()))
    expected = [
        (page.findtext("{*}title"), page.findtext("{*}revision/{*}text") or "")
        for page in root.iterfind("{*}page")
        if page.findtext("{*}ns") == "0" and page.find("{*}redirect") is None
    ]
    rows = read_units(folder / "enwiki-excerpt-multistream.xml.bz2", read_file, 300_000)
    assert len(rows) == 206
    found = [(row["title"], row["content"].decode()) for row in rows if row["reason"] is None]
    assert found == expected
    assert rows[1]["url"] == "https://en.wikipedia.org/wiki/Anarchism"


def test_pages_in_66_languages(shared_data: Path, read_file: Any) -> None:
    folder = shared_data / "wiki"
    with gzip.open(folder / "mixedwiki-berlin.manifest.jsonl.gz") as lines:
        expected = [html.unescape(json.loads(line)["title"]) for line in lines]
    rows = read_units(folder / "mixedwiki-berlin-multistream.xml.bz2", read_file, 1)
    assert [row["title"] for row in rows] == expected
