"""Keys of documents packed for the shuffle: 12 bytes a key, all kinds in one stream.

Documents that share a key are candidates of one another. Keys travel as packed arrays, one blob a partition
of a unit, which was 11 times faster through Beam than one element a key.

Whatever a key is, it is mixed with its kind into 64 bits. Among 10^10 keys about three pairs of different ones become
equal, which costs no more than a comparison: `cascade` sees the whole keys.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpusmill.pipeline.stages.shingles import mix64

KEY_BYTES = 12
"""Of a packed key: its 64 bits, and the row of its document."""

_HEADER = np.dtype([("unit", "<u4"), ("n_rows", "<u4")])


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
        keys: integer arrays [N]; rows that agree in all of them are a group.
        ranks: arrays [N], most significant first; they say which row of a group is first.

    Returns:
        intp[N]: row numbers; a row is the first of its group exactly where `heads[i] == i`.
    """
    mixed = np.zeros(keys[0].size, np.uint64)
    for key in keys:
        mixed = mix64(mixed ^ key.astype(np.uint64))
    rows, _ = repeated(mixed)  # most rows are alone, and need no sort by all of the arrays
    order = rows[np.lexsort([array[rows] for array in (*reversed(ranks), *reversed(keys))])]
    begins = np.zeros(order.size, bool)
    begins[:1] = True
    for key in keys:
        begins[1:] |= key[order[1:]] != key[order[:-1]]
    result = np.arange(keys[0].size)
    result[order] = order[np.maximum.accumulate(np.where(begins, np.arange(order.size), 0))]
    return result


def repeated(keys: NDArray[np.uint64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The places of keys that are there more than once, equal ones together, and where each set of them begins.

    The sort is of one array, twice as fast as one that moves two: the number of the place takes the lowest bits of the
    key. What these hid is sorted again, among the few whose other bits are equal.
    """
    mask = np.uint64((1 << keys.size.bit_length()) - 1)
    ordered = np.sort((keys & ~mask) | np.arange(keys.size, dtype=np.uint64))
    places = (ordered[_any_more(begins_of(ordered & ~mask))] & mask).astype(np.intp)
    values = keys[places]
    if (values[1:] < values[:-1]).any():
        order = np.argsort(values, kind="stable")
        places, values = places[order], values[order]
    begins = begins_of(values)
    mine = _any_more(begins)
    return places[mine], begins[mine]


def begins_of(ordered: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Which elements of a sorted array differ from the one before."""
    begins = np.ones(ordered.size, bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    return begins


def _any_more(begins: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which elements of a sorted array are there more than once."""
    repeated: NDArray[np.bool_] = ~(begins & np.append(begins, True)[1:])
    return repeated


def pack(
    rows: NDArray[np.integer],
    *,
    ids: pa.Array | None = None,
    urls: pa.Array | None = None,
    texts: pa.Array | None = None,
    bands: NDArray[np.uint64] | None = None,
    shingled: NDArray[np.bool_] | None = None,
) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """The keys of N documents of a unit; a kind that is not given is left out, so are null keys.

    Args:
        rows: their rows in the unit, 0 to 2^32 - 1, [N].
        ids: fixed_size_binary(16)[N], record ids.
        urls: fixed_size_binary(16)[N], as `signatures.url_keys` makes them.
        texts: fixed_size_binary(16)[N], as `signatures.text_keys` makes them.
        bands: uint64[N, B], as `signatures.band_keys` makes them.
        shingled: bool[N], which documents the bands speak for; all, if not given.

    Returns:
        Keys, evenly spread over 64 bits (uint64[M], at most N * (3 + B)), and the row of each (uint32[M]).
    """
    rows = rows.astype(np.uint32)
    keys, owners = [np.empty(0, np.uint64)], [np.empty(0, np.uint32)]
    for kind, values in enumerate((ids, urls, texts)):
        if values is not None:
            valid = values.is_valid().to_numpy(zero_copy_only=False)
            hi, lo = halves(values)
            keys.append(_mixed(kind, hi[valid], lo[valid]))
            owners.append(rows[valid])
    if bands is not None:
        if shingled is not None:
            rows, bands = rows[shingled], bands[shingled]
        numbers = np.arange(bands.shape[1], dtype=np.uint64)
        keys.append(_mixed(3, bands, numbers).ravel())
        owners.append(np.repeat(rows, bands.shape[1]))
    return np.concatenate(keys), np.concatenate(owners)


def _mixed(kind: int, hi: NDArray[np.uint64], lo: NDArray[np.uint64]) -> NDArray[np.uint64]:
    salt = mix64(np.array([kind + 1], np.uint64))
    return mix64(mix64(salt + lo) ^ hi)


def split_by_partition(
    unit: int, keys: NDArray[np.uint64], rows: NDArray[np.uint32], n_partitions: int
) -> list[tuple[int, bytes]]:
    """Splits the keys of a unit so that equal ones meet in one partition, whichever unit they come from.

    Args:
        unit: number of the unit in the plan, 0 to 2^32 - 1.
        keys: uint64[M].
        rows: uint32[M].
        n_partitions: 1 to 65,536; all calls of a run use the same.

    Returns:
        (partition, packed keys) for each partition that has any, by partition; `unpack` reads them.

    Raises:
        ValueError: `n_partitions` is out of range.
    """
    if not 1 <= n_partitions <= 1 << 16:
        raise ValueError(f"n_partitions is {n_partitions}, expected 1 to 65,536")
    partition = (((keys >> np.uint64(32)) * np.uint64(n_partitions)) >> np.uint64(32)).astype(np.uint16)
    order = np.argsort(partition, kind="stable")
    keys, rows = keys[order], rows[order]
    ends = np.cumsum(np.bincount(partition, minlength=n_partitions))
    blobs = []
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if start < end:
            header = np.array((unit, end - start), _HEADER)
            blobs.append((number, header.tobytes() + keys[start:end].tobytes() + rows[start:end].tobytes()))
    return blobs


def unpack(blob: bytes) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Keys (uint64[M]) and document numbers (uint64[M]) of what `split_by_partition` packed."""
    header = np.frombuffer(blob, _HEADER, 1)[0]
    n_rows = int(header["n_rows"])
    keys = np.frombuffer(blob, np.uint64, n_rows, _HEADER.itemsize)
    rows = np.frombuffer(blob, np.uint32, n_rows, _HEADER.itemsize + keys.nbytes)
    return keys, doc_numbers(int(header["unit"]), rows)
