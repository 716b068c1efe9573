"""Web pages in folders and zip archives, whole, damaged and hostile."""

import io
import random
import struct
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from tests.pipeline.sources.rows import Rows, has_key, peak_megabytes, read_ranges, read_rows, reasons

PAGES = {
    "index.html": b"<p>index",
    "文/二.HTM": "<p>第二".encode() * 100,
    "notes.txt": b"no page",
    "deep/er/x.xhtml": b"<p>third" * 50,
    "inner.zip": b"PK\3\4",
    "empty.html": b"",
}
FOUND = [name for name in PAGES if name.lower().endswith((".html", ".htm", ".xhtml"))]


def pack(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, stream: bool = False) -> bytes:
    """An archive; with `stream` written as to a pipe, so that sizes follow the data."""
    buffer = io.BytesIO()
    target: Any = Pipe(buffer) if stream else buffer
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


class Pipe(io.RawIOBase):
    """A target that cannot seek."""

    def __init__(self, target: io.BytesIO) -> None:
        self._target = target

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._target.write(data)


def write(folder: Path, data: bytes, name: str = "页.zip") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def contents(rows: Rows) -> dict[str, bytes | None]:
    return {row["file_path"]: row["content"] for row in rows}


# Folders


def test_a_file_becomes_a_row(tmp_path: Path) -> None:
    files = {name: PAGES[name] for name in FOUND}
    for name, data in files.items():
        write(tmp_path, data, name)
    rows = read_rows(tmp_path, "html", members=[(name, len(data)) for name, data in files.items()], end=1)
    assert contents(rows) == {name: data or None for name, data in files.items()}
    assert reasons(rows) == [None, None, None, "no_text"]
    row = rows[1]
    assert has_key(row, "文/二.HTM:0:0")
    assert (row["offset"], row["length"], row["media_type"], row["charset"]) == (0, 900, "text/html", None)
    assert row["url"] is None


def test_a_slice_may_be_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, b"<p>page", "page.html")
    (row,) = read_ranges(path, "html", 2)
    assert (row["file_path"], row["content"], row["length"]) == ("page.html", b"<p>page", 7)


def test_limits_hold_for_files(tmp_path: Path) -> None:
    write(tmp_path, b"<" * 101, "long.html")
    write(tmp_path, bytes(100), "binary.html")
    members = [("long.html", 101), ("binary.html", 100)]
    assert reasons(read_rows(tmp_path, "html", members=members, end=1, max_bytes=100)) == ["too_large", "damaged_row"]


# Archives


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["页.zip", "told by its content"])
def test_pages_of_an_archive(tmp_path: Path, method: int, stream: bool, name: str) -> None:
    path = write(tmp_path, pack(PAGES, method, stream=stream), name)
    counts: Counter[str] = Counter()
    rows = read_rows(path, "html", counts)
    assert contents(rows) == {f"{name}/{page}": PAGES[page] or None for page in FOUND}
    assert reasons(rows) == [None, None, None, "no_text"]
    assert counts["zip_other"] == 2
    for row, info in zip(rows, (zipfile.ZipFile(path).getinfo(page) for page in FOUND), strict=True):
        assert (row["offset"], row["length"]) == (info.header_offset, info.compress_size)
        assert has_key(row, f"{name}/{info.filename}:{info.header_offset}:0")


def test_an_archive_behind_other_bytes(tmp_path: Path) -> None:
    """As one that unpacks itself; zip readers look at the end."""
    assert len(read_rows(write(tmp_path, b"#!/bin/sh\n" + pack(PAGES)), "html")) == len(FOUND)


def test_empty_archives(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, pack({})), "html") == []
    (damage,) = read_rows(write(tmp_path, b""), "html")
    assert (damage["reason"], damage["offset"], damage["length"]) == ("damaged_header", 0, 0)


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 300), max_size=12),
    target_bytes=st.integers(1, 2000),
    stream=st.booleans(),
)
def test_ranges_of_any_size_give_the_same_rows(
    scratch: Path, sizes: list[int], target_bytes: int, stream: bool
) -> None:
    rng = random.Random(1)
    pages = {f"{i}.html": rng.randbytes(size).hex().encode() for i, size in enumerate(sizes)}
    path = write(scratch, pack(pages, stream=stream))
    rows = read_ranges(path, "html", target_bytes)
    assert rows == read_rows(path, "html")
    assert contents(rows) == {f"页.zip/{name}": data or None for name, data in pages.items()}


def test_a_range_is_a_few_entries(tmp_path: Path) -> None:
    path = write(tmp_path, pack({f"{i}.html": random.Random(i).randbytes(500).hex().encode() for i in range(20)}))
    n_bytes = path.stat().st_size
    assert len(ranges("html", str(path), index=None, n_bytes=n_bytes, target_bytes=1)) == 20
    assert 2 <= len(ranges("html", str(path), index=None, n_bytes=n_bytes, target_bytes=n_bytes // 3)) <= 3
    assert ranges("html", str(path), index=None, n_bytes=n_bytes, target_bytes=n_bytes) == [(0, n_bytes)]


def test_object_stores(tmp_path: Path) -> None:
    path = write(tmp_path, pack(PAGES))
    fsspec.filesystem("memory").pipe("/html/页.zip", path.read_bytes())
    assert read_rows(path, "html", location="memory://html/页.zip") == read_rows(path, "html")


@pytest.mark.parametrize(("name", "raw"), [("文.html", "文.html".encode()), ("ä.html", b"\x84.html")])
def test_names_without_a_declared_encoding(tmp_path: Path, name: str, raw: bytes) -> None:
    """Many tools write UTF-8 and do not say so; else it is code page 437."""
    data = pack({"x" * (len(raw) - 5) + ".html": b"<p>"}).replace(b"x" * (len(raw) - 5) + b".html", raw)
    assert list(contents(read_rows(write(tmp_path, data), "html"))) == [f"页.zip/{name}"]


# Hostile archives


@pytest.mark.parametrize(
    "name",
    [
        "../x.html",
        "a/../../x.html",
        "/etc/x.html",
        "//host/x.html",
        "C:/x.html",
        "c:x.html",
        "..\\x.html",
        "a\\x.html",
        "a//x.html",
        "./x.html",
        "a/./x.html",
        "a\nb.html",
        "a\x7f.html",
    ],
)
def test_names_that_leave_the_folder_go_nowhere(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, pack({name: b"<p>evil", "good.html": b"<p>good"}))
    evil, good = read_rows(path, "html")
    assert (evil["reason"], evil["file_path"], evil["offset"], evil["content"]) == ("damaged_header", "页.zip", 0, None)
    assert has_key(evil, "页.zip:0:damaged")
    assert good["content"] == b"<p>good"
    assert list(tmp_path.iterdir()) == [path]


def patch(data: bytes, name: str, position: int, value: bytes) -> bytes:
    """Change bytes of the central header of an entry (APPNOTE §4.3.12)."""
    start = data.rindex(name.encode()) - 46 + position
    return data[:start] + value + data[start + len(value) :]


def test_damage_costs_its_page(tmp_path: Path) -> None:
    names = ["a.html", "b.html", "c.html"]
    plain = {name: random.Random(name).randbytes(300).hex().encode() for name in names}
    whole = pack(plain)
    start = whole.index(b"b.html") + 6
    cases = {
        "damaged_compression": [
            whole[: start + 100] + b"\xff" * 10 + whole[start + 110 :],
            patch(whole, "b.html", 16, b"\0\0\0\0"),  # CRC-32
            patch(whole, "b.html", 10, b"\x0c\0"),  # a method that we do not know
        ],
        "damaged_body": [patch(whole, "b.html", 8, b"\x01\0")],  # encrypted
        "damaged_header": [whole[: start - 36] + b"XX" + whole[start - 34 :]],
        "too_large": [patch(whole, "b.html", 24, struct.pack("<I", 1 << 20))],  # size, as the archive says
    }
    for reason, archives in cases.items():
        for archive in archives:
            rows = read_rows(write(tmp_path, archive), "html", max_bytes=1 << 19)
            assert reasons(rows) == [None, reason, None]
            assert (rows[1]["offset"], rows[1]["content"]) == (start - 36, None)
            assert [rows[0]["content"], rows[2]["content"]] == [plain["a.html"], plain["c.html"]]


def test_bombs(tmp_path: Path) -> None:
    zeros = b" " * (4 << 20)
    whole = pack({"a.html": b"<p>", "b.html": zeros, "c.html": b"<p>" + zeros[: 1 << 20]})
    rows = read_rows(write(tmp_path, whole), "html", max_ratio=500, max_bytes=3 << 20)
    assert reasons(rows) == [None, "bomb", "bomb"]
    lying = patch(whole, "b.html", 24, b"\x05\0\0\0")  # the archive says that it is small
    assert reasons(read_rows(write(tmp_path, lying), "html", max_ratio=500, max_bytes=3 << 20)) == [
        None,
        "bomb",
        "bomb",
    ]
    rows = read_rows(write(tmp_path, lying), "html", max_ratio=2000, max_bytes=3 << 20)
    assert reasons(rows) == [None, "too_large", None]


def test_archives_take_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, pack({f"{i}.html": b" " * (64 << 20) for i in range(3)}))
    assert peak_megabytes(path, "html", max_ratio=10_000, max_bytes=4 << 20) < 60


def test_entries_on_the_same_bytes_are_read_once(tmp_path: Path) -> None:
    """A directory of a few bytes can name the same data over and over, within other entries too."""
    inner = pack({"inner.html": b"<p>inner" * 100}, zipfile.ZIP_STORED)
    whole = pack({"outer.html": inner, "last.html": b"<p>"}, zipfile.ZIP_STORED)
    directory = whole.rindex(b"PK\1\2", 0, whole.rindex(b"PK\1\2"))
    outer = whole[directory : whole.rindex(b"PK\1\2")]
    alias = outer.replace(b"outer.html", b"alias.html")
    quine = outer.replace(b"outer.html", b"inner.html")
    quine = quine[:42] + struct.pack("<I", whole.index(b"PK\3\4", 4)) + quine[46:]
    end = whole[-22:]
    entries = whole[directory:-22] + alias * 5 + quine
    size = struct.pack("<HHI", 8, 8, len(entries))
    rows = read_rows(write(tmp_path, whole[:directory] + entries + end[:8] + size + end[16:]), "html")
    assert [(row["file_path"], row["reason"]) for row in rows] == [
        ("页.zip/outer.html", "damaged_header"),
        ("页.zip/inner.html", "damaged_header"),
        ("页.zip/last.html", None),
    ]


# Archives without a directory


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_archive_is_read_up_to_the_cut(tmp_path: Path, method: int, stream: bool) -> None:
    whole = pack(PAGES, method, stream=stream)
    infos = zipfile.ZipFile(io.BytesIO(whole)).infolist()
    for cut in range(40, len(whole), 97):
        counts: Counter[str] = Counter()
        rows = read_rows(write(tmp_path, whole[:cut]), "html", counts)
        ends = [info.header_offset for info in infos[1:]] + [whole.index(b"PK\1\2")]
        complete = [info.filename for info, end in zip(infos, ends, strict=True) if end <= cut]
        readable = [name for name in complete if name in FOUND]
        if not (stream and method == zipfile.ZIP_STORED):
            assert [row["content"] or b"" for row in rows[: len(readable)]] == [PAGES[name] for name in readable]
            assert len(rows) - len(readable) in (1, 2)
        assert reasons(rows)[-1] == "damaged_end"


def test_a_broken_directory_costs_no_page(tmp_path: Path) -> None:
    whole = pack(PAGES)
    broken = whole.replace(b"PK\1\2", b"XX\1\2")
    rows = read_rows(write(tmp_path, broken), "html")
    assert contents(rows[:-1]) == {f"页.zip/{name}": PAGES[name] or None for name in FOUND}
    assert rows[-1]["reason"] == "damaged_end"
    assert rows[-1]["offset"] <= whole.index(b"PK\1\2")
    not_utf8 = whole.replace("文/二".encode(), b"\xff\xfe\xfd/\xff\xfe\xfd")
    assert [row["content"] or b"" for row in read_rows(write(tmp_path, not_utf8), "html")[:4]] == [
        PAGES[n] for n in FOUND
    ]


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    (damage,) = read_rows(write(tmp_path, b"<html>named as an archive"), "html")
    assert (damage["reason"], damage["length"]) == ("damaged_header", 25)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_mutated_archive_ends_nothing(scratch: Path, data: st.DataObject) -> None:
    whole = pack(PAGES, stream=data.draw(st.booleans()))
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = write(scratch, bytes(content))
    with warnings.catch_warnings():
        rows = read_ranges(path, "html", 100)
    for row in rows:
        assert row["offset"] <= len(content)
        assert ".." not in row["file_path"].split("/")
