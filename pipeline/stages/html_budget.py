"""How much work a page makes for an HTML parser, estimated before it is parsed.

The parser (lexbor) takes linear time and space on pages as people and programs write them, and quadratic ones on some
that nobody would: the limits here bound each of those, and are far from every real page. They are of size and depth,
never of time. The constants were measured on one core of a 2.5 GHz server.
"""

import re
from collections import Counter
from itertools import islice
from typing import Literal

__all__ = ["over_budget"]

MAX_ELEMENTS = 1 << 18
"""Most start tags; an average page of 8 MB has a fifth of it."""

MAX_REOPENED = 1 << 20
"""Most elements that formatting elements left open may add: some 300 MB.

HTML's "reconstruct the active formatting elements" opens each one with attributes that is never closed again in every
later block, and up to three without: 2,000 unclosed `font` elements in a page of 40 kB make a tree of 2 million nodes.
"""

MAX_STEPS = 1 << 30
"""Most steps along the stack of open elements for tags without a partner: some 6 s."""

MAX_COMPARISONS = 1 << 29
"""Most comparisons of attributes: each with those of its element before it, and each name with all elements; 2 s."""

MAX_OPTIONS = MAX_NAMES = 1 << 14
"""Most options, and most names of elements: the parser walks over the former ones at each new one; 1 s."""

MAX_COPIED = 1 << 30
"""Most characters that the parser may copy where text grows in many steps: some 1 s and 700 MB, which it keeps."""

# So many start tags, half of them formatting elements, reopen at most 2^21 elements.
_FEW_TAGS = 2896

# Attributes are compared in 7 s where a page, or all its tags, or in 1 s where each tag has no more characters.
_SHORT_TAGS = 1 << 18
_SHORT_TAG = 1 << 14

_FORMATTING = frozenset(["font", "b", "big", "code", "em", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"])
_CANNOT_NEST = {  # another one closes them, they have no content, or there is only one
    *("a", "html", "head", "body", "p", "li", "dd", "dt", "option", "optgroup"),
    *("tr", "td", "th", "tbody", "thead", "tfoot", "colgroup", "caption"),
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"),
}

_CELL = {"td", "th", "caption"}
_ROW = {"tr", "tbody", "thead", "tfoot", "col", "colgroup"}
_ROOT = {"html", "head", "body", "frameset", "frame"}

_NAME = re.compile(r"<(/?[a-zA-Z][^\s/>]*+[\s/]?)")
_TAG_AND_TEXT = re.compile(r"<(/?[a-zA-Z][^\s/>]*+[\s/]?|!-?)[^>]*+>?+([^<]*+)")
_ATTRIBUTE = re.compile(r"""[\s/]*+([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>]*+))?+""")
_START_TAG = re.compile(rf"<[a-zA-Z][^\s/>]*+(?:{_ATTRIBUTE.pattern.replace('(', '(?:', 1)})*+")


def over_budget(page: str) -> Literal["too_large", "too_deep"] | None:
    """The budget that a page exceeds: "too_deep" for elements left open, else "too_large"; None if it exceeds none.

    Takes linear time and space itself.
    """
    n_tags = page.count("<")
    n_started = n_tags - page.count("</")
    if n_started > MAX_ELEMENTS:
        return "too_large"
    if len(page) > _SHORT_TAGS and _comparisons(page) > MAX_COMPARISONS:
        return "too_large"
    if n_tags * len(page) > 2 * MAX_COPIED and _copied(page) > MAX_COPIED:
        return "too_large"
    if n_started > _FEW_TAGS or n_started * n_tags > MAX_STEPS:
        return _nesting(page, n_started, n_tags)
    return None


def _nesting(page: str, n_started: int, n_tags: int) -> Literal["too_large", "too_deep"] | None:
    """The budget of options, names, formatting or steps that a page exceeds, from how often each tag occurs."""
    started: Counter[str] = Counter()
    attributed: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for token, n in Counter(_NAME.findall(page)).items():
        name = _name(token)
        if token.startswith("/"):
            ended[name] += n
        else:
            started[name] += n
            attributed[name] += n * _has_attributes(token)
    if len(started) > MAX_NAMES or started["option"] > MAX_OPTIONS:
        return "too_large"
    left_open = {name: max(started[name] - ended[name], 0) for name in _FORMATTING}
    n_reopened = sum(min(n, attributed[name] + 3) for name, n in left_open.items())
    if n_reopened * n_started > MAX_REOPENED:
        return "too_large"
    n_single = (ended - started).total()
    n_single += sum(n for name, n in (started - ended).items() if name not in _CANNOT_NEST)
    return "too_deep" if n_single * n_tags > MAX_STEPS else None


def _name(token: str) -> str:
    return token.strip("/ \t\n\r\f").lower()


def _has_attributes(token: str) -> bool:
    return token.endswith(("/", " ", "\t", "\n", "\r", "\f"))


def _copied(page: str) -> int:
    """Characters copied as text nodes grow.

    Text behind a tag without effect is appended to the text before it, and text between the cells of a table to what
    stands before the table. The parser has used the space behind that text meanwhile, for attributes or for a cell.
    """
    n_copied = n_text = n_fostered = 0
    in_form = between_cells = False
    tables: list[int] = []  # n_fostered outside of each open table
    roles: dict[str, tuple[str, bool]] = {}
    for token, text in _TAG_AND_TEXT.findall(page):
        role, uses_space = roles.get(token) or roles.setdefault(token, _role(token))
        has_effect = True
        if role == "":
            n_fostered = 0 if between_cells else n_fostered
        elif role == "table":
            if not between_cells:
                tables.append(n_fostered)
            n_fostered, between_cells = 0, True
        elif role == "/table" and tables:
            n_fostered, between_cells = tables.pop(), False
        elif role in ("cell", "row", "/cell") and tables:
            between_cells = role != "cell"
        elif role == "form":
            has_effect, in_form = not in_form, True
        elif role != "!-":
            has_effect, in_form = False, in_form and role != "/form"
        if has_effect:
            n_text = 0
        elif uses_space:
            n_copied += n_text
        if not between_cells:
            n_text += len(text)
        elif text and not text.isspace():
            n_fostered += len(text)
            n_copied += n_fostered
    return n_copied


def _role(token: str) -> tuple[str, bool]:
    """What a tag, comment or declaration does to the text around it, and whether it takes space if it has no effect."""
    name = _name(token)
    slash = "/" if token.startswith("/") else ""
    if name in ("table", "form"):
        role = slash + name
    elif name in _ROW:
        role = "row"
    elif name in _CELL:
        role = slash + "cell"
    elif slash or token == "!" or name in _ROOT:
        role = "none"
    else:
        role = "!-" if token == "!-" else ""
    return role, token == "!" or _has_attributes(token)


def _comparisons(page: str) -> int:
    """Comparisons of attributes; 0 where they must be few."""
    tags = _START_TAG.findall(page)
    roots = [tag for tag in tags if tag[1:5].lower() in ("html", "body")]  # all make one element
    if sum(map(len, tags)) <= _SHORT_TAGS and max(map(len, [*tags, "".join(roots)])) <= _SHORT_TAG:
        return 0
    names: set[str] = set()
    n_compared = 0
    for tag in tags:
        attributes = _attributes(tag)
        names.update(attributes)
        n_compared += len(attributes) ** 2
    n_root = sum(len(_attributes(tag)) for tag in roots)
    return n_compared + n_root**2 + len(names) * len(tags)


def _attributes(tag: str) -> list[str]:
    """Names of the attributes of a start tag, up to more than the budget allows."""
    found = islice(_ATTRIBUTE.finditer(tag, 1), 1, 1 << 15)  # the first is the name of the element
    return [attribute[1] for attribute in found]
