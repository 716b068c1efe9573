"""The kernel on whatever Arrow hands it: slices, nulls, both widths of offsets, any length, bytes that are no text."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.stages import minhash
from corpusmill.pipeline.stages.shingles import character_table
from tests.pipeline.stages.alphabet import texts
from tests.reference import shingles as reference

TABLE = character_table()
PERMUTATIONS = MinHash(12, seed=1, scheme="affine32").permutations
SLICED = [
    "skip 😀 this",
    "𠀀𠀁𠀂𠀃𠀄 four bytes each 😀😀",
    None,
    "",
    "短文",
    "one two three four five six",
    "skip this, too",
]


def shingles(texts: pa.Array, ngram: int = 5) -> list[list[int]]:
    """The shingle hashes of each document."""
    values, offsets = minhash.shingles(texts, TABLE.shingle, ngram)
    assert values.dtype == np.uint32 and offsets.dtype == np.int64
    assert offsets.size == len(texts) + 1 and values.size == offsets[-1]
    return [values[begin:end].tolist() for begin, end in pairwise(offsets)]


def sign(texts: pa.Array, ngram: int = 5) -> np.ndarray:
    return minhash.sign(texts, TABLE.shingle, ngram, PERMUTATIONS)


def token_codes(texts: pa.Array) -> list[list[int]]:
    """The pieces of each document, put together."""
    documents: list[list[int]] = [[]]
    for codes, ends in minhash.token_codes(texts, TABLE.exact):
        assert codes.size or ends
        documents[-1].extend(codes.tolist())
        documents += [[]] * ends
    assert documents.pop() == []
    return documents


def array_of(*data: bytes) -> pa.Array:
    """A string array of bytes that need not be UTF-8."""
    offsets = np.cumsum([0, *map(len, data)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(data), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(data))])


@settings(deadline=None, max_examples=150)
@given(st.lists(texts, max_size=5), st.integers(1, 7), st.integers(1, 9))
def test_the_size_of_the_work_arrays_shows_nowhere(documents: list[str], ngram: int, size: int) -> None:
    """A chunk may end in a token, in a shingle, in a run of characters that are skipped, at the end of a text."""
    column = pa.array(documents, pa.string())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(minhash, "_CHUNK", size)
        patch.setattr(minhash, "_STREAM", size)
        assert shingles(column, ngram) == [reference.shingles(text, ngram) for text in documents]
        assert token_codes(column) == [reference.marked_codes(text, exact=True) for text in documents]
        signed = sign(column, ngram)
    assert (signed == sign(column, ngram)).all()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_slices_with_nulls_of_both_kinds_of_strings(kind: pa.DataType) -> None:
    values = SLICED[1:-1]
    column = pa.array(SLICED, kind)[1:-1]
    assert shingles(column) == [reference.shingles(text or "", 5) for text in values]
    assert token_codes(column) == [reference.marked_codes(text or "", exact=True) for text in values]
    assert (sign(column) == np.concatenate([sign(pa.array([value], kind)) for value in values])).all()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_no_documents(kind: pa.DataType) -> None:
    for column in (pa.array([], kind), pa.array(["text"], kind)[1:], pa.nulls(2, kind)[:0]):
        assert shingles(column) == [] and token_codes(column) == [] and sign(column).shape == (0, 12)


def test_nothing_is_what_a_null_holds_whatever_lies_beneath() -> None:
    beneath = pa.array(["one two", "three four", "five six"])
    validity = pa.array([True, False, True]).buffers()[1]
    column = pa.Array.from_buffers(pa.string(), 3, [validity, *beneath.buffers()[1:]])
    assert column.to_pylist() == ["one two", None, "five six"]
    assert [len(found) for found in shingles(column)] == [1, 0, 1]
    assert [len(found) for found in token_codes(column)] == [6, 0, 7]
    assert (sign(column)[1] == minhash.NO_VALUE).all()


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=12), st.sampled_from([b"", b"a", b"\x80\x80\x80", "漢".encode()]))
def test_bytes_that_are_no_text_stay_within_their_document(data: bytes, other: bytes) -> None:
    """No byte of a neighbour is read, and no entry beyond the table: the result would depend on them."""
    alone, beside = array_of(data), array_of(other, data, other)
    assert shingles(beside)[1:2] == shingles(alone)
    assert token_codes(beside)[1:2] == token_codes(alone)


def test_a_long_document_is_cut_where_a_chunk_ends() -> None:
    text = "漢字 and words 😀 " * 2000
    assert shingles(pa.array([text])) == [reference.shingles(text, 5)]


@pytest.mark.parametrize("column", [pa.array([b"bytes"]), pa.array([1]), pa.array(["a"]).dictionary_encode()])
def test_other_arrays_are_refused(column: pa.Array) -> None:
    with pytest.raises(TypeError, match=r"expected string or large_string"):
        sign(column)


def test_threads_share_nothing() -> None:
    columns = [pa.array([f"{start} {text}" for text in SLICED]) for start in range(16)]
    with ThreadPoolExecutor(4) as pool:
        assert all((one == other).all() for one, other in zip(pool.map(sign, columns), map(sign, columns), strict=True))


def test_every_input_runs_the_same_machine_code() -> None:
    """Another type of argument, such as an array that cannot be written, would cost seconds of compilation."""
    code = pa.array([None, *SLICED])
    for column in (code, code.cast(pa.large_string()), code[:0], pc.utf8_upper(code)):
        sign(column), shingles(column), token_codes(column)
    assert [len(f.signatures) for f in (minhash._sign, minhash._list_shingles, minhash._fill)] == [1, 1, 1]


CALL = """
import sys
import pyarrow as pa
from corpusmill.pipeline.stages import minhash
from corpusmill.pipeline.stages.shingles import character_table
from datasketch import MinHash
texts, table = pa.array(["text"]), character_table().shingle
kernels = {
    "_sign": lambda: minhash.sign(texts, table, 5, MinHash(12, scheme="affine32").permutations),
    "_list_shingles": lambda: minhash.shingles(texts, table, 5),
}
kernels[sys.argv[1]]()
stats = getattr(minhash, sys.argv[1]).stats
print(len(stats.cache_hits), len(stats.cache_misses))
"""


def test_the_next_process_finds_the_machine_code_whichever_kernels_were_called_before(tmp_path: Path) -> None:
    found = []
    for kernel in ("_sign", "_list_shingles", "_sign", "_list_shingles"):
        command = ["env", f"NUMBA_CACHE_DIR={tmp_path}", sys.executable, "-c", CALL, kernel]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert found == [["0", "1"], ["0", "1"], ["1", "0"], ["1", "0"]]
