"""Our words: the one segmentation of a text that every rule counts by; no dictionary, no model.

A word is
- in spaced scripts (Latin, Cyrillic, Arabic, Devanagari, Hangul ...) a maximal run of letters, marks and
  digits, where one of `CONNECTORS` between two of them does not end the run: `don't`, `well-known`,
  `می‌خواهم`;
- in scripts written without spaces (`UNSPACED`) each letter by itself.

Punctuation, symbols and `_` belong to no word. A mark (Unicode category M) belongs to the letter or digit
before it; without one it belongs to no word, as the variation selector of an emoji does.

A letter of an unspaced script is less than a word, so each word also has a weight: the part of an English
word that it stands for. Measured on translations of the same English text, in letters for each English word:

- 90 zh-CN, 21 zh-TW and 68 ja pages of Debian and Apache manuals: 1.65, 1.74 and 2.96;
- gettext messages of 8 words and more on a Debian system: 1.68 (zh_CN, zh_TW), 2.98 (ja), 4.2 (th), 3.4 (km),
  2.6 (my);
- the Universal Declaration of Human Rights: lo like th, and 3.5 in my.

Of Japanese, which mixes them with Han, that leaves 3.8 to 4.1 for the Kana alone.

Categories are those of `unicodedata`, so they change with the version of Python.
"""

import functools
import unicodedata
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

CONNECTORS: Final = "'’-\u2010\u2011·\u05f3\u05f4\u00ad\u200c\u200d"
"""What a word may hold between two letters or digits: apostrophes, hyphens, the Catalan middle dot, geresh,
gershayim, the soft hyphen, zero-width non-joiner and joiner."""

WHOLE: Final = 100
"""The weight of a word of a spaced script; weights are whole hundredths, so that sums are exact."""

UNSPACED: Final = {
    "Han": (60, ((0x3005, 0x3007), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF))),
    "Kana": (25, ((0x3041, 0x30FF), (0x31F0, 0x31FF), (0xFF66, 0xFF9F), (0x1AFF0, 0x1B16F))),
    "Thai and Lao": (25, ((0x0E00, 0x0EFF),)),
    "Khmer": (30, ((0x1780, 0x17FF),)),
    "Myanmar": (33, ((0x1000, 0x109F), (0xA9E0, 0xA9FF), (0xAA60, 0xAA7F))),
}
"""Scripts in which each letter is a word: weight of one, and first and last code point of their blocks."""

_OTHER, _MARK, _CONNECTOR, _DIGIT, _LETTER, _HAN = range(6)  # after _HAN: the other scripts of UNSPACED
_WEIGHTS = np.array([0, 0, 0, WHOLE, WHOLE, *(weight for weight, _ in UNSPACED.values())])


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The words of one text, in order; positions count code points.

    Attributes:
        starts: int64 of shape (n_words,), the position of each word's first code point.
        ends: int64 of shape (n_words,), the position after its last one.
        weights: int64 of shape (n_words,), hundredths of an English word, `WHOLE` or less.
        alphabetic: bool of shape (n_words,), true for a word that has a letter; an ideograph is one.
    """

    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    weights: npt.NDArray[np.int64]
    alphabetic: npt.NDArray[np.bool_]

    def of(self, text: str) -> list[str]:
        """The words themselves; `text` is what `segment` was given."""
        return [text[start:end] for start, end in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


@functools.cache
def _classes() -> npt.NDArray[np.uint8]:
    """The class of every code point, shape (0x110000,)."""
    assigned = 0x40000  # planes 4 to 13 are empty; of plane 14 only the variation selectors matter
    categories = "".join(unicodedata.category(chr(point))[0] for point in range(assigned))
    major = np.frombuffer(categories.encode(), dtype=np.uint8)
    classes = np.full(0x110000, _OTHER, dtype=np.uint8)
    for category, number in (("M", _MARK), ("N", _DIGIT), ("L", _LETTER)):
        classes[:assigned][major == ord(category)] = number
    classes[0xE0100:0xE01F0] = _MARK
    for number, (_, blocks) in enumerate(UNSPACED.values(), start=_HAN):
        for first, last in blocks:
            block = classes[first : last + 1]
            block[block == _LETTER] = number
    classes[ord("〇")] = _HAN  # a number to Unicode
    classes[[ord(character) for character in CONNECTORS]] = _CONNECTOR
    return classes


def segment(text: str) -> Words:
    """The words of `text`, as the module defines them.

    Args:
        text: any text without lone surrogates.

    Returns:
        Where its words start and end, and of what kind they are.
    """
    classes = np.full(len(text) + 2, _OTHER, dtype=np.uint8)  # one of _OTHER at either end
    classes[1:-1] = _classes()[np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)]

    is_mark = classes == _MARK
    owners = np.maximum.accumulate(np.where(is_mark, 0, np.arange(classes.size)))
    kinds = classes[owners]  # of a mark: that of what it stands on
    is_spaced = (kinds == _DIGIT) | (kinds == _LETTER)
    is_spaced[1:-1] |= (kinds[1:-1] == _CONNECTOR) & is_spaced[:-2] & is_spaced[2:]

    is_unspaced = kinds >= _HAN
    is_first = is_unspaced & ~is_mark
    is_first[1:] |= is_spaced[1:] & ~is_spaced[:-1]
    is_inside = is_spaced | is_unspaced
    starts = np.flatnonzero(is_first)
    ends = np.flatnonzero(is_inside[:-1] & (~is_inside[1:] | is_first[1:]))
    letters = np.add.reduceat(classes >= _LETTER, starts, dtype=np.int64) if starts.size else starts
    return Words(starts=starts - 1, ends=ends, weights=_WEIGHTS[kinds[starts]], alphabetic=letters > 0)
