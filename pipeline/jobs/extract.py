"""extract: read a unit, turn its records into documents; the first look at refine happens in the same pass."""

from collections import Counter
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.pipeline import sources
from corpusmill.pipeline.jobs import refine
from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, UnitOutputs, fingerprint, outputs
from corpusmill.pipeline.jobs.fetch import fetched_units
from corpusmill.pipeline.sources.record import Slice, record_ids
from corpusmill.pipeline.stages import charset, html, language, unicode, wikitext
from corpusmill.pipeline.stages.documents import extract_documents
from corpusmill.pipeline.stages.html import ExtractSettings
from corpusmill.pipeline.stages.language import LanguageSettings, model_digest
from corpusmill.schemas.files import Files
from corpusmill.schemas.tables import DOCUMENT, REDIRECT, REJECT, is_damage

__all__ = ["Extract", "cpu_seconds", "quarantine"]

STAGE_VERSION = [3, *(stage.STAGE_VERSION for stage in (charset, html, wikitext, unicode, language))]
LIBRARIES = ("resiliparse", "fasttext-numpy2", "pyarrow", "langcodes", "xxhash", "isal")

_CPU_SECONDS_PER_BYTE: Final = {"jsonl": 0.1e-6, "text": 0.1e-6, "html": 0.2e-6}
_CPU_SECONDS_PER_PACKED_BYTE: Final = 1.0e-6
"""Of input, extract and refine together; measured by `bench/run`."""


def cpu_seconds(kind: str, n_bytes: int) -> float:
    """Estimated work of reading so many bytes of a kind of source."""
    return n_bytes * _CPU_SECONDS_PER_BYTE.get(kind, _CPU_SECONDS_PER_PACKED_BYTE)


class Extract:
    """One task a unit: `documents/`, `rejects/`, and `redirects/` of wikis whose source asks for them."""

    name = "extract"
    heavy = True
    folders: tuple[str, ...] = ("documents", "rejects", "redirects")

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in plan order; a unit is identified by its slice and the digest of its file."""
        settings = LanguageSettings(model=run.recipe.language.model)
        shared: dict[str, Any] = {"extract": run.recipe.extract.model_dump(), "language_model": model_digest(settings)}
        tasks = []
        for file in run.inputs:
            commit = run.commits["fetch"][file.name]
            for unit in fetched_units(file, commit, run.files):
                piece = asdict(unit.piece)
                identity = {key: value for key, value in piece.items() if key != "location"}
                mark = fingerprint(self.name, STAGE_VERSION, shared, [commit.detail["sha256"], identity], LIBRARIES)
                spec = {
                    "piece": piece,
                    "extract": shared["extract"],
                    "model": settings.model,
                    "refine": refine.settings(run.recipe),
                }
                cost = cpu_seconds(file.kind, unit.n_bytes)
                tasks.append(Task(job=self.name, unit=unit.name, fingerprint=mark, spec=spec, cost=cost))
        return tasks

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Read, extract, refine and commit both; damage becomes rows of `rejects/`, never an exception."""
        piece = Slice(**task.spec["piece"])
        extraction = ExtractSettings(**task.spec["extract"])
        identification = LanguageSettings(model=task.spec["model"])
        counts: Counter[str] = Counter()
        refine_watch = Stopwatch()
        with (
            outputs(files, self.name, task.unit, watch) as out,
            outputs(files, refine.Refine.name, task.unit, refine_watch) as refined,
        ):
            documents = out.table(f"documents/{task.unit}.parquet", DOCUMENT)
            rejects = out.table(f"rejects/{task.unit}.parquet", REJECT)
            redirects = None
            if piece.options.get("redirects"):
                redirects = out.table(f"redirects/{task.unit}.parquet", REDIRECT)
            refiner = refine.Refiner(refined, task.unit, task.spec["refine"], refine_watch)
            for raw in watch.iterate("read", sources.read(piece, counts)):
                kept, rejected = extract_documents(raw, piece.source, extraction, identification, watch)
                with watch("write"):
                    documents.write(kept)
                    rejects.write(rejected)
                    if redirects is not None:
                        redirects.write(_redirects(raw, piece.source))
                for charset_used, n in _tally(kept.column("charset")).items():
                    counts[f"charset_{charset_used}"] += n
                counts["damaged"] += pc.sum(is_damage(rejected.column("reason"))).as_py() or 0
                refiner.write(kept)
            rows = {"records": 0, "documents": documents.n_rows, "rejects": rejects.n_rows}
            commit = out.commit(task.fingerprint, rows | counts, {"source": piece.source})
            refiner.commit(commit)


def _redirects(raw: pa.RecordBatch, source: str) -> pa.Table:
    rows = pa.Table.from_batches([raw]).filter(pc.is_valid(raw.column("redirect")))
    return (
        rows.append_column("source", pa.repeat(source, rows.num_rows))
        .select(REDIRECT.columns.names)
        .cast(REDIRECT.columns)
    )


def _tally(values: pa.Array) -> dict[str, int]:
    counted = pc.value_counts(values.drop_null())
    return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True))


def quarantine(task: Task, files: Files, watch: Stopwatch) -> None:
    """Commit a unit whose reading kills the process: no documents, and one damaged record for the whole slice."""
    piece = Slice(**task.spec["piece"])
    with (
        outputs(files, Extract.name, task.unit, watch) as out,
        outputs(files, refine.Refine.name, task.unit, watch) as refined,
    ):
        out.table(f"documents/{task.unit}.parquet", DOCUMENT)
        _reject_whole(out, task.unit, piece)
        counts = {"records": 1, "documents": 0, "rejects": 1, "damaged": 1, "quarantined": 1}
        commit = out.commit(task.fingerprint, counts, {"source": piece.source})
        refine.Refiner(refined, task.unit, task.spec["refine"], watch).commit(commit)


def _reject_whole(out: UnitOutputs, unit: str, piece: Slice) -> None:
    row = {
        "id": record_ids(piece.source, [f"{piece.file_path}:{piece.start}:damaged"])[0].as_py(),
        "url": None,
        "file_path": piece.file_path,
        "offset": piece.start,
        "length": piece.end - piece.start,
        "record_index": 0,
        "stage": "worker",
        "reason": "damaged",
    }
    out.table(f"rejects/{unit}.parquet", REJECT).write(pa.Table.from_pylist([row], schema=REJECT.columns))
