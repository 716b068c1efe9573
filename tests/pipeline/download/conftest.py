"""What the tests of downloads share."""

from collections.abc import Iterator

import pytest

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
