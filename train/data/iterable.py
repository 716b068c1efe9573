"""A dataset folder as a torch IterableDataset, for training loops that are not ours."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from corpusmill.schemas.errors import UsageError
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.loader import IGNORE, Samples
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource

__all__ = ["TokenSamples", "open_dataset"]

_AT_ONCE = 256
"""Samples that are read together."""


def open_dataset(
    location: str,
    *,
    sequence_length: int,
    split: str = "train",
    order: Literal["global", "blocked"] = "global",
    seed: int = 0,
    epochs: int | None = 1,
    rank: int = 0,
    world: int = 1,
    cache: str | Path | None = None,
    cache_bytes: int | None = None,
) -> "TokenSamples":
    """Open a split as samples of `sequence_length` + 1 tokens, in the order in which `corpusmill train` takes them.

    Args:
        location: a dataset folder, local path or fsspec URL.
        sequence_length: T, tokens a sample has to predict.
        split: train, validation or test.
        order: of the windows (see `train.config.Data`).
        seed: of the order.
        epochs: how often each window comes; None: without end.
        rank: number of this process, from 0; it gets samples rank, rank + world, …
        world: how many processes share the samples. Leave it at 1 where the trainer deals them out itself, as that
            of transformers does.
        cache: folder for decoded tokens.
        cache_bytes: limit for it.

    Raises:
        UsageError, SchemaError: as `TokenDataset.open`.
    """
    if not 0 <= rank < world:
        raise UsageError(f"rank is {rank} of {world} processes; expected 0 to {world - 1}")
    dataset = TokenDataset.open(location, split=split, cache=cache, cache_bytes=cache_bytes)
    return TokenSamples(dataset, sequence_length, order=order, seed=seed, epochs=epochs, rank=rank, world=world)


class TokenSamples(IterableDataset[dict[str, torch.Tensor]]):
    """Samples of one split.

    Each is a mapping of `input_ids` (int64[T + 1]) and `labels` (the same, -100 where there is no token). As in
    transformers, labels are not shifted: position p predicts label p + 1. Workers of a DataLoader share the samples.

    `state_dict` says how many samples were given, `load_state_dict` goes on from there, exactly. With workers the
    state lives in their copies: use torchdata's StatefulDataLoader, which collects it.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        length: int,
        *,
        order: Literal["global", "blocked"],
        seed: int,
        epochs: int | None,
        rank: int,
        world: int,
    ) -> None:
        source = SegmentSource(fingerprint=dataset.fingerprint, n_windows=dataset.n_windows(length), weight=1)
        self._segment = Segment(
            first_step=0,
            first_sample=0,
            batch=1,
            sequence_length=length,
            sources=(source,),
            order=order,
            tombstones={dataset.fingerprint: dataset.tombstone_digest},
            seed=seed,
        )
        self._plan = DataPlan(segments=(self._segment,))
        self._samples = Samples(self._plan, {dataset.fingerprint: dataset})
        self._pad = dataset.pad
        self._n = None if epochs is None else epochs * source.n_windows
        self._rank, self._world = rank, world
        self._given = 0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Samples from where the state says, or from the first; a finished pass begins anew."""
        worker = get_worker_info()
        n_workers = 1 if worker is None else worker.num_workers
        first = self._rank + self._world * (0 if worker is None else worker.id)
        stride = self._world * n_workers
        while (start := first + self._given * stride) < (self._n or 1 << 62):
            end = start + _AT_ONCE * stride if self._n is None else min(start + _AT_ONCE * stride, self._n)
            numbers, windows = self._samples.windows(self._segment, np.arange(start, end, stride, dtype=np.int64))
            rows = torch.from_numpy(self._samples.rows(self._segment.sequence_length, numbers, windows))
            ids, labels = torch.where(rows >= 0, rows, self._pad), torch.where(rows >= 0, rows, IGNORE)
            for sample in range(len(rows)):
                self._given += 1  # before it is given: a state taken in between counts it
                yield {"input_ids": ids[sample], "labels": labels[sample]}
        self._given = 0

    def __len__(self) -> int:
        """Samples of this process; TypeError where there is no end."""
        if self._n is None:
            raise TypeError("samples without end have no length: give epochs")
        return len(range(self._rank, self._n, self._world))

    def state_dict(self) -> dict[str, Any]:
        """How far this process is, and with which order."""
        return {"given": self._given, "plan": self._plan.model_dump(mode="json")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            UsageError: it is of another dataset, length, order or seed.
        """
        plan = DataPlan.model_validate(state["plan"])
        if plan != self._plan:
            raise UsageError(
                f"the state is of another sequence of samples: {state['plan']['segments'][0]}, but this is "
                f"{self._segment.model_dump(mode='json')}; open the dataset with the settings of the state"
            )
        self._given = int(state["given"])
