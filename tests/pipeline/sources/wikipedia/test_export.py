"""Exports as they stream by: pieces of any size, damage, hostile input."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources.record import Record
from corpusmill.pipeline.sources.wikipedia.export import Content, Head, PageReader, read_head
from corpusmill.pipeline.sources.wikipedia.page import Wanted
from tests.pipeline.sources.rows import Rows, peak_megabytes, read_ranges, read_rows, reasons
from tests.pipeline.sources.wikipedia.wikipedia_dumps import FOOT, HEAD, PAGES, XML, facts, page, write_xml

ALL = Wanted(namespaces={0}, newest=False, max_bytes=1 << 20)
PAGES_OF = [page(i, f"页{i}", f"第{i}页的内容。" * 20) for i in range(1, 9)]
TITLES = [f"页{i}" for i in range(1, 9)]


def records(content: Content, head: Head | None = None, **settings: Any) -> list[Record]:
    return list(PageReader("f", head or read_head([XML.encode()]), ALL, **settings).read(content))


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def read(folder: Path, xml: str | bytes, **settings: Any) -> Rows:
    return read_rows(write_xml(folder, xml), "wikipedia", **settings)


def titles(rows: Rows) -> list[str]:
    return [row["title"] for row in rows if row["title"] is not None]


# The head


def test_the_head_tells_of_the_wiki() -> None:
    head = HEAD.replace(
        "<namespace key", '<namespace key="-2">Media</namespace><namespace key="x">Y</namespace><namespace key'
    )
    site = read_head([head.encode()]).site
    assert (site.base, site.language) == ("https://zh.wikipedia.org/wiki/", "zh")
    assert site.namespaces == {"Media": -2}
    for base in ("https://x.org/w/index.php/Main", "https://x.org/w/index.php/"):
        changed = HEAD.replace("https://zh.wikipedia.org/wiki/Wikipedia:%E9%A6%96%E9%A1%B5", base)
        assert read_head([changed.encode()]).site.base == "https://x.org/w/index.php/"


@pytest.mark.parametrize(
    "head",
    ["", "<mediawiki>", HEAD.replace("</base>", ""), HEAD.replace("wiki/", "&wiki;"), "<mediawiki" + " " * (1 << 20)],
)
def test_a_head_that_tells_nothing(head: str) -> None:
    found = read_head([head.encode()])
    assert (found.encoding, found.site.base, found.site.language) == ("UTF-8", None, None)


# Pieces and ranges


LONG = HEAD + page(1, "史", *["好" * 12_000] * 9) + PAGES_OF[0] + FOOT  # a history of several blocks


@settings(deadline=None, max_examples=60)
@given(
    xml=st.sampled_from([XML, LONG]),
    encoding=st.sampled_from(["UTF-8", "UTF-16LE"]),
    shares=st.lists(st.floats(0, 1), max_size=30).map(sorted),
    flips=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(1, 255)), max_size=2),
)
def test_pieces_of_any_size_give_the_same_records(
    xml: str, encoding: str, shares: list[float], flips: list[tuple[float, int]]
) -> None:
    data = bytearray(xml.encode(encoding))
    for share, change in flips:
        data[int(share * len(data))] ^= change
    head = Head(encoding=encoding, site=read_head([XML.encode()]).site)
    expected = records([bytes(data)], head)
    assert records(pieces(bytes(data), [int(share * len(data)) for share in shares]), head) == expected
    if not flips:
        assert len(expected) == xml.count("<revision>")


def test_bytes_one_by_one() -> None:
    xml = XML.encode()
    assert records(bytes([byte]) for byte in xml) == records([xml])


@settings(deadline=None, max_examples=60)
@given(data=st.data(), target_bytes=st.integers(1, 3000))
def test_ranges_of_any_size_give_the_same_rows_whatever_the_damage(scratch: Path, data: Any, target_bytes: int) -> None:
    xml = bytearray(XML.encode())
    for place in data.draw(st.lists(st.integers(0, len(xml) - 1), max_size=3)):
        xml[place] ^= data.draw(st.integers(1, 255))
    path = write_xml(scratch, bytes(xml))
    assert read_ranges(path, "wikipedia", target_bytes) == read_rows(path, "wikipedia")


def test_exports_may_be_joined(tmp_path: Path) -> None:
    declaration = '<?xml version="1.0" encoding="utf-8"?>\n'
    second = XML.replace("<id>", "<id>9")
    for between in ("", "\n", declaration, "\n\ufeff" + declaration):
        rows = read(tmp_path, declaration + XML + between + second + "\n")
        assert facts(rows) == PAGES * 2
    assert facts(read(tmp_path, HEAD + FOOT)) == []


# Damage


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_one_change_costs_no_page_but_the_one_it_is_in_and_the_next(scratch: Path, data: Any) -> None:
    xml = (HEAD + "".join(PAGES_OF) + FOOT).encode()
    good = {row["title"]: row["id"] for row in read(scratch, xml)}
    kind = data.draw(st.sampled_from(["flip", "cut", "insert", "repeat", "swap"]))
    at = data.draw(st.integers(len(HEAD.encode()), len(xml) - 100))
    n = data.draw(st.integers(1, 99))
    end = at + n
    junk = random.Random(data.draw(st.integers(0, 99))).randbytes(n)
    bad = {
        "flip": xml[:at] + bytes([xml[at] ^ (n | 1)]) + xml[at + 1 :],
        "cut": xml[:at] + xml[end:],
        "insert": xml[:at] + junk + xml[at:],
        "repeat": xml[:end] + xml[at:end] + xml[end:],
        "swap": xml[:at] + xml[at:end][::-1] + xml[end:],
    }[kind]
    rows = read(scratch, bad)
    ends = [len((HEAD + "".join(PAGES_OF[:i])).encode()) for i in range(1, 9)]
    hit = next(i for i, page_end in enumerate(ends) if at < page_end or i == 7)
    hit_too = next(i for i, page_end in enumerate(ends) if end < page_end or i == 7)
    untouched = {title: good[title] for i, title in enumerate(TITLES) if not hit <= i <= hit_too + 1}
    found = {row["title"]: row["id"] for row in rows}
    assert {title: found.get(title) for title in untouched} == untouched
    assert len([row for row in rows if row["title"]]) <= 8, "no page that was not there"
    read_pages = len(set(titles(rows)) & set(TITLES))
    assert read_pages == 8 or len(rows) > read_pages, "what is lost is told"


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        (("</page>", "", 3), "页3"),
        (("</text>", "</texd>", 3), "页3"),
        (("<revision>", "<revision", 3), "页3"),
        (("第3页", "第\x003页", 1), "页3"),
        (("第3页", "第\x0b3页", 1), "页3"),
        (("第3页", "第&nbsp;3页", 1), "页3"),
        (("第3页", "第& 3页", 1), "页3"),
        (("<page>", "<qage>", 3), "页3"),
    ],
)
def test_a_broken_page_costs_itself(tmp_path: Path, change: tuple[str, str, int], lost: str) -> None:
    xml = HEAD + "".join(PAGES_OF) + FOOT
    old, new, count = change
    parts = xml.split(old)
    xml = old.join(parts[:count]) + new + old.join(parts[count:])
    rows = read(tmp_path, xml)
    assert titles(rows) == [title for title in TITLES if title != lost]
    [damage] = [row for row in rows if row["reason"]]
    assert (damage["reason"], rows.index(damage)) == ("damaged_row", 2)
    stretch = xml.encode()[damage["offset"] : damage["offset"] + damage["length"]].decode()
    assert lost in stretch
    assert "页2" not in stretch
    assert "页4" not in stretch


@pytest.mark.parametrize("bad", ["</reVision>", "<page>", "&x;"])
def test_revisions_before_the_damage_of_a_page_are_read_if_all_are_wanted(tmp_path: Path, bad: str) -> None:
    parts = page(1, "史", "一", "二", "三").split("</revision>")
    xml = (
        HEAD + "</revision>".join(parts[:2]) + "</revision>" + bad + "</revision>".join(parts[2:]) + PAGES_OF[1] + FOOT
    )
    path = write_xml(tmp_path, xml)
    rows = read_rows(path, "wikipedia", options={"revisions": "all"})
    assert [row["content"].decode()[:2] for row in rows if row["title"]] == ["一", "二", "第2"]
    assert {row["reason"] for row in rows[2:-1]} == {"damaged_row"}
    newest = read_rows(path, "wikipedia")
    assert [row["content"] and row["content"].decode()[:2] for row in newest if row["title"]] == [None, "第2"]
    assert newest[0]["reason"] == "old_revision", "which one is the newest, nobody knows"


def test_bytes_that_are_not_utf8_cost_their_page(tmp_path: Path) -> None:
    xml = (HEAD + "".join(PAGES_OF) + FOOT).encode()
    for bad in (b"\xff", b"\xe6\xb1", b"\xed\xa0\x80"):
        rows = read(tmp_path, xml.replace("第3页".encode(), bad, 1))
        assert reasons(rows) == [None, None, "damaged_row", None, None, None, None, None]


def test_a_lost_byte_of_utf16_costs_its_page(tmp_path: Path) -> None:
    xml = "\ufeff" + HEAD + "".join(PAGES_OF) + FOOT
    data = xml.encode("utf-16-be")
    at = data.index("第3页".encode("utf-16-be")) + 1
    rows = read(tmp_path, data[:at] + data[at + 1 :])
    assert titles(rows) == [title for title in TITLES if title != "页3"]
    assert reasons(rows).count("damaged_row") == 1


def test_a_stretch_that_was_not_decoded() -> None:
    xml = (HEAD + "".join(PAGES_OF) + FOOT).encode()
    [at, after] = [xml.index(f"第{i}页".encode()) for i in (3, 5)]
    found = records([xml[:at], "damaged_compression", "bomb", xml[after:]])
    assert [record.title or record.reason for record in found] == [
        "页1",
        "页2",
        "damaged_compression",
        "页6",
        "页7",
        "页8",
    ]
    start = xml.index(PAGES_OF[2].strip().encode())
    assert [record.offset for record in found[2:3]] == [start]
    for where in (0, len(HEAD) + 3, len(xml)):
        found = records([xml[:where], "damaged_compression", xml[where:]])
        assert [record.reason for record in found].count("damaged_compression") == 1


def test_an_export_that_breaks_off(tmp_path: Path) -> None:
    xml = (HEAD + "".join(PAGES_OF) + FOOT).encode()
    third = xml.index(PAGES_OF[2].strip().encode())
    for end in (third, third + 3, third + 200, len(xml) - 5, len(xml) - len(FOOT)):
        rows = read(tmp_path, xml[:end])
        assert titles(rows) == (TITLES[:2] if end < third + 300 else TITLES)
        last = rows[-1]
        assert last["reason"] == "damaged_end"
        assert last["offset"] + last["length"] == end
        assert reasons(rows[:-1]) == [None] * (len(rows) - 1)


# Hostile input

LAUGHS = (
    '<?xml version="1.0"?>\n<!DOCTYPE mediawiki [<!ENTITY a0 "ha">'
    + "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    + '<!ENTITY file SYSTEM "file:///etc/hostname"> <!ENTITY % net SYSTEM "http://127.0.0.1:9/x.dtd"> %net;]>\n'
)


@pytest.mark.parametrize("entity", ["&a11;", "&file;", "&#0;", "&#xD800;"])
def test_entities_are_not_resolved(tmp_path: Path, entity: str) -> None:
    bad = page(20, "页", "@").replace("@", entity)
    rows = read(tmp_path, LAUGHS + HEAD + PAGES_OF[0] + bad + PAGES_OF[1] + FOOT)
    assert [row["title"] or row["reason"] for row in rows] == ["damaged_header", "页1", "damaged_row", "页2"]
    rows = read(tmp_path, HEAD + PAGES_OF[0] + bad.replace("<page>", "<page>" + LAUGHS) + PAGES_OF[1] + FOOT)
    assert [row["title"] or row["reason"] for row in rows] == ["页1", "damaged_row", "页2"]


HOSTILE = {
    "depth": lambda n: "<a>" * (n // 3),
    "title": lambda n: f"<title>{'长' * (n // 3)}</title>",
    "id": lambda n: f"<id>{'9' * n}</id>",
    "attribute": lambda n: f"<a b='{'长' * (n // 3)}'/>",
    "comment": lambda n: f"<!--{'-x' * (n // 2)}-->",
    "name": lambda n: "<" + "a" * n,
    "names": lambda n: "".join(f"<a{i}/>" for i in range(n // 9)),
    "text": lambda n: "<revision><text>" + "x" * n,
    "lines": lambda n: "\n" * n + "</nothing>",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_page_that_no_wiki_has_costs_itself(tmp_path: Path, kind: str) -> None:
    hostile = f"<page>{HOSTILE[kind](3_000_000)}"
    rows = read(tmp_path, HEAD + PAGES_OF[0] + hostile + "</page>" + PAGES_OF[1] + hostile + PAGES_OF[2] + FOOT)
    assert [row["title"] or row["reason"] for row in rows] == ["页1", "damaged_row", "页2", "damaged_row", "页3"]


def test_pages_that_no_wiki_has_take_little_memory(tmp_path: Path) -> None:
    path = write_xml(tmp_path, HEAD + "".join(f"<page>{make(20_000_000)}" for make in HOSTILE.values()) + FOOT)
    assert peak_megabytes(path, "wikipedia", max_bytes=1 << 20) < 20


def test_a_missing_end_of_a_page_costs_no_more_than_the_file(tmp_path: Path) -> None:
    opened = "<page><title>页</title>" * 50_000
    rows = read(tmp_path, HEAD + opened + PAGES_OF[0] + "<page>" + "x" * 1_000_000)
    assert reasons(rows) == ["damaged_row"] * 50_000 + [None, "damaged_end"]


def test_what_stands_between_pages_is_not_held(tmp_path: Path) -> None:
    path = write_xml(tmp_path, HEAD + PAGES_OF[0] + "x" * 30_000_000 + PAGES_OF[1] + " " * 30_000_000 + FOOT)
    rows = read_rows(path, "wikipedia")
    assert [row["title"] or row["reason"] for row in rows] == ["页1", "damaged_row", "页2", "damaged_end"]
    assert peak_megabytes(path, "wikipedia") < 20
