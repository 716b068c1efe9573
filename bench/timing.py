"""Contestants that take turns, the clocks they are timed by, and ratios of their speeds.

Standard library only: peers in environments of their own use it too.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Clock", "Run", "drain", "interleaved", "speed", "speedup", "timed"]

Clock = Literal["wall_s", "cpu_s"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was done in one turn.

    Attributes:
        tokens: how many.
        wall_s: seconds that passed.
        cpu_s: seconds of all threads of the process.
    """

    tokens: int
    wall_s: float
    cpu_s: float


def timed(work: Callable[[], int]) -> Run:
    """Do `work`, which returns its number of tokens."""
    wall, cpu = time.perf_counter(), time.process_time()
    tokens = work()
    return Run(tokens=tokens, wall_s=time.perf_counter() - wall, cpu_s=time.process_time() - cpu)


def drain(batches: Iterator[object], tokens: int, seconds: float) -> Run:
    """Take batches of so many tokens for some seconds."""

    def take() -> int:
        n, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            next(batches)
            n += tokens
        return n

    return timed(take)


def interleaved(contestants: Mapping[str, Callable[[], Run]], repeat: int) -> dict[str, list[Run]]:
    """Let all take a turn after one another, `repeat` times, after a first round that warms up and does not count.

    What the machine does besides then hits all of them alike.
    """
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for turn in range(repeat + 1):
        for name, run in contestants.items():
            done = run()
            if turn:
                runs[name].append(done)
    return runs


def speed(runs: Sequence[Run], clock: Clock) -> float:
    """Tokens a second by a clock, in the median."""
    return statistics.median(run.tokens / getattr(run, clock) for run in runs)


def speedup(ours: Sequence[Run], theirs: Sequence[Run], clock: Clock) -> float:
    """How many times as fast we are by a clock: the median of the ratios of turns that followed one another."""
    return statistics.median(speed([a], clock) / speed([b], clock) for a, b in zip(ours, theirs, strict=True))
