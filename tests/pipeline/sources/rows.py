"""Reads files into rows, whole or cut into ranges, with any setting of a slice."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from corpusmill.pipeline.sources import Slice, ranges, read
from corpusmill.pipeline.sources.record import record_ids

Rows = list[dict[str, Any]]


def read_rows(path: Path, kind: str, counts: Counter[str] | None = None, **settings: Any) -> Rows:
    """The rows of a file; `settings` are fields of the slice."""
    fields: dict[str, Any] = {"file_path": path.name, "location": str(path), "start": 0}
    if "end" not in settings:
        fields["end"] = path.stat().st_size
    piece = Slice(source="test", kind=kind, **(fields | settings))
    counts = Counter() if counts is None else counts
    rows: Rows = []
    for batch in read(piece, counts):
        batch.validate(full=True)
        rows += batch.to_pylist()
    assert counts["records"] == len(rows)
    assert len({row["id"] for row in rows}) == len(rows)
    return rows


def read_ranges(path: Path, kind: str, target_bytes: int, **settings: Any) -> Rows:
    """The rows of a file, read in the ranges that its reader cuts it into; checks the ranges."""
    n_bytes = path.stat().st_size
    cut = ranges(kind, str(path), index=None, n_bytes=n_bytes, target_bytes=target_bytes)
    assert [start for start, _ in cut] == [0] + [end for _, end in cut[:-1]]
    assert cut[-1][1] == n_bytes
    return [row for start, end in cut for row in read_rows(path, kind, start=start, end=end, **settings)]


def texts(rows: Rows) -> list[str | None]:
    """The contents, as text."""
    return [row["content"] and row["content"].decode() for row in rows]


def reasons(rows: Rows) -> list[str | None]:
    """Why there is no document."""
    return [row["reason"] for row in rows]


def has_key(row: dict[str, Any], key: str) -> bool:
    """Whether the id of a row is made of this key."""
    return bool(row["id"] == record_ids("test", [key])[0].as_py())


def peak_megabytes(path: Path, kind: str, **settings: Any) -> float:
    """By how much a process of its own grows while it reads a file."""
    program = f"""
import re
from collections import Counter
from pathlib import Path
from corpusmill.pipeline.sources import Slice, read
path = Path({str(path)!r})
piece = Slice(source="test", kind={kind!r}, file_path=path.name, location=str(path), start=0, end=path.stat().st_size,
              **{settings!r})
def peak():  # not ru_maxrss: that begins with the memory of the process that started this one
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
for batch in read(piece, Counter()):
    pass
print(peak() - before)
"""
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)
