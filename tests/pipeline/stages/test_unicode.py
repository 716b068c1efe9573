"""One form for text that looks the same."""

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages.unicode import normalise
from tests.reference import unicode as reference

# What the rules speak of, among letters of several scripts.
PIECES = [
    *"ab。，！中文가がé²\u0301\u094d\u1100\u1161\u0645\u06cc\U0001f469\U0001f4bb",
    *" \t\n\r\x0b\x0c\x00\x1b\x7f\x85\x9f\u00a0\u00ad\u1680\u2003\u2009\u200b\u200c\u200d\u200e\u2028\u2029\u202f\u3000",
    *"\ufdd0\ufdef\ufeff\ufffd\ufffe\U0001ffff\U0010fffe",
    "\r\n",
    "\n\n\n",
    "  ",
    "　　",
]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=30)


def one(text: str | None) -> str | None:
    return normalise(pa.array([text], pa.string()))[0].as_py()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e\u0301", "é"),
        ("ᄒ\u1161\u11ab글", "한글"),
        ("か\u3099", "が"),
        ("x², ﬁn, Ⅳ, ！（ＡＢＣ）", "x², ﬁn, Ⅳ, ！（ＡＢＣ）"),  # NFC, not NFKC
        ("co\u00adoper\u200bate\ufeff", "cooperate"),
        ("e\u00ad\u0301", "é"),  # composed after what stood between was dropped
        ("می\u200cخواهم, \U0001f469\u200d\U0001f4bb", "می\u200cخواهم, \U0001f469\u200d\U0001f4bb"),
        ("a\x00b\x1bc\x7fd\x9fe\ufdd0\U0010ffff", "abcde"),
        ("a\r\nb\rc\u2028d\u2029e\x0cf\x0bg\x85h", "a\nb\nc\nd\ne\nf\ng\nh"),
        ("10\u00a0km\u2003in\u202f2\u2009h", "10 km in 2 h"),
        ("第一段。\n　　第二段　作者", "第一段。\n第二段 作者"),
        ("　　这座老桥从春天起禁止通行了。　\n", "这座老桥从春天起禁止通行了。"),
        ("def f():\n    if x:\n\treturn  1", "def f():\n    if x:\n\treturn 1"),
        ("name \t\t size\t\t\n", "name\tsize"),
        ("a\n \t \n\n\nb  ", "a\n\nb"),
        (" \n\t\u3000", ""),
        ("", ""),
        (None, None),
    ],
)
def test_rules(text: str | None, expected: str | None) -> None:
    assert one(text) == expected


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_equals_the_reference_and_is_idempotent(text: str) -> None:
    result = one(text)
    assert result == reference.normalise(text)
    assert one(result) == result
    assert unicodedata.is_normalized("NFC", result)


@settings(deadline=None, max_examples=50)
@given(st.lists(TEXTS | st.none(), min_size=2, max_size=6), st.sampled_from([pa.string(), pa.large_string()]))
def test_a_slice_gives_the_same_rows(texts: list[str | None], kind: pa.DataType) -> None:
    values = pa.array(texts, kind)
    whole = normalise(values)
    assert whole.type == kind
    assert normalise(values[1:]).equals(whole[1:])
    assert normalise(values[:0]).equals(whole[:0])
