"""Cuts the demo's input from a crawl of Debian's manuals and from excerpts of Wikipedia.

    python recipes/demo/cut.py --data FOLDER             cut the pages that pages.txt lists
    python recipes/demo/cut.py --data FOLDER --choose    choose them anew first

`FOLDER` holds `crawl/*.warc.gz` and `wiki/`. What is written lies in the repository, so nobody needs this to run the
demo; it says where each byte comes from and why.

Pages: a small model learns from running text, while most pages of a manual are tables, options and code. So each page
is extracted and cut down to its lines of prose, and of each language the pages with the most prose are chosen. Only
packages whose licence is known come into question, and pages that are clearly of one language, with and without the
other lines: many are translated in part, or in their headings alone. Copies are not looked for: the demo is to show
how they go. The choice is kept in a list, since it changes with the stages that make it. Records are copied as they
lie in the crawl, gzip member by gzip member, in its order.

Wikipedia: whole bz2 streams of an English multistream dump, and the one article of a Chinese dump. Both get their
own index, as a dump of Wikipedia has one.
"""

import argparse
import bz2
import itertools
import os
import re
import urllib.parse
import xml.etree.ElementTree as ET
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from corpusmill.pipeline.sources import Slice, read
from corpusmill.pipeline.stages import charset, html, language, prose, unicode

HERE: Final = Path(__file__).parent
CHOICE: Final = "pages.txt"
"""Addresses of the chosen pages, in the order of the crawl."""

PACKAGES: Final = re.compile(
    r"apache2-doc|debian-faq|debian-handbook|debian-reference|installation-guide|libreoffice-help|postgresql-doc"
)
"""Beginnings of the names of packages whose licences README.md states."""

N_PAGES: Final = {"en": 350, "zh-Hans": 325, "zh-Hant": 25, "de": 25, "fr": 25, "ja": 25, "ru": 25}
MIN_PROSE: Final = 200
"""Least prose of a page, in characters."""

MIN_SCORE: Final = 0.8
"""Least score of a page's language."""

MAX_LENGTH: Final = 40_000
"""Longest page, in compressed bytes: the repository stays small."""

N_FILES: Final = 2
STREAMS: Final = slice(12, 18)
"""Of the English dump: six streams of ten pages, mostly articles."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """A record of the crawl: its WARC file, offset and length of its gzip member in bytes, its address."""

    path: Path
    offset: int
    length: int
    url: str


def records(path: Path) -> Iterator[pa.RecordBatch]:
    """The records of a WARC file, as rows of `tables.RAW`."""
    n_bytes = path.stat().st_size
    yield from read(
        Slice(source="crawl", kind="warc", file_path=path.name, location=str(path), start=0, end=n_bytes, columns={}),
        Counter(),
    )


def choose(crawl: Sequence[Path]) -> list[str]:
    """Addresses of the pages with the most prose of each language, in the order of the crawl."""
    candidates = defaultdict(list)
    order: list[str] = []
    for batch in itertools.chain.from_iterable(map(records, crawl)):
        order += batch.column("url").to_pylist()
        decoded, _ = charset.decode(batch.column("content"), batch.column("charset"))
        extracted, _, _ = html.extract(decoded, html.ExtractSettings())
        text = unicode.normalise(extracted)
        kept = prose.prose_lines(text)
        identified = [*language.identify(text, language.LanguageSettings())]
        identified += language.identify(kept, language.LanguageSettings())
        columns = (batch.column("url"), batch.column("length"), kept, *identified)
        for url, length, lines, tag, score, prose_tag, prose_score in zip(
            *(c.to_pylist() for c in columns), strict=True
        ):
            package = (urllib.parse.urlsplit(url).hostname or "").removeprefix("docs.")
            if (
                PACKAGES.match(package)
                and length <= MAX_LENGTH
                and len(lines or "") >= MIN_PROSE
                and tag == prose_tag
                and min(score, prose_score) >= MIN_SCORE
            ):
                candidates[tag].append((-len(lines), url))
    chosen = {url for tag, n_pages in N_PAGES.items() for _, url in sorted(candidates[tag])[:n_pages]}
    for tag, n_pages in N_PAGES.items():
        print(f"{tag}: {n_pages} of {len(candidates[tag])} pages")
    return [url for url in order if url in chosen]


def find(crawl: Iterable[Path], urls: Iterable[str]) -> list[Member]:
    """Where the pages lie, in the order of the crawl."""
    wanted = set(urls)
    return [
        Member(path=path, offset=offset, length=length, url=url)
        for path in crawl
        for batch in records(path)
        for offset, length, url in zip(*(batch.column(n).to_pylist() for n in ("offset", "length", "url")), strict=True)
        if url in wanted
    ]


def write_warc(path: Path, pages: Sequence[Member]) -> None:
    """Copies gzip members; the warcinfo record of each file of the crawl stands before the first page from it."""
    with path.open("wb") as out:
        described = None
        for page in pages:
            with page.path.open("rb") as crawl:
                if page.path != described:
                    out.write(first_member(crawl.read(1 << 16)))
                    described = page.path
                crawl.seek(page.offset)
                out.write(crawl.read(page.length))


def first_member(data: bytes) -> bytes:
    """The gzip member that the data begins with."""
    decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
    decoder.decompress(data)
    return data[: len(data) - len(decoder.unused_data)]


def write_dump(path: Path, head: bytes, streams: Sequence[bytes]) -> None:
    """A multistream dump and its index.

    Args:
        path: of the dump.
        head: bz2 stream of the document's beginning.
        streams: bz2 streams of pages.
    """
    index = []
    with path.open("wb") as out:
        out.write(head)
        for stream in streams:
            root = ET.fromstring(b"<pages>" + bz2.decompress(stream) + b"</pages>")
            index += [f"{out.tell()}:{page.findtext('id')}:{page.findtext('title')}\n" for page in root]
            out.write(stream)
        out.write(bz2.compress(b"</mediawiki>\n"))
    name = path.name.replace("-multistream.xml", "-multistream-index.txt")
    path.with_name(name).write_bytes(bz2.compress("".join(index).encode()))


def english(wiki: Path) -> tuple[bytes, list[bytes]]:
    """The head and some streams of the English dump, as they are."""
    data = (wiki / "enwiki-excerpt-multistream.xml.bz2").read_bytes()
    index = bz2.decompress((wiki / "enwiki-excerpt-multistream-index.txt.bz2").read_bytes()).decode()
    starts = sorted({int(line.partition(":")[0]) for line in index.splitlines()})
    bounds = list(itertools.pairwise(starts))
    return data[: starts[0]], [data[start:end] for start, end in bounds[STREAMS]]


def chinese(wiki: Path) -> tuple[bytes, list[bytes]]:
    """The head and the page of the Chinese dump, which is one stream, as streams of their own."""
    xml = bz2.decompress((wiki / "minidumps" / "zhwiki-mini-pages-articles.xml.bz2").read_bytes())
    start, end = xml.index(b"<page>"), xml.index(b"</mediawiki>")
    return bz2.compress(xml[:start]), [bz2.compress(xml[start:end])]


def cut(data: Path, out: Path, urls: Sequence[str]) -> None:
    """Write the demo's input files.

    Args:
        data: folder of `crawl/` and `wiki/`.
        out: folder to write to.
        urls: addresses of the pages.
    """
    pages = find(sorted((data / "crawl").glob("*.warc.gz")), urls)
    n_pages = -(-len(pages) // N_FILES)
    for number in range(N_FILES):
        write_warc(out / f"manuals-{number:05d}.warc.gz", pages[number * n_pages : (number + 1) * n_pages])
    write_dump(out / "enwiki-excerpt-pages-articles-multistream.xml.bz2", *english(data / "wiki"))
    write_dump(out / "zhwiki-excerpt-pages-articles-multistream.xml.bz2", *chinese(data / "wiki"))


def main() -> None:
    """Write the files beside this script."""
    parser = argparse.ArgumentParser(description="Cut the demo's input from a crawl and from dumps of Wikipedia.")
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("CORPUSMILL_DATA"),
        required="CORPUSMILL_DATA" not in os.environ,
        help="folder of crawl/ and wiki/; default: the environment variable CORPUSMILL_DATA",
    )
    parser.add_argument("--choose", action="store_true", help=f"choose the pages anew and write {CHOICE}")
    arguments = parser.parse_args()
    if arguments.choose:
        urls = choose(sorted((arguments.data / "crawl").glob("*.warc.gz")))
        (HERE / CHOICE).write_text("".join(f"{url}\n" for url in urls))
    cut(arguments.data, HERE, (HERE / CHOICE).read_text().splitlines())


if __name__ == "__main__":
    main()
