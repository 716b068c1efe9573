"""What near duplicates are judged by: exact similarity, what dedup finds, shares and their bounds.

Pure functions; `bench/recall` calls them. A pair is (text, copy).
"""

import gzip
import itertools
import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from corpusmill.pipeline.stages.signatures import MinHashSettings, band_keys, sig8, signatures

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.reference.shingles import shingles

__all__ = [
    "BINS",
    "SETTINGS",
    "Judged",
    "bin_of",
    "find",
    "judge",
    "natural",
    "recall_by_bin",
    "similarity",
    "summary",
    "wilson",
]

SETTINGS = MinHashSettings()
BINS = 10
_Z = 1.96
_BATCH = 500


@dataclass(frozen=True, slots=True)
class Judged:
    """A pair: its exact similarity, and whether dedup finds it."""

    jaccard: float
    found: bool


def similarity(pair: tuple[str, str]) -> float:
    """Exact Jaccard similarity of the shingles, by the plain reference."""
    first, second = (set(shingles(text, SETTINGS.ngram)) for text in pair)
    return len(first & second) / len(first | second) if first or second else 0.0


def find(pairs: Sequence[tuple[str, str]]) -> list[bool]:
    """Whether each pair has a band in common and similar 8-bit signatures."""
    firsts, seconds = (signatures(pa.array(texts, pa.string()), SETTINGS) for texts in zip(*pairs, strict=True))
    candidate = (band_keys(firsts, SETTINGS) == band_keys(seconds, SETTINGS)).any(axis=1)
    similar = np.round((sig8(firsts) == sig8(seconds)).mean(axis=1), 6) >= SETTINGS.threshold
    return [bool(both) for both in candidate & similar]


def judge(pairs: Iterable[tuple[str, str]], n: int) -> list[Judged]:
    """The first `n` pairs."""
    taken = list(itertools.islice(pairs, n))
    found = [one for i in range(0, len(taken), _BATCH) for one in find(taken[i : i + _BATCH])]
    return [Judged(similarity(pair), is_found) for pair, is_found in zip(taken, found, strict=True)]


def wilson(successes: int, n: int) -> float:
    """Lower bound of Wilson's interval at 95 % (Wilson, JASA 1927); 0 without trials."""
    if n == 0:
        return 0.0
    share = successes / n
    middle = share + _Z**2 / (2 * n)
    spread = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n * n))
    return (middle - spread) / (1 + _Z**2 / n)


def bin_of(jaccard: float) -> int:
    """0 for .80-.82, 9 for .98-1; 1 itself is in the last."""
    return min(BINS - 1, math.floor((jaccard - 0.8) * 50 + 1e-9))


def natural(path: Path) -> list[Judged]:
    """All pairs of the documents of a file whose similarity is at least .3."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        texts = [json.loads(line)["text"] for line in lines]
    sets = [set(shingles(text, SETTINGS.ngram)) for text in texts]
    matrix = signatures(pa.array(texts, pa.string()), SETTINGS)
    keys, bytes_ = band_keys(matrix, SETTINGS), sig8(matrix)
    judged = []
    for i, j in itertools.combinations(range(len(texts)), 2):
        union = len(sets[i] | sets[j])
        jaccard = len(sets[i] & sets[j]) / union if union else 0.0
        if jaccard >= 0.3:
            found = (keys[i] == keys[j]).any() and round(
                float((bytes_[i] == bytes_[j]).mean()), 6
            ) >= SETTINGS.threshold
            judged.append(Judged(jaccard, bool(found)))
    return judged


def recall_by_bin(judged: Sequence[Judged]) -> list[str]:
    cells = []
    for number in range(BINS):
        ones = [one.found for one in judged if one.jaccard >= 0.8 and bin_of(one.jaccard) == number]
        cells.append(f"{sum(ones) / len(ones):.3f}" if ones else "")
    return cells


def summary(judged: Sequence[Judged]) -> dict[str, float]:
    """Shares of a set of pairs: found of those of at least .8, and at least .7 of those found."""
    near, found = [one for one in judged if one.jaccard >= 0.8], [one for one in judged if one.found]
    return {
        "pairs": len(judged),
        "mean_jaccard": round(sum(one.jaccard for one in judged) / len(judged), 4),
        "found": round(len(found) / len(judged), 4),
        "recall_at_0.8": round(sum(one.found for one in near) / len(near), 4) if near else math.nan,
        "precision_at_0.7": round(sum(one.jaccard >= 0.7 for one in found) / len(found), 4) if found else math.nan,
    }
