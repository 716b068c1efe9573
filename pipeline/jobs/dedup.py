"""dedup: which documents are copies, which copy stays, and in which split the survivors are.

The only job with a shuffle (DESIGN §3). `jobs.grouping` has the steps that lead to the decisions about each unit; here
are its tasks, and what is committed.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from numpy.typing import NDArray

from corpusmill.pipeline.dedup.keys import KEY_BYTES, byte_rows
from corpusmill.pipeline.dedup.members import member_schema
from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import ROW_GROUP, read_table
from corpusmill.schemas.tables import CLUSTER, DUPLICATE, REFINED, VERDICT

__all__ = ["Dedup", "split_of", "write_unit"]

STAGE_VERSION = 1
LIBRARIES = ("numpy", "xxhash")

_PARTITION_BYTES = 32 << 20
"""Packed keys, or members of components, that a worker takes at once."""


class Dedup:
    """One task a unit; `duplicates/` and `clusters/`.

    The commit's detail holds `survivors`: for each split, the UTF-8 bytes of the surviving documents in each row
    group of the unit, from which shards are packed.
    """

    name = "dedup"
    heavy = False
    folders: tuple[str, ...] = ("duplicates", "clusters")

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in plan order, all with the digest of all units: any of them can hold a copy."""
        recipe = run.recipe
        chosen = None if recipe.dedup == "none" else recipe.dedup.model_dump(mode="json")
        priority = [source.name for source in recipe.sources]
        units = list(run.commits["extract"])
        values = {"dedup": chosen, "splits": recipe.shards.splits, "sources": priority}
        inputs = [[run.commits[job][unit].digest for job in ("extract", "refine", "select")] for unit in units]
        mark = fingerprint(self.name, STAGE_VERSION, values, inputs, LIBRARIES)
        kept = {unit: run.commits["select"][unit].counts["kept"] for unit in units}
        minhash = None if chosen is None or chosen["minhash"] == "none" else chosen["minhash"]
        n_keys = 3 + (minhash["bands"] if minhash else 0)
        member = member_schema(minhash["bands"] * minhash["rows"] if minhash else 1)
        member_bytes = sum(field.type.bit_width for field in member) // 8
        n_kept = sum(kept.values())
        shared = {
            "dedup": chosen,
            "splits": recipe.shards.splits,
            "key_partitions": _partitions(n_kept * n_keys * KEY_BYTES),
            "component_partitions": _partitions(n_kept * member_bytes),
        }
        return [
            Task(
                job=self.name,
                unit=unit,
                fingerprint=mark,
                spec=shared | {"number": i, "priority": priority.index(run.commits["extract"][unit].detail["source"])},
                cost=kept[unit] * 1.5e-5,
            )
            for i, unit in enumerate(units)
        ]


def _partitions(n_bytes: int) -> int:
    """A power of two, so that a run that grows a little keeps its shape."""
    return min(1 << 16, 1 << (n_bytes // _PARTITION_BYTES).bit_length())


def write_unit(task: Task, decisions: pa.Table, files: Files) -> None:
    """Commit the decisions about one unit; `decisions` holds rows of `members.DECISION`, sorted by row."""
    watch = Stopwatch()
    with watch("read"):
        refined = read_table(files, f"refined/{task.unit}.parquet", REFINED, ["id", "n_bytes"])
        keep = read_table(files, f"verdicts/{task.unit}.parquet", VERDICT, ["keep"]).column("keep")
    ids, rows = refined.column("id").combine_chunks(), decisions.column("row")
    table = pa.table(
        {
            "id": _hex(byte_rows(ids.take(rows.combine_chunks()))),
            "unit": pa.repeat(task.unit, decisions.num_rows),
            "row": rows,
            "component": _hex(byte_rows(decisions.column("component").combine_chunks())),
            "duplicate_of": _hex(byte_rows(decisions.column("duplicate_of").combine_chunks())),
            **{name: decisions.column(name) for name in ("kind", "jaccard", "cluster_size")},
        }
    )
    is_copy = pc.is_valid(decisions.column("duplicate_of"))
    copies, clusters = table.filter(is_copy), table.filter(pc.invert(is_copy))
    component = byte_rows(ids).copy()
    component[rows.to_numpy()] = byte_rows(decisions.column("component").combine_chunks())
    alive = keep.to_numpy().copy()
    alive[copies.column("row").to_numpy()] = False
    survivors = np.flatnonzero(alive)
    splits = [split_of(name, task.spec["splits"]) for name in _hex(component[survivors]).to_pylist()]
    group, sizes = survivors // ROW_GROUP, refined.column("n_bytes").to_numpy()[survivors]
    n_groups = -(-len(ids) // ROW_GROUP)
    counts = {f"duplicate_{kind}": n for kind, n in _count(copies.column("kind")).items()}
    counts |= {"kept": survivors.size, "duplicates": copies.num_rows}
    detail = {}
    for split in dict.fromkeys(splits):
        mine = np.array(splits) == split
        detail[split] = np.bincount(group[mine], sizes[mine], n_groups).astype(np.int64).tolist()
    with outputs(files, Dedup.name, task.unit, watch) as out:
        out.table(f"duplicates/{task.unit}.parquet", DUPLICATE).write(copies)
        out.table(f"clusters/{task.unit}.parquet", CLUSTER).write(clusters)
        out.commit(task.fingerprint, counts, {"survivors": detail})


def split_of(component: str, splits: dict[str, float]) -> str:
    """The split of a component (32 hex digits): a hash decides, so copies are never on both sides of a split."""
    point = xxhash.xxh3_64_intdigest(b"split" + bytes.fromhex(component)) / 2**64
    for name in ("validation", "test"):
        if point < splits.get(name, 0.0):
            return name
        point -= splits.get(name, 0.0)
    return "train"


def _count(column: pa.ChunkedArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in pc.value_counts(column).to_pylist()}


_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)


def _hex(values: NDArray[np.uint8]) -> pa.StringArray:
    """The hex digits of each row of bytes."""
    digits: NDArray[np.uint8] = _DIGITS[np.stack([values >> 4, values & 15], axis=-1)]
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(2 * values.shape[1])
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(digits))
