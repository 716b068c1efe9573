"""What the tests of downloads share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from corpusmill.pipeline.download.client import Client
from corpusmill.schemas.recipe import Fetch
from tests.pipeline.download.parts import RETRIES
from tests.pipeline.download.server import Server


@pytest.fixture(scope="session", autouse=True)
def no_proxy() -> Iterator[None]:
    """Nothing here goes through a proxy of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("no_proxy", "*")
        yield


@pytest.fixture
def server() -> Iterator[Server]:
    """A server without files."""
    with Server() as server:
        yield server


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that property tests write over and over."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """No pauses between tries, four tries without progress."""
    settings = Fetch(requests_per_second=1000, retries=RETRIES, stall_seconds=0.5)
    with Client(settings, pause=lambda seconds: None) as client:
        yield client


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """Where a download is collected."""
    return tmp_path / "raw" / "a.warc.gz.part"
