"""A dataset folder as a torch IterableDataset, for training loops that are not ours."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from pydantic import ValidationError
from torch.utils.data import IterableDataset, get_worker_info

from corpusmill.schemas.errors import UsageError
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.loader import IGNORE, Samples
from corpusmill.train.data.plan import DataPlan, Segment, SegmentSource

__all__ = ["TokenSamples", "open_dataset"]

Order = Literal["global", "blocked"]
"""Of windows (see `train.config.Data`)."""

_AT_ONCE = 256
"""Samples that are read together."""


def open_dataset(
    location: str,
    *,
    sequence_length: int,
    split: str = "train",
    order: Order = "global",
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
        sequence_length: T, tokens a sample has to predict; 1 or more.
        split: train, validation or test.
        order: of the windows (see `train.config.Data`).
        seed: of the order; 0 or more.
        epochs: how often each window comes, 1 or more; None: without end.
        rank: number of this process, from 0; it gets samples rank, rank + world, …
        world: how many processes share the samples. Leave it at 1 where the trainer deals them out itself, as that
            of transformers does.
        cache: folder for decoded tokens.
        cache_bytes: limit for it.

    Raises:
        UsageError: a value out of its range, a split without tokens, or as `TokenDataset.open`.
        SourceError, SchemaError, CorpusmillError: as `TokenDataset.open`.
    """
    _check(sequence_length, order, seed, epochs, rank, world)
    dataset = TokenDataset.open(location, split=split, cache=cache, cache_bytes=cache_bytes)
    if dataset.n_tokens == 0:
        raise UsageError(f"{dataset.location}: the split {split!r} has no tokens to train on; take another")
    return TokenSamples(dataset, sequence_length, order=order, seed=seed, epochs=epochs, rank=rank, world=world)


@dataclass
class _Place:
    """How far a pass over the samples is.

    Attributes:
        given: samples that it gave.
        readers: processes and workers that share the samples, it among them.
    """

    given: int
    readers: int


class TokenSamples(IterableDataset[dict[str, torch.Tensor]]):
    """Samples of one split.

    Each is a mapping of `input_ids` (int64[T + 1]) and `labels` (the same, -100 where nothing is predicted: where
    there is no token, or none before it, as behind a forgotten document). As in transformers, labels are not shifted:
    position p predicts label p + 1, so the first label is not used. Workers of a DataLoader share the samples.

    Each iterator begins with the first sample. `state_dict` says how many samples the iterator made last has given;
    after `load_state_dict` the next iterator goes on from there, exactly, and those after it begin anew. Nothing is
    left to go on with where the state is that of a finished iterator. With workers the state lives in their copies:
    use torchdata's StatefulDataLoader, which collects it.
    """

    def __init__(
        self,
        dataset: TokenDataset,
        length: int,
        *,
        order: Order,
        seed: int,
        epochs: int | None,
        rank: int,
        world: int,
    ) -> None:
        """Use `open_dataset`, which checks the arguments."""
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
        self._place = _Place(given=0, readers=world)
        self._is_loaded = False

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Samples from the first, or once from where a loaded state says.

        Raises:
            UsageError: more or fewer processes and workers than those of the loaded state share the samples.
        """
        # Not a generator: a state must be used by the iterator that is made first, not by the one that is read first.
        worker = get_worker_info()
        number, n_workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        readers = self._world * n_workers
        given = self._place.given if self._is_loaded else 0
        if given and self._place.readers != readers:
            raise UsageError(
                f"the state is of {self._place.readers} processes and workers that share the samples, but here are "
                f"{readers}; take as many as there were"
            )
        self._place, self._is_loaded = _Place(given, readers), False
        return self._read(self._place, self._rank + self._world * number)

    def _read(self, place: _Place, first: int) -> Iterator[dict[str, torch.Tensor]]:
        """Every `readers`-th sample from `first` on, without those that were given."""
        stride = place.readers
        while self._n is None or first + place.given * stride < self._n:
            start = first + place.given * stride
            end = start + _AT_ONCE * stride
            end = end if self._n is None else min(end, self._n)
            numbers, windows = self._samples.windows(self._segment, np.arange(start, end, stride, dtype=np.int64))
            rows = torch.from_numpy(self._samples.rows(self._segment.sequence_length, numbers, windows))
            alive = rows >= 0
            ids = torch.where(alive, rows, self._pad)
            alive[:, 1:] &= alive[:, :-1].clone()
            labels = torch.where(alive, rows, IGNORE)
            for sample in range(len(rows)):
                place.given += 1  # before it is given: a state taken in between counts it
                yield {"input_ids": ids[sample], "labels": labels[sample]}

    def __len__(self) -> int:
        """Samples of this process in a whole pass; TypeError where there is no end."""
        if self._n is None:
            raise TypeError("samples without end have no length: give epochs")
        return len(range(self._rank, self._n, self._world))

    def state_dict(self) -> dict[str, Any]:
        """How far the iterator made last is, and in which sequence; plain values, fit for JSON."""
        place = self._place
        return {"given": place.given, "readers": place.readers, "plan": self._plan.model_dump(mode="json")}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Let the next iterator go on from a state.

        Raises:
            UsageError: it is no state, or one of another dataset, length, order or seed.
        """
        try:
            given, readers, plan = state["given"], state["readers"], DataPlan.model_validate(state["plan"])
        except (KeyError, TypeError, ValidationError) as error:
            raise _no_state(state) from error
        if not (_is_int(given, least=0) and _is_int(readers, least=1)):
            raise _no_state(state)
        if plan != self._plan:
            raise UsageError(
                f"the state is of another sequence of samples: {state['plan']['segments'][0]}, but this is "
                f"{self._segment.model_dump(mode='json')}; open the dataset with the settings of the state"
            )
        self._place, self._is_loaded = _Place(given, readers), True


def _no_state(state: object) -> UsageError:
    found = repr(state)
    found = found if len(found) <= 200 else found[:200] + "…"
    return UsageError(f"{found} is not what state_dict of these samples gives; load what it gave, as it was")


def _is_int(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _check(sequence_length: int, order: str, seed: int, epochs: int | None, rank: int, world: int) -> None:
    """Refuse arguments that no sequence of samples has."""
    if sequence_length < 1:
        raise UsageError(f"sequence_length is {sequence_length}; give a number of tokens, 1 or more")
    if order not in get_args(Order):
        raise UsageError(f"order is {order!r}; give {' or '.join(get_args(Order))}")
    if seed < 0:
        raise UsageError(f"seed is {seed}; give a whole number, 0 or more, as that of a run")
    if epochs is not None and epochs < 1:
        raise UsageError(f"epochs is {epochs}; give 1 or more, or None for samples without end")
    if world < 1:
        raise UsageError(f"world is {world}; give the number of processes that share the samples, 1 or more")
    if not 0 <= rank < world:
        raise UsageError(f"rank is {rank} of {world} processes; give 0 to {world - 1}")
