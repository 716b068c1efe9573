"""Downloads from a real server on the loopback interface."""

import importlib.metadata
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from corpusmill.pipeline.sources.download import download
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.files import Files

CONTENT = "柏林".encode() * 500_000


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT in the ways that the tests ask for by path."""

    seen: dict[str, str]

    def do_GET(self) -> None:
        type(self).seen = dict(self.headers.items())
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "/whole")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/none":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        if self.path == "/encoded":
            self.send_header("Content-Encoding", "gzip")
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if self.path == "/short" else CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()
        thread.join()


@pytest.mark.parametrize(("path", "size"), [("/whole", len(CONTENT)), ("/moved", len(CONTENT)), ("/unsized", None)])
def test_content_arrives(server: str, tmp_path: Path, path: str, size: int | None) -> None:
    files = Files(tmp_path)
    out = files.stage("raw/a.warc.gz")
    calls: list[tuple[int, int | None]] = []
    download(server + path, out, progress=lambda n, total: calls.append((n, total)))
    assert not files.exists("raw/a.warc.gz")
    assert out.publish().n_bytes == len(CONTENT)
    assert files.read_bytes("raw/a.warc.gz") == CONTENT
    assert calls[-1] == (len(CONTENT), size)
    assert [n for n, _ in calls] == sorted({n for n, _ in calls})


def test_it_says_who_asks_and_wants_the_file_as_it_is_stored(server: str, tmp_path: Path) -> None:
    out = Files(tmp_path).stage("a")
    download(server + "/whole", out)
    out.discard()
    assert Handler.seen["User-Agent"] == f"corpusmill/{importlib.metadata.version('corpusmill')}"
    assert Handler.seen["Accept-Encoding"] == "identity"


def test_a_content_encoding_is_left_alone(server: str, tmp_path: Path) -> None:
    out = Files(tmp_path).stage("a")
    download(server + "/encoded", out)
    assert out.publish().n_bytes == len(CONTENT)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/none", r"/none cannot be downloaded: status 404 Not Found"),
        ("/short", r"/short cannot be downloaded: .*1500000"),
    ],
)
def test_a_failed_download_leaves_nothing(server: str, tmp_path: Path, path: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        download(server + path, Files(tmp_path).stage("a"))
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == []


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}/x"
        with pytest.raises(SourceError, match=f"{url} cannot be downloaded: .*refused"):
            download(url, Files(tmp_path).stage("a"))
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == []


@pytest.mark.parametrize("url", ["ftp://example.com/x", "no url", "http://[bad/"])
def test_what_is_no_web_address(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match="cannot be downloaded"):
        download(url, Files(tmp_path).stage("a"))


def test_an_interrupted_download_leaves_nothing(server: str, tmp_path: Path) -> None:
    def stop(n_bytes: int, size: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download(server + "/whole", Files(tmp_path).stage("a"), progress=stop)
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == []
