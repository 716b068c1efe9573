"""The processes of a run: one by itself, or those that `torchrun` started."""

import gc
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

__all__ = ["Processes", "processes"]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Processes:
    """This process among those of the run.

    Attributes:
        rank: number of this one, from 0.
        world: how many there are.
        device: where its tensors live.
    """

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value summed over the processes, in float64 (float32 on MPS, which has one process)."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def gather(self, value: _T) -> list[_T]:
        """The values of all processes, by rank; anything that can be pickled."""
        if self.world == 1:
            return [value]
        gathered: list[Any] = [None] * self.world
        dist.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        """Wait until all processes are here."""
        if self.world > 1:
            self.sum(0.0)  # on a device of its own, where `dist.barrier` of nccl guesses which one


@contextmanager
def processes(device: torch.device) -> Iterator[Processes]:
    """Join the processes that torchrun started (gloo on CPUs, nccl on GPUs), or be the only one.

    What the block makes must be gone when it ends, or go with it: a DDP model that outlives the process group frees
    it while it holds Python's lock, for which the group's own threads may wait, for ever.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Processes(rank=0, world=1, device=device)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    group = Processes(rank=dist.get_rank(), world=world, device=device)
    try:
        yield group
        gc.collect()  # a DDP model is part of reference cycles
        group.barrier()  # no process leaves while another still talks to it
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        gc.collect()
        raise
    finally:
        dist.destroy_process_group()
