"""Ids, dates and batches, which all readers share."""

from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pytest
import xxhash

from corpusmill.pipeline.sources import KINDS, Slice, ranges, read
from corpusmill.pipeline.sources.record import Record, RecordBuilder, open_input, parse_date, record_ids
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.tables import RAW

PIECE = Slice(source="网页", kind="jsonl", file_path="a/b.jsonl", location="", start=0, end=0, columns={})


def test_an_id_is_the_hash_of_source_and_key() -> None:
    ids = record_ids("网页", ["a.warc.gz:0:0", "柏林:1"])
    assert ids.type == pa.string()
    assert ids.to_pylist() == [
        xxhash.xxh3_128("网页\0a.warc.gz:0:0".encode()).hexdigest(),
        xxhash.xxh3_128("网页\0柏林:1".encode()).hexdigest(),
    ]
    assert ids.to_pylist() != record_ids("web", ["a.warc.gz:0:0", "柏林:1"]).to_pylist()


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:00.123456789Z", 123),
        (" 1969-12-31T23:59:59.999Z ", -1),
        ("2026-11-24T08:00:00+08:00", 1_795_478_400_000),
        ("20080430204825", None),
        ("昨天", None),
        ("", None),
        (None, None),
    ],
)
def test_dates(text: str | None, milliseconds: int | None) -> None:
    assert parse_date(text) == milliseconds


def test_a_batch_has_the_raw_schema_and_all_fields() -> None:
    builder = RecordBuilder(PIECE)
    builder.add(
        Record(
            key="k",
            offset=7,
            length=5,
            record_index=2,
            url="http://例子/",
            title="柏林",
            date=1000,
            content="正文".encode(),
            media_type="text/plain",
            charset="utf-8",
            language="zh",
        )
    )
    builder.add(Record(key="l", offset=12, reason="damaged"))
    batch = builder.finish()
    assert batch.schema.equals(RAW.schema(), check_metadata=True)
    first, second = batch.to_pylist()
    assert first.pop("id") == record_ids("网页", ["k"])[0].as_py()
    assert first.pop("date").isoformat() == "1970-01-01T00:00:01+00:00"
    assert first == {
        "url": "http://例子/",
        "title": "柏林",
        "file_path": "a/b.jsonl",
        "offset": 7,
        "length": 5,
        "record_index": 2,
        "content": "正文".encode(),
        "media_type": "text/plain",
        "charset": "utf-8",
        "language": "zh",
        "reason": None,
        "truncated": None,
        "redirect": None,
    }
    assert second["reason"] == "damaged"
    assert second["content"] is None
    assert len(builder) == 0


class OneKind:
    """A reader that yields the given records."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    def records(self, piece: Slice, counts: Counter[str]) -> Iterator[Record]:
        counts["other"] += 3
        yield from self._records

    def ranges(self, location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
        return [(0, n_bytes)]


def sizes(monkeypatch: pytest.MonkeyPatch, records: list[Record]) -> list[int]:
    monkeypatch.setattr("corpusmill.pipeline.sources.KINDS", {"jsonl": OneKind(records)})
    counts: Counter[str] = Counter()
    found = [batch.num_rows for batch in read(PIECE, counts)]
    assert counts == Counter(other=3, records=len(records))
    return found


def test_a_batch_ends_at_256_rows_or_8_megabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [Record(key=str(i), offset=i, content=b"x") for i in range(600)]
    assert sizes(monkeypatch, small) == [256, 256, 88]
    large = [Record(key=str(i), offset=i, content=bytes(3 << 20)) for i in range(7)]
    assert sizes(monkeypatch, large) == [3, 3, 1]
    assert sizes(monkeypatch, []) == []


def test_kinds_and_what_is_not_one() -> None:
    assert sorted(KINDS) == ["dataset", "html", "jsonl", "parquet", "text", "warc", "wet", "wikipedia"]
    with pytest.raises(SourceError, match="'wrac' is not known; use one of warc, wet, wikipedia"):
        ranges("wrac", "x", index=None, n_bytes=1, target_bytes=1)


def test_inputs_open_from_disk_and_from_file_systems(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("in") / "数据.txt"
    path.write_bytes(b"0123")
    for location in (str(path), f"file://{path}"):
        with open_input(location) as file:
            file.seek(2)
            assert file.read() == b"23"
    for location in (f"{path}.none", "memory://none"):
        with pytest.raises(SourceError, match="no such file"):
            open_input(location)
