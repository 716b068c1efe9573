"""Keys of documents packed for the shuffle: 25 bytes a key, all kinds in one stream.

Documents that share a key are candidates of one another. Keys travel as packed arrays, one blob a partition
of a unit, which was 11 times faster through Beam than one element a key.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpusmill.pipeline.stages.shingles import mix64

KINDS = ("id", "url", "exact", "near")
"""Names of the kinds of key; a row's `kind` is the position here."""

KEY_ROW = np.dtype([("kind", "u1"), ("hi", "<u8"), ("lo", "<u8"), ("doc", "<u8")])
"""One key of one document: kind, 128-bit key, document number. Packed, little-endian."""


def doc_numbers(unit: int, rows: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Document numbers (unit << 32) | row; they order documents by unit, then row.

    Args:
        unit: number of the unit in the plan, 0 to 2^32 - 1.
        rows: rows within the unit, 0 to 2^32 - 1, any integer dtype, [N].
    """
    return np.uint64(unit << 32) | rows.astype(np.uint64)


def unit_and_row(docs: NDArray[np.uint64]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The inverse of `doc_numbers`: unit and row of each document number."""
    return (docs >> np.uint64(32)).astype(np.uint32), docs.astype(np.uint32)


def byte_rows(values: pa.Array) -> NDArray[np.uint8]:
    """The bytes of a fixed_size_binary(W) array as uint8[N, W], not copied; those of a null are arbitrary."""
    width = values.type.byte_width
    data = np.frombuffer(values.buffers()[1] or b"", np.uint8)
    return data[values.offset * width : (values.offset + len(values)) * width].reshape(-1, width)


def halves(keys: pa.Array) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """A fixed_size_binary(16)[N] array as two uint64[N] (hi, lo) that sort as the bytes do."""
    pair = byte_rows(keys).view(">u8").astype(np.uint64)
    return pair[:, 0], pair[:, 1]


def heads(keys: Sequence[NDArray], ranks: Sequence[NDArray]) -> NDArray[np.intp]:
    """For each row, the first row of its group.

    Args:
        keys: arrays [N]; rows that agree in all of them are a group.
        ranks: arrays [N], most significant first; they say which row of a group is first.

    Returns:
        intp[N]: row numbers; a row is the first of its group exactly where `heads[i] == i`.
    """
    order = np.lexsort((*reversed(ranks), *reversed(keys)))
    begins = np.zeros(order.size, bool)
    begins[:1] = True
    for key in keys:
        ordered = key[order]
        begins[1:] |= ordered[1:] != ordered[:-1]
    first = np.maximum.accumulate(np.where(begins, np.arange(order.size), 0))
    result = np.empty(order.size, np.intp)
    result[order] = order[first]
    return result


def _rows(kind: str, hi: NDArray[np.uint64], lo: NDArray[np.uint64], docs: NDArray[np.uint64]) -> NDArray[np.void]:
    rows = np.empty(docs.size, KEY_ROW)
    rows["kind"], rows["hi"], rows["lo"], rows["doc"] = KINDS.index(kind), hi, lo, docs
    return rows


def pack(
    docs: NDArray[np.uint64],
    *,
    ids: pa.Array | None = None,
    urls: pa.Array | None = None,
    texts: pa.Array | None = None,
    bands: NDArray[np.uint64] | None = None,
    shingled: NDArray[np.bool_] | None = None,
) -> NDArray[np.void]:
    """The key rows of N documents; a kind that is not given is left out, so are null keys.

    Args:
        docs: uint64[N] document numbers.
        ids: fixed_size_binary(16)[N], record ids.
        urls: fixed_size_binary(16)[N], as `signatures.url_keys` makes them.
        texts: fixed_size_binary(16)[N], as `signatures.text_keys` makes them.
        bands: uint64[N, B], as `signatures.band_keys` makes them.
        shingled: bool[N], which documents the bands speak for; all, if not given.

    Returns:
        `KEY_ROW`[M], at most N * (3 + B).
    """
    parts = [np.empty(0, KEY_ROW)]
    for kind, keys in (("id", ids), ("url", urls), ("exact", texts)):
        if keys is not None:
            valid = keys.is_valid().to_numpy(zero_copy_only=False)
            hi, lo = halves(keys)
            parts.append(_rows(kind, hi[valid], lo[valid], docs[valid]))
    if bands is not None:
        if shingled is not None:
            docs, bands = docs[shingled], bands[shingled]
        numbers = np.tile(np.arange(bands.shape[1], dtype=np.uint64), docs.size)
        parts.append(_rows("near", bands.ravel(), numbers, np.repeat(docs, bands.shape[1])))
    return np.concatenate(parts)


def split_by_partition(rows: NDArray[np.void], n_partitions: int) -> list[tuple[int, bytes]]:
    """Splits key rows so that equal keys meet in one partition, whichever call they come from.

    Args:
        rows: `KEY_ROW`[M].
        n_partitions: 1 to 2^32; all calls of a run use the same.

    Returns:
        (partition, packed rows) for each partition that has rows, by partition.

    Raises:
        ValueError: `n_partitions` is out of range.
    """
    if not 1 <= n_partitions <= 2**32:
        raise ValueError(f"n_partitions is {n_partitions}, expected 1 to 2^32")
    mixed = mix64(mix64(rows["lo"] + rows["kind"]) ^ rows["hi"])
    partition = ((mixed >> np.uint64(32)) * np.uint64(n_partitions)) >> np.uint64(32)
    rows = rows[np.argsort(partition, kind="stable")]
    numbers, counts = np.unique(partition, return_counts=True)
    ends = np.cumsum(counts)
    return [
        (int(number), rows[end - count : end].tobytes())
        for number, count, end in zip(numbers, counts, ends, strict=True)
    ]
