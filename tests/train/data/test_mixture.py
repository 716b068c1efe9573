"""The mixture against a walk over samples, its bound on uneven shares, and its pinned schedule."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.schemas.errors import UsageError
from corpusmill.train.data.mixture import Mixture, floor_sum
from tests.reference import mixture as reference

weights = st.lists(st.integers(0, 20), min_size=1, max_size=6).map(tuple).filter(any)
seeds = st.integers(-5, 2**40)
numbers = st.integers(-300, 300)


@settings(deadline=None, max_examples=300)
@given(st.integers(0, 80), st.integers(1, 100), numbers, numbers)
def test_floor_sum_is_the_plain_sum(n: int, m: int, a: int, b: int) -> None:
    assert floor_sum(n, m, a, b) == reference.floor_sum(n, m, a, b)


def test_floor_sum_of_more_terms_than_can_be_walked() -> None:
    """Summed over one period of the modulus, a*i mod m takes each value once, so the sum has a closed form."""
    m, a, b = 2**61 - 1, 10**18 + 9, 5
    assert floor_sum(m, m, a, b) == (a * (m * (m - 1) // 2) + b * m - m * (m - 1) // 2) // m


@settings(deadline=None)
@given(weights, seeds, st.integers(0, 200), st.integers(0, 100))
def test_draws_and_counts_are_those_of_a_walk(weights: tuple[int, ...], seed: int, first: int, n: int) -> None:
    mixture = Mixture(weights, seed)
    walk = reference.walk(weights, seed, first + n)
    source, ordinal = mixture.draws(first, n)
    assert list(zip(source.tolist(), ordinal.tolist(), strict=True)) == walk[first:]
    assert mixture.sources(np.arange(first + n)).tolist() == [k for k, _ in walk]
    assert mixture.counts(first) == tuple(sum(k == source for k, _ in walk[:first]) for source in range(len(weights)))


@settings(deadline=None)
@given(weights, seeds, st.integers(0, 2**61))
def test_far_samples_go_on_where_the_count_stands(weights: tuple[int, ...], seed: int, first: int) -> None:
    mixture = Mixture(weights, seed)
    source, ordinal = mixture.draws(first, 50)
    before, after = mixture.counts(first), mixture.counts(first + 50)
    assert sum(before) == first
    assert source.tolist() == [reference.source(weights, seed, sample) for sample in range(first, first + 50)]
    for k in range(len(weights)):
        assert ordinal[source == k].tolist() == list(range(before[k], after[k]))


@settings(deadline=None, max_examples=25)
@given(weights, seeds, st.integers(0, 2**61))
def test_find_is_the_inverse_of_draws(weights: tuple[int, ...], seed: int, first: int) -> None:
    mixture = Mixture(weights, seed)
    source, ordinals = mixture.draws(first, 8)
    for sample, (k, ordinal) in enumerate(zip(source.tolist(), ordinals.tolist(), strict=True), first):
        assert mixture.find(k, ordinal, 2**62) == sample
        assert mixture.find(k, ordinal, sample + 1) == sample
        assert mixture.find(k, ordinal, sample) is None
        assert mixture.find(k, -1, 2**62) is None


def test_a_bracket_holds_its_lower_end_and_not_its_upper_one() -> None:
    """The samples whose points are the ends themselves, found by the inverse of A."""
    mixture = Mixture((3, 0, 1, 4), seed=0)
    inverse = pow(reference.A, -1, reference.M)
    for cut, below, above in ((0, 3, 0), (reference.M * 3 // 8, 0, 2), (reference.M // 2, 2, 3)):
        for point, source in ((cut - 1, below), (cut, above)):
            sample = (point - reference.start(0)) * inverse % reference.M
            assert mixture.sources(np.array([sample])).tolist() == [source]
            gained = np.subtract(mixture.counts(sample + 1), mixture.counts(sample))
            assert np.flatnonzero(gained).tolist() == [source]


# Shares

BOUNDS = np.array([reference.deviation_bound(n) for n in range(1, 20_001)])


@settings(deadline=None, max_examples=40)
@given(weights, seeds, st.integers(0, 2**61))
def test_every_stretch_holds_the_sources_in_proportion(weights: tuple[int, ...], seed: int, first: int) -> None:
    """The proven bound, after each of 20,000 samples from anywhere."""
    n = np.arange(1, 20_001)
    source = Mixture(weights, seed).sources(first + n - 1)
    for k, weight in enumerate(weights):
        off = np.abs(np.cumsum(source == k) - n * (weight / sum(weights)))
        assert np.all(off < BOUNDS)


@settings(deadline=None)
@given(weights, seeds, st.integers(1, 2**62))
def test_long_prefixes_hold_the_sources_in_proportion(weights: tuple[int, ...], seed: int, n: int) -> None:
    for weight, count in zip(weights, Mixture(weights, seed).counts(n), strict=True):
        off = abs(count * sum(weights) - n * weight) / sum(weights)
        assert off <= reference.deviation_bound(n)


@settings(deadline=None, max_examples=300)
@given(st.integers(1, 32).flatmap(lambda bits: st.integers(1, 2**bits)))
def test_the_bound_grows_with_the_logarithm(n: int) -> None:
    assert reference.deviation_bound(n) - n / reference.M <= min(2.1 + 1.25 * math.log2(n), 39)


def test_no_bracket_is_ever_far_off_in_the_first_twenty_thousand() -> None:
    """Exact, for all brackets and all n: the largest deviation is at a bracket from one point to another."""
    points = np.empty(0)
    largest = 0.0
    for n in range(1, 20_001):
        point = (n - 1) * reference.A % reference.M / reference.M
        points = np.insert(points, np.searchsorted(points, point), point)
        surplus = np.arange(1, n + 1) - n * points
        largest = max(largest, surplus.max() - surplus.min() + 1)
    assert 5 < largest < 5.2


def test_the_bound_is_small_because_no_partial_quotient_is_large() -> None:
    assert max(reference.partial_quotients()) == 3


# Settings


def test_the_schedule_is_pinned() -> None:
    """Runs are resumed and traced by it: it never changes."""
    mixture = Mixture((5, 3, 2), seed=7)
    schedule = "".join(map(str, mixture.sources(np.arange(30)).tolist()))
    assert schedule == "200102101001021010210200102101"
    assert mixture.counts(10**15) == (500000000000000, 299999999813735, 200000000186265)


@settings(deadline=None)
@given(weights, seeds, st.integers(1, 1000))
def test_only_ratios_of_weights_count(weights: tuple[int, ...], seed: int, factor: int) -> None:
    samples = np.arange(1000)
    scaled = Mixture(tuple(factor * weight for weight in weights), seed)
    assert np.array_equal(Mixture(weights, seed).sources(samples), scaled.sources(samples))


def test_another_seed_begins_elsewhere() -> None:
    samples = np.arange(10_000)
    assert len({tuple(Mixture((1, 1), seed).sources(samples).tolist()) for seed in range(20)}) == 20


@settings(deadline=None)
@given(weights, seeds)
def test_a_source_is_drawn_if_and_only_if_it_has_weight(weights: tuple[int, ...], seed: int) -> None:
    counts = Mixture(weights, seed).counts(10_000)
    assert [count > 0 for count in counts] == [weight > 0 for weight in weights]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ((), r"weights are \[\], expected"),
        ((0, 0), r"weights are \[0, 0\], expected"),
        ((3, -1), r"weights are \[3, -1\], expected"),
        ((1, 10**12), r"a weight is 1 of 1000000000001 in all"),
        ((10**12, 1), r"a weight is 1 of 1000000000001 in all"),
    ],
)
def test_weights_that_cannot_be_dealt_are_refused(weights: tuple[int, ...], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Mixture(weights, seed=0)
