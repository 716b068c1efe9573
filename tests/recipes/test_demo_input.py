"""The demo's input is what its README says: real records and streams, unchanged, that can be read alone."""

import bz2
import re
import runpy
import zlib
from itertools import pairwise
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "recipes" / "demo"
WARCS = sorted(DEMO.glob("*.warc.gz"))
DUMPS = sorted(DEMO.glob("*-multistream.xml.bz2"))


def members(path: Path) -> list[tuple[str, str, bytes]]:
    """WARC-Type, address and gzip member of each record."""
    data, found = path.read_bytes(), []
    while data:
        decoder = zlib.decompressobj(16 + zlib.MAX_WBITS)
        head = decoder.decompress(data).partition(b"\r\n\r\n")[0].decode()
        headers = dict(line.split(": ", 1) for line in head.splitlines()[1:])
        member = data[: len(data) - len(decoder.unused_data)]
        found.append((headers["WARC-Type"], headers.get("WARC-Target-URI", ""), member))
        data = decoder.unused_data
    return found


def int_before_colon(line: str) -> int:
    return int(line.partition(":")[0])


def test_pages_are_records_of_the_crawl_unchanged_and_in_its_order(shared_data: Path) -> None:
    crawl = [member for path in sorted((shared_data / "crawl").glob("*.warc.gz")) for member in members(path)]
    place = {member: number for number, (_, _, member) in enumerate(crawl)}
    for path in WARCS:
        found = members(path)
        places = [place[member] for _, _, member in found]
        assert places == sorted(places)
        assert found[0][0] == "warcinfo"


def test_the_script_cuts_these_files(shared_data: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(DEMO / "cut.py"))
    script["cut"](shared_data, tmp_path, (DEMO / "pages.txt").read_text().splitlines())
    names = sorted(path.name for path in DEMO.iterdir() if path.suffix in (".gz", ".bz2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        assert (tmp_path / name).read_bytes() == (DEMO / name).read_bytes(), name


def test_as_many_pages_as_the_readme_says() -> None:
    pages = [url for path in WARCS for kind, url, _ in members(path) if kind == "response"]
    assert pages == (DEMO / "pages.txt").read_text().splitlines()
    assert len(set(pages)) == 800
    readme = (DEMO / "README.md").read_text(encoding="utf-8")
    for name, n_pages in re.findall(r"^\| ([a-z0-9-]+)[ -].*?\| (\d+) \|", readme, re.MULTILINE):
        family = re.sub(r"-(zh-cn|15|amd64|\d.*|)$", "", name)
        assert sum(url.startswith(f"http://docs.{family}") for url in pages) == int(n_pages), name


@pytest.mark.parametrize("path", DUMPS, ids=lambda path: path.name[:6])
def test_a_dump_reads_from_each_offset_of_its_index(path: Path) -> None:
    index = path.with_name(path.name.replace("-multistream.xml", "-multistream-index.txt"))
    lines = bz2.decompress(index.read_bytes()).decode().splitlines()
    offsets = sorted({int_before_colon(line) for line in lines})
    data = path.read_bytes()
    assert bz2.decompress(data[: offsets[0]]).startswith(b"<mediawiki")
    for start, end in pairwise([*offsets, None]):
        stream = bz2.BZ2Decompressor()
        pages = stream.decompress(data[start:end])
        named = [line.split(":", 2)[1] for line in lines if int_before_colon(line) == start]
        assert re.findall(r"<page>\s*<title>.*?</title>\s*<ns>\d+</ns>\s*<id>(\d+)</id>", pages.decode()) == named
    assert bz2.decompress(stream.unused_data) == b"</mediawiki>\n"


def test_articles_are_streams_and_pages_of_the_dumps_unchanged(shared_data: Path) -> None:
    english = (DEMO / "enwiki-excerpt-pages-articles-multistream.xml.bz2").read_bytes()
    body = english[english.index(b"BZh", 1) : english.rindex(b"BZh")]
    assert body in (shared_data / "wiki/enwiki-excerpt-multistream.xml.bz2").read_bytes()
    chinese = bz2.decompress((DEMO / "zhwiki-excerpt-pages-articles-multistream.xml.bz2").read_bytes())
    whole = bz2.decompress((shared_data / "wiki/minidumps/zhwiki-mini-pages-articles.xml.bz2").read_bytes())
    assert chinese.rstrip() == whole.rstrip()
