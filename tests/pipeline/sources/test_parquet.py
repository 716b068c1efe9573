"""Parquet files, whole and damaged, against pyarrow."""

import datetime as dt
import io
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
    """(start, end) of the columns of each row group, in bytes of the file."""
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
    values = ["柏林", None, "", " \n", "b", "柏林"]
    plain = pa.array([value and value.encode() for value in values], pa.binary())
    column = plain.cast(pa.string()).dictionary_encode() if pa.types.is_dictionary(kind) else plain.cast(kind)
    rows = read_rows(write(tmp_path, {"text": column, "title": column, "id": column}), "parquet", columns={"id": "id"})
    assert texts(rows) == ["柏林", None, None, None, "b", "柏林"] if kind is None else True
    assert reasons(rows)[1:4] == ["no_text"] * 3
    assert [row["title"] for row in rows] == values
