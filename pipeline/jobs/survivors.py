"""The documents of a unit that end in a split, with the text as the edits left it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from corpusmill.pipeline.jobs.dedup import split_of
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import ROW_GROUP, read_table
from corpusmill.schemas.tables import CLUSTER, DOCUMENT, DUPLICATE, REFINED, VERDICT

__all__ = ["read_survivors"]


def read_survivors(
    files: Files,
    unit: str,
    row_groups: Sequence[int],
    split: str,
    splits: Mapping[str, float],
    columns: Sequence[str],
    signal: str | None = None,
) -> pa.Table:
    """Survivors of a split in some row groups of a unit, in row order.

    Args:
        files: the run folder.
        unit: its name.
        row_groups: numbers of row groups of `documents/`.
        split: train, validation or test.
        splits: held-out shares by split.
        columns: of `tables.DOCUMENT`, `text` and `n_bytes` taken after the edits.
        signal: raw signal to add as `quality` (float64); None adds nulls.

    Returns:
        `columns`, then `cluster_size` (int64) and `quality`.
    """
    wanted = [name for name in columns if name != "n_bytes"]
    rows = np.concatenate([np.arange(g * ROW_GROUP, (g + 1) * ROW_GROUP) for g in row_groups])
    documents = read_table(files, f"documents/{unit}.parquet", DOCUMENT, ["id", *wanted], row_groups)
    rows = rows[: documents.num_rows]  # only a unit's last row group is short, and it comes last
    refined_names = ["n_bytes", *(["text"] if "text" in wanted else []), *([signal] if signal else [])]
    refined = read_table(files, f"refined/{unit}.parquet", REFINED, refined_names, row_groups)
    verdicts = read_table(files, f"verdicts/{unit}.parquet", VERDICT, ["keep"], row_groups)
    copies = read_table(files, f"duplicates/{unit}.parquet", DUPLICATE, ["row"])
    clusters = read_table(files, f"clusters/{unit}.parquet", CLUSTER, ["row", "component", "cluster_size"])

    component = documents.column("id").to_pylist()
    cluster_size = np.ones(len(rows), np.int64)
    position = {int(row): i for i, row in enumerate(rows)}
    for item in clusters.to_pylist():
        if (i := position.get(item["row"])) is not None:
            component[i], cluster_size[i] = item["component"], item["cluster_size"]
    alive = verdicts.column("keep").to_numpy() & ~np.isin(rows, copies.column("row").to_numpy())
    mine = np.array(
        [bool(a) and split_of(c, dict(splits)) == split for a, c in zip(alive, component, strict=True)], bool
    )

    table = documents.append_column("cluster_size", pa.array(cluster_size))
    quality = refined.column(signal).cast(pa.float64()) if signal else pa.nulls(len(rows), pa.float64())
    table = table.append_column("quality", quality).append_column("n_bytes", refined.column("n_bytes"))
    if "text" in wanted:
        text = pc.coalesce(refined.column("text"), documents.column("text"))
        table = table.set_column(table.schema.get_field_index("text"), "text", text)
    return table.filter(pa.array(mine)).select([*columns, "cluster_size", "quality"])
