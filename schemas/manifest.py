"""manifest.json of a dataset folder: all that a loader needs to know every sample (DESIGN §4)."""

import json
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from corpusmill.schemas.commits import digest_of
from corpusmill.schemas.errors import SchemaError

__all__ = ["Manifest", "ManifestTokenizer", "RowGroup", "Shard", "Totals", "dataset_fingerprint", "totals_by"]

VERSION = "1.0"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RowGroup(_Model):
    """One row group of a shard: `rows` documents, `tokens` token ids."""

    rows: int
    tokens: int


class Totals(_Model):
    """Sums over documents: counts, tokens, bytes of UTF-8 text."""

    rows: int
    tokens: int
    text_bytes: int


class Shard(Totals):
    """One Parquet file of the dataset.

    Attributes:
        name: path below the dataset folder.
        split: train, validation or test.
        generation: number of the generation that published it, from 0.
        file_bytes: size of the file.
        sha256: of the file.
        row_groups: in file order.
        languages: totals by BCP 47 tag.
        sources: totals by source name.
    """

    name: str
    split: str
    generation: int
    file_bytes: int
    sha256: str
    row_groups: list[RowGroup]
    languages: dict[str, Totals]
    sources: dict[str, Totals]


class ManifestTokenizer(_Model):
    """The tokenizer that made `input_ids`.

    Attributes:
        path: below the dataset folder.
        sha256: of tokenizer.json.
        vocab_size: number of ids, special ones included.
        special_ids: id by special token.
        eos: the token that the loader puts before each document.
    """

    path: str
    sha256: str
    vocab_size: int
    special_ids: dict[str, int]
    eos: str


class Manifest(_Model):
    """The dataset folder's table of contents.

    Attributes:
        version: of this model, major.minor; another major version is refused.
        fingerprint: sha256 over the tokenizer's sha256 and the ordered (shard name, sha256).
        shards: in the order in which a loader reads them.
        totals: over all shards.
        splits: totals by split.
        languages: totals by BCP 47 tag.
        sources: totals by source name.
        tokenizer: what made the ids.
        recipe: the recipe without paths.
        libraries: version by package, of those that shape the bytes.
        ledger: records by verdict, and dropped ones by reason.
        tombstones: names of tombstone files, outside the fingerprint.
    """

    version: str = VERSION
    fingerprint: str
    shards: list[Shard]
    totals: Totals
    splits: dict[str, Totals]
    languages: dict[str, Totals]
    sources: dict[str, Totals]
    tokenizer: ManifestTokenizer
    recipe: dict[str, Any]
    libraries: dict[str, str]
    ledger: dict[str, Any]
    tombstones: list[str] = []

    @classmethod
    def from_json(cls, data: bytes, where: str) -> "Manifest":
        """Parse a manifest.

        Raises:
            SchemaError: another major version, naming both.
            pydantic.ValidationError: not a manifest.
        """
        values = json.loads(data)
        version = str(values.get("version", "none")) if isinstance(values, dict) else "none"
        if version.split(".")[0] != VERSION.split(".")[0]:
            raise SchemaError(f"{where} is a manifest of version {version}, but version {VERSION} is read here")
        return cls.model_validate_json(data)


def dataset_fingerprint(tokenizer_sha256: str, shards: list[Shard]) -> str:
    """The identity of a dataset: its tokenizer and the ordered names and contents of its shards."""
    return digest_of([tokenizer_sha256, [[shard.name, shard.sha256] for shard in shards]])


def totals_by(rows: pa.Table, column: str) -> dict[str, dict[str, int]]:
    """Totals (see `Totals`) of shard rows, of which `id`, `n_tokens` and `n_bytes` are read, by a column's values."""
    grouped = rows.group_by(column).aggregate([("id", "count"), ("n_tokens", "sum"), ("n_bytes", "sum")])
    return {
        item[column]: {"rows": item["id_count"], "tokens": item["n_tokens_sum"], "text_bytes": item["n_bytes_sum"]}
        for item in grouped.sort_by(column).to_pylist()
    }
