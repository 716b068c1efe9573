"""Which files of a crawl a source takes: by number, by share, by single records; and what a broken list says."""

import gzip
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.pipeline.download import commoncrawl
from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.commoncrawl import list_files
from corpusmill.pipeline.download.remote import RemoteFile, first_answer
from corpusmill.schemas.errors import RecipeError, SchemaError, SourceError
from corpusmill.schemas.recipe import Fetch
from corpusmill.schemas.source import CommonCrawlSource
from tests.pipeline.download.server import Server, status

CRAWL = "CC-MAIN-2026-10"
BASE = "https://data.commoncrawl.org"
MIRROR = "https://mirror.example/commoncrawl/"


def name(number: int, what: str = "warc") -> str:
    """A file's name as the path lists have it, ten files a segment."""
    suffix = "warc.wet.gz" if what == "wet" else "warc.gz"
    return (
        f"crawl-data/{CRAWL}/segments/17719904{number // 10:05d}.65/{what}/"
        f"CC-MAIN-20260212042640-20260212072640-{number:05d}.{suffix}"
    )


def path_list(*lines: str) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode(), mtime=0)


WARCS = [name(i) for i in range(100)]
SERVED = {
    f"{BASE}/crawl-data/{CRAWL}/warc.paths.gz": path_list(*WARCS),
    f"{BASE}/crawl-data/{CRAWL}/wet.paths.gz": path_list(name(0, "wet"), name(1, "wet")),
}


def source(**fields: Any) -> CommonCrawlSource:
    return CommonCrawlSource.model_validate({"kind": "commoncrawl", "crawl": CRAWL} | fields)


def numbers(files: list[RemoteFile]) -> list[int]:
    return [int(re.findall(r"-(\d{5})\.warc", file.path)[0]) for file in files]


def no_request(url: str) -> bytes:
    raise AssertionError(url)


# --- whole files


def test_a_file_is_named_below_its_crawl_and_has_a_url_a_server() -> None:
    (file,) = list_files(source(files="7", base_urls=[BASE, MIRROR]), SERVED.get)
    assert file.path == "segments/1771990400000.65/warc/CC-MAIN-20260212042640-20260212072640-00007.warc.gz"
    assert file.urls == (f"{BASE}/{name(7)}", f"https://mirror.example/commoncrawl/{name(7)}")
    assert (file.n_bytes, file.sha1, file.index, file.spans) == (None, None, None, ())


def test_wet_has_a_list_of_its_own() -> None:
    files = list_files(source(what="wet", fraction=1), SERVED.get)
    assert [file.urls[0] for file in files] == [f"{BASE}/{name(i, 'wet')}" for i in range(2)]


@pytest.mark.parametrize(
    ("files", "taken"),
    [
        ("0", [0]),
        (99, [99]),
        ("0-3,50", [0, 1, 2, 3, 50]),
        ("50,0-3", [0, 1, 2, 3, 50]),
        ("5-7,6-8,7", [5, 6, 7, 8]),
        ("0-99", list(range(100))),
    ],
)
def test_files_are_numbered_in_the_order_of_the_list_and_taken_once(files: Any, taken: list[int]) -> None:
    assert numbers(list_files(source(files=files), SERVED.get)) == taken


@pytest.mark.parametrize("files", ["100", "0-3,90-100", "0-99999999999999"])
def test_a_number_beyond_the_list_is_an_error_that_tells_how_many_there_are(files: str) -> None:
    with pytest.raises(RecipeError, match=rf"{files.split(',')[-1]}' is out of range: {CRAWL} has 100 warc .*0-99"):
        list_files(source(files=files), SERVED.get)


def test_a_fraction_takes_about_its_share_and_a_smaller_one_is_part_of_it() -> None:
    names = [name(i) for i in range(5000)]
    get = {f"{BASE}/crawl-data/{CRAWL}/warc.paths.gz": path_list(*names)}.get
    taken = {share: numbers(list_files(source(fraction=share), get)) for share in (0.01, 0.1, 0.5, 1.0)}
    assert taken[1.0] == list(range(5000))
    assert set(taken[0.01]) < set(taken[0.1]) < set(taken[0.5])
    for share, found in taken.items():
        assert len(found) == pytest.approx(5000 * share, abs=5 * (5000 * share) ** 0.5)


def test_a_fraction_is_a_function_of_the_names_and_the_seed_alone() -> None:
    shuffled = {f"{BASE}/crawl-data/{CRAWL}/warc.paths.gz": path_list(*reversed(WARCS))}
    chosen = list_files(source(fraction=0.2), SERVED.get)
    assert set(chosen) == set(list_files(source(fraction=0.2), shuffled.get))
    assert {file.path for file in chosen} == {
        file.path for file in list_files(source(fraction=0.2, base_urls=[MIRROR, BASE]), SERVED.get)
    }
    other = list_files(source(fraction=0.2, seed=2), SERVED.get)
    assert other and chosen and set(other) != set(chosen)
    assert list_files(source(fraction=0.2, seed=-1), SERVED.get)


def test_a_fraction_that_takes_nothing_is_an_error() -> None:
    with pytest.raises(RecipeError, match="fraction: 1e-09 of the 100 warc files of .* takes none"):
        list_files(source(fraction=1e-9), SERVED.get)


# --- servers


def test_the_first_server_that_answers_is_asked_and_no_other() -> None:
    asked = []

    def get(url: str) -> bytes | None:
        asked.append(url)
        if url.startswith("https://down.example"):
            raise SourceError(f"{url} cannot be downloaded: no connection")
        return SERVED.get(url)

    servers = ["https://down.example", "https://empty.example", BASE, MIRROR]
    (file,) = list_files(source(files="0", base_urls=servers), get)
    assert [url.split("/")[2] for url in asked] == ["down.example", "empty.example", "data.commoncrawl.org"]
    assert [url.split("/")[2] for url in file.urls] == [server.split("/")[2] for server in servers]


def test_a_crawl_that_is_nowhere_is_named_with_the_addresses_asked() -> None:
    with pytest.raises(RecipeError) as error:
        list_files(source(crawl="CC-MAIN-2026-99", files="0", base_urls=[BASE, MIRROR]), SERVED.get)
    for part in (
        "no crawl 'CC-MAIN-2026-99'",
        f"{BASE}/crawl-data/CC-MAIN-2026-99/warc.paths.gz",
        "https://mirror.example/commoncrawl/crawl-data/CC-MAIN-2026-99/warc.paths.gz",
        "CC-MAIN-2026-10",
    ):
        assert part in str(error.value)


def test_nothing_is_said_of_a_crawl_while_a_server_cannot_be_asked() -> None:
    def get(url: str) -> bytes | None:
        if "mirror" in url:
            raise SourceError(f"{url} cannot be downloaded: no connection")
        return None

    with pytest.raises(SourceError, match="mirror.example.*no connection"):
        list_files(source(files="0", base_urls=[BASE, MIRROR]), get)
    assert first_answer(lambda _: None, ["a", "b"]) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><title>Log in</title>", "no gzip file, it begins with b'<!DOCTYPE html><title>Log in.*login"),
        (b"", "no gzip file"),
        (path_list(*WARCS)[:-9], "damaged"),
        (path_list(*WARCS)[:200] + b"\0" * 50 + path_list(*WARCS)[250:], "damaged"),
        (gzip.compress("crawl-data/é".encode(), mtime=0), "damaged"),
        (path_list(), "names no files"),
        (path_list(name(0), name(1), name(0)), "names a file twice"),
        (path_list(name(0), ""), "line 2 is ''"),
        (path_list(name(0) + " x"), "line 1 is 'crawl-data/.* x'"),
        (path_list(name(0), f"crawl-data/{CRAWL}/../../etc/passwd"), "line 2"),
        (path_list(name(0), f"crawl-data/{CRAWL}/./x"), "line 2"),
        (path_list(f"crawl-data/{CRAWL}//x"), "line 1"),
        (path_list(f"crawl-data/{CRAWL}/"), "line 1"),
        (path_list(f"https://evil.example/crawl-data/{CRAWL}/x"), "line 1"),
        (path_list(f"/crawl-data/{CRAWL}/x"), "line 1"),
        (path_list(f"crawl-data/{CRAWL}/x%2e%2e"), "line 1"),
        (path_list("crawl-data/CC-MAIN-2025-10/segments/1/warc/x.warc.gz"), f"below crawl-data/{CRAWL}/"),
    ],
)
def test_a_list_that_is_none_is_a_clear_error(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message) as error:
        list_files(source(files="0"), lambda _: content)
    assert f"{BASE}/crawl-data/{CRAWL}/warc.paths.gz" in str(error.value)


def test_a_list_that_is_a_bomb_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commoncrawl, "_MAX_LIST", 1 << 20)
    with pytest.raises(SourceError, match="holds more than 1 MiB"):
        list_files(source(files="0"), lambda _: gzip.compress(bytes(2 << 20)))


def test_passwords_of_servers_do_not_stand_in_messages() -> None:
    for content in (None, b"", path_list()):
        with pytest.raises((RecipeError, SourceError), match="https://mirror.example/crawl-data/") as error:
            list_files(source(files="0", base_urls=["https://me:secret@mirror.example"]), lambda _, c=content: c)
        assert "secret" not in str(error.value)


def test_what_is_listed_can_be_downloaded(server: Server) -> None:
    for line in (name(0), name(1)):
        server.add(f"/cc/{line}", line.encode())
    server.add(f"/cc/crawl-data/{CRAWL}/warc.paths.gz", path_list(name(0), name(1))).script(status(503))
    with Client(Fetch(requests_per_second=1000, retries=1), pause=lambda _: None) as client:
        files = list_files(source(fraction=1, base_urls=[server.url("/empty"), server.url("/cc/")]), client.get)
        assert [client.get(file.urls[0]) for file in files] == [None, None]
        assert [client.get(file.urls[1]) for file in files] == [name(0).encode(), name(1).encode()]


# --- single records


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*rows: Any, packed: bool = False) -> str:
        data = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()
        path = tmp_path / "records.jsonl"
        path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
        return str(path)

    return write


def row(number: int, offset: Any, length: Any) -> dict[str, Any]:
    return {"filename": name(number), "offset": offset, "length": length}


@pytest.mark.parametrize("packed", [False, True])
def test_records_are_stretches_of_their_files_in_order(write: Write, packed: bool) -> None:
    rows = [row(8, 900, 50), row(3, 7, 5), row(8, 100, 50), "", row(8, 700, 50)]
    files = list_files(source(records=write(*rows, packed=packed)), no_request)
    assert [(file.urls, file.spans) for file in files] == [
        ((f"{BASE}/{name(3)}",), ((7, 5),)),
        ((f"{BASE}/{name(8)}",), ((100, 50), (700, 50), (900, 50))),
    ]


def test_repeated_records_count_once_and_neighbours_become_one_stretch(write: Write) -> None:
    rows = [row(0, 150, 10), row(0, 0, 100), row(0, 100, 50), row(0, 100, 50), row(0, 161, 1)]
    (file,) = list_files(source(records=write(*rows)), no_request)
    assert file.spans == ((0, 160), (161, 1))


def test_both_indexes_are_understood(write: Write) -> None:
    """Lines as index.commoncrawl.org answers with output=json, and as the columnar index is exported."""
    server = {
        "urlkey": "ar,com,example)/",
        "timestamp": "20260212054001",
        "url": "https://example.com.ar/",
        "mime": "text/html",
        "status": "200",
        "digest": "ZA6MPPJEFGZ53KWFSLWMF7NDO7RKOWR4",
        "length": "78501",
        "offset": "243658810",
        "filename": name(1),
    }
    columnar = {
        "url": "https://example.com.ar/2",
        "warc_filename": name(1),
        "warc_record_offset": 5_000_000_000,
        "warc_record_length": 12,
    }
    (file,) = list_files(source(records=write(server, columnar)), no_request)
    assert file.spans == ((243658810, 78501), (5_000_000_000, 12))


def test_a_file_of_records_may_lie_in_a_store(write: Write) -> None:
    with fsspec.open("memory://cc/records.jsonl", "wb") as out:
        out.write(Path(write(row(0, 1, 2))).read_bytes())
    (file,) = list_files(source(records="memory://cc/records.jsonl"), no_request)
    assert file.spans == ((1, 2),)


def test_records_that_overlap_are_named_by_their_lines(write: Write) -> None:
    rows = [row(1, 0, 100), row(0, 50, 100), row(0, 300, 10), row(0, 0, 51)]
    with pytest.raises(RecipeError, match=f"lines 2 and 4 name overlapping stretches of {name(0)}"):
        list_files(source(records=write(*rows)), no_request)
    with pytest.raises(RecipeError, match="lines 1 and 2 name overlapping"):
        list_files(source(records=write(row(0, 5, 10), row(0, 5, 11))), no_request)


@pytest.mark.parametrize(
    "wrong",
    [
        row(0, 0, 0),
        row(0, -1, 5),
        row(0, 0, "-5"),
        row(0, "1e3", 5),
        row(0, 1.5, 5),
        row(0, "٣", 5),
        row(0, None, 5),
        row(0, True, 5),
        row(0, 0, 1 << 64),
        row(0, "9" * 5000, 5),
        {"offset": 0, "length": 5},
        {"filename": 3, "offset": 0, "length": 5},
        {"filename": name(0), "length": 5},
        {"filename": "crawl-data/CC-MAIN-2025-10/x.warc.gz", "offset": 0, "length": 5},
        {"filename": f"crawl-data/{CRAWL}/../x.warc.gz", "offset": 0, "length": 5},
        {"filename": f"https://evil.example/crawl-data/{CRAWL}/x.warc.gz", "offset": 0, "length": 5},
        [1, 2, 3],
        "com,example)/ 20260212054001 {}",
        '{"filename": "crawl',
        "[" * 100_000,
    ],
    ids=lambda wrong: str(wrong)[:60],
)
def test_a_line_that_names_no_record_is_named(write: Write, wrong: Any) -> None:
    records = write(row(0, 0, 5), "", wrong)
    with pytest.raises(RecipeError, match=rf"{records}: line 3"):
        list_files(source(records=records), no_request)


def test_a_file_of_records_that_is_empty_damaged_or_missing_is_an_error(write: Write, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="names no records"):
        list_files(source(records=write("")), no_request)
    path = Path(write(row(0, 0, 5), packed=True))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(RecipeError, match="is damaged"):
        list_files(source(records=str(path)), no_request)
    with pytest.raises(RecipeError, match="line 2 is longer than 64 KiB"):
        list_files(source(records=write(row(0, 0, 5), "x" * 70_000, packed=True)), no_request)
    with pytest.raises(RecipeError, match="no such file"):
        list_files(source(records=str(tmp_path / "none.jsonl")), no_request)


def plain_spans(records: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
    """Byte by byte: the runs of bytes that records cover; None where two different ones overlap."""
    wanted = set(records)
    covered = [byte for offset, length in wanted for byte in range(offset, offset + length)]
    if len(covered) != len(set(covered)):
        return None
    runs: list[tuple[int, int]] = []
    for byte in sorted(covered):
        if runs and sum(runs[-1]) == byte:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((byte, 1))
    return runs


records = st.tuples(st.integers(0, 40), st.integers(1, 4))


@given(st.dictionaries(st.integers(0, 3), st.lists(records, min_size=1, max_size=6), min_size=1), st.randoms())
def test_stretches_are_those_of_a_plain_reference(wanted: dict[int, list[tuple[int, int]]], random: Any) -> None:
    rows = [row(number, offset, length) for number, spans in wanted.items() for offset, length in spans]
    random.shuffle(rows)
    with fsspec.open("memory://cc/random.jsonl", "wt") as out:
        out.write("\n".join(map(json.dumps, rows)))
    expected = {number: plain_spans(spans) for number, spans in wanted.items()}
    if None in expected.values():
        with pytest.raises(RecipeError, match="overlapping"):
            list_files(source(records="memory://cc/random.jsonl"), no_request)
    else:
        files = list_files(source(records="memory://cc/random.jsonl"), no_request)
        assert {number: list(file.spans) for number, file in zip(numbers(files), files, strict=True)} == expected


def test_a_hundred_thousand_records_take_a_second_or_so(write: Write) -> None:
    """Not the square of their number: ten times as many take about ten times as long."""
    seconds = []
    for n in (10_000, 100_000):
        location = write(*(row(i % 100, (i * 7919) % n * 1000, 900) for i in range(n)))
        started = time.process_time()
        files = list_files(source(records=location), no_request)
        seconds.append(time.process_time() - started)
        assert sum(len(file.spans) for file in files) == n
    assert seconds[1] < 40 * seconds[0]


# --- RemoteFile


def test_a_remote_file_comes_back_from_json() -> None:
    index = RemoteFile(path="i.bz2", urls=("https://a/i.bz2",), n_bytes=3, sha1="0" * 40)
    file = RemoteFile(path="a/b.gz", urls=("https://a/b", "https://c/b"), index=index, spans=((0, 5), (6, 1)))
    assert RemoteFile.from_json(json.loads(json.dumps(file.to_json()))) == file
    with pytest.raises(SchemaError, match="md5"):
        RemoteFile.from_json(file.to_json() | {"md5": "0" * 32})
    with pytest.raises(SchemaError, match=r"index\.md5"):
        RemoteFile.from_json(file.to_json() | {"index": index.to_json() | {"md5": ""}})
    with pytest.raises(SchemaError, match="urls"):
        RemoteFile.from_json({"path": "a"})
    with pytest.raises(SchemaError):
        RemoteFile.from_json([])


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../x", "a/..", "..", "a\0b"])
def test_a_remote_file_stays_in_its_folder(path: str) -> None:
    with pytest.raises(SourceError, match="no name below a folder"):
        RemoteFile(path=path, urls=("https://a/x",))
    with pytest.raises(SourceError, match="no name below a folder"):
        RemoteFile.from_json({"path": path, "urls": ["https://a/x"]})


@pytest.mark.parametrize(
    "fields",
    [
        {"urls": ()},
        {"sha1": "0" * 39},
        {"sha1": "G" * 40},
        {"spans": ((0, 0),)},
        {"spans": ((-1, 5),)},
        {"spans": ((0, 5), (5, 1))},
        {"spans": ((0, 5), (4, 9))},
        {"spans": ((9, 5), (0, 1))},
    ],
)
def test_a_remote_file_holds_what_can_be_downloaded(fields: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match="a"):
        RemoteFile(**{"path": "a", "urls": ("https://a/x",)} | fields)
