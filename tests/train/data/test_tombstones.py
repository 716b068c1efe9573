"""Forgotten documents: every position stays, the tokens of the text are dead."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from corpusmill.schemas.errors import CorpusmillError, SchemaError, SourceError
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import read_table, write_table
from corpusmill.schemas.tables import SHARD, TOMBSTONE
from corpusmill.train.data.dataset import TokenDataset
from tests.train.corpus import EOS, WHEN, Document, forget, read_manifest, small_dataset, write_dataset, write_manifest

FIRST, SECOND, HELD_OUT = (
    "data/train-000-00000.parquet",
    "data/train-000-00001.parquet",
    "data/validation-000-00000.parquet",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset folder."""
    small_dataset(tmp_path / "dataset")
    return tmp_path / "dataset"


def open_dataset(folder: Path, split: str = "train", cache_bytes: int | None = None) -> TokenDataset:
    return TokenDataset.open(str(folder), split=split, cache=folder.parent / "cache", cache_bytes=cache_bytes)


def all_rows(dataset: TokenDataset, length: int = 50) -> np.ndarray:
    return dataset.windows(np.arange(dataset.n_windows(length)), length)


def test_a_case_worked_out_by_hand(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", [Document("ab"), Document("cd"), Document("e")], shards=1)
    a, b, c, d, e = (open_dataset(tmp_path / "dataset").tokenizer.encode(letter).ids[0] for letter in "abcde")
    assert all_rows(open_dataset(tmp_path / "dataset"), 4).tolist() == [[EOS, a, b, EOS, c], [c, d, EOS, e, EOS]]
    forget(tmp_path / "dataset", [(FIRST, 1)])
    assert all_rows(open_dataset(tmp_path / "dataset"), 4).tolist() == [[EOS, a, b, EOS, -1], [-1, -1, EOS, e, EOS]]


@pytest.mark.parametrize("cache_bytes", [None, 1 << 20])
def test_a_batch_before_and_after_differs_at_its_positions_only(folder: Path, cache_bytes: int | None) -> None:
    forgotten = [(FIRST, 0), (FIRST, 5), (SECOND, 9)]
    before = open_dataset(folder, cache_bytes=cache_bytes)
    forget(folder, forgotten)
    after = open_dataset(folder, cache_bytes=cache_bytes)
    assert (after.n_stream, after.fingerprint) == (before.n_stream, before.fingerprint)
    (whole,) = before.windows(np.array([0]), before.n_stream - 1)
    (changed,) = after.windows(np.array([0]), before.n_stream - 1)
    places = [before.locate(position) for position in range(before.n_stream)]
    dead = np.array([place in forgotten for place in places]) & (whole != EOS)
    assert changed.tolist() == np.where(dead, -1, whole).tolist()
    shuffled = np.random.default_rng(0).permutation(before.n_windows(50))[:16]
    cut = [changed[i * 50 : i * 50 + 51].tolist() for i in shuffled]
    assert after.windows(shuffled, 50).tolist() == [row + [-1] * (51 - len(row)) for row in cut]


def test_the_rows_of_documents_leave_them_out(folder: Path) -> None:
    ids = pa.Table.from_batches(open_dataset(folder).documents(["id"]))["id"].to_pylist()
    forget(folder, [(FIRST, 0), (SECOND, 9)])
    after = open_dataset(folder)
    assert pa.Table.from_batches(after.documents(["id"]))["id"].to_pylist() == ids[1:-1]
    assert after.n_documents == len(ids) - 2


def test_the_digest_is_of_the_documents_and_not_of_the_files(folder: Path, tmp_path: Path) -> None:
    small_dataset(tmp_path / "other")
    forget(folder, [(SECOND, 3), (FIRST, 7)])
    forget(tmp_path / "other", [(FIRST, 7)])
    one = open_dataset(tmp_path / "other").tombstone_digest
    forget(tmp_path / "other", [(FIRST, 7), (SECOND, 3)])  # one of them again
    assert open_dataset(folder).tombstone_digest == open_dataset(tmp_path / "other").tombstone_digest
    assert len({one, "", open_dataset(folder).tombstone_digest}) == 3
    assert len(one) == 64


def test_a_tombstone_of_another_split_changes_nothing_here(folder: Path) -> None:
    rows = all_rows(open_dataset(folder))
    forget(folder, [(HELD_OUT, 0)])
    assert open_dataset(folder).tombstone_digest == ""
    assert all_rows(open_dataset(folder)).tolist() == rows.tolist()
    assert open_dataset(folder, "validation").tombstone_digest != ""
    assert all_rows(open_dataset(folder, "validation"))[0, :3].tolist() == [EOS, -1, -1]


# --- what is refused


def write_tombstone(folder: Path, document: str, shard: str, row: int) -> None:
    columns = {"id": [document], "shard": [shard], "row": [row], "time": [WHEN], "reason": ["asked"]}
    write_table(Files(folder), "tombstones/0.parquet", TOMBSTONE, pa.table(columns, TOMBSTONE.schema()))
    write_manifest(folder, read_manifest(folder).model_copy(update={"tombstones": ["tombstones/0.parquet"]}))


def refused(error: type[CorpusmillError], folder: Path, *words: str) -> None:
    with pytest.raises(error) as caught:
        open_dataset(folder)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_an_unknown_shard(folder: Path) -> None:
    write_tombstone(folder, "f00", "data/train-007-00000.parquet", 0)
    refused(
        SchemaError, folder, "tombstones/0.parquet", "document f00 of data/train-007-00000.parquet", "does not list"
    )


@pytest.mark.parametrize("row", [-1, 10])
@pytest.mark.parametrize("shard", [FIRST, HELD_OUT])
def test_a_row_that_the_shard_does_not_have(folder: Path, shard: str, row: int) -> None:
    write_tombstone(folder, "f00", shard, row)
    refused(SchemaError, folder, f"row {row} of {shard}, which has rows 0 to {9 if shard == FIRST else 1}")


def test_an_id_that_is_not_the_rows(folder: Path) -> None:
    found = read_table(Files(folder), SECOND, SHARD, ["id"])["id"][9].as_py()
    write_tombstone(folder, "f00", SECOND, 9)
    refused(SchemaError, folder, f"row 9 of {SECOND} as document f00, but that row is document {found}")


def test_a_file_that_is_missing_or_of_another_table(folder: Path) -> None:
    forget(folder, [(FIRST, 0)])
    (folder / "tombstones/0.parquet").write_bytes((folder / FIRST).read_bytes())
    refused(SchemaError, folder, "tombstones/0.parquet holds shard 1.0, but tombstone 1.x is read here")
    (folder / "tombstones/0.parquet").unlink()
    refused(SourceError, folder, "tombstones/0.parquet is listed in the manifest, but is not there")
