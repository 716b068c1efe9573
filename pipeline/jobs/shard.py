"""shard: survivors of a fixed set of units, tokenized, in the order of a hash of their ids, as one Parquet file."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from tokenizers import Tokenizer

from corpusmill.pipeline.jobs.base import RunState, Stopwatch, Task, fingerprint, outputs
from corpusmill.pipeline.jobs.survivors import read_survivors
from corpusmill.pipeline.jobs.tokenizer import TOKENIZER
from corpusmill.pipeline.packing import pack
from corpusmill.schemas.files import Files
from corpusmill.schemas.manifest import totals_by
from corpusmill.schemas.tables import SHARD, token_type
from corpusmill.schemas.tokens import from_json

__all__ = ["DATASET", "Shard", "encode", "id_sum"]

STAGE_VERSION = 1
LIBRARIES = ("tokenizers", "pyarrow", "xxhash")
DATASET = "dataset"

_ROW_GROUP = 1024
_ENCODE_ROWS = 256
_GENERATION = 0


def encode(tokenizer: Tokenizer, texts: pa.Array, kind: pa.DataType) -> pa.ListArray:
    """Token ids of texts (string[N] -> list<kind>[N]): the text only, no special token is ever added or produced."""
    dtype = np.uint16 if pa.types.is_uint16(kind) else np.uint32
    offsets = [0]
    flat: list[np.ndarray] = []
    for start in range(0, len(texts), _ENCODE_ROWS):
        piece = texts.slice(start, _ENCODE_ROWS).to_pylist()
        for encoding in tokenizer.encode_batch_fast(piece, add_special_tokens=False):
            flat.append(np.array(encoding.ids, dtype))
            offsets.append(offsets[-1] + len(flat[-1]))
    values = np.concatenate(flat) if flat else np.empty(0, dtype)
    item = pa.field("element", kind, nullable=False)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values, kind), type=pa.list_(item))


def id_sum(ids: pa.Array | pa.ChunkedArray) -> str:
    """A digest of a set of ids that does not depend on their order: their sum modulo 2^128, 32 hex digits."""
    return f"{sum(int(value, 16) for value in ids.to_pylist()) % (1 << 128):032x}"


class Shard:
    """One task a shard; `dataset/data/`."""

    name = "shard"
    heavy = False  # the tokenizer has threads of its own
    folders: tuple[str, ...] = (f"{DATASET}/data",)

    def tasks(self, run: RunState) -> list[Task]:
        """Tasks in the order of the dataset; a shard depends on its own units and the tokenizer only."""
        recipe = run.recipe
        tokenizer = run.commits["tokenizer"]["tokenizer"]
        survivors = {unit: commit.detail["survivors"] for unit, commit in run.commits["dedup"].items()}
        signal = None if recipe.dedup == "none" or recipe.dedup.quality == "none" else recipe.dedup.quality
        values = {"text": recipe.shards.text, "splits": recipe.shards.splits, "signal": signal}
        tasks = []
        for plan in pack(survivors, recipe.shards.target_bytes, _GENERATION):
            units = [unit for unit, _ in plan.pieces]
            inputs = [[run.commits[job][unit].digest for job in ("extract", "refine", "dedup")] for unit in units]
            mark = fingerprint(
                self.name, STAGE_VERSION, [values, plan.name, plan.pieces], [tokenizer.digest, inputs], LIBRARIES
            )
            spec = values | {
                "name": plan.name,
                "split": plan.split,
                "generation": plan.generation,
                "pieces": plan.pieces,
                "tokenizer": {key: tokenizer.detail[key] for key in ("sha256", "vocab_size")},
            }
            n_bytes = sum(survivors[unit][plan.split][group] for unit, groups in plan.pieces for group in groups)
            unit_name = plan.name.removeprefix("data/").removesuffix(".parquet")
            tasks.append(Task(job=self.name, unit=unit_name, fingerprint=mark, spec=spec, cost=n_bytes * 0.7e-6))
        return tasks

    def work(self, task: Task, files: Files, watch: Stopwatch) -> None:
        """Read, tokenize, order, write, commit; memory is one shard."""
        spec = task.spec
        with watch("read"):
            tokenizer = from_json(files.read_bytes(TOKENIZER))
            rows = pa.concat_tables(self._pieces(spec, files))
            keys = np.array([xxhash.xxh3_64_intdigest(i.encode()) for i in rows.column("id").to_pylist()], np.uint64)
            rows = rows.take(np.argsort(keys, kind="stable")).combine_chunks()
        kind = token_type(spec["tokenizer"]["vocab_size"])
        with watch("tokenize"):
            text = rows.column("text").combine_chunks()
            ids = encode(tokenizer, text, kind)
        rows = rows.append_column("input_ids", ids)
        rows = rows.append_column("n_tokens", pc.list_value_length(ids).cast(pa.int64()))
        extra = [pa.field("input_ids", ids.type, nullable=False)]
        if spec["text"]:
            extra.append(pa.field("text", pa.string(), nullable=False))
        metadata = {f"corpusmill.tokenizer.{key}": str(value) for key, value in spec["tokenizer"].items()}
        detail = {
            "name": spec["name"],
            "split": spec["split"],
            "generation": spec["generation"],
            "row_groups": [
                {"rows": part.num_rows, "tokens": pc.sum(part.column("n_tokens")).as_py()}
                for part in (rows.slice(i, _ROW_GROUP) for i in range(0, rows.num_rows, _ROW_GROUP))
            ],
            "languages": totals_by(rows, "language"),
            "sources": totals_by(rows, "source"),
            "id_sum": id_sum(rows.column("id")),
        }
        counts = {
            "rows": rows.num_rows,
            "tokens": pc.sum(rows.column("n_tokens")).as_py(),
            "text_bytes": pc.sum(rows.column("n_bytes")).as_py(),
        }
        with outputs(files, self.name, task.unit, watch) as out:
            writer = out.table(
                f"{DATASET}/{spec['name']}",
                SHARD,
                extra=pa.schema(extra),
                metadata=metadata,
                row_group=_ROW_GROUP,
                use_dictionary=["source", "language", "file_path", "date"],
                column_encoding={"input_ids.list.element": "BYTE_STREAM_SPLIT"},
            )
            with watch("write"):
                writer.write(rows)
            out.commit(task.fingerprint, counts, detail)

    def _pieces(self, spec: dict[str, Any], files: Files) -> Iterator[pa.Table]:
        derived = ("n_tokens", "cluster_size", "quality")
        columns = [name for name in SHARD.columns.names if name not in derived]
        for unit, groups in spec["pieces"]:
            yield read_survivors(files, unit, groups, spec["split"], spec["splits"], [*columns, "text"], spec["signal"])
