"""Dumps in every packing: multistream ones with their index and without, whole and damaged; all others."""

import bz2
import gzip
import html
import json
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from corpusmill.pipeline.sources.record import record_ids
from corpusmill.pipeline.sources.wikipedia import find_index
from corpusmill.schemas.errors import SourceError
from tests.pipeline.sources.rows import Rows, peak_megabytes, read_ranges, read_rows, reasons
from tests.pipeline.sources.wikipedia_dumps import (
    FOOT,
    HEAD,
    NAME,
    PAGES,
    STREAMS,
    XML,
    facts,
    page,
    without_place,
    write_dump,
    write_xml,
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
        ["\n" + HEAD + STREAMS[0], *STREAMS[1:]],
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


def test_a_dump_that_was_cut(tmp_path: Path) -> None:
    path, starts = write_dump(tmp_path, GOOD)
    good = read(path)
    data = path.read_bytes()
    for n_more in (40, 7):
        path.write_bytes(data[: starts[3] + n_more])
        for rows in (read(path), read_units(path, 1)):
            assert rows[:-1] == [row for row in good if row["offset"] < starts[3]]
            last = rows[-1]
            assert (last["reason"], last["offset"], last["length"]) == ("damaged_end", starts[3], n_more)


@pytest.mark.parametrize(
    "bad", [page(9, "半", "一").replace("</page>", ""), page(9, "半", "一\x01"), "  <page><title>半"]
)
def test_a_broken_page_costs_itself(tmp_path: Path, bad: str) -> None:
    path, starts = write_dump(tmp_path, [HEAD, STREAMS[0]])
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


# Every other packing


def streams_cut_anywhere(xml: bytes) -> bytes:
    cuts = [0, *sorted(random.Random(1).sample(range(len(xml)), 5)), len(xml)]
    return b"".join(bz2.compress(xml[a:b]) for a, b in zip(cuts, cuts[1:], strict=False))


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "bz2": bz2.compress,
    "bz2 in streams": streams_cut_anywhere,
    "gzip": gzip.compress,
    "gzip in members": lambda xml: gzip.compress(xml[:700]) + gzip.compress(xml[700:]),
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_the_packing_is_told_by_content_and_does_not_matter(tmp_path: Path, packing: str, encoding: str) -> None:
    expected = without_place(read(write_dump(tmp_path, GOOD)[0]))
    declared = '<?xml version="1.0" encoding="UTF-8"?>\n' + XML
    text = ("\ufeff" * encoding.startswith("utf-16") + declared).encode(encoding)
    path = write_xml(tmp_path, PACKINGS[packing](text), name="dump")
    rows = read(path)
    assert without_place(rows) == expected
    tag = "<page>".encode(encoding.removesuffix("-sig"))
    assert all(text[row["offset"] :].startswith(tag) for row in rows), "offsets are those of pages in the text"
    assert [row["record_index"] for row in rows] == [0, 0, 0, 0, 0, 0, 1, 0], "numbers within the page"
    if packing == "plain":
        ends = [row["length"] and text[: row["offset"] + row["length"]] for row in rows]
        end_tag = "</page>".encode(encoding.removesuffix("-sig"))
        assert [end is None or end.endswith(end_tag) for end in ends] == [True] * 8
        assert [row["title"] for row in rows if row["length"] is None] == ["修订"], "the page had not ended"
        assert len(cut(path, 100)) > 20
    else:
        assert {row["length"] for row in rows} == {None}
        assert cut(path, 1) == [(0, path.stat().st_size)]
    assert read_units(path, 100) == rows


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(1, len(XML.encode())), max_size=6).map(sorted))
def test_streams_that_cut_the_xml_anywhere(scratch: Path, cuts: Sequence[int]) -> None:
    xml = XML.encode()
    parts = [xml[a:b] for a, b in zip([0, *cuts], [*cuts, None], strict=True)]
    path = write_xml(scratch, b"".join(map(bz2.compress, parts)), name="dump.xml.bz2")
    assert facts(read(path)) == PAGES
    assert read_units(path, 1) == read(path)


def test_damage_in_one_document(tmp_path: Path) -> None:
    names = [f"页{i}" for i in range(60)]
    pages = [page(i + 1, name, random.Random(i).randbytes(3000).hex()) for i, name in enumerate(names)]
    xml = (HEAD + "".join(pages) + FOOT).encode()
    for parts in ([xml], [xml[:230_000], xml[230_000:]]):
        data = bytearray(b"".join(bz2.compress(part, 1) for part in parts))
        data[len(data) // 2] ^= 4
        rows = read(write_xml(tmp_path, bytes(data)))
        assert reasons(rows).count("damaged_compression") == 1
        found = [row["title"] for row in rows if row["title"]]
        assert 20 < len(found) < 60
        assert found == [name for name in names if name in found]
        assert found[-1] == names[-1], "what follows is read"
        [damage] = [row for row in rows if row["reason"]]
        place = rows.index(damage)
        assert xml[damage["offset"] :].startswith(b"<page>") or xml[: damage["offset"]].endswith(b"</page>")
        assert (damage["length"], rows[place - 1]["title"]) == (None, names[place - 1])
    whole = gzip.compress(xml)
    data = bytearray(whole)
    data[len(data) // 2] ^= 4
    rows = read(write_xml(tmp_path, bytes(data)))
    assert [row["title"] for row in rows[:20]] == names[:20]
    assert reasons(rows)[-1] in ("damaged_compression", "damaged_end")


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_document_that_breaks_off(tmp_path: Path, packing: str, share: float) -> None:
    pages = [page(i + 1, f"页{i}", random.Random(i).randbytes(3000).hex()) for i in range(60)]
    packed = PACKINGS[packing]((HEAD + "".join(pages) + FOOT).encode())
    rows = read(write_xml(tmp_path, packed[: int(len(packed) * share)]))
    assert reasons(rows)[-1] == "damaged_end"
    assert [row["title"] for row in rows[:-1]] == [f"页{i}" for i in range(len(rows) - 1)]
    if packing != "bz2":  # which is one block here
        assert len(rows) > 10
    assert set(reasons(rows[:-1])) <= {None}


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", b"7z\xbc\xaf\x27\x1c" + bytes(100), bz2.compress(b"")])
def test_what_is_no_dump_is_one_damaged_record(tmp_path: Path, data: bytes) -> None:
    path = write_xml(tmp_path, data)
    [row] = read(path)
    assert (row["reason"], row["offset"]) == ("damaged_header" if data else "damaged_end", 0)
    assert read_units(path, 1_000_000) == [row]


@pytest.mark.parametrize("packing", PACKINGS)
def test_an_encoding_that_is_not_read_is_one_damaged_record(tmp_path: Path, packing: str) -> None:
    xml = '<?xml version="1.0" encoding="ISO-8859-1"?>' + HEAD + page(1, "Köln", "Köln") + FOOT
    path = write_xml(tmp_path, PACKINGS[packing](xml.encode("latin-1")))
    [row] = read(path)
    assert (row["reason"], row["offset"], row["length"]) == ("damaged_header", 0, path.stat().st_size)
    assert read_units(path, 1) == [row]


# Bombs


LONG = page(8, "长", "@").encode().split(b"@")
PARTS = ((HEAD + STREAMS[0]).encode() + LONG[0], b" " * 50_000_000, LONG[1] + (STREAMS[3] + FOOT).encode())


@pytest.mark.parametrize("pack", [bz2.compress, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_bomb_takes_little_memory(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = write_xml(tmp_path, b"".join(map(pack, PARTS)))
    rows = read(path, max_ratio=100)
    assert facts(rows)[:2] == PAGES[:2]
    assert (rows[2]["reason"], rows[2]["offset"]) == ("bomb", len(PARTS[0]) - len(LONG[0]) + 2)
    assert facts(rows)[3:] == ([PAGES[-1]] if pack is bz2.compress else [])
    assert peak_megabytes(path, "wikipedia", max_ratio=100) < 30


def test_a_page_beyond_the_limit_is_not_held(tmp_path: Path) -> None:
    path = write_xml(tmp_path, b"".join(PARTS))
    rows = read(path, max_bytes=1 << 20)
    assert facts(rows) == [*PAGES[:2], ("长", None, "too_large", None), PAGES[-1]]
    assert peak_megabytes(path, "wikipedia", max_bytes=1 << 20) < 30


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
