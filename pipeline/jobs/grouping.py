"""The steps of dedup's graph, as functions of a key and the payloads that were grouped under it.

1. `map_keys`       unit -> its packed keys, by partition of the key space
2. `chain_keys`     partition -> a forest of the documents that share keys
3. `merge_forests`  some partitions -> one forest
4. `components`     all forests, one after the other -> the members of raw components, by unit
5. `collect`        unit -> what the cascade has to know of its members, by partition of the components
6. `decide`         partition of the components -> decisions, by unit

`dedup.write_unit` commits them.

No step holds more than a partition of keys, a forest (16 bytes for each document that shares a key), a unit or a
partition of components. The task of a unit travels along under a key of its own, the unit's number below zero, and
passes through the steps that have nothing to do with it. Payloads may arrive in any order, and repeated.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from corpusmill.pipeline.dedup import components as forests
from corpusmill.pipeline.dedup import keys, members
from corpusmill.pipeline.dedup.cascade import CascadePolicy
from corpusmill.pipeline.dedup.components import Forest
from corpusmill.pipeline.dedup.members import DECISION, member_schema
from corpusmill.pipeline.jobs.base import Task
from corpusmill.pipeline.jobs.scratch import Element, Parcels, Scratch
from corpusmill.schemas.parquet import one_batch, read_table
from corpusmill.schemas.tables import REFINED, SIGNATURE, VERDICT

__all__ = ["STEPS", "decisions", "do_step", "map_keys", "of_unit"]

_FAN_IN = 16
"""Partitions whose forests are merged by one worker."""


def map_keys(task: Task, scratch: Scratch) -> Iterator[Element]:
    """Pack the keys of a unit's kept documents.

    Yields:
        (partition, packed keys) and the task.
    """
    spec, files = task.spec, scratch.files
    wanted = {"url_key": _step(spec, "url"), "text_key": _step(spec, "exact"), "bands": _step(spec, "minhash")}
    names = [name for name, is_wanted in wanted.items() if is_wanted]
    table = read_table(files, f"signatures/{task.unit}.parquet", SIGNATURE, ["id", "row", *names])
    keep = read_table(files, f"verdicts/{task.unit}.parquet", VERDICT, ["keep"]).column("keep")
    batch = one_batch(table.filter(keep.take(table.column("row"))))
    columns: dict[str, Any] = dict.fromkeys(wanted) | dict(zip(batch.schema.names, batch.columns, strict=True))
    bands = columns["bands"]
    packed, rows = keys.pack(
        columns["row"].to_numpy(),
        ids=columns["id"],
        urls=columns["url_key"],
        texts=columns["text_key"],
        bands=None if bands is None else keys.byte_rows(bands).view(np.uint64),
        shingled=None if bands is None else bands.is_valid().to_numpy(zero_copy_only=False),
    )
    blobs = keys.split_by_partition(spec["number"], packed, rows, spec["key_partitions"])
    yield from scratch.ship(f"dedup-keys-{task.unit}", blobs)
    yield _unit_key(spec["number"]), b"T" + task.encode()


def chain_keys(partition: int, payloads: Iterable[bytes], scratch: Scratch) -> Iterator[Element]:
    """Link the documents that share keys in a partition."""
    blobs = Parcels(scratch, payloads)
    forest = forests.chain(blobs, blobs.n_bytes // keys.KEY_BYTES)
    yield from scratch.ship(f"dedup-forest-{partition}", [(partition // _FAN_IN, forest.pack())])


def merge_forests(group: int, payloads: Iterable[bytes], scratch: Scratch) -> Iterator[Element]:
    """Merge the forests of some partitions."""
    forest = forests.merge(_Forests(scratch, payloads))
    yield from scratch.ship(f"dedup-merged-{group}", [(0, forest.pack())])


def components(_: int, payloads: Iterable[bytes], scratch: Scratch) -> Iterator[Element]:
    """Find the raw components.

    Yields:
        (key of a unit, packed documents and the smallest document of each one's component).
    """
    docs, roots = forests.merge(_Forests(scratch, payloads))
    smallest = docs[roots]
    blobs = (
        (_unit_key(unit), np.stack([docs[mine], smallest[mine]]).tobytes())
        for unit, mine in _stretches(docs >> np.uint64(32))
    )
    yield from scratch.ship("dedup-components", blobs)


def collect(key: int, payloads: Iterable[bytes], scratch: Scratch) -> Iterator[Element]:
    """Send the members of a unit to where their components are decided.

    Yields:
        (partition, packed members) and the task.
    """
    task, arrays = of_unit(payloads, scratch)
    for array in arrays:
        docs, roots = np.frombuffer(array, np.uint64).reshape(2, -1)
        batch = _members(task, docs, roots, scratch)
        partition = members.partition_of(roots, task.spec["component_partitions"])
        order = np.argsort(partition, kind="stable")
        batch, partition = batch.take(pa.array(order)), partition[order]
        width = batch.schema.field("sig8").type.byte_width
        head = json.dumps({"dedup": task.spec["dedup"], "width": width}).encode() + b"\n"
        blobs = ((number, head + _pack(batch, mine)) for number, mine in _stretches(partition))
        yield from scratch.ship(f"dedup-members-{task.unit}", blobs)
    yield key, b"T" + task.encode()


def decide(partition: int, payloads: Iterable[bytes], scratch: Scratch) -> Iterator[Element]:
    """Run the cascade over all members of some components.

    Yields:
        (key of a unit, packed decisions).
    """
    batches = []
    for blob in Parcels(scratch, set(payloads)):
        head, _, body = blob.partition(b"\n")
        settings = json.loads(head)
        batches.append(pa.ipc.read_record_batch(pa.py_buffer(body), member_schema(settings["width"])))
    batch = one_batch(members.decide(pa.Table.from_batches(batches), _policy(settings["dedup"])))
    blobs = ((_unit_key(unit), _pack(batch, mine)) for unit, mine in _stretches(batch.column("unit").to_numpy()))
    yield from scratch.ship(f"dedup-decisions-{partition}", blobs)


STEPS: dict[str, Callable[[int, Iterable[bytes], Scratch], Iterator[Element]]] = {
    "chain": chain_keys,
    "merge": merge_forests,
    "components": components,
    "collect": collect,
    "decide": decide,
}
"""What follows `map_keys`, each step after a grouping by key."""


def do_step(name: str, key: int, payloads: Iterable[bytes], scratch: Scratch) -> Iterator[Element]:
    """Do a step for one key, unless tasks pass it by."""
    if key < 0 and STEPS[name] is not collect:
        return ((key, payload) for payload in payloads)
    return STEPS[name](key, payloads, scratch)


def decisions(parts: Iterable[bytes]) -> pa.Table:
    """What was decided about a unit: rows of `DECISION`, sorted by row."""
    batches = [pa.ipc.read_record_batch(pa.py_buffer(part), DECISION) for part in parts]
    return pa.Table.from_batches(batches, DECISION).sort_by("row")


def of_unit(payloads: Iterable[bytes], scratch: Scratch) -> tuple[Task, Parcels]:
    """The task of a unit, and what else has come for it."""
    unique = set(payloads)
    task = next(payload for payload in unique if payload[:1] == b"T")
    return Task.decode(task[1:]), Parcels(scratch, unique - {task})


class _Forests(Parcels):
    """Forests instead of bytes."""

    def __iter__(self) -> Iterator[Forest]:  # type: ignore[override]
        return map(Forest.unpack, map(self.scratch.read, self.payloads))


def _unit_key(number: int) -> int:
    return -1 - number


def _stretches(numbers: NDArray[np.integer]) -> Iterator[tuple[int, slice]]:
    """Each number of a sorted array, and where it stands."""
    bounds = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1), numbers.size]
    for start, end in itertools.pairwise(bounds):
        if start < end:
            yield int(numbers[start]), slice(start, end)


def _pack(batch: pa.RecordBatch, mine: slice) -> bytes:
    """Some rows, to be read with the schema."""
    packed: bytes = batch.slice(mine.start, mine.stop - mine.start).serialize().to_pybytes()
    return packed


def _members(task: Task, docs: NDArray[np.uint64], roots: NDArray[np.uint64], scratch: Scratch) -> pa.RecordBatch:
    """The members of raw components that lie in one unit, rows of `member_schema`."""
    spec, files = task.spec, scratch.files
    names = ["id", "row", "url_key", "text_key", "n_chars", "date", *(["sig8"] if _step(spec, "minhash") else [])]
    table = read_table(files, f"signatures/{task.unit}.parquet", SIGNATURE, names)
    _, rows = keys.unit_and_row(docs)
    wanted = rows.astype(np.int64)
    table = table.take(np.searchsorted(table.column("row").to_numpy(), wanted))
    quality = pa.nulls(len(wanted), pa.float64())
    signal = "none" if spec["dedup"] is None else spec["dedup"]["quality"]
    if signal != "none":
        quality = read_table(files, f"refined/{task.unit}.parquet", REFINED, [signal]).column(signal).take(wanted)
    columns = {name: table.column(name) for name in table.schema.names if name != "row"} | {
        "doc": pa.array(docs),
        "component": pa.array(roots),
        "quality": pc.cast(quality, pa.float64()),
        "priority": pa.repeat(pa.scalar(spec["priority"], pa.int32()), len(wanted)),
    }
    columns.setdefault("sig8", pa.nulls(len(wanted), pa.binary(1)))
    schema = member_schema(columns["sig8"].type.byte_width)
    return one_batch(pa.table(columns).select(schema.names).cast(schema))


def _policy(dedup: dict[str, Any] | None) -> CascadePolicy:
    if dedup is None:
        return CascadePolicy(url="none", exact=False, near=None)
    near = None if dedup["minhash"] == "none" else dedup["minhash"]["threshold"]
    return CascadePolicy(url=dedup["url"], exact=dedup["exact"], near=near)


def _step(spec: dict[str, Any], name: str) -> bool:
    return spec["dedup"] is not None and spec["dedup"][name] not in ("none", False)
