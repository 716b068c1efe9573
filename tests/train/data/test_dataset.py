"""A dataset folder as windows of one token stream, and what is refused before anything is read."""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.schemas.errors import CorpusmillError, SchemaError, SourceError, UsageError
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest, dataset_fingerprint
from corpusmill.train.data.dataset import TokenDataset
from tests.reference import stream as reference
from tests.train.corpus import (
    EOS,
    PAD,
    TOKENIZER,
    Document,
    byte_tokenizer,
    forget,
    read_manifest,
    small_dataset,
    small_documents,
    write_dataset,
    write_manifest,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset folder."""
    small_dataset(tmp_path / "dataset")
    return tmp_path / "dataset"


def open_dataset(folder: Path | str, **options: Any) -> TokenDataset:
    """With a cache beside the folder, or beside the test's temporary folders for one in memory."""
    cache = Path(folder).parent / "cache"
    return TokenDataset.open(str(folder), **({"cache": cache} | options))


# --- the stream and its windows


def test_windows_worked_out_by_hand(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", [Document("ab"), Document(""), Document("c")], shards=2, row_group=1)
    dataset = open_dataset(tmp_path / "dataset")
    a, b, c = (dataset.tokenizer.encode(letter).ids[0] for letter in "abc")
    # the stream: <eos> a b <eos> <eos> c <eos>
    assert (dataset.n_documents, dataset.n_tokens, dataset.n_stream) == (3, 3, 7)
    assert dataset.n_windows(4) == 2
    assert dataset.windows(np.array([0, 1]), 4).tolist() == [[EOS, a, b, EOS, EOS], [EOS, c, EOS, -1, -1]]
    assert dataset.windows(np.array([2, 0]), 2).tolist() == [[EOS, c, EOS], [EOS, a, b]]
    assert dataset.windows(np.array([0]), 9).tolist() == [[EOS, a, b, EOS, EOS, c, EOS, -1, -1, -1]]


def test_what_a_dataset_says_of_itself(folder: Path) -> None:
    dataset, manifest = open_dataset(folder, split="validation"), read_manifest(folder)
    assert dataset.location == str(folder)
    assert dataset.manifest == manifest
    assert dataset.fingerprint == manifest.fingerprint
    assert dataset.split == "validation"
    assert dataset.tokenizer_json == byte_tokenizer()
    assert (dataset.vocab_size, dataset.eos_token, dataset.eos, dataset.pad) == (381, "<eos>", EOS, PAD)
    assert dataset.n_documents == manifest.splits["validation"].rows
    assert dataset.n_tokens == manifest.splits["validation"].tokens
    assert dataset.n_stream == dataset.n_tokens + dataset.n_documents + 1
    assert dataset.tombstone_digest == ""


def test_windows_side_by_side_are_the_texts(folder: Path) -> None:
    dataset = open_dataset(folder)
    rows = dataset.windows(np.arange(dataset.n_windows(100)), 100)
    assert rows.dtype == np.int64
    stream = rows[:, :-1].ravel()
    documents = np.split(stream, np.flatnonzero(stream == EOS))[1:]
    texts = [dataset.tokenizer.decode(ids[ids >= 0].tolist()) for ids in documents]
    assert [text for text in texts if text] == [d.text for d in small_documents() if d.split == "train"]


def test_a_large_vocabulary_has_four_bytes_a_token(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", [Document("ab")], tokenizer=byte_tokenizer(65_537))
    dataset = open_dataset(tmp_path / "dataset")
    assert dataset.windows(np.array([0]), 4).tolist() == [[EOS, *dataset.tokenizer.encode("ab").ids, EOS, -1]]
    assert [path.stat().st_size for path in (tmp_path / "cache").glob("*.tokens")] == [4 * dataset.n_stream]


def test_the_manifest_names_the_token_before_each_document(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "dataset", [Document("ab")])
    before = open_dataset(tmp_path / "dataset").windows(np.array([0]), 3)
    other = manifest.tokenizer.model_copy(update={"eos": "<bos>"})
    write_manifest(tmp_path / "dataset", manifest.model_copy(update={"tokenizer": other}))
    dataset = open_dataset(tmp_path / "dataset")
    bos = manifest.tokenizer.special_ids["<bos>"]
    assert (dataset.eos_token, dataset.eos) == ("<bos>", bos)
    assert dataset.windows(np.array([0]), 3).tolist() == np.where(before == EOS, bos, before).tolist()


def test_a_tokenizer_without_pad_pads_with_eos(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "dataset", [Document("ab")])
    other = manifest.tokenizer.model_copy(update={"special_ids": {"<eos>": EOS}})
    write_manifest(tmp_path / "dataset", manifest.model_copy(update={"tokenizer": other}))
    assert open_dataset(tmp_path / "dataset").pad == EOS


@settings(max_examples=25, deadline=None)
@given(
    texts=st.lists(st.text("ab", max_size=9), min_size=1, max_size=9),
    shards=st.integers(1, 3),
    row_group=st.integers(1, 3),
    length=st.integers(1, 100),
    forgotten=st.sets(st.integers(0, 8)),
    remote=st.booleans(),
    data=st.data(),
)
def test_all_agrees_with_plain_lists(
    texts: list[str],
    shards: int,
    row_group: int,
    length: int,
    forgotten: set[int],
    remote: bool,
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "dataset"
        manifest = write_dataset(folder, [Document(text) for text in texts], shards=shards, row_group=row_group)
        documents = [(shard.name, row) for shard in manifest.shards for row in range(shard.rows)]
        dead = [documents[i] for i in sorted(forgotten) if i < len(documents)]
        forget(folder, dead)
        dataset = open_dataset(folder, cache_bytes=200 if remote else None)

        stream = reference.stream(folder, manifest, "train", dead)
        windows = reference.windows(stream, length)
        assert dataset.n_stream == len(stream)
        assert dataset.n_documents == len(documents) - len(dead)
        assert dataset.n_windows(length) == len(windows)
        index = data.draw(st.lists(st.integers(0, len(windows) - 1), max_size=6))
        assert dataset.windows(np.array(index, np.int64), length).tolist() == [windows[i] for i in index]

        places = reference.places(folder, manifest, "train")
        assert [dataset.locate(position) for position in range(len(stream))] == places
        starts = [places[i * length] for i in range(len(windows))]
        groups = [(shard.name, g) for shard in manifest.shards for g in range(len(shard.row_groups))]
        in_groups = [(shard, row // row_group) for shard, row in starts]
        assert dataset.block_sizes(length).tolist() == [in_groups.count(group) for group in groups]


@pytest.mark.parametrize("index", [-1, 100])
def test_there_are_no_other_windows(folder: Path, index: int) -> None:
    dataset = open_dataset(folder)
    with pytest.raises(IndexError, match=f"windows 0 to {index} of 100|windows {index} to 0 of 100"):
        dataset.windows(np.array([0, index]), dataset.n_stream // 100 + 1)


def test_documents_are_the_rows_of_the_split_in_order(folder: Path) -> None:
    dataset, columns = open_dataset(folder), ["input_ids", "language", "source", "n_bytes", "text"]
    rows = pa.Table.from_batches(dataset.documents(columns))
    expected = [document for document in small_documents() if document.split == "train"]
    assert sorted(rows.column_names) == sorted(columns)
    assert rows["text"].to_pylist() == [document.text for document in expected]
    assert rows["language"].to_pylist() == [document.language for document in expected]
    assert rows["input_ids"].to_pylist() == [dataset.tokenizer.encode(document.text).ids for document in expected]


def test_a_column_that_the_shards_do_not_have_is_named(tmp_path: Path) -> None:
    write_dataset(tmp_path / "dataset", [Document("ab")], text=False)
    with pytest.raises(UsageError, match=r"train-000-00000\.parquet has no column text"):
        next(open_dataset(tmp_path / "dataset").documents(["id", "text"]))


# --- what is refused


def refused(error: type[CorpusmillError], folder: Path | str, *words: str, **options: Any) -> None:
    """Opening raises one line that holds all these words."""
    with pytest.raises(error) as caught:
        open_dataset(folder, **options)
    message = str(caught.value)
    assert [word for word in words if word not in message] == [], message
    assert "\n" not in message


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    refused(UsageError, tmp_path / "nothing", "nothing has no manifest.json", "dataset/", "corpusmill run")


def test_a_file_is_no_folder(folder: Path) -> None:
    refused(UsageError, folder / "manifest.json", "has no manifest.json")


def test_a_run_folder_is_not_its_dataset_folder(folder: Path) -> None:
    refused(UsageError, folder.parent, f"it is a run folder, its dataset folder is {folder}")


@pytest.mark.parametrize("location", ["foo://bucket/dataset", "nothing+here://x"])
def test_an_unknown_protocol(location: str) -> None:
    refused(UsageError, location, location, "rotocol")


def test_a_split_that_is_not_there(folder: Path) -> None:
    refused(UsageError, folder, "no split 'test'", "it has: train, validation", split="test")


def test_a_manifest_of_another_major_version(folder: Path) -> None:
    write_manifest(folder, read_manifest(folder).model_copy(update={"version": "2.0"}))
    refused(SchemaError, folder, "manifest of version 2.0", "version 1.0 is read here")


@pytest.mark.parametrize("content", [b"{", b"\xff", b'{"version": "1.0"}'])
def test_a_file_that_is_no_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    refused(SchemaError, folder, "manifest.json is not a manifest")


def test_an_edited_manifest(folder: Path) -> None:
    manifest = read_manifest(folder)
    edited = manifest.model_copy(update={"shards": manifest.shards[1:]})
    write_manifest(folder, edited)
    made = dataset_fingerprint(manifest.tokenizer.sha256, edited.shards)
    refused(SchemaError, folder, manifest.fingerprint, made, "it was edited")


def test_a_tokenizer_that_is_missing_or_another(folder: Path) -> None:
    expected = read_manifest(folder).tokenizer.sha256
    Files(folder).write_bytes(TOKENIZER, byte_tokenizer(400))
    refused(SchemaError, folder, "tokenizer.json has sha256", f"the manifest says {expected}")
    (folder / TOKENIZER).unlink()
    refused(SourceError, folder, "tokenizer.json", "not there")


def test_a_shard_that_is_missing(folder: Path) -> None:
    (folder / "data/train-000-00001.parquet").unlink()
    refused(SourceError, folder, "train-000-00001.parquet is listed in the manifest, but is not there", "copy")
    assert open_dataset(folder, split="validation").n_documents == 4, "the other split needs it not"


def test_a_shard_of_another_size(folder: Path) -> None:
    path = folder / "data/train-000-00000.parquet"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"?")
    refused(SchemaError, folder, f"has {size + 1} bytes, but the manifest says {size}")


def test_a_shard_that_is_no_parquet_file(folder: Path) -> None:
    path = folder / "data/train-000-00000.parquet"
    path.write_bytes(bytes(path.stat().st_size))
    refused(SchemaError, folder, "train-000-00000.parquet is no Parquet file")


def rewrite(folder: Path, change: Callable[[pa.Table], pa.Table], row_group: int = 4) -> None:
    """Change the first shard and let the manifest know its new size and digest."""
    manifest = read_manifest(folder)
    path = folder / manifest.shards[0].name
    pq.write_table(change(pq.read_table(path)), path, row_group_size=row_group)
    _adopt(folder, manifest)


def _adopt(folder: Path, manifest: Manifest) -> None:
    first = manifest.shards[0]
    data = (folder / first.name).read_bytes()
    shard = first.model_copy(update={"file_bytes": len(data)})
    write_manifest(folder, manifest.model_copy(update={"shards": [shard, *manifest.shards[1:]]}))


def with_metadata(key: bytes, value: bytes) -> Callable[[pa.Table], pa.Table]:
    return lambda rows: rows.replace_schema_metadata(rows.schema.metadata | {key: value})


def test_a_shard_of_another_table_or_version(folder: Path) -> None:
    rewrite(folder, with_metadata(b"corpusmill.table", b"ledger"))
    refused(SchemaError, folder, "holds ledger 1.0, but shard 1.x is read here")
    rewrite(folder, with_metadata(b"corpusmill.table", b"shard"))
    rewrite(folder, with_metadata(b"corpusmill.version", b"2.3"))
    refused(SchemaError, folder, "holds shard 2.3, but shard 1.x is read here")


def test_a_shard_of_another_tokenizer(folder: Path) -> None:
    rewrite(folder, with_metadata(b"corpusmill.tokenizer.sha256", b"f00"))
    refused(SchemaError, folder, "made with the tokenizer of sha256 f00", read_manifest(folder).tokenizer.sha256)


def test_a_shard_of_other_row_groups(folder: Path) -> None:
    rewrite(folder, lambda rows: rows, row_group=3)
    refused(SchemaError, folder, "row groups of [3, 3, 3, 1] rows, but the manifest says [4, 4, 2]")


def test_the_remote_reader_finds_what_no_digest_tells(folder: Path) -> None:
    # A row group whose ids were changed: remote shards are never read as a whole, so their sha256 is not known.
    def change(ids: Callable[[list[int]], list[int]]) -> Callable[[pa.Table], pa.Table]:
        def changed(rows: pa.Table) -> pa.Table:
            field = rows.schema.field("input_ids")
            column = pa.array([ids(item) for item in rows["input_ids"].to_pylist()], field.type)
            return rows.set_column(rows.schema.get_field_index("input_ids"), field, column)

        return changed

    original = (folder / "data/train-000-00000.parquet").read_bytes()
    for ids, words in [
        (lambda item: item[1:], "tokens of uint16, but the manifest says"),
        (lambda item: [EOS, *item[1:]], "a token id that no text can have"),
        (lambda item: [*item[1:], 381], "381 (the vocabulary)"),
    ]:
        (folder / "data/train-000-00000.parquet").write_bytes(original)
        rewrite(folder, change(ids))
        dataset = open_dataset(folder, cache_bytes=1 << 20)
        with pytest.raises(SchemaError, match=r"row group 0 of data/train-000-00000\.parquet holds") as caught:
            dataset.windows(np.array([0]), 8)
        assert words in str(caught.value)
    assert not list(itertools.chain(*(Path(folder.parent / "cache").rglob(f"*.{kind}") for kind in ("tokens", "tmp"))))
