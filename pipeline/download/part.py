"""A file that is being downloaded, and beside it what must be known to go on after an interruption."""

import contextlib
import fcntl
import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from pydantic import TypeAdapter, ValidationError

__all__ = ["BLOCK", "Origin", "Part", "remove_part"]

BLOCK: Final = 1 << 20  # bytes a write; as much is fetched again after a kill


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where the bytes of a part are from.

    Attributes:
        url: mirror, without user name and password.
        validator: strong ETag or date of modification (RFC 9110, 8.8); None if the server sent none.
        size: of the file on the server, in bytes; None while unknown.
        sha1: digest that the part must have in the end, if one is given.
        spans: digest of the list of stretches that make up the part; None: the whole file.
    """

    url: str
    validator: str | None
    size: int | None
    sha1: str | None
    spans: str | None


_ORIGIN: Final = TypeAdapter(Origin)


class Part:
    """A part under an exclusive lock, so that of two processes one waits; a context manager.

    Writes go to the file in blocks of 1 MiB. `origin` is written before the first byte, so bytes without one, or
    with one that cannot be read, are worth nothing.

    Attributes:
        origin: where the bytes are from; None where that is unknown.
        n_bytes: that are in the file.
    """

    def __init__(self, path: Path, *, with_sha1: bool) -> None:
        self.path = path
        self.n_bytes = 0
        self._digests = [hashlib.sha256()]
        if with_sha1:
            self._digests.append(hashlib.sha1(usedforsecurity=False))
        self._fresh = [digest.copy() for digest in self._digests]
        self._buffer = bytearray()
        self._file = _open_locked(path)
        self.origin = _read_origin(_origin_path(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()  # and with it the lock

    @property
    def position(self) -> int:
        """Bytes so far, with those that are not in the file yet."""
        return self.n_bytes + len(self._buffer)

    @property
    def sha256(self) -> str:
        """Of the bytes in the file, 64 hex digits."""
        return self._digests[0].hexdigest()

    @property
    def sha1(self) -> str:
        """Of the bytes in the file, 40 hex digits; only `with_sha1`."""
        return self._digests[1].hexdigest()

    @property
    def n_found(self) -> int:
        """Size of the file."""
        return os.fstat(self._file.fileno()).st_size

    def take_up(self) -> None:
        """Go on with the bytes that are there."""
        self._file.seek(0)
        while block := self._file.read(BLOCK):
            self._count(block)

    def restart(self) -> None:
        """Begin anew, with nothing."""
        self._file.truncate(0)
        _origin_path(self.path).unlink(missing_ok=True)
        self.origin = None
        self.n_bytes = 0
        self._buffer.clear()
        self._digests = [digest.copy() for digest in self._fresh]

    def record(self, origin: Origin) -> None:
        """Note where the bytes are from."""
        if origin != self.origin:
            target = _origin_path(self.path)
            whole = target.with_name(f"{target.name}.tmp")
            whole.write_bytes(_ORIGIN.dump_json(origin))
            whole.replace(target)
            self.origin = origin

    def write(self, data: bytes | memoryview) -> None:
        """Append; what does not fill a block waits for more, or for `flush`."""
        self._buffer += data
        if len(self._buffer) >= BLOCK:
            self.flush()

    def flush(self) -> None:
        """Put everything into the file.

        Raises:
            OSError: the disk is full, for example; what found room stays and is taken up by the next run.
        """
        block, self._buffer = self._buffer, bytearray()
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]  # a disk that fills up takes a part, and none the next time
        self._count(block)

    def _count(self, block: bytes | bytearray) -> None:
        self.n_bytes += len(block)
        for digest in self._digests:
            digest.update(block)


def remove_part(path: Path) -> None:
    """Remove a part and what stands beside it; to be called once the content is published or not wanted."""
    path.unlink(missing_ok=True)
    _origin_path(path).unlink(missing_ok=True)


def _origin_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_origin(path: Path) -> Origin | None:
    try:
        return _ORIGIN.validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _open_locked(path: Path) -> io.FileIO:
    """Open for reading and appending, once no other process has it open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        file = path.open("a+b", buffering=0)
        fcntl.flock(file, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(path.stat(), os.fstat(file.fileno())):
                return file
        file.close()  # whoever held the lock has moved the file away
