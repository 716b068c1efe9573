"""Packing of keys: nothing is lost, null keys are left out, equal keys meet."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.dedup.keys import (
    KEY_BYTES,
    byte_rows,
    doc_numbers,
    halves,
    heads,
    pack,
    split_by_partition,
    unit_and_row,
    unpack,
)

KEYS = pa.array([b"?" * 16, bytes(range(16)), None, b"\xff" * 16], pa.binary(16))[1:]
NULLS = pa.nulls(3, pa.binary(16))
ROWS = np.array([4, 5, 9])
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


def test_a_null_key_has_no_row() -> None:
    bands = np.array([[1, 2], [3, 4], [5, 6]], np.uint64)
    shingled = np.array([True, True, False])
    keys, rows = pack(ROWS, ids=KEYS, urls=None, texts=NULLS, bands=bands, shingled=shingled)
    assert (keys.dtype, rows.dtype) == (np.uint64, np.uint32)
    assert rows.tolist() == [4, 9, 4, 4, 5, 5]
    assert len(set(keys.tolist())) == 6
    assert pack(ROWS)[0].size == 0


def test_kind_number_of_the_band_and_both_halves_tell_keys_apart() -> None:
    one = pa.array([bytes(16), bytes(15) + b"\1", bytes(7) + b"\1" + bytes(8)], pa.binary(16))
    keys, rows = pack(ROWS, ids=one, urls=one, texts=one, bands=np.zeros((3, 4), np.uint64))
    assert rows.tolist() == [4, 5, 9] * 3 + [4] * 4 + [5] * 4 + [9] * 4
    assert len(set(keys[:9].tolist())) == 9
    assert keys[9:].reshape(3, 4).tolist() == [keys[9:13].tolist()] * 3, "equal bands of three documents"
    assert len(set(keys[9:13].tolist())) == 4


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), small), max_size=60), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_equal_keys_meet_in_one_partition(values: list[tuple[int, int]], n_partitions: int, unit: int) -> None:
    keys, rows = np.array(values, np.uint64).reshape(-1, 2).T
    home: dict[int, int] = {}
    for half in (slice(0, len(values) // 2), slice(len(values) // 2, None)):
        found = []
        for partition, blob in split_by_partition(unit, keys[half], rows[half].astype(np.uint32), n_partitions):
            assert 0 <= partition < n_partitions
            part, docs = unpack(blob)
            assert part.size
            found += zip(part.tolist(), docs.tolist(), strict=True)
            for key in part.tolist():
                assert home.setdefault(key, partition) == partition
        assert sorted(found) == sorted((key, unit << 32 | row) for key, row in values[half])


@pytest.mark.parametrize("n_partitions", [1, 7, 64])
def test_partitions_are_even_whatever_the_keys_are(n_partitions: int) -> None:
    bands = np.arange(70_000, dtype=np.uint64).reshape(-1, 7)  # keys that are no hashes at all
    keys, rows = pack(np.arange(10_000), bands=bands)
    sizes = [len(blob) / KEY_BYTES for _, blob in split_by_partition(0, keys, rows, n_partitions)]
    assert len(sizes) == n_partitions
    assert max(sizes) < 1.2 * 70_000 / n_partitions


@pytest.mark.parametrize("n_partitions", [0, 65_537])
def test_number_of_partitions_is_checked(n_partitions: int) -> None:
    with pytest.raises(ValueError, match=f"n_partitions is {n_partitions}"):
        split_by_partition(0, np.empty(0, np.uint64), np.empty(0, np.uint32), n_partitions)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(small, small, small), max_size=30))
def test_heads(rows: list[tuple[int, int, int]]) -> None:
    a, b, rank = np.array(rows, np.int64).reshape(-1, 3).T
    groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, row in enumerate(rows):
        groups.setdefault(row[:2], []).append((row[2], i))
    expected = [min(groups[row[:2]])[1] for row in rows]
    assert heads([a, b], [rank, np.arange(len(rows))]).tolist() == expected
