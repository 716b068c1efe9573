"""Raw components against a plain search, whatever order the keys come in and however they are spread."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.dedup.components import Forest, chain, merge
from corpusmill.pipeline.dedup.keys import split_by_partition

KeyRow = tuple[int, int]
# Keys that differ in their highest, their lowest or no bits: the sort hides the lowest ones.
few_keys = st.builds(lambda high, low: high << 62 | low, st.integers(0, 3), st.integers(0, 3))
key_rows = st.lists(st.tuples(few_keys, st.integers(0, 12)), max_size=60)


def blob(rows: list[KeyRow], unit: int = 0) -> bytes:
    keys, docs = np.array(rows, np.uint64).reshape(-1, 2).T
    packed = split_by_partition(unit, keys, docs.astype(np.uint32), 1)
    return packed[0][1] if packed else bytes(8)


def by_search(rows: list[KeyRow]) -> dict[int, int]:
    """Smallest document reachable through shared keys, of each document that shares any."""
    root: dict[int, int] = {}
    for doc in sorted({doc for _, doc in rows}):
        seen, todo = {doc}, [doc]
        while todo:
            one = todo.pop()
            keys = {key for key, other in rows if other == one}
            new = {other for key, other in rows if key in keys} - seen
            seen |= new
            todo += new
        if len(seen) > 1:
            root[doc] = min(seen)
    return root


def roots_of(forest: Forest) -> dict[int, int]:
    docs, roots = forest
    assert (docs.dtype, roots.dtype) == (np.uint64, np.int64)
    assert docs.tolist() == sorted(set(docs.tolist()))
    return dict(zip(docs.tolist(), docs[roots].tolist(), strict=True))


@settings(deadline=None, max_examples=150)
@given(key_rows, st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.randoms())
def test_components_through_partitions(
    rows: list[KeyRow], n_units: int, n_partitions: int, max_keys: int, random: Random
) -> None:
    """However keys are spread over units and partitions, merged in groups or not, whichever come first or twice."""
    blobs: dict[int, list[bytes]] = {}
    for unit in range(n_units):
        keys, docs = np.array(rows[unit::n_units], np.uint64).reshape(-1, 2).T
        for partition, packed in split_by_partition(unit, keys, docs.astype(np.uint32), n_partitions):
            blobs.setdefault(partition, []).extend([packed] * random.choice([1, 1, 2]))
    forests = []
    for partition in random.sample(sorted(blobs), len(blobs)):
        random.shuffle(blobs[partition])
        forests.append(chain(blobs[partition], len(rows), max_keys=max_keys))
    numbered = [(key, i % n_units << 32 | doc) for i, (key, doc) in enumerate(rows)]
    expected = by_search(numbered)
    assert roots_of(merge(forests)) == expected
    assert roots_of(merge([merge(forests[:2]), *forests[2:]])) == expected


@settings(deadline=None, max_examples=50)
@given(key_rows, st.integers(1, 99), st.randoms())
def test_neither_order_nor_memory_changes_a_forest(rows: list[KeyRow], max_keys: int, random: Random) -> None:
    forest = chain([blob(rows)], len(rows))
    assert roots_of(forest) == by_search(rows)
    shuffled = random.sample(rows, len(rows))
    parts = [blob(shuffled[:7]), blob(shuffled[7:]), blob(shuffled[:3])]
    assert chain(parts, len(rows), max_keys=max_keys).pack() == forest.pack()
    assert Forest.unpack(forest.pack()).pack() == forest.pack()


def test_all_64_bits_tell_keys_apart() -> None:
    keys = [0, 1, 2, 1 << 63, 1 << 32]
    twice = chain([blob([(key, doc) for doc, key in enumerate(keys * 2)])], 10)
    assert roots_of(twice) == {doc: doc % 5 for doc in range(10)}
    assert chain([blob([(key, doc) for doc, key in enumerate(keys)])], 5).docs.size == 0


@pytest.mark.parametrize("max_keys", [1000, 1 << 20])
def test_a_hot_key_costs_one_row_a_document(max_keys: int) -> None:
    """Pairs would be 5 * 10^9, and the key alone is more than a partition may hold."""
    docs = np.random.default_rng(0).permutation(100_000).astype(np.uint32)
    blobs = [
        packed
        for part in np.split(docs, 50)
        for _, packed in split_by_partition(0, np.full(part.size, 42, np.uint64), part, 1)
    ]
    forest = chain(blobs, docs.size, max_keys=max_keys)
    assert (forest.docs == np.arange(100_000)).all() and (forest.roots == 0).all()


def test_nothing_gives_nothing() -> None:
    for forest in (chain([], 0), chain([blob([])], 0), merge([])):
        assert forest.docs.size == forest.roots.size == 0
