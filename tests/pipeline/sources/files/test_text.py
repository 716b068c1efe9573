"""Plain text by file and by line, whole and damaged."""

import gzip
import random
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from corpusmill.schemas.errors import SourceError
from tests.pipeline.sources.rows import Rows, has_key, peak_megabytes, read_ranges, read_rows, reasons, texts

BY_LINE = {"options": {"each": "line"}}


def write(folder: Path, data: bytes, name: str = "文.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def read_members(folder: Path, files: dict[str, bytes], **settings: Any) -> Rows:
    """The rows of files that a slice has as members."""
    members = [(name, len(data)) for name, data in files.items()]
    for name, data in files.items():
        write(folder, data, name)
    return read_rows(folder, "text", members=members, end=sum(map(len, files.values())), **settings)


# Each file


def test_a_file_becomes_a_row(tmp_path: Path) -> None:
    first, row = read_members(tmp_path, {"a.txt": b"first\nfile\n", "文/乙.txt": "第二".encode("gb18030")})
    assert first["content"] == b"first\nfile\n"
    assert has_key(row, "文/乙.txt:0:0")
    del row["id"]
    assert row == {
        "url": None,
        "title": None,
        "date": None,
        "file_path": "文/乙.txt",
        "offset": 0,
        "length": 4,
        "record_index": 0,
        "content": "第二".encode("gb18030"),
        "media_type": "text/plain",
        "charset": None,  # that is up to the charset stage
        "language": None,
        "reason": None,
        "truncated": None,
        "redirect": None,
    }


def test_a_slice_may_be_one_file(tmp_path: Path) -> None:
    """A download is; it is cut into ranges before it is known how it is read, and read once nevertheless."""
    path = write(tmp_path, b"one\nfile")
    for target_bytes in (1, 3, 100):
        (row,) = read_ranges(path, "text", target_bytes)
        assert (row["content"], row["length"], row["file_path"]) == (b"one\nfile", 8, "文.txt")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_packed_files_are_told_by_their_content(tmp_path: Path, pack: Any) -> None:
    files = {"a.txt": pack("柏林".encode() * 100), "b.txt.gz": b"not packed", "c.txt.zst": pack(b"c")}
    rows = read_members(tmp_path, files)
    assert texts(rows) == ["柏林" * 100, "not packed", "c"]
    assert [row["length"] for row in rows] == [None, 10, None]


def test_damage_costs_its_file(tmp_path: Path) -> None:
    packed = gzip.compress(b"text" * 1000)
    files = {
        "cut.txt.gz": packed[:-5],
        "flipped.txt.gz": packed[:-5] + b"\xff" + packed[-4:],
        "bomb.txt.zst": zstandard.compress(bytes(64 << 20)),
        "large.txt": b"x" * 3_000_001,
        "large.txt.gz": gzip.compress(random.Random(1).randbytes(1_000_000).hex().encode() * 2),
        "empty.txt": b"",
        "empty.txt.gz": gzip.compress(b""),
        "good.txt": b"x" * 3_000_000,
    }
    rows = read_members(tmp_path, files, max_bytes=3_000_000)
    assert {row["file_path"]: row["reason"] for row in rows} == {
        "cut.txt.gz": "damaged_end",
        "flipped.txt.gz": "damaged_compression",
        "bomb.txt.zst": "bomb",
        "large.txt": "too_large",
        "large.txt.gz": "too_large",
        "empty.txt": "no_text",
        "empty.txt.gz": "no_text",
        "good.txt": None,
    }
    assert has_key(rows[0], "cut.txt.gz:0:damaged")


def test_what_is_not_text(tmp_path: Path) -> None:
    rng = random.Random(1)
    files = {
        "noise": rng.randbytes(10_000),
        "nul": b"\0" * 10,
        "elf": b"\x7fELF" + rng.randbytes(64) + bytes(1000) + b"strings" * 100,
        "png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\2\0\0\0\1\0",
    }
    assert set(reasons(read_members(tmp_path, files))) == {"damaged_row"}


@pytest.mark.parametrize(
    "codec",
    [
        "utf-8",
        "utf-8-sig",
        "gb18030",
        "big5",
        "shift_jis",
        "iso2022_jp",
        "hz",
        "utf-16",
        "utf-16-le",
        "utf-16-be",
        "utf-7",
    ],
)
def test_text_in_any_encoding_is_text(tmp_path: Path, codec: str) -> None:
    latin = "The quick brown fox.\tJumps\r\n"
    (row,) = read_members(
        tmp_path, {"a.txt": (latin if codec.startswith("utf-16-") else latin + "文字" * 50).encode(codec)}
    )
    assert row["reason"] is None


def test_a_stray_control_character_is_no_damage(tmp_path: Path) -> None:
    rows = read_members(
        tmp_path, {"dos.txt": b"a\x1a", "form feed": b"\x0cpage\x0c", "nul": b"long enough " * 50 + b"\0\0\0"}
    )
    assert reasons(rows) == [None] * 3


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="gone.txt: no such file"):
        read_rows(tmp_path, "text", members=[("gone.txt", 1)], end=1)
    with pytest.raises(SourceError, match="no such file"):
        read_rows(tmp_path, "text", location=str(tmp_path / "gone.txt"), end=1)


# Each line


def test_a_line_becomes_a_row(tmp_path: Path) -> None:
    data = "\ufeff第一行\r\n\r\n \n\tsecond \nlast".encode()
    rows = read_rows(write(tmp_path, data), "text", **BY_LINE)
    assert texts(rows) == ["第一行", "\tsecond ", "last"]
    assert [(row["offset"], row["length"]) for row in rows] == [(0, 14), (18, 9), (27, 4)]
    assert [row["charset"] for row in rows] == [None] * 3
    assert has_key(rows[1], "文.txt:18")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_lines_do_not_depend_on_packing(tmp_path: Path, pack: Any) -> None:
    data = b"".join(b"line %d\n" % i for i in range(1000))
    plain = read_rows(write(tmp_path, data), "text", **BY_LINE)
    path = write(tmp_path, pack(data))
    assert ranges("text", str(path), index=None, n_bytes=9, target_bytes=1) == [(0, 9)]
    assert read_ranges(path, "text", 10, **BY_LINE) == [row | {"length": None} for row in plain]


def test_damage_costs_its_lines(tmp_path: Path) -> None:
    parts = [gzip.compress(b"".join(b"line %d\n" % i for i in range(k, k + 10)), mtime=0) for k in (0, 10, 20)]
    parts[1] = parts[1][:20] + b"\xff\xff" + parts[1][22:]
    rows = read_rows(write(tmp_path, b"".join(parts)), "text", **BY_LINE)
    found = texts(rows)
    assert found[:10] == [f"line {i}" for i in range(10)]
    assert found[-10:] == [f"line {i}" for i in range(20, 30)]
    assert reasons(rows).count("damaged_compression") == 1
    long = b"a\n" + b"x" * 100 + b"\n" + bytes(50) + b"\nb"
    rows = read_rows(write(tmp_path, long), "text", max_bytes=60, **BY_LINE)
    assert reasons(rows) == [None, "too_large", "damaged_row", None]
    utf16 = read_rows(write(tmp_path, "文字\nlines".encode("utf-16")), "text", **BY_LINE)
    assert reasons(utf16) == ["damaged_row", "damaged_row"]


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(
        st.sampled_from([b"\n", b"\r\n", b"word", "柏林\n".encode(), b"a" * 50 + b"\n", b"\0\0\0\0"]), max_size=12
    ),
    target_bytes=st.integers(1, 100),
)
def test_ranges_of_any_size_give_the_same_rows(scratch: Path, parts: list[bytes], target_bytes: int) -> None:
    data = b"".join(parts)
    path = write(scratch, data)
    rows = read_ranges(path, "text", target_bytes, **BY_LINE)
    assert rows == read_rows(path, "text", **BY_LINE)
    expected = [line.removesuffix(b"\r") for line in data.split(b"\n") if line.strip()]
    assert [row["content"] or None for row in rows] == [None if line.count(0) else line for line in expected]


def test_hostile_files_take_little_memory(tmp_path: Path) -> None:
    path = write(tmp_path, zstandard.compress(b"one line " * 20_000_000))
    assert peak_megabytes(path, "text", max_bytes=4 << 20, max_ratio=1 << 30, **BY_LINE) < 60


def test_real_text(shared_data: Path) -> None:
    path = shared_data / "lm/zh-tang300.txt"
    (row,) = read_rows(path, "text")
    assert row["content"] == path.read_bytes()
    lines = [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    assert texts(read_ranges(path, "text", 5000, **BY_LINE)) == lines
