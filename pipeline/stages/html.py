"""HTML to the text of its main content.

``fast`` is resiliparse alone: a parser that accepts anything, and rules over tag names, class names and link density
that drop navigation, adverts and forms. Options are chosen by measurement (F1 on 76 news pages and 322 pages of many
kinds, where each raised it): no alternative texts of images, no comments, no dates and by-lines around an article.
List items keep their bullets, preformatted text its lines, table cells are separated by tabs. A page whose rules
leave nothing falls back to all of its visible text: that is seldom (0.1 % of manual pages, 2 % of web pages), and the
text would be lost otherwise.

Budgets (here and in `html_budget`) are of size and depth, never of time, so that a page has the same result on every
machine.
"""

import re
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import HTMLTree

from corpusmill.pipeline.stages.html_budget import over_budget

__all__ = ["ExtractSettings", "extract"]

STAGE_VERSION = 2

_MARK = "\u200b"  # ZERO WIDTH SPACE

# resiliparse 2.0.1 takes a text node of one character of three UTF-8 bytes for a glyph of an icon font and drops it
# from the main content, so "、" or "和" or "”" between two inline elements is lost. A mark after it prevents that;
# real icon fonts (private use area) and the pilcrow of heading anchors stay unmarked and are dropped as intended.
_LONE_CHARACTER = re.compile(
    r">(\s*(?:[\u0800-\ud7ff\uf900-\uffff]|&(?!para;)[A-Za-z]{2,10};"
    r"|&#(?!5[7-9]...;|6[0-3]...;)[0-9]{4,5};|&#[xX](?![eEfF]...;)[0-9A-Fa-f]{3,4};))(\s*<)"
)

# resiliparse takes a list within three levels of the body for navigation, and looks at the share of links only below
# that. Simple pages have no levels: three around the content bring back one list item of eight on 1,340 manual pages,
# and their tables of contents, taken for structure before, go.
_BODY = re.compile(r"<[bB][oO][dD][yY]\b")
_LEVELS = "<div><div><div>"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtractSettings:
    """How text is taken from HTML.

    Attributes:
        method: ``fast`` (resiliparse).
        max_chars: longest page, in characters, and longest extracted text; longer ones are ``too_large``.
        max_depth: deepest nesting of elements, counted from `html` and with the three levels that the extraction
            adds; more is ``too_deep``. The deepest of 3,078 real pages is below 64, browsers stop at 512; time
            grows with its square.
    """

    method: Literal["fast"] = "fast"
    max_chars: int = 8 << 20
    max_depth: int = 256


def extract(html: pa.Array, settings: ExtractSettings) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Extract text and title.

    Args:
        html: string or large_string, shape (n,): pages, null where there is none.
        settings: see `ExtractSettings`.

    Returns:
        text: string, shape (n,): lines of the main content, "" for a page without visible text; null where the
            page is null or over a budget.
        title: string, shape (n,): content of the `title` element with white space collapsed; null if empty.
        reason: string, shape (n,): ``too_large`` or ``too_deep``, by the settings or `html_budget`; null otherwise.
    """
    deeper = ">".join(["*"] * (settings.max_depth + 1))
    n_chars = pc.utf8_length(html).to_pylist()
    rows = [
        (None, None, None)
        if n is None
        else (None, None, "too_large")
        if n > settings.max_chars
        else _extract(page.as_py(), deeper, settings)
        for page, n in zip(html, n_chars, strict=True)
    ]
    text, title, reason = (pa.array([row[i] for row in rows], pa.string()) for i in range(3))
    return text, title, reason


def _extract(page: str, deeper: str, settings: ExtractSettings) -> tuple[str | None, str | None, str | None]:
    excess = over_budget(page)
    if excess is not None:
        return None, None, excess
    tree = HTMLTree.parse(_with_levels(_LONE_CHARACTER.sub(rf">\1{_MARK}\2", page)))
    title = " ".join((tree.title or "").replace(_MARK, "").split()) or None
    if tree.document is not None and tree.document.query_selector(deeper) is not None:
        return None, title, "too_deep"
    text = _plain_text(tree, main_content=True) or _plain_text(tree, main_content=False)
    return (text, title, None) if len(text) <= settings.max_chars else (None, title, "too_large")


def _with_levels(page: str) -> str:
    """The page with `_LEVELS` after the start tag of its body, if it has one."""
    body = _BODY.search(page)
    end = 0 if body is None else page.find(">", body.end()) + 1
    return f"{page[:end]}{_LEVELS}{page[end:]}" if end else page


def _plain_text(tree: HTMLTree, *, main_content: bool) -> str:
    text: str = extract_plain_text(
        tree, preserve_formatting=True, main_content=main_content, alt_texts=False, comments=False, post_meta=False
    )
    return text.replace(_MARK, "").strip()
