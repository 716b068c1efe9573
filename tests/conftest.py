"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("CORPUSMILL_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real inputs; a test that needs it is skipped, saying so, where it is absent."""
    if not (SHARED / "crawl").is_dir():
        pytest.skip(f"no real inputs at {SHARED}: set CORPUSMILL_DATA to the folder that holds crawl/ and wiki/")
    return SHARED
