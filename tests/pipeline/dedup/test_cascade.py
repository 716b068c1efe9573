"""Who survives: the plain cascade, worked examples, and chains of versions through the whole of dedup."""

import json
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.dedup.cascade import CascadePolicy, resolve
from corpusmill.pipeline.dedup.components import chain, merge
from corpusmill.pipeline.dedup.keys import doc_numbers, pack, split_by_partition
from corpusmill.pipeline.stages.signatures import (
    MinHashSettings,
    band_keys,
    shingled,
    sig8_column,
    signatures,
    text_keys,
)
from tests.reference import cascade as reference

UDHR = Path(__file__).parents[2] / "data/udhr.jsonl"
DAY = [datetime(2026, 1, day) for day in (1, 2, 3)]
SCHEMA = pa.schema(
    [
        ("doc", pa.uint64()),
        ("component", pa.uint64()),
        ("id", pa.binary(16)),
        ("url_key", pa.binary(16)),
        ("text_key", pa.binary(16)),
        ("sig8", pa.binary(8)),
        ("quality", pa.float64()),
        ("n_chars", pa.int64()),
        ("priority", pa.int32()),
        ("date", pa.timestamp("us")),
    ]
)
NEAR_ONLY = CascadePolicy(url="none", exact=False)


def key(value: int) -> bytes:
    return value.to_bytes(16)


def member(doc: int, **columns: Any) -> dict[str, Any]:
    """A document of component 0 that is like no other, but for the columns given."""
    plain = {"component": 0, "id": key(doc), "n_chars": 100, "priority": 0}
    return dict.fromkeys(SCHEMA.names) | plain | {"doc": doc} | columns


def table(members: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(members, SCHEMA)


def fates(members: list[dict[str, Any]], policy: CascadePolicy) -> dict[int, tuple[int, str]]:
    """The document and kind that dropped each one."""
    rows = resolve(table(members), policy).to_pylist()
    return {row["doc"]: (row["duplicate_of"], row["kind"]) for row in rows if row["kind"]}


few = st.integers(0, 2)
maybe_key = st.none() | few.map(key)
bytes8 = st.lists(st.sampled_from(b"\x00\x01\x02"), min_size=8, max_size=8).map(bytes)
member_lists = st.lists(
    st.fixed_dictionaries(
        {
            "doc": st.integers(0, 2**64 - 1),
            "component": few,
            "id": st.integers(0, 12).map(key),
            "url_key": maybe_key,
            "text_key": maybe_key,
            "sig8": st.none() | bytes8,
            "quality": st.none() | st.sampled_from([0.25, 0.5]),
            "n_chars": few,
            "priority": few,
            "date": st.none() | st.sampled_from(DAY),
        }
    ),
    max_size=25,
    unique_by=lambda row: row["doc"],
)
policies = st.builds(
    CascadePolicy,
    url=st.sampled_from(["newest", "oldest", "longest", "none"]),
    exact=st.booleans(),
    near=st.none() | st.sampled_from([0.0, 0.375, 0.75, 1.0]),
)


@settings(deadline=None, max_examples=120)
@given(member_lists, policies, st.randoms())
def test_equals_the_plain_cascade_in_any_order(
    members: list[dict[str, Any]], policy: CascadePolicy, random: Random
) -> None:
    expected = reference.resolve(members, policy.url, policy.exact, policy.near)
    assert resolve(table(members), policy).to_pylist() == expected
    shuffled = table(random.sample(members, len(members)))
    assert resolve(pa.concat_tables([shuffled[:5], shuffled[5:]]), policy).to_pylist() == expected


def test_of_a_repeated_record_the_first_stays_however_good_the_second() -> None:
    members = [member(5, id=key(1)), member(9, id=key(1), quality=1.0)]
    assert fates(members, CascadePolicy()) == {9: (5, "record")}


@pytest.mark.parametrize(("policy", "kept"), [("newest", 3), ("oldest", 1), ("longest", 2), ("none", None)])
def test_url_policies(policy: Any, kept: int | None) -> None:
    page = {"url_key": key(7)}
    members = [
        member(1, date=DAY[0], n_chars=10, **page),
        member(2, date=DAY[1], n_chars=30, **page),
        member(3, date=DAY[2], n_chars=20, **page),
        member(4, date=None, n_chars=1, **page),
    ]
    dropped = fates(members, CascadePolicy(url=policy))
    assert dropped == ({} if kept is None else dict.fromkeys({1, 2, 3, 4} - {kept}, (kept, "url")))


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ({"quality": 0.9}, {"quality": 0.8, "n_chars": 999}),
        ({"quality": 0.1}, {"quality": None}),
        ({"n_chars": 101}, {"priority": -1}),
        ({"priority": 1}, {"priority": 2, "date": DAY[0]}),
        ({"date": DAY[0]}, {"date": DAY[1], "id": key(0)}),
        ({"date": DAY[2]}, {"date": None, "id": key(0)}),
        ({"id": key(1)}, {"id": key(256)}),
    ],
)
def test_total_order(better: dict[str, Any], worse: dict[str, Any]) -> None:
    copies = [member(2, text_key=key(7), **better), member(1, text_key=key(7), **worse)]
    assert fates(copies, CascadePolicy()) == {1: (2, "exact")}


def test_losers_take_no_part_in_later_steps_and_chains_end_at_a_survivor() -> None:
    """1 is an older fetch of 2, whose text is that of 3, which is near 4. Only 1 resembles 5."""
    members = [
        member(1, url_key=key(1), date=DAY[0], sig8=b"onlyfive"),
        member(2, url_key=key(1), date=DAY[1], text_key=key(2)),
        member(3, text_key=key(2), n_chars=200, sig8=b"abcdefgh"),
        member(4, n_chars=300, sig8=b"abcdefgx"),
        member(5, sig8=b"onlyfive"),
    ]
    rows = {row["doc"]: row for row in resolve(table(members), CascadePolicy()).to_pylist()}
    assert [rows[doc]["duplicate_of"] for doc in rows] == [2, 3, 4, None, None]
    assert [rows[doc]["kind"] for doc in rows] == ["url", "exact", "near", None, None]
    assert [rows[doc]["survivor"] for doc in rows] == [4, 4, 4, 4, 5]
    assert [rows[doc]["cluster_size"] for doc in rows] == [None, None, None, 4, 1]
    assert [rows[doc]["jaccard"] for doc in rows] == [None, None, 0.875, None, None]


def test_near_duplicates_need_a_kept_document_not_a_chain() -> None:
    """2 is near 1, 3 is near 2 but not near 1: 3 stays. 4 is near both and follows the nearer."""
    members = [
        member(1, n_chars=900, sig8=b"aaaaaaaa"),
        member(2, n_chars=800, sig8=b"aaaaaabb"),
        member(3, n_chars=700, sig8=b"aaaabbbb"),
        member(4, n_chars=600, sig8=b"aaaaabbb"),
    ]
    assert fates(members, CascadePolicy(near=0.6)) == {2: (1, "near"), 4: (3, "near")}
    assert fates(members, CascadePolicy(near=None)) == {}


def test_similarity_is_rounded_before_it_is_compared() -> None:
    third = pa.table(table([member(1), member(2)])).drop_columns("sig8")
    third = third.append_column("sig8", pa.array([b"abc", b"axy"], pa.binary(3)))
    assert resolve(third, CascadePolicy(near=0.333333))["jaccard"].to_pylist() == [None, 0.333333]
    assert resolve(third, CascadePolicy(near=0.333334))["kind"].null_count == 2


def test_components_and_empty_signatures_stay_apart() -> None:
    same = {"text_key": key(1), "url_key": key(1), "sig8": b"abcdefgh"}
    assert fates([member(1, **same), member(2, component=1, **same)], CascadePolicy()) == {}
    assert fates([member(1), member(2)], NEAR_ONLY) == {}
    assert resolve(table([]), CascadePolicy()).num_rows == 0


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="document number twice"):
        resolve(table([member(1), member(1)]), CascadePolicy())
    with pytest.raises(ValueError, match=r"url is 'latest', expected one of newest"):
        CascadePolicy(url="latest")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="near is 75"):
        CascadePolicy(near=75)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(1, 40), st.sampled_from([0.3, 0.5, 0.9, 1.0]))
def test_leaders_in_large_components(seed: int, n_docs: int, width: int, near: float) -> None:
    """More leaders than are compared at once, signatures of any width, many equally similar leaders."""
    random = np.random.default_rng(seed)
    rows = random.integers(0, 3, (n_docs, width), np.uint8)
    component = random.integers(0, 3, n_docs)
    members = [
        member(doc, component=int(component[doc]), sig8=rows[doc].tobytes(), n_chars=int(random.integers(5)))
        for doc in range(n_docs)
    ]
    given_table = pa.Table.from_pylist(
        members, SCHEMA.set(SCHEMA.get_field_index("sig8"), pa.field("sig8", pa.binary(width)))
    )
    expected = reference.resolve(members, "none", False, near)
    assert resolve(given_table, CascadePolicy(url="none", exact=False, near=near)).to_pylist() == expected


def test_a_large_component_of_distinct_documents_is_feasible() -> None:
    """30,000 documents of one raw component, none near another: 450 million comparisons."""
    rows = np.random.default_rng(0).integers(0, 256, (30_000, 160), np.uint8)
    members = pa.table(
        {
            "doc": pa.array(np.arange(30_000, dtype=np.uint64)),
            "component": pa.array(np.zeros(30_000, np.uint64)),
            "id": pa.array([key(doc) for doc in range(30_000)], pa.binary(16)),
            "sig8": pa.array([row.tobytes() for row in rows], pa.binary(160)),
            "n_chars": pa.array(np.zeros(30_000, np.int64)),
            "priority": pa.array(np.zeros(30_000, np.int32)),
            **{name: pa.nulls(30_000, SCHEMA.field(name).type) for name in ("quality", "date", "url_key", "text_key")},
        }
    )
    assert resolve(members, NEAR_ONLY)["cluster_size"].to_pylist() == [1] * 30_000


def deduplicate(texts: list[str], units: list[list[int]], n_partitions: int) -> dict[int, tuple[int, str]]:
    """All of dedup over texts spread over units, earlier texts being better: who drops each, and as what."""
    by = MinHashSettings()
    blobs: dict[int, list[bytes]] = {}
    stored = []
    for number, unit in enumerate(units):
        column = pa.array([texts[i] for i in unit], pa.string())
        docs = doc_numbers(number, np.arange(len(unit)))
        rows = signatures(column, by)
        keys, owners = pack(
            np.arange(len(unit)), texts=text_keys(column), bands=band_keys(rows, by), shingled=shingled(rows)
        )
        for partition, blob in split_by_partition(number, keys, owners, n_partitions):
            blobs.setdefault(partition, []).append(blob)
        numbered = zip(docs.tolist(), unit, strict=True)
        plain = table([member(doc, id=key(i), quality=-float(i)) for doc, i in numbered])
        new = {"text_key": text_keys(column), "sig8": sig8_column(rows)}
        for name, values in new.items():
            plain = plain.set_column(SCHEMA.get_field_index(name), name, values)
        stored.append(plain.drop_columns("component"))
    docs, roots = merge([chain(blobs[partition], 0) for partition in sorted(blobs)])
    raw = pa.table({"doc": docs, "component": docs[roots]})
    members = pa.concat_tables(stored).join(raw, "doc", join_type="inner")
    rows = resolve(members, CascadePolicy()).to_pylist()
    text = {doc: units[doc >> 32][doc & 0xFFFFFFFF] for doc in docs.tolist()}
    return {text[row["doc"]]: (text[row["duplicate_of"]], row["kind"]) for row in rows if row["kind"]}


def versions(text: list[str], joiner: str, random: Random) -> list[str]:
    """31 versions of a text; each replaces 2 % of the words of the one before."""
    result = [joiner.join(text)]
    for _ in range(30):
        for i in random.sample(range(len(text)), len(text) // 50):
            text[i] = chr(random.randrange(0x4E00, 0x9FA0))
        result.append(joiner.join(text))
    return result


@pytest.mark.parametrize("language", ["en", "zh-Hans"])
def test_a_drifting_page_keeps_many_of_its_31_versions(language: str) -> None:
    """The ends of the chain have nothing in common; whole components would keep one or two."""
    rows = map(json.loads, UDHR.read_text().splitlines())
    text = next(row["text"] for row in rows if row["language"] == language)
    words, joiner = (text.split(), " ") if language == "en" else (list(text), "")
    chain = versions(words, joiner, Random(0))
    dropped = deduplicate(chain, [list(range(len(chain)))], 1)
    assert {kind for _, kind in dropped.values()} == {"near"}
    assert 10 < len(chain) - len(dropped) < 25
    estimates = signatures(pa.array(chain), MinHashSettings()).astype(np.uint8)
    for loser, (winner, _) in dropped.items():
        assert winner not in dropped and winner < loser
        assert (estimates[loser] == estimates[winner]).mean() >= 0.75


@settings(deadline=None, max_examples=10)
@given(st.randoms(), st.integers(1, 5))
def test_survivors_do_not_depend_on_units_or_partitions(random: Random, n_partitions: int) -> None:
    rows = [json.loads(line)["text"] for line in UDHR.read_text().splitlines()]
    texts = [
        *versions(rows[0].split(), " ", Random(1)),
        *rows,
        rows[1].replace("，", ","),
        "短文",
        "短文。",
        "",
    ]
    order = random.sample(range(len(texts)), len(texts))
    cut = random.randrange(len(texts))
    expected = deduplicate(texts, [list(range(len(texts)))], 1)
    assert "exact" in {kind for _, kind in expected.values()}
    assert deduplicate(texts, [order[:cut], order[cut:]], n_partitions) == expected
