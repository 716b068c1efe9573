"""Gzip members that are sound, and where the run of them ends."""

import gzip
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corpusmill.pipeline.sources.warc.members import sound_members
from corpusmill.pipeline.sources.warc.text import Region

CONTENTS = [b"one", b"", bytes(100_000), bytes(range(256)) * 500]
MEMBERS = [gzip.compress(content, mtime=0) for content in CONTENTS]


def run(data: bytes, start: int = 0, limit: int = 1 << 20) -> list[tuple[int, bytes]]:
    return list(sound_members(Region(io.BytesIO(data), 0, 0, len(data)), start, limit))


def ends(members: list[bytes]) -> list[int]:
    return [len(b"".join(members[: i + 1])) for i in range(len(members))]


@given(st.lists(st.tuples(st.binary(max_size=300), st.integers(1, 1000), st.integers(0, 9)), max_size=8))
def test_each_member_and_where_it_ends(drawn: list[tuple[bytes, int, int]]) -> None:
    contents = [piece * times for piece, times, _ in drawn]
    members = [gzip.compress(piece * times, level, mtime=0) for piece, times, level in drawn]
    assert run(b"".join(members)) == list(zip(ends(members), contents, strict=True))


def test_from_any_member_on() -> None:
    assert [content for _, content in run(b"".join(MEMBERS), start=len(MEMBERS[0]))] == CONTENTS[1:]


@pytest.mark.parametrize(
    "damage",
    [
        lambda member: member[:-1],
        lambda member: member[:5],
        lambda member: b"garbage" + member,
        lambda member: member[:-8] + bytes(4) + member[-4:],  # checksum
        lambda member: member[:-1] + b"\1",  # size
        lambda member: member[:10] + b"\xff" * 20 + member[30:],  # no block has this type
        lambda member: zlib.compress(CONTENTS[3]),
    ],
)
def test_a_run_ends_before_the_first_member_that_is_not_sound(damage) -> None:  # type: ignore[no-untyped-def]
    data = b"".join([*MEMBERS[:2], damage(MEMBERS[3]), MEMBERS[0]])
    assert run(data) == list(zip(ends(MEMBERS[:2]), CONTENTS, strict=False))


def test_a_run_ends_before_a_member_that_is_too_long() -> None:
    assert run(b"".join(MEMBERS), limit=99_999) == list(zip(ends(MEMBERS[:2]), CONTENTS, strict=False))
