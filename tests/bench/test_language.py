"""What bench/demo judges by: n-gram models against plain ones, measures of text, and the held-out texts themselves."""

import math
import re
import unicodedata
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import language
from tests.reference import ngrams

ROOT = Path(__file__).parents[2]
HELD_OUT = {name: (ROOT / f"tests/data/heldout.{name}.txt").read_text(encoding="utf-8") for name in ("en", "zh")}
VOCAB, EOS = 5, 0
ids = st.lists(st.integers(0, VOCAB - 1), max_size=12)
windows = st.integers(2, 6).flatmap(
    lambda width: st.lists(st.lists(st.integers(-1, VOCAB - 1), min_size=width, max_size=width), min_size=1, max_size=8)
)


def count(rows: list[list[int]]) -> language.WittenBell:
    return language.WittenBell.count(np.array(rows, np.int64), VOCAB)


def every_pair() -> tuple[np.ndarray, np.ndarray]:
    return np.divmod(np.arange(VOCAB * VOCAB), VOCAB)


@given(windows)
def test_probabilities_are_those_of_the_plain_models(rows: list[list[int]]) -> None:
    model, plain = count(rows), ngrams.Plain(rows, VOCAB)
    assert model.unigram == pytest.approx([plain.unigram(token) for token in range(VOCAB)])
    histories, tokens = every_pair()
    expected = [plain.bigram(h, t) for h, t in zip(histories.tolist(), tokens.tolist(), strict=True)]
    assert model.probability(histories, tokens) == pytest.approx(expected)


@given(windows)
def test_probabilities_sum_to_one(rows: list[list[int]]) -> None:
    model = count(rows)
    assert model.unigram.sum() == pytest.approx(1)
    assert model.probability(*every_pair()).reshape(VOCAB, VOCAB).sum(axis=1) == pytest.approx(np.ones(VOCAB))


@given(st.lists(ids, max_size=4), st.integers(1, 5))
def test_windows_of_a_stream_count_each_token_once(documents: list[list[int]], length: int) -> None:
    stream = [EOS, *chain.from_iterable([*document, EOS] for document in documents)]
    padded = stream + [-1] * (-(len(stream) - 1) % length)
    cut = [padded[start : start + length + 1] for start in range(0, len(padded) - 1, length)]
    whole, parts = count([[*stream, -1]]), count(cut or [[EOS, -1]])
    assert whole.unigram.tolist() == parts.unigram.tolist()
    assert whole.probability(*every_pair()).tolist() == parts.probability(*every_pair()).tolist()


@given(windows, st.lists(ids, max_size=4))
def test_documents_are_scored_one_by_one_after_an_eos(rows: list[list[int]], documents: list[list[int]]) -> None:
    model, plain = count(rows), ngrams.Plain(rows, VOCAB)
    bigram = sum(-math.log(plain.bigram(h, t)) for d in documents for h, t in zip([EOS, *d], d, strict=False))
    assert model.bigram_nats(documents, EOS) == pytest.approx(bigram)
    unigram = sum(-math.log(plain.unigram(t)) for d in documents for t in d)
    assert model.unigram_nats(documents) == pytest.approx(unigram)


def test_after_an_unseen_token_the_bigram_is_the_unigram() -> None:
    model = count([[1, 2, 1, 3]])
    assert model.probability(np.array([4]), np.array([1])) == pytest.approx(model.unigram[1])
    assert model.unigram[1] == pytest.approx((1 + 3 / 5) / (3 + 3))
    assert model.probability(np.array([1]), np.array([2])) == pytest.approx((1 + 2 * model.unigram[2]) / (2 + 2))


def test_bits_per_byte_counts_the_bytes_of_the_text() -> None:
    uniform = 6 * math.log(256)
    assert language.bits_per_byte(uniform, ["é文", "a"]) == pytest.approx(8)


@pytest.mark.parametrize(
    ("text", "broken"),
    [("plain\ttext\n", 0), ("文字 🙂", 0), ("a\ufffdb\ufffd", 2), ("\ud83d", 1), ("\x00\x1b\r", 3), ("", 0)],
)
def test_broken_characters(text: str, broken: int) -> None:
    assert language.count_broken(text) == broken


@pytest.mark.parametrize(
    ("text", "name", "letters"),
    [
        ("It is 42, é!", "en", (5, 5)),
        ("Ωmega 文", "en", (4, 6)),
        ("全角ＡＢ", "en", (2, 4)),
        ("安装 Debian。", "zh", (2, 8)),
        ("人々㐀﨎𠀀豈", "zh", (6, 6)),
        ("ひらカナ한", "zh", (0, 5)),
        ("12 ,.", "zh", (0, 0)),
    ],
)
def test_letters_by_script(text: str, name: str, letters: tuple[int, int]) -> None:
    assert language.count_letters(text, name) == letters


@pytest.mark.parametrize(
    ("text", "name", "share"),
    [
        ("one two three four", "en", 1.0),
        ("The file. The file, the FILE the file", "en", 2 / 6),
        ("two words", "en", 0.0),
        ("文件 文件文件", "zh", 2 / 4),
        ("打开一个文件", "zh", 1.0),
        ("", "zh", 0.0),
    ],
)
def test_distinct_trigrams(text: str, name: str, share: float) -> None:
    assert language.distinct_trigrams(text, name) == pytest.approx(share)


@given(st.text("ab文", max_size=14), st.text("ab文", max_size=40))
def test_the_longest_copy_is_in_both_texts_and_no_run_is_longer(text: str, training: str) -> None:
    copy = language.longest_copy(text, training)
    assert copy in text
    assert copy in training
    assert len(copy) == ngrams.longest_common_run(text, training)


@pytest.mark.parametrize("name", ["en", "zh"])
def test_prompts_are_halves_of_different_sentences_of_the_text(name: str) -> None:
    text = HELD_OUT[name]
    prompts = language.half_sentences(text, name, 20, seed=0)
    assert prompts == language.half_sentences(text, name, 20, seed=0)
    assert prompts != language.half_sentences(text, name, 20, seed=1)
    assert len(set(prompts)) == 20
    places = [text.index(prompt) for prompt in prompts]
    assert places == sorted(places)
    for prompt, place in zip(prompts, places, strict=True):
        assert place == 0 or text[place - 1] in " \n。！？"
        assert len(prompt) >= language.MIN_SENTENCE[name] // 2 - 20
        following = text[place + len(prompt)]
        assert following == " " or not (prompt[-1] + following).isascii()


def test_too_few_sentences_are_an_error() -> None:
    with pytest.raises(ValueError, match="[Ss]ample"):
        language.half_sentences(HELD_OUT["en"], "en", 10_000, seed=0)


@pytest.mark.parametrize("name", ["en", "zh"])
def test_held_out_texts_are_clean_prose(name: str) -> None:
    text = HELD_OUT[name]
    assert text == unicodedata.normalize("NFC", text)
    assert language.count_broken(text) == 0
    assert 15_000 <= len(text.encode()) <= 20_000
    paragraphs = text.removesuffix("\n").split("\n\n")
    assert all(re.fullmatch(r"\S[^\n\t]*[.。…)）”]", paragraph) for paragraph in paragraphs)
    own, letters = language.count_letters(text, name)
    assert own > 0.95 * letters


@pytest.mark.slow
def test_held_out_texts_share_no_run_with_the_demo() -> None:
    """However the demo's recipe cleans its input: compared is all text of all pages and articles."""
    import bz2
    from collections import Counter
    from xml.etree import ElementTree as ET

    import opencc
    import pyarrow as pa

    from corpusmill.pipeline.sources import Slice, read
    from corpusmill.pipeline.stages import charset, html, unicode, wikitext

    demo, texts = ROOT / "recipes" / "demo", []
    for path in sorted(demo.glob("*.warc.gz")):
        size = path.stat().st_size
        place = Slice(source="m", kind="warc", file_path=path.name, location=str(path), start=0, end=size, columns={})
        for batch in read(place, Counter()):
            decoded, _ = charset.decode(batch.column("content"), batch.column("charset"))
            extracted, _, _ = html.extract(decoded, html.ExtractSettings())
            texts += unicode.normalise(extracted).drop_null().to_pylist()
    for path in sorted(demo.glob("*-multistream.xml.bz2")):
        root = ET.fromstring(bz2.decompress(path.read_bytes()))
        markup = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
        texts += unicode.normalise(wikitext.to_text(pa.array(markup), path.name[:2])).to_pylist()
    assert len(texts) > 850
    simplify = opencc.OpenCC("t2s").convert

    def runs(text: str, length: int) -> set[int]:
        return {hash(text[i : i + length]) for i in range(len(text) - length + 1)}

    for name, length in (("en", 40), ("zh", 15)):
        ours = [p if name == "en" else "".join(p.split()) for p in HELD_OUT[name].split("\n\n")]
        forms = (
            texts if name == "en" else [form for t in texts for s in ["".join(t.split())] for form in (s, simplify(s))]
        )
        theirs = set().union(*(runs(form, length) for form in forms))
        assert [p for p in ours if not theirs.isdisjoint(runs(p, length))] == []
