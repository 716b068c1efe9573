"""The shingler in plain Python: what `corpusmill.pipeline.stages.minhash` computes, character by character.

Scripts are told by Unicode names here, by block ranges in the pinned table; traditional to simplified comes
from the table, since OpenCC's dictionary changes with its version.
"""

import struct
import unicodedata
from functools import cache
from importlib import resources

import numpy as np
import xxhash

_FILE = resources.files("corpusmill.pipeline") / "data" / "shingle-table.npz"
with resources.as_file(_FILE) as _path, np.load(_path) as _table:
    KEY = dict(zip(map(chr, _table["key_from"]), map(chr, _table["key_to"]), strict=True))

MASK = (1 << 64) - 1
P = 0x9E3779B97F4A7C15
C = 0xD6E8FEB86659FD93
SEPARATOR, DROPPED = " ", ""
UNSPACED = (
    "CJK UNIFIED IDEOGRAPH",
    "CJK COMPATIBILITY IDEOGRAPH",
    "IDEOGRAPHIC ",
    "VERTICAL IDEOGRAPHIC ",
    "HANGZHOU ",
    "HIRAGANA ",
    "KATAKANA",
    "HENTAIGANA ",
    "VERTICAL KANA ",
    "COMBINING KATAKANA-HIRAGANA ",
    "THAI ",
    "LAO ",
    "KHMER ",
    "MYANMAR ",
)


def is_dropped(char: str) -> bool:
    name, category, code = unicodedata.name(char, ""), unicodedata.category(char), ord(char)
    if category == "Cf" or "VARIATION SELECTOR" in name:
        return True
    if category not in ("Mn", "Me"):
        return False
    accent = (
        0x300 <= code <= 0x36F
        or 0x1AB0 <= code <= 0x1AFF
        or 0x1DC0 <= code <= 0x1DFF
        or 0x20D0 <= code <= 0x20FF
        or 0xFE20 <= code <= 0xFE2F
    )
    hebrew = name.startswith(("HEBREW POINT", "HEBREW ACCENT", "HEBREW MARK")) and code < 0x600
    hamza_or_madda = 0x653 <= code <= 0x655  # they make other letters
    arabic = name.startswith("ARABIC ") and 0x600 <= code <= 0x6FF and not hamza_or_madda
    return accent or hebrew or arabic


@cache
def normalise(char: str) -> str:
    """One character for exact duplicates; a space for a separator, nothing for a dropped character."""
    if is_dropped(char):
        return DROPPED
    folded = char
    for step in ("NFKD", "casefold", "NFKD"):
        folded = folded.casefold() if step == "casefold" else unicodedata.normalize(step, folded)
        folded = "".join(c for c in folded if not is_dropped(c))
    if len(folded) > 1:
        folded = char.casefold() if len(char.casefold()) == 1 else char.lower()
    if unicodedata.category(folded or "a")[0] in "ZP" or unicodedata.category(folded or "a") in ("Cc", "Cs"):
        return SEPARATOR
    return folded


def is_han_plane(char: str) -> bool:
    return 0x20000 <= ord(char) <= 0x3FFFF


def is_symbol(char: str) -> bool:
    category = unicodedata.category(char)
    return not is_han_plane(char) and (category[0] == "S" or category in ("Co", "Cn"))


def is_unspaced(char: str) -> bool:
    if unicodedata.category(char) == "Nd":
        return False
    return is_han_plane(char) or unicodedata.name(char, "").startswith(UNSPACED)


def tokens(text: str, *, exact: bool = False) -> list[str]:
    """Tokens as strings. Exact keeps digits, script and symbols; otherwise they are folded or separate."""
    found: list[str] = []
    run = ""
    for char in map(normalise, text):
        if char == DROPPED:
            continue
        if char == SEPARATOR or (is_symbol(char) and not exact):
            own, in_run = "", ""
        elif is_symbol(char) or is_unspaced(char):
            own, in_run = char if exact else KEY.get(char, char), ""
        else:
            own, in_run = "", char if exact else ("0" if unicodedata.category(char) == "Nd" else char)
        run += in_run
        if not in_run:
            found += [token for token in (run, own) if token]
            run = ""
    return found + [run] * bool(run)


def marked_codes(text: str, *, exact: bool = False) -> list[int]:
    """Code points of the tokens, the top bit set in the first of each."""
    return [ord(char) | (i == 0) << 31 for token in tokens(text, exact=exact) for i, char in enumerate(token)]


def text_key(text: str) -> bytes | None:
    """What exact duplicates have in common."""
    codes = marked_codes(text, exact=True)
    return xxhash.xxh3_128_digest(struct.pack(f"<{len(codes)}I", *codes)) if codes else None


def mix64(x: int) -> int:
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & MASK
    x = (x ^ x >> 27) * 0x94D049BB133111EB & MASK
    return x ^ x >> 31


def token_hash(token: str) -> int:
    h = 0
    for char in token:
        h = (h + ord(char) + P) * P & MASK
    return mix64(h)


def shingles(text: str, ngram: int) -> list[int]:
    """32-bit hashes of the document's shingles, in order."""
    hashes = [token_hash(token) for token in tokens(text)]
    if not hashes:
        return []
    length = min(ngram, len(hashes))
    result = []
    for start in range(len(hashes) - length + 1):
        g = 0
        for h in hashes[start : start + length]:
            g = (g * C + h) & MASK
        result.append(mix64(g) >> 32)
    return result
