"""The orders of windows: bijections against the plain ones, pinned for ever, and mixed well enough."""

import time
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from corpusmill.train.data.order import BlockedOrder, GlobalOrder, order_key, permute, unpermute
from tests.reference import order as reference

EPOCH = {"seed": 3, "source": "c0ffee", "epoch": 2}
keys = st.integers(0, 2**64 - 1)


def test_every_small_range_is_permuted_and_back() -> None:
    for n in range(2001):
        index = np.arange(n)
        values = permute(index, n, key=n + 7)
        assert np.array_equal(np.sort(values), index)
        assert np.array_equal(unpermute(values, n, key=n + 7), index)


@settings(deadline=None)
@given(st.data(), st.integers(1, 3000) | st.integers(10**9, 2**62 - 1), keys)
def test_values_are_those_of_the_plain_permutation(data: st.DataObject, n: int, key: int) -> None:
    index = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), np.int64)
    values = permute(index, n, key)
    assert values.tolist() == [reference.permute(i, n, key) for i in index.tolist()]
    assert np.array_equal(unpermute(values, n, key), index)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 100), keys), max_size=20))
def test_each_index_may_have_a_range_and_a_key_of_its_own(pairs: list[tuple[int, int]]) -> None:
    n = np.array([n for n, _ in pairs], np.int64)
    key = np.array([key for _, key in pairs], np.uint64)
    values = permute(n - 1, n, key)
    assert values.tolist() == [reference.permute(n - 1, n, key) for n, key in pairs]
    assert np.array_equal(unpermute(values, n, key), n - 1)


@pytest.mark.parametrize(
    ("n", "key", "values"),
    [
        (1, 0, [0]),
        (5, 1, [3, 1, 4, 2, 0]),
        (1000, 42, [649, 184, 449, 382, 852]),
        (10**9, 2**64 - 1, [210281763, 677236874, 284772559]),
        (2**62 - 1, 123456789, [2966200406392782727, 1983050035139927219]),
    ],
)
def test_the_order_is_pinned(n: int, key: int, values: list[int]) -> None:
    """Runs are resumed and traced by these values: they never change."""
    assert permute(np.arange(len(values)), n, key).tolist() == values


def test_epochs_are_pinned() -> None:
    index = np.arange(6)
    assert GlobalOrder(1000).window(index, **EPOCH).tolist() == [261, 755, 509, 902, 25, 473]
    assert BlockedOrder(np.array([4, 0, 3, 5])).window(index, **EPOCH).tolist() == [1, 3, 2, 0, 9, 10]


def test_keys_are_pinned() -> None:
    assert order_key(0, "c0ffee", 0) == 7037795934644985392
    assert order_key(0, "c0ffee", 1) == 17126728391358729095
    assert order_key(0, "c0ffee", 0, block=0) == 18236634895322403425


@settings(deadline=None)
@given(st.integers(-10, 10), st.text(max_size=5), st.integers(0, 10), st.none() | st.integers(0, 10))
def test_keys_are_the_plain_ones(seed: int, source: str, epoch: int, block: int | None) -> None:
    plain = reference.order_key(seed, source, epoch, "-" if block is None else block)
    assert order_key(seed, source, epoch, block) == plain


def test_all_parts_make_the_key() -> None:
    made = {order_key(s, d, e, b) for s in (0, 1) for d in ("a", "b") for e in (0, 1) for b in (None, 0, 1)}
    assert len(made) == 24


def test_other_keys_give_other_orders() -> None:
    orders = {tuple(permute(np.arange(50), 50, key).tolist()) for key in range(200)}
    assert len(orders) == 200


@pytest.mark.parametrize("index", [[-1], [0, 10]])
def test_an_index_out_of_range_is_refused(index: list[int]) -> None:
    for call in (
        lambda i: permute(i, 10, 0),
        lambda i: unpermute(i, 10, 0),
        lambda i: GlobalOrder(10).window(i, **EPOCH),
        lambda i: BlockedOrder(np.array([4, 6])).window(i, **EPOCH),
        lambda i: BlockedOrder(np.array([4, 6])).index(i, **EPOCH),
    ):
        with pytest.raises(IndexError, match=rf"{min(index)} to {max(index)}, expected 0 to 9"):
            call(np.array(index))


def test_a_range_beyond_62_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="4611686018427387904"):
        permute(np.arange(1), 2**62, 0)


# Epochs


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 5))
def test_a_global_epoch_is_the_plain_one(n: int, epoch: int) -> None:
    order = GlobalOrder(n)
    windows = order.window(np.arange(n), seed=1, source="a", epoch=epoch)
    assert order.n == n
    assert windows.tolist() == reference.global_epoch(n, 1, "a", epoch)
    assert sorted(windows.tolist()) == list(range(n))
    assert order.index(windows, seed=1, source="a", epoch=epoch).tolist() == list(range(n))


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), max_size=20), st.integers(0, 5))
def test_blocked_epochs_are_the_plain_ones(sizes: list[int], first: int) -> None:
    order = BlockedOrder(np.array(sizes, np.int64))
    assert order.n == sum(sizes)
    for epoch in (first, first + 1, first):  # of one object, which remembers the last epoch
        windows = order.window(np.arange(order.n), seed=1, source="a", epoch=epoch)
        assert windows.tolist() == reference.blocked_epoch(sizes, 1, "a", epoch)
        assert sorted(windows.tolist()) == list(range(order.n))
        assert order.index(windows, seed=1, source="a", epoch=epoch).tolist() == list(range(order.n))


@settings(deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=20))
def test_a_block_is_read_to_its_end_before_the_next(sizes: list[int]) -> None:
    order = BlockedOrder(np.array(sizes))
    windows = order.window(np.arange(order.n), **EPOCH)
    block_of = np.repeat(np.arange(len(sizes)), sizes)[windows]
    changes = np.count_nonzero(np.diff(block_of))
    assert changes == max(np.count_nonzero(sizes) - 1, 0)


@pytest.mark.parametrize("order", [GlobalOrder(60), BlockedOrder(np.full(6, 10))], ids=["global", "blocked"])
def test_epochs_sources_and_seeds_have_orders_of_their_own(order: GlobalOrder | BlockedOrder) -> None:
    index = np.arange(60)
    first = order.window(index, seed=0, source="a", epoch=0)
    for other in ({"seed": 1}, {"source": "b"}, {"epoch": 1}):
        assert not np.array_equal(order.window(index, **({"seed": 0, "source": "a", "epoch": 0} | other)), first)
    assert np.array_equal(order.window(index, seed=0, source="a", epoch=0), first), (
        "what was asked between is no matter"
    )


def test_windows_of_each_block_are_in_an_order_of_their_own() -> None:
    order = BlockedOrder(np.full(6, 10))
    places = (order.window(np.arange(60), **EPOCH) % 10).reshape(6, 10)
    assert len(np.unique(places, axis=0)) == 6


# Mixing: fixed keys, so what passes once passes always. Limits are those of chance (4 standard deviations or so).


def chi_square(counts: NDArray[np.int64]) -> float:
    return float(np.sum((counts - counts.mean()) ** 2) / counts.mean())


@pytest.mark.parametrize("n", [10_007, 1_000_000])
def test_a_permutation_looks_like_chance(n: int) -> None:
    values = permute(np.arange(n), n, key=2024)
    head = np.histogram(values[:1000], bins=20, range=(0, n))[0]
    assert chi_square(head) < 45, "the first thousand are spread over the whole range"
    side = int(np.ceil(np.sqrt(n)))
    for lag in (1, 2, 3, 7, 64, side - 1, side, side + 1, 2 * side):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 4 / np.sqrt(n - lag)
    steps = Counter(np.diff(values).tolist())
    assert max(steps.values()) < 12, "no step is taken again and again"


def test_neighbouring_keys_give_unrelated_orders() -> None:
    n = 100_000
    orders = [permute(np.arange(n), n, key) for key in range(6)]
    for one, other in pairwise(orders):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / np.sqrt(n)
        assert np.count_nonzero(one == other) < 8, "one place in common is expected"


@pytest.mark.parametrize("n", [7, 10, 64])
def test_over_many_keys_each_place_gets_each_value_as_often(n: int) -> None:
    index, key = np.divmod(np.arange(2000 * n), 2000)
    values = permute(index, np.full(index.size, n), key.astype(np.uint64))
    table = np.bincount(index * n + values, minlength=n * n)
    assert chi_square(table) < (n - 1) ** 2 + 4 * np.sqrt(2) * (n - 1)


def test_a_million_indices_take_a_fraction_of_a_second() -> None:
    index = np.arange(1_000_000)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        permute(index, 10**9, key=1)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.4, "a tenth on an idle core"
