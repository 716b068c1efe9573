"""WARC and ARC files that are damaged: what is whole is read, what is not is told with its place, nothing is made up."""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.pipeline.sources.rows import peak_megabytes
from tests.pipeline.sources.warc.test_reader import http, member, pages, read_warc, warc

__all__ = ["read_warc"]

Rows = list[dict[str, Any]]

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
@example(kind="swap", where=0.0, size=704, change=b"?")  # a length that ends at another record's blank line
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


@pytest.mark.parametrize("system", [0, 3, 19, 255])
def test_members_of_any_writer_are_found_behind_damage(read_warc: Any, system: int) -> None:
    members = [packed[:9] + bytes([system]) + packed[10:] for packed in map(member, RECORDS)]
    good = [row["content"] for row in read_warc(b"".join(members))[0]]
    members[1] = members[1][:40] + bytes([members[1][40] ^ 16]) + members[1][41:]
    rows, _ = read_warc(b"".join(members))
    assert [row["content"] for row in rows if row["content"]] == [good[0], *good[2:]]


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


def test_a_type_that_does_not_exist_is_damage_where_no_checksum_vouches_for_it(read_warc: Any) -> None:
    stored = [*pages(2), warc(http(), kind="respo~se"), *pages(3)[2:]]
    rows, counts = read_warc(b"".join(stored))
    start = sum(map(len, stored[:2]))
    damage = [(row["offset"], row["length"], row["reason"]) for row in rows if row["reason"]]
    assert (damage, len(rows)) == ([(start, len(stored[2]), "damaged_header")], 4)
    rows, counts = read_warc(b"".join(map(member, stored)))
    assert (len(rows), counts["warc_unknown"]) == (3, 1)


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


def contents(rows: Rows) -> list[bytes]:
    return [row["content"] for row in rows if row["content"] is not None]


def stored(record: bytes) -> bytes:
    """A gzip member that holds its content as it is."""
    return gzip.compress(record, compresslevel=0, mtime=0)


def archive(pack: Any) -> bytes:
    """A WARC file that is a payload in another one."""
    return b"".join(pack(warc(http(b"<p>within %d" % i))) for i in range(6))


def test_a_length_beyond_what_disks_can_hold_is_damage(read_warc: Any) -> None:
    first, second = pages(2)
    rows, _ = read_warc(first + warc(http(), length=10**15 - 1))
    assert [(row["reason"], row["offset"]) for row in rows] == [(None, 0), ("damaged_end", len(first))]
    rows, _ = read_warc(warc(http(), length=10**15 - 1) + second * 3)
    assert [row["reason"] for row in rows] == ["damaged_length", None, None, None]


def test_a_broken_member_that_takes_in_the_next_ones_is_left_before_them(read_warc: Any) -> None:
    members = [stored(record) for record in pages(6)]
    n_bytes = sum(map(len, members[1:4])) - 10 - 5 - 8  # up to the trailer of the third one
    length = n_bytes.to_bytes(2, "little") + (n_bytes ^ 0xFFFF).to_bytes(2, "little")
    broken = members[1][:11] + length + members[1][15:]
    rows, _ = read_warc(b"".join([members[0], broken, *members[2:]]))
    whole, _ = read_warc(b"".join(members))
    assert contents(rows) == contents(whole[:1] + whole[2:])
    assert [(row["offset"], row["length"]) for row in rows if row["reason"]] == [(len(members[0]), len(broken))]


@pytest.mark.parametrize("n_lost", [5, 40, 400])
def test_records_in_the_payload_of_a_record_that_lost_some_bytes_are_none(read_warc: Any, n_lost: int) -> None:
    outer = warc(http(b"<p>" + archive(bytes)))
    cut = outer[:500] + outer[500 + n_lost :]
    first, *others = pages(5)
    rows, _ = read_warc(b"".join([first, cut, *others]))
    assert contents(rows) == contents(read_warc(b"".join([first, *others]))[0])


@pytest.mark.parametrize("n_left", [500, 900, 1000])
def test_records_in_the_payload_of_a_record_whose_end_is_missing_are_none(read_warc: Any, n_left: int) -> None:
    before = pages(3)
    rows, _ = read_warc(b"".join([*before, warc(http(b"<p>" + archive(bytes)))[:n_left]]))
    assert contents(rows) == contents(read_warc(b"".join(before))[0])


@pytest.mark.parametrize("place", [350, 700, 1500])
def test_members_in_the_payload_of_a_broken_member_are_none(read_warc: Any, place: int) -> None:
    outer = stored(warc(http(b"<p>" + archive(member))))
    first, *others = map(member, pages(5))
    rows, _ = read_warc(b"".join([first, outer[:place] + outer[place + 1 :], *others]))
    assert contents(rows) == contents(read_warc(b"".join([first, *others]))[0])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("n_between", [1, 2, 3, 12])
def test_records_between_two_damaged_ones_are_kept(read_warc: Any, packed: bool, n_between: int) -> None:
    records = [member(record) if packed else record for record in pages(n_between + 4)]
    whole, _ = read_warc(b"".join(records))
    hit = (1, n_between + 2)
    rows, _ = read_warc(b"".join(b"?" + record[1:] if i in hit else record for i, record in enumerate(records)))
    assert contents(rows) == [row["content"] for i, row in enumerate(whole) if i not in hit]
    assert sum(row["reason"] is not None for row in rows) == 2


def test_an_arc_record_that_lost_bytes_takes_none_from_the_next_url(read_warc: Any) -> None:
    blocks = [http(b"<p>" + bytes([65 + i]) * 100) for i in range(4)]
    heads = [b"http://t/%d 1.2.3.4 20200101000000 text/html %d\n" % (i, len(block)) for i, block in enumerate(blocks)]
    records = [head + block + b"\n" for head, block in zip(heads, blocks, strict=True)]
    rows, _ = read_warc(b"".join([records[0], records[1][:-20] + records[1][-18:], *records[2:]]))
    assert {row["url"] for row in rows} <= {None, *(f"http://t/{i}" for i in range(4))}
    assert contents(rows)[0].endswith(b"A") and contents(rows)[-1].endswith(b"D")


def test_millions_of_empty_members_are_stepped_over(read_warc: Any) -> None:
    rows, _ = read_warc(member() * 50_000 + member(pages(1)[0]))
    assert [row["offset"] for row in rows] == [50_000 * len(member())]


@pytest.mark.parametrize("one_member", [True, False])
def test_memory_does_not_grow_with_a_damaged_file(tmp_path: Path, one_member: bool) -> None:
    film = warc(http(bytes(150 << 20), content_type="video/mp4"))
    damaged = b"".join([*pages(3), film, b"?", *pages(3), film])
    path = tmp_path / "film.warc"
    path.write_bytes(gzip.compress(damaged, compresslevel=1) if one_member else damaged)
    assert peak_megabytes(path, "warc") < 200


HOSTILE = [
    b"\x1f\x8b\x08",
    b"\x1f\x8b\x08\x04\0\0\0\0\0\x03\xff\xff",
    member(b"?"),
    b"WARC/1.0\r\n",
    b"WARC/1.0\r\nWARC-Type: response\r\n",
]


@pytest.mark.parametrize("piece", HOSTILE)
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
