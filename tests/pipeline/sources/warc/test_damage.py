"""WARC and ARC files that are damaged: what is whole is read, what is not is told with its place, nothing is made up."""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.pipeline.sources.warc.test_reader import http, member, pages, read_warc, warc

__all__ = ["read_warc"]

WITHIN = b"<p>as it stands in a file:\r\n\r\nWARC/1.0\r\nWARC-Type: response\r\nContent-Length: 7\r\n\r\n\x1f\x8b\x08\r\n\r\n"
RECORDS = [*pages(2), warc(http(WITHIN)), *pages(5)[2:], warc(http(b"<p>" + WITHIN * 3))]
PLACES = st.floats(0, 1, exclude_max=True)
KINDS = st.sampled_from(["flip", "cut", "insert", "duplicate", "swap"])


def mutate(data: bytes, kind: str, place: int, size: int, change: bytes) -> tuple[bytes, int, int]:
    """The data with one change, and the stretch of the original that it touches."""
    stretch, after = data[place : place + size], data[place + size : place + 2 * size]
    match kind:
        case "flip":
            return data[:place] + bytes([data[place] ^ (change[0] or 1)]) + data[place + 1 :], place, place + 1
        case "cut":
            return data[:place] + data[place + size :], place, place + size
        case "insert":
            return data[:place] + change + data[place:], place, place
        case "duplicate":
            return data[:place] + stretch + data[place:], place, place + len(stretch)
        case _:
            return data[:place] + after + stretch + data[place + 2 * size :], place, place + 2 * size


@pytest.mark.parametrize("packed", [True, False])
@settings(deadline=None, max_examples=400)
@given(kind=KINDS, where=PLACES, size=st.integers(1, 3000), change=st.binary(min_size=1, max_size=40))
@example(kind="cut", where=0.99, size=3000, change=b"?")
@example(kind="insert", where=0.5, size=1, change=b"WARC/1.0\r\nWARC-Type: response\r\n\r\n")
@example(kind="insert", where=0.0, size=1, change=b"\x1f\x8b\x08")
def test_a_change_costs_the_records_that_it_touches_and_the_next(
    read_warc: Any, packed: bool, kind: str, where: float, size: int, change: bytes
) -> None:
    stored = [member(record) for record in RECORDS] if packed else RECORDS
    data = b"".join(stored)
    ends = [sum(map(len, stored[: i + 1])) for i in range(len(stored))]
    starts = [0, *ends[:-1]]
    good = [row["content"] for row in read_warc(data)[0]]
    changed, first, last = mutate(data, kind, int(where * len(data)), size, change)
    touched = {i for i in range(len(stored)) if (starts[i] < last and ends[i] > first) or starts[i] <= first < ends[i]}
    lost = touched | {max(touched) + 1}
    rows, counts = read_warc(changed)
    contents = Counter(row["content"] for row in rows if row["content"] is not None)
    for i, content in enumerate(good):
        if i not in lost:
            assert contents[content] >= 1, f"record {i} is lost"
    strange = sum(n for content, n in contents.items() if content not in good)
    assert strange <= len(touched), "a record is read that is none"
    if kind != "duplicate":
        assert all(contents[content] <= 1 for content in good)
    damage = [(row["offset"], row["length"]) for row in rows if (row["reason"] or "").startswith("damaged")]
    assert all(offset >= 0 and length and offset + length <= len(changed) for offset, length in damage)
    if kind == "flip":  # whole records that were cut out leave no trace
        n_seen = len(rows) + sum(n for name, n in counts.items() if name != "records")
        assert n_seen >= len(good), "what is lost is told"


@settings(deadline=None, max_examples=150)
@given(kind=KINDS, where=PLACES, size=st.integers(1, 300), change=st.binary(min_size=1, max_size=40))
def test_a_file_of_one_member_keeps_all_before_the_damage(
    read_warc: Any, kind: str, where: float, size: int, change: bytes
) -> None:
    data = member(*RECORDS)
    place = 10 + int(where * (len(data) - 10))
    changed, _, _ = mutate(data, kind, place, size, change)
    good = [row["content"] for row in read_warc(data)[0]]
    rows, _ = read_warc(changed)
    found = [row["content"] for row in rows if row["content"] is not None]
    decoder, whole = zlib.decompressobj(31), b"".join(RECORDS)
    before = decoder.decompress(data[:place])
    n_before = sum(sum(map(len, RECORDS[: i + 1])) <= len(before) for i in range(len(RECORDS)))
    assert found[: max(0, n_before - 1)] == good[: max(0, n_before - 1)]
    assert whole.startswith(before)
    if changed != data:
        assert any(row["reason"] for row in rows), "the damage is told"


@settings(deadline=None, max_examples=60)
@given(k=st.integers(0, len(RECORDS)), garbage=st.binary(min_size=1, max_size=100), packed=st.booleans())
def test_garbage_between_records_is_one_stretch(read_warc: Any, k: int, garbage: bytes, packed: bool) -> None:
    garbage = b"?" + garbage + b"?\r\n"
    stored = [member(record) for record in RECORDS] if packed else RECORDS
    good, _ = read_warc(b"".join(stored))
    rows, _ = read_warc(b"".join(stored[:k]) + garbage + b"".join(stored[k:]))
    start = sum(map(len, stored[:k]))
    assert [row["content"] for row in rows if row["content"]] == [row["content"] for row in good]
    assert [(row["offset"], row["length"]) for row in rows if row["reason"]] == [(start, len(garbage))]


@pytest.mark.parametrize("difference", [-7, 7, 2000])
def test_the_member_tells_where_a_record_ends_whose_length_is_wrong(read_warc: Any, difference: int) -> None:
    block = http()
    stored = [*pages(2), warc(block, length=len(block) + difference), *pages(3)]
    rows, _ = read_warc(b"".join(map(member, stored)))
    assert [row["content"] is not None for row in rows].count(True) == 6


@pytest.mark.parametrize("difference", [-7, 7, 2000])
def test_a_wrong_length_costs_no_other_record_of_a_plain_file(read_warc: Any, difference: int) -> None:
    block = http()
    before, after = pages(2), pages(6)[2:]
    rows, _ = read_warc(b"".join([*before, warc(block, length=len(block) + difference), *after]))
    contents = [row["content"] for row in rows]
    whole = [row["content"] for row in read_warc(b"".join([*before, *after[1:]]))[0]]
    assert all(content in contents for content in whole)
    assert {row["reason"] for row in rows if row["reason"]} <= {"damaged_length", "damaged_header", "damaged_end"}


@pytest.mark.parametrize("piece", [b"\x1f\x8b\x08", b"WARC/1.0\r\n", b"WARC/1.0\r\nWARC-Type: response\r\n"])
def test_hostile_bytes_are_read_in_linear_time(read_warc: Any, piece: bytes) -> None:
    rows, _ = read_warc(piece * (2_000_000 // len(piece)))
    assert [row["content"] for row in rows] == [None] * len(rows)
    assert sum(row["length"] for row in rows) == 2_000_000 // len(piece) * len(piece)


def expected(shared_data: Path) -> Sequence[dict[str, Any]]:
    lines = (shared_data / "warc-edge/edge.expected.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_every_readable_response_of_the_edge_cases_is_read(shared_data: Path, read_file: Any) -> None:
    for case in expected(shared_data):
        rows, _ = read_file(shared_data / "warc-edge" / case["file"], "warc")
        assert sum(row["content"] is not None for row in rows) == case["readable_responses"], case
        for row in rows:
            if (row["reason"] or "").startswith("damaged"):
                assert row["length"] and row["offset"] is not None, case


DAMAGE: dict[str, list[tuple[str, int, int]]] = {
    "warc-edge/edge-bitflip-middle.warc.gz": [("damaged_compression", 9766, 4612)],
    "warc-edge/edge-garbage-between.warc": [("damaged_header", 14784, 18), ("damaged_header", 35474, 18)],
    "warc-edge/edge-truncated.warc.gz": [("damaged_end", 22186, 3512)],
    "warc/aut-badexample.arc.gz": [("damaged_header", 0, 1221)],
    "warc/resiliparse-clipped.warc.gz": [("damaged_end", 0, 18184)],
    "warc/warcio-bad.arc": [("damaged_header", 0, 331)],
    "warc/warcio-example-space-in-url.arc": [("damaged_end", 151, 1722)],
    "warc/warcio-example-trunc.warc": [("damaged_length", 1197, 1369)],
}


def test_every_damaged_stretch_of_the_real_files_has_its_place(shared_data: Path, read_file: Any) -> None:
    found = {}
    for folder in ("warc", "warc-edge"):
        for path in sorted((shared_data / folder).iterdir()):
            if path.suffix != ".jsonl":
                rows, _ = read_file(path, "warc")
                damage = [r for r in rows if (r["reason"] or "").startswith("damaged")]
                if damage:
                    found[f"{folder}/{path.name}"] = [(r["reason"], r["offset"], r["length"]) for r in damage]
    assert found == DAMAGE
