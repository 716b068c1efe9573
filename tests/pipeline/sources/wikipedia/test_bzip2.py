"""bzip2, block by block."""

import bz2
import io
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.sources import Slice
from corpusmill.pipeline.sources.wikipedia import bzip2
from corpusmill.pipeline.sources.wikipedia.bzip2 import is_bzip2, read_blocks, stream_starts, streams

BLOCKS = [random.Random(i).randbytes(n) for i, n in enumerate((99_981, 99_981, 40_000))]
STREAM = bz2.compress(b"".join(BLOCKS), 1)


def piece(**settings: Any) -> Slice:
    return Slice(source="s", kind="wikipedia", file_path="f", location="", start=0, end=0, **settings)


def blocks(data: bytes, start: int = 0, end: int | None = None, **settings: Any) -> list[bytes | str]:
    return list(read_blocks(io.BytesIO(data), start, len(data) if end is None else end, piece(**settings)))


def of(data: bytes) -> list[tuple[int, int]]:
    return list(streams(io.BytesIO(data), 0, len(data)))


CONTENTS = st.builds(
    lambda seed, n, variety: bytes(random.Random(seed).choices(range(variety), k=n)),
    st.integers(0, 1 << 30),
    st.one_of(st.integers(0, 100), st.integers(100_000, 250_000)),
    st.integers(1, 256),
)


@settings(deadline=None, max_examples=15)
@given(contents=st.lists(st.tuples(CONTENTS, st.integers(1, 9)), max_size=4))
def test_the_blocks_of_all_streams_are_the_content(contents: list[tuple[bytes, int]]) -> None:
    packed = [bz2.compress(content, level) for content, level in contents]
    data = b"".join(packed)
    assert b"".join(blocks(data)) == b"".join(content for content, _ in contents)  # type: ignore[arg-type]
    starts = [sum(map(len, packed[:i])) for i in range(len(packed) + 1)]
    assert list(stream_starts(io.BytesIO(data), 0, len(data))) == starts[:-1]
    assert of(data) == (list(pairwise(starts)) or [(0, 0)])


def test_a_stream_has_the_blocks_that_it_was_made_of() -> None:
    assert blocks(STREAM) == BLOCKS
    assert blocks(STREAM * 2) == BLOCKS * 2


@settings(deadline=None, max_examples=40)
@given(place=st.floats(0, 0.9999), change=st.integers(1, 255))
def test_a_changed_byte_costs_the_block_that_it_is_in(place: float, change: int) -> None:
    other = bz2.compress(b"behind")
    data = bytearray(STREAM + other)
    data[int(place * len(STREAM))] ^= change
    found = blocks(bytes(data))
    read = [block for block in found if isinstance(block, bytes)]
    assert [block for block in [*BLOCKS, b"behind"] if block in read] == read, "each as it was, in order"
    # where the number that a block begins with is hit, the one before it has no end
    assert len(read) >= 2
    assert read[-1] == b"behind"
    assert {block for block in found if isinstance(block, str)} <= {"damaged_compression"}


@settings(deadline=None, max_examples=20)
@given(n_bytes=st.integers(1, len(STREAM) - 1))
def test_a_cut_stream_gives_its_whole_blocks(n_bytes: int) -> None:
    found = blocks(STREAM[:n_bytes])
    assert found[-1] == "damaged_end"
    assert found[:-1] == BLOCKS[: len(found) - 1]
    assert len(found) - 1 >= (n_bytes - 12_000) // 101_000, "no whole block is missing"


def test_what_lies_between_streams_is_one_too() -> None:
    other = bz2.compress(b"behind")
    n = len(STREAM)
    for junk in (b"\0" * 30, b"junk of any kind, as long as it may be" * 20_000):
        data = STREAM + junk + other
        assert blocks(data) == [*BLOCKS, "damaged_compression", b"behind"]
        assert of(data) == [(0, n), (n, n + len(junk)), (n + len(junk), len(data))]
        assert blocks(data, n, n + len(junk)) == ["damaged_compression"]
    assert blocks(STREAM + b"BZh91") == [*BLOCKS, "damaged_end"]


def test_a_damaged_header_costs_nothing() -> None:
    data = bytearray(STREAM + STREAM)
    for at in (0, 1, 2, 3, len(STREAM) + 1):
        data[at] = 0
    assert blocks(bytes(data)) == BLOCKS * 2
    assert of(bytes(data)) == [(0, len(STREAM)), (len(STREAM), len(data))]
    assert is_bzip2(bytes(data))


@pytest.mark.parametrize("n_before", range(bzip2._WINDOW - 12, bzip2._WINDOW + 3))
def test_a_stream_is_found_wherever_it_begins(n_before: int) -> None:
    data = bytes(n_before) + bz2.compress(b"here")
    assert list(stream_starts(io.BytesIO(data), 0, len(data))) == [n_before]
    assert blocks(data) == ["damaged_compression", b"here"]


def test_the_mark_of_a_block_may_stand_in_a_block_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = bzip2._edges

    def with_chance(*where: Any) -> Iterator[Any]:
        for bit, kind in edges(*where):
            yield bit, kind
            if kind == "block":
                yield bit + 100_001, "block"

    monkeypatch.setattr(bzip2, "_edges", with_chance)
    assert blocks(STREAM + STREAM) == BLOCKS * 2


def test_a_bomb_is_not_unpacked() -> None:
    bomb = bz2.compress(bytes(30_000_000))
    assert set(blocks(bomb)) == {"bomb"}
    assert blocks(bomb + bz2.compress(b"behind"))[-1] == b"behind"
    assert sum(map(len, blocks(bomb, max_ratio=1_000_000))) == 30_000_000


def test_what_is_not_bzip2() -> None:
    assert not is_bzip2(b"<mediawiki>" * 1000)
    assert blocks(b"") == []
    assert blocks(b"<mediawiki>") == ["damaged_end"]
