"""A run that goes on where an interrupted one ended, and never mixes two files; the bytes that were sent prove it."""

from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import download
from corpusmill.schemas.errors import SourceError
from tests.pipeline.download.parts import CONTENT, HALF, MIB, OTHER, RETRIES, SHA1, check, interrupt
from tests.pipeline.download.server import MODIFIED, Answer, Server, raw, status


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
    server.add("/a", CONTENT, modified=MODIFIED, headers={"date": MODIFIED})
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


def test_a_range_need_not_repeat_what_is_known(server: Server, client: Client, part: Path) -> None:
    """No size of the file, no ETag: what the first answer said still holds."""
    server.add("/a", CONTENT, etag='"1"')
    file = interrupt(client, server, part)
    end = HALF + 1000
    file.script(
        raw(206, CONTENT[HALF:end], content_range=f"bytes {HALF}-{end - 1}/*", etag=""),
        raw(206, CONTENT[end:], content_range=f"bytes {end}-{len(CONTENT) - 1}/*"),
    )
    check(download(client, [server.url("/a")], part), part)
    assert [seen.headers.get("if-range") for seen in server.seen] == ['"1"', '"1"']


def test_ranges_without_end(server: Server, client: Client, part: Path) -> None:
    """Empty bodies under headers that promise something must not keep us for ever."""
    server.add("/a", CONTENT, etag='"1"', framing="chunked")
    file = interrupt(client, server, part)
    file.script(*[raw(206, b"", content_range=f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}")] * 20)
    with pytest.raises(SourceError, match=rf"the body ended {len(CONTENT) - HALF} bytes early \(tries"):
        download(client, [server.url("/a")], part)
    assert len(server.seen) == RETRIES + 1
    assert part.read_bytes() == CONTENT[:HALF]


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


@pytest.mark.parametrize("headers", [{"content_range": f"bytes */{MIB}"}, {}], ids=["size", "no size"])
def test_a_server_that_finds_no_range_good(server: Server, client: Client, part: Path, headers: dict[str, str]) -> None:
    server.add("/a", CONTENT, etag='"1"')
    interrupt(client, server, part).script(*[status(416, **headers)] * 10)
    with pytest.raises(SourceError, match="/a cannot be downloaded: status 416"):
        download(client, [server.url("/a")], part)
    assert ["range" in seen.headers for seen in server.seen] == [True, False]


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


@pytest.mark.parametrize("complete", [False, True])
def test_a_part_of_something_else_is_dropped(server: Server, client: Client, part: Path, complete: bool) -> None:
    server.add("/a", CONTENT, etag='"1"')
    if complete:
        download(client, [server.url("/a")], part)
    else:
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
