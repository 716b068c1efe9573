"""Our readers as bench/read runs them, and its large inputs: real files, repeated.

python bench/reading.py KIND PATH       read a file; prints the number of rows and the peak of memory in MB
"""

import bz2
import gzip
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from corpusmill.pipeline.sources import KINDS, Slice, read
from corpusmill.schemas.tables import is_damage

__all__ = [
    "Survey",
    "concatenate",
    "count_records",
    "count_rows",
    "read_rows",
    "repeat_streams",
    "survey",
    "whole",
    "write_jsonl",
    "write_parquet",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """What our reader finds in a WARC file.

    Attributes:
        records: that could be read, of any type.
        pages: with content.
        damage: (offset, length, reason) of each damaged stretch.
    """

    records: int
    pages: int
    damage: list[tuple[int, int | None, str]]


def whole(path: Path, kind: str) -> Slice:
    """All of a file."""
    return Slice(source="bench", kind=kind, file_path=path.name, location=str(path), start=0, end=path.stat().st_size)


def count_rows(piece: Slice) -> int:
    """Read a slice in record batches, as jobs do; returns the number of rows."""
    return sum(len(batch) for batch in read(piece, Counter()))


def count_records(piece: Slice) -> int:
    """Read a slice record by record; returns their number."""
    return sum(1 for _ in KINDS[piece.kind].records(piece, Counter()))


def survey(path: Path) -> Survey:
    """Read a WARC file and look at every row."""
    counts: Counter[str] = Counter()
    pages, damage = 0, []
    for batch in read(whole(path, "warc"), counts):
        pages += len(batch) - batch.column("content").null_count
        stretches = batch.filter(is_damage(batch.column("reason"))).select(["offset", "length", "reason"])
        damage += [(row["offset"], row["length"], row["reason"]) for row in stretches.to_pylist()]
    return Survey(records=counts.total() - len(damage), pages=pages, damage=damage)


def concatenate(sources: Sequence[Path], target: Path, times: int) -> Path:
    """Write WARC files one after the other, all of it so many times; returns `target`."""
    with target.open("wb") as out:
        for _ in range(times):
            for source in sources:
                out.write(source.read_bytes())
    return target


def repeat_streams(source: Path, target: Path, times: int) -> Path:
    """Write a multistream dump with its pages so many times, and its index beside it; returns `target`."""
    data = source.read_bytes()
    lines = bz2.decompress(_index_of(source).read_bytes()).splitlines(keepends=True)
    offsets = [int(line.partition(b":")[0]) for line in lines]
    first, end = offsets[0], _end_of_stream(data, offsets[-1])
    with target.open("wb") as out:
        out.write(data[:first])
        for _ in range(times):
            out.write(data[first:end])
        out.write(data[end:])
    with bz2.open(_index_of(target), "wb") as index:
        for n in range(times):
            for offset, line in zip(offsets, lines, strict=True):
                index.write(b"%d:%b" % (offset + n * (end - first), line.partition(b":")[2]))
    return target


def _index_of(dump: Path) -> Path:
    return dump.with_name(dump.name.replace("-multistream.xml.bz2", "-multistream-index.txt.bz2"))


def _end_of_stream(data: bytes, start: int) -> int:
    decoder = bz2.BZ2Decompressor()
    decoder.decompress(data[start:])
    return len(data) - len(decoder.unused_data)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The texts of a JSONL file."""
    with gzip.open(path) as lines:
        return [{"text": json.loads(line)["text"]} for line in lines]


def write_jsonl(rows: Sequence[dict[str, str]], target: Path, times: int) -> Path:
    """Write rows so many times as JSON lines; returns `target`."""
    block = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    with target.open("wb") as out:
        for _ in range(times):
            out.write(block)
    return target


def write_parquet(rows: Sequence[dict[str, str]], target: Path, times: int) -> Path:
    """Write rows so many times as pandas and pyarrow do by default: row groups of a million rows; returns `target`."""
    table = pa.Table.from_pylist(list(rows))
    pq.write_table(pa.concat_tables([table] * times), target)
    return target


def peak_memory() -> float:
    """The most memory that this process has held, in MB (VmHWM of proc(5): not that of the process that forked it)."""
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1000


def _main(kind: str, path: str) -> dict[str, Any]:
    return {"rows": count_rows(whole(Path(path), kind)), "peak_mb": round(peak_memory())}


if __name__ == "__main__":
    print(json.dumps(_main(*sys.argv[1:])))
