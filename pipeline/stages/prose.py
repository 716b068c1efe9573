"""The line rule: keep the lines of a text that are running text; menus, headings, tables and code go.

A line stays when it reads as a sentence or more, by three tests that look at nothing but the line:

1. It ends with a sentence end of some script, before closing quotes, brackets and footnote marks. Thai and
   Lao have no such mark: a line most of whose words are theirs may end anyhow, but must be twice as long.
2. It is as long as 8 English words or 12 Han letters: by `words.Words.weights`, so lines that mix scripts
   count too. In other scripts without spaces that is 22 (Myanmar), 24 (Khmer), 29 (Kana) or 58 letters (Thai,
   Lao).
3. At most one in `SYMBOL_SHARE` of its characters, white space aside, is a symbol that prose rarely has. On
   4,019 pages of software manuals this takes .4 % of the lines that pass the others, nearly all syntax, code
   and listings of paths.

On those pages it keeps 64 % of the characters of the English ones and 60 % of the Chinese.
"""

import re
from typing import Final

import pyarrow as pa

from corpusmill.pipeline.stages.words import segment

STAGE_VERSION = 1

MINIMUM: Final = 720
"""Least weight of a line, in hundredths of an English word: 12 Han letters of 60, over 7 words of 100."""

SYMBOL_SHARE: Final = 10
"""A line goes that has more than one symbol in this many characters."""

_ENDS = ".!?…‥⋯。！？．｡‼⁇⁈⁉؟۔।॥။។៕։።፧།᠃"
_CLOSERS = "\"'”’»›)\\]}）】」』〉》］｝〕*†‡¹²³⁰⁴-⁹"
_SENTENCE_END = re.compile(
    rf"""(?: [{_ENDS}] | (?<=[\u0370-\u03ff\u1f00-\u1fff]); )  # Greek asks with a semicolon
    (?: \s* (?: [{_CLOSERS}] | [\[(［（〔]\w{{1,4}}[\])］）〕] ) )* $""",
    re.VERBOSE,
)
_SYMBOL = re.compile(r"[{}\[\]<>=|\\/_@#*&~^`$+;•·▪■►→]")
_SPACE = re.compile(r"\s+")
_THAI_OR_LAO = re.compile(r"[\u0e00-\u0eff]")


def prose_lines(texts: pa.Array) -> pa.Array:
    r"""Only the running text of each text.

    Args:
        texts: string or large_string, shape (n,); lines part at `\n`.

    Returns:
        An array of the same type and length: the lines that stay, unchanged and in order, an empty line
        between two of them where at least one was. A text without any becomes the empty text, null stays
        null. A text's result depends on that text alone.
    """
    return pa.array([None if text is None else _prose(text) for text in texts.to_pylist()], type=texts.type)


def joined(lines: list[str]) -> str:
    """A text of the lines that stay; of each stretch of blank lines between them one stays, empty."""
    text = "\n".join(line if line.strip() else "" for line in lines)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


def _prose(text: str) -> str:
    return joined([line for line in text.split("\n") if not line.strip() or _is_prose(line.strip())])


def _is_prose(line: str) -> bool:
    has_end = _SENTENCE_END.search(line) is not None
    if not has_end and not _THAI_OR_LAO.search(line):
        return False
    if len(_SYMBOL.findall(line)) * SYMBOL_SHARE > len(_SPACE.sub("", line)):
        return False
    words = segment(line)
    weight = int(words.weights.sum())
    if has_end:
        return weight >= MINIMUM
    n_thai_or_lao = sum(_THAI_OR_LAO.match(line, start) is not None for start in words.starts.tolist())
    return weight >= 2 * MINIMUM and 2 * n_thai_or_lao > len(words.starts)
