"""The file layer: whole or not at all, on a local disk and on an object store."""

import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpusmill.schemas import files as layer
from corpusmill.schemas.files import Files


class Stopped(BaseException):
    """What a kill looks like to the code: no handler for Exception sees it."""


@pytest.fixture(params=["local", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    yield Files(tmp_path / "run" if request.param == "local" else f"memory://{uuid.uuid4().hex}")
    layer.set_hook(None)


def stop_at(step: str) -> None:
    def hook(at: str, name: str) -> None:
        if at == step:
            raise Stopped(name)

    layer.set_hook(hook)


def test_a_published_file_has_its_content_size_and_digest(files: Files) -> None:
    info = files.write_bytes("a/b.txt", "中文".encode())
    assert files.read_bytes("a/b.txt") == "中文".encode()
    assert info.n_bytes == 6
    assert info.sha256 == "72726d8818f693066ceb69afa364218b692e62ea92b385782363780f47529c21"
    assert files.list("a") == ["a/b.txt"]


def test_a_file_is_invisible_until_it_is_published(files: Files) -> None:
    staged = files.stage("x")
    staged.write(b"half")
    assert not files.exists("x")
    staged.publish()
    assert files.read_bytes("x") == b"half"


def test_an_exception_while_writing_leaves_nothing(files: Files) -> None:
    with pytest.raises(ValueError, match="no"), files.create("x") as out:
        out.write(b"half")
        raise ValueError("no")
    assert not files.exists("x")
    assert files.list("") == []


def test_a_kill_before_publishing_leaves_the_old_content(files: Files) -> None:
    files.write_bytes("x", b"old")
    stop_at("publish")
    with pytest.raises(Stopped):
        files.write_bytes("x", b"new")
    layer.set_hook(None)
    assert files.read_bytes("x") == b"old"
    files.sweep()
    assert files.list("") == ["x"]


def test_a_kill_after_publishing_leaves_the_new_content(files: Files) -> None:
    stop_at("published")
    with pytest.raises(Stopped):
        files.write_bytes("x", b"new")
    assert files.read_bytes("x") == b"new"


def test_a_new_file_is_made_by_one_only(files: Files) -> None:
    assert files.write_new("lease", b"first")
    assert not files.write_new("lease", b"second")
    assert files.read_bytes("lease") == b"first"


def test_deleting_what_is_not_there_is_no_error(files: Files) -> None:
    files.delete("nothing")
    assert files.read_or_none("nothing") is None


def test_files_travel_to_workers(files: Files) -> None:
    files.write_bytes("x", b"1")
    assert pickle.loads(pickle.dumps(files)).read_bytes("x") == b"1"
