"""Pairs of near duplicates whose similarity is known: passages of real pages, and copies edited in one way each.

Everything is seeded: the same pages, language, kind of edit and seed give the same pairs.
"""

import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from opencc import OpenCC

__all__ = ["KINDS", "Pair", "Source", "join", "kinds_of", "pairs", "scattered", "split"]

UNSPACED = ("zh", "ja")
"""Languages whose units are characters, of which those of their own scripts are edited; of others they are words."""

_OWN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]")

_PASSAGE = {True: (400, 1500), False: (120, 500)}  # units, of unspaced languages and of others
_BOILERPLATE = 0.1
_MOST_EDITED = 0.06


class Pair(NamedTuple):
    """A passage and its edited copy."""

    text: str
    copy: str


def split(text: str, language: str) -> list[str]:
    """The units of a text, ends of lines among them; `join` puts them together again."""
    if language in UNSPACED:
        return list(text)
    return [unit for line in text.split("\n") for unit in (*line.split(), "\n")][:-1]


def join(units: Sequence[str], language: str) -> str:
    """The text of some units."""
    return "".join(units) if language in UNSPACED else " ".join(units).replace(" \n ", "\n")


def pairs(pages: Sequence[str], language: str, kind: str, *, seed: int) -> Iterator[Pair]:
    """Pairs without end, each of a passage drawn from the pages and its copy after one kind of edit.

    Args:
        pages: texts of one language.
        language: its tag without a script; what a unit is depends on it.
        kind: a key of `KINDS`.
        seed: of all that is drawn.

    Raises:
        ValueError: no page is as long as a passage.
    """
    draw = random.Random(f"{language} {kind} {seed}")
    for passage, other in _passages(pages, language, draw):
        source = Source(other, [other[place] for place in _editable(other, language)])
        yield Pair(join(passage, language), join(KINDS[kind](passage, source, draw), language))


def scattered(
    pages: Sequence[str], language: str, share: Callable[[random.Random], float], *, seed: int
) -> Iterator[Pair]:
    """Pairs without end whose copy has a share of its units replaced, at least one.

    Args:
        pages: see `pairs`.
        language: see `pairs`.
        share: draws the share, 0 to 1.
        seed: see `pairs`.
    """
    draw = random.Random(f"{language} scattered {seed}")
    for passage, other in _passages(pages, language, draw):
        edited, places = passage[:], _editable(passage, language)
        words = [other[place] for place in _editable(other, language)]
        for place in draw.sample(places, max(1, round(share(draw) * len(places)))):
            edited[place] = draw.choice(words)
        yield Pair(join(passage, language), join(edited, language))


def _passages(pages: Sequence[str], language: str, draw: random.Random) -> Iterator[tuple[list[str], list[str]]]:
    """A passage, more than half of it in the language's own script, and another page, which may be the same."""
    shortest, longest = _PASSAGE[language in UNSPACED]
    sources = [units for units in (split(page, language) for page in pages) if len(units) >= shortest]
    if not sources:
        raise ValueError(f"{language}: no page has {shortest} units")
    while True:
        source = draw.choice(sources)
        length = draw.randint(shortest, min(longest, len(source)))
        start = draw.randint(0, len(source) - length)
        passage, other = source[start : start + length], draw.choice(sources)
        if 2 * len(_editable(passage, language)) > length and _editable(other, language):
            yield passage, other


def _editable(units: Sequence[str], language: str) -> list[int]:
    """Where a text holds words, or characters of the language's own script."""
    if language in UNSPACED:
        return [place for place, unit in enumerate(units) if _OWN.match(unit)]
    return [place for place, unit in enumerate(units) if any(map(str.isalpha, unit))]


@dataclass(frozen=True, slots=True)
class Source:
    """What is put into a passage: units of another page, in their order, and those of them that are words."""

    units: list[str]
    words: list[str]


Edit = Callable[[list[str], Source, random.Random], list[str]]


def _places(units: Sequence[str], draw: random.Random) -> list[int]:
    """Up to 6 % of all places, as many as is drawn, at least one."""
    most = max(1, round(_MOST_EDITED * len(units)))
    return sorted(draw.sample(range(len(units)), draw.randint(1, most)))


def _replace(units: list[str], source: Source, draw: random.Random) -> list[str]:
    edited = units[:]
    for place in _places(units, draw):
        edited[place] = draw.choice(source.words)
    return edited


def _insert(units: list[str], source: Source, draw: random.Random) -> list[str]:
    edited = units[:]
    for place in reversed(_places(units, draw)):
        edited.insert(place, draw.choice(source.words))
    return edited


def _delete(units: list[str], source: Source, draw: random.Random) -> list[str]:
    gone = set(_places(units, draw))
    return [unit for place, unit in enumerate(units) if place not in gone]


def _move(units: list[str], source: Source, draw: random.Random) -> list[str]:
    """One to three blocks of a tenth of the text change their place."""
    edited = units[:]
    size = len(units) // 10
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(edited) - size)
        block = edited[start : start + size]
        del edited[start : start + size]
        place = draw.randrange(len(edited))
        edited[place:place] = block
    return edited


def _boilerplate(units: list[str], source: Source, draw: random.Random) -> list[str]:
    """Up to a tenth of the text's length of another page, before it and behind it."""
    length = min(len(source.units), max(1, round(_BOILERPLATE * len(units))))
    n_before = draw.randint(0, length)
    n_behind = length - n_before
    return [*source.units[:n_before], *units, *source.units[len(source.units) - n_behind :]]


_WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
_NARROW = str.maketrans("，。！？：；（）", ",.!?:;()")


def _cosmetic(units: list[str], source: Source, draw: random.Random) -> list[str]:
    """Case, width, punctuation and blanks change; the words do not."""
    change: Callable[[str], str] = draw.choice([str.upper, str.lower, lambda unit: unit.translate(_WIDE)])
    punctuation = draw.random() < 0.5
    edited = []
    for unit in map(change, units):
        edited.append(unit.translate(_NARROW) if punctuation else unit)
        if unit.strip() in ("", ",", ".", "，", "。") and draw.random() < 0.3:
            edited.append("\n")
    return edited


def _script(units: list[str], source: Source, draw: random.Random) -> list[str]:
    """Simplified Chinese becomes traditional, by OpenCC."""
    return list(_TRADITIONAL.convert("".join(units)))


_TRADITIONAL = OpenCC("s2t")

KINDS: Mapping[str, Edit] = {
    "replace": _replace,
    "insert": _insert,
    "delete": _delete,
    "move": _move,
    "boilerplate": _boilerplate,
    "cosmetic": _cosmetic,
    "script": _script,
}
"""Kinds of edit by name."""


def kinds_of(language: str) -> list[str]:
    """The kinds that a language has: only Chinese is written in two scripts."""
    return [kind for kind in KINDS if kind != "script" or language == "zh"]
