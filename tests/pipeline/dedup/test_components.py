"""Raw components against a plain search, whatever order the keys come in."""

import time
from random import Random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.dedup.components import components, edges
from corpusmill.pipeline.dedup.keys import KEY_ROW, split_by_partition

KeyRow = tuple[int, int, int, int]
small = st.integers(0, 4)
key_rows = st.lists(st.tuples(st.integers(0, 3), small, small, st.integers(0, 12)), max_size=50)


def blob(rows: list[KeyRow]) -> bytes:
    return np.array(rows, KEY_ROW).tobytes()


def by_search(rows: list[KeyRow]) -> dict[int, int]:
    """Smallest document reachable through shared keys, of each document that shares any."""
    root: dict[int, int] = {}
    for doc in sorted({row[3] for row in rows}):
        seen, todo = {doc}, [doc]
        while todo:
            one = todo.pop()
            keys = {row[:3] for row in rows if row[3] == one}
            new = {row[3] for row in rows if row[:3] in keys} - seen
            seen |= new
            todo += new
        if len(seen) > 1:
            root[doc] = min(seen)
    return root


@settings(deadline=None, max_examples=150)
@given(key_rows, st.integers(1, 4), st.integers(1, 4), st.randoms())
def test_components_through_partitions(rows: list[KeyRow], n_units: int, n_partitions: int, random: Random) -> None:
    """However the rows are spread over units and partitions, and whichever blobs come first or twice."""
    blobs: dict[int, list[bytes]] = {}
    for unit in range(n_units):
        mine = np.array(rows[unit::n_units], KEY_ROW)
        for partition, packed in split_by_partition(mine, n_partitions):
            blobs.setdefault(partition, []).extend([packed] * random.choice([1, 1, 2]))
    parts = []
    for partition in random.sample(sorted(blobs), len(blobs)):
        random.shuffle(blobs[partition])
        parts.append(edges(blobs[partition]))
    docs, roots = components(parts)
    assert docs.dtype == roots.dtype == np.uint64
    assert dict(zip(docs.tolist(), roots.tolist(), strict=True)) == by_search(rows)
    assert docs.tolist() == sorted(docs.tolist())


@settings(deadline=None, max_examples=50)
@given(key_rows, st.randoms())
def test_edges_are_a_forest_that_no_order_changes(rows: list[KeyRow], random: Random) -> None:
    forest = edges([blob(rows)])
    docs, roots = components([forest])
    assert len(forest) == docs.size - np.unique(roots).size  # a tree has one edge less than nodes
    shuffled = random.sample(rows, len(rows))
    assert (edges([blob(shuffled[:7]), blob(shuffled[7:]), blob(shuffled[:3])]) == forest).all()


def test_kind_and_both_halves_tell_keys_apart() -> None:
    assert edges([blob([(0, 1, 1, 1), (1, 1, 1, 2), (0, 2, 1, 3), (0, 1, 2, 4)])]).size == 0
    assert edges([blob([(0, 1, 1, 9), (0, 1, 1, 2**63)])]).tolist() == [[9, 2**63]]


def test_a_hot_key_costs_one_edge_a_document() -> None:
    rows = np.zeros(100_000, KEY_ROW)
    rows["kind"], rows["hi"], rows["doc"] = 3, 42, np.random.default_rng(0).permutation(100_000)
    start = time.process_time()
    forest = edges([rows[:60_000].tobytes(), rows[60_000:].tobytes()])
    assert time.process_time() - start < 2  # pairs would be 5 * 10^9
    assert forest.shape == (99_999, 2)
    assert (forest[:, 0] == 0).all() and (forest[:, 1] == np.arange(1, 100_000)).all()


def test_nothing_gives_nothing() -> None:
    assert edges([]).shape == edges([b""]).shape == (0, 2)
    docs, roots = components([])
    assert docs.size == roots.size == 0
