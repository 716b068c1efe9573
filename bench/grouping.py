"""A run folder whose documents are given by their signatures alone, and what its dedup job takes.

    python bench/grouping.py write FOLDER N     write a folder of N documents
    python bench/grouping.py run FOLDER         do the dedup job of such a folder in this process; prints JSON

Every value is a hash of the document's number, so a folder of any size is written unit by unit and is always the
same. Bands are hashes of their bytes of the signature, as they are in a real run:

    100,000     versions of one page: a byte in 200 changes from each to the next, so all are one raw component
    1 %         one hot bucket: pages that share the first band and nothing else
    30 %        near duplicates of the rest, with .7 to 1 of the bytes of a random original
    the rest    unlike all others
"""

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpusmill.pipeline.jobs import JOBS
from corpusmill.pipeline.jobs.base import RunState
from corpusmill.pipeline.jobs.refine import signature_columns
from corpusmill.pipeline.progress import Progress
from corpusmill.pipeline.run import _run_job
from corpusmill.pipeline.runners import open_runner
from corpusmill.pipeline.stages.shingles import mix64
from corpusmill.pipeline.stages.signatures import MinHashSettings
from corpusmill.schemas.commits import Commit
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import write_table
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.tables import DATE, REFINED, SIGNATURE, VERDICT

UNIT = 10_000
"""Documents in a unit."""

VERSIONS, PERIOD = 100_000, 200
HOT, NEAR = 0.01, 0.3

_MINHASH = MinHashSettings()
_SOURCE = {"kind": "jsonl", "name": "bench", "paths": ["bench.jsonl"]}
_BASE = np.uint64(0x9E3779B97F4A7C15)
_WORDS = _MINHASH.n_permutations // 8


def _numbers(salt: int, docs: NDArray[np.uint64], count: int) -> NDArray[np.uint64]:
    """`count` random numbers for each document, uint64[N, count], that depend on nothing else."""
    seeds = mix64(docs * _BASE + np.uint64(salt))
    return mix64(seeds[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _BASE)


def _bytes(salt: int, docs: NDArray[np.uint64], width: int) -> NDArray[np.uint8]:
    return _numbers(salt, docs, width // 8).view(np.uint8)


def _uniform(salt: int, docs: NDArray[np.uint64]) -> NDArray[np.float64]:
    return _numbers(salt, docs, 1)[:, 0] / 2.0**64


def _kinds(docs: NDArray[np.uint64], n_docs: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Which version each document would be, and what it is: 0 version, 1 hot, 2 near duplicate, 3 unlike all others."""
    version = mix64(docs + np.uint64(1)) % np.uint64(n_docs)  # versions lie all over the units, some twice
    kind = 1 + np.searchsorted([HOT, HOT + NEAR], _uniform(1, docs), side="right")
    return version, np.where(version < np.uint64(VERSIONS), 0, kind)


def sig8(docs: NDArray[np.uint64], n_docs: int) -> NDArray[np.uint8]:
    """The signatures of some of `n_docs` documents, uint8[N, 160]; see the head of this file."""
    version, kind = _kinds(docs, n_docs)
    near = kind == 2
    original = docs.copy()
    for attempt in range(10):
        again = near & (_kinds(original, n_docs)[1] != 3)
        original[again] = _numbers(20 + attempt, docs[again], 1)[:, 0] % np.uint64(n_docs)
    rows = _bytes(3, original, 8 * _WORDS)
    share = 0.7 + 0.3 * _uniform(4, docs)
    changed = _bytes(5, docs, 8 * _WORDS) >= (share * 256)[:, None]
    rows = np.where(near[:, None] & changed, _bytes(6, docs, 8 * _WORDS), rows)
    rows[kind == 1, : _MINHASH.rows] = 7
    places = np.arange(8 * _WORDS, dtype=np.uint64)
    ages = (version[kind == 0, None] + places * np.uint64(37)) // np.uint64(PERIOD)
    rows[kind == 0] = mix64(ages * np.uint64(1000) + places).astype(np.uint8)
    return rows


def _band_keys(rows: NDArray[np.uint8]) -> NDArray[np.uint64]:
    words = np.ascontiguousarray(rows).view(np.uint64)
    return mix64(words + np.arange(1, _WORDS + 1, dtype=np.uint64) * _BASE)


def _fixed(rows: NDArray[np.uint8]) -> pa.Array:
    rows = np.ascontiguousarray(rows)
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, pa.py_buffer(rows)])


def _repeated(value: str, count: int) -> pa.Array:
    return pa.repeat(value, count)


def unit_tables(start: int, end: int, n_docs: int) -> Iterator[tuple[str, Any, pa.Table, dict[str, Any]]]:
    """Folder, schema, rows and options of each table of a unit that holds the documents `start` to `end`."""
    docs = np.arange(start, end, dtype=np.uint64)
    ids = _bytes(11, docs, 16)
    n_chars = pa.array((_numbers(12, docs, 1)[:, 0] % np.uint64(5000)).astype(np.int64))
    days = (_numbers(13, docs, 1)[:, 0] % np.uint64(3000)).astype(np.int64)
    count = docs.size
    text_ids = pa.array([row.tobytes().hex() for row in ids], pa.string())
    rows = sig8(docs, n_docs)
    signature = {
        "id": _fixed(ids),
        "row": pa.array(np.arange(count)),
        "text_key": _fixed(_bytes(14, docs, 16)),
        "url_key": _fixed(_bytes(15, docs, 16)),
        "language": _repeated("en", count),
        "n_chars": n_chars,
        "date": pa.array(days * 86_400_000, pa.int64()).cast(DATE),
        "sig8": _fixed(rows),
        "bands": _fixed(_band_keys(rows).view(np.uint8)),
    }
    digest = {"metadata": {"corpusmill.minhash": _MINHASH.digest}, "extra": signature_columns(_MINHASH)}
    yield "signatures", SIGNATURE, pa.table(signature), digest
    refined = {"id": signature["id"], "text": pa.nulls(count, pa.string()), "refined": pa.repeat(True, count)}
    yield "refined", REFINED, pa.table(refined | {"n_bytes": n_chars, "n_chars": n_chars}), {}
    verdict = {field.name: pa.nulls(count, field.type) for field in VERDICT.columns}
    yield "verdicts", VERDICT, pa.table(verdict | {"id": text_ids, "keep": pa.repeat(True, count)}), {}


def units(n_docs: int) -> list[tuple[str, int, int]]:
    """Name, first and last document of each unit."""
    return [(f"bench-{i:05d}", start, min(start + UNIT, n_docs)) for i, start in enumerate(range(0, n_docs, UNIT))]


def write(folder: Path, n_docs: int) -> None:
    """A run folder up to the dedup job, without commit records."""
    files = Files(folder)
    for unit, start, end in units(n_docs):
        for name, table, rows, options in unit_tables(start, end, n_docs):
            write_table(files, f"{name}/{unit}.parquet", table, rows, **options)
    files.write_bytes("n_docs", str(n_docs).encode())


def run(folder: Path) -> dict[str, Any]:
    """Do the job in this process, as `corpusmill run --workers 1` does it; its clocks, memory and books."""
    files = Files(folder)
    n_docs = int(files.read_bytes("n_docs"))
    state = RunState(Recipe.model_validate({"sources": [_SOURCE]}), files, [])
    for job in ("extract", "refine", "select"):
        state.commits[job] = {
            unit: Commit(
                job=job,
                unit=unit,
                fingerprint="bench",
                outputs=[],
                counts={"kept": end - start},
                detail={"source": "bench"},
            )
            for unit, start, end in units(n_docs)
        }
    wall, cpu = time.perf_counter(), time.process_time()
    with open_runner("local", workers=1, beam_options=()) as runner:
        _run_job(JOBS["dedup"], state, runner, Progress.silent())
    counts: Counter[str] = Counter()
    outputs = hashlib.sha256()
    for commit in state.commits["dedup"].values():
        outputs.update(commit.digest.encode())
        counts.update(commit.counts)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "documents": n_docs,
        "wall_s": round(time.perf_counter() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "start_cpu_s": round(cpu, 2),
        "peak_mb": int(status["VmHWM"].split()[0]) // 1024,
        "counts": dict(sorted(counts.items())),
        "outputs": outputs.hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["write", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("n_docs", type=int, nargs="?", default=250_000, help="documents to write")
    args = parser.parse_args()
    if args.action == "write":
        write(args.folder, args.n_docs)
    else:
        json.dump(run(args.folder), sys.stdout)


if __name__ == "__main__":
    main()
