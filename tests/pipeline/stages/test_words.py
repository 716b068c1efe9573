"""Words in spaced and unspaced scripts, against a segmenter that goes character by character."""

import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages.words import CONNECTORS, segment
from tests.reference import words as reference


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("Don't stop-gap, well—known!", ["Don't", "stop-gap", "well", "known"]),
        ("'quoted' -x a--b rock-'n'-roll", ["quoted", "x", "a", "b", "rock", "n", "roll"]),
        ("snake_case a+b #tag 3.14 2nd", ["snake", "case", "a", "b", "tag", "3", "14", "2nd"]),
        ("L’été col·lecció צה״ל extra\u00adordinary", ["L’été", "col·lecció", "צה״ל", "extra\u00adordinary"]),
        ("e\u0301te\u0301 \u0301x ⚠\ufe0f 1\ufe0f\u20e3", ["e\u0301te\u0301", "x", "1\ufe0f\u20e3"]),
        ("हिन्दी में क्\u200dष", ["हिन्दी", "में", "क्\u200dष"]),
        ("می\u200cخواهم که", ["می\u200cخواهم", "که"]),
        ("한국어 띄어쓰기", ["한국어", "띄어쓰기"]),
        ("二〇二六年，我用Linux-6系统。", [*"二〇二六年我用", "Linux-6", *"系统"]),
        ("葛\U000e0100城時々𠮷野家", ["葛\U000e0100", *"城時々𠮷野家"]),
        ("ガードで か\u3099 ﾊﾞ", [*"ガードで", "か\u3099", *"ﾊﾞ"]),
        ("ก็ได้ ๒๕๖๙", ["ก็", "ไ", "ด้", "๒๕๖๙"]),
        ("ພາສາລາວ", [*"ພາສາລາວ"]),
        ("ខ្មែរ မြန်မာ", ["ខ្", "មែ", "រ", "မြ", "န်", "မာ"]),
    ],
)
def test_words_of_many_scripts(text: str, words: list[str]) -> None:
    assert segment(text).of(text) == words


def test_weights_and_letters() -> None:
    words = segment("汉字 word 42 かな ไทย ខរ မန 〇")
    assert words.weights.tolist() == [60, 60, 100, 100, 25, 25, 25, 25, 25, 30, 30, 33, 33, 60]
    assert words.alphabetic.tolist() == [True, True, True, False, *[True] * 10]


def test_every_letter_of_an_unspaced_script_is_a_word() -> None:
    letters = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character)[0] == "L" or character == "〇"
    ]
    text = "\n".join(letter * 2 for letter in letters)
    words = segment(text)
    per_line = np.bincount(words.starts // 3, minlength=len(letters))
    weights = [reference.percent(letter) for letter in letters]
    assert per_line.tolist() == [2 if weight else 1 for weight in weights]
    first = words.weights[np.searchsorted(words.starts, np.arange(len(letters)) * 3)]
    assert first.tolist() == [weight or 100 for weight in weights]


texts = st.text(
    st.one_of(
        st.sampled_from("ab1 _.\n\u0301\ufe0f\U000e0100字々カーกิរ" + CONNECTORS),
        st.characters(exclude_categories=["Cs", "Cn"]),
    )
)


@settings(deadline=None, max_examples=400)
@given(texts)
def test_words_equal_those_found_character_by_character(text: str) -> None:
    words = segment(text)
    assert words.of(text) == reference.words(text)
    assert words.weights.tolist() == [reference.weight(word) for word in reference.words(text)]
