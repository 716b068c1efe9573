"""What bench/read compares: what a page is to the peers, our survey, and large inputs made of small ones."""

import bz2
import gzip
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench import peer_warc, reading
from corpusmill.pipeline.sources import ranges
from tests.corpus import page, prose, response, write_warc, write_wiki

ROOT = Path(__file__).parents[2]
PAGES = [response(f"http://a.example/{i}", page(f"Page {i}", prose("en")[i : i + 2])) for i in range(5)]
MOVED = response("http://a.example/moved", page("Moved", ["x"]), status="301 Moved Permanently")
EMPTY = response("http://a.example/empty", b"")
INFO = b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 0\r\n\r\n\r\n\r\n"


def conversion(media_type: str) -> bytes:
    return (
        f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.example/\r\nWARC-Date: 2026-03-01T00:00:00Z\r\n"
        f"Content-Type: {media_type}\r\nContent-Length: 4\r\n\r\ntext\r\n\r\n"
    ).encode()


@pytest.fixture
def warc(tmp_path: Path) -> Path:
    path = tmp_path / "a.warc.gz"
    write_warc(path, [INFO, *PAGES, MOVED, EMPTY, conversion("text/plain"), conversion("image/png")])
    return path


def test_all_readers_agree_on_a_healthy_file(warc: Path) -> None:
    ours = reading.survey(warc)
    assert (ours.records, ours.pages, ours.damage) == (10, 6, [])
    for name, survey in peer_warc.SURVEYS.items():
        assert survey(warc) == peer_warc.Survey(records=10, pages=6, stop=""), name


def test_readers_say_where_they_stop(warc: Path) -> None:
    healthy = warc.read_bytes()
    second = len(gzip.compress(INFO, 6, mtime=0)) + len(gzip.compress(PAGES[0], 6, mtime=0))
    warc.write_bytes(healthy[: second + 30] + bytes(64) + healthy[second + 94 :])
    ours = reading.survey(warc)
    assert (ours.damage[0][0], ours.damage[0][2]) == (second, "damaged_compression")
    for name, survey in peer_warc.SURVEYS.items():
        assert survey(warc).records < 10, name
    assert peer_warc.SURVEYS["fastwarc"](warc).stop.startswith("OSError: ")


def test_contestants_read_the_same_responses(warc: Path) -> None:
    write_warc(warc, [INFO, *PAGES])
    piece = reading.whole(warc, "warc")
    counts = {
        reading.count_rows(piece),
        reading.count_records(piece),
        peer_warc.read_by_fastwarc([warc]),
        peer_warc.read_by_fastwarc_with_fields([warc]),
        peer_warc.read_by_warcio([warc]),
    }
    assert counts == {len(PAGES)}


def test_files_are_concatenated(warc: Path, tmp_path: Path) -> None:
    large = reading.concatenate([warc, warc], tmp_path / "large.warc.gz", 3)
    assert large.read_bytes() == warc.read_bytes() * 6


def test_a_dump_is_repeated_with_its_index(tmp_path: Path) -> None:
    source, target = (tmp_path / f"{name}-multistream.xml.bz2" for name in ("one", "many"))
    write_wiki(source, [(f"Article {i}", text) for i, text in enumerate(prose("en")[:7])])
    reading.repeat_streams(source, target, 4)
    once, pages = (bz2.decompress(path.read_bytes()).decode() for path in (source, target))
    assert pages.count("<page>") == 28
    assert (pages.count("<mediawiki"), pages.count("</mediawiki>")) == (1, 1)
    assert pages[: pages.index("  <page>")] == once[: once.index("  <page>")]
    n_bytes = target.stat().st_size
    bounds = ranges("wikipedia", str(target), index=None, n_bytes=n_bytes, target_bytes=1)
    assert len(bounds) >= 16
    for start, end in bounds:  # each offset of the index is that of a stream
        bz2.decompress(target.read_bytes()[start:end])
    assert reading.count_rows(reading.whole(target, "wikipedia")) == 28


def test_rows_are_repeated(tmp_path: Path) -> None:
    rows = [{"text": text} for text in prose("zh")[:3]]
    source = tmp_path / "rows.jsonl.gz"
    source.write_bytes(gzip.compress("".join(json.dumps(row | {"lang": "zh"}) + "\n" for row in rows).encode()))
    assert reading.read_rows(source) == rows
    jsonl = reading.write_jsonl(rows, tmp_path / "x.jsonl", 2)
    assert [json.loads(line) for line in jsonl.read_text("utf-8").splitlines()] == rows * 2
    assert reading.count_rows(reading.whole(jsonl, "jsonl")) == 6
    parquet = reading.write_parquet(rows, tmp_path / "x.parquet", 2)
    assert pq.read_table(parquet).to_pylist() == rows * 2
    assert pq.ParquetFile(parquet).num_row_groups == 1


def test_the_peak_is_that_of_a_process_of_its_own(warc: Path) -> None:
    ballast = b"x" * (300 << 20)  # what this process holds does not count
    command = [sys.executable, str(ROOT / "bench" / "reading.py"), "warc", str(warc)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    measured = json.loads(done.stdout)
    assert measured["rows"] == 9
    assert 20 < measured["peak_mb"] < len(ballast) / 1e6


def test_the_command_tables_files_and_fails_where_pages_are_missing(warc: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for folder in ("warc", "warc-edge"):
        (data / folder).mkdir(parents=True)
    (data / "warc-edge" / "edge.warc.gz").write_bytes(warc.read_bytes())
    expected = data / "warc-edge" / "edge.expected.jsonl"
    command = [sys.executable, str(ROOT / "bench" / "read"), "--only", "files", "--data", str(data)]
    for n_pages, code in ((6, 0), (7, 1)):
        expected.write_text(json.dumps({"file": "edge.warc.gz", "readable_responses": n_pages}))
        out = tmp_path / "read.json"
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert "edge.warc.gz" in done.stdout
        (claim,) = json.loads(out.read_text())["claims"]
        assert claim["holds"] == (code == 0)
