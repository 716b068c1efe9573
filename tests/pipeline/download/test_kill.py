"""SIGKILL during a download, again and again: the rerun goes on, and the file is the file."""

import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from corpusmill.pipeline.download.part import BLOCK
from tests.pipeline.download.server import PIECE, Server

CONTENT = random.Random(6).randbytes(6 * BLOCK + 4321)
SPANS = [(0, 2 * BLOCK + 7), (2 * BLOCK + 100, BLOCK), (4 * BLOCK, 2 * BLOCK + 4321)]
WANTED = b"".join(CONTENT[offset : offset + length] for offset, length in SPANS)

PROGRAM = """
import pathlib, sys
from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import download, download_spans
from corpusmill.schemas.recipe import Fetch

url, part, spans = sys.argv[1], pathlib.Path(sys.argv[2]), eval(sys.argv[3])
with Client(Fetch(requests_per_second=1000)) as client:
    done = download_spans(client, [url], spans, part) if spans else download(client, [url], part)
print(done.sha256)
"""


def start(url: str, part: Path, spans: Sequence[tuple[int, int]]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, url, str(part), repr(spans)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("spans", "wanted"), [([], CONTENT), (SPANS, WANTED)], ids=["file", "stretches"])
def test_a_kill_costs_at_most_a_block(
    server: Server, tmp_path: Path, spans: Sequence[tuple[int, int]], wanted: bytes
) -> None:
    file = server.add("/a", CONTENT, etag='"1"', rate=6e6)
    part = tmp_path / "a.part"
    # right after the request, within the first block, at its end, and further on
    for n_sent in (0, BLOCK // 2, BLOCK + PIECE, 2 * BLOCK, 3 * BLOCK // 2):
        there = part.stat().st_size if part.exists() else 0
        file.n_sent, n_seen = 0, len(server.seen)
        with start(server.url("/a"), part, spans) as process:
            while process.poll() is None and (len(server.seen) == n_seen or file.n_sent < n_sent):
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        kept = part.stat().st_size - there
        # pieces on the way when it died, and gaps between stretches, count as sent too
        assert kept >= file.n_sent - BLOCK - 8 * PIECE
        assert wanted.startswith(part.read_bytes())
    there, file.n_sent = part.stat().st_size, 0
    assert there > BLOCK
    with start(server.url("/a"), part, spans) as process:
        output, _ = process.communicate(timeout=30)
    assert output.strip() == hashlib.sha256(wanted).hexdigest()
    assert part.read_bytes() == wanted
    assert file.n_sent <= len(wanted) - there + 3 * PIECE
