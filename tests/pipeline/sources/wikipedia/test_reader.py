"""Dumps in every packing: multistream ones with their index and without, whole and damaged; all others."""

import bz2
import gzip
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from corpusmill.pipeline.sources.record import record_ids
from corpusmill.pipeline.sources.wikipedia.reader import find_index
from corpusmill.schemas.errors import SourceError
from tests.pipeline.sources.rows import Rows, read_ranges, read_rows, reasons
from tests.pipeline.sources.wikipedia.wikipedia_dumps import (
    FOOT,
    HEAD,
    NAME,
    PAGES,
    STREAMS,
    facts,
    page,
    without_place,
    write_dump,
)

GOOD = [HEAD, *STREAMS, FOOT]


def read(path: Path, **settings: Any) -> Rows:
    return read_rows(path, "wikipedia", **settings)


def read_units(path: Path, target_bytes: int) -> Rows:
    return read_ranges(path, "wikipedia", target_bytes)


def cut(path: Path, target_bytes: int) -> list[tuple[int, int]]:
    return ranges("wikipedia", str(path), index=None, n_bytes=path.stat().st_size, target_bytes=target_bytes)


# Multistream dumps


def test_a_revision_becomes_a_row(tmp_path: Path) -> None:
    path, starts = write_dump(tmp_path, GOOD)
    rows = read_units(path, 1)
    assert facts(rows) == PAGES
    assert [row["record_index"] for row in rows] == [0, 1, 0, 1, 0, 1, 2, 0], "numbers within the stream"
    row = rows[1]
    assert row.pop("date").isoformat() == "2026-10-01T00:00:00+00:00"
    assert row.pop("id") == record_ids("test", ["2:200"])[0].as_py()
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
        "truncated": None,
        "redirect": None,
    }


@pytest.mark.parametrize(
    "streams",
    [
        [HEAD, *STREAMS, FOOT],
        [HEAD, *STREAMS[:3], STREAMS[3] + FOOT],
        [HEAD + STREAMS[0], *STREAMS[1:], FOOT],
        ["\n" + HEAD + STREAMS[0], *STREAMS[1:3], STREAMS[3] + FOOT],
        [HEAD, "", *STREAMS, "", FOOT, ""],
    ],
)
def test_head_and_foot_may_share_a_stream_with_pages(tmp_path: Path, streams: list[str]) -> None:
    path, starts = write_dump(tmp_path, streams)
    rows = read_units(path, 1)
    assert facts(rows) == PAGES
    assert {row["offset"] for row in rows} <= set(starts)
    assert len(cut(path, 1)) > 3


@settings(deadline=None, max_examples=20)
@given(target_bytes=st.integers(1, 3000))
def test_units_of_any_size_give_the_same_rows(scratch: Path, target_bytes: int) -> None:
    path, starts = write_dump(scratch, GOOD)
    units = cut(path, target_bytes)
    assert {start for start, _ in units} <= set(starts)
    assert all(end - start >= target_bytes for start, end in units[:-1])
    assert read_units(path, target_bytes) == read(path)


@settings(deadline=None, max_examples=60)
@given(k=st.integers(0, 4), place=st.floats(0, 0.99), change=st.integers(1, 255))
def test_a_stream_with_a_changed_byte(scratch: Path, k: int, place: float, change: int) -> None:
    path, starts = write_dump(scratch, GOOD)
    good = read(path)
    data = bytearray(path.read_bytes())
    data[starts[k] + int(place * (starts[k + 1] - starts[k]))] ^= change
    path.write_bytes(data)
    rows = read(path)
    assert read_units(path, 400) == rows
    damage = [row for row in rows if row["reason"] == "damaged_compression"]
    if k == 0 and damage:  # the head: nobody knows the wiki
        assert facts(rows)[1:] == PAGES
    elif damage:
        assert [(row["offset"], row["length"]) for row in damage] == [(starts[k], starts[k + 1] - starts[k])]
        assert [row for row in rows if row not in damage] == [row for row in good if row["offset"] != starts[k]]
    else:  # some bits of bz2 carry nothing, such as spare Huffman tables; and a header is not needed
        assert rows == good


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_whatever_is_lost_is_told(scratch: Path, data: Any) -> None:
    path, starts = write_dump(scratch, GOOD)
    good = {row["id"]: row for row in read(path)}
    packed = path.read_bytes()
    near = [start + shift for start in starts[1:] for shift in range(-12, 12)]
    at = data.draw(st.one_of(st.integers(0, len(packed) - 1), st.sampled_from(near)))
    end = at + data.draw(st.sampled_from([1, 3, 40, 200]))
    change = data.draw(st.sampled_from(["zero", "cut", "repeat", "break off"]))
    bad = {
        "zero": packed[:at] + bytes(end - at) + packed[end:],
        "cut": packed[:at] + packed[end:],
        "repeat": packed[:end] + packed[at:],
        "break off": packed[:at],
    }[change]
    path.write_bytes(bad)
    rows = read(path)
    assert read_units(path, 300) == rows
    pages = [row for row in rows if row["title"]]
    if bad.startswith(packed[: starts[1]]):
        assert without_place(pages) == without_place([good[row["id"]] for row in pages]), "none is other than it was"
    assert len(pages) == len(good) or len(rows) > len(pages)


def test_a_dump_that_was_cut(tmp_path: Path) -> None:
    path, starts = write_dump(tmp_path, GOOD)
    good = read(path)
    data = path.read_bytes()
    for n_more in (40, 7, 0):
        path.write_bytes(data[: starts[3] + n_more])
        for rows in (read(path), read_units(path, 1)):
            assert rows[:-1] == [row for row in good if row["offset"] < starts[3]]
            last = rows[-1]
            assert (last["reason"], last["offset"], last["length"]) == ("damaged_end", starts[3], n_more)


@pytest.mark.parametrize(
    "bad", [page(9, "半", "一").replace("</page>", ""), page(9, "半", "一\x01"), "  <page><title>半"]
)
def test_a_broken_page_costs_itself(tmp_path: Path, bad: str) -> None:
    path, _ = write_dump(tmp_path, [HEAD, STREAMS[0]])
    whole = path.read_bytes()
    stream = bz2.compress((bad + STREAMS[3] + bad).encode())
    path.write_bytes(whole + stream + bz2.compress(FOOT.encode()))
    rows = read(path)
    assert [row["title"] for row in rows] == ["柏林", "AC/DC & “friends”", None, "汉堡", None]
    assert reasons(rows)[2:] == ["damaged_row", None, "damaged_row"]
    assert [row["record_index"] for row in rows[2:]] == [0, 1, 2]
    assert {(row["offset"], row["length"]) for row in rows[2:]} == {(len(whole), len(stream))}


# Their index


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
        ("enwiki-20261101-pages-articles.xml.bz2", None),
        ("pages.xml", None),
    ],
)
def test_the_index_lies_beside_the_dump(dump: str, index: str | None) -> None:
    assert find_index(dump) == index


def test_without_its_index_a_dump_is_cut_at_the_same_places(tmp_path: Path) -> None:
    path, starts = write_dump(tmp_path, GOOD)
    index = Path(find_index(str(path)) or "")
    good = index.read_bytes()
    sizes = (1, 100, 500, 1000)
    expected = [cut(path, size) for size in sizes]
    assert [start for start, _ in expected[0]] == starts[:-1], "with the closing tag in the last range"
    lines = bz2.decompress(good)
    for bad in (
        None,
        b"",
        b"no bzip2",
        good[:-4],
        bz2.compress(b"<html>"),
        bz2.compress(lines + b"1000000:1:A\n"),
        bz2.compress(b"".join(reversed(lines.splitlines(keepends=True)))),
        bz2.compress(f"{starts[1] + 3}:1:A\n".encode()),
        bz2.compress(lines * 1000),
        bz2.compress(lines[: lines.rindex(b"\n", 0, -1) + 1]),
        bz2.compress(lines + b"9" * 100_000),
    ):
        index.unlink(missing_ok=True)
        if bad is not None:
            index.write_bytes(bad)
        assert [cut(path, size) for size in sizes] == expected
        assert read_units(path, 100) == read(path)


def test_an_index_may_be_named(tmp_path: Path) -> None:
    path, starts = write_dump(tmp_path, GOOD)
    own = tmp_path / "own.bz2"
    own.write_bytes(bz2.compress(f"{starts[2]}:3:A\n{starts[4]}:7:B\n".encode()))
    size = path.stat().st_size
    cut = ranges("wikipedia", str(path), index=str(own), n_bytes=size, target_bytes=1)
    assert cut == [(0, starts[2]), (starts[2], starts[4]), (starts[4], size)]


def test_a_dump_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        ranges("wikipedia", str(tmp_path / NAME), index=None, n_bytes=1, target_bytes=1)


# Real dumps


def listed(shared_data: Path) -> dict[str, int]:
    """The dumps below wiki/ and how many pages each holds, by the README."""
    text = (shared_data / "README.md").read_text(encoding="utf-8")
    found = re.findall(r"^\| wiki/(\S+\.bz2) \|[^|]*\|[^|]*\| (\d+) pages \|", text, re.MULTILINE)
    found += [
        (f"minidumps/{name}", n)
        for name, n in re.findall(
            r"^\| (\w+-mini-pages-articles\.xml\.bz2) \|[^|]*\|[^|]*\| (\d+) pages \|", text, re.M
        )
    ]
    return {name: int(n) for name, n in found}


def test_every_dump_is_read_whole(shared_data: Path) -> None:
    counts = listed(shared_data)
    assert len(counts) == 71
    for name, n_pages in counts.items():
        rows = read(shared_data / "wiki" / name)
        assert len(rows) == n_pages, name
        assert set(reasons(rows)) <= {None, "redirect", "other_namespace"}, name
        assert all(row["redirect"] for row in rows if row["reason"] == "redirect"), name


def test_a_dump_gives_the_same_pages_as_multistream_and_as_one_stream(shared_data: Path) -> None:
    folder = shared_data / "wiki"
    multistream = read_units(folder / "enwiki-excerpt-multistream.xml.bz2", 300_000)
    one = read(folder / "enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2")
    assert without_place(multistream) == without_place(one)
    assert (one[1]["title"], one[1]["url"]) == ("Anarchism", "https://en.wikipedia.org/wiki/Anarchism")
    assert one[0]["redirect"] == "Computer accessibility"


def test_pages_in_66_languages(shared_data: Path) -> None:
    folder = shared_data / "wiki"
    with gzip.open(folder / "mixedwiki-berlin.manifest.jsonl.gz") as lines:
        expected = [html.unescape(json.loads(line)["title"]) for line in lines]
    rows = read_units(folder / "mixedwiki-berlin-multistream.xml.bz2", 1)
    assert [row["title"] for row in rows] == expected
