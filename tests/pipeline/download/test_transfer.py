"""Downloads that survive what servers, lines and disks do; what is resumed is proven by the bytes that were sent."""

import contextlib
import errno
import hashlib
import json
import random
import resource
import shutil
import threading
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline.download import transfer
from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import Downloaded, download, download_spans, remove_part
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.recipe import Fetch
from tests.pipeline.download.server import MODIFIED, Answer, Served, Server, cut, raw, redirect, stall, status, together

MIB = 1 << 20
CONTENT = random.Random(4).randbytes(5 * MIB // 2)
OTHER = random.Random(5).randbytes(5 * MIB // 2)
SHA1 = hashlib.sha1(CONTENT).hexdigest()
HALF = 3 * MIB // 2
RETRIES = 3


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """No pauses between tries, four tries without progress."""
    settings = Fetch(requests_per_second=1000, retries=RETRIES, stall_seconds=0.5)
    with Client(settings, pause=lambda seconds: None) as client:
        yield client


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "a.warc.gz.part"


def origin(part: Path) -> dict[str, Any]:
    """What stands beside a part."""
    data: dict[str, Any] = json.loads(part.with_name(f"{part.name}.json").read_bytes())
    return data


def check(done: Downloaded, part: Path, content: bytes = CONTENT) -> None:
    """What is said about a part is true, and it holds the content."""
    assert part.read_bytes() == content
    assert (done.sha256, done.n_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def interrupt(client: Client, server: Server, part: Path, path: str = "/a", at: int = HALF, **options: Any) -> Served:
    """A run that ends after some bytes; the server is left as if nothing had happened."""
    file = server.files[path]
    file.script(cut(at), *[status(503)] * (RETRIES + 1))
    with pytest.raises(SourceError, match="status 503"):
        download(client, [server.url(path)], part, **options)
    assert part.read_bytes() == file.content[:at]
    assert file.steps == []
    file.n_sent = 0
    server.seen.clear()
    return file


@contextlib.contextmanager
def file_size_limit(n_bytes: int) -> Iterator[None]:
    """The operating system writes no file beyond this size, as if the disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    yield
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
    server.add("/a", CONTENT, headers={"Content-Encoding": "gzip"})
    check(download(client, [server.url("/a")], part), part)


def test_redirects_keep_the_range(server: Server, client: Client, part: Path) -> None:
    server.add("/b", CONTENT, etag='"1"').script(cut(HALF))
    server.add("/a", b"").script(redirect("/b"), redirect("/b"))
    done = download(client, [server.url("/a")], part)
    check(done, part)
    assert done.url == server.url("/a")
    assert server.requests("/b")[1].headers["range"] == f"bytes={HALF}-"


# An interrupted run


@pytest.mark.parametrize(
    ("validators", "condition"),
    [
        ({"etag": '"1"'}, '"1"'),
        ({"etag": '"1"', "modified": MODIFIED}, '"1"'),
        ({"modified": MODIFIED}, MODIFIED),
        ({"etag": 'W/"1"', "modified": MODIFIED}, MODIFIED),
    ],
    ids=["etag", "both", "date", "weak"],
)
def test_it_goes_on_where_it_ended(
    server: Server, client: Client, part: Path, validators: dict[str, str], condition: str
) -> None:
    server.add("/a", CONTENT, **validators)
    file = interrupt(client, server, part)
    done = download(client, [server.url("/a")], part)
    check(done, part)
    assert done.n_fetched == file.n_sent == len(CONTENT) - HALF
    (request,) = server.seen
    assert request.headers["range"] == f"bytes={HALF}-"
    assert request.headers["if-range"] == condition


@pytest.mark.parametrize(
    "validators",
    [{}, {"etag": 'W/"1"'}, {"etag": "1"}, {"modified": "yesterday"}, {"modified": "Thu, 01 Jan 2099 00:00:00 GMT"}],
    ids=["none", "weak", "unquoted", "no date", "too new"],
)
def test_without_a_validator_it_begins_anew(
    server: Server, client: Client, part: Path, validators: dict[str, str]
) -> None:
    server.add("/a", CONTENT, **validators)
    file = interrupt(client, server, part)
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT)
    assert "range" not in server.seen[0].headers


def test_a_digest_serves_as_validator(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT)
    file = interrupt(client, server, part, sha1=SHA1)
    check(download(client, [server.url("/a")], part, sha1=SHA1), part)
    assert file.n_sent == len(CONTENT) - HALF


def test_a_date_is_no_validator_within_its_second(server: Server, client: Client, part: Path) -> None:
    """A file that is written while it is served may change twice in a second (RFC 9110, 8.8.2.2)."""
    server.add("/a", CONTENT, modified=MODIFIED, headers={"Date": MODIFIED})
    file = interrupt(client, server, part)
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT)


def test_chunks_go_on_too(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, etag='"1"', framing="chunked")
    file = interrupt(client, server, part)
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT) - HALF


def test_a_server_that_ignores_ranges(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, etag='"1"', ranges=False)
    file = interrupt(client, server, part)
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT)


@pytest.mark.parametrize("content", [OTHER, OTHER[:MIB], OTHER + CONTENT], ids=["same size", "shorter", "longer"])
@pytest.mark.parametrize(
    ("before", "after"),
    [({"etag": '"1"'}, {"etag": '"2"'}), ({"modified": MODIFIED}, {"modified": "Mon, 02 Nov 2026 06:00:00 GMT"})],
    ids=["etag", "date"],
)
def test_a_file_that_changed_begins_anew(
    server: Server, client: Client, part: Path, before: dict[str, str], after: dict[str, str], content: bytes
) -> None:
    server.add("/a", CONTENT, **before)
    interrupt(client, server, part)
    file = server.add("/a", content, **after)
    check(download(client, [server.url("/a")], part), part, content)
    assert (file.n_sent, len(server.seen)) == (len(content), 1)


@pytest.mark.parametrize("content", [OTHER, OTHER[:MIB], OTHER + CONTENT], ids=["same size", "shorter", "longer"])
def test_a_change_is_seen_though_the_server_ignores_if_range(
    server: Server, client: Client, part: Path, content: bytes
) -> None:
    def ignore_condition(answer: Answer) -> None:
        del answer.headers["If-Range"]
        answer.behave()

    server.add("/a", CONTENT, etag='"1"')
    interrupt(client, server, part)
    file = server.add("/a", content, etag='"2"')
    file.script(ignore_condition)
    check(download(client, [server.url("/a")], part), part, content)
    assert len(server.seen) == 2


def test_a_change_between_the_tries_of_a_run(server: Server, client: Client, part: Path) -> None:
    def change(answer: Answer) -> None:
        answer.behave(cut=HALF)
        answer.file.content, answer.file.etag = OTHER, '"2"'

    server.add("/a", CONTENT, etag='"1"').script(change)
    check(download(client, [server.url("/a")], part), part, OTHER)


@pytest.mark.parametrize(
    "headers",
    [
        {"content_range": f"bytes 0-{len(CONTENT) - HALF - 1}/{len(CONTENT)}"},
        {"content_range": f"bytes {HALF + 1}-{len(CONTENT) - 1}/{len(CONTENT)}"},
        {"content_range": f"bytes {HALF}-{len(CONTENT) - 2}/{len(CONTENT)}"},
        {"content_range": f"bytes {HALF}-{HALF - 1}/{len(CONTENT)}"},
        {"content_range": f"bytes */{len(CONTENT)}"},
        {"content_range": "lines 1-2/3"},
        {"content_type": "multipart/byteranges; boundary=x"},
    ],
    ids=["from zero", "later", "wrong length", "negative", "none", "unit", "multipart"],
)
def test_another_range_than_asked_for(server: Server, client: Client, part: Path, headers: dict[str, str]) -> None:
    server.add("/a", CONTENT, etag='"1"')
    interrupt(client, server, part).script(raw(206, CONTENT[HALF:], **headers))
    check(download(client, [server.url("/a")], part), part)
    assert "range" not in server.seen[1].headers


def test_less_than_was_asked_for_is_fine(server: Server, client: Client, part: Path) -> None:
    """A server may send a part of the range (RFC 9110, 15.3.7)."""
    server.add("/a", CONTENT, etag='"1"')
    file = interrupt(client, server, part)
    end = HALF + 1000
    file.script(raw(206, CONTENT[HALF:end], content_range=f"bytes {HALF}-{end - 1}/{len(CONTENT)}"))
    check(download(client, [server.url("/a")], part), part)
    assert [seen.headers["range"] for seen in server.seen] == [f"bytes={HALF}-", f"bytes={end}-"]


def test_a_range_that_nobody_asked_for_may_be_the_whole(server: Server, client: Client, part: Path) -> None:
    whole = raw(206, CONTENT, content_range=f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}")
    server.add("/a", CONTENT).script(whole)
    check(download(client, [server.url("/a")], part), part)


def test_a_range_longer_than_it_says(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, etag='"1"', framing="chunked")
    file = interrupt(client, server, part)
    file.script(raw(206, CONTENT[HALF:] + b"surplus", content_range=f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"))
    check(download(client, [server.url("/a")], part), part)


def test_all_was_there_but_nobody_had_said_so(server: Server, client: Client, part: Path) -> None:
    """416: the end of a file of unknown size had arrived before the connection broke."""
    server.add("/a", CONTENT, etag='"1"', framing="chunked")
    file = interrupt(client, server, part, at=len(CONTENT))
    check(download(client, [server.url("/a")], part), part)
    assert (len(server.seen), file.n_sent) == (1, 0)


@pytest.mark.parametrize("headers", [{"content_range": f"bytes */{MIB}"}, {}], ids=["size", "no size"])
def test_a_file_that_became_shorter(server: Server, client: Client, part: Path, headers: dict[str, str]) -> None:
    server.add("/a", CONTENT, etag='"1"')
    interrupt(client, server, part)
    server.add("/a", OTHER[:MIB], etag='"2"').script(status(416, **headers))
    check(download(client, [server.url("/a")], part), part, OTHER[:MIB])


@pytest.mark.parametrize(
    "state", [None, b"", b"{", b"[]", b'{"url": 5}', b"\xff\xfe", b'{"url": "http://a/", "validator": null}']
)
def test_bytes_of_unknown_origin_are_worth_nothing(
    server: Server, client: Client, part: Path, state: bytes | None
) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    part.parent.mkdir()
    part.write_bytes(OTHER[:HALF])
    if state is not None:
        part.with_name(f"{part.name}.json").write_bytes(state)
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT)


def test_a_part_of_something_else_is_dropped(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, etag='"1"')
    interrupt(client, server, part)
    file = server.add("/b", OTHER, etag='"1"')
    check(download(client, [server.url("/b")], part), part, OTHER)
    assert file.n_sent == len(OTHER)


@pytest.mark.parametrize("change", [{"sha1": SHA1}, {"n_bytes": len(CONTENT)}], ids=["sha1", "n_bytes"])
def test_a_part_of_an_older_version_is_dropped(
    server: Server, client: Client, part: Path, change: dict[str, Any]
) -> None:
    server.add("/a", OTHER[:MIB])
    download(client, [server.url("/a")], part)
    server.add("/a", CONTENT)
    check(download(client, [server.url("/a")], part, **change), part)


def test_a_part_longer_than_its_file_is_dropped(server: Server, client: Client, part: Path) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    download(client, [server.url("/a")], part)
    with part.open("ab") as handle:
        handle.write(b"?")
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == 2 * len(CONTENT)


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


def test_a_wrong_size_is_seen_before_anything_is_lost(server: Server, client: Client, part: Path) -> None:
    """A page that says that the server is being repaired, with status 200."""
    server.add("/a", CONTENT, etag='"1"')
    file = interrupt(client, server, part, n_bytes=len(CONTENT))
    file.script(raw(200, b"<h1>Back soon</h1>"))
    check(download(client, [server.url("/a")], part, n_bytes=len(CONTENT)), part)
    assert file.n_sent == len(CONTENT) - HALF + len(b"<h1>Back soon</h1>")


# Mirrors


@pytest.mark.parametrize("code", [401, 403, 404, 410])
def test_the_next_mirror_at_once(server: Server, client: Client, part: Path, code: int) -> None:
    server.add("/1", b"").script(status(code))
    server.add("/2", CONTENT)
    done = download(client, [server.url("/1"), server.url("/2")], part)
    check(done, part)
    assert done.url == server.url("/2")
    assert len(server.requests("/1")) == 1


def test_the_next_mirror_after_all_tries(server: Server, client: Client, part: Path) -> None:
    server.add("/1", b"").script(*[status(500)] * (RETRIES + 1))
    server.add("/2", CONTENT)
    check(download(client, [server.url("/1"), server.url("/2")], part), part)
    assert len(server.requests("/1")) == RETRIES + 1


def test_all_mirrors_are_named(server: Server, client: Client, part: Path) -> None:
    server.add("/1", b"").script(status(403))
    server.add("/2", b"").script(*[status(500)] * (RETRIES + 1))
    with pytest.raises(SourceError) as error:
        download(client, [server.url(path, userinfo="a:b@") for path in ("/1", "/2", "/3")], part)
    assert str(error.value).split("\n") == [
        f"{server.url('/1')} cannot be downloaded: status 403 Forbidden",
        f"{server.url('/2')} cannot be downloaded: status 500 Internal Server Error "
        "(tries without progress: 4); run again, what is there is kept",
        f"{server.url('/3')} cannot be downloaded: status 404 Not Found",
    ]


def test_a_mirror_goes_on_where_a_digest_tells_in_the_end(server: Server, client: Client, part: Path) -> None:
    server.add("/1", CONTENT, etag='"1"').script(cut(HALF), status(404))
    other = server.add("/2", CONTENT, etag='"another"')
    done = download(client, [server.url("/1"), server.url("/2")], part, sha1=SHA1)
    check(done, part)
    assert (other.n_sent, done.url) == (len(CONTENT) - HALF, server.url("/2"))
    (request,) = server.requests("/2")
    assert "if-range" not in request.headers
    assert (origin(part)["url"], origin(part)["validator"]) == (server.url("/2"), '"another"')


def test_a_mirror_with_another_size_begins_anew(server: Server, client: Client, part: Path) -> None:
    wanted = CONTENT + b"!"
    server.add("/1", OTHER, etag='"1"').script(cut(HALF), status(404))
    other = server.add("/2", wanted)
    urls = [server.url("/1"), server.url("/2")]
    check(download(client, urls, part, sha1=hashlib.sha1(wanted).hexdigest()), part, wanted)
    assert [seen.headers.get("range") for seen in server.requests("/2")] == [f"bytes={HALF}-", None]
    assert other.n_sent >= len(wanted)


def test_a_mirror_begins_anew_where_no_digest_is_known(server: Server, client: Client, part: Path) -> None:
    server.add("/1", CONTENT, etag='"1"').script(cut(HALF), status(404))
    other = server.add("/2", OTHER, etag='"1"')
    check(download(client, [server.url("/1"), server.url("/2")], part), part, OTHER)
    assert other.n_sent == len(OTHER)


def test_a_mirror_that_has_nothing_costs_nothing(server: Server, client: Client, part: Path) -> None:
    server.add("/1", CONTENT, etag='"1"')
    interrupt(client, server, part, "/1")
    server.files["/1"].script(*[status(503)] * (RETRIES + 1))
    with pytest.raises(SourceError):
        download(client, [server.url("/1"), server.url("/none")], part)
    check(download(client, [server.url("/1")], part), part)
    assert server.files["/1"].n_sent == len(CONTENT) - HALF


def test_the_mirror_of_the_part_goes_first(server: Server, client: Client, part: Path) -> None:
    server.add("/1", CONTENT, etag='"1"').script(status(403))
    server.add("/2", CONTENT, etag='"2"')
    interrupt(client, server, part, "/2")
    check(download(client, [server.url("/1"), server.url("/2")], part), part)
    assert server.requests("/1") == []


def test_a_mirror_with_wrong_content(server: Server, client: Client, part: Path) -> None:
    server.add("/1", OTHER)
    server.add("/2", CONTENT)
    done = download(client, [server.url("/1"), server.url("/2")], part, sha1=SHA1)
    check(done, part)
    assert (len(server.requests("/1")), done.url) == (2, server.url("/2"))


# Disks


def test_there_must_be_room(server: Server, client: Client, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of free bytes is too few for the file and enough for its rest."""
    file = server.add("/a", CONTENT, etag='"1"')
    free = len(CONTENT) - HALF + (64 << 20)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * free, 9 * free, free))
    with pytest.raises(SourceError, match=r"a\.warc\.gz\.part needs another 69\.7 MB, .* has 68\.2 MB free: make room"):
        download(client, [server.url("/a")], part)
    assert file.n_sent <= len(CONTENT)
    assert part.read_bytes() == b""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * free, 0, 10 * free))
    interrupt(client, server, part)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10 * free, 9 * free, free))
    check(download(client, [server.url("/a")], part), part)


def test_a_disk_that_fills_up_keeps_what_it_has(server: Server, client: Client, part: Path) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    with file_size_limit(HALF), pytest.raises(OSError) as error:
        download(client, [server.url("/a")], part)
    assert error.value.errno == errno.EFBIG
    assert part.read_bytes() == CONTENT[:HALF]
    file.n_sent = 0
    check(download(client, [server.url("/a")], part), part)
    assert file.n_sent == len(CONTENT) - HALF


def test_whoever_stops_it_loses_nothing(server: Server, client: Client, part: Path) -> None:
    def stop(n_bytes: int, size: int | None) -> None:
        if n_bytes > MIB:
            raise KeyboardInterrupt

    file = server.add("/a", CONTENT, etag='"1"')
    with pytest.raises(KeyboardInterrupt):
        download(client, [server.url("/a")], part, progress=stop)
    there = part.stat().st_size
    assert there > MIB
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


# Stretches


def spans_of(*spans: tuple[int, int]) -> bytes:
    return b"".join(CONTENT[offset : offset + length] for offset, length in spans)


SPANS = [(0, 100), (100, 50), (1000, MIB), (2 * MIB, 1), (len(CONTENT) - 10, 10)]


@pytest.mark.parametrize(
    ("gap", "ranges"),
    [
        (0, [(0, 149), (1000, 1000 + MIB - 1), (2 * MIB, 2 * MIB), (len(CONTENT) - 10, len(CONTENT) - 1)]),
        (850, [(0, 1000 + MIB - 1), (2 * MIB, 2 * MIB), (len(CONTENT) - 10, len(CONTENT) - 1)]),
        (8 * MIB, [(0, len(CONTENT) - 1)]),
    ],
)
def test_neighbours_come_in_one_request(
    server: Server, client: Client, part: Path, gap: int, ranges: list[tuple[int, int]]
) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    done = download_spans(client, [server.url("/a")], SPANS, part, gap=gap)
    check(done, part, spans_of(*SPANS))
    assert [seen.headers["range"] for seen in server.seen] == [f"bytes={first}-{last}" for first, last in ranges]
    assert [seen.headers.get("if-range") for seen in server.seen] == [None] + ['"1"'] * (len(ranges) - 1)
    assert done.n_fetched == file.n_sent == sum(last + 1 - first for first, last in ranges)


def test_requests_for_several_are_bounded(
    server: Server, client: Client, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "_MOST", 1000)
    spans = [(0, 400), (400, 600), (1000, 1), (1001, 5000), (6001, 999), (7000, 1)]
    server.add("/a", CONTENT, etag='"1"')
    check(download_spans(client, [server.url("/a")], spans, part), part, spans_of(*spans))
    ranges = [seen.headers["range"] for seen in server.seen]
    assert ranges == ["bytes=0-999", "bytes=1000-1000", "bytes=1001-6000", "bytes=6001-7000"]


@pytest.mark.parametrize("validators", [{"etag": '"1"'}, {}], ids=["etag", "none"])
def test_stretches_go_on_where_they_ended(
    server: Server, client: Client, part: Path, validators: dict[str, str]
) -> None:
    file = server.add("/a", CONTENT, **validators)
    file.script(cut(150), cut(1234), *[status(503)] * (RETRIES + 1))
    with pytest.raises(SourceError, match="status 503"):
        download_spans(client, [server.url("/a")], SPANS, part, gap=0)
    assert part.read_bytes() == spans_of(*SPANS)[: 150 + 1234]
    done = download_spans(client, [server.url("/a")], SPANS, part, gap=0)
    check(done, part, spans_of(*SPANS))
    assert file.n_sent == sum(length for _, length in SPANS)
    again = download_spans(client, [server.url("/a")], SPANS, part, gap=0)
    assert (again.sha256, again.n_fetched) == (done.sha256, 0)


@pytest.mark.parametrize("validators", [('"1"', '"2"'), (None, None)], ids=["etag", "size"])
def test_stretches_of_a_file_that_changed_begin_anew(
    server: Server, client: Client, part: Path, validators: tuple[str | None, str | None]
) -> None:
    def change(answer: Answer) -> None:
        answer.behave()
        answer.file.content, answer.file.etag = OTHER + b"!", validators[1]

    server.add("/a", CONTENT, etag=validators[0]).script(change)
    spans = [(5, 10), (MIB, 10), (2 * MIB, 10)]
    check(download_spans(client, [server.url("/a")], spans, part), part, b"".join(OTHER[o : o + n] for o, n in spans))


def test_other_stretches_begin_anew(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, etag='"1"')
    download_spans(client, [server.url("/a")], [(0, 10), (20, 10)], part)
    check(download_spans(client, [server.url("/a")], [(0, 10), (30, 10)], part), part, spans_of((0, 10), (30, 10)))
    check(download(client, [server.url("/a")], part), part)


@pytest.mark.parametrize(
    ("n_bytes", "headers"),
    [
        (10, {"content_range": f"bytes 0-9/{len(CONTENT)}"}),
        (11, {"content_range": f"bytes 100-110/{len(CONTENT)}"}),
        (len(OTHER) - 100, {"content_range": f"bytes 100-{len(CONTENT) - 1}/{len(CONTENT)}"}),
        (10, {}),
    ],
    ids=["other", "longer", "to the end", "unsaid"],
)
def test_stretches_are_those_that_were_asked_for(
    server: Server, client: Client, part: Path, n_bytes: int, headers: dict[str, str]
) -> None:
    file = server.add("/a", CONTENT, etag='"1"')
    file.script(raw(206, OTHER[:n_bytes], **headers))
    check(download_spans(client, [server.url("/a")], [(100, 10)], part), part, spans_of((100, 10)))
    file.script(*[raw(206, OTHER[:n_bytes], **headers)] * 10)
    with pytest.raises(SourceError, match="asked for the bytes 200-209, the server sent "):
        download_spans(client, [server.url("/a")], [(200, 10)], part)


@pytest.mark.parametrize("spans", [[(len(CONTENT), 1)], [(0, 1), (len(CONTENT) - 1, 2)], [(len(CONTENT) - 1, 2)]])
@pytest.mark.parametrize("ranges", [True, False])
def test_stretches_beyond_the_end(
    server: Server, client: Client, part: Path, spans: list[tuple[int, int]], ranges: bool
) -> None:
    server.add("/a", CONTENT, etag='"1"', ranges=ranges)
    with pytest.raises(SourceError, match="/a cannot be downloaded: it (ends|has 2621440 bytes)"):
        download_spans(client, [server.url("/a")], spans, part)
    assert len(server.seen) <= 2


def test_a_small_file_is_cut_where_ranges_are_ignored(server: Server, client: Client, part: Path) -> None:
    file = server.add("/a", CONTENT, etag='"1"', ranges=False)
    check(download_spans(client, [server.url("/a")], SPANS, part, gap=0), part, spans_of(*SPANS))
    assert (len(server.seen), file.n_sent) == (1, len(CONTENT))


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_file_is_not_fetched_for_a_few_stretches(
    server: Server, client: Client, part: Path, monkeypatch: pytest.MonkeyPatch, framing: str
) -> None:
    monkeypatch.setattr(transfer, "_MOST", len(CONTENT))
    server.add("/a", CONTENT, ranges=False, framing=framing)
    server.add("/b", CONTENT)
    with pytest.raises(SourceError, match="/a cannot be downloaded: the server sends the whole file where 5 stretches"):
        download_spans(client, [server.url("/a")], SPANS, part)
    assert len(server.seen) == 1
    done = download_spans(client, [server.url("/a"), server.url("/b")], SPANS, part)
    assert done.url == server.url("/b")


@pytest.mark.parametrize("spans", [[], [(0, 0)], [(0, -1)], [(-1, 5)], [(0, 2), (1, 2)], [(5, 1), (0, 1)]])
def test_stretches_must_make_sense(client: Client, part: Path, spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        download_spans(client, ["http://127.0.0.1:1/"], spans, part)
    assert not part.exists()
