"""Tombstones: documents that were forgotten after their shard was published, as positions of the stream.

Every other position stays where it is, so a run goes on exactly; the tokens of the text are dead (-1), its <eos> is
not.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from corpusmill.schemas.commits import digest_of
from corpusmill.schemas.errors import SchemaError, SourceError
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest
from corpusmill.schemas.parquet import read_table
from corpusmill.schemas.tables import SHARD, TOMBSTONE
from corpusmill.train.data.stream import Stream

__all__ = ["Tombstones", "read_tombstones"]

_ANOTHER = "the tombstones belong to another dataset: take that file out of the manifest"


@dataclass(frozen=True, slots=True)
class Tombstones:
    """The forgotten documents of a split.

    Attributes:
        rows: int64 rows by name of the shard, ascending.
        starts: int64[D], first dead position of each document, ascending.
        ends: int64[D], the position after its last; that of `starts` for a document without tokens.
        digest: sha256 over the sorted (shard, row) pairs, 64 hex digits; "" where there are none.
    """

    rows: dict[str, NDArray[np.int64]]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    digest: str

    def apply(self, rows: NDArray[np.int64], positions: NDArray[np.int64]) -> None:
        """Put -1 at the dead positions of rows (int64[B, L]), of which each begins at a position (int64[B])."""
        if not self.digest:
            return
        length = rows.shape[1]
        first = np.searchsorted(self.ends, positions, side="right")
        last = np.searchsorted(self.starts, positions + length, side="left")
        for i in np.flatnonzero(first < last).tolist():
            for document in range(first[i], last[i]):
                begin, end = self.starts[document] - positions[i], self.ends[document] - positions[i]
                rows[i, max(0, begin) : end] = -1


def read_tombstones(files: Files, manifest: Manifest, stream: Stream) -> Tombstones:
    """The tombstones that the manifest lists, of the shards of one split.

    Raises:
        SourceError: a listed file is missing.
        SchemaError: one names a shard that the manifest does not, a row that its shard does not have, or an id that
            is not the one of that row.
    """
    listed = _listed(files, manifest)
    ranges = [np.empty((2, 0), np.int64)]
    for number, group in enumerate(stream.groups):
        end = group.first_row + group.n_rows
        here = sorted(item for item in listed.get(group.shard.name, ()) if group.first_row <= item[0] < end)
        if not here:
            continue
        table = read_table(files, group.shard.name, SHARD, ["id", "n_tokens"], [group.number])
        for row, name, forgotten in here:
            found = table["id"][row - group.first_row].as_py()
            if found != forgotten:
                raise SchemaError(
                    f"{files.url(name)} forgets row {row} of {group.shard.name} as document {forgotten}, but that row "
                    f"is document {found}; {_ANOTHER}"
                )
        lengths = table["n_tokens"].to_numpy()
        ends = stream.starts[number] + np.cumsum(lengths + 1)
        chosen = np.unique([row for row, _, _ in here]) - group.first_row
        ranges.append(np.stack([ends - lengths, ends])[:, chosen])
    starts, ends = np.concatenate(ranges, axis=1)
    rows = {
        shard.name: np.unique(np.array([row for row, _, _ in listed[shard.name]], np.int64))
        for shard in stream.shards
        if shard.name in listed
    }
    pairs = sorted([shard, row] for shard, dead in rows.items() for row in dead.tolist())
    return Tombstones(rows, starts, ends, digest_of(pairs) if pairs else "")


def _listed(files: Files, manifest: Manifest) -> dict[str, list[tuple[int, str, str]]]:
    """All tombstones by shard: row, name of the tombstone file, id."""
    n_rows = {shard.name: shard.rows for shard in manifest.shards}
    listed: dict[str, list[tuple[int, str, str]]] = {}
    for name in manifest.tombstones:
        where = files.url(name)
        try:
            table = read_table(files, name, TOMBSTONE, ["id", "shard", "row"])
        except FileNotFoundError as error:
            raise SourceError(f"{where} is listed in the manifest, but is not there; copy the dataset again") from error
        for forgotten, shard, row in zip(
            *(table[column].to_pylist() for column in ("id", "shard", "row")), strict=True
        ):
            if shard not in n_rows:
                raise SchemaError(
                    f"{where} forgets document {forgotten} of {shard}, a shard that the manifest does not list; "
                    f"{_ANOTHER}"
                )
            if not 0 <= row < n_rows[shard]:
                raise SchemaError(
                    f"{where} forgets row {row} of {shard}, which has rows 0 to {n_rows[shard] - 1}; {_ANOTHER}"
                )
            listed.setdefault(shard, []).append((row, name, forgotten))
    return listed
