"""What the tests of transfers download, and what they ask of a part."""

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import Downloaded, download
from corpusmill.schemas.errors import SourceError
from tests.pipeline.download.server import Served, Server, cut, status

MIB = 1 << 20
CONTENT = random.Random(4).randbytes(5 * MIB // 2)
OTHER = random.Random(5).randbytes(5 * MIB // 2)
SHA1 = hashlib.sha1(CONTENT).hexdigest()
HALF = 3 * MIB // 2
RETRIES = 3


def origin(part: Path) -> dict[str, Any]:
    """What stands beside a part."""
    data: dict[str, Any] = json.loads(part.with_name(f"{part.name}.json").read_bytes())
    return data


def check(done: Downloaded, part: Path, content: bytes = CONTENT) -> None:
    """What is said about a part is true, and it holds the content."""
    assert part.read_bytes() == content
    assert (done.sha256, done.n_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


def interrupt(client: Client, server: Server, part: Path, path: str = "/a", at: int = HALF, **options: Any) -> Served:
    """A run that ends after some bytes; the server is left as if nothing had happened."""
    file = server.files[path]
    file.script(cut(at), *[status(503)] * (RETRIES + 1))
    with pytest.raises(SourceError, match="status 503"):
        download(client, [server.url(path)], part, **options)
    assert part.read_bytes() == file.content[:at]
    assert file.steps == []
    file.n_sent = 0
    server.seen.clear()
    return file
