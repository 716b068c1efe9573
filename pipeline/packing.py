"""Which documents go into which shard, from sizes alone: no text moves (DESIGN §3)."""

from collections.abc import Mapping
from dataclasses import dataclass

import xxhash

__all__ = ["ShardPlan", "pack"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardPlan:
    """A shard before it is written.

    Attributes:
        split: train, validation or test.
        generation: number of the generation.
        number: of the shard within split and generation.
        pieces: (unit, row groups of it that hold survivors of the split), in the order of the units' hashes.
    """

    split: str
    generation: int
    number: int
    pieces: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def name(self) -> str:
        """Path below the dataset folder."""
        return f"data/{self.split}-{self.generation:03d}-{self.number:05d}.parquet"


def pack(survivors: Mapping[str, Mapping[str, list[int]]], target_bytes: int, generation: int) -> list[ShardPlan]:
    """Pack units into shards.

    Units come in the order of a hash of their names, so that a shard mixes sources. A shard is closed before the
    unit that would take it over the target; a unit larger than the target is cut at row groups. An empty split
    gets no shard.

    Args:
        survivors: by unit and split, UTF-8 bytes of surviving text in each row group.
        target_bytes: text a shard aims at.
        generation: number for the names.
    """
    plans: list[ShardPlan] = []
    for split in ("train", "validation", "test"):
        open_pieces: list[tuple[str, tuple[int, ...]]] = []
        open_bytes = number = 0
        for unit in sorted(survivors, key=lambda unit: (xxhash.xxh3_64_intdigest(unit.encode()), unit)):
            for groups, n_bytes in _cut(survivors[unit].get(split, []), target_bytes):
                if open_pieces and open_bytes + n_bytes > target_bytes:
                    plans.append(
                        ShardPlan(split=split, generation=generation, number=number, pieces=tuple(open_pieces))
                    )
                    open_pieces, open_bytes, number = [], 0, number + 1
                open_pieces.append((unit, groups))
                open_bytes += n_bytes
        if open_pieces:
            plans.append(ShardPlan(split=split, generation=generation, number=number, pieces=tuple(open_pieces)))
    return plans


def _cut(sizes: list[int], target_bytes: int) -> list[tuple[tuple[int, ...], int]]:
    """Row groups with survivors, in runs of at most the target (a single larger row group stays whole)."""
    runs: list[tuple[tuple[int, ...], int]] = []
    for group, size in enumerate(sizes):
        if size == 0:
            continue
        if runs and runs[-1][1] + size <= target_bytes:
            runs[-1] = ((*runs[-1][0], group), runs[-1][1] + size)
        else:
            runs.append(((group,), size))
    return runs
