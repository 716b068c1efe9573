"""WARC files (ISO 28500), .warc and .warc.gz. fastwarc parses; this module knows where records lie and break.

fastwarc 2.0 stops for good at the first byte that it cannot read, and reports neither a body or gzip member that
ends early nor what follows an empty member, and in a member of several records not where it begins. So each record
is held back until the next one begins: that gives its length, and at damage it is checked before it is believed.
What lies behind damage is one row for now.

In .warc.gz files offset and length are those of the gzip member, as a rule one a record. The records of a member
that holds several have no length and are told apart by `record_index`. A record may also fill several members; one
whose header does, as in files packed by bgzip, gets the offset of the member in which its header ends.
"""

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final, cast

from fastwarc.stream_io import GzipReader
from fastwarc.warc import ArchiveIterator

from corpusmill.pipeline.sources.body import BodyError, decode_body
from corpusmill.pipeline.sources.record import (
    Record,
    Slice,
    damaged,
    is_decode_error,
    open_input,
    parse_date,
)

__all__ = ["ranges", "records"]

_RECORDS: Final = ("response", "resource", "conversion")
_HTML: Final = ("text/html", "application/xhtml+xml")
_GZIP = b"\x1f\x8b"
_MAX_HEADER = 1 << 20
_BLOCK = 1 << 16
_MEDIA_TYPE = re.compile(r"\s*([\w.+-]+/[\w.+-]+)")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,]+)", re.IGNORECASE)


def ranges(location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """A WARC file is one range: members can be found only by reading the file."""
    return [(0, n_bytes)]


def records(piece: Slice, counts: Counter[str]) -> Iterator[Record]:
    """The responses, resources and conversions of a whole WARC file.

    Args:
        piece: the file, from 0 to its size.
        counts: gets "warc_<type>" for each record of another type.

    Yields:
        A record each; one row "damaged" for the stretch from the first record that cannot be read to the end of
        the file; a record whose HTTP body alone is bad is "damaged" by itself.

    Raises:
        SourceError: there is no such file.
        OSError: the disk or the network failed.
    """
    with open_input(piece.location) as file:
        position = piece.start
        while position < piece.end:
            scan = _Scan(piece, file, position)
            for kind, record in scan:
                if record is None:
                    counts[f"warc_{kind}"] += 1
                else:
                    yield record
            position = scan.end


@dataclass(slots=True)
class _Held:
    """The last record read.

    Attributes:
        offset: start of the record, or of the gzip member it begins in.
        index: number of the record in that member.
        kind: WARC-Type.
        last: start of the gzip member that the record ends in.
        record: None for types that are only counted.
        complete: whether all bytes that its header announces were there.
    """

    offset: int
    index: int
    kind: str
    last: int
    record: Record | None = None
    complete: bool = False

    def release(self, end: int | None) -> tuple[str, Record | None]:
        """The record, now that the next one, or the end, is known to lie in the member that starts at `end`."""
        if self.record is not None and end is not None and self.index == 0 and self.last < end:
            self.record.length = end - self.offset
        return self.kind, self.record


class _Scan:
    """One pass of fastwarc over a file, from `start` to where it stops; `end` is where to go on."""

    def __init__(self, piece: Slice, file: IO[bytes], start: int) -> None:
        self.end = piece.end
        self._piece = piece
        self._file = file
        self._start = start
        file.seek(start)
        self._is_gzip = file.read(len(_GZIP)) == _GZIP
        bare_lf = _has_bare_lf(file, start, self._is_gzip)
        file.seek(start)
        self._stream: Any = GzipReader(file) if self._is_gzip else file
        self._archive = ArchiveIterator(
            self._stream,
            parse_http=False,
            quirks_mode=bare_lf,
            max_header_len=_MAX_HEADER,
            stream_detect=False,
        )

    def __iter__(self) -> Iterator[tuple[str, Record | None]]:
        held: _Held | None = None
        broken = False
        try:
            for raw in self._archive:
                offset = self._offset(raw)
                if held is not None:
                    yield held.release(offset)
                index = held.index + 1 if held is not None and held.offset == offset else 0
                held = _Held(offset=offset, index=index, kind=str(raw.record_type), last=offset)
                self._fill(held, raw)
                if not held.complete:
                    break
        except OSError as error:
            if not is_decode_error(error):
                raise
            broken = True
        yield from (self._end_of_gzip if self._is_gzip else self._end_of_plain)(held, broken)

    def _offset(self, raw: Any) -> int:
        """Start of the slice that is being read: of the record itself, or of the gzip member."""
        position: int | None = self._stream.frame_start_position() if self._is_gzip else raw.stream_pos
        return self._start if position is None else position

    def _fill(self, held: _Held, raw: Any) -> None:
        if held.kind in _RECORDS:
            key = f"{self._piece.file_path}:{held.offset}:{held.index}"
            held.record = Record(key=key, offset=held.offset, record_index=held.index)
            _describe(held.record, raw, held.kind)
        unparsed = held.record is not None and held.record.reason == "damaged_body"
        expected = raw.content_length
        if held.record is None or held.record.reason is not None:
            n_read = raw.reader.consume()
        else:
            body = raw.reader.read()
            n_read = len(body)
            _decode(held.record, body, raw)
        held.last = self._offset(raw)
        held.complete = n_read == expected or unparsed  # fastwarc miscounts after headers that it cannot parse

    def _end_of_gzip(self, held: _Held | None, broken: bool) -> Iterator[tuple[str, Record | None]]:
        """Decide where the stream stopped: at its end, at a member without content, or at damage."""
        member = self._offset(None)
        end = _end_of_member(self._file, member)
        in_member = held is not None and held.last == member
        if held is not None and (
            not held.complete or (in_member and (end is None or (broken and not self._is_terminated(held))))
        ):
            yield self._damaged(held.offset, held.index)
            return
        if held is not None:
            yield held.release(end if in_member else member)
        if broken or end is None:
            yield self._damaged(member, held.index + 1 if held is not None and held.offset == member else 0)
        else:
            self.end = end

    def _end_of_plain(self, held: _Held | None, broken: bool) -> Iterator[tuple[str, Record | None]]:
        after = self._start
        if held is not None:
            self._file.seek(held.offset)
            end = _skip_records(self._file, 1) if held.complete else None
            if end is None:
                yield self._damaged(held.offset)
                return
            yield held.release(end if broken else self._piece.end)
            after = end
        if broken:
            yield self._damaged(after)

    def _is_terminated(self, held: _Held) -> bool:
        """Whether the record ends as it should; if not, its Content-Length is wrong."""
        self._file.seek(held.offset)
        try:
            with gzip.GzipFile(fileobj=self._file) as stream:
                return _skip_records(cast(IO[bytes], stream), held.index + 1) is not None
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return False

    def _damaged(self, offset: int, record_index: int = 0) -> tuple[str, Record]:
        return "", damaged(self._piece.file_path, offset, self._piece.end - offset, record_index, reason="damaged_compression")


def _describe(record: Record, raw: Any, kind: str) -> None:
    """Fill in what the headers say, and the reason if they already tell that there is no document."""
    headers = raw.headers
    record.url = (headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">") or None
    record.date = parse_date(headers.get("WARC-Date"))
    content_type = headers.get("Content-Type")
    if kind == "response" and raw.is_http:
        try:
            raw.parse_http(quirks_mode=True, max_header_len=_MAX_HEADER)
        except OSError as error:
            if not is_decode_error(error):
                raise
            record.reason = "damaged_body"
            return
        content_type = raw.http_headers.get("Content-Type") or headers.get("WARC-Identified-Payload-Type")
        status = raw.http_headers.status_code or 0
        if status != 200:
            record.reason = "redirect" if 300 <= status < 400 else "status"
    media_type = _MEDIA_TYPE.match(content_type or "")
    charset = _CHARSET.search(content_type or "")
    record.media_type = media_type[1].lower() if media_type else None
    record.charset = charset[1].lower() if charset else None
    wanted = (*_HTML, "text/plain") if kind == "conversion" else _HTML
    if record.reason is None and record.media_type not in wanted:
        record.reason = "not_html"
    if record.reason is None and raw.content_length > 64 << 20:
        record.reason = "too_large"


def _decode(record: Record, body: bytes, raw: Any) -> None:
    """Set the content, or the reason why the body has none."""
    http = raw.http_headers if raw.is_http_parsed else {}
    try:
        content = decode_body(
            body,
            transfer_encoding=http.get("Transfer-Encoding") or "",
            content_encoding=http.get("Content-Encoding") or "",
        )
    except BodyError as error:
        record.reason = "damaged_body" if error.reason == "damaged" else error.reason
        return
    record.content = content or None
    record.reason = None if content else "no_text"


def _has_bare_lf(file: IO[bytes], start: int, is_gzip: bool) -> bool:
    """Whether header lines end in a bare LF, which fastwarc understands only in quirks mode."""
    file.seek(start)
    try:
        head: bytes = (GzipReader(file) if is_gzip else file).read(16)
    except OSError as error:
        if not is_decode_error(error):
            raise
        return False
    return head.startswith(b"WARC/") and b"\n" in head and b"\r\n" not in head


def _end_of_member(file: IO[bytes], start: int) -> int | None:
    """Position after the gzip member at `start`; None if it is damaged or cut, trailer included."""
    file.seek(start)
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    n_read = 0
    try:
        while not decoder.eof:
            block = decoder.unconsumed_tail
            if not block:
                block = file.read(_BLOCK)
                n_read += len(block)
            if not block:
                return None
            decoder.decompress(block, _BLOCK)
    except zlib.error:
        return None
    return start + n_read - len(decoder.unused_data)


def _skip_records(stream: IO[bytes], n: int) -> int | None:
    """Position after `n` records; None if one has a broken header or is not followed by a blank line or the end."""
    for _ in range(n):
        length: int | None = None
        line = b"\n"
        while line and not line.strip():
            line = stream.readline(_MAX_HEADER)
        while line.strip():
            name, _, value = line.partition(b":")
            if length is None and name.lower() == b"content-length" and value.strip().isdigit():
                length = int(value)
            line = stream.readline(_MAX_HEADER)
        if not line or length is None:
            return None
        stream.seek(length, 1)
        if stream.readline(3).strip() or stream.readline(3).strip():
            return None
    return stream.tell()
