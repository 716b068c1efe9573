"""Shingles against the plain shingler, and what counts as the same text."""

import hashlib
import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages import shingles
from corpusmill.pipeline.stages.minhash import SEPARATOR, SKIP, SOLO, token_codes
from tests.pipeline.stages.alphabet import texts
from tests.reference import shingles as reference

ROOT = Path(__file__).parents[3]
ROWS = map(json.loads, (ROOT / "tests/data/udhr.jsonl").read_text().splitlines())
UDHR = {row["language"]: row["text"] for row in ROWS}
TABLE = shingles.character_table()


def strings(text: str, table: np.ndarray) -> list[str]:
    """The tokens that the kernel finds, as strings."""
    codes = np.concatenate([piece.copy() for piece, _ in token_codes(pa.array([text], pa.string()), table)])
    tokens = np.split(codes & 0x1FFFFF, np.flatnonzero(codes >> 31)[1:])
    return ["".join(map(chr, token)) for token in tokens if token.size]


def hashes(*values: str | None, ngram: int = 5) -> list[list[int]]:
    flat, offsets = shingles.shingle_hashes(pa.array(values, pa.string()), ngram)
    return [part.tolist() for part in np.split(flat, offsets[1:-1])]


@settings(deadline=None, max_examples=150)
@given(st.lists(texts, max_size=5), st.integers(1, 7))
def test_hashes_and_tokens_equal_the_plain_shingler(documents: list[str], ngram: int) -> None:
    if documents:
        assert hashes(*documents, ngram=ngram) == [reference.shingles(text, ngram) for text in documents]
    for text in documents:
        assert strings(text, TABLE.shingle) == reference.tokens(text)
        assert strings(text, TABLE.exact) == reference.tokens(text, exact=True)


@pytest.mark.parametrize("language", UDHR)
def test_real_text_in_twelve_languages(language: str) -> None:
    assert hashes(UDHR[language]) == [reference.shingles(UDHR[language], 5)]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't STOP—the 24 cafés", ["don", "t", "stop", "the", "00", "cafes"]),
        ("中文Python3编程，好！", ["中", "文", "python0", "编", "程", "好"]),
        ("Straße ﬁn Ω", ["straße", "ﬁn", "ω"]),
        ("zero\u200bwidth so\u00adft", ["zerowidth", "soft"]),
        ("한국어 띄어쓰기", ["한국어", "띄어쓰기"]),
        ("คำไทย", ["ค", "ำ", "ไ", "ท", "ย"]),
        ("שָׁלוֹם مُحَمَّد", ["שלום", "محمد"]),
        ("ｆｕｌｌ　ｗｉｄｔｈ", ["full", "width"]),
        ("1️⃣ 😀 + …", ["0"]),
        ("", []),
    ],
)
def test_tokens(text: str, tokens: list[str]) -> None:
    assert strings(text, TABLE.shingle) == tokens


def test_marks_that_make_other_letters_stay() -> None:
    """Dropping all combining marks, as datatrove does, would merge these pairs."""
    for one, other in (("がんばる", "かんはる"), ("ガード", "カート"), ("हिन्दी", "हनद"), ("آن", "ان")):
        assert strings(one, TABLE.shingle) != strings(other, TABLE.shingle)


def test_cosmetic_variants_of_a_chinese_text_are_the_same() -> None:
    plain = "程序设计语言，共有３２种。"
    variants = (
        "程式設計語言".replace("式", "序") + ", 共有 99 種.",
        "程序 设计\u200b语言\n共有３２种",
        plain,
    )
    assert hashes(*variants) == [hashes(plain)[0]] * 3


def test_traditional_folds_to_simplified_in_shingles_only() -> None:
    assert strings("臺灣與語言", TABLE.shingle) == list("台湾与语言")
    assert strings("臺灣與語言", TABLE.exact) == list("臺灣與語言")


def test_short_texts_have_one_shingle_and_empty_ones_none() -> None:
    full, short, same, empty, dots, null = hashes("一二三四五", "短文", "短文。", "", "……！", None)
    assert [len(full), len(short), len(empty), len(dots), len(null)] == [1, 1, 0, 0, 0]
    assert short == same


def test_ngram_must_be_positive() -> None:
    with pytest.raises(ValueError, match="ngram is 0"):
        hashes("text", ngram=0)


def versions() -> list[str]:
    with np.load(ROOT / "pipeline/data/shingle-table.npz") as file:
        return [str(file["unicode_version"]), str(file["opencc_version"])]


@pytest.mark.skipif(unicodedata.unidata_version != versions()[0], reason="this Python has another Unicode version")
def test_table_equals_the_plain_rule_for_every_assigned_character() -> None:
    for code in range(0x110000):
        char = chr(code)
        if unicodedata.category(char) in ("Cs", "Cn", "Co") and code % 256:
            continue
        for table, exact in ((TABLE.exact, True), (TABLE.shingle, False)):
            entry = int(table[code])
            middle = chr(entry & 0x1FFFFF)
            if entry == SKIP:
                expected = ["ab"]
            elif entry == SEPARATOR:
                expected = ["a", "b"]
            else:
                expected = ["a", middle, "b"] if entry & SOLO else [f"a{middle}b"]
            assert reference.tokens(f"a{char}b", exact=exact) == expected, (hex(code), exact)


def test_builder_builds_the_pinned_table() -> None:
    opencc = pytest.importorskip("opencc")
    if versions() != [unicodedata.unidata_version, opencc.__version__]:
        pytest.skip(f"the table was built with Unicode {versions()[0]} and OpenCC {versions()[1]}")
    from corpusmill.pipeline.data import build_shingle_table

    with np.load(ROOT / "pipeline/data/shingle-table.npz") as file:
        for name, array in build_shingle_table.build().items():
            assert np.array_equal(array, file[name]), name


def test_table_is_pinned() -> None:
    """A new table makes every stored signature useless: change it on purpose, with the number below."""
    data = (ROOT / "pipeline/data/shingle-table.npz").read_bytes()
    assert TABLE.sha256 == hashlib.sha256(data).hexdigest()
    assert TABLE.sha256 == "a7f98c1d3fd55094b27ba52905003d0fdf2f764fd3ce973ac727c28f3983c682"
    assert not TABLE.exact.flags.writeable and not TABLE.shingle.flags.writeable
