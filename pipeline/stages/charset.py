"""Bytes of a web page to text.

The bytes are believed before any declaration: a byte order mark, then UTF-8, which legacy text practically never
satisfies by chance (and whose declarations are the ones most often wrong), then what the HTTP header says, what the
page itself says, and what `uchardet` guesses from byte statistics. Where header and page differ, the guess decides;
``iso-8859-1``, which servers and editors write where nobody chose, gives way to any other declaration and to the
guess of a script that is not Latin. A candidate is accepted when it explains the bytes, up to a few damaged ones: a
page cut in the middle of a character or with one broken byte keeps its encoding. Labels mean what the WHATWG Encoding
Standard says that they mean on the web (``gb2312`` is GB 18030, ``iso-8859-1`` is windows-1252, ``ks_c_5601-1987`` is
UHC). A codec has the one name that `codecs.lookup` gives it: ``utf-8``, ``gb18030``, ``big5hkscs``, ``cp932``.

No step raises on any input; bytes that cannot be decoded become U+FFFD.
"""

import codecs
import re
from collections.abc import Iterator

import pyarrow as pa
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

__all__ = ["decode"]

STAGE_VERSION = 2

DAMAGED_SHARE = 0.1
"""A candidate encoding is accepted when at most this share of its non-ASCII characters is U+FFFD.

Legacy text read as UTF-8 has 0.7 or more (129 real pages in 15 encodings); a page with a cut or garbled passage is
far below.
"""

SAMPLE_BYTES = 1 << 20
"""How much of a page decides on its encoding."""

DECLARATION_BYTES = 4096
"""How far into the page its own declaration is looked for; browsers stop at 1024, real pages do not."""

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))

# The codec of Python that covers what the web calls by a narrower name, or that resiliparse has no name for.
_BROADER = {
    "gbk": "gb18030",
    "big5": "big5hkscs",
    "shift_jis": "cp932",
    "euc_jp": "euc_jis_2004",
    "iso2022_jp": "iso2022_jp_ext",
    "euc_kr": "cp949",
    "cp949": "cp949",
    "x-mac-cyrillic": "mac-cyrillic",
    "x-mac-ukrainian": "mac-cyrillic",
    "mac-cyrillic": "mac-cyrillic",
    "iso8859-11": "cp874",
}

_UNDECIDED = "cp1252"
_NOT_LATIN = {
    *("gb18030", "big5hkscs", "cp932", "euc_jis_2004", "cp949", "cp874"),
    *("cp866", "cp1251", "iso8859-5", "koi8-r", "koi8-u", "mac-cyrillic"),
    *("cp1253", "iso8859-7", "cp1255", "iso8859-8", "cp1256", "iso8859-6"),
}

# Symbols of row A1-A2 for which Python's Big5 table differs from the WHATWG index; the first is the dot in names.
_BIG5_SYMBOLS = str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡")

# In UTF-16, half of the bytes of Latin, Cyrillic or Thai text are control codes, and some 13 % of those of Chinese;
# elsewhere hardly one is.
_HEAD_BYTES = 1 << 16
_CONTROL = bytes([*range(9), *range(14, 27), *range(28, 32)])  # all but white space and ESC
_NOT_TEXT = re.compile("[\0-\x08\x0e-\x1f\ue000-\uf8ff\ufffd-\uffff]")  # control, private, damaged, unassigned

_COMMENT = re.compile(rb"<!--.*?(?:-->|\Z)", re.DOTALL)
_XML_DECLARATION = re.compile(rb"\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")
_META_CHARSET = re.compile(rb"<meta\s[^>]{0,300}?charset\s*=[\s\"']*([\w.:-]{1,40})", re.IGNORECASE)


def decode(contents: pa.Array, charsets: pa.Array) -> tuple[pa.Array, pa.Array]:
    """Decode pages.

    Args:
        contents: binary or large_binary, shape (n,): bodies of pages, null where there is none.
        charsets: string, shape (n,): the `charset` parameter of the HTTP header, null where there is none.

    Returns:
        text: string (large_string for large_binary), shape (n,), without byte order mark; null where the content is.
        charset: string, shape (n,): name of the Python codec that decoded the page; null where the content is.
    """
    texts: list[bytes | None] = []
    codecs_used: list[str | None] = []
    for data, label in zip(contents.to_pylist(), charsets.to_pylist(), strict=True):
        text, codec = (None, None) if data is None else _decode(data, label)
        texts.append(text)
        codecs_used.append(codec)
    string = pa.large_string() if pa.types.is_large_binary(contents.type) else pa.string()
    return pa.array(texts, contents.type).cast(string), pa.array(codecs_used, pa.string())


def _decode(data: bytes, label: str | None) -> tuple[bytes, str]:
    """The text of a page as UTF-8, and the codec it was in."""
    for bom, codec in _BOMS:
        if data.startswith(bom):
            return data[len(bom) :].decode(codec, "replace").encode(), codec
    if b"\0" not in data and b"\x1b" not in data:  # else UTF-16 and ISO-2022-JP would pass for UTF-8
        try:
            data.decode()
            return data, "utf-8"
        except UnicodeDecodeError:
            pass
    sample = _sample(data)
    least, text, codec = 2.0, "", ""
    for candidate in _candidates(sample, label):
        attempt = sample.decode(candidate, "replace")
        damage = _damage(attempt, candidate)
        if damage < least:
            least, text, codec = damage, attempt, candidate
        if least <= DAMAGED_SHARE:
            break
    if len(sample) < len(data):
        text = data.decode(codec, "replace")
    return (text.translate(_BIG5_SYMBOLS) if codec == "big5hkscs" else text).encode(), codec


def _sample(data: bytes) -> bytes:
    """The beginning of a page, not cut within a character of UTF-8."""
    if len(data) <= SAMPLE_BYTES:
        return data
    return data[: SAMPLE_BYTES - 4] + data[SAMPLE_BYTES - 4 : SAMPLE_BYTES].rstrip(bytes(range(128, 256)))


def _candidates(data: bytes, label: str | None) -> Iterator[str]:
    """Codecs to try, the most credible first; the last always exists."""
    if b"\x1b$" in data:
        yield "iso2022_jp_ext"
    head = data[: min(len(data), _HEAD_BYTES) & ~1]
    control_share = 1 - len(head.translate(None, _CONTROL)) / max(len(head), 1)
    unicode = ["utf-8", *(_utf16(head) if control_share > 0.02 else [])]
    yield from reversed(unicode) if control_share > 0.1 else unicode
    declared = [codec for codec in dict.fromkeys((_codec(label), _codec(_declaration(data)))) if codec is not None]
    declared = [codec for codec in declared if not codec.startswith("utf")]  # which the bytes would have shown
    if len(declared) == 1 and declared[0] != _UNDECIDED:
        yield declared[0]
    detected = _codec(detect_encoding(data, html5_compatible=False)) or _UNDECIDED
    yield from sorted((codec for codec in declared if codec != _UNDECIDED), key=lambda codec: codec != detected)
    if _UNDECIDED in declared and detected not in _NOT_LATIN:
        yield _UNDECIDED
    yield detected
    yield _UNDECIDED


def _utf16(head: bytes) -> list[str]:
    """The codec, if these bytes, some of which are control codes, are UTF-16 without a mark."""
    even, odd = head[::2], head[1::2]  # the high bytes of the characters vary less, and more of them are zero
    is_big = (len(set(even)), -even.count(0)) < (len(set(odd)), -odd.count(0))
    codec = "utf-16-be" if is_big else "utf-16-le"
    text = head.decode(codec, "replace")
    return [codec] if len(_NOT_TEXT.findall(text)) * 50 <= len(text) else []


def _codec(label: str | None) -> str | None:
    """The Python codec for a label as the web uses it, or None if the label means nothing there."""
    if not label:
        return None
    label = label.strip().lower()
    name = map_encoding_to_html5(label, fallback_utf8=False)
    return _BROADER.get(name or label, name)


def _declaration(data: bytes) -> str | None:
    """The label in the XML declaration or the first `meta` element with one."""
    head = _COMMENT.sub(b"", data[:DECLARATION_BYTES])
    match = _XML_DECLARATION.match(head) or _META_CHARSET.search(head)
    return match[1].decode("ascii") if match else None


def _damage(text: str, codec: str) -> float:
    """Share of U+FFFD among the characters that tell codecs apart: in UTF-16 all, else those outside ASCII.

    The last character, where the page may have been cut, counts only if it is the only such one.
    """
    for part in (text.removesuffix("\ufffd"), text):
        n_telling = len(part) if codec.startswith("utf-16") else len(part) - len(part.encode("ascii", "ignore"))
        if n_telling:
            return part.count("\ufffd") / n_telling
    return 0.0
