"""Bytes of a web page to text.

The bytes are believed before any declaration: a byte order mark, then UTF-8, which legacy text practically never
satisfies by chance (and whose declarations are the ones most often wrong), then what the HTTP header says, what the
page itself says, and what `uchardet` guesses from byte statistics. A candidate is accepted when it explains the
bytes, up to a few damaged ones: a page cut in the middle of a character or with one broken byte keeps its encoding.
Labels mean what the WHATWG Encoding Standard says that they mean on the web (``gb2312`` is GB 18030,
``iso-8859-1`` is windows-1252, ``ks_c_5601-1987`` is UHC).

No step raises on any input; bytes that cannot be decoded become U+FFFD.
"""

import codecs
import re
from collections.abc import Iterator

import pyarrow as pa
from resiliparse.parse.encoding import detect_encoding, map_encoding_to_html5

__all__ = ["decode"]

STAGE_VERSION = 1

DAMAGED_SHARE = 0.1
"""A candidate encoding is accepted when at most this share of its non-ASCII characters is U+FFFD.

Legacy text read as UTF-8 has 0.7 or more (129 real pages in 15 encodings); a page with a cut or garbled passage is
far below.
"""

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
    "x-mac-cyrillic": "mac_cyrillic",
    "mac-cyrillic": "mac_cyrillic",
    "iso8859-11": "cp874",
}

# Symbols of row A1-A2 for which Python's Big5 table differs from the WHATWG index; the first is the dot in names.
_BIG5_SYMBOLS = str.maketrans("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡")

_COMMENT = re.compile(rb"<!--.*?-->", re.DOTALL)
_XML_DECLARATION = re.compile(rb"\s*<\?xml[^>]{0,200}?\sencoding\s*=\s*[\"']([\w.:-]{1,40})[\"']")
_META_CHARSET = re.compile(rb"<meta\s[^>]{0,300}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})", re.IGNORECASE)


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
    least, best = 2.0, ("", "")
    for codec in _candidates(data, label):
        text = data.decode(codec, "replace")
        damage = _damage(text)
        if damage < least:
            least, best = damage, (text, codec)
        if least <= DAMAGED_SHARE:
            break
    text, codec = best
    return (text.translate(_BIG5_SYMBOLS) if codec == "big5hkscs" else text).encode(), codec


def _candidates(data: bytes, label: str | None) -> Iterator[str]:
    """Codecs to try, the most credible first; the last always exists."""
    n_nul = data.count(b"\0")
    if n_nul * 10 > len(data):  # ASCII characters in UTF-16: markup alone makes more than a tenth of the bytes zero
        yield "utf-16-le" if data[1::2].count(b"\0") * 2 > n_nul else "utf-16-be"
    if b"\x1b$" in data:
        yield "iso2022_jp_ext"
    yield "utf-8"
    for declared in (label, _declaration(data)):
        codec = _codec(declared)
        if codec is not None and not codec.startswith("utf-16"):  # which its zero bytes would have shown
            yield codec
    detected = _codec(detect_encoding(data, html5_compatible=False))
    if detected is not None:
        yield detected
    yield "cp1252"


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


def _damage(text: str) -> float:
    """Share of U+FFFD among the characters outside ASCII; 0 for pure ASCII."""
    n_other = len(text) - len(text.encode("ascii", "ignore"))
    return text.count("\ufffd") / n_other if n_other else 0.0
