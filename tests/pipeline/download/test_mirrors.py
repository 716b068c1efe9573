"""Several addresses of one file: which is asked when, and what of a part they share."""

import hashlib
from pathlib import Path

import pytest

from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import download
from corpusmill.schemas.errors import SourceError
from tests.pipeline.download.parts import CONTENT, HALF, OTHER, RETRIES, SHA1, check, interrupt, origin
from tests.pipeline.download.server import Server, cut, status


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
