"""Builds shingle-table.npz, the pinned character table of `corpusmill.pipeline.stages.shingles`.

Run once, by hand: `python pipeline/data/build_shingle_table.py`. The file is committed because every
signature and exact-duplicate key follows from it, while `unicodedata` and OpenCC change with their
versions. A new file is a new algorithm: signatures of the two never mix, since its sha256 is part of
`MinHashSettings.digest`.

Arrays in the file:
    kind: uint8[0x110000], how each code point takes part: `shingles.Kind`.
    normal_from, normal_to: uint32[M], code points that NFKD and case folding turn into another one.
    key_from, key_to: uint32[F], applied to the above for shingles only: digits to "0", traditional Chinese to
        simplified (OpenCC t2s, character by character).
    unicode_version, opencc_version: the versions the table was built with.
"""

import sys
import unicodedata
from pathlib import Path

import numpy as np
import opencc
from numpy.typing import NDArray

from corpusmill.pipeline.stages.shingles import Kind

# Accents that cosmetic edits add and lose. Dakuten, viramas and vowel signs make other letters, so they stay:
# dropping all of category Mn turns the Japanese "ga" into "ka" (seen in datatrove 0.10).
_DIACRITICS = (
    (0x0300, 0x036F),  # combining diacritical marks
    (0x1AB0, 0x1AFF),  # … extended
    (0x1DC0, 0x1DFF),  # … supplement
    (0x20D0, 0x20FF),  # … for symbols
    (0xFE20, 0xFE2F),  # combining half marks
)
# Optional vowel and cantillation points; the hamza and madda of U+0653-0655 make other letters and stay.
_POINTS = (
    (0x0591, 0x05C7),  # Hebrew
    (0x0610, 0x061A),  # Arabic honorifics
    (0x064B, 0x0652),  # Arabic tashkil
    (0x0656, 0x065F),
    (0x0670, 0x0670),
    (0x06D6, 0x06ED),  # Koranic annotation
)
# Scripts written without spaces: each character is its own token.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),  # Han iteration mark, closing mark, zero
    (0x3021, 0x3029),  # Hangzhou numerals
    (0x302A, 0x302D),  # Han tone marks
    (0x3031, 0x3035),  # vertical Kana repeat marks
    (0x3038, 0x303B),
    (0x3041, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extension
    (0x3400, 0x4DBF),  # Han extension A
    (0x4E00, 0x9FFF),  # Han
    (0xA9E0, 0xA9FF),  # Myanmar extended B
    (0xAA60, 0xAA7F),  # Myanmar extended A
    (0xF900, 0xFAFF),  # Han compatibility
    (0x1AFF0, 0x1B16F),  # Kana supplements
    (0x1D372, 0x1D376),  # Han tally marks
)
_HAN_PLANES = (0x20000, 0x3FFFF)  # the standard reserves them for ideographs, so unassigned ones count too


def _within(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)


def _dropped(char: str) -> bool:
    """Whether the character leaves no trace: format characters, variation selectors, accents, points."""
    category, code = unicodedata.category(char), ord(char)
    if category == "Cf" or "VARIATION SELECTOR" in unicodedata.name(char, ""):
        return True
    return category in ("Mn", "Me") and _within(code, _DIACRITICS + _POINTS)


def normalise(char: str) -> str:
    """NFKD and case folding of one character less its dropped marks, as one character or none.

    A character that becomes several (a Hangul syllable, a ligature, "ga" with its dakuten) stays itself,
    case folded.
    """
    text = unicodedata.normalize("NFKD", char)
    # Drop before folding too, which turns the iota subscript from a mark into a letter.
    text = "".join(c for c in text if not _dropped(c))
    text = unicodedata.normalize("NFKD", text.casefold())
    text = "".join(c for c in text if not _dropped(c))
    if len(text) <= 1:
        return text
    folded = char.casefold()
    return folded if len(folded) == 1 else char.lower()


def classify(char: str) -> Kind:
    """The kind of an already normalised character."""
    category, code = unicodedata.category(char), ord(char)
    if category == "Nd":
        return Kind.RUN
    if _HAN_PLANES[0] <= code <= _HAN_PLANES[1]:
        return Kind.SOLO
    if category[0] in "LMN":
        return Kind.SOLO if _within(code, _UNSPACED) else Kind.RUN
    # Private use and unassigned code points (newer emoji among them) are as opaque as symbols.
    return Kind.SYMBOL if category[0] == "S" or category in ("Co", "Cn") else Kind.SEPARATOR


def _pairs(mapping: dict[int, int]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    return np.array(list(mapping), np.uint32), np.array(list(mapping.values()), np.uint32)


def build() -> dict[str, NDArray]:
    """The arrays of the file, from this Python's `unicodedata` and the installed OpenCC."""
    kinds: list[Kind] = []
    normal: dict[int, int] = {}
    for code in range(0x110000):
        char = chr(code)
        to = normalise(char)
        if _dropped(char) or not to:
            kinds.append(Kind.SKIP)
            continue
        kinds.append(classify(to))
        if to != char:
            normal[code] = ord(to)

    simplify = opencc.OpenCC("t2s").convert
    keyed: dict[int, int] = {}
    for code, kind in enumerate(kinds):
        if kind not in (Kind.RUN, Kind.SOLO):
            continue
        to = chr(normal.get(code, code))
        if unicodedata.category(to) == "Nd":
            keyed[code] = ord("0")
        elif kind == Kind.SOLO:
            simple = simplify(to)
            while simple != (simpler := simplify(simple)):  # 薴 becomes 苧, which becomes 苎
                simple = simpler
            if simple != to:
                keyed[code] = ord(simple)

    normal_from, normal_to = _pairs(normal)
    key_from, key_to = _pairs(keyed)
    return {
        "kind": np.array(kinds, np.uint8),
        "normal_from": normal_from,
        "normal_to": normal_to,
        "key_from": key_from,
        "key_to": key_to,
        "unicode_version": np.array(unicodedata.unidata_version),
        "opencc_version": np.array(opencc.__version__),
    }


def main() -> None:
    """Writes the table beside this file, or to the path given."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("shingle-table.npz")
    np.savez_compressed(path, allow_pickle=False, **build())


if __name__ == "__main__":
    main()
