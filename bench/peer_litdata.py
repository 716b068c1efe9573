#!/usr/bin/env python3
"""litdata's TokensLoader on our shards, in an environment of its own; `bench/train --peer PYTHON` drives it.

    python3 -m venv ~/venvs/litdata
    ~/venvs/litdata/bin/pip install litdata==0.2.76 pyarrow torch==2.13.0
    bench/train --only loader --peer ~/venvs/litdata/bin/python

Called with a scratch folder, the number of threads, the id of <eos> and the shards. It optimizes them and prints the
time that took; then, for each line `BATCH LENGTH SECONDS` on its standard input, it reads batches for so long and
prints what that came to. Both are JSON in one line.

Settings are LitGPT's (data/tinyllama.py): blocks of T + 1 tokens, documents with <eos> at their end, chunks of about
16 million tokens, shuffled, StreamingDataLoader. Different is what helps litdata here: tokens are stored in 16 bits, no
worker processes, and batches come from memory. Batches are cast to int64 as LitGPT does in its training loop.
"""

import json
import resource
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path

import litdata
import numpy as np
import pyarrow.parquet as pq
import torch
from litdata.streaming.item_loader import TokensLoader
from timing import drain, timed

LENGTHS = (1024, 128)
CHUNK = (LENGTHS[0] + 1) * (LENGTHS[1] + 1) * 128
"""Tokens of a chunk: whole blocks of either length, so that none is cut off."""


class Documents:
    """What `litdata.optimize` calls for each shard; a class, so that it knows <eos> in worker processes."""

    def __init__(self, eos: int) -> None:
        self.eos = eos

    def __call__(self, shard: str) -> Iterator[torch.Tensor]:
        """The documents of a shard, each with <eos> after it."""
        with pq.ParquetFile(shard) as parquet:
            for group in range(parquet.num_row_groups):
                column = parquet.read_row_group(group, ["input_ids"]).column(0).combine_chunks()
                values, offsets = np.asarray(column.values), np.asarray(column.offsets)
                for start, end in pairwise(offsets):
                    yield torch.from_numpy(np.append(values[start:end], np.uint16(self.eos)))


def optimize(shards: list[str], folder: Path, eos: int) -> int:
    """Write litdata's chunks."""
    litdata.optimize(
        fn=Documents(eos),
        inputs=shards,
        output_dir=str(folder),
        chunk_size=CHUNK,
        item_loader=TokensLoader(),
        num_workers=1,
        reorder_files=False,
        verbose=False,
    )
    return sum(chunk["dim"] for chunk in json.loads((folder / "index.json").read_bytes())["chunks"])


def batches(folder: Path, batch: int, length: int) -> Iterator[torch.Tensor]:
    """int64[batch, length + 1], epoch after epoch."""
    dataset = litdata.StreamingDataset(
        str(folder), item_loader=TokensLoader(block_size=length + 1), shuffle=True, drop_last=True
    )
    loader = litdata.StreamingDataLoader(dataset, batch_size=batch, num_workers=0)
    while True:
        for rows in loader:
            yield rows.long()


def main() -> None:
    scratch, threads, eos, *shards = sys.argv[1:]
    torch.set_num_threads(int(threads))
    folder, answers = Path(scratch) / "litdata", sys.stdout
    open_loaders: dict[tuple[int, int], Iterator[torch.Tensor]] = {}

    def answer(**values: object) -> None:
        print(json.dumps(values), file=answers, flush=True)

    with redirect_stdout(sys.stderr):  # litdata prints
        run = timed(lambda: optimize(shards, folder, int(eos)))
        workers = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = run.cpu_s + workers.ru_utime + workers.ru_stime
        answer(version=litdata.__version__, **asdict(run) | {"cpu_s": cpu_s})
        for line in sys.stdin:
            batch, length, seconds = line.split()
            sizes = (int(batch), int(length))
            if sizes not in open_loaders:
                open_loaders[sizes] = batches(folder, *sizes)
                first = next(open_loaders[sizes])
                if first.dtype != torch.int64 or first.shape != (sizes[0], sizes[1] + 1):
                    sys.exit(f"litdata delivers {first.dtype}{list(first.shape)}")
            answer(**asdict(drain(open_loaders[sizes], sizes[0] * sizes[1], float(seconds))))


if __name__ == "__main__":
    main()
