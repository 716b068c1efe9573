"""What bench/recall judges by."""

import pytest

from bench.judging import bin_of, find, judge, similarity, wilson
from tests.corpus import prose

EN = prose("en")
TEXT = "\n".join(EN[:8])


def test_the_lower_bound_is_wilsons() -> None:
    assert wilson(0, 0) == 0
    assert wilson(10, 10) == pytest.approx(0.7225, abs=1e-4)
    assert wilson(95, 100) == pytest.approx(0.8882, abs=1e-4)


def test_bins_are_two_hundredths_wide() -> None:
    assert [bin_of(jaccard) for jaccard in (0.8, 0.8199, 0.82, 0.98, 1.0)] == [0, 0, 1, 9, 9]


def test_pairs_are_found_as_dedup_finds_them() -> None:
    pairs = [(TEXT, TEXT.upper()), (TEXT, "\n".join(EN[8:16]))]
    assert find(pairs) == [True, False]
    assert [round(similarity(pair)) for pair in pairs] == [1, 0]
    assert [one.found for one in judge(pairs, 1)] == [True]
