"""The flat token cache: built once, whole or not at all, shared by all that read the same shards."""

import errno
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from corpusmill.schemas.errors import CorpusmillError, SchemaError
from corpusmill.train.data import cache
from corpusmill.train.data.cache import cache_folder
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.stream import Stream
from tests.reference import stream as reference
from tests.train.corpus import Document, byte_tokenizer, forget, read_manifest, small_dataset, write_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small dataset folder."""
    small_dataset(tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The cache folder."""
    return tmp_path / "cache"


def names(folder: Path, kind: str) -> list[str]:
    return sorted(path.name for path in folder.glob(f"*.{kind}"))


def all_rows(dataset: TokenDataset, length: int = 64) -> list[list[int]]:
    return dataset.windows(np.arange(dataset.n_windows(length)), length).tolist()


def expected_rows(folder: Path, length: int = 64) -> list[list[int]]:
    return reference.windows(reference.stream(folder, read_manifest(folder), "train"), length)


# --- where, and under which name


def test_the_folder_is_the_argument_else_the_variable_else_the_users_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("CORPUSMILL_CACHE", raising=False)
    assert cache_folder(None) == tmp_path / ".cache/corpusmill/tokens"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder(None) == tmp_path / "xdg/corpusmill/tokens"
    monkeypatch.setenv("CORPUSMILL_CACHE", "~/scratch")
    assert cache_folder(None) == tmp_path / "scratch"
    assert cache_folder(tmp_path / "here") == tmp_path / "here"


def test_the_file_is_the_stream(folder: Path, kept: Path) -> None:
    TokenDataset.open(str(folder), cache=kept)
    (name,) = names(kept, "tokens")
    assert np.fromfile(kept / name, np.uint16).tolist() == reference.stream(folder, read_manifest(folder), "train")


def test_the_same_shards_share_a_file_and_others_do_not(folder: Path, kept: Path, tmp_path: Path) -> None:
    TokenDataset.open(str(folder), cache=kept)
    before = names(kept, "tokens")
    shutil.copytree(folder, tmp_path / "copy")
    forget(tmp_path / "copy", [("data/train-000-00000.parquet", 0)])
    TokenDataset.open(str(tmp_path / "copy"), cache=kept)
    assert names(kept, "tokens") == before
    TokenDataset.open(str(folder), cache=kept, split="validation")
    write_dataset(tmp_path / "wide", [Document("ab")], tokenizer=byte_tokenizer(65_537))
    TokenDataset.open(str(tmp_path / "wide"), cache=kept)
    assert len(names(kept, "tokens")) == 3


# --- built once


def test_progress_is_told_while_it_is_built_and_not_again(folder: Path, kept: Path) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        dataset = TokenDataset.open(str(folder), cache=kept, progress=lambda done, total: told.append((done, total)))
    first = read_manifest(folder).shards[0]
    total = dataset.n_stream - 1
    assert told == [(first.rows + first.tokens, total), (total, total)]


class Builder(NamedTuple):
    """Another process that builds the cache and stops halfway until a line is written to it."""

    process: subprocess.Popen[str]

    def finish(self) -> str:
        out, _ = self.process.communicate("go on\n", timeout=30)
        return out.strip()


CODE = """
import sys
from corpusmill.train.data.dataset import TokenDataset

def progress(done, total):
    if done < total:
        print("halfway", flush=True)
        sys.stdin.readline()

print(TokenDataset.open(sys.argv[1], cache=sys.argv[2], progress=progress).n_stream)
"""


@pytest.fixture
def builder(folder: Path, kept: Path) -> Iterator[Builder]:
    command = [sys.executable, "-c", CODE, str(folder), str(kept)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "halfway\n"
        yield Builder(process)
        process.kill()


def test_who_comes_second_waits_and_maps_the_same_file(folder: Path, kept: Path, builder: Builder) -> None:
    told: list[int] = []
    opened: list[TokenDataset] = []

    def open_it() -> None:
        opened.append(TokenDataset.open(str(folder), cache=kept, progress=lambda done, total: told.append(done)))

    second = threading.Thread(target=open_it)
    second.start()
    second.join(0.2)
    assert second.is_alive(), "the file is not there yet"
    assert names(kept, "tokens") == []
    assert builder.finish() == str(TokenDataset.open(str(folder), cache=kept).n_stream)
    second.join(30)
    assert told == [], "one of them built"
    assert all_rows(opened[0]) == expected_rows(folder)


def test_a_build_that_was_killed_is_not_taken_for_whole(folder: Path, kept: Path, builder: Builder) -> None:
    builder.process.kill()
    builder.process.wait()
    assert (names(kept, "tokens"), len(names(kept, "tmp"))) == ([], 1)
    assert all_rows(TokenDataset.open(str(folder), cache=kept)) == expected_rows(folder)
    assert (len(names(kept, "tokens")), names(kept, "tmp")) == (1, [])


def test_a_build_sweeps_what_the_dead_have_left_and_spares_the_living(
    folder: Path, kept: Path, builder: Builder
) -> None:
    (kept / "dead.tmp").write_bytes(b"half")
    living = set(names(kept, "tmp")) - {"dead.tmp"}
    TokenDataset.open(str(folder), cache=kept, split="validation")
    assert set(names(kept, "tmp")) == living
    builder.finish()
    assert names(kept, "tmp") == []
    assert all_rows(TokenDataset.open(str(folder), cache=kept)) == expected_rows(folder)


def test_a_file_of_another_size_is_built_again(folder: Path, kept: Path) -> None:
    TokenDataset.open(str(folder), cache=kept)
    (name,) = names(kept, "tokens")
    (kept / name).write_bytes((kept / name).read_bytes()[:-2])
    assert all_rows(TokenDataset.open(str(folder), cache=kept)) == expected_rows(folder)


# --- what is refused


def test_a_damaged_shard_is_refused_and_leaves_nothing(folder: Path, kept: Path) -> None:
    shard = read_manifest(folder).shards[1]
    data = bytearray((folder / shard.name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / shard.name).write_bytes(data)
    with pytest.raises(
        SchemaError, match=rf"{shard.name} has sha256 [0-9a-f]{{64}}, but the manifest says {shard.sha256}"
    ):
        TokenDataset.open(str(folder), cache=kept)
    assert names(kept, "tokens") == names(kept, "tmp") == []


def test_too_little_room_is_said_before_anything_is_written(
    folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(cache.shutil, "disk_usage", lambda folder: Usage(1234))
    told: list[int] = []
    n_bytes = 2 * len(reference.stream(folder, read_manifest(folder), "train"))
    with pytest.raises(CorpusmillError, match=rf"need {n_bytes:,} bytes in {kept}, where 1,234 are free") as caught:
        TokenDataset.open(str(folder), cache=kept, progress=lambda done, total: told.append(done))
    assert "CORPUSMILL_CACHE" in str(caught.value)
    assert told == names(kept, "tmp") == []


def test_a_disk_that_fills_up_meanwhile_is_the_same_error(
    folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Stream, "decode", full)
    with pytest.raises(CorpusmillError, match=f"bytes in {kept}, where"):
        TokenDataset.open(str(folder), cache=kept)
    assert names(kept, "tokens") == names(kept, "tmp") == []
