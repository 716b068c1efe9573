"""Small dumps for the tests of Wikipedia's reader."""

import bz2
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from corpusmill.pipeline.sources.wikipedia.reader import find_index

NAME = "zhwiki-20261101-pages-articles-multistream.xml.bz2"
HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="zh">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>zhwiki</dbname>
    <base>https://zh.wikipedia.org/wiki/Wikipedia:%E9%A6%96%E9%A1%B5</base>
    <namespaces><namespace key="0" case="first-letter" /></namespaces>
  </siteinfo>
"""
FOOT = "</mediawiki>"


def page(number: int, title: str, *texts: str, namespace: int = 0, more: str = "") -> str:
    """A page; each text is a revision."""
    revisions = "".join(
        f"<revision><id>{number * 100 + i}</id><timestamp>2026-10-0{i + 1}T00:00:00Z</timestamp>"
        f'<model>wikitext</model><text xml:space="preserve">{escape(text)}</text></revision>\n'
        for i, text in enumerate(texts)
    )
    return f"  <page><title>{escape(title)}</title><ns>{namespace}</ns><id>{number}</id>{more}{revisions}</page>\n"


STREAMS = [
    page(1, "柏林", "'''柏林'''是[[德国]]的首都。") + page(2, "AC/DC & “friends”", "<b>Rock</b> & roll"),
    page(3, "讨论:柏林", "不是条目", namespace=1)
    + page(4, "柏林市", "#重定向 [[柏林]]", more='<redirect title="柏林" />'),
    page(5, "空", " \n") + page(6, "修订", "第一版", "第二版"),
    page(7, "汉堡", "'''汉堡'''" + "是一座城市。" * 50),
]
PAGES = [
    # title, content, reason, redirect
    ("柏林", "'''柏林'''是[[德国]]的首都。", None, None),
    ("AC/DC & “friends”", "<b>Rock</b> & roll", None, None),
    ("讨论:柏林", None, "other_namespace", None),
    ("柏林市", None, "redirect", "柏林"),
    ("空", None, "no_text", None),
    ("修订", None, "old_revision", None),
    ("修订", "第二版", None, None),
    ("汉堡", "'''汉堡'''" + "是一座城市。" * 50, None, None),
]
XML = HEAD + "".join(STREAMS) + FOOT


def facts(rows: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What `PAGES` tells, of rows."""
    return [(row["title"], row["content"] and row["content"].decode(), row["reason"], row["redirect"]) for row in rows]


def without_place(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows without what depends on how a dump is packed, but with their ids."""
    places = ("offset", "length", "record_index", "file_path")
    return [{name: value for name, value in row.items() if name not in places} for row in rows]


def write_dump(folder: Path, streams: Sequence[str], *, name: str = NAME) -> tuple[Path, list[int]]:
    """A dump with one bz2 stream a string, and its index; returns its path and where the streams start."""
    path = folder / name
    packed = [bz2.compress(stream.encode()) for stream in streams]
    starts = [sum(map(len, packed[:i])) for i in range(len(packed))]
    path.write_bytes(b"".join(packed))
    lines = [
        f"{start}:{page.findtext('id')}:{page.findtext('title')}\n"
        for start, stream in zip(starts, streams, strict=True)
        for page in ET.fromstring("<r>" + stream.replace(HEAD, "").replace(FOOT, "") + "</r>")
    ]
    Path(find_index(str(path)) or "").write_bytes(bz2.compress("".join(lines).encode()))
    return path, starts


def write_xml(folder: Path, xml: str | bytes, *, name: str = "zhwiki.xml") -> Path:
    """A plain file."""
    path = folder / name
    path.write_bytes(xml.encode() if isinstance(xml, str) else xml)
    return path
