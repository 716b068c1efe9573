"""What a small language model is judged by: n-gram models to beat, and measures of the text that it writes.

Pure functions; `bench/demo` calls them.
"""

import math
import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "WittenBell",
    "bits_per_byte",
    "count_broken",
    "count_letters",
    "distinct_trigrams",
    "half_sentences",
    "longest_copy",
]

SENTENCE_END = {"en": r"(?<=[.!?]) +(?=[A-Z])", "zh": r"(?<=[。！？]) *"}
"""Between two sentences of a paragraph."""

MIN_SENTENCE = {"en": 80, "zh": 30}
"""Shortest sentence whose half is a prompt, in characters."""

SCRIPTS = {"en": frozenset({"LATIN"}), "zh": frozenset({"CJK", "IDEOGRAPHIC"})}
"""Words in the Unicode names of a script's letters: Latin, and Han with its iteration mark."""


@dataclass(frozen=True)
class WittenBell:
    """Unigram and bigram model of tokens, each order interpolated with the one below by Witten-Bell's weights.

    With c(h) tokens seen after h, n(h) different ones among them, and N tokens in all, n different ones among them:

        p(w | h) = (c(h, w) + n(h) p(w)) / (c(h) + n(h))
        p(w)     = (c(w) + n / V) / (N + n)

    so the unigram is smoothed by the uniform distribution over the V tokens of the vocabulary, and is all there is
    after an h that was never seen. (Witten and Bell 1991, method C; interpolated as in Chen and Goodman, An Empirical
    Study of Smoothing Techniques for Language Modeling, 1999.)

    Attributes:
        unigram: float64[V], p(w).
        pairs: int64[n_pairs], h * V + w of the pairs that were seen, ascending.
        pair_counts: int64[n_pairs], c(h, w).
        tokens_after: int64[V], c(h).
        kinds_after: int64[V], n(h).
    """

    unigram: NDArray[np.float64]
    pairs: NDArray[np.int64]
    pair_counts: NDArray[np.int64]
    tokens_after: NDArray[np.int64]
    kinds_after: NDArray[np.int64]

    @classmethod
    def count(cls, windows: NDArray[np.int64], vocab_size: int) -> "WittenBell":
        """Train on what a model learns from: the pairs of input and target in its windows.

        Neighbouring windows share a token, which is a target in the first and an input in the second only, so each
        token of a stream counts once.

        Args:
            windows: int64[n_windows, T + 1], token ids; -1 where there is none.
            vocab_size: V.
        """
        inputs, targets = windows[:, :-1], windows[:, 1:]
        both = (inputs >= 0) & (targets >= 0)
        pairs, pair_counts = np.unique(inputs[both] * vocab_size + targets[both], return_counts=True)
        histories, tokens = np.divmod(pairs, vocab_size)

        def total(index: NDArray[np.int64]) -> NDArray[np.int64]:
            return np.bincount(index, weights=pair_counts, minlength=vocab_size).astype(np.int64)

        counts = total(tokens)
        n, kinds = counts.sum(), np.count_nonzero(counts)
        unigram = (counts + kinds / vocab_size) / (n + kinds) if n else np.full(vocab_size, 1 / vocab_size)
        kinds_after = np.bincount(histories, minlength=vocab_size)
        return cls(unigram, pairs, pair_counts, total(histories), kinds_after)

    def probability(self, history: NDArray[np.int64], token: NDArray[np.int64]) -> NDArray[np.float64]:
        """p(token | history), element by element: float64[n] of two int64[n]."""
        pair = history * len(self.unigram) + token
        if not len(self.pairs):
            return self.unigram[token]
        place = np.minimum(np.searchsorted(self.pairs, pair), len(self.pairs) - 1)
        seen = np.where(self.pairs[place] == pair, self.pair_counts[place], 0)
        n, kinds = self.tokens_after[history], self.kinds_after[history]
        known = n > 0
        mixed = (seen + kinds * self.unigram[token]) / np.where(known, n + kinds, 1)
        return np.where(known, mixed, self.unigram[token])

    def bigram_nats(self, documents: Sequence[Sequence[int]], eos: int) -> float:
        """Sum of -ln p(token | the one before) over documents, each after one <eos>; the <eos> is not scored."""
        history = [h for ids in documents for h in [eos, *ids][:-1]]
        token = [t for ids in documents for t in ids]
        return float(-np.log(self.probability(np.array(history, np.int64), np.array(token, np.int64))).sum())

    def unigram_nats(self, documents: Sequence[Sequence[int]]) -> float:
        """Sum of -ln p(token) over documents."""
        return float(-np.log(self.unigram[np.array([t for ids in documents for t in ids], np.int64)]).sum())


def bits_per_byte(nats: float, documents: Sequence[str]) -> float:
    """Nats of all tokens of the documents as bits a byte of their UTF-8 text."""
    return nats / math.log(2) / sum(len(text.encode()) for text in documents)


def count_broken(text: str) -> int:
    """Characters that no text has: U+FFFD, surrogates, and control characters below U+0020 but newline and tab."""
    return sum(c == "\ufffd" or "\ud800" <= c <= "\udfff" or (c < " " and c not in "\n\t") for c in text)


def count_letters(text: str, language: str) -> tuple[int, int]:
    """Letters (general category L) of the language's script, and letters in all."""
    letters = [c for c in text if unicodedata.category(c).startswith("L")]
    own = sum(not SCRIPTS[language].isdisjoint(re.split("[ -]", unicodedata.name(c, ""))) for c in letters)
    return own, len(letters)


def distinct_trigrams(text: str, language: str) -> float:
    """Share of the trigrams of a text that are different: of case-folded words, in Chinese of characters but spaces.

    Returns:
        0 to 1; 0 for a text too short for a trigram.
    """
    units = list("".join(text.split())) if language == "zh" else re.findall(r"\w+", text.casefold())
    trigrams = list(zip(units, units[1:], units[2:], strict=False))
    return len(set(trigrams)) / len(trigrams) if trigrams else 0.0


def longest_copy(text: str, training: str) -> str:
    """The longest run of characters of a text that occurs in the training text; of several the first.

    Two pointers: the run that starts here is looked for one character longer than the longest so far and grown as
    long as it is found. That is at most two searches of the training text a character, each at the speed of
    `str.__contains__`: about a millisecond in 4 MB.
    """
    best = ""
    for start in range(len(text)):
        while len(best) < len(text) - start and text[start : start + len(best) + 1] in training:
            best = text[start : start + len(best) + 1]
    return best


def half_sentences(text: str, language: str, n_sentences: int, seed: int) -> list[str]:
    """First halves of sentences, drawn at random, in the order of the text.

    Args:
        text: paragraphs, an empty line between them.
        language: `en` or `zh`.
        n_sentences: how many, each another sentence.
        seed: of the draw.

    Returns:
        Halves by characters, cut where a word or a Chinese character ends.

    Raises:
        ValueError: the text has fewer sentences that are long enough.
    """
    sentences = [s for paragraph in text.split("\n\n") for s in re.split(SENTENCE_END[language], paragraph.strip())]
    chosen = [i for i, sentence in enumerate(sentences) if len(sentence) >= MIN_SENTENCE[language]]
    drawn = sorted(random.Random(seed).sample(chosen, n_sentences))
    return [_half(sentences[i]) for i in drawn]


def _half(sentence: str) -> str:
    """The first half, ending before a space or between characters of which one is not a Latin letter or digit."""
    end = len(sentence) // 2
    while sentence[end - 1 : end + 1].isascii() and not sentence[end].isspace():
        end -= 1
    return sentence[:end].rstrip()
