"""Bytes of a web page to text."""

import codecs
import hashlib
import json
import re
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages.charset import DECLARATION_BYTES, SAMPLE_BYTES, decode
from tests.corpus import prose

SENTENCES = {
    "zh": "这座老桥从春天起禁止通行了。",
    "zh-TW": "這座老橋從春天起禁止通行了，約翰‧史密斯說。",
    "ja": "この古い橋は春からすべての車両が通行止めになっています。",
    "ko": "그 오래된 다리는 지난 봄부터 모든 차량의 통행이 금지되었다.",
    "ru": "Старый мост был закрыт для всего движения прошлой весной.",
    "el": "Η παλιά γέφυρα έκλεισε για όλη την κυκλοφορία πέρυσι την άνοιξη.",
    "de": "Die alte Brücke wurde im Frühjahr für den Verkehr gesperrt – für immer.",
    "pl": "Stary most został zamknięty dla całego ruchu zeszłej wiosny; później też.",
    "th": "สะพานเก่าถูกปิดการจราจรทั้งหมดตั้งแต่ฤดูใบไม้ผลิ",
}
# Language, encoding of the bytes, label that pages use for it.
ENCODED = [
    ("zh", "gb2312", "gb2312"),
    ("zh", "gbk", "GBK"),
    ("zh", "gb18030", "gb18030"),
    ("zh-TW", "cp950", "big5"),
    ("zh-TW", "cp950", "Big5-HKSCS"),
    ("ja", "shift_jis", "Shift_JIS"),
    ("ja", "cp932", "x-sjis"),
    ("ja", "euc_jp", "EUC-JP"),
    ("ja", "iso2022_jp", "ISO-2022-JP"),
    ("ko", "euc_kr", "ks_c_5601-1987"),
    ("ko", "cp949", "euc-kr"),
    ("ko", "cp949", "cp949"),
    ("ru", "cp1251", "windows-1251"),
    ("ru", "koi8_r", "koi8-r"),
    ("el", "cp1253", "windows-1253"),
    ("de", "cp1252", "iso-8859-1"),
    ("de", "cp1252", "us-ascii"),
    ("pl", "iso8859_2", "latin2"),
    ("th", "tis_620", "windows-874"),
]


def one(data: bytes | None, charset: str | None = None) -> tuple[str | None, str | None]:
    text, codec = decode(pa.array([data], pa.binary()), pa.array([charset], pa.string()))
    return text[0].as_py(), codec[0].as_py()


def page(text: str, head: str = "") -> str:
    return f"<html><head>{head}<title>x</title></head><body><p>{text}</p>" + "<div class='y'>\n</div>" * 5


@pytest.mark.parametrize(("language", "codec", "label"), ENCODED)
def test_the_header_names_the_charset(language: str, codec: str, label: str) -> None:
    text = page(SENTENCES[language])
    assert one(text.encode(codec), label)[0] == text


@pytest.mark.parametrize("declaration", ['<meta charset="{}">', "<META http-equiv=x content='text/html; charset={}'>"])
@pytest.mark.parametrize(("language", "codec", "label"), ENCODED)
def test_the_page_names_the_charset(language: str, codec: str, label: str, declaration: str) -> None:
    text = page(SENTENCES[language], declaration.format(label))
    assert one(text.encode(codec))[0] == text
    assert one(text.encode(codec), "utf-8")[0] == text  # a wrong header
    assert one(text.encode(codec), "no-such-charset")[0] == text


def test_an_xml_declaration_names_the_charset_and_a_comment_does_not() -> None:
    text = "<?xml version='1.0' encoding='gbk'?><!-- <meta charset=koi8-r> -->" + page(SENTENCES["zh"])
    assert one(text.encode("gbk")) == (text, "gb18030")


@pytest.mark.parametrize("header", ["iso-8859-1", "windows-1252", "us-ascii"])
@pytest.mark.parametrize(("language", "codec", "label"), ENCODED)
def test_a_header_that_nobody_chose_gives_way_to_the_page(language: str, codec: str, label: str, header: str) -> None:
    text = page(SENTENCES[language], f'<meta charset="{label}">')
    assert one(text.encode(codec), header)[0] == text


@pytest.mark.parametrize("header", ["iso-8859-1", "windows-1252"])
@pytest.mark.parametrize(("language", "codec", "label"), [row for row in ENCODED if row[0] != "pl"])
def test_a_header_that_nobody_chose_gives_way_to_another_script(
    language: str, codec: str, label: str, header: str
) -> None:
    text = page(SENTENCES[language] * 4)
    assert one(text.encode(codec), header)[0] == text


@pytest.mark.parametrize("header", ["gbk", "big5", "euc-kr", "windows-1251", "koi8-r"])
@pytest.mark.parametrize(
    ("language", "codec", "label"), [row for row in ENCODED if row[0] in ("zh", "zh-TW", "ja", "ru")]
)
def test_where_header_and_page_differ_the_bytes_decide(language: str, codec: str, label: str, header: str) -> None:
    text = page(SENTENCES[language] * 4, f'<meta charset="{label}">')
    assert one(text.encode(codec), header)[0] == text
    wrong = page(SENTENCES[language] * 4, f'<meta charset="{header}">')
    assert one(wrong.encode(codec), label)[0] == wrong


@pytest.mark.parametrize(("language", "codec", "label"), [row for row in ENCODED if row[0] != "pl"])
def test_without_declaration_the_charset_is_detected(language: str, codec: str, label: str) -> None:
    text = page(SENTENCES[language] * 4)
    assert one(text.encode(codec))[0] == text


@pytest.mark.parametrize("declared", [None, "gbk", "iso-8859-1", "utf-16"])
def test_utf8_is_believed_before_any_declaration(declared: str | None) -> None:
    text = page(SENTENCES["zh"], '<meta charset="big5">')
    assert one(text.encode(), declared) == (text, "utf-8")


@pytest.mark.parametrize(("codec", "name"), [("utf-8-sig", "utf-8"), ("utf-16", "utf-16-le")])
def test_a_byte_order_mark_is_obeyed_and_removed(codec: str, name: str) -> None:
    text = page(SENTENCES["zh"], '<meta charset="gbk">')
    assert one(text.encode(codec), "gbk") == (text, name)
    assert one("\ufeff".encode("utf-16-be") + text.encode("utf-16-be")) == (text, "utf-16-be")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("declared", [None, "utf-16", "gbk"])
def test_utf16_without_mark_shows_by_its_zero_bytes(codec: str, declared: str | None) -> None:
    text = page(SENTENCES["zh"])
    assert one(text.encode(codec), declared) == (text, codec)


PLAIN = {  # plain text, without markup: of characters that are, and are not, the same number of bytes
    "zh": "\n".join(prose("zh")[:3]),
    "en": "\n".join(prose("en")[:3]),
    "ja": (SENTENCES["ja"] + "\n") * 4,
    "ko": (SENTENCES["ko"] + "\n") * 4,
    "ru": (SENTENCES["ru"] + "\n") * 4,
    "el": (SENTENCES["el"] + "\n") * 4,
    "th": (SENTENCES["th"] + "\n") * 4,
}


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("language", PLAIN)
@pytest.mark.parametrize("declared", [None, "gbk", "iso-8859-1"])
def test_plain_text_in_utf16_without_mark(codec: str, language: str, declared: str | None) -> None:
    text = PLAIN[language]
    assert one(text.encode(codec), declared) == (text, codec)
    cut, used = one(text.encode(codec)[:-1], declared)
    assert (cut, used) == (text[:-1] + "\ufffd", codec)


@pytest.mark.parametrize(
    ("language", "codec", "name"),
    [
        ("zh", "gb18030", "gb18030"),
        ("zh", "gbk", "gb18030"),
        ("ja", "cp932", "cp932"),
        ("ja", "euc_jp", "euc_jis_2004"),
        ("ko", "cp949", "cp949"),
        ("ru", "cp1251", "cp1251"),
        ("ru", "koi8_r", "koi8-r"),
    ],
)
def test_plain_text_in_a_legacy_charset_without_declaration(language: str, codec: str, name: str) -> None:
    assert one(PLAIN[language].encode(codec)) == (PLAIN[language], name)


@pytest.mark.parametrize("junk", ["\0", "\0\0\0\0\0", "\x01\x02\x03"])
@pytest.mark.parametrize(("language", "codec"), [("zh", "utf-8"), ("zh", "gb18030"), ("en", "utf-8"), ("de", "cp1252")])
def test_control_characters_do_not_make_utf16(junk: str, language: str, codec: str) -> None:
    text = page((PLAIN | SENTENCES)[language] * 5 + junk)
    assert one(text.encode(codec), codec) == (text, codec)


def test_legacy_bytes_declared_as_utf16_are_not_utf16() -> None:
    text = page(SENTENCES["ru"] * 3, '<meta charset="utf-16">')
    assert one(text.encode("cp1251"), "utf-16") == (text, "cp1251")


@pytest.mark.parametrize(("codec", "declared"), [("utf-8", None), ("utf-8", "iso-8859-1"), ("gb18030", "gb2312")])
def test_damage_costs_the_damaged_character(codec: str, declared: str | None) -> None:
    data = (SENTENCES["zh"] * 5).encode(codec)
    text, used = one(data[:-1], declared)  # cut in the last character
    assert used == codec
    assert text is not None
    assert text.rstrip("\ufffd") == (SENTENCES["zh"] * 5)[:-1]
    assert text.endswith("\ufffd")
    broken, used = one(data[:8] + b"\xff" + data[8:], declared)
    assert used == codec
    assert broken is not None
    assert 1 <= broken.count("\ufffd") <= 3


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("UTF8", "utf-8"),
        ("gb2312", "gb18030"),
        ("x-gbk", "gb18030"),
        ("big5", "big5hkscs"),
        ("sjis", "cp932"),
        ("euc-jp", "euc_jis_2004"),
        ("iso-2022-jp", "iso2022_jp_ext"),
        ("ks_c_5601-1987", "cp949"),
        ("latin1", "cp1252"),
        ("latin2", "iso8859-2"),
        ("iso-8859-9", "cp1254"),
        ("tis-620", "cp874"),
        ("koi8_r", "koi8-r"),
        ("x-mac-ukrainian", "mac-cyrillic"),
    ],
)
def test_each_codec_has_one_name(label: str, name: str) -> None:
    """The one of `codecs.lookup`, for the codec that the web means by the label."""
    assert codecs.lookup(name).name == name
    text = {"utf-8": "é", "cp1252": "é", "iso8859-2": "ł", "cp1254": "ğ"}.get(name) or {
        "koi8-r": SENTENCES["ru"],
        "mac-cyrillic": SENTENCES["ru"],
        "cp874": SENTENCES["th"],
        "cp949": SENTENCES["ko"],
    }.get(name, "桥" if name == "gb18030" else "橋")
    assert one(text.encode(name), label) == (text, name)


def test_a_large_page_is_judged_by_its_beginning() -> None:
    """And decoded to its end; the declaration counts where it stands at the beginning only."""
    line = SENTENCES["zh"] + "\n"
    text = line * (SAMPLE_BYTES // len(line.encode("gbk")) + 100)
    assert one(text.encode("gbk")) == (text, "gb18030")
    ascii = "x" * (SAMPLE_BYTES - 1)
    assert one((ascii + "é").encode() + b"\xff") == (ascii + "é\ufffd", "utf-8")
    late = page(SENTENCES["de"], f"<!--{'x' * DECLARATION_BYTES}--><meta charset=koi8-r>")
    assert one(late.encode("cp1252"))[0] == late


@pytest.mark.parametrize(
    "page",
    [
        b"<!--" * 2_000_000,
        b"<meta " * 2_000_000,
        b"<meta charset=" + b" " * 10_000_000,
        b"<meta charset" * 1_000_000,
        b"<?xml " * 2_000_000,
        b"\xff" * 10_000_000,
        b"\x81" * 10_000_000,
        b"\x1b$" * 5_000_000,
        b"\xa0\xd8" * 5_000_000,
        b"\0\xd8\1" * 3_000_000,
    ],
    ids=lambda page: str(page[:12]),
)
def test_monsters_take_linear_time(page: bytes) -> None:
    """10 MB in less than 5 s of CPU (2 s where this was written): a quadratic step would take hours."""
    start = time.process_time()
    one(page + b"\xff", "windows-1255")
    assert time.process_time() - start < 5


def test_a_page_cut_in_its_second_character_outside_ascii_keeps_its_charset() -> None:
    data = "<p>It’s a café".encode()
    assert one(data[:-1]) == ("<p>It’s a caf\ufffd", "utf-8")
    assert one(data[:-1], "iso-8859-1") == ("<p>It’s a caf\ufffd", "utf-8")
    assert one("<p>It is a café".encode("latin-1"), "latin1") == ("<p>It is a café", "cp1252")


def test_big5_symbols_are_those_of_the_web() -> None:
    # https://encoding.spec.whatwg.org/index-big5.txt, pointers 5029, 5038, 5153, 5185, 5187, 5188
    assert (
        one("約翰".encode("cp950") + b"\xa1\x45\xa1\x4e\xa1\xe3\xa2\x44\xa2\x46\xa2\x47", "big5")[0]
        == "約翰‧﹑～￥￠￡"
    )
    assert one(b"\x87\x40" + "香港".encode("cp950"), "big5")[0] == "䏰香港"  # HKSCS


def test_nothing_and_null() -> None:
    assert one(b"") == ("", "utf-8")
    assert one(None) == (None, None)
    assert one(None, "gbk") == (None, None)


@settings(deadline=None, max_examples=300)
@given(
    st.binary(max_size=60)
    | st.builds(
        lambda text, codec: text.encode(codec, "ignore"),
        st.text(max_size=30),
        st.sampled_from([row[1] for row in ENCODED]),
    ),
    st.none()
    | st.sampled_from([row[2] for row in ENCODED] + ["utf-16", "hex", "idna", "undefined", "\x00", "x-user-defined"]),
)
def test_any_bytes_give_text_and_the_codec_that_made_it(data: bytes, charset: str | None) -> None:
    text, codec = one(data, charset)
    assert text is not None
    assert codec is not None
    assert codecs.lookup(codec).name == codec
    assert data.decode(codec, "replace").count("\ufffd") == text.count("\ufffd")


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=60))
def test_utf8_stays(text: str) -> None:
    if "\0" not in text and "\x1b" not in text:
        assert one(text.encode())[0] == text.removeprefix("\ufeff")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.none() | st.binary(max_size=20), min_size=2, max_size=6), st.sampled_from(["gbk", None]))
def test_a_slice_gives_the_same_rows(data: list[bytes | None], charset: str | None) -> None:
    contents = pa.array(data, pa.large_binary())
    charsets = pa.array([charset] * len(data), pa.string())
    text, codec = decode(contents, charsets)
    assert text.type == pa.large_string()
    assert [column.to_pylist() for column in decode(contents[1:], charsets[1:])] == [
        text[1:].to_pylist(),
        codec[1:].to_pylist(),
    ]


def test_real_pages_in_nineteen_charsets(shared_data: Path) -> None:
    """All 145 pages decode to the text that was encoded, whatever declares their charset, if anything does."""
    folder = shared_data / "warc-edge"
    gold = [json.loads(line) for line in (folder / "charset.gold.jsonl").read_text().splitlines()]
    contents, charsets = [], []
    for record in ArchiveIterator(
        str(folder / "charset.warc.gz"), record_types=WarcRecordType.response, parse_http=True
    ):
        contents.append(record.reader.read())
        match = re.search(r"charset=([^;\s]+)", record.http_headers.get("Content-Type") or "")
        charsets.append(match and match[1])
    text, _ = decode(pa.array(contents, pa.binary()), pa.array(charsets, pa.string()))
    right: Counter[str] = Counter()
    for page, row in zip(text.to_pylist(), gold, strict=True):
        right[row["declared"]] += hashlib.sha1(page.encode()).hexdigest() == row["sha1_utf8"]
    assert right == {"header": 39, "meta": 37, "none": 36, "wrong-header": 33}
    assert Counter(row["declared"] for row in gold) == right
