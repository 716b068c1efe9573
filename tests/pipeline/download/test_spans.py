"""Stretches of a file: in few requests, resumed, of one version."""

from pathlib import Path

import pytest

from corpusmill.pipeline.download import transfer
from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import download, download_spans
from corpusmill.schemas.errors import SourceError
from tests.pipeline.download.parts import CONTENT, MIB, OTHER, RETRIES, check
from tests.pipeline.download.server import Answer, Server, cut, raw, status


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
@pytest.mark.parametrize("large", [False, True])
def test_stretches_of_a_file_that_changed_begin_anew(
    server: Server,
    client: Client,
    part: Path,
    validators: tuple[str | None, str | None],
    large: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(answer: Answer) -> None:
        answer.behave()
        answer.file.content, answer.file.etag = OTHER + b"!", validators[1]

    if large:  # not worth reading through
        monkeypatch.setattr(transfer, "_MOST", MIB)
    server.add("/a", CONTENT, etag=validators[0]).script(change)
    spans = [(5, 10), (MIB, 10), (2 * MIB, 10)]
    check(download_spans(client, [server.url("/a")], spans, part), part, b"".join(OTHER[o : o + n] for o, n in spans))


def test_more_than_the_stretches_begins_anew(server: Server, client: Client, part: Path) -> None:
    server.add("/a", CONTENT, etag='"1"')
    download_spans(client, [server.url("/a")], [(0, 10), (20, 10)], part)
    with part.open("ab") as handle:
        handle.write(b"?")
    check(download_spans(client, [server.url("/a")], [(0, 10), (20, 10)], part), part, spans_of((0, 10), (20, 10)))


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
