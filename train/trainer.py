"""One training step on one of the processes of a run: rows in, weights changed, the loss out."""

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.parallel import DistributedDataParallel

from corpusmill.schemas.errors import CorpusmillError
from corpusmill.train.checkpoint import DatasetUse, State
from corpusmill.train.config import Optim
from corpusmill.train.data.dataset import TokenDataset
from corpusmill.train.data.loader import IGNORE, Loader, split_rows
from corpusmill.train.data.plan import DataPlan
from corpusmill.train.distributed import Processes
from corpusmill.train.hardware import Precision
from corpusmill.train.model.attention import attention_mask
from corpusmill.train.model.decoder import Decoder
from corpusmill.train.optim import Optimizers, OptimizerSettings, clip_gradients
from corpusmill.train.schedule import ScheduleSettings, learning_rate
from corpusmill.train.setup import Setup

__all__ = ["StepResult", "Trainer", "optimizer_settings", "schedule_settings"]

_LR = {"muon": 6e-3, "adamw": 3e-3, "sgd": 0.1}
_MOST_WARMUP = 1000


def schedule_settings(optim: Optim) -> ScheduleSettings:
    """The schedule, with what the configuration leaves open."""
    return ScheduleSettings(
        name=optim.schedule,
        lr=optim.lr or _LR[optim.name],
        steps=optim.steps,
        warmup_steps=min(math.ceil(optim.steps / 50), _MOST_WARMUP) if optim.warmup is None else optim.warmup,
        decay_fraction=optim.decay,
        decay_shape=optim.decay_shape,
        min_fraction=optim.min_lr,
    )


def optimizer_settings(optim: Optim) -> OptimizerSettings:
    """The optimizer's constants."""
    return OptimizerSettings(
        name=optim.name,
        betas=optim.betas,
        eps=optim.eps,
        weight_decay=optim.weight_decay,
        momentum=optim.momentum,
    )


def _use(dataset: TokenDataset) -> DatasetUse:
    totals: dict[str, dict[str, int]] = {"languages": {}, "sources": {}}
    for shard in dataset.manifest.shards:
        if shard.split == dataset.split:
            for by, groups in (("languages", shard.languages), ("sources", shard.sources)):
                for key, group in groups.items():
                    totals[by][key] = totals[by].get(key, 0) + group.tokens
    return DatasetUse(
        path=dataset.location,
        fingerprint=dataset.fingerprint,
        name=str(dataset.manifest.recipe.get("name", "dataset")),
        split=dataset.split,
        languages=totals["languages"],
        sources=totals["sources"],
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class StepResult:
    """One step over all processes.

    Attributes:
        loss: nats a target, before the update.
        grad_norm: before clipping.
        lr: of the update.
        n_targets: tokens that were learned from.
        asked_to_stop: whether any process was.
    """

    loss: float
    grad_norm: float
    lr: float
    n_targets: int
    asked_to_stop: bool


class Trainer:
    """A model, its optimizer and the place in the data, on one of the processes of a run."""

    def __init__(
        self,
        setup: Setup,
        plan: DataPlan,
        decoder: Decoder,
        processes: Processes,
        *,
        precision: Precision,
    ) -> None:
        """Set up training.

        Args:
            setup: the configuration with its datasets.
            plan: of the data.
            decoder: with its weights, on any device.
            processes: of the run.
            precision: fp32 or bf16.
        """
        config = setup.config
        self.setup, self.plan, self.processes = setup, plan, processes
        self.precision = precision
        self.decoder = decoder.to(processes.device)
        self.optimizers = Optimizers(self.decoder, optimizer_settings(config.optim))
        self.step = self.n_tokens = 0
        self.used = {name: _use(dataset) for name, dataset in setup.datasets.items()}
        self.schedule = schedule_settings(config.optim)
        compiled = config.compile == "on" or (config.compile == "auto" and processes.device.type == "cuda")
        forward: nn.Module = torch.compile(self.decoder) if compiled else self.decoder  # type: ignore[assignment]
        self._model = DistributedDataParallel(forward) if processes.world > 1 else forward

    def restore(self, state: State, optimizer: dict[str, Tensor]) -> None:
        """Go on from a checkpoint whose weights the decoder has."""
        self.optimizers.load_state_tensors(optimizer)
        self.step, self.n_tokens = state.step, state.n_tokens
        self.used = {dataset.fingerprint: dataset for dataset in state.datasets} | self.used

    # --- one step

    def rows(self, last: int) -> Iterator[NDArray[np.int64]]:
        """Rows of this process for the steps from here to `last`."""
        loader = Loader(self.plan, self.setup.datasets, rank=self.processes.rank, world=self.processes.world)
        return loader.steps(self.step, last)

    def train_step(self, rows: NDArray[np.int64], *, stop: bool = False) -> StepResult:
        """Learn from the rows of this process (int64[R, T + 1]), together with the other processes.

        The loss is the sum over the global batch / its number of targets, so it does not depend on how rows are dealt
        to processes and micro-batches, nor on where tokens are missing.

        Args:
            rows: as `rows` gives them.
            stop: whether this process was asked to stop; all learn of it.

        Raises:
            CorpusmillError: the loss or the gradient is not finite.
        """
        n_mine = int(((rows[:, :-1] >= 0) & (rows[:, 1:] >= 0)).sum())
        n_targets, n_signals = self.processes.sum(n_mine, stop)
        nats = torch.zeros((), dtype=torch.float32, device=self.processes.device)
        at_once = self.setup.config.optim.rows_at_once(self.processes.world)
        parts = np.split(rows, range(at_once, len(rows), at_once))
        for i, part in enumerate(parts):
            waits = isinstance(self._model, DistributedDataParallel) and i < len(parts) - 1
            with self._model.no_sync() if waits else nullcontext():  # type: ignore[operator]
                loss = self._nats(part)
                # DDP takes the mean of the gradients over processes
                (loss * (self.processes.world / max(n_targets, 1))).backward()  # type: ignore[no-untyped-call]
            nats += loss.detach()
        total = self.processes.sum(float(nats))[0] / max(n_targets, 1)
        clip = self.setup.config.optim.clip or math.inf
        norm = clip_gradients(self.decoder.parameters(), clip)
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise CorpusmillError(
                f"step {self.step}: the loss is {total} and the gradient's norm {norm}; lower optim.lr, or go on from "
                "the last checkpoint with --resume --skip-steps N to pass over the data that did it"
            )
        lr = learning_rate(self.step, self.schedule)
        self.optimizers.step(lr)
        self.optimizers.zero_grad()
        self.step += 1
        self.n_tokens += int(n_targets)
        return StepResult(loss=total, grad_norm=norm, lr=lr, n_targets=int(n_targets), asked_to_stop=n_signals > 0)

    def _nats(self, rows: NDArray[np.int64]) -> Tensor:
        device, first = self.processes.device, self.setup.first
        inputs = split_rows(torch.from_numpy(rows), eos=first.eos, pad=first.pad)
        segments = inputs.segments if self.setup.config.data.document_mask else inputs.segments.clamp(max=0)
        mask = attention_mask(segments, device)
        with self.autocast():
            logits = self._model(inputs.ids.to(device), mask=mask)
        return F.cross_entropy(
            logits.float().flatten(0, 1), inputs.targets.to(device).flatten(), ignore_index=IGNORE, reduction="sum"
        )

    def autocast(self) -> torch.autocast:
        """The context in which the model computes."""
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.precision == "bf16")
