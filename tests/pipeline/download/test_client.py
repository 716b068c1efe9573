"""Requests with manners, against a server on the loopback interface that misbehaves as told."""

import importlib.metadata
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from corpusmill.pipeline.download import client as client_module
from corpusmill.pipeline.download.client import Client, redact
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.recipe import Fetch
from tests.pipeline.download.server import Server, cut, date_in, raw, redirect, reset, stall, status, together

CONTENT = "城市的空气使人自由".encode() * 1000
CERTIFICATE = Path(__file__).with_name("loopback.pem")
RETRIES = 3


@pytest.fixture(scope="module")
def patient_client() -> Iterator[tuple[Client, list[float]]]:
    pauses: list[float] = []
    settings = Fetch(requests_per_second=1000, retries=RETRIES, stall_seconds=0.5)
    with Client(settings, pause=pauses.append) as client:
        yield client, pauses


@pytest.fixture
def client(patient_client: tuple[Client, list[float]]) -> Client:
    """A client that is tried four times; no time passes in between."""
    return patient_client[0]


@pytest.fixture
def pauses(patient_client: tuple[Client, list[float]]) -> list[float]:
    """Seconds that the client paused between tries."""
    patient_client[1].clear()
    return patient_client[1]


# What arrives


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_document_arrives_whole(server: Server, client: Client, framing: str) -> None:
    server.add("/a", CONTENT, framing=framing)
    assert client.get(server.url("/a")) == CONTENT


@pytest.mark.parametrize("code", [404, 410])
def test_none_where_there_is_none(server: Server, client: Client, code: int) -> None:
    server.add("/a", b"").script(status(code))
    assert client.get(server.url("/a")) is None
    assert len(server.seen) == 1


def test_it_says_who_asks_and_wants_the_file_as_it_is_stored(server: Server, client: Client) -> None:
    server.add("/a", b"")
    client.get(server.url("/a"))
    with Client(Fetch(user_agent="lab/1 (a@b.example)")) as other:
        other.get(server.url("/a"))
    first, second = (seen.headers for seen in server.seen)
    assert first["user-agent"] == f"corpusmill/{importlib.metadata.version('corpusmill')}"
    assert second["user-agent"] == "lab/1 (a@b.example)"
    assert first["accept-encoding"] == second["accept-encoding"] == "identity"


def test_a_content_encoding_is_left_alone(server: Server, client: Client) -> None:
    server.add("/a", b"\x1f\x8b no gzip at all", headers={"content-encoding": "gzip"})
    assert client.get(server.url("/a")) == b"\x1f\x8b no gzip at all"


def test_a_document_has_a_limit(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_DOCUMENT", 1 << 20)
    server.add("/a", bytes((1 << 20) + 1))
    server.add("/b", bytes(1 << 20))
    with pytest.raises(SourceError, match="/a cannot be downloaded: it is larger than the 1 MiB"):
        client.get(server.url("/a"))
    assert client.get(server.url("/b")) == bytes(1 << 20)
    assert len(server.requests("/a")) == 1


def test_size(server: Server, client: Client) -> None:
    server.add("/a", CONTENT)
    server.add("/chunks", CONTENT, framing="chunked")
    server.add("/get-only", CONTENT).script(status(405))
    assert client.size(server.url("/a")) == len(CONTENT)
    assert client.size(server.url("/chunks")) is None
    assert client.size(server.url("/get-only")) is None
    with pytest.raises(SourceError, match="/none cannot be downloaded: status 404 Not Found"):
        client.size(server.url("/none"))
    assert {seen.method for seen in server.seen} == {"HEAD"}
    assert sum(file.n_sent for file in server.files.values()) == 0


# Addresses


@pytest.mark.parametrize("path", ["/维基百科/数据 1.gz", "/100%25.gz", "/a?b=c&d=é e", "/a?b=%2F"])
def test_any_characters(server: Server, client: Client, path: str) -> None:
    server.add(path.partition("?")[0].replace("%25", "%"), CONTENT)
    assert client.get(server.url(path)) == CONTENT
    target = server.seen[0].target
    assert target.isascii()
    assert " " not in target
    assert ("?" in target) == ("?" in path)


def test_ipv6(client: Client) -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with Server(host="::1") as server:
        server.add("/a", CONTENT)
        assert client.get(server.url("/a")) == CONTENT


@pytest.mark.parametrize("url", ["ftp://example.com/x", "no url", "http://", "http://example.com:port/", "http://a\n/"])
def test_what_is_no_web_address(client: Client, pauses: list[float], url: str) -> None:
    with pytest.raises(SourceError, match="cannot be downloaded: it is no address of the web"):
        client.get(url)
    assert pauses == []


def test_a_password_is_sent_but_never_told(server: Server, client: Client) -> None:
    server.add("/a", CONTENT).script(redirect("/b"), status(403))
    server.add("/b", CONTENT)
    url = server.url("/a", userinfo="anna:geheim@")
    assert client.get(url) == CONTENT
    with pytest.raises(SourceError) as error:
        client.get(url)
    assert [seen.headers["authorization"] for seen in server.seen] == ["Basic YW5uYTpnZWhlaW0="] * 3
    assert str(error.value) == f"{server.url('/a')} cannot be downloaded: status 403 Forbidden"


def test_what_is_left_out() -> None:
    assert redact("https://anna:ge@heim@example.com:80/a?b#c") == "https://example.com:80/a"
    assert redact("https://example.com/@scope/a?mail=a@b") == "https://example.com/@scope/a"


# Redirects


def test_redirects_are_followed(server: Server, client: Client) -> None:
    server.add("/a", b"").script(redirect("/b", 301))
    server.add("/b", b"").script(redirect(server.url("/c"), 308))
    server.add("/c", CONTENT)
    assert client.get(server.url("/a")) == CONTENT


def test_redirects_end(server: Server, client: Client) -> None:
    server.add("/a", b"").script(*[redirect("/a")] * 20)
    with pytest.raises(SourceError, match="/a cannot be downloaded: more than 10 redirects"):
        client.get(server.url("/a"))
    assert len(server.seen) == 11


def test_encryption_is_not_given_up(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    server.add("/plain", CONTENT)
    with Server(certificate=CERTIFICATE) as safe, Client(Fetch()) as trusting:
        safe.add("/a", CONTENT)
        safe.add("/b", b"").script(redirect(server.url("/plain")))
        assert trusting.get(safe.url("/a")) == CONTENT
        with pytest.raises(SourceError, match="/b cannot be downloaded: it redirects from https to"):
            trusting.get(safe.url("/b"))
    assert server.seen == []


# What fails for good


@pytest.mark.parametrize("code", [400, 401, 403, 418, 451, 501, 505, 204, 206, 304, 416])
def test_statuses_that_do_not_change(server: Server, client: Client, pauses: list[float], code: int) -> None:
    server.add("/a", CONTENT).script(status(code))
    with pytest.raises(SourceError, match=f"/a cannot be downloaded: status {code}"):
        client.get(server.url("/a"))
    assert (len(server.seen), pauses) == (1, [])


def test_a_certificate_that_nobody_vouches_for(client: Client, pauses: list[float]) -> None:
    with Server(certificate=CERTIFICATE) as server:
        with pytest.raises(SourceError, match=r"its certificate is not trusted: self.signed certificate"):
            client.get(server.url("/a"))
        assert (server.seen, pauses) == ([], [])


def test_a_host_that_does_not_exist(client: Client, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match="http://dumps.invalid/a cannot be downloaded: no such host"):
        client.get("http://dumps.invalid/a")
    assert pauses == []


# What may pass


def test_names_that_cannot_be_resolved_for_now(
    client: Client, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(SourceError, match="Temporary failure in name resolution"):
        client.get("http://dumps.invalid/a")
    assert len(pauses) == RETRIES


def test_nobody_listens(client: Client, pauses: list[float]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/x"
        with pytest.raises(SourceError) as error:
            client.get(url)
    assert str(error.value) == (
        f"{url} cannot be downloaded: [Errno 111] Connection refused (tries without progress: {RETRIES + 1}); "
        "run again, what is there is kept"
    )
    assert len(pauses) == RETRIES


def test_plain_text_where_tls_is_expected(server: Server, client: Client, pauses: list[float]) -> None:
    with pytest.raises(SourceError, match="WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|record layer"):
        client.get(server.url("/a").replace("http:", "https:"))
    assert len(pauses) == RETRIES


FAULTS = {
    "500": (status(500), "status 500 Internal Server Error"),
    "503": (status(503), "status 503 Service Unavailable"),
    "429": (status(429), "status 429 Too Many Requests"),
    "408": (status(408), "status 408 Request Timeout"),
    "short": (cut(len(CONTENT) // 2), "peer closed connection"),
    "empty": (cut(0), "peer closed connection"),
    "reset": (reset(), "reset|disconnected"),
    "stall": (stall(5), "nothing arrived for 0.5 s"),
    "garbage": (lambda answer: answer.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "SSH-2.0"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_try_may_succeed(server: Server, client: Client, pauses: list[float], fault: str) -> None:
    step, _ = FAULTS[fault]
    server.add("/a", CONTENT).script(*[step] * 2)
    assert client.get(server.url("/a")) == CONTENT
    assert len(pauses) == 2


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "stall"])
def test_tries_end(server: Server, client: Client, pauses: list[float], fault: str) -> None:
    step, message = FAULTS[fault]
    server.add("/a", CONTENT).script(*[step] * 10)
    with pytest.raises(SourceError, match=rf"/a cannot be downloaded: .*({message}).*progress: {RETRIES + 1}\)"):
        client.get(server.url("/a"))
    assert (len(server.seen), len(pauses)) == (RETRIES + 1, RETRIES)


def test_a_chunked_body_that_breaks_off(server: Server, client: Client) -> None:
    server.add("/a", CONTENT, framing="chunked").script(cut(100))
    assert client.get(server.url("/a")) == CONTENT


def test_what_follows_on_a_body_spoils_nothing(server: Server, client: Client) -> None:
    server.add("/a", b"").script(raw(200, CONTENT + b"surplus", len(CONTENT)))
    server.add("/b", b"good")
    assert client.get(server.url("/a")) == CONTENT
    assert client.get(server.url("/b")) == b"good"


# Pauses


def test_pauses_grow_and_are_spread(server: Server, pauses: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    ranges: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        ranges.append((low, high))
        return high

    monkeypatch.setattr("random.uniform", uniform)
    server.add("/a", CONTENT).script(*[status(500)] * 9)
    with Client(Fetch(requests_per_second=1000), pause=pauses.append) as client, pytest.raises(SourceError):
        client.get(server.url("/a"))
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    assert ranges == [(0, pause) for pause in pauses]


@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7), (lambda: date_in(100), 100), (lambda: date_in(-100), 0), ("soon", 0), ("-5", 0), ("", 0)],
    ids=["seconds", "date", "past", "word", "negative", "empty"],
)
def test_the_server_says_how_long(
    server: Server, client: Client, pauses: list[float], code: int, value: str | Callable[[], str], seconds: float
) -> None:
    told = value if isinstance(value, str) else value()
    server.add("/a", CONTENT).script(status(code, retry_after=told))
    assert client.get(server.url("/a")) == CONTENT
    assert len(pauses) == 1
    assert seconds - 1 <= pauses[0] <= seconds + 1


def test_a_date_counts_by_the_clock_of_the_server(server: Server, client: Client, pauses: list[float]) -> None:
    answer = raw(503, b"", date="Sun, 01 Nov 2026 06:00:00 GMT", retry_after="Sun, 01 Nov 2026 06:00:30 GMT")
    server.add("/a", CONTENT).script(answer)
    assert client.get(server.url("/a")) == CONTENT
    assert 30 <= pauses[0] <= 31


@pytest.mark.parametrize("value", ["601", "999999999", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_nobody_waits_for_hours(server: Server, client: Client, pauses: list[float], value: str) -> None:
    server.add("/a", CONTENT).script(status(503, retry_after=value))
    with pytest.raises(SourceError, match=r"status 503 Service Unavailable, .* come back in \d+ s: run again then"):
        client.get(server.url("/a"))
    assert pauses == []


# Limits of a host


def test_requests_per_second_over_all_lanes(server: Server) -> None:
    """Three lanes that know nothing of each other: together at most 60 requests start in any second."""
    server.add("/a", b"")
    n_lanes, rate = 3, 60

    def lane() -> None:
        with Client(Fetch(requests_per_second=rate), lanes=n_lanes) as client:
            while time.monotonic() < end:
                client.get(server.url("/a"))

    end = time.monotonic() + 1.5
    together(*[lane] * n_lanes)
    times = sorted(seen.time for seen in server.seen)
    busiest = max(sum(start <= time < start + 1 for time in times) for start in times)
    assert rate / 2 < busiest <= rate + 2 * n_lanes  # the first of each lane, and one that came late


def test_retries_and_redirects_are_paced_too(server: Server, pauses: list[float]) -> None:
    server.add("/a", CONTENT).script(redirect("/a"), status(500), status(500))
    with Client(Fetch(requests_per_second=10), pause=pauses.append) as client:
        client.get(server.url("/a"))
    assert len(server.seen) == 4
    assert server.seen[-1].time - server.seen[0].time > 0.25


def test_a_lane_has_one_connection(server: Server, client: Client) -> None:
    server.add("/a", CONTENT)
    for _ in range(5):
        client.get(server.url("/a"))
    assert server.n_connections == 1
