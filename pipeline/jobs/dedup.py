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
from corpusmill.schemas.tables import CLUSTER, DOCUMENT, DUPLICATE, REFINED, VERDICT

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
                cost=kept[unit] * 1e-4,
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
        ids = read_table(files, f"documents/{task.unit}.parquet", DOCUMENT, ["id"]).column("id")
        sizes = read_table(files, f"refined/{task.unit}.parquet", REFINED, ["n_bytes"]).column("n_bytes").to_numpy()
        keep = read_table(files, f"verdicts/{task.unit}.parquet", VERDICT, ["keep"]).column("keep")
    rows = decisions.column("row")
    table = pa.table(
        {
            "id": ids.take(rows),
            "unit": pa.repeat(task.unit, decisions.num_rows),
            "row": rows,
            "component": _hex(decisions.column("component")),
            "duplicate_of": _hex(decisions.column("duplicate_of")),
            **{name: decisions.column(name) for name in ("kind", "jaccard", "cluster_size")},
        }
    )
    is_copy = pc.is_valid(table.column("duplicate_of"))
    copies, clusters = table.filter(is_copy), table.filter(pc.invert(is_copy))
    alive = keep.to_numpy().copy()
    alive[copies.column("row").to_numpy()] = False
    component = np.array(ids.to_pylist(), dtype="U32")
    component[clusters.column("row").to_numpy()] = np.array(clusters.column("component").to_pylist(), dtype="U32")
    survivors: dict[str, list[int]] = {}
    n_groups = -(-len(ids) // ROW_GROUP)
    for row in np.flatnonzero(alive):
        split = split_of(str(component[row]), task.spec["splits"])
        survivors.setdefault(split, [0] * n_groups)[row // ROW_GROUP] += int(sizes[row])
    counts = {f"duplicate_{kind}": n for kind, n in _count(copies.column("kind")).items()}
    counts |= {"kept": int(alive.sum()), "duplicates": copies.num_rows}
    with outputs(files, Dedup.name, task.unit, watch) as out:
        out.table(f"duplicates/{task.unit}.parquet", DUPLICATE).write(copies)
        out.table(f"clusters/{task.unit}.parquet", CLUSTER).write(clusters)
        out.commit(task.fingerprint, counts, {"survivors": survivors})


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


def _hex(column: pa.ChunkedArray) -> pa.Array:
    """Hex digits of fixed-size binaries, null where these are."""
    values = column.combine_chunks()
    data = byte_rows(values)
    digits: NDArray[np.uint8] = _DIGITS[np.stack([data >> 4, data & 15], axis=-1)]
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(2 * data.shape[1])
    text = pa.StringArray.from_buffers(len(values), pa.py_buffer(offsets), pa.py_buffer(digits))
    return pc.if_else(values.is_valid(), text, pa.scalar(None, pa.string()))
