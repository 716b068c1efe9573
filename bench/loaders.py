"""The loaders that bench/train compares, on the same shards: ours, nanoGPT's, `datasets` streaming, litdata's.

All but nanoGPT's deliver shuffled int64[B, T + 1]; nanoGPT's get_batch delivers inputs and targets, int64[B, T] each,
and `nanogpt_rows` is its sampling reduced to the rows of the others. B * T tokens count for each batch.
"""

import json
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from peer_nanogpt import get_batch
from timing import Run

from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import Manifest, RowGroup, Shard, dataset_fingerprint, totals_by
from corpusmill.schemas.parquet import read_table, write_table
from corpusmill.schemas.tables import SHARD
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.loader import Loader
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource

__all__ = ["Litdata", "huggingface", "nanogpt", "nanogpt_rows", "ours", "repeat_dataset", "train_shards"]

_PEER = Path(__file__).resolve().parent / "peer_litdata.py"
_SHARD_TOKENS = 1 << 24
_ROW_GROUP = 1024
"""Documents a row group, as the pipeline writes them."""
_BUFFER = 1000
"""Documents in the shuffle buffer of `datasets`: its default."""


def train_shards(dataset: TokenDataset) -> list[str]:
    """Paths of the shards of the training split."""
    return [f"{dataset.location}/{shard.name}" for shard in dataset.manifest.shards if shard.split == "train"]


def repeat_dataset(dataset: TokenDataset, folder: Path, n_tokens: int) -> None:
    """Write a dataset folder with the training split of `dataset` over and over, to at least `n_tokens`; no text."""
    source, files = Files(dataset.location), Files(folder)
    columns = [*SHARD.columns.names, "input_ids"]
    once = pa.concat_tables(
        read_table(source, shard.name, SHARD, columns) for shard in dataset.manifest.shards if shard.split == "train"
    )
    copies = min(max(1, _SHARD_TOKENS // dataset.n_tokens), -(-n_tokens // dataset.n_tokens))
    rows = pa.concat_tables([once] * copies).combine_chunks()
    tokenizer = dataset.manifest.tokenizer
    metadata = {"sha256": tokenizer.sha256, "vocab_size": str(tokenizer.vocab_size)}
    shards = []
    for number in range(-(-n_tokens // (copies * dataset.n_tokens))):
        info = write_table(
            files,
            f"data/train-000-{number:05d}.parquet",
            SHARD,
            rows,
            extra=pa.schema([rows.schema.field("input_ids")]),
            metadata={f"corpusmill.tokenizer.{key}": value for key, value in metadata.items()},
            row_group=_ROW_GROUP,
            use_dictionary=["source", "language", "file_path", "date"],
            column_encoding={"input_ids.list.element": "BYTE_STREAM_SPLIT"},
        )
        shards.append(
            Shard(
                name=info.name,
                split="train",
                generation=0,
                file_bytes=info.n_bytes,
                sha256=info.sha256,
                row_groups=[
                    RowGroup(rows=part.num_rows, tokens=pc.sum(part.column("n_tokens")).as_py())
                    for part in (rows.slice(start, _ROW_GROUP) for start in range(0, rows.num_rows, _ROW_GROUP))
                ],
                languages=totals_by(rows, "language"),
                sources=totals_by(rows, "source"),
                rows=rows.num_rows,
                tokens=pc.sum(rows.column("n_tokens")).as_py(),
                text_bytes=pc.sum(rows.column("n_bytes")).as_py(),
            )
        )
    manifest = dataset.manifest.model_copy(
        update={"shards": shards, "fingerprint": dataset_fingerprint(tokenizer.sha256, shards), "tombstones": []}
    )
    files.write_bytes(tokenizer.path, dataset.tokenizer_json)
    files.write_bytes("manifest.json", _with_totals(manifest).model_dump_json(indent=1).encode())


def _with_totals(manifest: Manifest) -> Manifest:
    """The manifest with its totals made to agree with its shards, which are all alike."""
    shard, n = manifest.shards[0], len(manifest.shards)

    def times(values: dict[str, Any]) -> dict[str, Any]:
        return {name: times(value) if isinstance(value, dict) else value * n for name, value in values.items()}

    totals = times(shard.model_dump(include={"rows", "tokens", "text_bytes"}))
    update = {
        "totals": totals,
        "splits": {"train": totals},
        **times(shard.model_dump(include={"languages", "sources"})),
    }
    return Manifest.model_validate(manifest.model_dump() | update)


def ours(dataset: TokenDataset, batch: int, length: int) -> Iterator[NDArray[np.int64]]:
    """As in training, but read in this thread."""
    source = SegmentSource(fingerprint=dataset.fingerprint, n_windows=dataset.n_windows(length), weight=1)
    segment = Segment(
        first_step=0,
        first_sample=0,
        batch=batch,
        sequence_length=length,
        sources=(source,),
        order="global",
        tombstones={dataset.fingerprint: dataset.tombstone_digest},
        seed=0,
    )
    loader = Loader(DataPlan(segments=(segment,)), {dataset.fingerprint: dataset})
    return _checked(loader.read(0, 1 << 40), [(batch, length + 1)])


def nanogpt(path: Path, batch: int, length: int) -> Iterator[Any]:
    """get_batch as it is: inputs and targets, each copied."""

    def read() -> Iterator[Any]:
        while True:
            yield get_batch(path, batch, length)

    return _checked(read(), [(batch, length), (batch, length)])


def nanogpt_rows(path: Path, batch: int, length: int) -> Iterator[Any]:
    """get_batch with one copy a row, from which both inputs and targets could be cut."""

    def read() -> Iterator[torch.Tensor]:
        while True:
            data = np.memmap(path, np.uint16, "r")
            ix = torch.randint(len(data) - length, (batch,))
            yield torch.stack([torch.from_numpy(data[i : i + length + 1].astype(np.int64)) for i in ix])

    return _checked(read(), [(batch, length + 1)])


def huggingface(shards: Sequence[str], eos: int, batch: int, length: int) -> Iterator[NDArray[np.int64]]:
    """Streaming with the numpy format and a shuffle buffer, packed without gaps.

    The first batch fills the buffer; it is read before the clock runs, which flatters this side.
    """
    stream = datasets.load_dataset(
        "parquet", data_files=list(shards), split="train", streaming=True, columns=["input_ids"]
    )
    stream = stream.with_format("numpy").shuffle(seed=0, buffer_size=_BUFFER)
    end, size = np.array([eos]), batch * (length + 1)

    def read() -> Iterator[NDArray[np.int64]]:
        kept: list[NDArray[np.int64]] = []
        n = 0
        while True:
            for document in stream:
                kept += [document["input_ids"], end]
                n += len(kept[-2]) + 1
                if n >= size:
                    tokens = np.concatenate(kept)
                    n %= size
                    yield from tokens[: len(tokens) - n].reshape(-1, batch, length + 1)
                    kept = [tokens[len(tokens) - n :]]

    return _checked(read(), [(batch, length + 1)])


def _checked(batches: Iterator[Any], shapes: list[tuple[int, int]]) -> Iterator[Any]:
    """The batches, if the first one is as it has to be."""
    first = next(batches)
    parts = first if isinstance(first, tuple) else (first,)
    for part, shape in zip(parts, shapes, strict=True):
        if "int64" not in str(part.dtype) or tuple(part.shape) != shape:
            raise ValueError(f"a loader delivers {part.dtype}{tuple(part.shape)}, expected int64{shape}")
    yield first
    yield from batches


class Litdata:
    """litdata's TokensLoader in another environment, driven through pipes (see `peer_litdata`).

    Attributes:
        version: of litdata.
        preparation: what optimizing the shards took.
    """

    def __init__(self, python: str, scratch: Path, shards: Sequence[str], *, eos: int, threads: int) -> None:
        """Start it and wait until the shards are optimized."""
        command = [python, str(_PEER), str(scratch), str(threads), str(eos), *shards]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        answer = self._answer()
        self.version = str(answer.pop("version"))
        self.preparation = Run(**answer)

    def run(self, batch: int, length: int, seconds: float) -> Run:
        """Read batches for some seconds."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{batch} {length} {seconds}\n")
        self._process.stdin.flush()
        return Run(**self._answer())

    def close(self) -> None:
        """End it."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._process.args[:2])} ended with {self._process.wait()}")
        return json.loads(line)
