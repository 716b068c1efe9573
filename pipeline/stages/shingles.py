"""Text to tokens and shingle hashes: what "the same text" means for near and exact duplicates.

One rule serves all languages and needs no word segmenter. Characters pass through a pinned table (NFKD, case
folding, accents and vowel points dropped, format characters skipped). A token is a maximal run of letters and
digits; in scripts written without spaces (Han, Kana, Thai, Lao, Khmer, Myanmar) each character is a token of
its own. For shingles, digits become "0" and traditional Chinese becomes simplified.
"""

import hashlib
import io
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib import resources

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpusmill.pipeline.stages import minhash
from corpusmill.pipeline.stages.minhash import SEPARATOR, SKIP, SOLO


class Kind(IntEnum):
    """How a character takes part in tokens, as pipeline/data/build_shingle_table.py writes it."""

    SEPARATOR = 0
    SKIP = 1
    RUN = 2
    SOLO = 3
    SYMBOL = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class CharacterTable:
    """The pinned character table, one entry a code point.

    Attributes:
        exact: uint32[0x110000], for exact duplicates: digits, script and symbols are kept.
        shingle: uint32[0x110000], for shingles: each digit is "0", Chinese is simplified, symbols separate.
        sha256: hex digest of the file the table was read from.
    """

    exact: NDArray[np.uint32]
    shingle: NDArray[np.uint32]
    sha256: str


@cache
def character_table() -> CharacterTable:
    """The table of this package, read once a process (9 MB)."""
    data = resources.files("corpusmill.pipeline").joinpath("data", "shingle-table.npz").read_bytes()
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        kind = file["kind"]
        exact = np.arange(kind.size, dtype=np.uint32)
        exact[file["normal_from"]] = file["normal_to"]
        shingle = exact.copy()
        shingle[file["key_from"]] = file["key_to"]
    for table, solo in ((exact, (Kind.SOLO, Kind.SYMBOL)), (shingle, (Kind.SOLO,))):
        own = np.isin(kind, solo)
        table[own] |= SOLO
        table[~own & (kind != Kind.RUN)] = SEPARATOR
        table[kind == Kind.SKIP] = SKIP
        table.setflags(write=False)
    return CharacterTable(exact=exact, shingle=shingle, sha256=hashlib.sha256(data).hexdigest())


def mix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The splitmix64 finaliser (Steele et al., OOPSLA 2014), a bijection of 64-bit numbers, per element."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def shingle_hashes(texts: pa.Array, ngram: int) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Hashes every run of `ngram` tokens of every text.

    A text of fewer tokens has one shingle, all of them: short texts are deduplicated too. A text with no
    token (null, empty, nothing but punctuation and symbols) has none. A shingle that occurs twice is listed
    twice.

    Args:
        texts: string or large_string array of N documents.
        ngram: tokens in a shingle, at least 1.

    Returns:
        The hashes of all documents (uint32[S]), and where each begins (int64[N + 1]): document i has
        `values[offsets[i]:offsets[i + 1]]`.

    Raises:
        ValueError: `ngram` is less than 1.
        TypeError: `texts` is another array.
    """
    if ngram < 1:
        raise ValueError(f"ngram is {ngram}, expected at least 1")
    return minhash.shingles(texts, character_table().shingle, ngram)
