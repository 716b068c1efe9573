"""What the tests of all readers use."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from corpusmill.pipeline.sources import Slice, read

Rows = list[dict[str, Any]]
ReadFile = Callable[..., tuple[Rows, Counter[str]]]


@pytest.fixture(scope="session")
def read_file() -> ReadFile:
    """Reads a file, or a range of it: the rows as dictionaries, and the counts."""

    def read_file(
        path: Path,
        kind: str,
        *,
        start: int = 0,
        end: int | None = None,
        columns: Mapping[str, str] | None = None,
        **more: Any,
    ) -> tuple[Rows, Counter[str]]:
        piece = Slice(
            source="test",
            kind=kind,
            file_path=path.name,
            location=str(path),
            start=start,
            end=path.stat().st_size if end is None else end,
            columns=columns or {},
            **more,
        )
        counts: Counter[str] = Counter()
        rows: Rows = []
        for batch in read(piece, counts):
            batch.validate(full=True)
            rows += batch.to_pylist()
        assert counts["records"] == len(rows)
        assert len({row["id"] for row in rows}) == len(rows)
        return rows, counts

    return read_file


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for files that property tests write over and over."""
    return tmp_path_factory.mktemp("scratch")
