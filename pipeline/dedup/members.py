"""Members of raw components on their way to `cascade`, and what it decided on the way back."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpusmill.pipeline.dedup import cascade
from corpusmill.pipeline.dedup.cascade import CascadePolicy
from corpusmill.pipeline.dedup.keys import halves, heads, unit_and_row
from corpusmill.pipeline.stages.shingles import mix64
from corpusmill.schemas.tables import DATE

__all__ = ["DECISION", "decide", "member_schema", "partition_of"]

DECISION = pa.schema(
    [
        ("unit", pa.uint32()),
        ("row", pa.int64()),
        ("component", pa.binary(16)),
        ("duplicate_of", pa.binary(16)),
        ("kind", pa.string()),
        ("jaccard", pa.float64()),
        ("cluster_size", pa.int64()),
    ]
)
"""What is decided about one member: number of its unit, row, smallest id of the component, and as `cascade.resolve`."""


def member_schema(width: int) -> pa.Schema:
    """What `cascade.resolve` wants to know about a document; `width` is the length of a signature in bytes."""
    return pa.schema(
        [
            ("doc", pa.uint64()),
            ("component", pa.uint64()),
            ("id", pa.binary(16)),
            ("url_key", pa.binary(16)),
            ("text_key", pa.binary(16)),
            ("sig8", pa.binary(width)),
            ("quality", pa.float64()),
            ("n_chars", pa.int64()),
            ("priority", pa.int32()),
            ("date", DATE),
        ]
    )


def partition_of(components: NDArray[np.uint64], n_partitions: int) -> NDArray[np.uint16]:
    """In which of 1 to 65,536 partitions each component is decided."""
    return ((mix64(components) >> np.uint64(32)) * np.uint64(n_partitions) >> np.uint64(32)).astype(np.uint16)


def decide(members: pa.Table, policy: CascadePolicy) -> pa.Table:
    """Runs the cascade.

    Args:
        members: rows of `member_schema`, all members of the components that they are in, in any order.
        policy: which steps run.

    Returns:
        Rows of `DECISION`, sorted by unit, then row.
    """
    members = members.combine_chunks().sort_by("doc")  # a sort of many chunks is slow
    resolved = cascade.resolve(members, policy)
    docs = members["doc"].to_numpy()
    ids = members["id"].combine_chunks()
    smallest = heads([members["component"].to_numpy()], list(halves(ids)))
    winner = resolved["duplicate_of"].combine_chunks()
    position = np.searchsorted(docs, winner.fill_null(0).to_numpy())
    unit, row = unit_and_row(docs)
    columns = {
        "unit": unit,
        "row": row,
        "component": ids.take(pa.array(smallest)),
        "duplicate_of": ids.take(pa.array(position, mask=winner.is_null().to_numpy(zero_copy_only=False))),
    }
    columns |= {name: resolved[name] for name in ("kind", "jaccard", "cluster_size")}
    return pa.table(columns).cast(DECISION)
