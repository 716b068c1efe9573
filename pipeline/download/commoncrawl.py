"""Which files of a crawl of Common Crawl a recipe asks for (https://commoncrawl.org/get-started)."""

import gzip
import io
import json
import zlib
from array import array
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final, cast

import xxhash

from corpusmill.pipeline.download.client import redact
from corpusmill.pipeline.download.remote import Get, RemoteFile, first_answer, is_plain_path
from corpusmill.pipeline.sources.record import open_input
from corpusmill.schemas.errors import RecipeError, SourceError
from corpusmill.schemas.source import CommonCrawlSource

__all__ = ["list_files"]

_GZIP: Final = b"\x1f\x8b"
_MAX_LIST: Final = 256 << 20  # bytes of a path list; those of 2026 have 13 MB
_MAX_LINE: Final = 1 << 16  # bytes of a line of `records`


def list_files(source: CommonCrawlSource, get: Get) -> list[RemoteFile]:
    """The files that a source takes, in the order of the crawl's path list; those of `records` sorted by name.

    `fraction` takes a file by xxh3_64 of its name, seeded: whatever the order of the list, and a smaller fraction
    is part of a larger one.

    Args:
        source: of the recipe; with `records` no request is made.
        get: fetches the path list.

    Raises:
        RecipeError: there is no such crawl, nothing is chosen, or the file of records cannot be used; begins with the
            name of the source's field.
        SourceError: no server answers, or the path list is damaged.
    """
    folder = f"crawl-data/{source.crawl}/"
    if source.records is not None:
        try:
            spans = _read_records(source.records, folder)
        except SourceError as error:
            raise RecipeError(f"records: {error}") from error
        return [_file(source, path, spans[path]) for path in sorted(spans)]
    paths = _list_paths(source, folder, get)
    return [_file(source, path) for path in _choose(source, paths)]


def _file(source: CommonCrawlSource, path: str, spans: tuple[tuple[int, int], ...] = ()) -> RemoteFile:
    urls = tuple(f"{base.rstrip('/')}/crawl-data/{source.crawl}/{path}" for base in source.base_urls)
    return RemoteFile(path=path, urls=urls, spans=spans)


def _list_paths(source: CommonCrawlSource, folder: str, get: Get) -> list[str]:
    urls = [f"{base.rstrip('/')}/{folder}{source.what}.paths.gz" for base in source.base_urls]
    answer = first_answer(get, urls)
    if answer is None:
        raise RecipeError(
            f"crawl: there is no crawl {source.crawl!r}: nothing at {', '.join(map(redact, urls))}; names look like "
            "CC-MAIN-2026-10, and https://commoncrawl.org/get-started lists them"
        )
    url, content = redact(answer[0]), answer[1]
    if not content.startswith(_GZIP):
        raise SourceError(
            f"{url} is no gzip file, it begins with {content[:40]!r}: a proxy or a login page may have answered instead"
        )
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            listed = file.read(_MAX_LIST + 1)
        if len(listed) > _MAX_LIST:
            raise ValueError(f"it holds more than {_MAX_LIST >> 20} MiB")
        lines = listed.decode("ascii").splitlines()
    except (EOFError, OSError, zlib.error, ValueError) as error:
        raise SourceError(f"{url} is damaged ({error}); run again, or name another server in base_urls") from error
    for number, line in enumerate(lines, 1):
        if not _is_below(line, folder):
            raise SourceError(f"{url}: line {number} is {line[:200]!r} instead of the name of a file below {folder}")
    paths = [line.removeprefix(folder) for line in lines]
    if len(set(paths)) != len(paths) or not paths:
        raise SourceError(f"{url} names {'a file twice' if paths else 'no files'}; name another server in base_urls")
    return paths


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(folder) and is_plain_path(path)


def _choose(source: CommonCrawlSource, paths: list[str]) -> list[str]:
    if source.fraction is not None:
        limit = source.fraction * 2**64
        chosen = [path for path in paths if xxhash.xxh3_64_intdigest(f"{source.seed}\0{path}".encode()) < limit]
        if not chosen:
            raise RecipeError(
                f"fraction: {source.fraction} of the {len(paths)} {source.what} files of {source.crawl} takes none; "
                f"write a larger one, another seed, or `files: 0`"
            )
        return chosen
    numbers: set[int] = set()
    for part in (source.files or "").split(","):
        first, _, last = part.partition("-")
        end = int(last or first) + 1
        if end > len(paths):
            raise RecipeError(
                f"files: {part!r} is out of range: {source.crawl} has {len(paths)} {source.what} files, "
                f"0-{len(paths) - 1}"
            )
        numbers.update(range(int(first), end))
    return [paths[number] for number in sorted(numbers)]


def _read_records(location: str, folder: str) -> dict[str, tuple[tuple[int, int], ...]]:
    """The stretches that a file of records names, by the name of the file that they lie in."""
    found: dict[str, array[int]] = {}  # offset, length, line; offset, length, line; …: there may be millions
    for number, line in _read_lines(location):
        filename, offset, length = _parse_line(location, number, line)
        records = found.get(filename)
        if records is None:
            if not _is_below(filename, folder):
                raise SourceError(f"{location}: line {number}: {filename[:200]!r} is no name of a file below {folder}")
            records = found[filename] = array("q")
        records.extend((offset, length, number))
    if not found:
        raise SourceError(f"{location} names no records")
    spans = {}
    for filename, records in found.items():
        try:
            spans[filename.removeprefix(folder)] = _merge(zip(records[::3], records[1::3], records[2::3], strict=True))
        except ValueError as error:
            raise SourceError(f"{location}: {error} of {filename}") from error
    return spans


def _read_lines(location: str) -> Iterator[tuple[int, bytes]]:
    """Number and content of the lines that are not blank."""
    with open_input(location) as file:
        is_gzip = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        stream = cast(IO[bytes], gzip.GzipFile(fileobj=file)) if is_gzip else file
        try:
            for number, line in enumerate(iter(lambda: stream.readline(_MAX_LINE), b""), 1):
                if len(line) == _MAX_LINE:
                    raise SourceError(f"{location}: line {number} is longer than {_MAX_LINE >> 10} KiB")
                if line.strip():
                    yield number, line
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise SourceError(f"{location} is damaged ({error})") from error


def _parse_line(location: str, number: int, line: bytes) -> tuple[str, int, int]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise SourceError(
            f"{location}: line {number} is no JSON object: {line[:80]!r}; each line needs filename, offset and length, "
            "as the index server answers with output=json"
        )
    filename = row.get("filename", row.get("warc_filename"))
    offset = row.get("offset", row.get("warc_record_offset"))
    length = row.get("length", row.get("warc_record_length"))
    start, n_bytes = _number(offset), _number(length)
    if not isinstance(filename, str) or start is None or not n_bytes:
        raise SourceError(
            f"{location}: line {number} has filename {filename!r}, offset {offset!r} and length {length!r}; needed are "
            "a string, a number of bytes and a number of bytes above 0"
        )
    return filename, start, n_bytes


def _number(value: Any) -> int | None:
    """An integer from 0 to 2^62, also as a string of digits; else None."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1 << 62:
        return None
    return value


def _merge(records: Iterable[tuple[int, int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted stretches out of (offset, length, line): repeated ones count once, neighbours become one.

    Raises:
        ValueError: two overlap; names their lines.
    """
    spans: list[tuple[int, int]] = []
    last = (-1, 0, 0)
    for record in sorted(records):
        offset, length, line = record
        if record[:2] == last[:2]:
            continue
        end = last[0] + last[1]
        if offset < end:
            raise ValueError("lines {} and {} name overlapping stretches".format(*sorted((last[2], line))))
        if offset == end:
            start = spans[-1][0]
            spans[-1] = (start, offset + length - start)
        else:
            spans.append((offset, length))
        last = record
    return tuple(spans)
