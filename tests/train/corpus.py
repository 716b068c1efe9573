"""Small dataset folders for the training tests: what the pipeline publishes, written without the pipeline.

The tokenizer is a byte-level BPE without merges, so a text of n bytes has n tokens and every expected value can be
worked out by hand. Shards have few documents and small row groups: windows cross their borders all the time.
"""

import datetime
import hashlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import (
    Manifest,
    ManifestTokenizer,
    RowGroup,
    Shard,
    Totals,
    dataset_fingerprint,
    totals_by,
)
from corpusmill.schemas.parquet import read_table, write_table
from corpusmill.schemas.tables import SHARD, TOMBSTONE, token_type
from corpusmill.schemas.tokens import SPECIAL_TOKENS, from_json, special_ids
from tests.corpus import prose

PAD, EOS = SPECIAL_TOKENS.index("<pad>"), SPECIAL_TOKENS.index("<eos>")
TOKENIZER = "tokenizer/tokenizer.json"
WHEN = datetime.datetime(2026, 3, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True, slots=True)
class Document:
    """A text with what a shard row says about it."""

    text: str
    language: str = "en"
    source: str = "prose"
    split: str = "train"


@cache
def byte_tokenizer(size: int = len(SPECIAL_TOKENS) + 256) -> bytes:
    """A tokenizer.json of the special tokens and the 256 bytes; entries up to `size` are such as no text produces."""
    entries = [*SPECIAL_TOKENS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    entries += [f"unused {i}" for i in range(size - len(entries))]
    tokenizer = Tokenizer(models.BPE({entry: i for i, entry in enumerate(entries)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return (tokenizer.to_str() + "\n").encode()


def _rows(documents: Sequence[Document], tokenizer: Tokenizer) -> pa.Table:
    ids = [tokenizer.encode(document.text, add_special_tokens=False).ids for document in documents]
    item = pa.field("element", token_type(tokenizer.get_vocab_size()), nullable=False)
    n = len(documents)
    columns = {
        "id": [hashlib.blake2b(f"{i}".encode(), digest_size=16).hexdigest() for i in range(n)],
        "n_tokens": [len(i) for i in ids],
        "n_bytes": [len(document.text.encode()) for document in documents],
        "url": [None] * n,
        "source": [document.source for document in documents],
        "date": [WHEN] * n,
        "language": [document.language for document in documents],
        "language_score": [1.0] * n,
        "cluster_size": [1] * n,
        "file_path": ["texts.jsonl"] * n,
        "offset": list(range(n)),
        "record_index": [0] * n,
        "quality": [None] * n,
        "input_ids": ids,
        "text": [document.text for document in documents],
    }
    extra = [pa.field("input_ids", pa.list_(item), nullable=False), pa.field("text", pa.string(), nullable=False)]
    return pa.table(columns, SHARD.schema(extra=pa.schema(extra)))


def write_dataset(
    folder: str | Path,
    documents: Sequence[Document],
    *,
    shards: int = 2,
    row_group: int = 4,
    text: bool = True,
    tokenizer: bytes | None = None,
) -> Manifest:
    """Write a dataset folder.

    Args:
        folder: local path or fsspec URL.
        documents: in this order within their split.
        shards: files a split, of about equally many documents; a split of fewer documents has fewer.
        row_group: documents a row group.
        text: whether the shards keep the text.
        tokenizer: a tokenizer.json; None for `byte_tokenizer()`.
    """
    files = Files(folder)
    data = byte_tokenizer() if tokenizer is None else tokenizer
    loaded = from_json(data)
    sha256, vocab_size = hashlib.sha256(data).hexdigest(), loaded.get_vocab_size()
    metadata = {"corpusmill.tokenizer.sha256": sha256, "corpusmill.tokenizer.vocab_size": str(vocab_size)}
    rows = _rows(documents, loaded)
    rows = rows if text else rows.drop_columns("text")
    entries = []
    for split in dict.fromkeys(document.split for document in documents):
        chosen = [i for i, document in enumerate(documents) if document.split == split]
        for number, part in enumerate(np.array_split(chosen, min(shards, len(chosen)))):
            name = f"data/{split}-000-{number:05d}.parquet"
            entries.append(_write_shard(files, name, split, rows.take(part), row_group, metadata))
    files.write_bytes(TOKENIZER, data)
    manifest = Manifest(
        fingerprint=dataset_fingerprint(sha256, entries),
        shards=entries,
        totals=_add(entries),
        splits={
            split: _add(e for e in entries if e.split == split) for split in dict.fromkeys(e.split for e in entries)
        },
        languages=_add_by([entry.languages for entry in entries]),
        sources=_add_by([entry.sources for entry in entries]),
        tokenizer=ManifestTokenizer(
            path=TOKENIZER, sha256=sha256, vocab_size=vocab_size, special_ids=special_ids(loaded), eos="<eos>"
        ),
        recipe={},
        libraries={},
        ledger={},
    )
    write_manifest(folder, manifest)
    return manifest


def _write_shard(
    files: Files, name: str, split: str, rows: pa.Table, row_group: int, metadata: dict[str, str]
) -> Shard:
    info = write_table(
        files,
        name,
        SHARD,
        rows,
        extra=pa.schema(list(rows.schema)[len(SHARD.columns) :]),
        metadata=metadata,
        row_group=row_group,
        use_dictionary=["source", "language", "file_path", "date"],
        column_encoding={"input_ids.list.element": "BYTE_STREAM_SPLIT"},
    )
    parts = [rows.slice(start, row_group) for start in range(0, rows.num_rows, row_group)]
    return Shard(
        name=name,
        split=split,
        generation=0,
        rows=rows.num_rows,
        tokens=pc.sum(rows["n_tokens"]).as_py(),
        text_bytes=pc.sum(rows["n_bytes"]).as_py(),
        file_bytes=info.n_bytes,
        sha256=info.sha256,
        row_groups=[RowGroup(rows=part.num_rows, tokens=pc.sum(part["n_tokens"]).as_py()) for part in parts],
        languages=totals_by(rows, "language"),  # type: ignore[arg-type]  # pydantic makes the models
        sources=totals_by(rows, "source"),  # type: ignore[arg-type]
    )


def _add(items: Iterable[Totals]) -> Totals:
    listed = list(items)
    return Totals(
        rows=sum(item.rows for item in listed),
        tokens=sum(item.tokens for item in listed),
        text_bytes=sum(item.text_bytes for item in listed),
    )


def _add_by(groups: Sequence[dict[str, Totals]]) -> dict[str, Totals]:
    names = sorted(set(itertools.chain.from_iterable(groups)))
    return {name: _add(group[name] for group in groups if name in group) for name in names}


def read_manifest(folder: str | Path) -> Manifest:
    """The manifest of a dataset folder."""
    return Manifest.from_json(Files(folder).read_bytes("manifest.json"), "manifest.json")


def write_manifest(folder: str | Path, manifest: Manifest) -> None:
    """Put a (changed) manifest into a dataset folder."""
    Files(folder).write_bytes("manifest.json", (manifest.model_dump_json(indent=1) + "\n").encode())


def forget(folder: str | Path, documents: Sequence[tuple[str, int]]) -> None:
    """Tombstone some documents, given by shard name and row, in a new tombstone file."""
    files, manifest = Files(folder), read_manifest(folder)
    name = f"tombstones/{len(manifest.tombstones)}.parquet"
    columns = {
        "id": [read_table(files, shard, SHARD, ["id"])["id"][row].as_py() for shard, row in documents],
        "shard": [shard for shard, _ in documents],
        "row": [row for _, row in documents],
        "time": [WHEN] * len(documents),
        "reason": ["asked by the author"] * len(documents),
    }
    write_table(files, name, TOMBSTONE, pa.table(columns, TOMBSTONE.schema()))
    write_manifest(folder, manifest.model_copy(update={"tombstones": [*manifest.tombstones, name]}))


def small_documents(n: int = 24, held_out: int = 5) -> list[Document]:
    """Paragraphs of real prose, English and Chinese in turn; each `held_out`-th is of the validation split."""
    texts = {"en": prose("en"), "zh-Hans": prose("zh")}
    return [
        Document(
            text=texts[language][i // 2 % len(texts[language])],
            language=language,
            source=f"{language[:2]}prose",
            split="validation" if i % held_out == held_out - 1 else "train",
        )
        for i, language in zip(range(n), itertools.cycle(texts), strict=False)
    ]


def small_dataset(folder: str | Path, *, documents: int = 24, shards: int = 2, row_group: int = 4) -> Manifest:
    """A dataset folder of `small_documents`, 2 splits, the same bytes each time."""
    return write_dataset(folder, small_documents(documents), shards=shards, row_group=row_group)
