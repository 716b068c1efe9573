"""The script rule: drop the lines of a text that are written in another script than its language is.

Pages translated in part hold whole paragraphs of the original: in the running text of 1,065 pages of software manuals
that identify as Chinese, 39 % of the characters stand in lines without a Han letter. It is a rule for scripts alone:
French in an English text stays.

A line goes when less than a share of its letters, half unless the recipe says other, are of its language's script. A
letter weighs

- as many letters of an alphabet as it stands for. One letter of the Universal Declaration of Human Rights stands for
  3.1 to 3.6 of the English one in Han, 2.7 in Hangul, 2.0 in Ethiopic, .8 to 1.8 in the other scripts, which count 1;
- a quarter of that if it is Latin, since sentences in every script are full of Latin names, commands and addresses.
  At full weight the demo would lose 1.4 % of its Chinese sentences.

The lines of running text in those and 1,730 English, Japanese, Korean, Russian and Arabic pages are far from the
half: in .9 % of them the language's own script has between 25 and 75 % of the weight. Below stand sentences of the
other language that cite a title, above sentences of the page's language full of commands; near the half are both.

A language's scripts are all that CLDR's likely subtags know it in, so Cyrillic and Latin for Serbian, unless its tag
names one. Letters outside `_SCRIPTS`, and those that several scripts share, count for nothing.
"""

import functools
import itertools
from typing import Final

import langcodes
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from langcodes.data_dicts import LIKELY_SUBTAGS

from corpusmill.pipeline.stages.prose import joined

__all__ = ["script_lines", "scripts"]

STAGE_VERSION = 1

_WEIGHTS: Final = {"Latin": 1, "Han": 12, "Hangul": 8, "Ethiopic": 8}
"""Of a letter; 4 in all other scripts."""

# ISO 15924 to Unicode, for the recommended scripts of UAX #31, table 5; they write every language of lid.176.
_SCRIPTS: Final = {
    "Arab": ("Arabic",),
    "Armn": ("Armenian",),
    "Beng": ("Bengali",),
    "Bopo": ("Bopomofo",),
    "Cyrl": ("Cyrillic",),
    "Deva": ("Devanagari",),
    "Ethi": ("Ethiopic",),
    "Geor": ("Georgian",),
    "Grek": ("Greek",),
    "Gujr": ("Gujarati",),
    "Guru": ("Gurmukhi",),
    "Hang": ("Hangul",),
    "Hans": ("Han",),
    "Hant": ("Han", "Bopomofo"),
    "Hebr": ("Hebrew",),
    "Jpan": ("Han", "Hiragana", "Katakana"),
    "Khmr": ("Khmer",),
    "Knda": ("Kannada",),
    "Kore": ("Hangul", "Han"),
    "Laoo": ("Lao",),
    "Latn": ("Latin",),
    "Mlym": ("Malayalam",),
    "Mymr": ("Myanmar",),
    "Orya": ("Oriya",),
    "Sinh": ("Sinhala",),
    "Taml": ("Tamil",),
    "Telu": ("Telugu",),
    "Thaa": ("Thaana",),
    "Thai": ("Thai",),
    "Tibt": ("Tibetan",),
}


def script_lines(texts: pa.Array, languages: pa.Array, share: float = 0.5) -> pa.Array:
    r"""Only the lines of each text that are written in its language's script.

    Args:
        texts: string or large_string, shape (n,); lines part at `\n`.
        languages: string, shape (n,): BCP 47 tags.
        share: least part of the weight of a line's letters that is of the language's script, to the percent.

    Returns:
        An array of the type and length of `texts`: the lines that stay, unchanged and in order, an empty line
        between two of them where at least one was. Lines without letters stay. A text that loses no line, or
        whose language has no script here (`und`), is unchanged; null stays null. A text's result depends on
        that text and its language alone.
    """
    edited = [
        None if text is None else _edited(text, scripts(language), round(100 * share))
        for text, language in zip(texts.to_pylist(), languages.to_pylist(), strict=True)
    ]
    return pa.array(edited, type=texts.type)


@functools.cache
def scripts(language: str | None) -> frozenset[str]:
    """The Unicode scripts that a language is written in, empty where we know none.

    `Language.maximize` will not do: it takes a language that it does not know for one in Latin script.
    """
    if language is None:
        return frozenset()
    tag = langcodes.Language.get(language)
    maximal = [value.split("-") for value in LIKELY_SUBTAGS.values()]
    codes = {tag.script} if tag.script else {script for name, script, *_ in maximal if name == tag.language}
    return frozenset(script for code in codes for script in _SCRIPTS.get(code, ()))


def _edited(text: str, own: frozenset[str], percent: int) -> str:
    if not own:
        return text
    weights = _signed_weights(own, percent)[np.frombuffer(f"{text}\n".encode("utf-32-le"), dtype=np.uint32)]
    if weights.min() >= 0:  # most texts hold no letter of another script
        return text
    lines = text.split("\n")
    lengths = np.fromiter(map(len, lines), np.int64, len(lines)) + 1
    sums = np.add.reduceat(weights, np.cumsum(lengths) - lengths, dtype=np.int64)
    if sums.min() >= 0:
        return text
    return joined([line for line, total in zip(lines, sums.tolist(), strict=True) if total >= 0])


@functools.cache
def _signed_weights(own: frozenset[str], percent: int) -> npt.NDArray[np.int16]:
    """Of every code point, shape (0x110000,): a line stays whose sum is not negative."""
    points, _ = _letters()
    weights = 4 * _in_scripts(frozenset(itertools.chain(*_SCRIPTS.values()))).astype(np.int16)
    for script, weight in _WEIGHTS.items():
        weights[_in_scripts(frozenset({script}))] = weight
    signed = np.zeros(0x110000, dtype=np.int16)
    signed[points] = np.where(_in_scripts(own), (100 - percent) * weights, -percent * weights)
    return signed


def _in_scripts(names: frozenset[str]) -> npt.NDArray[np.bool_]:
    """Whether each of `_letters` is of one of the scripts."""
    _, letters = _letters()
    pattern = "".join(rf"\p{{{name}}}" for name in sorted(names))
    found: npt.NDArray[np.bool_] = pc.match_substring_regex(letters, f"[{pattern}]").to_numpy(zero_copy_only=False)
    return found


@functools.cache
def _letters() -> tuple[npt.NDArray[np.uint32], pa.Array]:
    """All letters, as code points and as strings; RE2, Arrow's engine, brings Unicode's table of scripts."""
    characters = pa.array(chr(point) for point in range(0x40000) if not 0xD800 <= point < 0xE000)
    letters = characters.filter(pc.match_substring_regex(characters, r"\p{L}"))
    return np.frombuffer("".join(letters.to_pylist()).encode("utf-32-le"), dtype=np.uint32), letters
