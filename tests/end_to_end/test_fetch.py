"""Sources that are downloaded: crawls, single records, wikis, plain addresses; killed, throttled, damaged, moved."""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.dataset as ds
import pytest
import yaml

from corpusmill.cli.main import main
from corpusmill.pipeline.jobs.base import Task
from corpusmill.pipeline.jobs.fetch import Fetch
from corpusmill.pipeline.run import run
from corpusmill.schemas.errors import RecipeError, SourceError
from corpusmill.schemas.recipe import Recipe
from tests.corpus import small_corpus
from tests.digest import contents
from tests.end_to_end.conftest import Finished
from tests.pipeline.download.server import Served, Server, status

CRAWL = "CC-MAIN-2026-10"
FAST: dict[str, Any] = {"requests_per_second": 1000, "retries": 1, "stall_seconds": 5}


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the small corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    small_corpus(folder)
    return folder


def recipe(server: Server, source: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A recipe with one source, whose server is ours."""
    if source["kind"] == "commoncrawl" or "wiki" in source:
        source = {"base_urls": [server.url("")]} | source
    small = {"tokenizer": {"train": {"vocab_size": 512}}, "quality": {"preset": "none"}, "unit_bytes": 2000}
    return small | {"sources": [source], "fetch": FAST} | changes


def crawl(server: Server, corpus: Path) -> list[Served]:
    """Serve the corpus's WARC files as a crawl."""
    names = [f"crawl-data/{CRAWL}/segments/1/warc/{path.name}" for path in sorted((corpus / "warc").iterdir())]
    listing = gzip.compress("".join(f"{name}\n" for name in names).encode(), mtime=0)
    server.add(f"/crawl-data/{CRAWL}/warc.paths.gz", listing)
    paths = [corpus / "warc" / name.rpartition("/")[2] for name in names]
    return [
        server.add(f"/{name}", path.read_bytes(), etag=f'"{path.name}"')
        for name, path in zip(names, paths, strict=True)
    ]


def wiki(server: Server, corpus: Path, date: str, *, done: bool = True) -> Served:
    """Serve the corpus's dump as one of a date."""
    [path] = corpus.glob("*-multistream.xml.bz2")
    files = {}
    for local in (path, path.with_name(path.name.replace(".xml", "-index.txt"))):
        name, content = local.name.replace("20261101", date), local.read_bytes()
        sha1 = hashlib.sha1(content).hexdigest()
        files[name] = {"size": len(content), "url": f"/enwiki/{date}/{name}", "sha1": sha1}
        server.add(f"/enwiki/{date}/{name}", content, modified="Sun, 01 Nov 2026 06:00:00 GMT")
    job = {"status": "done" if done else "in-progress", "files": files}
    server.add(f"/enwiki/{date}/dumpstatus.json", json.dumps({"jobs": {"articlesmultistreamdump": job}}).encode())
    dates = {seen.rpartition("/enwiki/")[2].partition("/")[0] for seen in server.files if seen.count("/") > 2}
    server.add("/enwiki/", "".join(f'<a href="{day}/">{day}/</a>\n' for day in sorted(dates)).encode())
    return server.files[f"/enwiki/{date}/{next(iter(files))}"]


def fetch(fields: dict[str, Any], out: Path, **options: Any) -> dict[str, Any]:
    return run(Recipe.model_validate(fields), str(out), until="fetch", **options).jobs["fetch"]


def documents(out: Path, *columns: str) -> list[Any]:
    rows = ds.dataset(out / "documents", format="parquet").to_table(columns=list(columns)).to_pylist()
    return sorted(tuple(row[column] for column in columns) for row in rows)


# Common Crawl


def test_files_of_a_crawl_are_downloaded_once_and_read_as_if_they_lay_here(
    server: Server, corpus: Path, tmp_path: Path
) -> None:
    files = crawl(server, corpus)
    fields = recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": "0-2"})
    assert fetch(fields, tmp_path / "run")["counts"]["downloaded"] == 3
    for path in (corpus / "warc").iterdir():
        raw = tmp_path / f"run/raw/{CRAWL}/segments/1/warc/{path.name}"
        assert raw.read_bytes() == path.read_bytes()
        assert [left.name for left in raw.parent.iterdir() if "part." in left.name] == [], "nothing is left over"
    n_seen = len(server.seen)
    report = run(Recipe.model_validate(fields), str(tmp_path / "run"))
    again = fetch(fields | {"unit_bytes": 4000}, tmp_path / "run")
    assert len(server.seen) == n_seen, "neither a rerun nor other units download anything, nor ask for the list"
    assert again["done"] == 3
    assert [file.n_sent for file in files] == [len(file.content) for file in files]
    here = {"kind": "warc", "name": CRAWL, "paths": [f"{corpus}/warc/*.warc.gz"]}
    local = run(Recipe.model_validate(recipe(server, here)), str(tmp_path / "local"))
    assert report.books["kept"] == local.books["kept"] > 20
    assert documents(tmp_path / "run", "text", "offset") == documents(tmp_path / "local", "text", "offset")


def test_single_records_have_the_ids_that_they_have_in_their_file(server: Server, corpus: Path, tmp_path: Path) -> None:
    files = crawl(server, corpus)
    run(
        Recipe.model_validate(recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": "0-2"})),
        str(tmp_path / "all"),
    )
    whole = ds.dataset(tmp_path / "all/documents", format="parquet").to_table().to_pylist()
    wanted = [row for row in whole if row["url"].endswith(("/2", "/3", "/9", "/16"))]
    assert len(wanted) > 8
    rows = [
        {"filename": f"crawl-data/{CRAWL}/{r['file_path']}", "offset": str(r["offset"]), "length": str(r["length"])}
        for r in wanted
    ]
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in reversed(rows)))
    before = [file.n_sent for file in files]
    source = {"kind": "commoncrawl", "crawl": CRAWL, "records": str(tmp_path / "index.jsonl")}
    run(Recipe.model_validate(recipe(server, source)), str(tmp_path / "some"))
    columns = ("id", "text", "file_path", "offset", "length", "record_index")
    assert documents(tmp_path / "some", *columns) == sorted(tuple(row[c] for c in columns) for row in wanted)
    ranges = [seen for seen in server.seen if "range" in seen.headers]
    assert len(ranges) == 3, "all records of a file come in one request: they are neighbours"
    assert sum(file.n_sent for file in files) - sum(before) < sum(before)
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:3]))
    run(Recipe.model_validate(recipe(server, source)), str(tmp_path / "some"))
    assert len(documents(tmp_path / "some", "id")) == 3, "another list is another choice"


def test_a_mirror_takes_over_and_changing_mirrors_downloads_nothing_again(
    server: Server, corpus: Path, tmp_path: Path
) -> None:
    crawl(server, corpus)
    source = {"kind": "commoncrawl", "crawl": CRAWL, "files": 1, "base_urls": [server.url("/gone"), server.url("")]}
    assert fetch(recipe(server, source), tmp_path)["counts"]["downloaded"] == 1
    n_warcs = sum(seen.target.endswith(".warc.gz") and seen.method == "GET" for seen in server.seen)
    fetch(recipe(server, source | {"base_urls": [server.url("")]}), tmp_path)
    assert sum(seen.target.endswith(".warc.gz") and seen.method == "GET" for seen in server.seen) == n_warcs


def test_a_crawl_that_does_not_exist_fails_before_anything_starts(server: Server, tmp_path: Path) -> None:
    fields = recipe(server, {"kind": "commoncrawl", "crawl": "CC-MAIN-1999-01", "files": "0"})
    with pytest.raises(RecipeError, match=r"sources\.0\.crawl: .*CC-MAIN-1999-01.*/warc.paths.gz"):
        fetch(fields, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_files_out_of_range_are_an_error_of_their_field(server: Server, corpus: Path, tmp_path: Path) -> None:
    crawl(server, corpus)
    fields = recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": "0-999"})
    with pytest.raises(RecipeError, match=r"sources\.0\.files: '0-999' is out of range"):
        fetch(fields, tmp_path / "run")


def test_passwords_of_mirrors_are_kept_out_of_listings(server: Server, corpus: Path, tmp_path: Path) -> None:
    crawl(server, corpus)
    address = server.url("").replace("://", "://me:secret@")
    fetch(recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": 1, "base_urls": [address]}), tmp_path)
    (listing,) = (tmp_path / "listings").iterdir()
    assert "secret" not in listing.read_text()


def test_a_glob_of_a_folder_that_a_server_does_not_have(server: Server, tmp_path: Path) -> None:
    path = server.url("/nowhere/*.jsonl") + "?signature=secret"
    with pytest.raises(RecipeError, match=r"sources\.0\.paths\.0: .*/nowhere/") as error:
        fetch(recipe(server, {"kind": "jsonl", "name": "x", "paths": [path]}), tmp_path / "run")
    assert "no folder" in str(error.value)
    assert "secret" not in str(error.value)
    assert "relative paths" not in str(error.value)


# Wikipedia


def test_latest_stays_what_it_was_until_it_is_asked_for_again(server: Server, corpus: Path, tmp_path: Path) -> None:
    wiki(server, corpus, "20261001")
    fields = recipe(server, {"kind": "wikipedia", "wiki": "enwiki"})
    report = fetch(fields, tmp_path)
    assert report["counts"]["units"] > 1, "a dump is cut at its streams"
    [dump] = (tmp_path / "raw/enwiki").glob("*-multistream.xml.bz2")
    [index] = (tmp_path / "raw/enwiki").glob("*-multistream-index.txt.bz2")
    assert "20261001" in dump.name and "20261001" in index.name
    wiki(server, corpus, "20261101")
    wiki(server, corpus, "20261120", done=False)
    n_seen = len(server.seen)
    fetch(fields, tmp_path)
    assert len(server.seen) == n_seen
    fetch(fields, tmp_path, from_job="fetch")
    assert [path.name for path in (tmp_path / "raw/enwiki").glob("*stream.xml*")] == [dump.name.replace("1001", "1101")]


def test_a_wrong_digest_is_fetched_once_more_then_both_digests_are_named(
    server: Server, corpus: Path, tmp_path: Path
) -> None:
    dump = wiki(server, corpus, "20261101")
    good = dump.content
    dump.content = bad = bytes(len(good))
    fields = recipe(server, {"kind": "wikipedia", "wiki": "enwiki", "date": "20261101"})
    with pytest.raises(SourceError) as caught:
        fetch(fields, tmp_path)
    assert hashlib.sha1(good).hexdigest() in str(caught.value) and hashlib.sha1(bad).hexdigest() in str(caught.value)
    assert dump.n_sent == 2 * len(bad)
    assert not list(tmp_path.glob("raw/*/*.bz2"))
    dump.content = good
    assert fetch(fields, tmp_path)["counts"]["files"] == 1


# Plain addresses


def test_globs_on_a_web_server_are_what_its_folders_list(server: Server, corpus: Path, tmp_path: Path) -> None:
    server.add("/dump/", b'<a href="a.jsonl">a.jsonl</a> <a href="b.jsonl">b.jsonl</a> <a href="c.txt">c.txt</a>')
    for name in "ab":
        server.add(f"/dump/{name}.jsonl", b'{"text": "x"}\n', etag='"1"')
    fetch(recipe(server, {"kind": "jsonl", "name": "s", "paths": [server.url("/dump/*.jsonl")]}), tmp_path)
    assert sorted(path.name for path in (tmp_path / "raw/s").iterdir()) == ["a.jsonl", "b.jsonl"]


def test_a_dump_without_its_index_is_cut_all_the_same(server: Server, corpus: Path, tmp_path: Path) -> None:
    [path] = corpus.glob("*-multistream.xml.bz2")
    server.add(f"/{path.name}", path.read_bytes(), etag='"1"')
    source = {"kind": "wikipedia", "name": "w", "paths": [server.url(f"/{path.name}")]}
    without = fetch(recipe(server, source), tmp_path / "without")
    index = path.name.replace(".xml", "-index.txt")
    server.add(f"/{index}", (corpus / index).read_bytes(), etag='"1"')
    assert fetch(recipe(server, source), tmp_path / "with")["counts"]["units"] == without["counts"]["units"] > 1


# Manners


def remote_task(n: int, host: str, connections: int, *mirrors: str) -> Task:
    urls = [f"http://{mirror}/{n}" for mirror in (host, *mirrors)]
    spec = {"remote": {"path": str(n), "urls": urls}, "location": urls[0], "settings": {"connections": connections}}
    return Task(job="fetch", unit=str(n), fingerprint="", spec=spec)


def test_a_host_has_no_more_lanes_than_connections_and_local_files_have_their_own() -> None:
    tasks = [remote_task(n, "a.example", 3) for n in range(8)] + [remote_task(n, "u:p@b.example", 3) for n in (8, 9)]
    tasks += [Task(job="fetch", unit="local", fingerprint="", spec={"remote": None, "location": "/x"})]
    lanes = Fetch().lanes(tasks)
    units = [[task.unit for task in lane] for lane in lanes]
    assert sorted(map(sorted, units)) == sorted([["0", "3", "6"], ["1", "4", "7"], ["2", "5"], ["8"], ["9"], ["local"]])
    assert {lane[0].spec["location"].rpartition("@")[2][:8]: lane[0].spec["lanes"] for lane in lanes[:-1]} == {
        "http://a": 3,
        "b.exampl": 2,
    }


def test_hosts_that_are_mirrors_of_each_other_share_their_lanes() -> None:
    tasks = [remote_task(n, "a.example", 2, "m.example") for n in range(3)]
    tasks += [remote_task(n, "b.example", 2, "m.example") for n in range(3, 6)] + [remote_task(6, "c.example", 2)]
    lanes = Fetch().lanes(tasks)
    assert sorted([task.unit for task in lane] for lane in lanes) == [["0", "2", "4"], ["1", "3", "5"], ["6"]]


def test_lanes_share_the_requests_of_their_host(server: Server, tmp_path: Path) -> None:
    for n in range(12):
        server.add(f"/{n}.jsonl", b'{"text": "x"}\n')
    source = {"kind": "jsonl", "name": "s", "paths": [server.url(f"/{n}.jsonl") for n in range(12)]}
    fetch(recipe(server, source, fetch=FAST | {"connections": 3, "requests_per_second": 10}), tmp_path)
    starts = sorted(seen.time for seen in server.seen if seen.method == "GET")
    busiest = max(sum(start <= other < start + 1 for other in starts) for start in starts)
    assert len(starts) == 12 and busiest <= 10 + 3, "a second may hold the first request of each lane besides"
    assert starts[-1] - starts[0] >= 0.8


def test_a_server_that_asks_to_wait_is_waited_for(server: Server, tmp_path: Path) -> None:
    file = server.add("/a.jsonl", b'{"text": "x"}\n')
    file.script(status(200), status(503, retry_after="1"), status(429, retry_after="1"))  # the first is asked its size
    started = time.monotonic()
    fields = recipe(
        server, {"kind": "jsonl", "name": "s", "paths": [server.url("/a.jsonl")]}, fetch=FAST | {"retries": 3}
    )
    fetch(fields | {"fetch": FAST | {"retries": 3, "user_agent": "me/1 (me@example.org)"}}, tmp_path)
    assert time.monotonic() - started >= 2
    assert {seen.headers["user-agent"] for seen in server.seen} == {"me/1 (me@example.org)"}


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    server: Server, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = crawl(server, corpus)
    needed = sum(len(file.content) for file in files)
    space = SimpleNamespace(free=needed - 1)
    monkeypatch.setattr("corpusmill.pipeline.download.space.shutil.disk_usage", lambda _: space)
    fields = recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": "0-2"})
    with pytest.raises(SourceError, match=r"3 files to download have about .* take fewer files, or another --out"):
        fetch(fields, tmp_path)
    assert [file.n_sent for file in files] == [0, 0, 0]
    space.free = needed
    monkeypatch.setattr(
        "corpusmill.pipeline.download.transfer.shutil.disk_usage", lambda _: SimpleNamespace(free=1 << 40)
    )
    fetch(fields, tmp_path)


# Interruptions


def command(fields: dict[str, Any], folder: Path, *arguments: str) -> list[str]:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(fields))
    return [
        sys.executable,
        "-m",
        "corpusmill.cli.main",
        *arguments,
        str(folder / "recipe.yaml"),
        "--out",
        str(folder / "run"),
    ]


def test_a_killed_fetch_goes_on_and_the_dataset_is_the_same(finished: Finished, server: Server, tmp_path: Path) -> None:
    folder = Path(finished.fields["sources"][2]["paths"][0]).parent
    sources, served = [], []
    for source in finished.fields["sources"]:
        paths = sorted(folder.glob(str(Path(source["paths"][0]).relative_to(folder))))
        urls = []
        for path in paths:
            name = f"/{path.relative_to(folder)}"
            served.append(server.add(name, path.read_bytes(), etag=f'"{path.name}"'))
            urls.append(server.url(name))
        sources.append(source | {"paths": urls})
    big = served[1]
    big.rate = len(big.content) / 6
    import tests.pipeline.download.server as scripted

    piece, scripted.PIECE = scripted.PIECE, 256
    try:
        fields = finished.fields | {"sources": sources, "fetch": FAST | {"connections": 2}}
        for _ in range(2):
            process = subprocess.Popen(command(fields, tmp_path, "fetch"), stderr=subprocess.DEVNULL, env=os.environ)
            before = big.n_sent
            deadline = time.monotonic() + 60
            while big.n_sent < before + len(big.content) / 5 and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.wait()
        big.rate = None
        subprocess.run(command(fields, tmp_path, "run"), check=True, capture_output=True, env=os.environ)
    finally:
        scripted.PIECE = piece
    assert contents(str(tmp_path / "run")) == contents(str(finished.out))
    small = [file for file in served if file is not big]
    assert all(file.n_sent == len(file.content) for file in small[:1])
    assert big.n_sent <= len(big.content) + 2 * (1 << 20)


def test_what_lies_in_raw_without_a_commit_is_not_fetched_again(server: Server, corpus: Path, tmp_path: Path) -> None:
    """A run that dies between publishing a file and its commit record."""
    files = crawl(server, corpus)
    fields = recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": "0"})
    from corpusmill.schemas.files import set_hook

    def die(step: str, name: str) -> None:
        if step == "published" and name.startswith("raw/"):
            raise KeyboardInterrupt

    set_hook(die)
    try:
        with pytest.raises(KeyboardInterrupt):
            fetch(fields, tmp_path)
    finally:
        set_hook(None)
    fetch(fields, tmp_path)
    assert files[0].n_sent == len(files[0].content)


def test_a_raw_file_that_was_removed_or_cut_is_fetched_again(server: Server, corpus: Path, tmp_path: Path) -> None:
    files = crawl(server, corpus)
    fields = recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": "0-2"})
    fetch(fields, tmp_path)
    raw = tmp_path / f"raw/{CRAWL}/segments/1/warc"
    (raw / "part-0.warc.gz").unlink()
    (raw / "part-1.warc.gz").write_bytes(files[1].content[:1000])
    assert fetch(fields, tmp_path)["done"] == 2
    assert [path.read_bytes() for path in sorted(raw.iterdir())] == [file.content for file in files]


def test_verify_fetches_anew_what_is_not_as_it_came(
    server: Server, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = crawl(server, corpus)
    command(recipe(server, {"kind": "commoncrawl", "crawl": CRAWL, "files": "0-2"}), tmp_path)
    arguments = ["fetch", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run"), "--verify"]
    assert main(arguments) == 0
    raw = tmp_path / f"run/raw/{CRAWL}/segments/1/warc/part-1.warc.gz"
    content = bytearray(raw.read_bytes())
    content[100] ^= 1
    raw.write_bytes(content)
    capsys.readouterr()
    assert main(arguments) == 0
    assert (
        "was not as it came, fetched again: CC-MAIN-2026-10: segments/1/warc/part-1.warc.gz" in capsys.readouterr().out
    )
    assert raw.read_bytes() == files[1].content
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["changed"] == [] and found["done"] == 0
