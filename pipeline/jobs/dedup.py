"""dedup: which documents are copies, which copy stays, and in which split the survivors are.

The only job with a shuffle (DESIGN §3). Each unit packs the keys of its kept documents into byte arrays, one a
partition of the key space; each partition chains equal keys to edges; all edges together give the raw components,
inside which `dedup.cascade` decides; each unit gets its share of the decisions written and committed.
Documents are numbered (unit << 32) | row on the way. On a runner that shares the file system the shuffle carries
(name, offset, length) of scratch files, elsewhere the arrays themselves.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from corpusmill.pipeline.dedup import cascade, components, keys
from corpusmill.pipeline.dedup.cascade import CascadePolicy
from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.schemas.files import TEMPORARY, Files
from corpusmill.schemas.parquet import ROW_GROUP, one_batch, read_table
from corpusmill.schemas.tables import CLUSTER, DOCUMENT, DUPLICATE, REFINED, SIGNATURE, VERDICT

__all__ = ["Dedup", "collect_edges", "map_keys", "resolve", "split_of", "write_unit"]

STAGE_VERSION = 1
LIBRARIES = ("numpy", "scipy", "xxhash")

_PARTITION_BYTES = 64 << 20

DECISION = pa.schema(
    [
        ("row", pa.int64()),
        ("id", pa.string()),
        ("component", pa.string()),
        ("duplicate_of", pa.string()),
        ("kind", pa.string()),
        ("jaccard", pa.float64()),
        ("cluster_size", pa.int64()),
    ]
)
"""What is decided about one member of a raw component; `duplicate_of` is null for a survivor."""

Element = tuple[int, bytes]


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
        n_keys = 3 + (0 if chosen is None or chosen["minhash"] == "none" else chosen["minhash"]["bands"])
        n_bytes = sum(kept.values()) * n_keys * keys.KEY_ROW.itemsize
        shared = {
            "dedup": chosen,
            "splits": recipe.shards.splits,
            "n_partitions": 1 << max(4, (n_bytes // _PARTITION_BYTES).bit_length()),
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


def map_keys(task: Task, files: Files, *, shared_files: bool) -> Iterator[Element]:
    """Pack the keys of a unit's kept documents.

    Args:
        task: the unit.
        files: the run folder.
        shared_files: leave the arrays in a scratch file and yield references.

    Yields:
        (partition, b"B" + array or b"R" + reference) and, in the partition after the last, (n, b"T" + task).
    """
    spec = task.spec
    columns = ["id", "row"] if spec["dedup"] is None else ["id", "row", "url_key", "text_key"]
    has_bands = spec["dedup"] is not None and spec["dedup"]["minhash"] != "none"
    if has_bands:
        columns.append("bands")
    table = read_table(files, f"signatures/{task.unit}.parquet", SIGNATURE, columns)
    keep = read_table(files, f"verdicts/{task.unit}.parquet", VERDICT, ["keep"]).column("keep")
    table = one_batch(table.filter(keep.take(table.column("row"))))
    bands, shingled = _bands(table.column("bands")) if has_bands else (None, None)
    rows = keys.pack(
        keys.doc_numbers(spec["number"], table.column("row").to_numpy()),
        ids=table.column("id"),
        urls=table.column("url_key") if _step(spec, "url") else None,
        texts=table.column("text_key") if _step(spec, "exact") else None,
        bands=bands,
        shingled=shingled,
    )
    parts = keys.split_by_partition(rows, spec["n_partitions"])
    if shared_files:
        name = f"{TEMPORARY}/dedup-{task.unit}"
        files.write_bytes(name, b"".join(blob for _, blob in parts))
        offset = 0
        for partition, blob in parts:
            yield partition, b"R" + json.dumps([name, offset, len(blob)]).encode()
            offset += len(blob)
    else:
        for partition, blob in parts:
            yield partition, b"B" + blob
    yield spec["n_partitions"], b"T" + task.encode()


def collect_edges(payloads: Iterable[bytes], files: Files) -> Iterator[Element]:
    """Chain the equal keys of one partition; tasks pass through.

    Args:
        payloads: what `map_keys` yielded for the partition, in any order, repeated or not.
        files: the run folder.

    Yields:
        (0, b"E" + edges as uint64 pairs) or (0, b"T" + task).
    """
    blobs = []
    for payload in sorted(set(payloads)):
        tag, body = payload[:1], payload[1:]
        if tag == b"T":
            yield 0, payload
        elif tag == b"B":
            blobs.append(body)
        else:
            name, offset, length = json.loads(body)
            with files.open(name) as handle:
                handle.seek(offset)
                blobs.append(handle.read(length))
    if blobs:
        yield 0, b"E" + components.edges(blobs).tobytes()


def resolve(payloads: Iterable[bytes], files: Files) -> Iterator[tuple[bytes, bytes]]:
    """Decide for the whole run.

    Args:
        payloads: what `collect_edges` yielded, in any order, repeated or not.
        files: the run folder.

    Yields:
        (task, rows of `DECISION` for its unit as Arrow IPC), one for each unit.
    """
    unique = sorted(set(payloads))
    tasks = sorted(
        (Task.decode(payload[1:]) for payload in unique if payload[:1] == b"T"),
        key=lambda task: int(task.spec["number"]),
    )
    edge_arrays = [np.frombuffer(p[1:], np.uint64).reshape(-1, 2) for p in unique if p[:1] == b"E"]
    docs, roots = components.components(edge_arrays)
    members = [_members(task, docs, roots, files) for task in tasks]
    decisions = _decide(pa.concat_tables(members), tasks[0].spec["dedup"])
    number, _ = keys.unit_and_row(decisions.column("doc").to_numpy())
    for task in tasks:
        mine = decisions.filter(pa.array(number == task.spec["number"]))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, DECISION) as writer:
            writer.write_table(mine.select(DECISION.names).cast(DECISION))
        yield task.encode(), sink.getvalue().to_pybytes()


def _members(task: Task, docs: np.ndarray, roots: np.ndarray, files: Files) -> pa.Table:
    """The members of raw components that lie in one unit, as `cascade.resolve` wants them."""
    spec = task.spec
    low, high = np.searchsorted(docs >> np.uint64(32), [spec["number"], spec["number"] + 1])
    table = read_table(files, f"signatures/{task.unit}.parquet", SIGNATURE)
    _, rows = keys.unit_and_row(docs[low:high])
    wanted = rows.astype(np.int64)
    table = table.take(np.searchsorted(table.column("row").to_numpy(), wanted))
    quality = pa.nulls(len(wanted), pa.float64())
    name = "none" if spec["dedup"] is None else spec["dedup"]["quality"]
    if name != "none" and len(wanted):
        quality = read_table(files, f"refined/{task.unit}.parquet", REFINED, [name]).column(name).take(wanted)
    if "sig8" not in table.schema.names:
        table = table.append_column("sig8", pa.nulls(len(wanted), pa.binary(1)))
    columns = {name: table.column(name) for name in ("id", "url_key", "text_key", "sig8", "n_chars", "date")}
    columns |= {
        "doc": pa.array(docs[low:high]),
        "component": pa.array(roots[low:high]),
        "quality": pc.cast(quality, pa.float64()),
        "priority": pa.array(np.full(len(wanted), spec["priority"], np.int32)),
    }
    return pa.table(columns)


def _decide(members: pa.Table, dedup: dict[str, Any] | None) -> pa.Table:
    """`cascade.resolve` with ids instead of document numbers."""
    if dedup is None:
        policy = CascadePolicy(url="none", exact=False, near=None)
    else:
        near = None if dedup["minhash"] == "none" else dedup["minhash"]["threshold"]
        policy = CascadePolicy(url=dedup["url"], exact=dedup["exact"], near=near)
    members = members.sort_by("doc")
    resolved = cascade.resolve(members, policy)
    ids = np.array([value.hex() for value in members.column("id").to_pylist()], dtype="U32")
    docs = members.column("doc").to_numpy()
    _, inverse = np.unique(members.column("component").to_numpy(), return_inverse=True)
    smallest = np.full(inverse.max(initial=-1) + 1, "g" * 32, dtype="U32")
    order = np.argsort(ids)[::-1]
    smallest[inverse[order]] = ids[order]  # the last write wins: the smallest id
    winner = resolved.column("duplicate_of").combine_chunks()
    is_copy = np.asarray(winner.is_valid())
    position = np.searchsorted(docs, np.asarray(winner.fill_null(0)))
    position[~is_copy] = 0
    winner_ids = pa.array(ids[position] if len(ids) else [], pa.string(), mask=~is_copy)
    return pa.table(
        {
            "doc": pa.array(docs),
            "row": pa.array(keys.unit_and_row(docs)[1].astype(np.int64)),
            "id": pa.array(ids, pa.string()),
            "component": pa.array(smallest[inverse], pa.string()),
            "duplicate_of": winner_ids,
            "kind": resolved.column("kind"),
            "jaccard": resolved.column("jaccard"),
            "cluster_size": resolved.column("cluster_size"),
        }
    )


def write_unit(task: Task, decisions: pa.Table, files: Files) -> None:
    """Commit the decisions about one unit; `decisions` holds rows of `DECISION`, sorted by row."""
    watch = Stopwatch()
    is_copy = pc.is_valid(decisions.column("duplicate_of"))
    unit_column = pa.repeat(task.unit, decisions.num_rows)
    copies = decisions.append_column("unit", unit_column).filter(is_copy)
    clusters = decisions.append_column("unit", unit_column).filter(pc.invert(is_copy))
    with watch("read"):
        rows = read_table(files, f"documents/{task.unit}.parquet", DOCUMENT, ["id"])
        rows = rows.append_column(
            "n_bytes", read_table(files, f"refined/{task.unit}.parquet", REFINED, ["n_bytes"]).column("n_bytes")
        )
        keep = read_table(files, f"verdicts/{task.unit}.parquet", VERDICT, ["keep"]).column("keep")
    alive = keep.to_numpy().copy()
    alive[copies.column("row").to_numpy()] = False
    component = np.array(rows.column("id").to_pylist(), dtype="U32")
    component[clusters.column("row").to_numpy()] = np.array(clusters.column("component").to_pylist(), dtype="U32")
    survivors: dict[str, list[int]] = {}
    n_groups = -(-rows.num_rows // ROW_GROUP)
    sizes = rows.column("n_bytes").to_numpy()
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


def _step(spec: dict[str, Any], name: str) -> bool:
    return spec["dedup"] is not None and spec["dedup"][name] not in ("none", False)


def _bands(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Band keys (uint64[N, bands]) and which documents have any."""
    return keys.byte_rows(column).view(np.uint64), column.is_valid().to_numpy(zero_copy_only=False)
