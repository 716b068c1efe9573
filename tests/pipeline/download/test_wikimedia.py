"""Which files a wiki's dump has: status and listings as dumps.wikimedia.org serves them, complete and not."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.wikimedia import list_files
from corpusmill.schemas.errors import RecipeError, SourceError
from corpusmill.schemas.recipe import Fetch
from corpusmill.schemas.source import WikipediaSource
from tests.pipeline.download.server import Server

BASE = "https://dumps.wikimedia.org"
MIRROR = "https://mirror.example/pub/wikimedia/dumps/"
DATE = "20261101"
ZHWIKI = [
    "1.xml-p1p187712",
    "2.xml-p187713p630160",
    "3.xml-p630161p1389648",
    "4.xml-p1389649p2889648",
    "4.xml-p2889649p3391029",
]
"""Parts of a large wiki. The server lists them by name, so a tenth part stands before the second."""


def sha1(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


def info(name: str, wiki: str, date: str = DATE) -> dict[str, Any]:
    """What a status says of a file that is done."""
    return {
        "size": 1000 + len(name),
        "url": f"/{wiki}/{date}/{name}",
        "md5": hashlib.md5(name.encode()).hexdigest(),
        "sha1": sha1(name),
    }


def dump_names(wiki: str, parts: list[str], date: str = DATE) -> list[str]:
    """Dumps and indexes, sorted by name as in the status."""
    head = f"{wiki}-{date}-pages-articles-multistream"
    indexes = [f"{head}-index{part.replace('.xml', '.txt')}.bz2" for part in parts]
    return sorted([f"{head}{part}.bz2" for part in parts] + indexes)


def job(wiki: str, parts: list[str], status: str = "done", date: str = DATE) -> dict[str, Any]:
    files = {name: info(name, wiki, date) for name in dump_names(wiki, parts, date)}
    return {"status": status, "updated": "2026-11-03 02:11:58", "files": files}


def status(multistream: dict[str, Any] | None, **more: Any) -> bytes:
    """A dumpstatus.json with some of the jobs that stand beside ours."""
    jobs: dict[str, Any] = {
        "sitestatstable": {
            "status": "done",
            "updated": "2026-11-01 06:25:36",
            "files": {
                f"x-{DATE}-site_stats.sql.gz": {"size": 793, "url": f"/x/{DATE}/x.sql.gz", "md5": "", "sha1": ""}
            },
        },
        "metahistory7zdump": {"status": "waiting", "updated": "", "files": {}},
        "xmlflowhistorydump": {"status": "skipped", "updated": ""},
    }
    if multistream is not None:
        jobs["articlesmultistreamdump"] = multistream
    return json.dumps({"version": "0.8", "jobs": jobs | more}).encode()


def listing(wiki: str, *dates: str) -> bytes:
    """The page of a wiki's folder, as nginx makes it."""
    rows = "".join(f'<a href="{d}/">{d}/</a>{"":50}02-Nov-2026 01:29                   -\n' for d in (*dates, "latest"))
    return f"""<html>
<head><title>Index of /{wiki}/</title></head>
<body>
<h1>Index of /{wiki}/</h1><hr><pre><a href="../">../</a>
{rows}</pre><hr></body>
</html>
""".encode()


def source(**fields: Any) -> WikipediaSource:
    return WikipediaSource.model_validate({"kind": "wikipedia", "wiki": "zhwiki"} | fields)


def of_zhwiki(content: bytes, date: str = DATE) -> dict[str, bytes]:
    return {f"{BASE}/zhwiki/{date}/dumpstatus.json": content}


def test_a_large_wiki_is_its_parts_in_the_order_of_their_pages() -> None:
    parts = [*ZHWIKI, "10.xml-p9000000p9100000"]
    files = list_files(source(date=DATE), of_zhwiki(status(job("zhwiki", parts))).get)
    head = f"zhwiki-{DATE}-pages-articles-multistream"
    assert [file.path for file in files] == [f"{head}{part}.bz2" for part in parts]
    for file in files:
        assert file.urls == (f"{BASE}/zhwiki/{DATE}/{file.path}",)
        assert (file.n_bytes, file.sha1) == (1000 + len(file.path), sha1(file.path))
        assert file.index is not None
        assert file.index.sha1 == sha1(file.index.path)
        assert file.index.urls == (f"{BASE}/zhwiki/{DATE}/{file.index.path}",)
    assert [file.index and file.index.path for file in files[:2]] == [
        f"{head}-index1.txt-p1p187712.bz2",
        f"{head}-index2.txt-p187713p630160.bz2",
    ]


def test_a_small_wiki_is_one_file() -> None:
    get = {f"{BASE}/crwiki/{DATE}/dumpstatus.json": status(job("crwiki", [".xml"]))}.get
    (file,) = list_files(source(wiki="crwiki", date=DATE), get)
    assert file.path == f"crwiki-{DATE}-pages-articles-multistream.xml.bz2"
    assert file.index is not None
    assert file.index.path == f"crwiki-{DATE}-pages-articles-multistream-index.txt.bz2"


def test_of_parts_and_a_whole_only_the_parts_are_taken() -> None:
    both = of_zhwiki(status(job("zhwiki", [".xml", *ZHWIKI])))
    only = of_zhwiki(status(job("zhwiki", ZHWIKI)))
    assert list_files(source(date=DATE), both.get) == list_files(source(date=DATE), only.get)


def test_the_whole_of_a_large_wiki_is_a_job_of_its_own_and_not_needed() -> None:
    more = {"articlesmultistreamdumprecombine": job("zhwiki", [".xml"], "in-progress")}
    files = list_files(source(date=DATE), of_zhwiki(status(job("zhwiki", ZHWIKI), **more)).get)
    assert len(files) == len(ZHWIKI)


def test_every_server_is_a_mirror_whatever_folder_it_serves_from() -> None:
    served = {
        f"https://mirror.example/pub/wikimedia/dumps/zhwiki/{DATE}/dumpstatus.json": status(job("zhwiki", [".xml"]))
    }
    (file,) = list_files(source(date=DATE, base_urls=[MIRROR, BASE]), served.get)
    assert file.urls == (
        f"https://mirror.example/pub/wikimedia/dumps/zhwiki/{DATE}/{file.path}",
        f"{BASE}/zhwiki/{DATE}/{file.path}",
    )


def test_a_file_without_index_url_size_or_digest_is_taken_all_the_same() -> None:
    head = f"zhwiki-{DATE}-pages-articles-multistream.xml.bz2"
    (file,) = list_files(source(date=DATE), of_zhwiki(status({"status": "done", "files": {head: {}}})).get)
    assert file.urls == (f"{BASE}/zhwiki/{DATE}/{head}",)
    assert (file.n_bytes, file.sha1, file.index) == (None, None, None)


# --- checksums


def without_sha1(names: list[str]) -> bytes:
    files = {name: {key: value for key, value in info(name, "zhwiki").items() if key != "sha1"} for name in names}
    return status({"status": "done", "files": files})


def test_digests_that_the_status_lacks_come_from_the_list_of_checksums() -> None:
    names = dump_names("zhwiki", ZHWIKI)
    lines = [f"{sha1(name)}  {name}" for name in [f"zhwiki-{DATE}-site_stats.sql.gz", *names[:-1]]]
    served = of_zhwiki(without_sha1(names)) | {
        f"{BASE}/zhwiki/{DATE}/zhwiki-{DATE}-sha1sums.txt": ("\n".join(lines) + "\nbroken line é\n").encode()
    }
    files = list_files(source(date=DATE), served.get)
    digests = {file.path: file.sha1 for file in files} | {
        file.index.path: file.index.sha1 for file in files if file.index
    }
    assert digests == {name: sha1(name) for name in names} | {names[-1]: None}


def test_a_dump_without_any_digests_is_taken_without() -> None:
    files = list_files(source(date=DATE), of_zhwiki(without_sha1(dump_names("zhwiki", ZHWIKI))).get)
    assert [file.sha1 for file in files] == [None] * len(ZHWIKI)


def test_checksums_are_asked_for_only_if_the_status_lacks_some() -> None:
    asked = []
    served = of_zhwiki(status(job("zhwiki", ZHWIKI)))
    list_files(source(date=DATE), lambda url: asked.append(url) or served.get(url))
    assert asked == [f"{BASE}/zhwiki/{DATE}/dumpstatus.json"]


# --- latest


def dumps(**states: str) -> Callable[[str], bytes | None]:
    """A wiki with dumps of these dates ("d20261101") and states of our job; "none": without a status."""
    served = {f"{BASE}/zhwiki/": listing("zhwiki", *(date[1:] for date in states))}
    for date, state in states.items():
        if state != "none":
            served |= of_zhwiki(status(job("zhwiki", ZHWIKI, state, date[1:])), date[1:])
    return served.get


def test_latest_is_the_newest_that_is_done() -> None:
    get = dumps(d20261001="done", d20261020="done", d20261101="in-progress", d20261120="none")
    files = list_files(source(), get)
    assert files[0].path.startswith("zhwiki-20261020-")
    assert list_files(source(date="20261020"), get) == files


@pytest.mark.parametrize(
    "link",
    ['href="20261101/"', "HREF='20261101/'", 'href="/zhwiki/20261101/"', 'href = "./20261101/"', "href=20261101/"],
)
def test_listings_of_other_servers_are_understood(link: str) -> None:
    page = f'<a href="../">up</a> <a href="/x/20991231.txt">x</a> <a title="20991231" {link}>2026</a>'.encode()
    served = of_zhwiki(status(job("zhwiki", ZHWIKI))) | {f"{BASE}/zhwiki/": page}
    assert list_files(source(), served.get)[0].path.startswith(f"zhwiki-{DATE}-")


def test_where_none_is_done_the_states_are_told_and_ten_are_tried() -> None:
    asked = []
    get = dumps(**{f"d202601{day}": "waiting" for day in range(10, 24)}, d20260201="failed", d20260220="none")
    with pytest.raises(SourceError) as error:
        list_files(source(), lambda url: asked.append(url) or get(url))
    message = str(error.value)
    assert "zhwiki has no multistream dump that is done" in message
    assert "20260220 is missing, that of 20260201 is failed, that of 20260123 is waiting" in message
    assert len(asked) == 1 + 10
    assert "20260115" not in message


# --- what cannot be had


@pytest.mark.parametrize("date", [DATE, "latest"])
def test_a_wiki_that_does_not_exist(date: str) -> None:
    with pytest.raises(
        RecipeError, match=r"no wiki 'zhwiki': nothing at https://dumps.*, https://mirror.*such as enwiki"
    ):
        list_files(source(date=date, base_urls=[BASE, MIRROR]), {}.get)


def test_a_date_that_does_not_exist_names_those_that_do() -> None:
    get = dumps(d20261001="done", d20261020="done")
    with pytest.raises(RecipeError, match="zhwiki has no dump of 20261101, only of 20261020, 20261001; or .*latest"):
        list_files(source(date=DATE), get)


@pytest.mark.parametrize("state", ["in-progress", "waiting", "failed", "skipped"])
def test_a_job_that_is_not_done_says_so(state: str) -> None:
    with pytest.raises(RecipeError, match=f"of zhwiki of {DATE} is {state}, not done; write `date: latest`"):
        list_files(source(date=DATE), dumps(d20261101=state))


def test_a_dump_without_the_job_or_without_a_status_is_missing() -> None:
    for content in (status(None), None):
        served = {f"{BASE}/zhwiki/": listing("zhwiki", DATE)} | (of_zhwiki(content) if content else {})
        with pytest.raises(RecipeError, match=f"of zhwiki of {DATE} is missing"):
            list_files(source(date=DATE), served.get)


def with_file(**changes: Any) -> bytes:
    name = f"zhwiki-{DATE}-pages-articles-multistream.xml.bz2"
    return status({"status": "done", "files": {name: info(name, "zhwiki") | changes}})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><p>Log in", r"not the status of a dump \(JSON: .*begins with b'<!DOCTYPE html><p>Log in'"),
        (status(job("zhwiki", ZHWIKI))[:-40], r"not the status of a dump \(JSON"),
        (b"", "not the status of a dump"),
        (b"[]", "not the status of a dump"),
        (b"{}", r"not the status of a dump \(jobs: "),
        (status({"files": {}}), r"jobs.articlesmultistreamdump.status: "),
        (status({"status": "done", "files": {"a": 3}}), "articlesmultistreamdump.files.a: "),
        (with_file(size=-1), "size: "),
        (with_file(sha1="0" * 39), "sha1: "),
        (with_file(url="https://evil.example/x"), "'https://evil.example/x', which is no absolute path"),
        (with_file(url="/zhwiki/../x"), "no absolute path"),
        (with_file(url="/x y"), "no absolute path"),
        (status({"status": "done", "files": {}}), "is done, but without"),
        (status({"status": "done"}), "is done, but without"),
        (status({"status": "done", "files": {"../x-pages-articles-multistream.xml.bz2": {}}}), "is done, but without"),
        (status({"status": "done", "files": {f"zhwiki-{DATE}-pages-articles.xml.bz2": {}}}), "is done, but without"),
    ],
)
def test_a_status_that_is_damaged_is_an_error(content: bytes, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        list_files(source(date=DATE), of_zhwiki(content).get)


def test_a_listing_that_is_none_is_an_error() -> None:
    with pytest.raises(SourceError, match="zhwiki/ links to no dumps, it begins with b'<p>Log in"):
        list_files(source(), {f"{BASE}/zhwiki/": b"<p>Log in to the hotel"}.get)


def test_a_server_that_cannot_be_asked_is_not_taken_for_one_without_the_dump() -> None:
    def get(url: str) -> bytes | None:
        if url.startswith(BASE):
            raise SourceError(f"{url} cannot be downloaded: no connection")
        return None

    with pytest.raises(SourceError, match="no connection"):
        list_files(source(date=DATE, base_urls=[MIRROR, BASE]), get)


@pytest.mark.parametrize("date", [DATE, "latest"])
def test_passwords_of_servers_do_not_stand_in_messages(date: str) -> None:
    for content in (None, b"{"):
        with pytest.raises((RecipeError, SourceError), match="https://mirror.example/zhwiki/") as error:
            list_files(source(date=date, base_urls=["https://me:secret@mirror.example"]), lambda _, c=content: c)
        assert "secret" not in str(error.value)


def test_what_is_listed_can_be_downloaded(server: Server) -> None:
    server.add("/pub/dumps/zhwiki/", listing("zhwiki", "20261001", DATE))
    server.add(f"/pub/dumps/zhwiki/{DATE}/dumpstatus.json", status(job("zhwiki", ZHWIKI[:1], "in-progress")))
    server.add("/pub/dumps/zhwiki/20261001/dumpstatus.json", status(job("zhwiki", ZHWIKI[:1], date="20261001")))
    for part in dump_names("zhwiki", ZHWIKI[:1], "20261001"):
        server.add(f"/pub/dumps/zhwiki/20261001/{part}", part.encode())
    with Client(Fetch(requests_per_second=1000)) as client:
        (file,) = list_files(source(base_urls=[server.url("/pub/dumps")]), client.get)
        assert file.index is not None
        for remote in (file, file.index):
            content = client.get(remote.urls[0])
            assert content is not None
            assert hashlib.sha1(content).hexdigest() == remote.sha1
