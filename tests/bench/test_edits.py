"""The pairs of bench/recall: seeded, of the kind that they say, of the similarity that they should have."""

from itertools import islice

import pytest

from bench.edits import KINDS, Pair, join, kinds_of, pairs, scattered, split
from bench.judging import similarity
from tests.corpus import prose

PAGES = {language: ["\n".join(prose(language)[i : i + 12]) for i in range(0, 36, 12)] for language in ("en", "zh")}


def some(language: str, kind: str, n: int = 8, seed: int = 1) -> list[Pair]:
    return list(islice(pairs(PAGES[language], language, kind, seed=seed), n))


@pytest.mark.parametrize("language", PAGES)
def test_units_make_the_text_again(language: str) -> None:
    for page in PAGES[language]:
        text = "\n".join(" ".join(line.split()) for line in page.split("\n"))
        assert join(split(text, language), language) == text


@pytest.mark.parametrize("language", PAGES)
def test_pairs_are_seeded(language: str) -> None:
    for kind in kinds_of(language):
        assert some(language, kind) == some(language, kind)
        assert some(language, kind) != some(language, kind, seed=2)


@pytest.mark.parametrize("language", PAGES)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("cosmetic", "script")])
def test_an_edit_changes_some_of_the_words(language: str, kind: str) -> None:
    for pair in some(language, kind):
        assert 0.4 < similarity(pair) < 1, pair


@pytest.mark.parametrize("language", PAGES)
def test_cosmetic_edits_change_no_word(language: str) -> None:
    for pair in some(language, "cosmetic"):
        assert pair.text != pair.copy
        assert similarity(pair) == 1


def test_traditional_copies_are_nearly_the_same_to_the_shingles() -> None:
    assert "script" not in kinds_of("en")
    for pair in some("zh", "script"):
        assert pair.text != pair.copy
        assert similarity(pair) > 0.95


@pytest.mark.parametrize("language", PAGES)
def test_a_share_of_the_words_is_replaced(language: str) -> None:
    for pair in islice(scattered(PAGES[language], language, lambda _: 0.02, seed=1), 8):
        before, after = split(pair.text, language), split(pair.copy, language)
        n_changed = sum(a != b for a, b in zip(before, after, strict=True))
        assert 0 < n_changed <= 0.02 * len(before) + 1


def test_pages_that_are_too_short_are_an_error() -> None:
    with pytest.raises(ValueError, match="en: no page has 120 units"):
        next(pairs(["a b c"], "en", "move", seed=1))
