"""Object stores: inputs read in place from s3:// and gs://, and a run folder there, against servers on loopback."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

from corpusmill.pipeline.plan import list_files
from corpusmill.pipeline.run import run
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.source import CommonCrawlSource, WikipediaSource
from tests.end_to_end.conftest import Finished


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of moto's S3 server."""
    from moto.server import ThreadedMotoServer

    with pytest.MonkeyPatch.context() as patch:
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=free_port(), verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("crawl")
        yield "s3://crawl"
        server.stop()


@pytest.fixture(scope="module")
def gs() -> Iterator[str]:
    """A bucket of an emulator of Google's storage."""
    from gcp_storage_emulator.server import create_server

    with pytest.MonkeyPatch.context() as patch:
        port = free_port()
        server = create_server("127.0.0.1", port, in_memory=True, default_bucket="crawl")
        threading.Thread(target=server.run, daemon=True).start()
        patch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield "gs://crawl"
        server.stop()


@pytest.fixture(params=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(request.param)
    return url


def moved(fields: dict[str, Any], bucket: str) -> dict[str, Any]:
    """The recipe with its inputs in a bucket, under the names that they have on disk."""
    corpus = Path(fields["sources"][2]["paths"][0]).parent
    fs, base = fsspec.url_to_fs(f"{bucket}/corpus")
    for path in corpus.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"{base}/{path.relative_to(corpus)}", path.read_bytes())
    sources = [
        source | {"paths": [path.replace(str(corpus), f"{bucket}/corpus") for path in source["paths"]]}
        for source in fields["sources"]
    ]
    return fields | {"sources": sources}


def nothing_to_resolve(source: CommonCrawlSource | WikipediaSource) -> list[Any]:
    raise AssertionError(source)


def test_a_run_from_and_into_a_bucket_gives_the_same_dataset(finished: Finished, bucket: str) -> None:
    recipe = Recipe.model_validate(moved(finished.fields, bucket))
    report = run(recipe, f"{bucket}/run")
    fs, base = fsspec.url_to_fs(f"{bucket}/run/dataset")
    for path in (finished.out / "dataset").rglob("*"):
        if path.is_file() and path.name != "README.md":
            assert fs.cat_file(f"{base}/{path.relative_to(finished.out / 'dataset')}") == path.read_bytes(), path.name
    assert report.books == finished.report.books
    again = run(recipe, f"{bucket}/run")
    assert {name: job["done"] for name, job in again.jobs.items()} == dict.fromkeys(again.jobs, 0)


def test_a_changed_object_is_read_again(finished: Finished, bucket: str) -> None:
    fields = moved(finished.fields, bucket)
    before = list_files(Recipe.model_validate(fields), nothing_to_resolve)
    fs, notes = fsspec.url_to_fs(f"{bucket}/corpus/notes.jsonl")
    content = fs.cat_file(notes)
    fs.pipe_file(notes, content.replace(b"row-1", b"row-9"))  # of the same size
    after = list_files(Recipe.model_validate(fields), nothing_to_resolve)
    fs.pipe_file(notes, content)
    assert [a.file_path for a, b in zip(before, after, strict=True) if a.version != b.version] == ["notes.jsonl"]


def test_globs_and_folders_mean_on_a_bucket_what_they_mean_on_a_disk(bucket: str, tmp_path: Path) -> None:
    fs, base = fsspec.url_to_fs(f"{bucket}/pages")
    for name in ("a/1.html", "a/2.HTM", "b/3.html", "b/notes.md"):
        fs.pipe_file(f"{base}/{name}", b"<p>page")
        (tmp_path / "pages" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "pages" / name).write_bytes(b"<p>page")
    for pattern in ("pages", "pages/*/*.html", "pages/a/?.html", "pages/*/3.html"):
        listed = []
        for where in (bucket, str(tmp_path)):
            source = {"kind": "html", "name": "s", "paths": [f"{where}/{pattern}"]}
            [*files] = list_files(Recipe.model_validate({"sources": [source]}), nothing_to_resolve)
            listed.append([(file.file_path, file.members) for file in files])
        assert listed[0] == listed[1], pattern


def test_a_bucket_that_is_not_there_is_named(s3: str) -> None:
    source = {"kind": "warc", "name": "s", "paths": ["s3://no-such-bucket/*.warc.gz"]}
    with pytest.raises((SourceError, Exception), match="no-such-bucket"):
        list_files(Recipe.model_validate({"sources": [source]}), nothing_to_resolve)
