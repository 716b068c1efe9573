"""close: the ledger, one row an input record, derived once from what the other jobs decided."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.pipeline.jobs.shard import id_sum
from corpusmill.schemas.errors import LedgerError
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import read_table
from corpusmill.schemas.tables import DOCUMENT, DUPLICATE, LEDGER, REJECT, VERDICT, is_damage

__all__ = ["Close"]

STAGE_VERSION = 2


class Close:
    """One task a unit; `ledger/`. The commit's counts are the books of the unit."""

    name = "close"
    heavy = False
    folders: tuple[str, ...] = ("ledger",)

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in plan order, on top of extract, select and dedup."""
        dedup = run.recipe.dedup
        near = None if dedup == "none" or dedup.minhash == "none" else dedup.minhash.threshold
        return [
            Task(
                job=self.name,
                unit=unit,
                fingerprint=fingerprint(
                    self.name,
                    STAGE_VERSION,
                    near,
                    [run.commits[job][unit].digest for job in ("extract", "select", "dedup")],
                ),
                spec={"records": commit.counts["records"], "near": near},
                cost=commit.counts["records"] * 1e-5,
            )
            for unit, commit in run.commits["extract"].items()
        ]

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Derive the rows, check them against the reader's count, commit.

        Raises:
            LedgerError: a record is missing or was judged twice.
        """
        unit = task.unit
        with watch("read"):
            columns = ["id", "url", "file_path", "offset", "length", "record_index"]
            documents = read_table(files, f"documents/{unit}.parquet", DOCUMENT, [*columns, "language"])
            rejects = read_table(files, f"rejects/{unit}.parquet", REJECT, [*columns, "stage", "reason"])
            verdicts = read_table(files, f"verdicts/{unit}.parquet", VERDICT)
            copies = read_table(files, f"duplicates/{unit}.parquet", DUPLICATE, ["row", "kind", "jaccard"])
        with watch("ledger"):
            rows = pa.concat_tables([_judged(documents, verdicts, copies, task.spec["near"]), _rejected(rejects)])
            rows = rows.sort_by([("offset", "ascending"), ("record_index", "ascending"), ("id", "ascending")])
        if rows.num_rows != task.spec["records"]:
            raise LedgerError(
                f"unit {unit}: the reader saw {task.spec['records']} records, the ledger has {rows.num_rows}"
            )
        kept = rows.filter(pc.equal(rows.column("verdict"), "kept"))
        counts = {"records": rows.num_rows}
        for item in rows.group_by("verdict").aggregate([("id", "count")]).to_pylist():
            counts[item["verdict"]] = item["id_count"]
        dropped = rows.filter(pc.invert(pc.equal(rows.column("verdict"), "kept")))
        reasons = [
            [item["verdict"], item["stage"], item["reason"], item["id_count"]]
            for item in dropped.group_by(["verdict", "stage", "reason"])
            .aggregate([("id", "count")])
            .sort_by([("stage", "ascending"), ("reason", "ascending")])
            .to_pylist()
        ]
        languages = [
            [item["language"], item["stage"] or "kept", item["id_count"]]
            for item in rows.filter(pc.is_valid(rows.column("language")))
            .group_by(["language", "stage"])
            .aggregate([("id", "count")])
            .sort_by([("language", "ascending"), ("stage", "ascending")])
            .to_pylist()
        ]
        with outputs(files, self.name, unit, watch) as out:
            out.table(f"ledger/{unit}.parquet", LEDGER).write(rows)
            detail = {"reasons": reasons, "languages": languages, "id_sum": id_sum(kept.column("id"))}
            out.commit(task.fingerprint, counts, detail)


def _judged(documents: pa.Table, verdicts: pa.Table, copies: pa.Table, near: float | None) -> pa.Table:
    n_rows = documents.num_rows
    copied = np.zeros(n_rows, bool)
    copied[copies.column("row").to_numpy()] = True
    kind = pa.nulls(n_rows, pa.string())
    jaccard = pa.nulls(n_rows, pa.float64())
    if copies.num_rows:
        by_row = copies.sort_by("row")
        mask = pa.array(copied)
        kinds = pc.binary_join_element_wise("duplicate", by_row.column("kind").cast(pa.string()), "_").combine_chunks()
        kind = pc.replace_with_mask(kind, mask, kinds)
        jaccard = pc.replace_with_mask(jaccard, mask, by_row.column("jaccard").combine_chunks())
    keep = verdicts.column("keep").combine_chunks()
    is_copy = pa.array(copied)
    kept = pc.and_(keep, pc.invert(is_copy))
    columns = {name: documents.column(name) for name in documents.schema.names}
    columns |= {
        "verdict": pc.if_else(kept, "kept", "dropped"),
        "stage": pc.if_else(is_copy, "dedup", verdicts.column("stage")),
        "reason": pc.if_else(is_copy, kind, verdicts.column("reason")),
        "value": pc.if_else(is_copy, jaccard, verdicts.column("value")),
        "threshold": pc.if_else(pc.is_valid(jaccard), pa.scalar(near, pa.float64()), verdicts.column("threshold")),
    }
    return pa.table(columns).select(LEDGER.columns.names).cast(LEDGER.columns)


def _rejected(rejects: pa.Table) -> pa.Table:
    n_rows = rejects.num_rows
    columns = {name: rejects.column(name) for name in rejects.schema.names}
    columns |= {
        "verdict": pc.if_else(is_damage(rejects.column("reason")), "damaged", "dropped"),
        "value": pa.nulls(n_rows, pa.float64()),
        "threshold": pa.nulls(n_rows, pa.float64()),
        "language": pa.nulls(n_rows, pa.string()),
    }
    return pa.table(columns).select(LEDGER.columns.names).cast(LEDGER.columns)
