"""Packing of keys: nothing is lost, null keys are left out, equal keys meet."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.dedup.keys import (
    KEY_ROW,
    KINDS,
    byte_rows,
    doc_numbers,
    halves,
    heads,
    pack,
    split_by_partition,
    unit_and_row,
)

KEYS = pa.array([b"?" * 16, bytes(range(16)), None, b"\xff" * 16], pa.binary(16))[1:]
NULLS = pa.nulls(3, pa.binary(16))
DOCS = doc_numbers(2, np.arange(3))
small = st.integers(0, 3)


def test_document_numbers_order_by_unit_then_row() -> None:
    docs = np.concatenate([doc_numbers(unit, np.array([0, 7, 2**32 - 1])) for unit in (0, 1, 2**32 - 1)])
    assert docs.dtype == np.uint64 and (np.diff(docs.astype(object)) > 0).all()
    unit, row = unit_and_row(docs)
    assert unit.tolist() == np.repeat([0, 1, 2**32 - 1], 3).tolist()
    assert row.tolist() == [0, 7, 2**32 - 1] * 3


def test_bytes_of_slices() -> None:
    assert byte_rows(KEYS).tolist()[0] == list(range(16))
    hi, lo = halves(KEYS)
    assert (int(hi[0]) << 64 | int(lo[0])).to_bytes(16) == bytes(range(16))
    assert int(hi[2]) == int(lo[2]) == 2**64 - 1
    assert byte_rows(KEYS[:0]).shape == (0, 16)


def test_a_row_is_25_bytes_and_a_null_key_has_none() -> None:
    bands = np.array([[1, 2], [3, 4], [5, 6]], np.uint64)
    shingled = np.array([True, True, False])
    rows = pack(DOCS, ids=KEYS, urls=None, texts=NULLS, bands=bands, shingled=shingled)
    assert rows.dtype == KEY_ROW and rows.itemsize == 25
    hi, lo = halves(KEYS)
    assert rows.tolist() == [
        (0, int(hi[0]), int(lo[0]), int(DOCS[0])),
        (0, int(hi[2]), int(lo[2]), int(DOCS[2])),
        (3, 1, 0, int(DOCS[0])),
        (3, 2, 1, int(DOCS[0])),
        (3, 3, 0, int(DOCS[1])),
        (3, 4, 1, int(DOCS[1])),
    ]


def test_kinds_are_numbered_in_the_order_of_the_cascade() -> None:
    assert KINDS == ("id", "url", "exact", "near")
    rows = pack(DOCS, ids=KEYS, urls=KEYS, texts=KEYS, bands=np.zeros((3, 1), np.uint64))
    assert rows["kind"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert pack(DOCS).size == 0


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(small, small, small, small), max_size=60), st.integers(1, 9), st.randoms())
def test_equal_keys_meet_in_one_partition(values: list[tuple], n_partitions: int, random: object) -> None:
    rows = np.array(values, KEY_ROW)
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    home: dict[tuple, int] = {}
    for array in (rows, np.array(shuffled, KEY_ROW)):
        found = []
        for partition, blob in split_by_partition(array, n_partitions):
            assert 0 <= partition < n_partitions and blob
            part = np.frombuffer(blob, KEY_ROW).tolist()
            found += part
            for row in part:
                assert home.setdefault(row[:3], partition) == partition
        assert sorted(found) == sorted(values)


@pytest.mark.parametrize("n_partitions", [1, 7, 64])
def test_partitions_are_even_whatever_the_keys_are(n_partitions: int) -> None:
    rows = np.zeros(70_000, KEY_ROW)
    rows["lo"] = np.arange(70_000)  # keys that are no hashes at all
    sizes = [len(blob) // 25 for _, blob in split_by_partition(rows, n_partitions)]
    assert len(sizes) == n_partitions
    assert max(sizes) < 1.2 * 70_000 / n_partitions


def test_number_of_partitions_is_checked() -> None:
    with pytest.raises(ValueError, match="n_partitions is 0"):
        split_by_partition(np.empty(0, KEY_ROW), 0)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(small, small, small), max_size=30))
def test_heads(rows: list[tuple[int, int, int]]) -> None:
    a, b, rank = np.array(rows, np.int64).reshape(-1, 3).T
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row[:2], []).append((row[2], i))
    expected = [min(groups[row[:2]])[1] for row in rows]
    assert heads([a, b], [rank, np.arange(len(rows))]).tolist() == expected
