"""The schedule by which the samples of a run are dealt to its sources: exact, even, and countable in O(log n).

Sample j belongs to the source in whose bracket (A*j + s) mod 2^32 lies; the brackets are as wide as the weights. With
A near 2^32 / golden ratio the points of every stretch of samples are spread evenly, so every stretch holds the sources
in proportion. How many earlier samples went to a source is a sum of floors, computed without a walk.
"""

import hashlib
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from corpusmill.schemas.errors import UsageError

__all__ = ["Mixture", "floor_sum"]

_MODULUS = 1 << 32
_MULTIPLIER = 2654435521
"""The odd number next to 2^32 / golden ratio whose fraction of 2^32 has no partial quotient above 3 (there are such
for each power of 2: Niederreiter, Dyadic fractions with small partial quotients, 1986)."""


def floor_sum(n: int, m: int, a: int, b: int) -> int:
    """The sum of floor((a*i + b) / m) over i = 0 … n-1, exactly, in O(log m) steps (Euclid's algorithm).

    Args:
        n: number of terms, at least 0.
        m: at least 1.
        a: any number.
        b: any number.
    """
    total = 0
    while n:
        quotient, a = divmod(a, m)
        total += quotient * (n * (n - 1) // 2)
        quotient, b = divmod(b, m)
        total += quotient * n
        # What is left counts the lattice points below a line of slope a/m < 1: swap the axes.
        n, b = divmod(a * n + b, m)
        a, m = m, a
    return total


@dataclass(frozen=True)
class Mixture:
    """Which source each sample is drawn from.

    Over the first n samples, as over any n consecutive ones, a source of share w gets n*w samples, give or take
    sum b_i (1 + q_i / q_(i+1)) + n / 2^32. Here q_i are the denominators of the convergents of A / 2^32, and b_i the
    digits of n in that base (Ostrowski): q_i consecutive points are the multiples of 1 / q_i, all moved one way by
    less than 1 / q_(i+1), so an interval holds its share of them to within 1 + q_i / q_(i+1); the last term is the
    rounding of brackets. The sum is below 2.1 + 1.25 log2(n) and never above 39. The true maximum is smaller:
    5.2 over all brackets and all stretches of up to 20,000 samples.

    Attributes:
        weights: one for each source; only their ratios count. A source of weight 0 is never drawn.
        seed: decides s, where the schedule begins.

    Raises:
        UsageError: no weight, a negative one, only zeros, or a share below 2^-32.
    """

    weights: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not any(self.weights) or min(self.weights) < 0:
            raise UsageError(f"the weights are {list(self.weights)}, expected numbers from 0 up, one of them above 0")
        total = sum(self.weights)
        for weight in self.weights:
            if 0 < weight * _MODULUS < total:
                raise UsageError(f"a weight is {weight} of {total} in all, expected a share of 2^-32 or more, or 0")

    @cached_property
    def _cuts(self) -> list[int]:
        """The bracket of source k is _cuts[k] … _cuts[k + 1]."""
        total = sum(self.weights)
        return [_MODULUS * below // total for below in accumulate(self.weights, initial=0)]

    @cached_property
    def _start(self) -> int:
        return int.from_bytes(hashlib.sha256(f"mixture/{self.seed}".encode()).digest()[:4], "little")

    def sources(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """The source (int64[B], positions in `weights`) of each sample (int64[B], from 0)."""
        points = samples.astype(np.uint64) * np.uint64(_MULTIPLIER) + np.uint64(self._start)
        points %= np.uint64(_MODULUS)  # a power of 2: right although the products wrap around
        return np.searchsorted(np.array(self._cuts[1:], np.uint64), points, side="right")

    def counts(self, n: int) -> tuple[int, ...]:
        """How many of the samples 0 … n-1 each source got."""
        return tuple(low - high for low, high in pairwise(self._floors(cut, n) for cut in self._cuts))

    def draws(self, first: int, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The samples first … first+n-1, each as the how-manieth of which source.

        Returns:
            The source of each sample (int64[n]), and how many samples before it, counted from sample 0, the same
            source got (int64[n]).
        """
        source = self.sources(np.arange(first, first + n))
        ordinal = np.empty(n, np.int64)
        for k, before in enumerate(self.counts(first)):
            own = np.flatnonzero(source == k)
            ordinal[own] = np.arange(before, before + own.size)
        return source, ordinal

    def find(self, source: int, ordinal: int, n: int) -> int | None:
        """The sample below n that is the draw number `ordinal` of a source: the inverse of `draws`; None without."""
        low, high = self._cuts[source : source + 2]

        def drawn(samples: int) -> int:
            return self._floors(low, samples) - self._floors(high, samples)

        if not 0 <= ordinal < drawn(n):
            return None
        return bisect_left(range(n), ordinal + 1, key=drawn) - 1

    def _floors(self, cut: int, n: int) -> int:
        """The sum of floor((A*j + s - cut) / 2^32) over the samples 0 … n-1.

        From the lower end of a bracket to its upper one, exactly the floors of the points within fall, each by 1.
        """
        return floor_sum(n, _MODULUS, _MULTIPLIER, self._start - cut)
