r"""One form for text that looks the same, before anything is compared, counted or learnt.

Composed form NFC, not NFKC: NFKC turns x² into x2, ﷺ into a phrase and full-width ！ and （ of Chinese prose into
their ASCII twins, which are other characters to a reader. Equivalences of that kind belong into comparison keys, not
into the text.

Characters
    Line ends are ``\n``: CR LF, CR, VT, FF, NEL, U+2028, U+2029. Every space (Zs: no-break, thin, ideographic …) is
    U+0020, but ideographic spaces at the start of a line, Chinese paragraph indents, go. Dropped: other control
    characters, U+FEFF, soft hyphens, zero width spaces, noncharacters. Zero width joiner and non-joiner stay, which
    Persian, Indic scripts and emoji are spelt with, and so do the direction marks of right-to-left text.
Layout
    Indentation stays, as code needs it. Inside a line a run of spaces is one space, with a tab in it one tab (between
    table cells). No space ends a line, at most one line is blank in a row, and none at either end of the text.
"""

from unicodedata import normalize

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["normalise"]

STAGE_VERSION = 1

_SPACES = r"\x{a0}\x{1680}\x{2000}-\x{200a}\x{202f}\x{205f}\x{3000}"
_NONCHARACTERS = r"\x{fdd0}-\x{fdef}" + "".join(rf"\x{{{plane:x}fffe}}\x{{{plane:x}ffff}}" for plane in range(17))

# RE2 (pattern, replacement), in this order: what joins letters goes before NFC composes them, runs are cut last.
_CHARACTERS = (
    (r"\r\n|[\r\x0b\x0c\x{85}\x{2028}\x{2029}]", "\n"),
    (rf"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\x{{ad}}\x{{200b}}\x{{feff}}{_NONCHARACTERS}]+", ""),
    (rf"(?m)^[ \t{_SPACES}]*\x{{3000}}[ \t{_SPACES}]*", ""),
    (rf"[{_SPACES}]", " "),
)
_LAYOUT = (
    (r"(\S) *\t[ \t]*", "\\1\t"),
    (r"(\S)  +", r"\1 "),
    (r"[ \t]+\n", "\n"),
    (r"\n{3,}", "\n\n"),
)


def normalise(texts: pa.Array) -> pa.Array:
    """Normalise characters and layout; doing it twice changes nothing.

    Args:
        texts: string or large_string, shape (n,).

    Returns:
        The same type and shape; null stays null.
    """
    for pattern, replacement in _CHARACTERS:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    # Not pc.utf8_normalize: its "NFC" (pyarrow 25.0.1) decomposes and does not compose again.
    composed = [None if text is None else normalize("NFC", text) for text in texts.to_pylist()]
    texts = pa.array(composed, texts.type)
    for pattern, replacement in _LAYOUT:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    return pc.utf8_trim(texts, " \t\n")
