r"""How much work a page makes for an HTML parser, estimated before it is parsed.

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

# So many start tags, half of them formatting elements, reopen at most 2^21 elements.
_FEW_TAGS = 2896

# Attributes are compared in 7 s where a page, or all its tags, or in 1 s where each tag has no more characters.
_SHORT_TAGS = 1 << 18
_SHORT_TAG = 1 << 14

_FORMATTING = frozenset(["font", "b", "big", "code", "em", "i", "nobr", "s", "small", "strike", "strong", "tt", "u"])
_CANNOT_NEST = _FORMATTING | {  # another one closes them, they have no content, or there is only one
    *("a", "html", "head", "body", "p", "li", "dd", "dt", "option", "optgroup", "rb", "rt", "rp", "rtc"),
    *("tr", "td", "th", "tbody", "thead", "tfoot", "colgroup", "caption"),
    *("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"),
}

_NAME = re.compile(r"<(/?[a-zA-Z][^\s/>]*+[\s/]?)")
_ATTRIBUTE = re.compile(r"""[\s/]*+([^\s/>][^\s/>=]*+)(?:\s*+=\s*+(?:"[^"]*+"|'[^']*+'|[^\s>]*+))?+""")
_START_TAG = re.compile(rf"<[a-zA-Z][^\s/>]*+(?:{_ATTRIBUTE.pattern.replace('(', '(?:', 1)})*+")


def over_budget(page: str) -> Literal["too_large", "too_deep"] | None:
    """The budget that a page exceeds, or None. Takes linear time and space."""
    n_tags = page.count("<")
    n_started = n_tags - page.count("</")
    if n_started > MAX_ELEMENTS:
        return "too_large"
    excess = _nesting(page, n_started, n_tags) if n_started > _FEW_TAGS else None
    if excess is None and len(page) > _SHORT_TAGS and _comparisons(page) > MAX_COMPARISONS:
        return "too_large"
    return excess


def _nesting(page: str, n_started: int, n_tags: int) -> Literal["too_large", "too_deep"] | None:
    started: Counter[str] = Counter()
    attributed: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    for token, n in Counter(_NAME.findall(page)).items():
        name = token.strip("/ \t\n\r\f").lower()
        if token.startswith("/"):
            ended[name] += n
        else:
            started[name] += n
            if not token[-1].isalnum():
                attributed[name] += n
    if len(started) > MAX_NAMES or started["option"] > MAX_OPTIONS:
        return "too_large"
    left_open = {name: max(started[name] - ended[name], 0) for name in _FORMATTING}
    n_reopened = sum(min(n, attributed[name] + 3) for name, n in left_open.items())
    if n_reopened * n_started > MAX_REOPENED:
        return "too_large"
    n_single = sum(abs(started[name] - ended[name]) for name in (started | ended).keys() - _CANNOT_NEST)
    return "too_deep" if n_single * n_tags > MAX_STEPS else None


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
