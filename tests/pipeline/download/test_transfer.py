"""Downloads that survive what servers, lines and disks do; what was fetched is proven by the bytes that were sent."""

import contextlib
import errno
import hashlib
import resource
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import Downloaded, download, remove_part
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.recipe import Fetch
from tests.pipeline.download.parts import CONTENT, HALF, MIB, OTHER, RETRIES, SHA1, check, interrupt, origin
from tests.pipeline.download.server import Served, Server, cut, raw, redirect, stall, status, together, trickle


@contextlib.contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """The operating system writes no file beyond this size, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# One run


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", [0, 1, MIB, len(CONTENT)])
def test_a_file_arrives(server: Server, client: Client, part: Path, framing: str, size: int) -> None:
    file = server.add("/a", CONTENT[:size], framing=framing)
    calls: list[tuple[int, int | None]] = []
    done = download(client, [server.url("/a")], part, progress=lambda *call: calls.append(call))
    check(done, part, CONTENT[:size])
    assert (done.url, done.n_fetched, file.n_sent) == (server.url("/a"), size, size)
    assert calls[0] == (0, size if framing == "length" else None)
    assert calls[-1] == (size, size)
    assert [n for n, _ in calls] == sorted(n for n, _ in calls)
    assert all(b - a <= MIB + (1 << 16) for (a, _), (b, _) in zip(calls, calls[1:], strict=False))


def test_size_and_digest_are_checked(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT)
    check(download(client, [server.url("/a")], part, n_bytes=len(CONTENT), sha1=SHA1.upper()), part)


def test_a_file_that_is_there_is_not_fetched(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, framing="chunked")
    first = download(client, [server.url("/a")], part)
    again = download(client, [server.url("/a")], part)
    assert (again.sha256, again.n_bytes, again.url) == (first.sha256, first.n_bytes, first.url)
    assert (again.n_fetched, len(server.seen)) == (0, 1)


def test_where_it_is_from_is_known_before_the_first_byte(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, etag='"1"').script(cut(0))
    seen: list[dict[str, Any]] = []
    url = server.url("/a", userinfo="anna:geheim@")
    download(client, [url], part, sha1=SHA1, progress=lambda *_: seen.append(origin(part)))
    assert seen[0] == {
        "url": server.url("/a"), "validator": '"1"', "size": len(CONTENT), "sha1": SHA1, "spans": None
    }  # fmt: skip


def test_nothing_stays_of_a_part_that_is_removed(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT)
    download(client, [server.url("/a")], part)
    part.rename(part.with_name("a.warc.gz"))
    remove_part(part)
    assert [path.name for path in part.parent.iterdir()] == ["a.warc.gz"]


def test_a_content_encoding_is_left_alone(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, headers={"content-encoding": "gzip"})
    check(download(client, [server.url("/a")], part), part)


def test_chunks_count_more_than_a_length(server: Server, client: Client, part: Path) -> None:
    """Both at once (RFC 9112, 6.3)."""
    server.add("/a", CONTENT, framing="chunked", headers={"content-length": "5"})
    check(download(client, [server.url("/a")], part), part)


def test_redirects_keep_the_range(server: Server, client: Client, part: Path) -> None:
    server.add("/b", CONTENT, etag='"1"').script(cut(HALF))
    server.add("/a", b"").script(redirect("/b"), redirect("/b"))
    done = download(client, [server.url("/a")], part)
    check(done, part)
    assert done.url == server.url("/a")
    assert server.requests("/b")[1].headers["range"] == f"bytes={HALF}-"


# Failures within a run


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_flaky_line_does_not_matter(server: Server, client: Client, part: Path, framing: str) -> None:
    """More breaks than tries are allowed, but each try gets further."""
    file = server.add("/a", CONTENT, etag='"1"', framing=framing)
    file.script(*[cut(200_000)] * 12)
    check(download(client, [server.url("/a")], part), part)
    assert (len(server.seen), file.n_sent) == (13, len(CONTENT))


def test_a_break_without_progress_counts(server: Server, client: Client, part: Path) -> None:
    """A server without ranges that always breaks off at the same place: the first try got further, four did not."""
    file = server.add("/a", CONTENT, etag='"1"', ranges=False)
    file.script(*[cut(HALF)] * 20)
    with pytest.raises(SourceError, match=r"progress: 4\); run again, what is there is kept"):
        download(client, [server.url("/a")], part)
    assert len(server.seen) == 1 + RETRIES + 1
    assert part.read_bytes() == CONTENT[:HALF]


def test_a_stall(server: Server, client: Client, part: Path) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    file.script(stall(HALF))
    start = time.monotonic()
    check(download(client, [server.url("/a")], part), part)
    assert time.monotonic() - start < 5
    assert file.n_sent == len(CONTENT)


def test_a_stall_that_stays(server: Server, part: Path) -> None:
    server.add("/a", CONTENT).script(*[stall(0)] * 2)
    client = Client(Fetch(retries=1, stall_seconds=0.2), pause=lambda seconds: None)
    with client, pytest.raises(SourceError, match=r"/a cannot be downloaded: nothing arrived for 0.2 s \(tries"):
        download(client, [server.url("/a")], part)


def test_a_server_that_trickles_is_left_for_the_next_mirror(server: Server, part: Path) -> None:
    server.add("/slow", CONTENT).script(trickle())
    server.add("/a", CONTENT)
    with Client(Fetch(retries=1, stall_seconds=0.3), pause=lambda seconds: None) as client:
        check(download(client, [server.url("/slow"), server.url("/a")], part), part)
        server.add("/slow", CONTENT).script(trickle())
        with pytest.raises(SourceError, match=r"/slow cannot be downloaded: it brought \d+ bytes in 0 s"):
            client.get(server.url("/slow"))


@pytest.mark.parametrize("framing", ["close", "length"])
def test_an_end_too_early_is_seen_by_the_size(server: Server, client: Client, part: Path, framing: str) -> None:
    file = server.add("/a", CONTENT, etag='"1"', framing=framing)
    file.script(cut(HALF))
    check(download(client, [server.url("/a")], part, n_bytes=len(CONTENT)), part)
    assert file.n_sent == len(CONTENT)


def test_more_bytes_than_announced_are_not_taken(server: Server, client: Client, part: Path) -> None:
    server.add("/a", b"").script(raw(200, CONTENT + b"surplus", len(CONTENT)))
    check(download(client, [server.url("/a")], part), part)


# Wrong content


def test_a_wrong_digest_once(server: Server, client: Client, part: Path) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    file.script(raw(200, OTHER))
    done = download(client, [server.url("/a")], part, sha1=SHA1)
    check(done, part)
    assert done.n_fetched == len(OTHER) + len(CONTENT)


def test_a_wrong_digest_twice(server: Server, client: Client, part: Path) -> None:
    server.add("/a", OTHER, etag='"1"')
    with pytest.raises(SourceError) as error:
        download(client, [server.url("/a")], part, sha1=SHA1)
    assert str(error.value) == (
        f"{server.url('/a')} cannot be downloaded: its sha1 is {hashlib.sha1(OTHER).hexdigest()} instead of {SHA1}, "
        "also when fetched again"
    )
    assert len(server.seen) == 2
    assert part.read_bytes() == b""


def test_a_part_that_rotted_is_found_out(server: Server, client: Client, part: Path) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    interrupt(client, server, part, sha1=SHA1)
    with part.open("r+b") as handle:
        handle.write(b"rot")
    check(download(client, [server.url("/a")], part, sha1=SHA1), part)
    assert file.n_sent == 2 * len(CONTENT) - HALF


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_wrong_size(server: Server, client: Client, part: Path, framing: str) -> None:
    server.add("/a", CONTENT, framing=framing)
    match = {"length": "it has 2621440 bytes instead of 5, also when fetched again", "chunked": "more than the 5 bytes"}
    with pytest.raises(SourceError, match=match[framing]):
        download(client, [server.url("/a")], part, n_bytes=5)


def test_a_wrong_size_of_what_nobody_had_measured(server: Server, client: Client, part: Path) -> None:
    """The part holds a whole file, which only the server can tell: 416. But that file is not the one that is wanted."""
    server.add("/a", CONTENT, etag='"1"', framing="chunked")
    interrupt(client, server, part, at=len(CONTENT))
    server.files["/a"] = Served(content=OTHER[:5], etag='"1"')
    server.files["/a"].script(status(416, content_range=f"bytes */{len(CONTENT)}"))
    check(download(client, [server.url("/a")], part, n_bytes=5), part, OTHER[:5])


def test_a_wrong_size_is_seen_before_anything_is_lost(server: Server, client: Client, part: Path) -> None:
    """A page that says that the server is being repaired, with status 200."""
    server.add("/a", CONTENT, etag='"1"')
    file = interrupt(client, server, part, n_bytes=len(CONTENT))
    file.script(raw(200, b"<h1>Back soon</h1>"))
    check(download(client, [server.url("/a")], part, n_bytes=len(CONTENT)), part)
    assert file.n_sent == len(CONTENT) - HALF + len(b"<h1>Back soon</h1>")


# Disks


def test_there_must_be_room(server: Server, client: Client, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of free bytes is too few for the file and enough for its rest."""
    server.add("/a", CONTENT, etag='"1"')
    free = len(CONTENT) - HALF + (64 << 20)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * free, 9 * free, free))
    with pytest.raises(SourceError, match=r"a\.warc\.gz\.part needs another 69\.7 MB, .* has 68\.2 MB free: make room"):
        download(client, [server.url("/a")], part)
    assert part.read_bytes() == b""
    server.settle()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * free, 0, 10 * free))
    interrupt(client, server, part)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * free, 9 * free, free))
    check(download(client, [server.url("/a")], part), part)


@pytest.mark.parametrize("room", [HALF, len(CONTENT) - 1])
def test_a_disk_that_fills_up_keeps_what_it_has(server: Server, client: Client, part: Path, room: int) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    with file_size_limit(room), pytest.raises(OSError) as error:
        download(client, [server.url("/a")], part)
    assert error.value.errno == errno.EFBIG
    assert part.read_bytes() == CONTENT[:room]
    server.settle()
    file.n_sent = 0
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT) - room


def test_whoever_stops_it_loses_nothing(server: Server, client: Client, part: Path) -> None:
    def stop(n_bytes: int, size: int | None) -> None:
        if n_bytes > MIB:
            raise KeyboardInterrupt

    file = server.add("/a", CONTENT, etag='"1"')
    with pytest.raises(KeyboardInterrupt):
        download(client, [server.url("/a")], part, progress=stop)
    there = part.stat().st_size
    assert there > MIB
    server.settle()
    file.n_sent = 0
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT) - there


# Two at once


def test_two_with_one_part(server: Server, part: Path) -> None:
    """The second waits for the first and takes what that one made."""
    file = server.add("/a", CONTENT, etag='"1"', rate=10e6)
    done: list[Downloaded] = []

    def run() -> None:
        with Client(Fetch()) as client:
            done.append(download(client, [server.url("/a")], part))

    together(run, run)
    assert (file.n_sent, len(server.seen)) == (len(CONTENT), 1)
    assert sorted(each.n_fetched for each in done) == [0, len(CONTENT)]
    for each in done:
        check(each, part)


def test_whoever_waited_does_not_write_into_a_published_file(server: Server, client: Client, part: Path) -> None:
    """The first moves the part away while the second waits for its lock: the second begins a new one."""
    published = part.with_name("a.warc.gz")
    server.add("/a", CONTENT, rate=10e6)
    started = threading.Event()

    def second() -> None:
        started.wait()
        with Client(Fetch()) as client:
            check(download(client, [server.url("/b")], part), part, OTHER)

    def publish(n_bytes: int, size: int | None) -> None:
        started.set()
        time.sleep(0.02)
        if n_bytes == size:
            part.rename(published)

    server.add("/b", OTHER)
    together(second, lambda: download(client, [server.url("/a")], part, progress=publish))
    assert published.read_bytes() == CONTENT
    assert part.read_bytes() == OTHER
