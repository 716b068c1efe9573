"""Raw components: documents linked by any shared key, directly or through others.

They only cut the work into independent parts; `cascade` decides inside each who is dropped. Nothing here
depends on the order or number of the blobs, and a key of m documents costs m rows, never m^2 pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import connected_components  # type: ignore[import-untyped]

from corpusmill.pipeline.dedup.keys import KEY_ROW, heads


def edges(blobs: Sequence[bytes]) -> NDArray[np.uint64]:
    """Links the documents that share a key in one partition.

    Args:
        blobs: packed `KEY_ROW`s, all that `split_by_partition` made for the partition, in any order; a blob
            that comes twice counts once.

    Returns:
        uint64[E, 2], a forest: (smallest document of the component, each other), sorted by the other.
    """
    rows = np.frombuffer(b"".join(blobs), KEY_ROW)
    docs = rows["doc"]
    first = docs[heads([rows["kind"], rows["hi"], rows["lo"]], [docs])]
    return _forest(np.column_stack([first, docs])[first != docs])


def components(edge_arrays: Sequence[NDArray[np.uint64]]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The components of the union of some edge arrays.

    Args:
        edge_arrays: arrays uint64[E, 2] of document numbers, in any order.

    Returns:
        The documents that have an edge, sorted (uint64[N]), and the smallest document of each one's component
        (uint64[N]).
    """
    pairs = np.concatenate([np.empty((0, 2), np.uint64), *edge_arrays])
    docs, ends = np.unique(pairs, return_inverse=True)
    left, right = ends.reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs), bool), (left, right)), shape=(docs.size, docs.size))
    labels: NDArray[np.int32] = connected_components(links, directed=False)[1]
    _, smallest, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return docs, docs[smallest][inverse]


def _forest(pairs: NDArray[np.uint64]) -> NDArray[np.uint64]:
    docs, roots = components([pairs])
    forest: NDArray[np.uint64] = np.column_stack([roots, docs])[roots != docs]
    return forest
