"""From the data plan and the datasets to the rows of one process, prepared while the step before is computed."""

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.order import BlockedOrder, GlobalOrder
from corpusmill.train.data.plan import DataPlan, Segment

__all__ = ["IGNORE", "Inputs", "Loader", "Samples", "split_rows"]

IGNORE = -100
"""Target that counts for nothing, as in `torch.nn.functional.cross_entropy`."""

_SAMPLES_AT_ONCE = 4096
"""Samples that are located together: permuting a few at a time would cost more than reading them."""

_TOKENS_AT_ONCE = 1 << 17
"""Tokens that are gathered together, for short rows: what Python costs a batch would be more than the gather."""

_AHEAD = 4
"""Batches that wait ready."""


class Inputs(NamedTuple):
    """What a model sees of some rows.

    Attributes:
        ids: int64[B, T] token ids, the padding id where there is no token.
        targets: int64[B, T] the next token, `IGNORE` where there is none.
        segments: int64[B, T] number of the document within the row, -1 where there is no token.
    """

    ids: torch.Tensor
    targets: torch.Tensor
    segments: torch.Tensor


def split_rows(rows: torch.Tensor, *, eos: int, pad: int) -> Inputs:
    """Inputs, targets and segments of rows (int64[B, T + 1], -1 where there is no token).

    An <eos> is the target of the document before it and, as input, belongs to the one after it.
    """
    alive = rows >= 0
    ids, following = rows[:, :-1], rows[:, 1:]
    targets = torch.where(alive[:, :-1] & alive[:, 1:], following, IGNORE)
    segments = torch.where(alive[:, :-1], (ids == eos).cumsum(1), -1)
    return Inputs(torch.where(alive[:, :-1], ids, pad), targets, segments)


class Samples:
    """Finds and reads samples by their global number."""

    def __init__(self, plan: DataPlan, datasets: Mapping[str, TokenDataset]) -> None:
        self._plan, self._datasets = plan, datasets
        self._orders: dict[tuple[str, int, str], GlobalOrder | BlockedOrder] = {}

    def windows(self, segment: Segment, samples: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where samples of a segment lie.

        Args:
            segment: of the plan.
            samples: int64[n] global sample numbers.

        Returns:
            int64[n] numbers of their datasets (`DataPlan.fingerprints`), int64[n] windows of these.
        """
        located = self._plan.locate(samples)
        windows = np.empty(len(samples), np.int64)
        for number, epoch in sorted({*zip(located.source.tolist(), located.epoch.tolist(), strict=True)}):
            mine = (located.source == number) & (located.epoch == epoch)
            fingerprint = self._plan.fingerprints[number]
            windows[mine] = self._order(segment, fingerprint).window(
                located.index[mine], seed=segment.seed, source=fingerprint, epoch=epoch
            )
        return located.source, windows

    def rows(self, length: int, numbers: NDArray[np.int64], windows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows of windows: int64[n, length + 1] token ids, -1 where there is no token."""
        present = np.unique(numbers).tolist()
        if len(present) == 1:
            return self._dataset(present[0]).windows(windows, length)
        rows = np.empty((len(windows), length + 1), np.int64)
        for number in present:
            mine = numbers == number
            rows[mine] = self._dataset(number).windows(windows[mine], length)
        return rows

    def _dataset(self, number: int) -> TokenDataset:
        return self._datasets[self._plan.fingerprints[number]]

    def _order(self, segment: Segment, fingerprint: str) -> GlobalOrder | BlockedOrder:
        key = (fingerprint, segment.sequence_length, segment.order)
        if key not in self._orders:
            dataset = self._datasets[fingerprint]
            if segment.order == "global":
                self._orders[key] = GlobalOrder(dataset.n_windows(segment.sequence_length))
            else:
                self._orders[key] = BlockedOrder(dataset.block_sizes(segment.sequence_length))
        return self._orders[key]


class Loader:
    """The rows of one process, step by step, read ahead by a thread.

    Row i of a global batch belongs to process i % world. A batch that the processes do not divide is completed with
    rows without tokens, so all processes see the same shape.
    """

    def __init__(self, plan: DataPlan, datasets: Mapping[str, TokenDataset], *, rank: int = 0, world: int = 1) -> None:
        self._plan, self._rank, self._world = plan, rank, world
        self._samples = Samples(plan, datasets)

    def steps(self, first: int, last: int) -> Iterator[NDArray[np.int64]]:
        """Rows int64[ceil(batch / world), T + 1] of the steps first, first + 1, …, last - 1.

        An error of the reading thread is raised here.
        """
        ready: queue.Queue[NDArray[np.int64] | BaseException] = queue.Queue(_AHEAD)
        stop = threading.Event()

        def put(item: NDArray[np.int64] | BaseException) -> None:
            while not stop.is_set():
                with contextlib.suppress(queue.Full):
                    ready.put(item, timeout=0.1)
                    return

        def read() -> None:
            try:
                for rows in self.read(first, last):
                    put(rows)
                    if stop.is_set():
                        return
            except BaseException as error:
                put(error)

        thread = threading.Thread(target=read, name="loader", daemon=True)
        thread.start()
        try:
            for _ in range(first, last):
                item = ready.get()
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            stop.set()
            thread.join()

    def read(self, first: int, last: int) -> Iterator[NDArray[np.int64]]:
        """The same rows, read here and now."""
        step = first
        while step < last:
            segment = self._plan.segment_at(step)
            end = step + 1
            while end < min(last, step + _SAMPLES_AT_ONCE // segment.batch) and self._plan.segment_at(end) is segment:
                end += 1
            samples = np.arange(self._plan.samples_of(step).start, self._plan.samples_of(end - 1).stop, dtype=np.int64)
            flat = samples.reshape(-1, segment.batch)[:, self._rank :: self._world].ravel()
            n_mine, n_rows = flat.size // (end - step), -(-segment.batch // self._world)
            length = segment.sequence_length
            numbers, windows = self._samples.windows(segment, flat) if flat.size else (flat, flat)
            together = max(1, _TOKENS_AT_ONCE // (n_rows * length))
            for at in range(0, end - step, together):
                here = slice(at * n_mine, (at + together) * n_mine)
                rows = self._samples.rows(length, numbers[here], windows[here])
                rows = rows.reshape(min(together, end - step - at), n_mine, length + 1)
                if n_mine < n_rows:
                    rows = np.pad(rows, ((0, 0), (0, n_rows - n_mine), (0, 0)), constant_values=-1)
                yield from rows
            step = end
