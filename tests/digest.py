"""One digest of what a run publishes for people: dataset/, ledger/ and duplicates/."""

import hashlib

from corpusmill.schemas.files import Files

__all__ = ["contents", "run_digest"]

PUBLISHED = ("dataset", "ledger", "duplicates")


def contents(out: str) -> dict[str, str]:
    """sha256 by name of every published file."""
    files = Files(out)
    names = [name for folder in PUBLISHED for name in files.list(folder)]
    return {name: hashlib.sha256(files.read_bytes(name)).hexdigest() for name in names}


def run_digest(out: str) -> str:
    """One digest over names and contents."""
    return hashlib.sha256(repr(sorted(contents(out).items())).encode()).hexdigest()
