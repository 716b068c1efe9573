"""The kernel of deduplication: Arrow's UTF-8 bytes to tokens, shingles and MinHash signatures.

Texts flow through work arrays of fixed size, a kilobyte at a time, each step a plain loop over one array:

1. `_read`     bytes -> normalised code points, each marked where it begins a token
2. `_tokenise` code points -> a 64-bit hash a token
3. `_roll`     token hashes -> a 32-bit hash a shingle
4. `_permute`  shingle hashes -> the least value of each permutation

No Python object is made a document or a shingle, the interpreter is free meanwhile, and a document takes the same
memory however long it is. tests/reference/shingles.py says the same in plain Python.

All compiled functions stand in this file: numba's cache of machine code notices no edits elsewhere. Indices in the
innermost loops are unsigned because numba looks whether a signed one counts from the end, which costs 5 %.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from corpusmill.pipeline.compiled import compiled, compiled_generator

__all__ = ["NO_VALUE", "SEPARATOR", "SKIP", "SOLO", "shingles", "sign", "token_codes"]

# Entries of a character table: a normalised code point (21 bits), marked when it is a token of its own.
SEPARATOR = 0
SKIP = 1 << 30
SOLO = 1 << 31

NO_VALUE = 0xFFFFFFFF
"""What each place holds in the signature of a document without shingles, as in datasketch."""

_CHUNK = 1024  # bytes of text that go through the work arrays at a time; these take 44 kB and stay in a core's caches
_STREAM = 1 << 18  # codes in the array of `token_codes`, 1 MB

_CODE = np.uint32((1 << 21) - 1)
_TOP = np.uint32(31)
_SIX, _CONTINUED = np.uint32(6), np.uint32(0x3F)
_TOKEN_BASE = np.uint64(0x9E3779B97F4A7C15)
_TOKEN_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
_SHINGLE_BASE = np.uint64(0xD6E8FEB86659FD93)

_Bytes = NDArray[np.uint8]
_Ints = NDArray[np.int64]
_U32 = NDArray[np.uint32]
_U64 = NDArray[np.uint64]
_Work = tuple[_U32, _U64, _U32, _U64, _U64]


@compiled
def _mix64(x: Any) -> Any:
    """The splitmix64 finaliser of one number, as `shingles.mix64` is of arrays."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@compiled
def _fmix32(x: Any) -> Any:
    """MurmurHash3's finaliser of a 32-bit number, with which datasketch mixes hashes before it permutes them."""
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))


@compiled
def _byte(data: _Bytes, at: int) -> Any:
    """A byte as uint32."""
    return np.uint32(data[np.uint64(at)])


@compiled
def _continued(code: Any, byte: Any) -> Any:
    """A code point with the six bits of a continuation byte of UTF-8 behind it."""
    return code << _SIX | (byte & _CONTINUED)


@compiled
def _read(data: _Bytes, at: int, stop: int, table: _U32, in_run: Any, codes: _U32) -> tuple[int, int, Any]:
    """Reads the characters that begin in the next `codes.size` bytes; each leaves one code at most.

    Bytes that are no UTF-8 are read as some character or none, but nothing is read beyond `stop` or the table.

    Args:
        data: UTF-8.
        at: where to begin.
        stop: where the text ends.
        table: entries by code point, [0x110000].
        in_run: uint32, 1 if the text before ends in a run of characters that share a token, else 0.
        codes: gets the normalised code points of tokens, the top bit set in the first of each.

    Returns:
        Where reading ended, the number of codes, and `in_run` for what follows.
    """
    n: Any = 0
    limit = min(stop, at + codes.size)
    while at < limit:
        byte = _byte(data, at)
        if byte < 0x80:
            code = byte
            at += 1
        elif byte < 0xE0 and at + 1 < stop:
            code = _continued(byte & np.uint32(0x1F), _byte(data, at + 1))
            at += 2
        elif byte < 0xF0 and at + 2 < stop:
            code = _continued(_continued(byte & np.uint32(0x0F), _byte(data, at + 1)), _byte(data, at + 2))
            at += 3
        elif at + 3 < stop:
            code = _continued(_continued(byte & np.uint32(0x07), _byte(data, at + 1)), _byte(data, at + 2))
            code = min(_continued(code, _byte(data, at + 3)), np.uint32(0x10FFFF))
            at += 4
        else:
            at = stop
            break
        entry = table[code]
        # No branch from here on: what kind of character comes next is hard to predict.
        solo = entry >> _TOP
        code = entry & _CODE
        kept = np.uint32(code != 0)
        codes[np.uint64(n)] = code | (solo | (in_run ^ np.uint32(1))) << _TOP
        n += np.int64(kept)
        in_run = in_run if entry == SKIP else kept & (solo ^ np.uint32(1))
    return at, n, in_run


@compiled
def _tokenise(codes: _U32, partial: Any, tokens: _U64, slot: Any, powers: _U64, inverses: _U64) -> tuple[Any, Any]:
    """Hashes tokens: h = (h + x + P) * P mod 2^64 over the code points x of each.

    Done step by step, each character would wait for the multiplication of the one before. P is odd, so it has an
    inverse, and with S[i] the sum of (x[j] + P) * P^-j over all j < i, a token that begins with character i and ends
    before k has h = (S[k] - S[i]) * P^k, where nothing but a sum is handed on.

    Args:
        codes: as `_read` leaves them.
        partial: uint64, h of the token in which the codes before end.
        tokens: gets h of each token that ends here, not mixed yet.
        slot: where that of `partial` belongs.
        powers: P^i, one more than codes at least.
        inverses: P^-i, as many as codes at least.

    Returns:
        `partial` and `slot` for what follows.
    """
    total = np.uint64(0)
    before = np.uint64(0) - partial
    for i in range(codes.size):
        first = codes[i] >> _TOP
        tokens[np.uint64(slot)] = (total - before) * powers[i]
        slot += np.int64(first)
        before = total if first else before
        total += (np.uint64(codes[i] & _CODE) + _TOKEN_BASE) * inverses[i]
    return (total - before) * powers[codes.size], slot


@compiled
def _mix(tokens: _U64) -> None:
    """Ends the hashing of tokens, in place."""
    for i in range(tokens.size):
        tokens[i] = _mix64(tokens[i])


@compiled
def _roll(tokens: _U64, n_shingles: int, ngram: int, hashes: _U32) -> None:
    """Hashes shingles: the upper half of `_mix64` of g = g * C + t mod 2^64 over the token hashes t of each.

    Args:
        tokens: at least n_shingles + ngram - 1.
        n_shingles: at least 1.
        ngram: tokens in a shingle, at least 1.
        hashes: gets the hashes.
    """
    oldest = np.uint64(1)
    rolled = np.uint64(0)
    for i in range(ngram - 1):
        oldest *= _SHINGLE_BASE
        rolled = rolled * _SHINGLE_BASE + tokens[i]
    for i in range(n_shingles):
        rolled = rolled * _SHINGLE_BASE + tokens[i + ngram - 1]
        hashes[i] = np.uint32(_mix64(rolled) >> np.uint64(32))
        rolled -= tokens[i] * oldest


@compiled
def _work(chunk: int, ngram: int) -> _Work:
    """Arrays for codes, tokens and shingle hashes, and powers of P and of its inverse."""
    powers = np.ones(chunk + 1, np.uint64)
    inverses = np.ones(chunk, np.uint64)
    for i in range(1, chunk + 1):
        powers[i] = powers[i - 1] * _TOKEN_BASE
    for i in range(1, chunk):
        inverses[i] = inverses[i - 1] * _TOKEN_INVERSE
    codes = np.empty(chunk, np.uint32)
    tokens = np.empty(chunk + ngram + 1, np.uint64)
    hashes = np.empty(4 * chunk, np.uint32)  # of some chunks: a chunk's few are too short a loop for each permutation
    return codes, tokens, hashes, powers, inverses


@compiled_generator
def _shingle(data: _Bytes, start: int, stop: int, table: _U32, ngram: int, work: _Work) -> Iterator[_U32]:
    """Yields the shingle hashes of a document, some at a time, in an array that the next ones overwrite."""
    codes, tokens, hashes, powers, inverses = work
    at, in_run, partial = start, np.uint32(0), np.uint64(0)
    slot = 0  # of the token being read. The first slot takes what `_tokenise` writes before the first token.
    n_hashes = 0
    is_short = True
    while at < stop:
        fresh = max(slot, 1)
        at, n_codes, in_run = _read(data, at, stop, table, in_run, codes)
        partial, slot = _tokenise(codes[:n_codes], partial, tokens, slot, powers, inverses)
        if at == stop and slot > 0:
            tokens[slot] = partial
            slot += 1
        _mix(tokens[fresh:slot])
        n_shingles = slot - ngram
        if n_shingles > 0:
            is_short = False
            if n_hashes + n_shingles > hashes.size:
                yield hashes[:n_hashes]
                n_hashes = 0
            _roll(tokens[1:], n_shingles, ngram, hashes[n_hashes:])
            n_hashes += n_shingles
            for i in range(1, ngram):
                tokens[i] = tokens[i + n_shingles]
            slot = ngram
    if is_short and slot > 1:
        _roll(tokens[1:], 1, slot - 1, hashes)
        n_hashes = 1
    yield hashes[:n_hashes]


@compiled
def _permute(hashes: _U32, permutations: _U32, signature: _U32) -> None:
    """Lowers each place of a signature to the least a * h + b mod 2^32 of the hashes, which are mixed in place."""
    for i in range(hashes.size):
        hashes[i] = _fmix32(hashes[i])
    for k in range(signature.size):
        a, b = permutations[0, k], permutations[1, k]
        least = signature[k]
        for i in range(hashes.size):
            least = min(least, np.uint32(np.uint32(hashes[i] * a) + b))
        signature[k] = least


@compiled
def _sign(
    data: _Bytes, spans: _Ints, table: _U32, ngram: int, permutations: _U32, chunk: int, signatures: _U32
) -> None:
    """Lowers the places of each document's signature."""
    work = _work(chunk, ngram)
    for i in range(spans.shape[1]):
        for hashes in _shingle(data, spans[0, i], spans[1, i], table, ngram, work):
            _permute(hashes, permutations, signatures[i])


@compiled
def _list_shingles(
    data: _Bytes, spans: _Ints, table: _U32, ngram: int, chunk: int, values: _U32, offsets: _Ints
) -> None:
    """Writes the shingle hashes of all documents one after the other, and where each document's end."""
    work = _work(chunk, ngram)
    n = 0
    for i in range(spans.shape[1]):
        for hashes in _shingle(data, spans[0, i], spans[1, i], table, ngram, work):
            values[n : n + hashes.size] = hashes
            n += hashes.size
        offsets[i + 1] = n


@compiled
def _fill(
    data: _Bytes, spans: _Ints, table: _U32, document: int, at: int, in_run: Any, codes: _U32, ends: _Ints
) -> tuple[int, int, Any, int]:
    """Writes the codes of documents one after the other until the array is full.

    Args:
        data: UTF-8.
        spans: where documents begin and end in it, [2, N].
        table: entries by code point, [0x110000].
        document: the first.
        at: where in its text to begin.
        in_run: what `_read` returned for the text before.
        codes: gets the codes.
        ends: gets at each document where its codes end, [N].

    Returns:
        `document`, `at` and `in_run` for what follows, and the number of codes.
    """
    n = 0
    while document < spans.shape[1]:
        stop = spans[1, document]
        at, n_more, in_run = _read(data, max(at, spans[0, document]), stop, table, in_run, codes[n:])
        n += n_more
        if at < stop:
            break
        ends[document] = n
        document += 1
        at, in_run = 0, np.uint32(0)
    return document, at, in_run, n


def _buffers(texts: pa.Array) -> tuple[_Bytes, _Ints]:
    """The bytes of an Arrow array's texts, not copied, and where in them each begins and ends (int64[2, N]).

    Raises:
        TypeError: it is not an array of string or large_string.
    """
    if texts.type not in (pa.string(), pa.large_string()):
        raise TypeError(f"texts are {texts.type}, expected string or large_string")
    _, offsets, data = texts.buffers()
    kind = np.int32 if texts.type == pa.string() else np.int64
    ends = np.frombuffer(offsets or b"", kind)[texts.offset : texts.offset + len(texts) + 1]
    spans = np.stack([ends[:-1], ends[1:]]).astype(np.int64)
    if texts.null_count:  # what a null points at is undefined
        spans[1] = np.where(texts.is_valid().to_numpy(zero_copy_only=False), spans[1], spans[0])
    view = np.frombuffer(data or b"", np.uint8)
    view.setflags(write=False)  # numba would compile once more for an array that can be written
    return view, spans


def sign(texts: pa.Array, table: _U32, ngram: int, permutations: _U32) -> _U32:
    """The MinHash signature of each document by datasketch's scheme "affine32".

    Args:
        texts: string or large_string array of N documents.
        table: read-only uint32[0x110000], of `shingles.CharacterTable`.
        ngram: tokens in a shingle, at least 1.
        permutations: uint32[2, K], factors and terms as `datasketch.MinHash.permutations` has them.

    Returns:
        uint32[N, K], all `NO_VALUE` for a document without tokens.

    Raises:
        TypeError: `texts` is another array.
    """
    data, spans = _buffers(texts)
    signatures = np.full((len(texts), permutations.shape[1]), NO_VALUE, np.uint32)
    _sign(data, spans, table, ngram, permutations, _CHUNK, signatures)
    return signatures


def shingles(texts: pa.Array, table: _U32, ngram: int) -> tuple[_U32, _Ints]:
    """The shingle hashes of each document, as `shingles.shingle_hashes` describes them.

    Args:
        texts: string or large_string array of N documents.
        table: read-only uint32[0x110000], of `shingles.CharacterTable`.
        ngram: tokens in a shingle, at least 1.

    Returns:
        The hashes of all documents (uint32[S]), and where each begins (int64[N + 1]).

    Raises:
        TypeError: `texts` is another array.
    """
    data, spans = _buffers(texts)
    values = np.empty((spans[1] - spans[0]).sum(), np.uint32)  # a shingle has a byte of its own at least
    offsets = np.zeros(len(texts) + 1, np.int64)
    _list_shingles(data, spans, table, ngram, _CHUNK, values, offsets)
    return values[: offsets[-1]].copy(), offsets


def token_codes(texts: pa.Array, table: _U32) -> Iterator[tuple[_U32, bool]]:
    """The tokens of each document, in pieces.

    Args:
        texts: string or large_string array of N documents.
        table: read-only uint32[0x110000], of `shingles.CharacterTable`.

    Yields:
        Normalised code points (uint32[C], a view that the next ones overwrite), the top bit set in the first of each
        token; and whether the document ends with them. Only a piece that ends its document is empty.

    Raises:
        TypeError: `texts` is another array.
    """
    data, spans = _buffers(texts)
    codes = np.empty(min(_STREAM, data.size), np.uint32)
    ends = np.empty(len(texts), np.int64)
    document, at, in_run = 0, 0, np.uint32(0)
    while document < len(texts):
        first, begin = document, 0
        document, at, in_run, n = _fill(data, spans, table, document, at, np.uint32(in_run), codes, ends)
        for end in ends[first:document].tolist():
            yield codes[begin:end], True
            begin = end
        if begin < n:
            yield codes[begin:n], False
