"""A real HTTP server on the loopback interface that can be told to misbehave.

    with Server() as server:
        file = server.add("/a.gz", content, etag='"1"')
        file.script(cut(1000), status(503, retry_after="2"))  # the next two requests; then it behaves
        download(client, [server.url("/a.gz")], part)
        assert file.n_sent == len(content)  # bytes of the body on the wire

A request that finds a script runs its first step instead of the ordinary answer. `Server.seen` holds every request in
the order of arrival. Proxies of the environment are not used while a server runs.
"""

import contextlib
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import unquote

MODIFIED = "Sun, 01 Nov 2026 06:00:00 GMT"
PIECE = 1 << 16

Step = Callable[["Answer"], None]


@dataclass(kw_only=True)
class Served:
    """A file of the server; may be changed while it runs.

    Attributes:
        content: bytes.
        etag: entity tag with its quotes; None: none is sent.
        modified: date of modification; None: none is sent.
        ranges: whether `Range` is understood.
        framing: how a client knows where the body ends: its length, chunks, or that the connection closes.
        rate: bytes a second; None: as fast as it goes.
        headers: further ones, names in lower case.
        steps: what the next requests get.
        n_sent: bytes of bodies sent so far.
    """

    content: bytes
    etag: str | None = None
    modified: str | None = None
    ranges: bool = True
    framing: Literal["length", "chunked", "close"] = "length"
    rate: float | None = None
    headers: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    n_sent: int = 0

    def script(self, *steps: Step) -> None:
        """What the next requests get, one after the other."""
        self.steps += steps


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A request.

    Attributes:
        method: GET or HEAD.
        target: path and query as they came.
        headers: names in lower case.
        time: of arrival, in seconds.
    """

    method: str
    target: str
    headers: dict[str, str]
    time: float


class Server:
    """See the module. A context manager.

    Args:
        host: address to listen on; `::1` for IPv6.
        certificate: PEM file with certificate and key: speak TLS.
    """

    def __init__(self, *, host: str = "127.0.0.1", certificate: Path | None = None) -> None:
        self.files: dict[str, Served] = {}
        self.seen: list[Seen] = []
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.connections: set[socket.socket] = set()
        self.n_connections = 0
        self.n_busy = 0
        self._scheme = "http" if certificate is None else "https"
        self._http = _Http((host, 0), Answer)
        self._http.server = self
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._http.socket = context.wrap_socket(self._http.socket, server_side=True)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._no_proxy = os.environ.get("no_proxy")
        os.environ["no_proxy"] = "*"
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self._http.shutdown()
        self._thread.join()
        for connection in list(self.connections):  # clients may keep theirs open
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._http.server_close()
        del os.environ["no_proxy"]
        if self._no_proxy is not None:
            os.environ["no_proxy"] = self._no_proxy

    def url(self, path: str, *, userinfo: str = "") -> str:
        """The address of a path."""
        host, port = self._http.server_address[:2]
        host = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"{self._scheme}://{userinfo}{host}:{port}{path}"

    def add(self, path: str, content: bytes, **options: Any) -> Served:
        """Serve a file; `options` are attributes of `Served`."""
        self.files[path] = Served(content=content, **options)
        return self.files[path]

    def settle(self) -> None:
        """Wait until every answer has ended, so that `Served.n_sent` no longer grows."""
        while self.n_busy:
            time.sleep(0.001)

    def requests(self, path: str) -> list[Seen]:
        """The requests of a path, in order of arrival."""
        return [seen for seen in self.seen if seen.target.partition("?")[0] == path]


class _Http(ThreadingHTTPServer):
    daemon_threads = False
    server: Server

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that hang up, and handshakes that fail, are what tests are about."""


class Answer(BaseHTTPRequestHandler):
    """One request and its answer; steps of a script get it."""

    protocol_version = "HTTP/1.1"
    server: _Http
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.server.connections.add(self.connection)
        self.server.server.n_connections += 1

    def finish(self) -> None:
        self.server.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        server, path = self.server.server, unquote(self.path.partition("?")[0])
        with server.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            server.seen.append(Seen(method=self.command, target=self.path, headers=headers, time=time.monotonic()))
            file = server.files.get(path)
            step = file.steps.pop(0) if file is not None and file.steps else None
            server.n_busy += 1
        self.file = Served(content=b"") if file is None else file
        try:
            if step is not None:
                step(self)
            elif file is None:
                self.send(404, b"no such file")
            else:
                self.behave()
        finally:
            with server.lock:
                server.n_busy -= 1

    def do_HEAD(self) -> None:
        self.do_GET()

    def behave(self, *, cut: int | None = None) -> None:
        """The ordinary answer, or its first `cut` bytes."""
        content, file = self.file.content, self.file
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")) if file.ranges else None
        if asked is None or self.headers.get("If-Range", file.etag) not in (file.etag, file.modified):
            self.send(200, content, cut=cut)
        elif int(asked[1]) >= len(content):
            self.send(416, b"", {"content-range": f"bytes */{len(content)}"})
        else:
            first, end = int(asked[1]), min(len(content), int(asked[2] or len(content)) + 1)
            named = {"content-range": f"bytes {first}-{end - 1}/{len(content)}"}
            self.send(206, content[first:end], named, cut=cut)

    def send(
        self,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        cut: int | None = None,
        length: int | None = None,
    ) -> None:
        """Send an answer, only `cut` bytes of the body; `length` is announced instead of the true one."""
        file = self.file
        named = {"date": self.date_time_string()}
        if file.framing != "close":
            announced = str(len(body) if length is None else length)
            named |= {"content-length": announced} if file.framing == "length" else {"transfer-encoding": "chunked"}
        if status in (200, 206):
            named |= {"etag": file.etag} if file.etag else {}
            named |= {"last-modified": file.modified} if file.modified else {}
        self.send_response_only(status)
        for name, value in (named | file.headers | dict(headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection |= cut is not None or file.framing == "close"
        n_bytes = 0 if self.command == "HEAD" else len(body) if cut is None else min(cut, len(body))
        for at in range(0, n_bytes, PIECE):
            piece = body[at : min(at + PIECE, n_bytes)]
            with self.server.server.lock:
                file.n_sent += len(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if file.framing == "chunked" else piece)
            if file.rate is not None:
                time.sleep(len(piece) / file.rate)
        if file.framing == "chunked" and cut is None and self.command != "HEAD":
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def cut(n: int) -> Step:
    """The ordinary answer, and the connection is closed after `n` bytes of the body."""
    return lambda answer: answer.behave(cut=n)


def reset() -> Step:
    """No answer but a reset of the connection."""

    def step(answer: Answer) -> None:
        answer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        answer.connection.close()
        answer.close_connection = True

    return step


def stall(n: int) -> Step:
    """The ordinary answer, and nothing more after `n` bytes of the body, while the server runs, 10 s at most."""

    def step(answer: Answer) -> None:
        answer.behave(cut=n)
        answer.server.server.stopped.wait(10)

    return step


def trickle() -> Step:
    """The ordinary answer byte by byte, twenty a second, for 10 s at most."""

    def step(answer: Answer) -> None:
        answer.behave(cut=0)
        for byte in answer.file.content[:200]:
            if answer.server.server.stopped.wait(0.05):
                return
            with contextlib.suppress(OSError):
                answer.wfile.write(bytes([byte]))

    return step


def status(code: int, **headers: str) -> Step:
    """A status without content; `retry_after="2"` becomes the header retry-after."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda answer: answer.send(code, b"", named)


def redirect(location: str, code: int = 302) -> Step:
    """A redirect."""
    return status(code, location=location)


def raw(status: int, body: bytes, length: int | None = None, **headers: str) -> Step:
    """An answer as given; `content_range="bytes 0-1/2"` becomes the header content-range."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda answer: answer.send(status, body, named, length=length)


def date_in(seconds: float) -> str:
    """A date as headers have it."""
    return formatdate(time.time() + seconds, usegmt=True)


def together(*tasks: Callable[[], object]) -> None:
    """Run all at the same time, a thread each, to their ends."""
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
