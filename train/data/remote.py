"""Tokens of shards that are read row group by row group as windows ask for them, from anywhere fsspec reaches.

Decoded row groups are kept as files in a local cache of bounded size, shared by the processes of the machine; those
that were opened longest ago are dropped. Rows are the same as those of `data.cache`.
"""

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpusmill.schemas.errors import UsageError
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import one_batch
from corpusmill.train.data.cache import content_name, locked, map_tokens, room
from corpusmill.train.data.stream import CONNECTIONS, Stream

__all__ = ["CACHE_BYTES", "RemoteTokens"]

CACHE_BYTES = 8 << 30
"""Default bound of the local cache."""

_MAPPED = 64  # row groups that a process holds mapped: an evicted file's room is free once nobody maps it


class RemoteTokens:
    """The stream of a split, of which only the row groups asked for are fetched."""

    def __init__(self, files: Files, stream: Stream, folder: Path, cache_bytes: int) -> None:
        """Fetch nothing yet.

        The content of a shard is taken as the store gives it: its sha256 could only be told from the whole file.

        Args:
            files: the dataset folder.
            stream: of the split.
            folder: of the cache (see `cache_folder`).
            cache_bytes: the files in it never exceed this.

        Raises:
            UsageError: `cache_bytes` is less than one row group needs.
        """
        largest = int(np.diff(stream.starts).max()) * stream.dtype.itemsize
        if cache_bytes < largest:
            raise UsageError(
                f"cache_bytes is {cache_bytes:,}, but the largest row group decodes to {largest:,} bytes; "
                f"give at least that, the default is {CACHE_BYTES:,}"
            )
        self._files = files
        self._pid = os.getpid()
        self._stream = stream
        self._folder = folder / "groups"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._cache_bytes = cache_bytes
        self._mapped: dict[int, NDArray[np.unsignedinteger]] = {}  # by row group, the latest used last
        self._lock = threading.Lock()

    def gather(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Stretches of the stream.

        Args:
            starts: int64[B], position of each, inside the stream.
            length: tokens of each.

        Returns:
            int64[B, length], -1 past the end of the stream.

        Raises:
            CorpusmillError: no room on the disk.
            SchemaError: a row group is not what the manifest says.
        """
        stream, final = self._stream, self._stream.length - 1
        rows = np.full((starts.size, length), -1, np.int64)
        ends = starts + length
        rows[ends > final, final - starts[ends > final]] = stream.eos
        first, last = stream.group_at(starts), stream.group_at(ends - 1)
        wanted = sorted(
            {number for a, b in zip(first.tolist(), last.tolist(), strict=True) for number in range(a, b + 1)}
        )
        pieces = self._pieces(wanted)
        for row, start, a, b in zip(rows, starts.tolist(), first.tolist(), last.tolist(), strict=True):
            for number in range(a, b + 1):
                offset, piece = int(stream.starts[number]), pieces[number]
                begin, end = max(start, offset), min(start + length, offset + piece.size)
                row[begin - start : end - start] = piece[begin - offset : end - offset]
        return rows

    def group(self, number: int) -> NDArray[np.unsignedinteger]:
        """The piece of a row group (see `Stream.groups`)."""
        return self._pieces([number])[number]

    def _pieces(self, numbers: list[int]) -> dict[int, NDArray[np.unsignedinteger]]:
        """The pieces of row groups, by number; missing ones are fetched side by side, one at a time from each shard."""
        with self._lock:
            pieces = {number: self._mapped.pop(number) for number in numbers if number in self._mapped}
            missing = [number for number in numbers if number not in pieces]
            if missing:
                by_shard = [list(part) for _, part in groupby(missing, lambda n: self._stream.groups[n].shard.name)]
                with ThreadPoolExecutor(CONNECTIONS) as pool:
                    for part in pool.map(lambda part: {number: self._load(number) for number in part}, by_shard):
                        pieces |= part
            self._mapped |= pieces
            for number in list(self._mapped)[:-_MAPPED]:
                del self._mapped[number]
        return pieces

    def _load(self, number: int) -> NDArray[np.unsignedinteger]:
        stream, group = self._stream, self._stream.groups[number]
        path = self._folder / content_name(stream, group.shard.sha256, group.number)
        kept = map_tokens(path, stream.dtype, group.n_rows + group.n_tokens)
        if kept is not None:
            with contextlib.suppress(FileNotFoundError):  # evicted since
                os.utime(path)
            return kept
        if self._pid != os.getpid():  # a DataLoader's worker: connections do not survive a fork
            self._files, self._pid = Files(self._files.root), os.getpid()
        shard = self._files.path(group.shard.name)
        # fsspec reads ahead by default: megabytes of columns that nobody asked for
        with self._files.fs.open(shard, "rb", cache_type="none") as handle, pq.ParquetFile(handle) as parquet:
            table = parquet.read_row_group(group.number, columns=["input_ids"])
        tokens = stream.decode(group, one_batch(table).column(0))
        with locked(self._folder / "lock"):
            self._evict(self._cache_bytes - tokens.nbytes)
            temporary = path.with_suffix(".tmp")
            with room(self._folder, tokens.nbytes):
                temporary.write_bytes(tokens.data)
            temporary.replace(path)
            return np.asarray(np.memmap(path, stream.dtype, "r"))

    def _evict(self, n_bytes: int) -> None:
        """Shrink the cache to `n_bytes`; who has a file mapped that is removed keeps its content."""
        kept = []
        for entry in os.scandir(self._folder):
            if entry.name.endswith(".tmp"):  # of a process that died: who holds the lock writes alone
                Path(entry).unlink()
            elif entry.name.endswith(".tokens"):
                status = entry.stat()
                kept.append((status.st_mtime_ns, entry.path, status.st_size))
        total = sum(size for _, _, size in kept)
        for _, path, size in sorted(kept):
            if total <= n_bytes:
                return
            Path(path).unlink()
            total -= size
