"""Readers: bytes of a raw dump to record batches of `tables.RAW`, one row a record.

Each kind is a module of a folder here with two functions: ``records(piece, counts)`` yields a `Record` for each record
of a slice, damage included, and ``ranges(location, index=, n_bytes=, target_bytes=)`` cuts a file into slices that can
be read alone. Damage never raises; a file that is missing or an I/O error does.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, Protocol

import pyarrow as pa

from corpusmill.pipeline.sources.files import html, text
from corpusmill.pipeline.sources.record import Record, RecordBuilder, Slice
from corpusmill.pipeline.sources.tables import dataset, jsonl, parquet
from corpusmill.pipeline.sources.warc import reader as warc_reader
from corpusmill.pipeline.sources.wikipedia import reader as wikipedia_reader
from corpusmill.schemas.errors import SourceError

__all__ = ["KINDS", "Reader", "Slice", "index_of", "is_index", "ranges", "read"]


class Reader(Protocol):
    """What a module offers for its kind of input."""

    def records(self, piece: Slice, counts: Counter[str]) -> Iterator[Record]:
        """The records of a slice, in order; what is not a record is counted by type."""

    def ranges(self, location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
        """Byte ranges, ascending and without gaps, that together read the whole file."""


KINDS: Final[Mapping[str, Reader]] = MappingProxyType(
    {
        "warc": warc_reader,
        "wet": warc_reader,
        "wikipedia": wikipedia_reader,
        "html": html,
        "text": text,
        "jsonl": jsonl,
        "parquet": parquet,
        "dataset": dataset,
    }
)
"""Kinds of input by their name in a recipe."""


def _reader(kind: str) -> Reader:
    if kind not in KINDS:
        raise SourceError(f"kind {kind!r} is not known; use one of {', '.join(KINDS)}")
    return KINDS[kind]


def read(piece: Slice, counts: Counter[str]) -> Iterator[pa.RecordBatch]:
    """Read a slice, in batches of at most 256 rows and about 8 MB of content.

    Args:
        piece: what to read.
        counts: is added to: "records", the rows yielded, and a count for each type of what is not a record
            ("warc_request").

    Yields:
        Batches with the schema of `tables.RAW`. A record without a document has a `reason`; a damaged stretch
        is one row with a `record.DamageReason`.

    Raises:
        SourceError: the kind is not known, or the file is not there.
        OSError: the disk or the network failed.
    """
    builder = RecordBuilder(piece)
    for record in _reader(piece.kind).records(piece, counts):
        builder.add(record)
        if builder.full:
            counts["records"] += len(builder)
            yield builder.finish()
    if len(builder):
        counts["records"] += len(builder)
        yield builder.finish()


def ranges(kind: str, location: str, *, index: str | None, n_bytes: int, target_bytes: int) -> list[tuple[int, int]]:
    """Cut a file into byte ranges that units can read alone.

    Args:
        kind: a key of `KINDS`.
        location: local path or fsspec URL.
        index: location of the file's index; None: by its name. Only multistream dumps have one.
        n_bytes: size of the file.
        target_bytes: wanted size of a range; formats that cannot be cut give one range.

    Returns:
        (start, end) pairs, ascending, from 0 to `n_bytes` without gaps.

    Raises:
        SourceError: the kind is not known, or an index is missing or does not fit the file.
    """
    return _reader(kind).ranges(location, index=index, n_bytes=n_bytes, target_bytes=target_bytes)


def index_of(kind: str, location: str) -> str | None:
    """Where the index of a file lies by its name (path or URL); it need not exist. None where there can be none."""
    return wikipedia_reader.find_index(location) if kind == "wikipedia" else None


def is_index(kind: str, location: str) -> bool:
    """Whether a file is the index of another one, not an input of its own."""
    return kind == "wikipedia" and "-multistream-index" in location.rpartition("/")[2]
