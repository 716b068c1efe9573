"""The order in which an epoch visits the windows of a source: a function of (seed, source, epoch), never a list.

Any place of any epoch is computed alone, in either direction, and nothing is stored or drawn ahead: that is what
makes a run resume exactly and a window traceable to its step. `GlobalOrder` mixes all windows; `BlockedOrder` takes
block after block in a mixed order and mixes inside each, which a loader of remote shards can read once through.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockedOrder", "GlobalOrder", "order_key", "permute", "unpermute"]

_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15
_LIMIT = 1 << 62  # below it, sums of two numbers stay in 64 bits and the halves in 32


def order_key(seed: int, source: str, epoch: int, block: int | None = None) -> int:
    """The 64-bit key of an epoch of a source, or of one block in it: the same on every machine, for ever.

    Args:
        seed: of the run.
        source: fingerprint of the dataset.
        epoch: from 0.
        block: None for the epoch's own key.
    """
    text = f"{seed}/{source}/{epoch}/{'-' if block is None else block}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def _mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser (Steele et al., OOPSLA 2014), in place."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values


def _feistel(
    index: NDArray[np.uint64], n: NDArray[np.uint64], key: NDArray[np.uint64], *, inverse: bool
) -> NDArray[np.uint64]:
    """One pass over the domain of a * b >= n numbers; `n` and `key` are [1] or like `index`."""
    a = np.ceil(np.sqrt(n.astype(np.float64))).astype(np.uint64)  # IEEE: the same everywhere, exact or not
    b = (n + (a - np.uint64(1))) // a
    sizes = (a, b)
    halves = [index // b, index % b]
    for i in reversed(range(_ROUNDS)) if inverse else range(_ROUNDS):
        side = i % 2
        size = sizes[side]
        round_key = _mix64(key + np.uint64((i + 1) * _GOLDEN % 2**64))
        # The upper 32 bits times the size, not a remainder: far cheaper, and as even since sizes are below 2^32.
        shift = (_mix64(halves[1 - side] + round_key) >> np.uint64(32)) * size >> np.uint64(32)
        moved = halves[side] + (size - shift if inverse else shift)
        halves[side] = moved - size * (moved >= size)
    return halves[0] * b + halves[1]


def _check(index: NDArray[np.int64], n: int | NDArray[np.int64]) -> None:
    if np.any((index < 0) | (index >= n)):
        raise IndexError(f"indices {index.min()} to {index.max()}, expected 0 to {np.max(n) - 1}")


def _walk(
    index: NDArray[np.int64], n: int | NDArray[np.int64], key: int | NDArray[np.uint64], *, inverse: bool
) -> NDArray[np.int64]:
    _check(index, n)
    if index.size == 0:
        return index.copy()
    if np.max(n) >= _LIMIT:
        raise ValueError(f"a permutation of {np.max(n)} numbers, expected fewer than {_LIMIT}")
    sizes = np.atleast_1d(np.asarray(n, np.uint64))
    keys = np.atleast_1d(np.asarray(key, np.uint64))
    values = _feistel(index.astype(np.uint64), sizes, keys, inverse=inverse)
    outside = np.flatnonzero(values >= sizes)
    while outside.size:  # cycle walking: a cycle that left the range comes back to it
        its_sizes = sizes[outside] if sizes.size > 1 else sizes
        its_keys = keys[outside] if keys.size > 1 else keys
        values[outside] = _feistel(values[outside], its_sizes, its_keys, inverse=inverse)
        outside = outside[values[outside] >= its_sizes]
    return values.astype(np.int64)


def permute(index: NDArray[np.int64], n: int | NDArray[np.int64], key: int | NDArray[np.uint64]) -> NDArray[np.int64]:
    """A bijection of the numbers 0 … n-1, chosen by `key`.

    A generalised Feistel network of 8 rounds on pairs (left < a, right < b) with a = ceil(sqrt n), b = ceil(n / a),
    and cycle walking for the fewer than a numbers in excess (Black and Rogaway, Ciphers with Arbitrary Finite
    Domains, CT-RSA 2002, §4 and §5).

    Args:
        index: int64[B], each in 0 … n-1.
        n: size of the range, below 2^62; or int64[B], one for each index.
        key: 64 bits; or uint64[B], one for each index.

    Returns:
        int64[B].

    Raises:
        IndexError: an index is not in its range.
    """
    return _walk(index, n, key, inverse=False)


def unpermute(value: NDArray[np.int64], n: int | NDArray[np.int64], key: int | NDArray[np.uint64]) -> NDArray[np.int64]:
    """The inverse: `unpermute(permute(index, n, key), n, key)` is `index` (arguments as for `permute`)."""
    return _walk(value, n, key, inverse=True)


class GlobalOrder:
    """Each epoch visits all windows of a source in an order of its own.

    Attributes:
        n: number of windows.
    """

    def __init__(self, n_windows: int) -> None:
        self.n = n_windows

    def window(self, index: NDArray[np.int64], *, seed: int, source: str, epoch: int) -> NDArray[np.int64]:
        """The windows (int64[B]) at the places `index` (int64[B]) of an epoch; keys as for `order_key`.

        Raises:
            IndexError: a place is not in 0 … n-1.
        """
        return permute(index, self.n, order_key(seed, source, epoch))

    def index(self, window: NDArray[np.int64], *, seed: int, source: str, epoch: int) -> NDArray[np.int64]:
        """The places at which an epoch visits the given windows: the inverse of `window`."""
        return unpermute(window, self.n, order_key(seed, source, epoch))


class BlockedOrder:
    """Each epoch visits all blocks of a source in an order of its own, and the windows of each block in another.

    Attributes:
        n: number of windows.
    """

    def __init__(self, block_sizes: NDArray[np.int64]) -> None:
        """Takes the number of windows in each block (int64[G]); blocks without windows are allowed."""
        self._sizes = np.asarray(block_sizes, np.int64)
        self._first = np.cumsum(self._sizes) - self._sizes
        self.n = int(self._sizes.sum())
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    def window(self, index: NDArray[np.int64], *, seed: int, source: str, epoch: int) -> NDArray[np.int64]:
        """The windows (int64[B]) at the places `index` (int64[B]) of an epoch; keys as for `order_key`.

        Raises:
            IndexError: a place is not in 0 … n-1.
        """
        _check(index, self.n)
        blocks, first = self._blocks(order_key(seed, source, epoch))
        turn = np.searchsorted(first, index, side="right") - 1
        block = blocks[turn]
        keys = self._keys(block, seed, source, epoch)
        return self._first[block] + permute(index - first[turn], self._sizes[block], keys)

    def index(self, window: NDArray[np.int64], *, seed: int, source: str, epoch: int) -> NDArray[np.int64]:
        """The places at which an epoch visits the given windows: the inverse of `window`."""
        _check(window, self.n)
        key = order_key(seed, source, epoch)
        _, first = self._blocks(key)
        block = np.searchsorted(self._first, window, side="right") - 1
        turn = unpermute(block, self._sizes.size, key)
        keys = self._keys(block, seed, source, epoch)
        return first[turn] + unpermute(window - self._first[block], self._sizes[block], keys)

    def _blocks(self, key: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The blocks (int64[G]) in the order of an epoch, and the place of the first window of each (int64[G])."""
        kept = self._epoch  # read once: threads may share an order
        if kept is None or kept[0] != key:
            blocks = permute(np.arange(self._sizes.size), self._sizes.size, key)
            sizes = self._sizes[blocks]
            kept = self._epoch = (key, blocks, np.cumsum(sizes) - sizes)
        return kept[1:]

    def _keys(self, block: NDArray[np.int64], seed: int, source: str, epoch: int) -> NDArray[np.uint64]:
        found, inverse = np.unique(block, return_inverse=True)
        keys = [order_key(seed, source, epoch, number) for number in found.tolist()]
        return np.array(keys, np.uint64)[inverse]
