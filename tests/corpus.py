"""Small corpora for whole runs: real prose from tests/data, written as WARC, JSONL and multistream files by hand."""

import bz2
import gzip
import json
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from corpusmill.schemas.recipe import Recipe

DATA = Path(__file__).resolve().parent / "data"


def prose(language: str) -> list[str]:
    """Paragraphs of real text, some 60 words or 120 characters each and more; en or zh."""
    text = (DATA / f"prose.{language}.txt").read_text(encoding="utf-8")
    return [paragraph.strip() for paragraph in text.split("\n\n") if paragraph.strip()]


def page(title: str, paragraphs: Iterable[str], charset: str = "utf-8") -> bytes:
    """An HTML page."""
    body = "\n".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    html = f'<html><head><meta charset="{charset}"><title>{title}</title></head><body><h1>{title}</h1>\n{body}</body></html>'
    return html.encode(charset)


def response(url: str, body: bytes, *, status: str = "200 OK", date: str = "2026-03-01T00:00:00Z") -> bytes:
    """One WARC response record."""
    http = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, url)}>\r\nWARC-Date: {date}\r\n"
        f"WARC-Target-URI: {url}\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def write_warc(path: Path, records: Sequence[bytes]) -> list[int]:
    """Write a .warc.gz, one gzip member a record; returns the offsets of the members."""
    offsets, content = [], b""
    for record in records:
        offsets.append(len(content))
        content += gzip.compress(record, 6, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return offsets


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a .jsonl file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def write_wiki(path: Path, pages: Sequence[tuple[str, str]], *, pages_a_stream: int = 2) -> None:
    """Write a multistream dump of (title, wikitext) and its index beside it."""
    head = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">\n  <siteinfo>\n'
        "    <sitename>Wikipedia</sitename>\n    <dbname>enwiki</dbname>\n"
        "    <base>https://en.wikipedia.org/wiki/Main_Page</base>\n  </siteinfo>\n"
    )
    content, index = bz2.compress(head.encode()), ""
    for start in range(0, len(pages), pages_a_stream):
        xml = ""
        for number, (title, text) in enumerate(pages[start : start + pages_a_stream], start + 1):
            index += f"{len(content)}:{number}:{title}\n"
            escaped = text.replace("&", "&amp;").replace("<", "&lt;")
            redirect = '    <redirect title="Article 1" />\n' if text.startswith("#REDIRECT") else ""
            xml += (
                f"  <page>\n    <title>{title}</title>\n    <ns>0</ns>\n    <id>{number}</id>\n{redirect}    <revision>\n"
                f"      <id>{1000 + number}</id>\n      <timestamp>2026-02-0{number % 9 + 1}T00:00:00Z</timestamp>\n"
                f'      <text xml:space="preserve">{escaped}</text>\n    </revision>\n  </page>\n'
            )
        content += bz2.compress(xml.encode())
    content += bz2.compress(b"</mediawiki>\n")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    index_path = path.with_name(path.name.replace("-multistream.xml.bz2", "-multistream-index.txt.bz2"))
    index_path.write_bytes(bz2.compress(index.encode()))


def small_corpus(folder: Path) -> dict[str, Any]:
    """A corpus with all that a run meets: three WARC files, a dump, a JSONL file; copies, rejects, special tokens.

    Returns:
        A recipe, as a mapping.
    """
    english, chinese = prose("en"), prose("zh")
    for n in range(3):
        records = [b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 0\r\n\r\n\r\n\r\n"]
        for i in range(6):
            k = n * 6 + i
            start = k * 2 % (len(english) - 4)
            records.append(response(f"http://en.example/{k}", page(f"Page {k}", english[start : start + 3])))
            start = k * 2 % (len(chinese) - 4)
            records.append(response(f"http://zh.example/{k}", page(f"第{k}页", chinese[start : start + 3], "gb18030")))
        records.append(response(f"http://en.example/moved/{n}", b"", status="301 Moved Permanently"))
        records.append(response(f"http://en.example/short/{n}", page("Short", ["Too short to keep."])))
        # the same page at another address, and a later fetch of one address
        records.append(response(f"http://mirror.example/{n}", page("Page 0", english[0:3])))
        records.append(
            response("http://en.example/3", page("Page 3", english[6:10]), date=f"2026-04-0{n + 1}T00:00:00Z")
        )
        write_warc(folder / "warc" / f"part-{n}.warc.gz", records)
    write_wiki(
        folder / "enwiki-20261101-pages-articles-multistream.xml.bz2",
        [(f"Article {i}", "\n\n".join(f"'''{p[:9]}'''{p[9:]}" for p in english[i : i + 4])) for i in range(7)]
        + [("Redirect", "#REDIRECT [[Article 1]]")],
    )
    special = "The markers <|endoftext|>, <eos>, <pad>, [MASK], <|im_start|>user and <extra_id_7> are text here. "
    rows = [{"id": f"row-{i}", "text": special + "\n".join(english[i + 5 : i + 8]), "url": None} for i in range(4)]
    write_jsonl(
        folder / "notes.jsonl", [*rows, {"id": "row-0", "text": "\n".join(english[30:33])}, {"id": "empty", "text": ""}]
    )
    return {
        "name": "small",
        "sources": [
            {"kind": "warc", "name": "crawl", "paths": [str(folder / "warc" / "*.warc.gz")]},
            {
                "kind": "wikipedia",
                "name": "enwiki-20261101",
                "paths": [str(folder / "enwiki-20261101-pages-articles-multistream.xml.bz2")],
            },
            {
                "kind": "jsonl",
                "name": "notes",
                "paths": [str(folder / "notes.jsonl")],
                "columns": {"id": "id", "text": "text", "url": "url"},
            },
        ],
        "unit_bytes": 2000,
        "tokenizer": {"train": {"vocab_size": 700}},
        "shards": {"target_bytes": 20_000, "splits": {"validation": 0.2}},
    }


def small_recipe(folder: Path, **changes: Any) -> Recipe:
    """The recipe of `small_corpus` with some fields changed."""
    return Recipe.model_validate(small_corpus(folder) | changes)
