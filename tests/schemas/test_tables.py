"""Contracts of the tables: types, versions, and bytes that depend on the rows only."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.schemas import tables
from corpusmill.schemas.errors import SchemaError
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import TableWriter, read_table, write_table
from corpusmill.schemas.tables import Table

ALL = [value for value in vars(tables).values() if isinstance(value, Table)]

PAIR = Table(
    name="pair",
    version=(1, 0),
    columns=pa.schema([pa.field("n", pa.int64(), nullable=False), pa.field("text", pa.string())]),
)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.name)
def test_every_column_is_described(table: Table) -> None:
    for field in table.columns:
        assert field.metadata[b"description"]


def test_published_ids_are_hex_and_internal_ones_binary() -> None:
    for table in (tables.DOCUMENT, tables.REJECT, tables.LEDGER, tables.DUPLICATE, tables.SHARD):
        assert table.columns.field("id").type == pa.string()
    for table in (tables.REFINED, tables.SIGNATURE):
        assert table.columns.field("id").type == pa.binary(16)


def test_a_file_says_what_it_holds() -> None:
    schema = PAIR.schema(metadata={"corpusmill.minhash": "abc"})
    assert schema.metadata == {
        b"corpusmill.table": b"pair",
        b"corpusmill.version": b"1.0",
        b"corpusmill.minhash": b"abc",
    }


@pytest.mark.parametrize(("version", "accepted"), [((1, 0), True), ((1, 7), True), ((2, 0), False)])
def test_a_newer_minor_version_is_read_and_a_major_one_refused(version: tuple[int, int], accepted: bool) -> None:
    other = Table(name="pair", version=version, columns=PAIR.columns).schema()
    if accepted:
        PAIR.check(other, "x.parquet")
    else:
        with pytest.raises(SchemaError, match=r"x\.parquet holds pair 2\.0, but pair 1\.x is read here"):
            PAIR.check(other, "x.parquet")


def test_another_table_is_refused() -> None:
    with pytest.raises(SchemaError, match="holds ledger 1.1, but document 1.x"):
        tables.DOCUMENT.check(tables.LEDGER.schema(), "x")
    with pytest.raises(SchemaError, match="no corpusmill table"):
        tables.DOCUMENT.check(pa.schema([("id", pa.string())]), "x")


def test_damage_is_what_could_not_be_read_and_not_what_need_not() -> None:
    reasons = ["damaged_end", "damaged", "bomb", "too_large", "too_deep", "redirect", "no_text", "status", None]
    assert tables.is_damage(pa.array(reasons)).to_pylist() == [True] * 5 + [False] * 4


def test_a_null_in_a_column_without_nulls_is_refused(tmp_path) -> None:
    with pytest.raises(pa.ArrowInvalid, match="non-nullable"):
        write_table(Files(tmp_path), "x.parquet", PAIR, pa.table({"n": pa.array([None], pa.int64()), "text": ["a"]}))


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, 25), max_size=6))
def test_the_bytes_do_not_depend_on_the_batches(tmp_path_factory, cuts: list[int]) -> None:
    folder = tmp_path_factory.mktemp("batches")
    files = Files(folder)
    rows = pa.table({"n": range(25), "text": [None if i % 5 == 0 else f"第{i}行" for i in range(25)]})
    whole = write_table(files, "whole.parquet", PAIR, rows, row_group=10)
    writer = TableWriter(files, "cut.parquet", PAIR, row_group=10)
    bounds = [0, *sorted(cuts), 25]
    for start, end in zip(bounds, bounds[1:], strict=False):
        writer.write(rows.slice(start, end - start))
    assert writer.publish().sha256 == whole.sha256
    with pq.ParquetFile(folder / "cut.parquet") as parquet:
        assert [parquet.metadata.row_group(i).num_rows for i in range(3)] == [10, 10, 5]


def test_an_empty_table_can_be_read(tmp_path) -> None:
    files = Files(tmp_path)
    TableWriter(files, "x.parquet", PAIR).publish()
    assert read_table(files, "x.parquet", PAIR).num_rows == 0


def test_a_width_of_token_ids() -> None:
    assert tables.token_type(65_536) == pa.uint16()
    assert tables.token_type(65_537) == pa.uint32()
