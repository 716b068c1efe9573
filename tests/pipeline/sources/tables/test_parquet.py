"""Parquet files, whole and damaged, against pyarrow."""

import datetime as dt
import hashlib
import io
import random
import struct
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import ranges
from corpusmill.schemas.errors import SourceError
from tests.pipeline.sources.rows import has_key, peak_megabytes, read_ranges, read_rows, reasons, texts

TEXTS = [f"第{i}行 " + "lorem ipsum " * (i % 7) for i in range(100)]


def write(folder: Path, table: pa.Table | dict[str, Any], **options: Any) -> Path:
    path = folder / "表.parquet"
    pq.write_table(pa.table(table), path, **options)
    return path


def groups(path: Path) -> list[tuple[int, int]]:
    """(start, end) of the columns of each row group, as pyarrow tells."""
    footer = pq.ParquetFile(path).metadata
    found = []
    for i in range(footer.num_row_groups):
        chunks = [footer.row_group(i).column(k) for k in range(footer.num_columns)]
        starts = [chunk.dictionary_page_offset or chunk.data_page_offset for chunk in chunks]
        found.append((min(starts), max(a + c.total_compressed_size for a, c in zip(starts, chunks, strict=True))))
    return found


def test_a_row_becomes_a_record(tmp_path: Path) -> None:
    table = {
        "text": ["第一行", "柏林是德国的首都。"],
        "title": [None, "柏林"],
        "url": [None, "http://例子/"],
        "date": [None, dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)],
        "language": [None, "zh"],
    }
    path = write(tmp_path, table, row_group_size=1)
    first, row = read_rows(path, "parquet")
    assert has_key(first, "表.parquet:0")
    assert has_key(row, "表.parquet:1")
    start, end = groups(path)[1]
    del row["id"]
    assert row == {
        "url": "http://例子/",
        "title": "柏林",
        "date": dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC),
        "file_path": "表.parquet",
        "offset": start,
        "length": end - start,
        "record_index": 0,
        "content": "柏林是德国的首都。".encode(),
        "media_type": "text/plain",
        "charset": "utf-8",
        "language": "zh",
        "reason": None,
        "truncated": None,
        "redirect": None,
    }
    assert (first["title"], first["url"], first["date"], first["language"]) == (None, None, None, None)


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_types_of_strings(tmp_path: Path, kind: pa.DataType) -> None:
    values = ["柏林", None, "", " \n", "b"]
    plain = pa.array([value and value.encode() for value in values], pa.binary())
    column = plain.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else plain.cast(kind)
    path = write(tmp_path, {"text": column, "title": column, "id": column})
    rows = read_rows(path, "parquet", columns={"id": "id"})
    assert [row["title"] for row in rows] == values
    assert texts(rows) == ["柏林", None, None, None, "b"]
    assert reasons(rows) == [None, "no_text", "no_text", "no_text", None]
    keys = ["柏林", "表.parquet:1", "表.parquet:2", " \n", "b"]
    assert all(has_key(row, key) for row, key in zip(rows, keys, strict=True))


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()], ids=str)
def test_numbers_are_ids(tmp_path: Path, kind: pa.DataType) -> None:
    path = write(tmp_path, {"text": ["a", "b"], "n": pa.array([7, None], kind)})
    first, second = read_rows(path, "parquet", columns={"id": "n"})
    assert has_key(first, "7")
    assert has_key(second, "表.parquet:1")


DAY = dt.datetime(2026, 11, 24, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "dates",
    [
        pa.array(["2026-11-24", None, "yesterday"]),
        pa.array([DAY.date(), None, None], pa.date32()),
        pa.array([DAY.date(), None, None], pa.date64()),
        pa.array([DAY, None, None], pa.timestamp("us", "Asia/Shanghai")),
        *(pa.array([DAY.replace(tzinfo=None), None, None], pa.timestamp(unit)) for unit in ("ms", "us", "ns")),
        pa.array([int(DAY.timestamp() * 1e6), 2**62, -(2**62)]).cast(pa.timestamp("us")),
        pa.array([20781, 2**31 - 1, -(2**31)], pa.int32()).cast(pa.date32()),
    ],
    ids=lambda dates: str(dates.type),
)
def test_dates(tmp_path: Path, dates: pa.Array) -> None:
    rows = read_rows(write(tmp_path, {"text": ["a"] * 3, "date": dates}), "parquet")
    assert [row["date"] for row in rows] == [DAY, None, None]


def test_columns_name_the_columns_of_the_fields(tmp_path: Path) -> None:
    table = {"正文": ["a"], "title": ["b"], "t.x": ["c"], "text": [["not this"]]}
    (row,) = read_rows(write(tmp_path, table), "parquet", columns={"text": "正文", "url": "t.x", "id": "title"})
    assert (row["content"], row["title"], row["url"]) == (b"a", "b", "c")
    assert has_key(row, "b")


def test_a_column_of_another_type_is_none_unless_it_is_named(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": ["a"], "title": [5], "date": [2026], "id": [1.5], "url": [{"x": 1}]})
    (row,) = read_rows(path, "parquet")
    assert (row["title"], row["date"], row["url"]) == (None, None, None)
    for field, kind in {"title": "int64", "date": "int64", "id": "double", "url": "struct<x: int64>"}.items():
        with pytest.raises(SourceError, match=f"column '{field}' holds {kind}, but the {field} must be "):
            read_rows(path, "parquet", columns={field: field})


def test_a_table_without_text_is_a_mistake_in_the_recipe(tmp_path: Path) -> None:
    path = write(tmp_path, {"body": ["a"], "tags": [["x"]]})
    with pytest.raises(SourceError) as error:
        read_rows(path, "parquet")
    assert str(error.value) == (
        f"{path}: there is no column 'text'; its columns are body (string), tags (list<element: string>). Name the one "
        "that holds the text in the recipe, in source test: columns: {text: COLUMN}"
    )
    with pytest.raises(SourceError, match="column 'tags' holds list<element: string>, but the text must be strings"):
        read_rows(path, "parquet", columns={"text": "tags"})
    with pytest.raises(SourceError, match="there is no column 'link'"):
        read_rows(path, "parquet", columns={"text": "body", "url": "link"})
    twice = pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(SourceError, match="there are 2 columns 'text'"):
        read_rows(write(tmp_path, twice), "parquet")


def test_bytes_that_are_not_utf8_cost_their_row(tmp_path: Path) -> None:
    column = pa.array([b"a", "柏林".encode("gb18030"), b"c"])
    unchecked = pa.Array.from_buffers(pa.string(), 3, column.buffers())
    for values in (column, unchecked):
        rows = read_rows(write(tmp_path, {"text": values}), "parquet")
        assert reasons(rows) == [None, "damaged_row", None]
        assert has_key(rows[1], "表.parquet:1:damaged")


def test_a_text_longer_than_a_record_may_be(tmp_path: Path) -> None:
    rows = read_rows(write(tmp_path, {"text": ["a", "长" * 334, "c"]}), "parquet", max_bytes=1000)
    assert reasons(rows) == [None, "too_large", None]


def test_a_table_without_rows(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": pa.array([], pa.string())})
    assert read_ranges(path, "parquet", 1) == []
    path = tmp_path / "none.parquet"
    pq.ParquetWriter(path, pa.schema([("text", pa.string())])).close()
    assert read_ranges(path, "parquet", 1) == []


# Ranges


@settings(deadline=None, max_examples=40)
@given(
    rows=st.integers(1, 100),
    size=st.integers(1, 40),
    target_bytes=st.integers(1, 20_000),
    compression=st.sampled_from(["none", "snappy", "gzip", "zstd", "lz4", "brotli"]),
    use_dictionary=st.booleans(),
    version=st.sampled_from(["1.0", "2.0"]),
)
def test_ranges_of_any_size_give_the_same_rows(
    scratch: Path, rows: int, size: int, target_bytes: int, compression: str, use_dictionary: bool, version: str
) -> None:
    options: dict[str, Any] = {"compression": compression, "use_dictionary": use_dictionary}
    table = {"n": range(rows), "text": TEXTS[:rows]}
    path = write(scratch, table, row_group_size=size, data_page_version=version, **options)
    found = read_ranges(path, "parquet", target_bytes)
    assert found == read_rows(path, "parquet")
    assert texts(found) == TEXTS[:rows]
    places = [place for place, n in zip(groups(path), group_sizes(rows, size), strict=True) for _ in range(n)]
    assert [(row["offset"], row["offset"] + row["length"]) for row in found] == places
    assert [row["record_index"] for row in found] == [i % size for i in range(rows)]
    assert all(has_key(row, f"表.parquet:{i}") for i, row in enumerate(found))


def group_sizes(rows: int, size: int) -> list[int]:
    return [min(size, rows - i) for i in range(0, rows, size)]


def test_a_range_has_about_the_bytes_that_are_wanted(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": TEXTS}, row_group_size=10)
    starts = [start for start, _ in groups(path)]
    n_bytes = path.stat().st_size
    cut = ranges("parquet", str(path), index=None, n_bytes=n_bytes, target_bytes=1)
    assert cut == list(zip([0, *starts[1:]], [*starts[1:], n_bytes], strict=True))  # a row group each
    cut = ranges("parquet", str(path), index=None, n_bytes=n_bytes, target_bytes=n_bytes // 3)
    assert 2 <= len(cut) <= 3
    assert {start for start, _ in cut[1:]} <= set(starts)


def test_object_stores_are_read_by_ranges(tmp_path: Path) -> None:
    path = write(tmp_path, {"text": TEXTS * 10, "ballast": [bytes(range(256)) * 20] * 1000}, row_group_size=100)
    store = fsspec.filesystem("memory")
    store.pipe("/parquet/表.parquet", path.read_bytes())
    rows = read_rows(path, "parquet", location="memory://parquet/表.parquet")
    assert rows == read_rows(path, "parquet")


class Failing(io.BytesIO):
    """A file on a disk that fails behind its first bytes."""

    def read(self, *size: Any) -> bytes:
        if 100 < self.tell() < 2000:
            raise OSError(5, "Input/output error")
        return super().read(*size)


def test_a_disk_that_fails_is_no_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, {"text": TEXTS}, row_group_size=10)
    monkeypatch.setattr(
        "corpusmill.pipeline.sources.tables.parquet.open_input", lambda _: Failing(path.read_bytes()), raising=True
    )
    with pytest.raises(OSError, match="Input/output error"):
        read_rows(path, "parquet")


# Damage


@pytest.mark.parametrize("checksums", [True, False])
def test_a_damaged_row_group_costs_only_itself(tmp_path: Path, checksums: bool) -> None:
    path = write(tmp_path, {"text": TEXTS}, row_group_size=20, compression="zstd", write_page_checksum=checksums)
    places = groups(path)
    data = bytearray(path.read_bytes())
    start, end = places[2]
    data[start + 60 : end - 20] = bytes(end - start - 80)
    path.write_bytes(data)
    rows = read_ranges(path, "parquet", 500)
    assert texts(rows)[:40] + texts(rows)[-40:] == TEXTS[:40] + TEXTS[60:]
    (damage,) = rows[40:-40]
    assert (damage["reason"], damage["offset"], damage["length"]) == ("damaged_compression", start, end - start)
    assert has_key(damage, "表.parquet:40:damaged")


@pytest.mark.parametrize("max_bytes", [1000, 64 << 20])
def test_rows_before_a_damaged_page_are_read(tmp_path: Path, max_bytes: int) -> None:
    unlike = [hashlib.sha512(str(i).encode()).hexdigest() for i in range(1000)]
    pages: dict[str, Any] = {"data_page_size": 1000, "write_batch_size": 10, "use_dictionary": False}
    path = write(
        tmp_path, {"text": unlike}, compression="none", write_statistics=False, write_page_checksum=True, **pages
    )
    data = bytearray(path.read_bytes())
    data[data.index(unlike[555].encode())] ^= 1
    path.write_bytes(data)
    *rows, damage = read_rows(path, "parquet", max_bytes=max_bytes)
    assert texts(rows) == unlike[:550]
    assert (damage["reason"], damage["record_index"]) == ("damaged_compression", 550)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table", b"PAR1" + bytes(100) + b"PAR1", b"\xff" * 12 + b"PAR1"])
def test_a_file_that_is_no_table(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "表.parquet"
    path.write_bytes(data)
    (damage,) = read_ranges(path, "parquet", 1)
    assert (damage["reason"], damage["offset"], damage["length"]) == ("damaged_header", 0, len(data))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_mutated_file_ends_nothing(scratch: Path, data: st.DataObject) -> None:
    """Also of the footer, of which pyarrow tells things only at the price of the process."""
    path = write(scratch, {"text": TEXTS, "n": range(100)}, row_group_size=25, compression="none")
    content = bytearray(path.read_bytes())
    footer = struct.unpack("<I", content[-8:-4])[0]
    for _ in range(data.draw(st.integers(1, 4))):
        first = data.draw(st.sampled_from([0, len(content) - 8 - footer]))
        content[data.draw(st.integers(first, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(len(content) - 20, len(content)))])
    try:
        rows = read_ranges(path, "parquet", 300)
    except SourceError as error:
        assert "there is no column 'text'" in str(error) or "holds" in str(error)
    else:
        assert len(rows) >= 1
        assert all(row["offset"] <= len(content) for row in rows)


def test_bombs(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "x" * 4_000_000, "b"], "other": ["y" * 4_000_000] * 3})
    path = write(tmp_path, table, row_group_size=1, compression="zstd")
    rows = read_rows(path, "parquet")
    assert (texts(rows), reasons(rows)) == (["a", None, "b"], [None, "bomb", None])
    assert reasons(read_rows(path, "parquet", max_ratio=1_000_000)) == [None] * 3


def test_a_dictionary_that_repeats_a_large_text_takes_little_memory(tmp_path: Path) -> None:
    values = pa.array(["".join(chr(33 + (i * i * k) % 90) for i in range(2_000_000)) for k in (7, 11)])
    column = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 100, pa.int32()), values)
    path = write(tmp_path, {"text": column}, store_schema=False, dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < 5_000_000  # for 400 MB of text
    assert peak_megabytes(path, "parquet", max_bytes=1_999_999) < 60


def test_a_large_row_group_is_read_page_by_page(tmp_path: Path) -> None:
    texts = [random.Random(i).randbytes(200_000).hex() for i in range(300)]
    path = write(tmp_path, {"text": texts}, compression="zstd", use_dictionary=False, write_batch_size=1)
    assert path.stat().st_size > 60_000_000
    assert peak_megabytes(path, "parquet") < 85


def test_row_groups_on_the_same_bytes_are_read_once(tmp_path: Path) -> None:
    """A footer of a few bytes could name the same data a million times."""
    path = write(tmp_path, {"text": TEXTS}, row_group_size=50)
    footer = pq.read_metadata(path)
    footer.append_row_groups(pq.read_metadata(path))
    footer.append_row_groups(pq.read_metadata(path))
    written = tmp_path / "footer"
    footer.write_metadata_file(written)
    content = path.read_bytes()
    length = struct.unpack("<I", content[-8:-4])[0]
    path.write_bytes(content[: -8 - length] + written.read_bytes()[4:])
    rows = read_rows(path, "parquet")
    assert texts(rows) == [None] * 2 + TEXTS[:50] + [None] * 2 + TEXTS[50:]
    assert reasons(rows)[:2] == ["damaged_header"] * 2
