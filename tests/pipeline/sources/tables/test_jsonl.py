"""JSON Lines, whole and damaged."""

import gzip
import io
import json
import zlib
from pathlib import Path
from typing import Any

import fsspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from corpusmill.pipeline.sources.record import record_ids
from corpusmill.pipeline.sources.tables.json_array import read_elements
from tests.pipeline.sources.rows import has_key, peak_megabytes, read_ranges, read_rows, reasons, texts

COMPRESSIONS = {
    "plain": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "gzip of two members": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    "gzip with padding": lambda data: gzip.compress(data, mtime=0) + bytes(1000),
    "zstd": lambda data: zstandard.compress(data),
    "zstd of two frames": lambda data: zstandard.compress(data[:50]) + zstandard.compress(data[50:]),
    "zstd with a frame to skip": lambda data: b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstandard.compress(data),
}


def line(**fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode() + b"\n"


def write(folder: Path, data: bytes, name: str = "文.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


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
        "truncated": None,
        "redirect": None,
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


@pytest.mark.parametrize("fields", [{}, {"text": ""}, {"text": " \n　"}, {"text": None}])
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
        b'{"text": 5}',
        b'{"text": ["x"]}',
        b'{"text": {"text": "x"}}',
        b'{"text": "x"} {}',
        b'{"text": "a\0b"}',
        b"\0\0\0",
        b"[1]",
        b"7",
        b"null",
        b'{"text": "\xff"}',
        b'{"text": "\xd5\xfd"}',
        b"[" * 100_000,
        b'{"text": ' * 100_000,
        b'{"n": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_bad_line_is_one_damaged_row(tmp_path: Path, read_file: Any, bad: bytes) -> None:
    first, last = line(text="前"), line(text="后")
    rows, _ = read_file(write(tmp_path, first + bad + b"\n" + last), "jsonl")
    assert reasons(rows) == [None, "damaged_row", None]
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


def test_what_json_leaves_open(tmp_path: Path) -> None:
    """RFC 8259 §4 and §6: of two equal keys the last one counts; numbers that no reader needs are no damage."""
    data = b'{"text": "a", "text": "b"}\n{"n": NaN, "m": -Infinity, "text": "c"}\n{"text": "d\\u0000", "n": 1e999}'
    assert texts(read_rows(write(tmp_path, data), "jsonl")) == ["b", "c", "d\0"]


def test_a_last_line_needs_no_end_but_must_not_break_off(tmp_path: Path) -> None:
    whole = line(text="a") + b'{"text": "b"}'
    assert texts(read_rows(write(tmp_path, whole), "jsonl")) == ["a", "b"]
    for cut in range(1, len(b'{"text": "b"}')):
        (_, last) = read_rows(write(tmp_path, whole[:-cut]), "jsonl")
        assert (last["reason"], last["offset"], last["length"]) == ("damaged_end", len(line(text="a")), 13 - cut)


def test_lines_longer_than_a_record_may_be(tmp_path: Path) -> None:
    long = line(text="长" * 4_000_000)
    path = write(tmp_path, long + line(text="x"))
    (row, after) = read_rows(path, "jsonl")
    assert len(row["content"]) == 12_000_000
    assert (after["offset"], after["content"]) == (len(long), b"x")
    assert reasons(read_rows(path, "jsonl", max_bytes=len(long))) == [None, None]
    (row, after) = read_rows(path, "jsonl", max_bytes=len(long) - 1)
    assert (row["reason"], row["offset"], row["length"], row["content"]) == ("too_large", 0, len(long), None)
    assert (after["offset"], after["content"]) == (len(long), b"x")
    assert read_ranges(path, "jsonl", 100_000, max_bytes=1000) == [row, after]


class RemoteFile(fsspec.spec.AbstractBufferedFile):
    """A file of an object store, as fsspec reads them."""

    content = b""
    n_read = 0

    def _fetch_range(self, start: int, end: int) -> bytes:
        RemoteFile.n_read += end - start
        return self.content[start:end]


class Store(fsspec.AbstractFileSystem):
    """A store with one file."""

    protocol = "store"

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": len(RemoteFile.content), "type": "file"}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> RemoteFile:
        return RemoteFile(self, path, mode, block_size=100, cache_type="readahead")


def test_object_stores_are_read_by_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("store", Store, clobber=True)
    data = b"".join(line(text=f"第{i}行" * 20) for i in range(20_000))
    local = read_rows(write(tmp_path, data), "jsonl", start=1_000_000, end=1_001_000)
    monkeypatch.setattr(RemoteFile, "content", data)
    remote = read_rows(tmp_path / "文.jsonl", "jsonl", location="store://文.jsonl", start=1_000_000, end=1_001_000)
    assert remote == local
    assert RemoteFile.n_read < 600_000 < len(data)
    monkeypatch.setattr(RemoteFile, "content", gzip.compress(data))
    assert len(read_rows(tmp_path / "文.jsonl", "jsonl", location="store://文.jsonl")) == 20_000


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
def test_a_gzip_file_that_was_cut_keeps_what_can_be_decoded(scratch: Path, cut: int) -> None:
    good = read_rows(write(scratch, PACKED), "jsonl")
    *rows, damage = read_rows(write(scratch, PACKED[:cut]), "jsonl")
    decoded = zlib.decompressobj(31).decompress(PACKED[:cut])
    assert rows == good[: decoded.count(b"\n")]
    assert (damage["reason"], damage["length"]) == ("damaged_end", None)
    assert damage["offset"] == len(b"".join(LINES[: len(rows)]))


def test_a_wrong_checksum_costs_no_line(tmp_path: Path) -> None:
    for packed in (PACKED, checked_zstd(b"".join(LINES))):
        bad = bytearray(packed)
        bad[-5 if packed is PACKED else -1] ^= 1
        rows = read_rows(write(tmp_path, bytes(bad)), "jsonl")
        assert reasons(rows) == [None] * len(LINES) + ["damaged_compression"]


def checked_zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), checked_zstd], ids=["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["flip", "rubbish between", "rubbish at the start", "rubbish at the end"])
def test_members_behind_damage_are_read(tmp_path: Path, pack: Any, damage: str) -> None:
    """Three members of 40 lines; the second one, or what lies between, is damaged."""
    members = [pack(b"".join(LINES[i : i + 40])) for i in (0, 40, 80)]
    whole = read_rows(write(tmp_path, b"".join(members)), "jsonl")
    if damage == "flip":
        broken = bytearray(members[1])
        broken[-3] ^= 0x10
        members[1] = bytes(broken)
    else:
        members.insert({"between": 1, "start": 1, "end": 3}[damage.split()[-1]], b"rubbish" * 10_000)
    rows = read_rows(write(tmp_path, b"".join(members)), "jsonl")
    assert [row for row in texts(rows) if row] == texts(whole)
    assert reasons(rows).count("damaged_compression") == 1 == len(rows) - len(whole)


def test_a_line_torn_by_damage_belongs_to_it(tmp_path: Path) -> None:
    """Blocks of 100 bytes, each a member, as bgzip makes them: most begin within a line."""
    data = b"".join(LINES)
    blocks = [gzip.compress(data[i : i + 100], mtime=0) for i in range(0, len(data), 100)]
    broken = bytearray(blocks[5])
    broken[-5] ^= 1
    blocks[5] = bytes(broken)
    rows = read_rows(write(tmp_path, b"".join(blocks)), "jsonl")
    lost = [i for i, text in enumerate(LINES) if json.loads(text)["text"] not in texts(rows)]
    assert reasons(rows).count("damaged_compression") == 1 == len(rows) - len(LINES) + len(lost)
    assert len(lost) == 1  # the block decodes but for its checksum, so only the line across its end is torn


@settings(deadline=None, max_examples=60)
@given(position=st.integers(0, 10_000), bit=st.integers(0, 7), n_members=st.sampled_from([1, 3]))
def test_a_flipped_bit_ends_nothing(scratch: Path, position: int, bit: int, n_members: int) -> None:
    """Lines that come before the damage, or in other members, are there; no record is made up."""
    step = len(LINES) // n_members
    groups = [LINES[i : i + step] for i in range(0, len(LINES), step)]
    members = [gzip.compress(b"".join(group), mtime=0) for group in groups]
    packed = bytearray(b"".join(members))
    position %= len(packed)
    packed[position] ^= 1 << bit
    rows = read_rows(write(scratch, bytes(packed)), "jsonl")
    hit = next(i for i in range(n_members) if position < sum(map(len, members[: i + 1])))
    if position < 2:
        return  # no gzip file any more
    found = set(texts(rows))
    for i, group in enumerate(groups):
        if i < hit or i > hit + 1:
            assert {json.loads(entry)["text"] for entry in group} <= found
    n_damaged = sum(reason is not None for reason in reasons(rows))
    assert n_damaged or found == {json.loads(entry)["text"] for entry in LINES}  # bits of the header mean little


# Bombs


def test_a_bomb_ends_the_file(tmp_path: Path) -> None:
    bomb = zstandard.compress(b" " * (64 << 20))
    for data in (bomb, zstandard.compress(b"".join(LINES)) + bomb):
        rows = read_rows(write(tmp_path, data + zstandard.compress(line(text="x"))), "jsonl")
        assert reasons(rows)[-1] == "bomb"
        assert len(rows) == 1 + (len(LINES) if data is not bomb else 0)
    assert reasons(read_rows(write(tmp_path, zstandard.compress(line(text="x" * 100_000))), "jsonl")) == [None]


def test_what_grows_too_much_is_up_to_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(line(text="a" * 3_000_000)))
    assert reasons(read_rows(path, "jsonl", max_ratio=2000)) == [None]
    assert reasons(read_rows(path, "jsonl", max_ratio=100)) == ["bomb"]


def test_hostile_files_take_little_memory(tmp_path: Path) -> None:
    deep = write(tmp_path, zstandard.compress(b'{"a":' * 20_000_000), "deep.jsonl")
    assert peak_megabytes(deep, "jsonl", max_bytes=4 << 20) < 60
    long = write(tmp_path, gzip.compress(b'{"text": "' + b"lorem ipsum" * 20_000_000), "long.jsonl")
    assert peak_megabytes(long, "jsonl", max_bytes=4 << 20, max_ratio=10_000) < 60


# Arrays


ARRAY = [{"text": "a"}, {"text": 'quote " bracket ] comma , backslash \\', "tags": [1, {"x": []}]}, {"text": "柏林"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress], ids=["plain", "gzip", "zstd"])
def test_a_file_that_is_an_array_is_read_by_element(tmp_path: Path, indent: int | None, pack: Any) -> None:
    data = b"\xef\xbb\xbf\n" + json.dumps(ARRAY, ensure_ascii=False, indent=indent).encode() + b"\n"
    path = write(tmp_path, pack(data), "array.json")
    rows = read_ranges(path, "jsonl", 5)
    assert texts(rows) == [element["text"] for element in ARRAY]
    for row, element in zip(rows, ARRAY, strict=True):
        assert has_key(row, f"array.json:{row['offset']}")
        if pack is bytes:
            assert json.loads(data[row["offset"] :][: row["length"]]) == element


@settings(deadline=None, max_examples=50)
@given(
    elements=st.lists(st.recursive(st.text() | st.integers(), lambda x: st.lists(x) | st.dictionaries(st.text(), x))),
    ascii_=st.booleans(),
    indent=st.sampled_from([None, 1]),
    block=st.integers(1, 7),
)
def test_elements_are_those_that_json_finds(elements: Any, ascii_: bool, indent: int | None, block: int) -> None:
    data = json.dumps(elements, ensure_ascii=ascii_, indent=indent).encode(errors="surrogatepass")
    stream = io.BufferedReader(Drops(data, block), 8)
    found = [
        json.loads(element.content.decode(errors="surrogatepass")) for element in read_elements(stream, None, 1 << 20)
    ]
    assert found == elements


class Drops(io.RawIOBase):
    """A stream that brings a few bytes a read."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._data.readinto(memoryview(buffer)[: self._size])


def test_damage_in_an_array_costs_the_element(tmp_path: Path) -> None:
    data = b'[{"text": "a"}, {"text": b}, 5, {"text": "' + b"x" * 1000 + b'"}, {"text": "c"}, {"text": "d'
    rows = read_rows(write(tmp_path, data), "jsonl", max_bytes=100)
    assert reasons(rows) == [None, "damaged_row", "damaged_row", "too_large", None, "damaged_end"]
    begins = [b"{", b'{"text": b', b"5", b' {"text": "x', b'{"text": "c', b' {"text": "d']
    assert [row["offset"] for row in rows] == [data.index(begin) for begin in begins]
    (row, damage) = read_rows(write(tmp_path, gzip.compress(data, 0)[:40]), "jsonl")
    assert (row["content"], damage["reason"]) == (b"a", "damaged_end")
    assert reasons(read_rows(write(tmp_path, b'[{"text": "a"}] rubbish'), "jsonl")) == [None, "damaged_row"]
    assert read_rows(write(tmp_path, b"[]"), "jsonl") == []


# Ranges


@settings(deadline=None, max_examples=60)
@given(
    parts=st.lists(st.sampled_from([b"\n", b"\r\n", b"bad", line(text="柏林"), line(text="a" * 50)]), max_size=12),
    target_bytes=st.integers(1, 100),
)
def test_ranges_of_any_size_give_the_same_rows(scratch: Path, parts: list[bytes], target_bytes: int) -> None:
    data = b"".join(parts)
    path = write(scratch, data)
    rows = read_ranges(path, "jsonl", target_bytes)
    assert rows == read_rows(path, "jsonl")
    starts = [0, *(i + 1 for i, byte in enumerate(data[:-1]) if byte == ord("\n"))]
    ends = [*starts[1:], len(data)]
    assert [(row["offset"], row["offset"] + row["length"]) for row in rows] == [
        (a, b) for a, b in zip(starts, ends, strict=True) if data[a:b].strip()
    ]


def test_a_long_line_is_not_read_again_by_each_range(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("store", Store, clobber=True)
    monkeypatch.setattr(RemoteFile, "content", line(text="x" * 1_000_000))
    monkeypatch.setattr(RemoteFile, "n_read", 0)
    path = tmp_path / "文.jsonl"
    for start in range(0, 1_000_000, 1000):
        end = min(start + 1000, len(RemoteFile.content))
        assert bool(read_rows(path, "jsonl", location="store://x", start=start, end=end)) == (start == 0)
    assert RemoteFile.n_read < 5_000_000 + 1000 * 300_000


def test_a_compressed_file_is_one_range(tmp_path: Path) -> None:
    for compression in ("gzip", "zstd"):
        path = write(tmp_path, COMPRESSIONS[compression](b"".join(LINES)))
        assert ranges("jsonl", str(path), index=None, n_bytes=1000, target_bytes=10) == [(0, 1000)]


def test_real_lines(shared_data: Path) -> None:
    path = shared_data / "finetune/sentiment-zh-hotel.jsonl.gz"
    with gzip.open(path) as lines:
        expected = [json.loads(entry) for entry in lines]
    assert texts(read_rows(path, "jsonl")) == [entry["text"] for entry in expected]
