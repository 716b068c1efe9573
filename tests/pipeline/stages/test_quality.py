"""Signals by hand, against plain Python, and their independence of batches."""

import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages import quality
from corpusmill.pipeline.stages.words import segment
from tests.reference import gopher as reference

ROWS = map(json.loads, (Path(__file__).parents[2] / "data/udhr.jsonl").read_text().splitlines())
UDHR = {row["language"]: row["text"] for row in ROWS}

# Few enough words that random texts repeat n-grams, in scripts of every weight.
PIECES = ["the", "Be", "cat", "don't", "3", "的", "网", "页", "カ", "ไ", "ก็", "ខ", "မ", *["a", "b"] * 3]
MARKS = ["#", "＃", "...", "…", "。。。", "•", "- ", "*", "·", "，"]
texts = st.lists(
    st.sampled_from(PIECES + MARKS + [" "] * 12 + ["\n"] * 3 + ["\n\n", "\n \n", "\u3000"]), max_size=150
).map("".join)
documents = st.tuples(st.none() | texts, st.sampled_from([None, "en", "en-GB", "EN", "zh-Hans", "th"]))


def signals(text: str | None, language: str | None = None) -> dict[str, float | None]:
    return quality.signals(pa.array([text], pa.string()), languages=pa.array([language], pa.string())).to_pylist()[0]


def test_an_english_page_by_hand() -> None:
    page = "# The cat...\n\n• the cat\n• the cat\n- of 42\n-h\n"
    assert signals(page, "en-GB") == {
        "n_words": 9,
        "n_english_words": 9,
        "mean_word_length": 2.555556,  # 23 characters
        "symbol_word_ratio": 0.111111,
        "ellipsis_word_ratio": 0.111111,
        "bullet_line_ratio": 0.6,  # a hyphen without a space is an option
        "ellipsis_line_ratio": 0.2,
        "alpha_word_ratio": 0.888889,
        "stop_words": 2,  # the, of
        "dup_line_frac": 0.2,
        "dup_para_frac": 0.0,
        "dup_line_char_frac": 0.230769,  # 9 of 12 + 9 + 9 + 7 + 2
        "dup_para_char_frac": 0.0,
        "top_2_gram": 0.521739,  # `the cat` twice; `The` is another word
        "top_3_gram": 0.652174,  # `cat the cat` twice; one cat is in both
        "top_4_gram": 0.0,
        **{f"dup_{n}_gram": 0.0 for n in range(5, 11)},
    }


def test_a_chinese_page_by_hand() -> None:
    page = "・机器翻译\n机器翻译……\n\n机器翻译2026年"
    expected = {
        "n_words": 14,
        "n_english_words": 8,  # 13 Han letters of .6 and a number
        "mean_word_length": 1.214286,
        "symbol_word_ratio": 0.0,
        "ellipsis_word_ratio": 0.071429,  # …… is one
        "bullet_line_ratio": 0.333333,
        "ellipsis_line_ratio": 0.333333,
        "alpha_word_ratio": 0.928571,
        "stop_words": None,
        "top_2_gram": 0.529412,  # 机器翻 thrice, 9 of 17 characters
        "top_3_gram": 0.529412,  # 机器翻译机 twice; one letter is in both
        "dup_5_gram": 0.470588,  # the second of two 机器翻译机器翻译
        "dup_6_gram": 0.0,  # 10 letters
    }
    assert {name: signals(page, "zh-Hans")[name] for name in expected} == expected


def test_top_ngram_covers_each_character_once() -> None:
    assert signals("ha " * 10)["top_2_gram"] == 1.0
    # Of two pairs that occur twice, the longer counts.
    assert signals("a b, long words; a b; long words")["top_2_gram"] == pytest.approx(18 / 22, abs=1e-6)


def test_duplicate_ngrams_leave_out_the_first_occurrence() -> None:
    passage = "one two three four five six seven "
    assert signals(passage * 2)["dup_5_gram"] == 0.5
    assert signals(passage * 2)["dup_7_gram"] == 0.5
    assert signals(passage * 2)["dup_8_gram"] == 0.0
    assert signals("a " * 6)["dup_5_gram"] == pytest.approx(5 / 6, abs=1e-6)


def test_paragraphs_part_at_empty_lines() -> None:
    page = signals("甲乙\n丙\n \n甲乙 \n丙\n\n\n丁")
    assert page["dup_para_frac"] == 0.333333
    assert page["dup_para_char_frac"] == 0.444444  # 4 of 9, the line feed within counts
    assert page["dup_line_frac"] == 0.4
    assert page["dup_line_char_frac"] == 0.428571


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("plain English words", [2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ("全是汉字", [3, 5, 7, 8, 10, 12, 13, 15, 17]),
        ("一半 words 一半 of each kind", [3, 4, 5, 6, 8, 9, 10, 11, 13]),
        ("", [2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ],
)
def test_ngrams_stand_for_english_words(text: str, sizes: list[int]) -> None:
    assert [quality.ngram_words(segment(text), n) for n in range(2, 11)] == sizes


@pytest.mark.parametrize("text", ["", None, " \n\n\t", "!?", "\u0301"])
def test_texts_without_words_have_zeros(text: str | None) -> None:
    values = signals(text, "en")
    assert set(values.values()) == {0}


@settings(deadline=None, max_examples=150)
@given(documents)
def test_signals_equal_plain_python(document: tuple[str | None, str | None]) -> None:
    text, language = document
    assert signals(text, language) == reference.signals(text or "", language)


@pytest.mark.parametrize("language", UDHR)
def test_real_text_in_twelve_languages(language: str) -> None:
    text = UDHR[language] + UDHR[language][200:600]
    assert signals(text, language) == reference.signals(text, language)


@settings(deadline=None, max_examples=30)
@given(st.lists(documents, max_size=6), st.integers(0, 6), st.sampled_from([pa.string(), pa.large_string()]))
def test_batches_do_not_matter(rows: list[tuple[str | None, str | None]], cut: int, kind: pa.DataType) -> None:
    padded = [("padding", "en"), *rows]
    array = pa.array([text for text, _ in padded], kind)[1:]
    languages = pa.array([language for _, language in padded], pa.string())[1:]
    whole = quality.signals(array, languages=languages)
    assert whole.schema == quality.SCHEMA
    parts = [quality.signals(array[part], languages=languages[part]) for part in (slice(cut), slice(cut, None))]
    assert pa.Table.from_batches(parts).to_pylist() == whole.to_pylist()
    assert [signals(text, language) for text, language in rows] == whole.to_pylist()


def test_languages_may_be_unknown_but_not_missing() -> None:
    assert quality.signals(pa.array(["the and"]), languages=None)["stop_words"].to_pylist() == [None]
    with pytest.raises(ValueError, match="2 texts but 1 languages"):
        quality.signals(pa.array(["a", "b"]), languages=pa.array(["en"]))


def test_columns_say_what_they_count() -> None:
    assert [signal.name for signal in quality.SIGNALS] == list(signals("a"))
    for field in quality.SCHEMA:
        assert field.nullable
        assert field.type in (pa.int64(), pa.float64())
        assert field.metadata[b"description"]
        assert field.metadata[b"unit"]


def test_output_changes_only_with_the_stage_version() -> None:
    choose = random.Random(0).choice
    pages = [*UDHR.values(), *("".join(choose(PIECES + MARKS + [" ", "\n"]) for _ in range(500)) for _ in range(50))]
    batch = quality.signals(pa.array(pages), languages=pa.array(["en"] * len(pages)))
    digest = hashlib.sha256(json.dumps(batch.to_pylist()).encode()).hexdigest()
    assert (quality.STAGE_VERSION, digest[:16]) == (1, "38ea147e556698bc")
