"""HTTP requests with manners: paced, tried again with growing pauses, then with the next mirror."""

import contextlib
import importlib.metadata
import random
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Self, TypeVar

import httpx

from corpusmill.pipeline.download.headers import body_length, retry_after
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.recipe import Fetch

__all__ = ["Client", "PermanentError", "TemporaryError", "redact"]

T = TypeVar("T")

_CONNECT_SECONDS: Final = 30.0
_LARGEST_PAUSE: Final = 60.0  # seconds, unless the server asks for more
_LONGEST_WAIT: Final = 600.0  # seconds that we wait because a server asks
_MAX_REDIRECTS: Final = 10
_SLOWEST: Final = 100  # bytes a second
_MAX_DOCUMENT: Final = 256 << 20  # bytes

_GONE: Final = frozenset({404, 410})
_NO_HEAD: Final = frozenset({405, 501})
_TEMPORARY: Final = frozenset({408, 425, 429})
_FINAL: Final = frozenset({501, 505})


class TemporaryError(Exception):
    """A try failed, another one may not. Never leaves this package.

    Attributes:
        after: seconds that the server asks to wait.
    """

    def __init__(self, reason: str, *, after: float = 0.0) -> None:
        super().__init__(reason)
        self.after = after


class PermanentError(Exception):
    """Trying this address again cannot help. Never leaves this package.

    Attributes:
        status: of the answer, if that is the reason.
    """

    def __init__(self, reason: str, *, status: int | None = None) -> None:
        super().__init__(reason)
        self.status = status


class Client:
    """Requests of one lane, one after the other over one connection; a context manager.

    The limits of a host hold without coordination where its files are dealt to at most `Fetch.connections` lanes:
    each makes one request at a time, and starts at most its share of `Fetch.requests_per_second`.

    Args:
        settings: limits, retries, how we introduce ourselves.
        lanes: that ask the same host at the same time, this one included.
        lane: number of this one among them; they do not begin all at once.
        pause: waits so many seconds before a further try.
    """

    def __init__(
        self, settings: Fetch, *, lanes: int = 1, lane: int = 0, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._retries = settings.retries
        self._stall_seconds = settings.stall_seconds
        self._pause = pause
        self._interval = lanes / settings.requests_per_second
        self._next_start = time.monotonic() + lane / settings.requests_per_second
        self._http = httpx.Client(
            headers={
                "User-Agent": settings.user_agent or f"corpusmill/{importlib.metadata.version('corpusmill')}",
                "Accept-Encoding": "identity",
            },
            timeout=httpx.Timeout(settings.stall_seconds, connect=min(settings.stall_seconds, _CONNECT_SECONDS)),
            limits=httpx.Limits(max_connections=1),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, url: str) -> bytes | None:
        """A document of at most 256 MiB as it is on the wire; None where there is none (404, 410).

        Raises:
            SourceError: it cannot be had, or is larger.
        """

        def read(url: str) -> bytes | None:
            content = bytearray()
            try:
                with self.stream("GET", url) as response:
                    _expect(response, httpx.codes.OK)
                    for piece in self.body(response):
                        content += piece
                        if len(content) > _MAX_DOCUMENT:
                            raise PermanentError(f"it is larger than the {_MAX_DOCUMENT >> 20} MiB of a document")
            except PermanentError as error:
                if error.status in _GONE:
                    return None
                raise
            return bytes(content)

        return self.persist([url], read)

    def size(self, url: str) -> int | None:
        """Size of a file in bytes; None if the server does not say.

        Raises:
            SourceError: the file cannot be had.
        """

        def ask(url: str) -> int | None:
            try:
                with self.stream("HEAD", url) as response:
                    return body_length(response)
            except PermanentError as error:
                if error.status in _NO_HEAD:
                    return None
                raise

        return self.persist([url], ask)

    def persist(
        self, urls: Sequence[str], attempt: Callable[[str], T], position: Callable[[str], int] = lambda url: 0
    ) -> T:
        """Call `attempt` with one mirror after the other until it returns.

        The next mirror is tried after a `PermanentError`, and when more than `Fetch.retries` tries in a row brought
        nothing new: one that gets further than all before it starts the count anew, so a large file arrives over a
        flaky line. Pauses are drawn from 0 to 1, 2, 4 … 60 seconds (exponential backoff with full jitter: M. Brooker,
        AWS Architecture Blog, 2015), on top of what the server asks for.

        Args:
            urls: mirrors, in order.
            attempt: one try; raises `TemporaryError` or `PermanentError`.
            position: bytes that are there now from a mirror.

        Raises:
            SourceError: no mirror is left; names each with its last failure.
        """
        failures = []
        for url in urls:
            tries, furthest = 0, position(url)
            while True:
                try:
                    return attempt(url)
                except PermanentError as error:
                    reason = str(error)
                    break
                except TemporaryError as error:
                    tries += 1
                    if position(url) > furthest:
                        tries, furthest = 0, position(url)
                    if tries > self._retries:
                        reason = f"{error} (tries without progress: {tries}); run again, what is there is kept"
                        break
                    self._pause(error.after + random.uniform(0, min(_LARGEST_PAUSE, 2.0 ** max(0, tries - 1))))
            failures.append(f"{redact(url)} cannot be downloaded: {reason}")
        raise SourceError("\n".join(failures))

    @contextlib.contextmanager
    def stream(self, method: str, url: str, headers: Mapping[str, str] | None = None) -> Iterator[httpx.Response]:
        """One request, redirects followed; the body is read in the block.

        The status of the response is 2xx, or 416 where `headers` ask for a range.

        Raises:
            TemporaryError: from the block too: no connection, or it broke or stalled; status 5xx or 429.
            PermanentError: any other status, no web address, no such host, no trusted certificate, a redirect that
                cannot be followed.
        """
        try:
            response = self._send(self._http.build_request(method, url, headers=headers))
            try:
                _check_status(response, asked_range=headers is not None and "Range" in headers)
                yield response
            finally:
                response.close()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._sorted(error) from error

    def body(self, response: httpx.Response) -> Iterator[bytes]:
        """The body as it arrives, for use in the block of `stream`.

        Raises:
            PermanentError: it trickles, at less than 100 bytes a second: that is a fault, or malice.
        """
        since, n_bytes = time.monotonic(), 0
        for piece in response.iter_raw():
            n_bytes += len(piece)
            seconds = time.monotonic() - since
            if seconds > self._stall_seconds:
                if n_bytes < _SLOWEST * seconds:
                    raise PermanentError(f"it brought {n_bytes} bytes in {seconds:.0f} s")
                since, n_bytes = time.monotonic(), 0
            yield piece

    def _send(self, request: httpx.Request) -> httpx.Response:
        for _ in range(_MAX_REDIRECTS + 1):
            self._wait_for_turn()
            response = self._http.send(request, stream=True)
            if response.next_request is None:
                return response
            response.close()
            if request.url.scheme == "https" and response.next_request.url.scheme != "https":
                raise PermanentError("it redirects from https to an address without encryption")
            request = response.next_request
        raise PermanentError(f"more than {_MAX_REDIRECTS} redirects")

    def _wait_for_turn(self) -> None:
        now = time.monotonic()
        if now < self._next_start:
            time.sleep(self._next_start - now)
        self._next_start = max(now, self._next_start) + self._interval

    def _sorted(self, error: httpx.HTTPError | httpx.InvalidURL) -> TemporaryError | PermanentError:
        if isinstance(error, (httpx.InvalidURL, httpx.UnsupportedProtocol)):
            return PermanentError(f"it is no address of the web: {error}")
        if isinstance(error, httpx.ConnectTimeout):
            return TemporaryError(f"no connection within {min(self._stall_seconds, _CONNECT_SECONDS):g} s")
        if isinstance(error, httpx.TimeoutException):
            return TemporaryError(f"nothing arrived for {self._stall_seconds:g} s")
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return PermanentError(f"its certificate is not trusted: {cause.verify_message}")
            if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
                return PermanentError(f"no such host: {cause.strerror}")
            cause = cause.__context__
        return TemporaryError(str(error) or type(error).__name__)


def _check_status(response: httpx.Response, *, asked_range: bool) -> None:
    status = response.status_code
    if response.is_success or (asked_range and status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
        return
    reason = f"status {status} {response.reason_phrase}".rstrip()
    if status not in _TEMPORARY and (status < 500 or status in _FINAL):
        raise PermanentError(reason, status=status)
    after = retry_after(response)
    if after > _LONGEST_WAIT:
        raise PermanentError(f"{reason}, and the server asks to come back in {after:.0f} s: run again then")
    raise TemporaryError(reason, after=after)


def _expect(response: httpx.Response, status: int) -> None:
    if response.status_code != status:
        raise PermanentError(f"status {response.status_code} {response.reason_phrase} instead of {status}")


def redact(url: str) -> str:
    """The URL as it may stand in messages and files: without user, password and query, which may be a signature."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url, count=1).partition("?")[0]
