"""The decoded tokens of a split as one flat file, built once on this machine and mapped into memory.

Parquet has no 16-bit type, so shards cannot be mapped as they are. The file's name is a digest of all that decides
its content: runs that read the same shards share it, and it never goes stale.
"""

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from corpusmill.schemas.commits import digest_of
from corpusmill.schemas.errors import CorpusmillError, SchemaError
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Shard
from corpusmill.schemas.parquet import read_batches
from corpusmill.schemas.tables import SHARD
from corpusmill.train.data.stream import Stream

__all__ = ["FlatTokens", "Progress", "cache_folder", "check_content", "content_name", "locked", "map_tokens", "room"]

Progress = Callable[[int, int], None]
"""Called with the tokens decoded so far and all tokens."""

_VERSION = 1
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def cache_folder(folder: str | Path | None) -> Path:
    """Where decoded tokens are kept: `folder`, else $CORPUSMILL_CACHE, else `corpusmill/tokens` in the user's cache."""
    chosen = folder or os.environ.get("CORPUSMILL_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "corpusmill" / "tokens"


def content_name(stream: Stream, *content: object) -> str:
    """Name of a file of decoded tokens: a digest of the layout of such files, <eos>, token type and `content`."""
    return digest_of([_VERSION, stream.eos, stream.dtype.name, *content]) + ".tokens"


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock file `path`, which a process that dies lets go at once; yields whether it is held."""
    with path.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def room(folder: Path, n_bytes: int) -> Iterator[None]:
    """Write `n_bytes` into `folder` in the block.

    Raises:
        CorpusmillError: they do not fit, said before anything is written where the disk is known to be too small.
    """
    try:
        if shutil.disk_usage(folder).free < n_bytes:
            raise OSError(errno.ENOSPC, "too little room")
        yield
    except OSError as error:
        if error.errno not in _DISK_FULL:
            raise
        free = shutil.disk_usage(folder).free
        raise CorpusmillError(
            f"the decoded tokens need {n_bytes:,} bytes in {folder}, where {free:,} are free; delete what is not "
            "needed there, set CORPUSMILL_CACHE to a folder on a larger disk, or set cache_bytes to keep only a part"
        ) from error


def map_tokens(path: Path, dtype: np.dtype, n_tokens: int) -> NDArray[np.unsignedinteger] | None:
    """The mapped content of a file of exactly `n_tokens` tokens, None where there is no such file."""
    try:
        if path.stat().st_size == n_tokens * dtype.itemsize:
            return np.asarray(np.memmap(path, dtype, "r"))  # slices of a plain array cost less than of a memmap
    except FileNotFoundError:
        pass
    return None


class FlatTokens:
    """The whole stream of a split of local shards, mapped into memory; built on first use."""

    def __init__(self, files: Files, stream: Stream, folder: Path, progress: Progress | None = None) -> None:
        """Map the file, and build it where it is missing.

        Of processes that start together one builds, the others wait. A build that dies leaves a file under a
        temporary name, which the next build of anything in the folder removes.

        Args:
            files: the dataset folder.
            stream: of the split.
            folder: of the cache (see `cache_folder`).
            progress: called after each shard of a build.

        Raises:
            CorpusmillError: no room on the disk.
            SchemaError: a shard is not the file that the manifest lists.
        """
        self._stream = stream
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / content_name(stream, [shard.sha256 for shard in stream.shards])
        tokens = map_tokens(path, stream.dtype, stream.length)
        if tokens is None:
            with locked(path.with_suffix(".lock")):
                tokens = map_tokens(path, stream.dtype, stream.length)
                if tokens is None:
                    _sweep(folder)
                    tokens = _build(files, stream, path, progress)
        self._tokens = tokens

    def gather(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Stretches of the stream.

        Args:
            starts: int64[B], position of each, inside the stream.
            length: tokens of each.

        Returns:
            int64[B, length], -1 past the end of the stream.
        """
        n_whole = self._tokens.size - length + 1
        if starts.size and int(starts.max()) < n_whole:
            step = self._tokens.itemsize
            windows = np.ndarray((n_whole, length), self._tokens.dtype, self._tokens, strides=(step, step))
            return windows[starts].astype(np.int64)
        rows = np.full((starts.size, length), -1, np.int64)
        for row, start in zip(rows, starts.tolist(), strict=True):
            piece = self._tokens[start : start + length]
            row[: piece.size] = piece
        return rows

    def group(self, number: int) -> NDArray[np.unsignedinteger]:
        """The piece of a row group (see `Stream.groups`)."""
        first, end = self._stream.starts[number : number + 2]
        return self._tokens[first:end]


def _sweep(folder: Path) -> None:
    """Remove what builds have left that died."""
    for leftover in folder.glob("*.tmp"):
        with locked(leftover.with_suffix(".lock"), wait=False) as held:
            if held:
                leftover.unlink(missing_ok=True)


def _build(files: Files, stream: Stream, path: Path, progress: Progress | None) -> NDArray[np.unsignedinteger]:
    temporary, n_bytes = path.with_suffix(".tmp"), stream.length * stream.dtype.itemsize
    by_shard = [list(part) for _, part in groupby(range(len(stream.groups)), lambda n: stream.groups[n].shard.name)]
    try:
        with room(path.parent, n_bytes), temporary.open("wb") as out, ThreadPoolExecutor(os.cpu_count()) as pool:
            out.truncate(n_bytes)
            done = 0
            for n_tokens in pool.map(lambda groups: _decode_shard(files, stream, groups, temporary), by_shard):
                done += n_tokens
                if progress is not None:
                    progress(done, int(stream.starts[-1]))
            out.seek(n_bytes - stream.dtype.itemsize)
            out.write(stream.dtype.type(stream.eos).tobytes())
            out.flush()
            os.fsync(out.fileno())  # else a power cut may leave the name without the content
        temporary.replace(path)
        return np.asarray(np.memmap(path, stream.dtype, "r"))
    finally:
        temporary.unlink(missing_ok=True)


def _decode_shard(files: Files, stream: Stream, groups: list[int], path: Path) -> int:
    """Write the row groups of a shard, all of them, to their places in the file; returns the tokens written."""
    shard = stream.groups[groups[0]].shard
    check_content(files, shard)
    with path.open("r+b") as out:
        out.seek(int(stream.starts[groups[0]]) * stream.dtype.itemsize)
        for number, batch in zip(groups, read_batches(files, shard.name, SHARD, ["input_ids"]), strict=True):
            out.write(stream.decode(stream.groups[number], batch.column(0)).data)
    return int(stream.starts[groups[-1] + 1] - stream.starts[groups[0]])


def check_content(files: Files, shard: Shard) -> None:
    """Read a whole shard. Raises SchemaError if it is not the file that the manifest lists."""
    found = files.sha256(shard.name)
    if found != shard.sha256:
        raise SchemaError(
            f"{files.url(shard.name)} has sha256 {found}, but the manifest says {shard.sha256}: the file was "
            "changed or damaged; copy the dataset folder again, or run the pipeline again"
        )
