"""The two loops of dedup that numpy has no words for: union-find, and leader clustering.

All compiled functions stand in this file: numba's cache of machine code notices no edits elsewhere.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from corpusmill.pipeline.compiled import compiled

__all__ = ["flatten", "follow_leaders", "unite"]

_BLOCK = 128
"""Leaders compared at once: their partial counts (1 kB) stay in the first-level cache."""

_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_ONES = np.uint64(0x0101010101010101)


@compiled
def unite(left: NDArray[np.int64], right: NDArray[np.int64], parents: NDArray[np.int64]) -> None:
    """Joins the trees of `left[i]` and `right[i]` for each i; the smaller root becomes the root of both.

    Tarjan & van Leeuwen, Worst-case analysis of set union algorithms, 1984 (path halving).

    Args:
        left: nodes, int64[E].
        right: nodes, int64[E].
        parents: int64[N], of each node, `arange(N)` at first; changed in place. No parent is above its node.
    """
    for i in range(left.size):
        a, b = left[i], right[i]
        while parents[a] != a:
            parents[a] = parents[parents[a]]
            a = parents[a]
        while parents[b] != b:
            parents[b] = parents[parents[b]]
            b = parents[b]
        if a < b:
            parents[b] = a
        else:
            parents[a] = b


@compiled
def flatten(parents: NDArray[np.int64]) -> None:
    """Makes the root of each node its parent; since no parent is above its node, one pass does."""
    for i in range(parents.size):
        parents[i] = parents[parents[i]]


@compiled
def _unequal(a: Any, b: Any) -> Any:
    """A one in the lowest bit of each byte in which two 64-bit words differ."""
    x = a ^ b
    return ((((x & _LOW_BITS) + _LOW_BITS) | x) >> np.uint64(7)) & _ONES


@compiled
def _count(ones: Any) -> Any:
    """The sum of the eight bytes of a word, if it is below 256."""
    return (ones * _ONES) >> np.uint64(56)


@compiled
def _compare(
    words: NDArray[np.uint64], row: int, heads: NDArray[np.uint64], counts: NDArray[np.uint64], most: Any
) -> bool:
    """Counts the unequal bytes of the first words of a row and of a block of leaders; False if all are above `most`."""
    counts[:] = np.uint64(0)
    for j in range(heads.shape[0]):
        word, column = words[row, j], heads[j]
        for k in range(_BLOCK):
            counts[k] += _unequal(word, column[k])
    close = 0
    for k in range(_BLOCK):
        counts[k] = _count(counts[k])
        if counts[k] <= np.uint64(most):
            close += 1
    return close > 0


@compiled
def follow_leaders(
    words: NDArray[np.uint64],
    bounds: NDArray[np.int64],
    most: int,
    n_heads: int,
    leaders: NDArray[np.int64],
    unequal: NDArray[np.int64],
) -> None:
    """Leader clustering of each group of rows: a row follows the most similar leader before it, or becomes one.

    Of equally similar leaders the first is followed. Most pairs have nothing in common: they are done with after the
    first words, which are kept in blocks of leaders side by side (1.2 ns a pair against 33 ns byte by byte).

    Args:
        words: uint64[M, W], the signatures; groups lie one after the other, each from its best document to its worst.
        bounds: int64[G + 1], where groups begin, and M.
        most: bytes in which a row may differ from the leader that it follows.
        n_heads: 1 to 31 first words to compare at once, at most W.
        leaders: int64[M], filled with the row that each row follows, its own for a leader.
        unequal: int64[M], filled with the bytes in which it differs from that.
    """
    largest = 0
    for g in range(bounds.size - 1):
        largest = max(largest, bounds[g + 1] - bounds[g])
    heads = np.zeros((largest // _BLOCK + 1, n_heads, _BLOCK), np.uint64)
    counts = np.zeros(_BLOCK, np.uint64)
    rows = np.zeros(largest, np.int64)
    for g in range(bounds.size - 1):
        n_leaders = 0
        for i in range(bounds[g], bounds[g + 1]):
            best, left = np.int64(i), np.int64(most)  # only what is better than the best so far counts
            for start in range(0, n_leaders, _BLOCK):
                if left < 0:  # equal to a leader
                    break
                if not _compare(words, i, heads[start // _BLOCK], counts, left):
                    continue
                for k in range(min(_BLOCK, n_leaders - start)):
                    difference, row = np.int64(counts[k]), rows[start + k]
                    for j in range(n_heads, words.shape[1]):
                        if difference > left:
                            break
                        difference += np.int64(_count(_unequal(words[i, j], words[row, j])))
                    if difference <= left:
                        best, left = row, difference - 1
            leaders[i] = best
            if best == i:
                unequal[i] = 0
                for j in range(n_heads):
                    heads[n_leaders // _BLOCK, j, n_leaders % _BLOCK] = words[i, j]
                rows[n_leaders] = i
                n_leaders += 1
            else:
                unequal[i] = left + 1
