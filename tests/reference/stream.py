"""The token stream of a split in plain Python lists: what `corpusmill.train.data` computes, token by token."""

from collections.abc import Collection
from pathlib import Path

import pyarrow.parquet as pq

from corpusmill.schemas.manifest import Manifest


def stream(folder: Path, manifest: Manifest, split: str, forgotten: Collection[tuple[str, int]] = ()) -> list[int]:
    """<eos> d1 <eos> d2 … <eos>; -1 for each token of a forgotten document, given by shard name and row."""
    eos = manifest.tokenizer.special_ids[manifest.tokenizer.eos]
    tokens: list[int] = []
    for shard in manifest.shards:
        if shard.split != split:
            continue
        for row, ids in enumerate(pq.read_table(folder / shard.name)["input_ids"].to_pylist()):
            tokens.append(eos)
            tokens += [-1] * len(ids) if (shard.name, row) in forgotten else ids
    return [*tokens, eos]


def places(folder: Path, manifest: Manifest, split: str) -> list[tuple[str, int]]:
    """Shard name and row of the document at each position."""
    found: list[tuple[str, int]] = []
    for shard in manifest.shards:
        if shard.split == split:
            for row, ids in enumerate(pq.read_table(folder / shard.name)["input_ids"].to_pylist()):
                found += [(shard.name, row)] * (1 + len(ids))
    return [*found, found[-1]]


def windows(tokens: list[int], length: int) -> list[list[int]]:
    """Windows of `length` + 1 tokens, each beginning at the last token of the one before, the last one padded by -1."""
    found = []
    for start in range(0, len(tokens) - 1, length):
        window = tokens[start : start + length + 1]
        found.append(window + [-1] * (length + 1 - len(window)))
    return found
