"""refine: edits, the raw signals of the edited text, and the keys by which copies are found.

Documents in a language that the recipe does not keep pass through untouched and unmeasured.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, UnitOutputs, fingerprint, outputs
from corpusmill.pipeline.stages import prose, quality, script, signatures
from corpusmill.pipeline.stages.signatures import MinHashSettings
from corpusmill.schemas.commits import Commit
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import read_batches
from corpusmill.schemas.recipe import Language, MinHash, Recipe
from corpusmill.schemas.tables import DOCUMENT, REFINED, SIGNATURE

__all__ = ["Refine", "Refiner", "minhash_settings", "settings", "signature_columns"]

STAGE_VERSION = [1, script.STAGE_VERSION, prose.STAGE_VERSION, quality.STAGE_VERSION, signatures.STAGE_VERSION]
LIBRARIES = ("datasketch", "langcodes", "numba", "numpy", "pyarrow", "xxhash")


def settings(recipe: Recipe) -> dict[str, Any]:
    """Exactly the recipe fields that refine reads."""
    minhash = recipe.dedup.minhash if recipe.dedup != "none" else "none"
    return {
        "keep": recipe.language.keep,
        "lines": recipe.edits.lines,
        "script": recipe.edits.script_share if recipe.edits.script == "document" else None,
        "minhash": None if minhash == "none" else minhash.model_dump(exclude={"threshold"}),
    }


def minhash_settings(values: dict[str, Any] | MinHash | None) -> MinHashSettings | None:
    """The stage's settings from the recipe's; the threshold is left out, it belongs to dedup."""
    if values is None:
        return None
    fields = values.model_dump() if isinstance(values, MinHash) else values
    return MinHashSettings(**{key: value for key, value in fields.items() if key != "threshold"})


def signature_columns(minhash: MinHashSettings | None) -> pa.Schema:
    """The columns of `signatures/` beyond the fixed ones: `sig8` (uint8 x hashes) and `bands` (uint64 x bands)."""
    if minhash is None:
        return pa.schema([])
    return pa.schema(
        [
            pa.field("sig8", pa.binary(minhash.bands * minhash.rows)),
            pa.field("bands", pa.binary(8 * minhash.bands)),
        ]
    )


class Refiner:
    """Refines a unit batch by batch into `refined/` and `signatures/`."""

    def __init__(self, out: UnitOutputs, unit: str, values: dict[str, Any], watch: Stopwatch) -> None:
        self._out, self._watch, self._values = out, watch, values
        self._keep = Language(keep=values["keep"])
        self._minhash = minhash_settings(values["minhash"])
        digest = {} if self._minhash is None else {"corpusmill.minhash": self._minhash.digest}
        self._refined = out.table(
            f"refined/{unit}.parquet", REFINED, extra=pa.schema([f.with_nullable(True) for f in quality.SCHEMA])
        )
        self._signatures = out.table(
            f"signatures/{unit}.parquet", SIGNATURE, extra=signature_columns(self._minhash), metadata=digest
        )
        self._n_measured = 0

    def write(self, documents: pa.RecordBatch) -> None:
        """Refine rows of `tables.DOCUMENT`; the result does not depend on how they are cut into batches."""
        first_row = self._refined.n_rows
        tags = documents.column("language")
        wanted = {tag for tag in pc.unique(tags).to_pylist() if self._keep.keeps(tag)}
        mask = pc.is_in(tags, pa.array(sorted(wanted), pa.string()))
        kept = documents.filter(mask)
        text = kept.column("text")
        with self._watch("edits"):
            edited = self._edited(text, kept.column("language"))
        with self._watch("signals"):
            signals = quality.signals(edited, languages=kept.column("language"))
        with self._watch("write"):
            self._write_refined(documents, mask, text, edited, signals)
        rows = np.flatnonzero(mask.to_numpy(zero_copy_only=False)) + first_row
        self._write_signatures(kept, edited, pa.array(rows, pa.int64()))
        self._n_measured += len(edited)

    def _edited(self, text: pa.Array, languages: pa.Array) -> pa.Array:
        """Both edits judge a line alone, so their order is free: the cheap one first saves the other its lines."""
        if self._values["script"] is not None:
            text = script.script_lines(text, languages, self._values["script"])
        if self._values["lines"] == "prose":
            text = prose.prose_lines(text)
        return text

    def _write_refined(
        self,
        documents: pa.RecordBatch,
        mask: pa.Array,
        text: pa.Array,
        edited: pa.Array,
        signals: pa.RecordBatch,
    ) -> None:
        changed = pc.if_else(pc.equal(text, edited), pa.scalar(None, pa.string()), edited)
        columns: dict[str, pa.Array] = {
            "text": changed,
            "n_bytes": pc.binary_length(edited).cast(pa.int64()),
            "n_chars": pc.utf8_length(edited).cast(pa.int64()),
            **dict(zip(signals.schema.names, signals.columns, strict=True)),
        }
        spread = {
            name: pc.replace_with_mask(pa.nulls(documents.num_rows, values.type), mask, values)
            for name, values in columns.items()
        }
        spread |= {"id": _binary_ids(documents.column("id")), "refined": mask}
        self._refined.write(pa.table(spread))

    def _write_signatures(self, kept: pa.RecordBatch, edited: pa.Array, rows: pa.Array) -> None:
        with self._watch("keys"):
            columns = {
                "id": _binary_ids(kept.column("id")),
                "row": rows,
                "text_key": signatures.text_keys(edited),
                "url_key": signatures.url_keys(kept.column("url")),
                "language": kept.column("language"),
                "n_chars": pc.utf8_length(edited).cast(pa.int64()),
                "date": kept.column("date"),
            }
        if self._minhash is not None:
            with self._watch("minhash"):
                matrix = signatures.signatures(edited, self._minhash)
                columns |= {
                    "sig8": signatures.sig8_column(matrix),
                    "bands": _rows(signatures.band_keys(matrix, self._minhash), signatures.shingled(matrix)),
                }
        with self._watch("write"):
            self._signatures.write(pa.table(columns))

    def commit(self, upstream: Commit) -> Commit:
        """Publish the unit's refinement of the documents that `upstream` committed."""
        counts = {"documents": self._refined.n_rows, "refined": self._n_measured}
        return self._out.commit(refine_fingerprint(self._values, upstream), counts)


def refine_fingerprint(values: dict[str, Any], upstream: Commit) -> str:
    """The fingerprint of a unit's refinement."""
    minhash = minhash_settings(values["minhash"])
    shape = {**values, "minhash": None if minhash is None else [minhash.digest, asdict(minhash)]}
    return fingerprint(Refine.name, STAGE_VERSION, shape, upstream.digest, LIBRARIES)


class Refine:
    """One task a unit, for units whose documents are there while their refinement is not."""

    name = "refine"
    heavy = True
    folders: tuple[str, ...] = ("refined", "signatures")

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in plan order, on top of what extract committed."""
        values = settings(run.recipe)
        return [
            Task(
                job=self.name,
                unit=unit,
                fingerprint=refine_fingerprint(values, commit),
                spec={"refine": values, "extract": commit.model_dump(mode="json")},
                cost=commit.counts["documents"] * 2e-3,
            )
            for unit, commit in run.commits["extract"].items()
        ]

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Read documents row group by row group, refine, commit."""
        upstream = Commit.model_validate(task.spec["extract"])
        with outputs(files, self.name, task.unit, watch) as out:
            refiner = Refiner(out, task.unit, task.spec["refine"], watch)
            batches = read_batches(files, f"documents/{task.unit}.parquet", DOCUMENT)
            for documents in watch.iterate("read", batches):
                refiner.write(documents)
            refiner.commit(upstream)


def _binary_ids(ids: pa.Array) -> pa.Array:
    return pa.array([bytes.fromhex(value) for value in ids.to_pylist()], pa.binary(16))


def _rows(matrix: np.ndarray, valid: np.ndarray) -> pa.Array:
    """Rows of a matrix as fixed-size binary values, null where `valid` is false."""
    return pa.array([row.tobytes() for row in matrix], pa.binary(matrix.shape[1] * matrix.itemsize), mask=~valid)
