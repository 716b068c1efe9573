"""Raw components: documents linked by any shared key, directly or through others.

They only cut the work into independent parts; `cascade` decides inside each who is dropped. Each partition of the
keys gives a spanning forest, forests are merged by groups, and the last merge reads them one by one: no step holds
more than its own forest. Nothing here depends on the order or number of the blobs, and a key of m documents costs m
rows, never m^2 pairs.
"""

from collections.abc import Iterable
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from corpusmill.pipeline.dedup import kernels
from corpusmill.pipeline.dedup.keys import begins_of, repeated, unpack

MAX_KEYS = 4 << 20
"""Keys that are sorted at once; with all that is made of them about 300 MB."""


class Forest(NamedTuple):
    """Trees of documents; two forests of the same trees are equal.

    Attributes:
        docs: uint64[N], numbers of all documents that have an edge, sorted.
        roots: int64[N], position of the smallest document of each one's tree.
    """

    docs: NDArray[np.uint64]
    roots: NDArray[np.int64]

    def pack(self) -> bytes:
        """16 bytes a document."""
        return self.docs.tobytes() + self.roots.tobytes()

    @classmethod
    def unpack(cls, blob: bytes) -> Self:
        """The inverse of `pack`."""
        n_docs = len(blob) // 16
        return cls(np.frombuffer(blob, np.uint64, n_docs), np.frombuffer(blob, np.int64, n_docs, 8 * n_docs))


def chain(blobs: Iterable[bytes], n_keys: int, *, max_keys: int = MAX_KEYS) -> Forest:
    """Links the documents that share a key in one partition.

    A partition of more than `max_keys` is read several times, each time for another part of its keys. Where one key
    has more documents than that, those read so far are linked, and one of them waits for the rest.

    Args:
        blobs: all that `split_by_partition` made for the partition, in any order, read more than once if they hold
            more than `max_keys`. A blob that comes twice counts once.
        n_keys: keys in all blobs, about.
        max_keys: 1 or more to hold at once, about.

    Returns:
        The trees of documents that are linked, directly or through others.
    """
    n_parts = max(1, -(-n_keys // max_keys))
    forest = merge([])
    for part in range(n_parts):
        waiting, n_waiting = [(np.empty(0, np.uint64), np.empty(0, np.uint64))], 0
        for blob in blobs:
            keys, docs = unpack(blob)
            if n_parts > 1:
                mine = ((keys & np.uint64(0xFFFFFFFF)) * np.uint64(n_parts)) >> np.uint64(32) == part
                keys, docs = keys[mine], docs[mine]
            waiting.append((keys, docs))
            n_waiting += keys.size
            if n_waiting > 2 * max_keys:
                keys, docs, links = _link(waiting)
                forest, waiting, n_waiting = merge([forest, links]), [(keys, docs)], keys.size
        forest = merge([forest, _link(waiting)[2]])
    return forest


def merge(forests: Iterable[Forest]) -> Forest:
    """The trees of the union of some forests.

    Args:
        forests: in any order, read twice, one at a time.
    """
    docs = np.empty(0, np.uint64)
    for forest in forests:
        docs = np.sort(np.concatenate([docs, forest.docs]), kind="stable")  # Timsort: two runs are merged in one pass
        docs = docs[begins_of(docs)]
    roots = np.arange(docs.size)
    for forest in forests:
        places = np.searchsorted(docs, forest.docs)
        kernels.unite(places, places[forest.roots], roots)
    kernels.flatten(roots)
    return Forest(docs, roots)


def _link(
    rows: list[tuple[NDArray[np.uint64], NDArray[np.uint64]]],
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], Forest]:
    """Each key once with a document that has it, and a forest of the documents that share any."""
    keys = np.concatenate([keys for keys, _ in rows])
    docs = np.concatenate([docs for _, docs in rows])
    shared, begins = repeated(keys)
    first = np.ones(keys.size, bool)
    first[shared[~begins]] = False
    nodes, places = np.unique(docs[shared], return_inverse=True)
    roots = np.arange(nodes.size)
    kernels.unite(places[begins][np.cumsum(begins) - 1], places, roots)
    kernels.flatten(roots)
    linked = np.bincount(roots, minlength=nodes.size)[roots] > 1  # a document whose blob comes twice shares with itself
    forest = Forest(nodes[linked], (np.cumsum(linked) - 1)[roots[linked]])
    return keys[first], docs[first], forest
