"""The signals of Gopher's rules with lists, sets and counters (Rae et al. 2021, appendix A1.1)."""

import re
import unicodedata
from collections import Counter
from fractions import Fraction
from math import floor

from tests.reference.words import weight, words

ENGLISH = {"the", "be", "to", "of", "and", "that", "have", "with"}
BULLETS = tuple("•‣⁃▪▫■□●○◦◆◇►▶➢➤·・")


def signals(text: str, language: str | None) -> dict[str, float | None]:
    """Every signal of one text."""
    found = words(text)
    n_words = len(found)
    lines = [line.strip() for line in text.split("\n")]
    paragraphs = [[]]
    for line in lines:
        if line:
            paragraphs[-1].append(line)
        else:
            paragraphs.append([])
    paragraphs = ["\n".join(paragraph) for paragraph in paragraphs if paragraph]
    lines = [line for line in lines if line]
    marks = re.sub(r"\.\.\.+|。。。+|⋯", "…", text)
    is_english = language is not None and language.lower().split("-")[0] == "en"
    values: dict[str, float | None] = {
        "n_words": n_words,
        "n_english_words": sum(map(weight, found)) // 100,
        "mean_word_length": fraction(sum(map(len, found)), n_words),
        "symbol_word_ratio": fraction(sum(character in "#＃" for character in text), n_words),
        "ellipsis_word_ratio": fraction(len(re.findall("…+", marks)), n_words),
        "bullet_line_ratio": fraction(sum(map(is_bullet, lines)), len(lines)),
        "ellipsis_line_ratio": fraction(sum(map(trails_off, lines)), len(lines)),
        "alpha_word_ratio": fraction(sum(map(has_letter, found)), n_words),
        "stop_words": len(ENGLISH & {word.lower() for word in found}) if is_english else None,
        "dup_line_frac": fraction(len(repeats(lines)), len(lines)),
        "dup_para_frac": fraction(len(repeats(paragraphs)), len(paragraphs)),
        "dup_line_char_frac": fraction(sum(map(len, repeats(lines))), sum(map(len, lines))),
        "dup_para_char_frac": fraction(sum(map(len, repeats(paragraphs))), sum(map(len, paragraphs))),
    }
    values |= {f"top_{n}_gram": top(found, n) for n in (2, 3, 4)}
    values |= {f"dup_{n}_gram": duplicate(found, n) for n in range(5, 11)}
    return values


def fraction(numerator: int, denominator: int) -> float:
    return round(numerator / denominator, 6) if denominator else 0.0


def is_bullet(line: str) -> bool:
    return line.startswith(BULLETS) or line in ("-", "*", "–") or (line[0] in "-*–" and line[1].isspace())


def trails_off(line: str) -> bool:
    return line.endswith(("...", "…", "⋯", "。。。"))


def has_letter(word: str) -> bool:
    return any(unicodedata.category(character)[0] == "L" or character == "〇" for character in word)


def repeats(items: list[str]) -> list[str]:
    """Those equal to an earlier one."""
    seen: set[str] = set()
    return [item for item in items if item in seen or seen.add(item)]


def ngrams(found: list[str], n: int) -> list[tuple[str, ...]]:
    """The n-grams of a text: as many of its words as n English words, rounded half up."""
    size = floor(n * Fraction(100 * len(found), sum(map(weight, found))) + Fraction(1, 2)) if found else n
    return [tuple(found[start : start + size]) for start in range(len(found) - size + 1)]


def top(found: list[str], n: int) -> float:
    grams = ngrams(found, n)
    most = max(Counter(grams).values(), default=0)
    if most < 2:
        return 0.0
    frequent = [gram for gram, count in Counter(grams).items() if count == most]
    return max(covered(found, [at for at, gram in enumerate(grams) if gram == one], len(one)) for one in frequent)


def duplicate(found: list[str], n: int) -> float:
    seen: set[tuple[str, ...]] = set()
    places = []
    grams = ngrams(found, n)
    for place, gram in enumerate(grams):
        if gram in seen:
            places.append(place)
        seen.add(gram)
    return covered(found, places, len(grams[0])) if places else 0.0


def covered(found: list[str], places: list[int], size: int) -> float:
    """Characters of the words that n-grams at these places cover, each word once, as a share of all."""
    inside = {word for place in places for word in range(place, place + size)}
    return fraction(sum(len(found[word]) for word in inside), sum(map(len, found)))
