"""Pages that would take an HTML parser quadratic time or space, and pages that only look so."""

import time
from pathlib import Path

import pyarrow as pa
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages.charset import decode
from corpusmill.pipeline.stages.html_budget import MAX_ELEMENTS, MAX_NAMES, MAX_OPTIONS, over_budget

TEXT = "x " * 200_000  # makes a page large enough to look at its attributes


def numbered(pattern: str, n: int) -> str:
    """The pattern with 0 to n - 1 in place of each #."""
    return "".join(pattern.replace("#", f"{i:x}") for i in range(n))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("<br>" * MAX_ELEMENTS, None),
        ("<br>" * (MAX_ELEMENTS + 1), "too_large"),
        ("<p>x</p>" * MAX_ELEMENTS, None),
        ("<select>" + "<option>x" * MAX_OPTIONS, None),
        ("<select>" + "<OPTION>x" * (MAX_OPTIONS + 1), "too_large"),
        (numbered("<x#></x#>", MAX_NAMES), None),
        (numbered("<x#></x#>", MAX_NAMES + 1), "too_large"),
    ],
)
def test_what_a_page_may_have_at_most(page: str, reason: str | None) -> None:
    assert over_budget(page) == reason


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        ("<div>" * 40_000, "too_deep"),
        ("<div>x</div>" * 40_000, None),
        ("<DIV>x</Div\n>" * 40_000, None),
        ("<div>" * 3000 + "</div>" * 3000, None),  # the parser's tree tells the rest
        ("<ul>" + "<li>x" * 40_000, None),  # another one closes it
        ("<tr><td>x" * 40_000, None),
        ("<p>x<br><img src=x>" * 40_000, None),
        ("<span>" * 20_000 + "</b2>" * 20_000, "too_deep"),  # each end tag looks for its element
        ("<span>" * 2000 + "</b2>" * 600_000, "too_deep"),
        ("<a><div>" * 30_000, "too_deep"),
        ("<i><div></i>" * 30_000, "too_deep"),
        ("<small></img></wbr>" * 30_000, "too_deep"),
        ("<rb>" * 40_000, "too_deep"),
        ("<ruby>字<rt>zì</ruby>" * 10_000, None),
    ],
)
def test_elements_left_open(page: str, reason: str | None) -> None:
    assert over_budget(page) == reason


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (numbered("<font size=#>x<p>", 3000), "too_large"),
        (numbered("<font size=#>x</font><p>", 30_000), None),
        ("<font size=1>" * 5 + "x<p>" * 100_000, None),
        ("<b>x<p>" * 20_000, None),  # of those without attributes, three come back
        ("<b><i><u><s><tt><em>" * 3 + "<p>x" * 60_000, "too_large"),
        ("<b><i><u><s><tt><em>" * 3 + "<p>x" * 50_000, None),
        ("<a href=x>y<p>" * 20_000, None),  # another one closes it
    ],
)
def test_formatting_left_open(page: str, reason: str | None) -> None:
    assert over_budget(page) == reason


@pytest.mark.parametrize("attribute", [" #", ' a#="1"', " a#='>'", ' a#="<b>"', " a# = x", "/a#", '\n"a#', " a#=1=2"])
def test_attributes_of_an_element(attribute: str) -> None:
    assert over_budget(f"<div{numbered(attribute, 30_000)}>{TEXT}") == "too_large"
    assert over_budget(f"<div{numbered(attribute, 20_000)}>{TEXT}") is None


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (numbered("<p a#=1>x", 30_000) + TEXT, "too_large"),  # as many names as elements
        (numbered("<p a=#>x", 30_000) + TEXT, None),
        (numbered("<body a#=1>", 30_000) + TEXT, "too_large"),  # which are those of one element
        (numbered("<p a#=1>" * 20, 1000) + TEXT, None),
        (f'<svg><path d="{"1 2 " * 300_000}"></svg>', None),
        (f'<img src="data:image/png;base64,{"AAAA" * 300_000}">', None),
        (f"<img src={'A' * 1_000_000}>", None),
        (f'<script>if (i<n) x = "{"a " * 300_000}";</script>', None),
    ],
)
def test_attributes_of_a_page(page: str, reason: str | None) -> None:
    assert over_budget(page) == reason


@pytest.mark.parametrize(
    "piece",
    ["<", "</", "<a", "<a ", "<a b", "<a b=", '<a b="', "<a b='", "<a =\"'", "<a b=c", "<body", "<option ", "&lt"],
)
def test_it_takes_linear_time_itself(piece: str) -> None:
    """Some 0.3 s for 2 MB; a quadratic step would take hours."""
    start = time.process_time()
    over_budget(piece * (2_000_000 // len(piece)))
    over_budget("<p>" + piece[1:] * (2_000_000 // len(piece)))
    assert time.process_time() - start < 5


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(["<p>", "<div a='b'>", "</div>", "<", ">", '"', "text", "<!--", "-->", "</", "="])))
def test_a_page_of_ordinary_size_is_within_every_budget(pieces: list[str]) -> None:
    assert over_budget("".join(pieces)) is None


def test_no_real_page_is_over_budget(shared_data: Path) -> None:
    pages = [
        record.reader.read()
        for name in ("extraction/aeb", "extraction/trafilatura-eval", "warc/aut-example")
        for record in ArchiveIterator(
            str(shared_data / f"{name}.warc.gz"), record_types=WarcRecordType.response, auto_decode="all"
        )
        if "html" in (record.http_content_type or "")
    ]
    text, _ = decode(pa.array(pages, pa.large_binary()), pa.nulls(len(pages), pa.string()))
    assert len(pages) > 500
    assert {over_budget(page) for page in text.to_pylist()} == {None}
