"""What every reader shares: the slice of a file that it reads, the record that it yields, rows of `tables.RAW`."""

import io
import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import fsspec
import numpy as np
import pyarrow as pa
import xxhash

from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.tables import RAW

__all__ = [
    "DamageReason",
    "Record",
    "RecordBuilder",
    "Slice",
    "choose_starts",
    "damaged",
    "is_decode_error",
    "milliseconds",
    "open_input",
    "parse_date",
    "record_ids",
]

DamageReason = Literal[
    "damaged_compression",
    "damaged_header",
    "damaged_length",
    "damaged_end",
    "damaged_body",
    "damaged_row",
    "bomb",
    "too_large",
]
"""What can be wrong with a stretch of a file.

`damaged_compression`: compressed data that does not decode or fails its checksum; `damaged_header`: no valid record
header where one must be; `damaged_length`: a record that does not end where its header says; `damaged_end`: the file,
or the compressed stream, breaks off; `damaged_body`: an HTTP body whose encoding is broken; `damaged_row`: a line, row
or page that cannot be parsed; `bomb` and `too_large`: see `Slice.max_ratio` and `Slice.max_bytes`.
"""

_MAX_ROWS = 256
_MAX_BATCH = 8 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_BOMB_BYTES = 1 << 20
_SCHEMA = RAW.schema()
_FIELDS = [name for name in _SCHEMA.names if name != "id"]
_get_fields = operator.attrgetter(*_FIELDS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """What one unit reads.

    Attributes:
        source: name of the source in the recipe.
        kind: a key of `sources.KINDS`.
        file_path: name relative to the root of the source; goes into ids and tables, never an absolute path.
        location: local path or fsspec URL that opens the file; with `members` the folder that they lie in.
        start: first byte of the range in the file as it is stored.
        end: byte after the range; a whole file is 0 to its size.
        columns: field of the document (id, text, title, url, date, language) -> key of a line, or column.
        options: what else the recipe says to readers of this kind.
        members: html and text: the files of this unit, (path below `location`, bytes). They are read as if they
            followed each other, 0 to `end`; each path is the `file_path` of its records.
        spans: warc: the file holds just these stretches of the one that `file_path` names, one after the other,
            (offset, bytes); offsets in tables and ids are those of the original.
        max_bytes: largest content of one record; longer ones are `too_large`.
        max_ratio: a compressed record of more than 1 MiB that grows by more than this factor is a `bomb`.
    """

    source: str
    kind: str
    file_path: str
    location: str
    start: int
    end: int
    columns: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    members: Sequence[tuple[str, int]] = ()
    spans: Sequence[tuple[int, int]] = ()
    max_bytes: int = 64 << 20
    max_ratio: int = 1000

    def is_bomb(self, n_stored: int, n_bytes: int) -> bool:
        """Whether content of `n_bytes` out of `n_stored` compressed bytes is more than a record may grow."""
        return n_bytes > _BOMB_BYTES and n_bytes > n_stored * self.max_ratio


@dataclass(kw_only=True, slots=True)
class Record:
    """One record of an input, as a row of `tables.RAW` in the making.

    Attributes:
        key: record key (DESIGN §4), unique within the source; with the source's name it gives the id.
        offset: start of the smallest slice that can be decoded alone, in bytes.
        length: its length in bytes; None where there is no random access.
        record_index: number of the record within that slice, from 0.
        url: address of the page.
        title: title of the page.
        date: when it was fetched or revised, in ms since 1970 UTC.
        content: payload; None for a record without a document.
        media_type: "text/html", "application/xhtml+xml", "text/x-wiki" or "text/plain" where there is content.
        charset: charset that the transport declares.
        language: language that the input declares, a hint only.
        reason: why there is no document; None where there is content. `tables.is_decode_error` tells what is damage.
        truncated: why the crawler cut the payload (WARC-Truncated: length, time, disconnect).
        redirect: title of the page that this one leads to.
        file_path: where the record comes from, if not from the slice's file: a file of a folder or of an archive.
    """

    key: str
    offset: int
    length: int | None = None
    record_index: int = 0
    url: str | None = None
    title: str | None = None
    date: int | None = None
    content: bytes | memoryview | None = None
    media_type: str | None = None
    charset: str | None = None
    language: str | None = None
    reason: str | None = None
    truncated: str | None = None
    redirect: str | None = None
    file_path: str | None = None


def damaged(file_path: str, offset: int, length: int | None, record_index: int = 0, *, reason: DamageReason) -> Record:
    """The one record that stands for a damaged stretch of a file.

    Args:
        file_path: relative name of the file.
        offset: where the damage begins: the first slice, member or record that could not be read.
        length: bytes to the end of the stretch; None in a stream without random access.
        record_index: number of the first unreadable record in the slice at `offset`.
        reason: what is wrong.
    """
    key = f"{file_path}:{offset}:damaged"
    return Record(key=key, offset=offset, length=length, record_index=record_index, reason=reason)


def record_ids(source: str, keys: Sequence[str]) -> pa.Array:
    r"""Ids of the records with these keys: xxh3_128 of source + "\0" + key, as strings of 32 hex digits."""
    return pa.array([xxhash.xxh3_128_hexdigest(f"{source}\0{key}".encode()) for key in keys], pa.string())


def parse_date(text: str | None) -> int | None:
    """ISO 8601 date or date-time to ms since 1970 UTC; UTC where no zone is given, None if it cannot be read."""
    try:
        date = datetime.fromisoformat((text or "").strip())
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        return milliseconds(date)
    except (ValueError, OverflowError):  # beyond the years 1 to 9999 in UTC
        return None


def milliseconds(date: datetime) -> int:
    """A date with a zone as ms since 1970 UTC."""
    return (date - _EPOCH) // _MILLISECOND


def choose_starts(places: Iterable[int], target_bytes: int) -> list[int]:
    """Where ranges begin that are at least `target_bytes` long, but for the last one.

    Args:
        places: where the file can be cut, ascending.
        target_bytes: wanted size.

    Returns:
        0 and some of the places.
    """
    starts = [0]
    for place in places:
        if place >= starts[-1] + target_bytes:
            starts.append(place)
    return starts


def open_input(location: str) -> io.BufferedReader:
    """Open a local path or fsspec URL for reading; seekable.

    Raises:
        SourceError: there is no such file.
    """
    try:
        if "://" not in location:
            return Path(location).open("rb")
        fs, path = fsspec.url_to_fs(location)
        return io.BufferedReader(fs.open(path, "rb"))  # files of fsspec know no readline with a limit
    except FileNotFoundError as error:
        raise SourceError(f"{location}: no such file") from error


def is_decode_error(error: OSError) -> bool:
    """Whether a decoder found bad data, rather than the disk or the network failing, which is never damage.

    bz2 and pyarrow raise a plain OSError without errno; failing I/O has an errno or a subclass.
    """
    return type(error) is OSError and error.errno is None


class RecordBuilder:
    """Collects records into batches of `tables.RAW` of at most 256 rows and about 8 MB of content.

    Content is copied at once, while it is in the processor's cache, and released.
    """

    def __init__(self, piece: Slice) -> None:
        self._source = piece.source
        self._file_path = piece.file_path
        self._begin()

    def _begin(self) -> None:
        self._records: list[Record] = []
        self._ends = [0]
        self._contents = pa.allocate_buffer(_MAX_BATCH)  # Arrow's pool gives the same pages again, malloc does not

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        """Append a record; takes its content out of it."""
        start, end = self._ends[-1], self._ends[-1] + len(record.content or b"")
        if end > self._contents.size:
            held = memoryview(self._contents).cast("B")[:start]
            self._contents = pa.allocate_buffer(end)
            memoryview(self._contents).cast("B")[:start] = held
        if record.content:
            memoryview(self._contents).cast("B")[start:end] = record.content
        record.content = None if record.content is None else b""
        self._records.append(record)
        self._ends.append(end)

    @property
    def full(self) -> bool:
        """Whether it is time for `finish`."""
        return len(self._records) >= _MAX_ROWS or self._ends[-1] >= _MAX_BATCH

    def finish(self) -> pa.RecordBatch:
        """The records added since the last call, with the schema of `tables.RAW`."""
        columns = dict(zip(_FIELDS, zip(*map(_get_fields, self._records), strict=True), strict=True))
        made = {
            "id": record_ids(self._source, [record.key for record in self._records]),
            "file_path": pa.array([path or self._file_path for path in columns["file_path"]], pa.string()),
            "content": self._content(columns["content"]),
        }
        self._begin()
        arrays = [
            made[column.name] if column.name in made else pa.array(columns[column.name], column.type)
            for column in _SCHEMA
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA)

    def _content(self, values: Sequence[bytes | None]) -> pa.Array:
        there = pa.array([True if value is not None else None for value in values], pa.bool_())
        places = pa.py_buffer(np.array(self._ends, np.int64))
        data = self._contents[: self._ends[-1]]
        return pa.Array.from_buffers(
            pa.large_binary(), len(values), [there.buffers()[0], places, data], there.null_count
        )
