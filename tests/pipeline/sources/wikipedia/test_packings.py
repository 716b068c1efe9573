"""Dumps that are not multistream: plain, packed as one stream or as streams that cut the XML anywhere; bombs."""

import bz2
import gzip
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from tests.pipeline.sources.rows import Rows, peak_megabytes, read_ranges, read_rows, reasons
from tests.pipeline.sources.wikipedia.wikipedia_dumps import (
    FOOT,
    HEAD,
    PAGES,
    STREAMS,
    XML,
    facts,
    page,
    without_place,
    write_dump,
    write_xml,
)


def read(path: Path) -> Rows:
    return read_rows(path, "wikipedia")


def read_units(path: Path, target_bytes: int) -> Rows:
    return read_ranges(path, "wikipedia", target_bytes)


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
    expected = without_place(read(write_dump(tmp_path, [HEAD, *STREAMS, FOOT])[0]))
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
        assert len(ranges("wikipedia", str(path), index=None, n_bytes=len(text), target_bytes=100)) > 20
    else:
        assert {row["length"] for row in rows} == {None}
        size = path.stat().st_size
        assert ranges("wikipedia", str(path), index=None, n_bytes=size, target_bytes=1) == [(0, size)]
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


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "damaged_end"),
        (bz2.compress(b""), "damaged_end"),
        (b"<html>404</html>", "damaged_header"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "damaged_header"),
    ],
)
def test_what_is_no_dump_is_one_damaged_record(tmp_path: Path, data: bytes, reason: str) -> None:
    path = write_xml(tmp_path, data)
    [row] = read(path)
    assert (row["reason"], row["offset"]) == (reason, 0)
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
    rows = read_rows(path, "wikipedia", max_ratio=100)
    assert facts(rows)[:2] == PAGES[:2]
    assert (rows[2]["reason"], rows[2]["offset"]) == ("bomb", len(PARTS[0]) - len(LONG[0]) + 2)
    assert facts(rows)[3:] == ([PAGES[-1]] if pack is bz2.compress else [])
    assert peak_megabytes(path, "wikipedia", max_ratio=100) < 48


def test_a_page_beyond_the_limit_is_not_held(tmp_path: Path) -> None:
    path = write_xml(tmp_path, b"".join(PARTS))
    rows = read_rows(path, "wikipedia", max_bytes=1 << 20)
    assert facts(rows) == [*PAGES[:2], ("长", None, "too_large", None), PAGES[-1]]
    assert peak_megabytes(path, "wikipedia", max_bytes=1 << 20) < 30
