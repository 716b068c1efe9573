"""A dataset folder as training sees it: one split as windows of its token stream, checked against the manifest."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpusmill.schemas.errors import SchemaError, SourceError, UsageError
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest, dataset_fingerprint
from corpusmill.schemas.parquet import read_batches
from corpusmill.schemas.tables import SHARD
from corpusmill.schemas.tokens import from_json
from corpusmill.train.data.cache import FlatTokens, Progress, cache_folder, check_content
from corpusmill.train.data.remote import CACHE_BYTES, RemoteTokens
from corpusmill.train.data.stream import Stream, check_shards
from corpusmill.train.data.tombstones import Tombstones, read_tombstones

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["TokenDataset"]

_MANIFEST = "manifest.json"


class TokenDataset:
    """One split of a dataset folder.

    The stream of the split is `<eos> d1 <eos> d2 … <eos>`, documents in manifest order. Window i is the T + 1 tokens
    from position iT on; the last one is padded.

    Attributes:
        location: the dataset folder, a local path or fsspec URL.
        manifest: of the folder.
        split: train, validation or test.
        fingerprint: of the dataset, from the manifest.
        tokenizer_json: content of its tokenizer.json.
        vocab_size: number of token ids.
        eos_token: the token before each document.
        eos: its id.
        pad: id of <pad>; that of <eos> for a tokenizer without it.
        n_documents: documents that are not forgotten.
        n_tokens: tokens of the texts, forgotten ones included, without <eos>.
        n_stream: tokens of the stream.
        tombstone_digest: sha256 of what was forgotten (see `Tombstones`), "" for nothing.
    """

    def __init__(
        self,
        files: Files,
        manifest: Manifest,
        split: str,
        tokenizer_json: bytes,
        stream: Stream,
        tombstones: Tombstones,
        tokens: Callable[[], FlatTokens | RemoteTokens],
    ) -> None:
        """Use `open`."""
        tokenizer = manifest.tokenizer
        self.location = files.root
        self.manifest = manifest
        self.split = split
        self.fingerprint = manifest.fingerprint
        self.tokenizer_json = tokenizer_json
        self.vocab_size = tokenizer.vocab_size
        self.eos_token = tokenizer.eos
        self.eos = stream.eos
        self.pad = tokenizer.special_ids.get("<pad>", stream.eos)
        self.n_documents = sum(group.n_rows for group in stream.groups) - len(tombstones.starts)
        self.n_tokens = sum(group.n_tokens for group in stream.groups)
        self.n_stream = stream.length
        self.tombstone_digest = tombstones.digest
        self._files = files
        self._stream = stream
        self._tombstones = tombstones
        self._open_tokens = tokens

    @classmethod
    def open(
        cls,
        location: str,
        *,
        split: str = "train",
        cache: str | Path | None = None,
        cache_bytes: int | None = None,
        progress: Progress | None = None,
        decode: bool = True,
    ) -> "TokenDataset":
        """Check a dataset folder and make its tokens ready.

        Shards on a local disk are decoded once into one file (see `data.cache`). Shards elsewhere are read row group
        by row group, of which the local cache keeps some (see `data.remote`). The windows are the same.

        Args:
            location: dataset folder, a local path or fsspec URL.
            split: which part of it.
            cache: folder for decoded tokens; None for $CORPUSMILL_CACHE, else the user's cache folder.
            cache_bytes: bound of that cache; None for no bound with local shards and 8 GiB with others.
            progress: called with tokens done and in all while local shards are decoded.
            decode: make the windows ready now; False: when the first is asked for, which `documents` never does.

        Raises:
            UsageError: no dataset folder, no such split, or a `cache_bytes` that is too small.
            SourceError: a file that the manifest lists is missing.
            SchemaError: a file is of another version, or not the one that the manifest lists.
            CorpusmillError: no room for the cache.
        """
        files = _open_files(location)
        manifest = _read_manifest(files)
        tokenizer_json = _read_tokenizer(files, manifest)
        splits = list(dict.fromkeys(shard.split for shard in manifest.shards))
        if split not in splits:
            raise UsageError(f"{files.root} has no split {split!r}; it has: {', '.join(splits) or 'none'}")
        stream = Stream(manifest, split)
        check_shards(files, stream.shards, manifest)
        tombstones = read_tombstones(files, manifest, stream)
        tokens = partial(_open_tokens, files, stream, cache_folder(cache), cache_bytes, progress)
        dataset = cls(files, manifest, split, tokenizer_json, stream, tombstones, tokens)
        if decode:
            _ = dataset._tokens
        return dataset

    def __getstate__(self) -> dict[str, Any]:
        """Workers map the tokens themselves: pickled, they would be copied."""
        return {name: value for name, value in self.__dict__.items() if name != "_tokens"}

    @cached_property
    def _tokens(self) -> FlatTokens | RemoteTokens:
        return self._open_tokens()

    @cached_property
    def tokenizer(self) -> "Tokenizer":
        """The tokenizer that made the ids."""
        return from_json(self.tokenizer_json)

    def n_windows(self, length: int) -> int:
        """Windows of `length` inputs (T) that cover every target of the stream."""
        return -(-(self.n_stream - 1) // length)

    def block_sizes(self, length: int) -> NDArray[np.int64]:
        """int64[G]: for each row group, the windows of T = `length` whose first position lies in it."""
        return np.diff(-(-self._stream.starts // length))

    def windows(self, index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Rows of tokens.

        Args:
            index: int64[B] windows, each in [0, n_windows(length)).
            length: T.

        Returns:
            int64[B, T + 1] token ids; -1 past the end of the stream and for tokens of forgotten documents.

        Raises:
            IndexError: there is no such window.
        """
        n = self.n_windows(length)
        if index.size and (index.min() < 0 or index.max() >= n):
            raise IndexError(f"windows {index.min()} to {index.max()} of {n}")
        positions = index * length
        rows = self._tokens.gather(positions, length + 1)
        self._tombstones.apply(rows, positions)
        return rows

    def locate(self, position: int) -> tuple[str, int]:
        """Shard name and row of the document at a position of the stream; the final <eos> counts to the last one.

        Raises:
            IndexError: there is no such position.
        """
        if not 0 <= position < self.n_stream:
            raise IndexError(f"position {position} of {self.n_stream}")
        number = int(self._stream.group_at(position))
        group = self._stream.groups[number]
        before = self._tokens.group(number)[: position + 1 - self._stream.starts[number]]
        return group.shard.name, group.first_row + int(np.count_nonzero(before == self.eos)) - 1

    def documents(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Rows of the shards, in manifest order, row group by row group; forgotten ones are left out.

        Args:
            columns: of the shard table, such as `input_ids`, `language`, `source`, `n_bytes`, `id`.

        Raises:
            UsageError: the shards have no such column.
            SchemaError: a local shard is not the file that the manifest lists.
        """
        for shard in self._stream.shards:
            if self._files.is_local:
                check_content(self._files, shard)
            first, dead = 0, self._tombstones.rows.get(shard.name, np.empty(0, np.int64))
            for batch in read_batches(self._files, shard.name, SHARD, columns):
                if missing := [name for name in columns if name not in batch.schema.names]:
                    raise UsageError(f"{self._files.url(shard.name)} has no column {', '.join(missing)}")
                rows = np.arange(first, first + batch.num_rows)
                first += batch.num_rows
                yield batch.filter(pa.array(~np.isin(rows, dead))) if dead.size else batch


def _open_tokens(
    files: Files, stream: Stream, folder: Path, cache_bytes: int | None, progress: Progress | None
) -> FlatTokens | RemoteTokens:
    if files.is_local and cache_bytes is None:
        return FlatTokens(files, stream, folder, progress)
    return RemoteTokens(files, stream, folder, CACHE_BYTES if cache_bytes is None else cache_bytes)


def _open_files(location: str) -> Files:
    try:
        return Files(location)
    except (ValueError, ImportError) as error:  # an unknown protocol, or one whose library is not installed
        raise UsageError(f"{location}: {error}") from error


def _read_manifest(files: Files) -> Manifest:
    where = files.url(_MANIFEST)
    try:
        data = files.read_bytes(_MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        run = files.exists(f"dataset/{_MANIFEST}")
        raise UsageError(
            f"{files.root} has no {_MANIFEST}: "
            + (f"it is a run folder, its dataset folder is {files.url('dataset')}" if run else _NO_MANIFEST)
        ) from error
    try:
        manifest = Manifest.from_json(data, where)
    except ValueError as error:  # not JSON, or other fields
        reason = ", ".join(line.strip() for line in str(error).splitlines()[:3])
        raise SchemaError(
            f"{where} is not a manifest of corpusmill: {reason}; copy the dataset folder again"
        ) from error
    found = dataset_fingerprint(manifest.tokenizer.sha256, manifest.shards)
    if found != manifest.fingerprint:
        raise SchemaError(
            f"{where} names the fingerprint {manifest.fingerprint}, but its shards make {found}: it was edited; copy "
            "the dataset folder again, or run the pipeline again"
        )
    return manifest


_NO_MANIFEST = (
    "a dataset folder is the folder dataset/ of a finished run, with manifest.json, tokenizer/ and data/; the manifest "
    "is written last, so a run that has none is not finished: start the same `corpusmill run` again"
)


def _read_tokenizer(files: Files, manifest: Manifest) -> bytes:
    name = manifest.tokenizer.path
    data = files.read_or_none(name)
    if data is None:
        raise SourceError(f"{files.url(name)} is named in the manifest, but is not there; copy the dataset again")
    found = hashlib.sha256(data).hexdigest()
    if found != manifest.tokenizer.sha256:
        raise SchemaError(
            f"{files.url(name)} has sha256 {found}, but the manifest says {manifest.tokenizer.sha256}: it was changed; "
            "put the dataset's own tokenizer.json back"
        )
    return data
