"""The token stream of a split: `<eos> d1 <eos> d2 … <eos>`, and where row groups and documents lie in it.

Documents stand in manifest order (shards in manifest order, rows in order). The manifest alone decides every
position, so all ways to read the tokens (`data.cache`, `data.remote`) agree.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from corpusmill.schemas.errors import SchemaError, SourceError
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest, Shard
from corpusmill.schemas.tables import SHARD, token_type

__all__ = ["CONNECTIONS", "Group", "Stream", "check_shards"]

CONNECTIONS = 16
"""Shards that are read side by side, each of which waits for the network where there is one."""


@dataclass(frozen=True, slots=True)
class Group:
    """One row group of a split.

    Attributes:
        shard: the file that holds it.
        number: of the row group in the file.
        first_row: row of its first document, counted over the file.
        n_rows: documents.
        n_tokens: tokens of its texts, without <eos>.
    """

    shard: Shard
    number: int
    first_row: int
    n_rows: int
    n_tokens: int


class Stream:
    """Positions of a split's stream.

    Attributes:
        shards: of the split, in order.
        groups: all row groups, in order. In the stream a row group is its documents, each after its <eos>.
        starts: int64[G + 1], the position of each row group's first <eos>; the last entry is that of the final <eos>.
        length: tokens of the stream, all <eos> included.
        eos: id of the token before each document and after the last.
        dtype: of one token.
    """

    def __init__(self, manifest: Manifest, split: str) -> None:
        self.shards = [shard for shard in manifest.shards if shard.split == split]
        self.groups: list[Group] = []
        for shard in self.shards:
            first_row = 0
            for number, group in enumerate(shard.row_groups):
                self.groups.append(Group(shard, number, first_row, group.rows, group.tokens))
                first_row += group.rows
        self.starts = np.zeros(len(self.groups) + 1, np.int64)
        np.cumsum([group.n_rows + group.n_tokens for group in self.groups], out=self.starts[1:])
        self.length = int(self.starts[-1]) + 1
        self.eos = manifest.tokenizer.special_ids[manifest.tokenizer.eos]
        self.dtype = np.dtype(str(token_type(manifest.tokenizer.vocab_size)))
        self._vocab_size = manifest.tokenizer.vocab_size

    def group_at(self, position: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """The row group of each position; the final <eos> counts to the last one."""
        return np.minimum(np.searchsorted(self.starts, position, side="right") - 1, len(self.groups) - 1)

    def decode(self, group: Group, ids: pa.ListArray) -> NDArray[np.unsignedinteger]:
        """A row group's piece of the stream.

        Args:
            group: which.
            ids: its column `input_ids`, list<uint16 or uint32>[n_rows].

        Returns:
            dtype[n_rows + n_tokens].

        Raises:
            SchemaError: the ids are not as many as the manifest says, or one is <eos> or outside the vocabulary.
        """
        tokens = np.asarray(ids.values)
        where = f"row group {group.number} of {group.shard.name}"
        if len(tokens) != group.n_tokens or tokens.dtype != self.dtype:
            raise SchemaError(
                f"{where} holds {len(tokens)} tokens of {tokens.dtype}, but the manifest says {group.n_tokens} of "
                f"{self.dtype}; copy the dataset folder again, or run the pipeline again"
            )
        if tokens.max(initial=0) >= self._vocab_size or np.any(tokens == self.eos):
            raise SchemaError(
                f"{where} holds a token id that no text can have: {self.eos} (<eos>), or {self._vocab_size} (the "
                "vocabulary) and above; run the pipeline again"
            )
        return np.insert(tokens, np.asarray(ids.offsets)[:-1], self.eos)


def check_shards(files: Files, shards: Sequence[Shard], manifest: Manifest) -> None:
    """Compare shard files with the manifest: presence, size, schema, tokenizer, row groups; their content is not read.

    Raises:
        SourceError: a file is missing.
        SchemaError: a file differs.
    """
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(lambda shard: _check_shard(files, shard, manifest), shards):
            pass


def _check_shard(files: Files, shard: Shard, manifest: Manifest) -> None:
    where, again = files.url(shard.name), "copy the dataset folder again, or run the pipeline again"
    try:
        size = files.fs.size(files.path(shard.name))
        if size != shard.file_bytes:
            raise SchemaError(f"{where} has {size} bytes, but the manifest says {shard.file_bytes}; {again}")
        with files.open(shard.name) as handle, pq.ParquetFile(handle) as parquet:
            schema, footer = parquet.schema_arrow, parquet.metadata
    except FileNotFoundError as error:
        raise SourceError(f"{where} is listed in the manifest, but is not there; {again}") from error
    except pa.ArrowInvalid as error:
        raise SchemaError(f"{where} is no Parquet file, but the manifest lists it as a shard; {again}") from error
    SHARD.check(schema, where)
    tokenizer = schema.metadata.get(b"corpusmill.tokenizer.sha256", b"none").decode()
    if tokenizer != manifest.tokenizer.sha256:
        raise SchemaError(
            f"{where} was made with the tokenizer of sha256 {tokenizer}, but the manifest names "
            f"{manifest.tokenizer.sha256}; {again}"
        )
    found = [footer.row_group(i).num_rows for i in range(footer.num_row_groups)]
    expected = [group.rows for group in shard.row_groups]
    if found != expected:
        raise SchemaError(f"{where} has row groups of {found} rows, but the manifest says {expected}; {again}")
