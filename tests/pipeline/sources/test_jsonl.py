"""JSON Lines, whole and damaged."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from corpusmill.pipeline.sources.record import record_ids

COMPRESSIONS = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "gzip of two members": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


def line(**fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def write(folder: Path, data: bytes, name: str = "文.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def key(row: dict[str, Any]) -> str:
    """The key that a record without a mapped id has."""
    return f"{row['file_path']}:{row['offset']}"


def test_a_line_becomes_a_row(tmp_path: Path, read_file: Any) -> None:
    first = line(text="第一行")
    second = line(
        text="柏林是德国的首都。", title="柏林", url="http://例子/", date="2026-11-24T08:00:00Z", language="zh"
    )
    rows, _ = read_file(write(tmp_path, first + second), "jsonl")
    row = rows[1]
    assert row.pop("id") == record_ids("test", [f"文.jsonl:{len(first)}"])[0].as_py()
    assert row.pop("date").isoformat() == "2026-11-24T08:00:00+00:00"
    assert row == {
        "url": "http://例子/",
        "title": "柏林",
        "file_path": "文.jsonl",
        "offset": len(first),
        "length": len(second),
        "record_index": 0,
        "content": "柏林是德国的首都。".encode(),
        "media_type": "text/plain",
        "charset": "utf-8",
        "language": "zh",
        "reason": None,
    }
    assert (rows[0]["title"], rows[0]["date"], rows[0]["language"]) == (None, None, None)


def test_columns_name_the_keys_of_the_fields(tmp_path: Path, read_file: Any) -> None:
    data = line(内容="正文", text="other", id="a", _id="b", n=7, title="题")
    path = write(tmp_path, data)
    (row,), _ = read_file(path, "jsonl", columns={"text": "内容", "id": "_id"})
    assert (row["content"].decode(), row["title"]) == ("正文", "题")
    assert row["id"] == record_ids("test", ["b"])[0].as_py()
    (row,), _ = read_file(path, "jsonl", columns={"id": "n"})
    assert row["id"] == record_ids("test", ["7"])[0].as_py()
    for columns in ({}, {"id": "absent"}):
        (row,), _ = read_file(path, "jsonl", columns=columns)
        assert row["id"] == record_ids("test", ["文.jsonl:0"])[0].as_py()


@pytest.mark.parametrize("id_", [None, True, 1.5, "", ["a"]])
def test_an_id_that_is_none_gives_way_to_the_place(tmp_path: Path, read_file: Any, id_: object) -> None:
    (row,), _ = read_file(write(tmp_path, line(id=id_, text="x")), "jsonl", columns={"id": "id"})
    assert row["id"] == record_ids("test", ["文.jsonl:0"])[0].as_py()


@pytest.mark.parametrize("fields", [{}, {"text": ""}, {"text": " \n　"}, {"text": None}, {"text": 5}, {"text": ["x"]}])
def test_a_line_without_text(tmp_path: Path, read_file: Any, fields: dict[str, object]) -> None:
    (row,), _ = read_file(write(tmp_path, line(**fields)), "jsonl")
    assert (row["reason"], row["content"]) == ("no_text", None)


@pytest.mark.parametrize(("date", "year"), [("2026", None), ("yesterday", None), (2026, None), ("2026-11-24", 2026)])
def test_dates(tmp_path: Path, read_file: Any, date: object, year: int | None) -> None:
    (row,), _ = read_file(write(tmp_path, line(text="x", date=date)), "jsonl")
    assert (row["date"] and row["date"].year) == year


@pytest.mark.parametrize(
    "bad",
    [
        b'{"text": "x"',
        b"[1]",
        b"7",
        b"null",
        b'{"text": "\xff"}',
        b'{"text": "\xd5\xfd"}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_bad_line_is_one_damaged_row(tmp_path: Path, read_file: Any, bad: bytes) -> None:
    first, last = line(text="前"), line(text="后")
    rows, _ = read_file(write(tmp_path, first + bad + b"\n" + last), "jsonl")
    assert [row["reason"] for row in rows] == [None, "damaged", None]
    assert (rows[1]["offset"], rows[1]["length"]) == (len(first), len(bad) + 1)
    assert rows[1]["id"] == record_ids("test", [f"文.jsonl:{len(first)}:damaged"])[0].as_py()
    assert rows[2]["content"].decode() == "后"


def test_byte_order_mark_line_ends_and_blank_lines(tmp_path: Path, read_file: Any) -> None:
    data = b'\xef\xbb\xbf{"text": "a"}\r\n\r\n \n\n{"text": "b"}\r\n{"text": "c"}'
    rows, _ = read_file(write(tmp_path, data), "jsonl")
    assert [row["content"] for row in rows] == [b"a", b"b", b"c"]
    assert [data[row["offset"] :][: row["length"]].strip(b"\xef\xbb\xbf\r\n") for row in rows] == [
        b'{"text": "a"}',
        b'{"text": "b"}',
        b'{"text": "c"}',
    ]


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path: Path, read_file: Any) -> None:
    data = rb'{"text": "\ud83d \ud83d\ude00", "title": "\udc00", "id": "\ud800"}'
    (row,), _ = read_file(write(tmp_path, data), "jsonl", columns={"id": "id"})
    assert (row["content"].decode(), row["title"]) == ("\ufffd \U0001f600", "\ufffd")
    assert row["id"] == record_ids("test", ["\ufffd"])[0].as_py()


def test_long_lines(tmp_path: Path, read_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    long = line(text="长" * 4_000_000)
    (row, after), _ = read_file(write(tmp_path, long + line(text="x")), "jsonl")
    assert len(row["content"]) == 12_000_000
    assert (after["offset"], after["content"]) == (len(long), b"x")
    monkeypatch.setattr("corpusmill.pipeline.sources.jsonl.MAX_CONTENT", 1000)
    (row, after), _ = read_file(tmp_path / "文.jsonl", "jsonl")
    assert (row["reason"], row["offset"], row["length"], row["content"]) == ("too_large", 0, len(long), None)
    assert (after["offset"], after["content"]) == (len(long), b"x")


# Compression


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_rows_and_ids_do_not_depend_on_compression(tmp_path: Path, read_file: Any, compression: str) -> None:
    data = b"".join(line(text=f"第{i}行" * i) for i in range(1, 200))
    plain, _ = read_file(write(tmp_path, data), "jsonl")
    rows, _ = read_file(write(tmp_path, COMPRESSIONS[compression](data)), "jsonl")
    if compression != "plain":
        assert {row["length"] for row in rows} == {None}
        plain = [row | {"length": None} for row in plain]
    assert rows == plain


def test_an_empty_file_has_no_rows(tmp_path: Path, read_file: Any) -> None:
    for compress in COMPRESSIONS.values():
        assert read_file(write(tmp_path, compress(b"")), "jsonl")[0] == []
    assert read_file(write(tmp_path, b""), "jsonl")[0] == []


LINES = [line(text=f"第{i}行 {hash_}") for i, hash_ in enumerate(["7f3a", "c0de", "93b1", "e5a7"] * 30)]
PACKED = gzip.compress(b"".join(LINES), mtime=0)


@settings(deadline=None, max_examples=40)
@given(cut=st.integers(2, len(PACKED) - 1))
def test_a_gzip_file_that_was_cut(scratch: Path, read_file: Any, cut: int) -> None:
    good, _ = read_file(write(scratch, PACKED), "jsonl")
    rows, _ = read_file(write(scratch, PACKED[:cut]), "jsonl")
    n_good = len(rows) - 1
    assert rows[:-1] == good[:n_good]
    damage = rows[-1]
    assert (damage["reason"], damage["length"]) == ("damaged", None)
    assert damage["offset"] == len(b"".join(LINES[:n_good]))


def test_a_gzip_file_without_its_trailer_keeps_all_lines(scratch: Path, read_file: Any) -> None:
    rows, _ = read_file(write(scratch, PACKED[:-8]), "jsonl")
    assert [row["reason"] for row in rows] == [None] * len(LINES) + ["damaged"]


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_rubbish_within_or_behind_a_compressed_stream(tmp_path: Path, read_file: Any, compression: str) -> None:
    packed = COMPRESSIONS[compression](b"".join(LINES) * 50)
    for bad in (packed[: len(packed) // 2], packed[:100] + b"\xff" * 50 + packed[150:], packed + b"rubbish"):
        rows, _ = read_file(write(tmp_path, bad), "jsonl")
        assert [row["reason"] for row in rows] == [None] * (len(rows) - 1) + ["damaged"]


# Ranges


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.sampled_from([b"\n", b"\r\n", b"bad", line(text="柏林"), line(text="a" * 50)]), max_size=12),
    target_bytes=st.integers(1, 100),
)
def test_ranges_of_any_size_give_the_same_rows(
    scratch: Path, read_file: Any, parts: list[bytes], target_bytes: int
) -> None:
    data = b"".join(parts)
    path = write(scratch, data)
    cut = ranges("jsonl", str(path), index=None, n_bytes=len(data), target_bytes=target_bytes)
    assert [start for start, _ in cut] == [0] + [end for _, end in cut[:-1]]
    assert cut[-1][1] == len(data)
    rows = []
    for start, end in cut:
        part, _ = read_file(path, "jsonl", start=start, end=end)
        assert all(start <= row["offset"] < end for row in part)
        rows += part
    assert rows == read_file(path, "jsonl")[0]
    starts = [0, *(i + 1 for i, byte in enumerate(data[:-1]) if byte == ord("\n"))]
    ends = [*starts[1:], len(data)]
    assert [(row["offset"], row["offset"] + row["length"]) for row in rows] == [
        (a, b) for a, b in zip(starts, ends, strict=True) if data[a:b].strip()
    ]


def test_a_compressed_file_is_one_range(tmp_path: Path) -> None:
    for compression in ("gzip", "zstd"):
        path = write(tmp_path, COMPRESSIONS[compression](b"".join(LINES)))
        assert ranges("jsonl", str(path), index=None, n_bytes=1000, target_bytes=10) == [(0, 1000)]


def test_real_lines(shared_data: Path, read_file: Any) -> None:
    path = shared_data / "finetune/sentiment-zh-hotel.jsonl.gz"
    with gzip.open(path) as lines:
        expected = [json.loads(entry) for entry in lines]
    rows, _ = read_file(path, "jsonl")
    assert [row["content"].decode() for row in rows] == [entry["text"] for entry in expected]
