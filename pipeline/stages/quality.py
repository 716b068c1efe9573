r"""Raw quality signals of a text, the numbers that `rules` compares with thresholds.

The signals are those of Gopher's two tables (Rae et al., Scaling Language Models: Methods, Analysis &
Insights from Training Gopher, 2021, appendix A1.1), counted on the words of `words`. The paper leaves open
what this fixes:

- A line is what stands between two `\n`, stripped of white space at both ends and not empty; a paragraph is a
  run of lines without an empty one between them. Both are compared exactly.
- A duplicate is an occurrence after the first; so also datatrove. With first occurrences counted in, a page
  that says two things twice is half duplicate, and the thresholds drop 59 % of the English chapters of the
  Debian FAQ (now 12 %).
- Characters of n-grams are those of words, without what stands between them; each counts once however many
  n-grams cover it (datatrove adds up overlapping top n-grams, and skips some duplicate ones).
- An n-gram stands for n English words. A document whose words weigh less than `words.WHOLE` on average has
  n-grams of proportionally more words: 8 Han letters for n = 5, `ngram_words`. With n letters, thresholds
  that drop one page in 50 of English manuals drop one in six of their Chinese translations, nearly all of the
  Japanese ones (table in `rules`).

All fractions are 0 to 1, and 0 where the denominator is 0.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from corpusmill.pipeline.stages.words import WHOLE, Words, segment

STAGE_VERSION = 1

STOP_WORDS: Final = {"en": frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})}
"""Stop words by primary language subtag; the eight English ones are Gopher's."""

_TOP: Final = range(2, 5)
_DUPLICATE: Final = range(5, 11)
_BULLET = re.compile(r"[•‣⁃▪▫■□●○◦◆◇►▶➢➤·・]|[-*–](?:\s|$)")
_ELLIPSIS = re.compile(r"(?:\.{3,}|。{3,}|…|⋯)+")
_ELLIPSIS_ENDS = ("...", "。。。", "…", "⋯")


@dataclass(frozen=True, kw_only=True, slots=True)
class Signal:
    """One column of `signals`.

    Attributes:
        name: of the column.
        type: int64, or float64 rounded to 6 decimals.
        unit: with the range of a fraction.
        description: what is counted, numerator / denominator.
    """

    name: str
    type: pa.DataType
    unit: str
    description: str

    @property
    def field(self) -> pa.Field:
        """The Arrow field, nullable: documents that are not refined have no signals."""
        metadata = {"description": self.description, "unit": self.unit}
        return pa.field(self.name, self.type, metadata=metadata)


def _count(name: str, description: str) -> Signal:
    return Signal(name=name, type=pa.int64(), unit="words", description=description)


def _ratio(name: str, description: str, unit: str = "fraction, 0 to 1") -> Signal:
    return Signal(name=name, type=pa.float64(), unit=unit, description=description)


SIGNALS: Final = (
    _count("n_words", "words; a letter of an unspaced script is one"),
    _count("n_english_words", "weights of the words: the length in English words, rounded down"),
    _ratio("mean_word_length", "characters of all words / n_words", "characters a word"),
    _ratio("symbol_word_ratio", "# and ＃ / n_words", "symbols a word"),
    _ratio("ellipsis_word_ratio", "runs of ..., … or 。。。 / n_words", "ellipses a word"),
    _ratio("bullet_line_ratio", "lines that begin with a bullet, or with -, * or – and a space / lines"),
    _ratio("ellipsis_line_ratio", "lines that end with ..., … or 。。。 / lines"),
    _ratio("alpha_word_ratio", "words with a letter / n_words"),
    _count("stop_words", "distinct stop words of the language, in any case; null: it has no list"),
    _ratio("dup_line_frac", "lines equal to an earlier one / lines"),
    _ratio("dup_para_frac", "paragraphs equal to an earlier one / paragraphs"),
    _ratio("dup_line_char_frac", "characters of lines equal to an earlier one / of all lines"),
    _ratio("dup_para_char_frac", "characters of paragraphs equal to an earlier one / of all paragraphs"),
    *(
        _ratio(
            f"top_{n}_gram",
            f"characters of words in occurrences of the most frequent {n}-gram / of all words; of equally "
            "frequent ones that with the most characters; 0 if none occurs twice",
        )
        for n in _TOP
    ),
    *(
        _ratio(f"dup_{n}_gram", f"characters of the words in {n}-grams equal to an earlier one / of all words")
        for n in _DUPLICATE
    ),
)
"""Every signal, in column order."""

SCHEMA: Final = pa.schema([signal.field for signal in SIGNALS])
"""The schema of what `signals` returns."""

_Integers = npt.NDArray[np.int64]


def primary_subtag(language: str) -> str:
    """The language of a BCP 47 tag: `zh` of `zh-Hans`."""
    return language.partition("-")[0].lower()


def signals(texts: pa.Array, *, languages: pa.Array | None) -> pa.RecordBatch:
    """The raw signals of each text.

    Args:
        texts: string or large_string, shape (n,); null counts as the empty text.
        languages: string, shape (n,), BCP 47 tags, null where unknown; None: all unknown.

    Returns:
        One row a text, columns as in `SCHEMA`. A row depends on its text and language alone.

    Raises:
        ValueError: `texts` and `languages` differ in length.
    """
    tags = [None] * len(texts) if languages is None else languages.to_pylist()
    if len(tags) != len(texts):
        raise ValueError(f"{len(texts)} texts but {len(tags)} languages: give one language a text")
    rows = [
        _signals(text or "", STOP_WORDS.get(primary_subtag(tag or "")))
        for text, tag in zip(texts.to_pylist(), tags, strict=True)
    ]
    columns: Iterable[Sequence[float | None]] = zip(*rows, strict=True) if rows else [[] for _ in SIGNALS]
    return pa.RecordBatch.from_arrays(
        [pa.array(column, type=signal.type) for column, signal in zip(columns, SIGNALS, strict=True)],
        schema=SCHEMA,
    )


def ngram_words(words: Words, n: int) -> int:
    """How many of a document's words an n-gram has: n where they are whole, more where they are letters.

    That is n x words / English words, rounded half up: 3, 5, 7, 8, 10, 12, 13, 15, 17 for n = 2 to 10 in a
    text of Han letters.
    """
    weight = int(words.weights.sum())
    return (2 * n * WHOLE * words.weights.size + weight) // (2 * weight) if weight else n


def _signals(text: str, stop_words: frozenset[str] | None) -> tuple[float | None, ...]:
    """The values of `SIGNALS`."""
    words = segment(text)
    strings = words.of(text)
    n_words = len(strings)
    characters = int((words.ends - words.starts).sum())

    stripped = [line.strip() for line in text.split("\n")]
    lines = [line for line in stripped if line]
    paragraphs = [block for block in re.split(r"\n{2,}", "\n".join(stripped).strip("\n")) if block]
    lower = {string.lower() for string in set(strings)}
    values = (
        _fraction(characters, n_words),
        _fraction(text.count("#") + text.count("＃"), n_words),
        _fraction(_ellipses(text), n_words),
        _fraction(sum(_BULLET.match(line) is not None for line in lines), len(lines)),
        _fraction(sum(line.endswith(_ELLIPSIS_ENDS) for line in lines), len(lines)),
        _fraction(int(words.alphabetic.sum()), n_words),
        None if stop_words is None else len(stop_words & lower),
        _fraction(len(lines) - len(set(lines)), len(lines)),
        _fraction(len(paragraphs) - len(set(paragraphs)), len(paragraphs)),
        _fraction(_length(lines) - _length(set(lines)), _length(lines)),
        _fraction(_length(paragraphs) - _length(set(paragraphs)), _length(paragraphs)),
        *(_fraction(covered, characters) for covered in _repeated_characters(strings, words)),
    )
    return (n_words, int(words.weights.sum()) // WHOLE, *values)


def _ellipses(text: str) -> int:
    # Most texts have none, and looking for the strings is 20 times as fast as the expression.
    return len(_ELLIPSIS.findall(text)) if any(mark in text for mark in _ELLIPSIS_ENDS) else 0


def _fraction(numerator: int, denominator: int) -> float:
    return round(numerator / denominator, 6) if denominator else 0.0


def _length(strings: Iterable[str]) -> int:
    return sum(map(len, strings))


def _repeated_characters(strings: list[str], words: Words) -> list[int]:
    """Numerators of the n-gram signals: characters covered by the top n-gram or by duplicates, n = 2 to 10.

    An n-gram can occur twice only where its first and its last n-1 words do, so each size looks at the few
    places that the size before left, and names an n-gram by the pair of numbers of those two: exact, without
    hashing.
    """
    offsets = np.concatenate(([0], np.cumsum(words.ends - words.starts)))  # characters before each word
    number: dict[str, int] = {}
    places, grams = _repeats(
        np.arange(len(strings)),
        np.array([number.setdefault(string, len(number)) for string in strings], dtype=np.int64),
    )
    size = 1
    covered = []
    for n in (*_TOP, *_DUPLICATE):
        while places.size and size < ngram_words(words, n):
            follows = np.flatnonzero(np.diff(places) == 1)
            pairs = grams[follows] * (grams.max() + 1) + grams[follows + 1]
            places, grams = _repeats(places[follows], pairs)
            size += 1
        coverage = _top_coverage if n in _TOP else _duplicate_coverage
        covered.append(coverage(places, grams, size, offsets))
    return covered


def _repeats(places: _Integers, keys: _Integers) -> tuple[_Integers, _Integers]:
    """The places, and numbers for the keys, of the keys that occur more than once; places stay in order."""
    _, grams, counts = np.unique(keys, return_inverse=True, return_counts=True)
    repeats = counts[grams] > 1
    return places[repeats], grams[repeats]


def _coverage(places: _Integers, grams: _Integers, size: int, offsets: _Integers) -> _Integers:
    """Characters from each place to the end of its n-gram, or to the next place of that gram if nearer."""
    stops = places + size
    follows = np.flatnonzero(grams[1:] == grams[:-1])
    stops[follows] = np.minimum(stops[follows], places[follows + 1])
    return offsets[stops] - offsets[places]


def _top_coverage(places: _Integers, grams: _Integers, size: int, offsets: _Integers) -> int:
    """Characters that the most frequent of the repeated n-grams covers."""
    if not places.size:
        return 0
    order = np.argsort(grams, kind="stable")
    characters = np.bincount(grams[order], weights=_coverage(places[order], grams[order], size, offsets))
    counts = np.bincount(grams)
    return int(characters[counts == counts.max()].max())


def _duplicate_coverage(places: _Integers, grams: _Integers, size: int, offsets: _Integers) -> int:
    """Characters that later occurrences of the repeated n-grams cover."""
    is_later = np.ones(places.size, dtype=np.bool_)
    is_later[np.unique(grams, return_index=True)[1]] = False
    later = places[is_later]
    return int(_coverage(later, np.zeros_like(later), size, offsets).sum())
