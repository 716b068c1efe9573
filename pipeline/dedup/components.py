"""Raw components: documents linked by any shared key, directly or through others.

They only cut the work into independent parts; `cascade` decides inside each who is dropped. Each partition of the
keys gives a spanning forest, forests are merged by groups, and the last merge reads them one by one: no step holds
more than its own forest. Nothing here depends on the order or number of the blobs, and a key of m documents costs m
rows, never m^2 pairs.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from corpusmill.pipeline.dedup import kernels
from corpusmill.pipeline.dedup.keys import unpack

MAX_KEYS = 4 << 20
"""Keys that are sorted at once; with all that is made of them about 300 MB."""


def chain(blobs: Iterable[bytes], n_keys: int, *, max_keys: int = MAX_KEYS) -> NDArray[np.uint64]:
    """Links the documents that share a key in one partition.

    A partition of more than `max_keys` is read several times, each time for another part of its keys. Where one key
    has more documents than that, those read so far are linked, and one of them waits for the rest.

    Args:
        blobs: all that `split_by_partition` made for the partition, in any order, read more than once if they hold
            more than `max_keys`. A blob that comes twice counts once.
        n_keys: keys in all blobs, about.
        max_keys: 1 or more to hold at once, about.

    Returns:
        A forest, as `merge` makes them.
    """
    n_parts = max(1, -(-n_keys // max_keys))
    forest = np.empty((0, 2), np.uint64)
    for part in range(n_parts):
        waiting = [(np.empty(0, np.uint64), np.empty(0, np.uint64))]
        for blob in blobs:
            keys, docs = unpack(blob)
            if n_parts > 1:
                mine = ((keys & np.uint64(0xFFFFFFFF)) * np.uint64(n_parts)) >> np.uint64(32) == part
                keys, docs = keys[mine], docs[mine]
            waiting.append((keys, docs))
            if sum(keys.size for keys, _ in waiting) > 2 * max_keys:
                keys, docs, links = _link(waiting)
                forest, waiting = _join(forest, links), [(keys, docs)]
        forest = _join(forest, _link(waiting)[2])
    return forest


def merge(forests: Iterable[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """One forest instead of several.

    Args:
        forests: arrays uint64[E, 2] of document numbers, in any order, read twice.

    Returns:
        uint64[E, 2], a forest: (smallest document of the component, each other), sorted by the other.
    """
    docs, roots = components(forests)
    return _pairs(roots, docs)


def components(forests: Iterable[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The components of the union of some forests.

    Args:
        forests: arrays uint64[E, 2] of document numbers, in any order, read twice.

    Returns:
        The documents that have an edge, sorted (uint64[N]), and the smallest document of each one's component
        (uint64[N]).
    """
    docs = np.empty(0, np.uint64)
    for forest in forests:
        docs = _distinct(np.concatenate([docs, forest.ravel()]))
    parents = np.arange(docs.size)
    for forest in forests:
        kernels.unite(np.searchsorted(docs, forest[:, 0]), np.searchsorted(docs, forest[:, 1]), parents)
    kernels.flatten(parents)
    return docs, docs[parents]


def _link(
    rows: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.uint64]]:
    """Each key once with a document that has it, and a forest of the documents that share any."""
    keys = np.concatenate([keys for keys, _ in rows])
    docs = np.concatenate([docs for _, docs in rows])
    shared, begins = _shared(keys)
    first = np.ones(keys.size, bool)
    first[shared[~begins]] = False
    nodes, position = np.unique(docs[shared], return_inverse=True)
    parents = np.arange(nodes.size)
    kernels.unite(position[begins][np.cumsum(begins) - 1], position, parents)
    kernels.flatten(parents)
    return keys[first], docs[first], _pairs(nodes[parents], nodes)


def _shared(keys: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The places of keys that are there more than once, equal ones together, and where each set of them begins.

    The sort is of one array, twice as fast as one that moves two: the number of the place takes the lowest bits of the
    key. What these hid is sorted again, among the few whose other bits are equal.
    """
    mask = np.uint64((1 << keys.size.bit_length()) - 1)
    ordered = np.sort((keys & ~mask) | np.arange(keys.size, dtype=np.uint64))
    places = (ordered[_repeated(_begins(ordered & ~mask))] & mask).astype(np.intp)
    values = keys[places]
    if (values[1:] < values[:-1]).any():
        order = np.argsort(values, kind="stable")
        places, values = places[order], values[order]
    begins = _begins(values)
    mine = _repeated(begins)
    return places[mine], begins[mine]


def _begins(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which elements of a sorted array differ from the one before."""
    begins = np.ones(ordered.size, bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    return begins


def _repeated(begins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which elements of a sorted array are there more than once."""
    repeated: NDArray[np.bool_] = ~(begins & np.append(begins, True)[1:])
    return repeated


def _distinct(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    values = np.sort(values)  # np.unique hashes, which takes seven times as long
    return values[_begins(values)]


def _join(forest: NDArray[np.uint64], other: NDArray[np.uint64]) -> NDArray[np.uint64]:
    return merge([forest, other]) if forest.size else other


def _pairs(roots: NDArray[np.uint64], docs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    pairs: NDArray[np.uint64] = np.column_stack([roots, docs])[roots != docs]
    return pairs
