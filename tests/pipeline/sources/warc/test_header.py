"""Headers of WARC records: what the fast parser takes for one is what the careful one reads."""

from hypothesis import given
from hypothesis import strategies as st

from corpusmill.pipeline.sources.warc.header import Layouts, parse

NAMES = ["WARC-Type", "warc-type", "WARC-Date", "WARC-Target-URI", "Content-Length", "Content-Type", "X-Own", "X Y", ""]
VALUES = [
    "response",
    "5",
    "2026-11-24T08:00:00Z",
    "http://a.example/ b",
    "",
    " 7 ",
    "a: b",
    "a\tb",
    "例子",
    "\r",
    "WARC/1.0",
]
ENDS = ["\r\n"] * 9 + ["\n", "\r\n ", "\r\n\t", "\r\n\r\n", "\r\nWARC/1.0\r\n"]

fields = st.builds("{}{}{}{}".format, st.sampled_from(NAMES), st.sampled_from([": "] * 9 + [":", " : ", ":\t"]),
                   st.sampled_from(VALUES), st.sampled_from(ENDS))  # fmt: skip
starts = st.sampled_from(
    ["WARC/1.0\r\n"] * 5 + ["WARC/1.1\r\n", "WARC/0.18\r\n", "WARC/1.0\n", "WARC/1.0 \r\n", "WARC/2.0\r\n"]
)
heads = st.builds("{}{}Content-Length: 3\r\n\r\nabc".format, starts, st.lists(fields, max_size=6).map("".join))


@given(st.lists(heads, max_size=6))
def test_what_a_layout_reads_is_what_the_careful_parser_reads(texts: list[str]) -> None:
    layouts = Layouts()
    for text in map(str.encode, texts):
        quick = layouts.parse(text)
        if quick is not None:
            careful = parse(text, strict=False)
            assert careful is not None
            assert (quick[0].kind, quick[0].length, quick[1]) == (careful[0].kind, careful[0].length, careful[1])
            stripped = [{name: value.strip() for name, value in found[0].fields.items()} for found in (quick, careful)]
            assert stripped[0] == stripped[1]


def test_headers_of_the_plain_form_need_no_careful_parser() -> None:
    layouts = Layouts()
    for length in (3, 70_000):
        for names in (("WARC-Type", "Content-Length"), ("Content-Length", "WARC-Type", "X-Own"), ("CONTENT-LENGTH",)):
            values = {"content-length": str(length), "warc-type": "request", "x-own": "ä: b"}
            text = "WARC/1.1\r\n" + "".join(f"{name}: {values[name.lower()]}\r\n" for name in names) + "\r\nblock"
            found = layouts.parse(text.encode())
            assert found is not None
            assert (found[0].length, found[1]) == (length, len(text.encode()) - len("block"))


def test_what_is_not_plain_is_left_to_the_careful_parser() -> None:
    for text in (
        "WARC/1.0\r\n\r\n",
        "WARC/1.0\r\nContent-Length: x\r\n\r\n",
        "WARC/1.0\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "WARC/1.0\nContent-Length: 1\n\n",
        "WARC/1.0\r\nContent-Length: 1\r\nWARC-Type: re\r\n sponse\r\n\r\n",
        "WARC/1.0\r\nContent-Length: 1\r\n",
    ):
        assert Layouts().parse(text.encode()) is None
