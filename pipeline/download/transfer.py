"""Files, and stretches of files, by HTTP into a part that survives interruptions.

A part is only ever continued with bytes of the file that it began with: the server confirms it by a validator
(RFC 9110, 13.1.5), or a digest does in the end. Everything else begins at zero.
"""

import abc
import hashlib
import itertools
import json
import shutil
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

import httpx

from corpusmill.pipeline.download.client import Client, PermanentError, TemporaryError, redact
from corpusmill.pipeline.download.headers import body_length, content_range, validator
from corpusmill.pipeline.download.part import Origin, Part, remove_part
from corpusmill.schemas.console import human_bytes
from corpusmill.schemas.errors import SourceError

__all__ = ["Downloaded", "Progress", "download", "download_spans", "remove_part"]

Progress = Callable[[int, int | None], None]

_MOST: Final = 64 << 20  # bytes that a request for several spans brings
_RESERVE: Final = 64 << 20  # bytes that stay free on the disk


@dataclass(frozen=True, kw_only=True, slots=True)
class Downloaded:
    """A part that is complete and verified.

    Attributes:
        sha256: of the content, 64 hex digits.
        n_bytes: size.
        url: mirror that it is from, without user name and password.
        n_fetched: bytes that came over the network, what was dropped or fetched twice included.
    """

    sha256: str
    n_bytes: int
    url: str
    n_fetched: int


def download(
    client: Client,
    urls: Sequence[str],
    part: Path,
    *,
    n_bytes: int | None = None,
    sha1: str | None = None,
    progress: Progress | None = None,
) -> Downloaded:
    """Fetch a file into `part`, or the rest of it if an interrupted run left some there.

    The bytes are those on the wire: what a server compresses though `Accept-Encoding: identity` asks for the file
    as it is stored, is not decoded. A part that is complete is verified and not fetched. While another process
    works on the same part, this one waits and takes what that one made. The caller moves the part to its place,
    then calls `remove_part`.

    Args:
        client: of the lane.
        urls: mirrors of the file, in order; the one that a part is from goes first.
        part: local path; `part.json` beside it holds where the bytes are from.
        n_bytes: size that the file must have.
        sha1: digest that it must have, 40 hex digits.
        progress: is called with the bytes that are there and the size, None where that is unknown.

    Raises:
        SourceError: no mirror gives the file, or gives it with this size and digest, after a second try from zero; or
            the disk has no room for it. What is there is kept.
        OSError: writing fails; what was written is kept.
    """
    with Part(part, with_sha1=sha1 is not None) as file:
        return _File(client, file, n_bytes=n_bytes, sha1=sha1, progress=progress).run(urls)


def download_spans(
    client: Client, urls: Sequence[str], spans: Sequence[tuple[int, int]], part: Path, *, gap: int = 64 << 10
) -> Downloaded:
    """Fetch stretches of a file, one after the other, into `part`; what an interrupted run left is taken up.

    Neighbours come in one request of at most 64 MiB, unless a single span is larger.

    Args:
        client: of the lane.
        urls: mirrors of the file, in order.
        spans: offset and length of each stretch in bytes, ascending, not overlapping, at least one.
        part: see `download`.
        gap: most bytes between neighbours that are fetched and dropped to save a request.

    Raises:
        SourceError: no mirror gives the stretches; a server that ignores `Range` does only for a file below 64 MiB.
        OSError: writing fails.
        ValueError: the spans are not as described.
    """
    ends = [0, *(offset + length for offset, length in spans)]
    if not spans or any(offset < end or length <= 0 for (offset, length), end in zip(spans, ends, strict=False)):
        raise ValueError("spans must be ascending pairs of offset and length that do not overlap, at least one")
    with Part(part, with_sha1=False) as file:
        return _Spans(client, file, spans, gap=gap).run(urls)


class _Transfer(abc.ABC):
    """What a whole file and its stretches have in common: requests until the part is complete."""

    def __init__(
        self,
        client: Client,
        part: Part,
        *,
        n_bytes: int | None = None,
        sha1: str | None = None,
        spans: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._client = client
        self._part = part
        self._n_bytes = n_bytes
        self._sha1 = None if sha1 is None else sha1.lower()
        self._spans_key = spans
        self._progress = progress
        self._n_fetched = 0
        self._wrong: set[str] = set()  # mirrors that gave other content than expected

    def run(self, urls: Sequence[str]) -> Downloaded:
        found = self._part.origin
        if found is not None and self._is_ours(found, urls):
            self._part.take_up()
            urls = sorted(urls, key=lambda url: redact(url) != found.url)
        else:
            self._part.restart()
        origin = self._client.persist(urls, self._attempt, self._position)
        return Downloaded(
            sha256=self._part.sha256, n_bytes=self._part.n_bytes, url=origin.url, n_fetched=self._n_fetched
        )

    def _is_ours(self, origin: Origin, urls: Sequence[str]) -> bool:
        """Whether what lies in the part can be the beginning of what is wanted now."""
        total = self._total(origin.size)
        return (
            (origin.sha1, origin.spans) == (self._sha1, self._spans_key)
            and (self._sha1 is not None or origin.url in map(redact, urls))
            and (total is None or self._part.n_found <= total)
        )

    def _position(self, url: str) -> int:
        origin = self._part.origin
        return self._part.n_bytes if origin is not None and origin.url == redact(url) else 0

    def _attempt(self, url: str) -> Origin:
        while (origin := self._finished()) is None:
            self._request(url)
        n_bytes, sha1 = self._part.n_bytes, None if self._sha1 is None else self._part.sha1
        if self._n_bytes not in (None, n_bytes):
            self._part.restart()
            self._reject(url, f"it has {n_bytes} bytes instead of {self._n_bytes}")
        if sha1 != self._sha1:
            self._part.restart()
            self._reject(url, f"its sha1 is {sha1} instead of {self._sha1}")
        return origin

    def _request(self, url: str) -> None:
        """Get further by one request, from where the part ends or from zero."""
        origin = self._part.origin if self._can_continue(url) else None
        first, last = self._wanted(0 if origin is None else self._part.n_bytes)
        headers = {}
        if first > 0 or last is not None:
            headers["Range"] = f"bytes={first}-{'' if last is None else last}"
        if origin is not None and origin.url == redact(url) and origin.validator is not None:
            headers["If-Range"] = origin.validator
        with self._client.stream("GET", url, headers) as response:
            match response.status_code:
                case httpx.codes.OK:
                    size = self._whole_size(response, origin)
                    self._begin(url, response, size, None)
                    self._receive(response, 0, size)
                case httpx.codes.PARTIAL_CONTENT:
                    end, size = self._partial_range(response, first, last)
                    self._begin(url, response, size, origin)
                    self._receive(response, first, end - first)
                case httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                    self._out_of_range(response, origin)
                case status:
                    raise PermanentError(f"status {status} {response.reason_phrase}")

    def _begin(self, url: str, response: httpx.Response, size: int | None, origin: Origin | None) -> None:
        """Make the part ready for a body, either what follows on its bytes from `origin`, or the beginning."""
        if size is not None and self._n_bytes not in (None, size):
            self._reject(url, f"it has {size} bytes instead of {self._n_bytes}")
        mark = validator(response)
        if origin is None:
            self._part.restart()
        elif _differs(origin, url, mark, size):
            self._start_over("it changed on the server")
        else:
            size = origin.size if size is None else size
            mark = origin.validator if mark is None and origin.url == redact(url) else mark
        self._check_space(size)
        self._part.record(Origin(url=redact(url), validator=mark, size=size, sha1=self._sha1, spans=self._spans_key))

    def _receive(self, response: httpx.Response, at: int, n_bytes: int | None) -> None:
        """Write a body that begins at byte `at` of the file and has `n_bytes`, None where that is unknown."""
        part = self._part
        end = None if n_bytes is None else at + n_bytes
        self._report()
        try:
            for piece in self._client.body(response):
                self._n_fetched += len(piece)
                if end is not None and at + len(piece) > end:
                    self._start_over(f"the server sent more than the {n_bytes} bytes that it announced")
                before = part.n_bytes
                self._take(piece, at)
                at += len(piece)
                if part.n_bytes > before:
                    self._report()
        finally:
            part.flush()
        if end is not None and at < end:
            raise TemporaryError(f"the body ended {end - at} bytes early")
        if end is None and part.origin is not None:
            part.record(replace(part.origin, size=at))
        self._report()

    def _partial_range(self, response: httpx.Response, asked: int, last: int | None) -> tuple[int, int | None]:
        """End of the range that a 206 brings, and the size of the file; less than was asked is fine (15.3.7)."""
        first, reached, size = content_range(response)
        if size is not None and last is not None and last >= size:
            raise PermanentError(f"it has {size} bytes, and the bytes {asked}-{last} are wanted")
        is_asked = first == asked and reached is not None and asked <= reached and (last is None or reached <= last)
        if not is_asked or reached is None:
            wanted = f"{asked}-{'' if last is None else last}"
            got = response.headers.get("Content-Range", "none of them")
            self._start_over(f"asked for the bytes {wanted}, the server sent {got}")
        return reached + 1, size

    def _reject(self, url: str, reason: str) -> NoReturn:
        if url in self._wrong:
            raise PermanentError(f"{reason}, also when fetched again")
        self._wrong.add(url)
        raise TemporaryError(reason)

    def _start_over(self, reason: str) -> NoReturn:
        self._part.restart()
        raise TemporaryError(reason)

    def _check_space(self, size: int | None) -> None:
        total = self._total(size)
        need = (0 if total is None else total - self._part.n_bytes) + _RESERVE
        free = shutil.disk_usage(self._part.path.parent).free
        if free < need:
            raise SourceError(
                f"{self._part.path} needs another {human_bytes(need)}, {human_bytes(_RESERVE)} of them in reserve, but "
                f"its disk has {human_bytes(free)} free: make room and run again; what is there is kept"
            )

    def _report(self) -> None:
        if self._progress is not None:
            origin = self._part.origin
            self._progress(self._part.n_bytes, None if origin is None else self._total(origin.size))

    @abc.abstractmethod
    def _can_continue(self, url: str) -> bool:
        """Whether a request of this mirror may go on where the part ends."""

    @abc.abstractmethod
    def _wanted(self, position: int) -> tuple[int, int | None]:
        """First and last byte of the file that come next; None: up to its end."""

    @abc.abstractmethod
    def _take(self, piece: bytes, at: int) -> None:
        """Write what is wanted of the bytes from `at` on."""

    @abc.abstractmethod
    def _total(self, size: int | None) -> int | None:
        """Bytes of the complete part, given the size of the file."""

    @abc.abstractmethod
    def _finished(self) -> Origin | None:
        """Where the bytes are from, if all are there."""

    @abc.abstractmethod
    def _whole_size(self, response: httpx.Response, origin: Origin | None) -> int | None:
        """Size of the file whose whole content the server sends; raises where that does not help."""

    @abc.abstractmethod
    def _out_of_range(self, response: httpx.Response, origin: Origin | None) -> None:
        """Draw the conclusion from status 416 (RFC 9110, 15.5.17)."""


class _File(_Transfer):
    """A whole file."""

    def _can_continue(self, url: str) -> bool:
        origin = self._part.origin
        if origin is None or self._part.n_bytes == 0:
            return False
        confirmed = origin.url == redact(url) and origin.validator is not None
        return confirmed or (self._sha1 is not None and origin.size is not None)

    def _wanted(self, position: int) -> tuple[int, int | None]:
        return position, None

    def _take(self, piece: bytes, at: int) -> None:
        self._part.write(piece)

    def _total(self, size: int | None) -> int | None:
        return size

    def _finished(self) -> Origin | None:
        origin = self._part.origin
        return origin if origin is not None and origin.size == self._part.n_bytes else None

    def _whole_size(self, response: httpx.Response, origin: Origin | None) -> int | None:
        length = body_length(response)
        return self._n_bytes if length is None else length

    def _out_of_range(self, response: httpx.Response, origin: Origin | None) -> None:
        _, _, size = content_range(response)
        if origin is None or size != self._part.n_bytes:
            self._start_over("it became shorter on the server")
        self._part.record(replace(origin, size=size))  # the end was reached, and nobody had said so


class _Spans(_Transfer):
    """Stretches of a file."""

    def __init__(self, client: Client, part: Part, spans: Sequence[tuple[int, int]], *, gap: int) -> None:
        key = hashlib.sha256(json.dumps([list(span) for span in spans]).encode()).hexdigest()
        super().__init__(client, part, spans=key)
        self._spans = spans
        self._starts = list(itertools.accumulate((length for _, length in spans), initial=0))  # in the part
        self._gap = gap

    def _can_continue(self, url: str) -> bool:
        origin = self._part.origin
        if origin is None or self._part.n_bytes == 0:
            return False
        return origin.url == redact(url) and (origin.validator is not None or origin.size is not None)

    def _wanted(self, position: int) -> tuple[int, int | None]:
        index, first, end = self._at(position)
        for offset, length in itertools.islice(self._spans, index + 1, None):
            if offset - end > self._gap or offset + length - first > _MOST:
                break
            end = offset + length
        return first, end - 1

    def _at(self, position: int) -> tuple[int, int, int]:
        """Number of the span at a position of the part, the byte of the file there, the end of the span."""
        index = bisect_right(self._starts, position) - 1
        offset, length = self._spans[index]
        return index, offset + position - self._starts[index], offset + length

    def _take(self, piece: bytes, at: int) -> None:
        view = memoryview(piece)
        while self._part.position < self._starts[-1]:
            _, first, end = self._at(self._part.position)
            if first >= at + len(piece):
                break
            self._part.write(view[first - at : end - at])

    def _total(self, size: int | None) -> int | None:
        return self._starts[-1]

    def _finished(self) -> Origin | None:
        return self._part.origin if self._part.n_bytes == self._starts[-1] else None

    def _whole_size(self, response: httpx.Response, origin: Origin | None) -> int | None:
        size, end = body_length(response), sum(self._spans[-1])
        if size is None or size >= _MOST:
            if origin is not None and origin.validator not in (None, validator(response)):
                self._start_over("it changed on the server")
            raise PermanentError(f"the server sends the whole file where {len(self._spans)} stretches are asked for")
        if size < end:
            raise PermanentError(f"it ends at byte {size}, before the byte {end - 1} that is wanted")
        return size

    def _out_of_range(self, response: httpx.Response, origin: Origin | None) -> None:
        first, last = self._wanted(self._part.n_bytes)
        raise PermanentError(f"it ends before the bytes {first}-{last} that are wanted")


def _differs(origin: Origin, url: str, mark: str | None, size: int | None) -> bool:
    """Whether the answer is about another file than the bytes that we have are from."""
    if size is not None and origin.size not in (None, size):
        return True
    return origin.url == redact(url) and None not in (mark, origin.validator) and mark != origin.validator
