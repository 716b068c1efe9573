"""The steps of dedup's graph one after the other, without Beam: always what the plain cascade says of the whole."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.jobs import grouping
from corpusmill.pipeline.jobs.base import Task
from corpusmill.pipeline.jobs.scratch import Scratch
from corpusmill.schemas.files import Files
from corpusmill.schemas.parquet import write_table
from corpusmill.schemas.tables import REFINED, SIGNATURE, VERDICT
from tests.reference import cascade as reference

DAYS = [datetime(2026, 1, day) for day in (1, 2, 3)]
BANDS, ROWS = 2, 4
SIGNAL = "n_words"
Document = dict[str, Any]


def key(value: int) -> bytes:
    return value.to_bytes(16)


few = st.integers(0, 4)
maybe_key = st.none() | st.integers(0, 9).map(key)
halves = st.sampled_from([b"\0\0\0\0", b"\0\0\0\1", b"\1\1\1\1", b"\1\1\1\0", b"\2\2\2\2"])
documents = st.fixed_dictionaries(
    {
        "id": st.integers(0, 40).map(key),
        "url_key": maybe_key,
        "text_key": maybe_key,
        "sig8": st.none() | st.tuples(halves, halves).map(b"".join),
        "n_chars": few,
        "date": st.none() | st.sampled_from(DAYS),
        "quality": st.none() | st.sampled_from([0.25, 0.5]),
        "refined": st.sampled_from([True, True, False]),
        "keep": st.sampled_from([True, True, True, False]),
    }
)
units = st.lists(st.lists(documents, max_size=15), min_size=1, max_size=4)
settings_of_dedup = st.none() | st.fixed_dictionaries(
    {
        "url": st.sampled_from(["newest", "oldest", "longest", "none"]),
        "exact": st.booleans(),
        "minhash": st.just("none") | st.fixed_dictionaries({"threshold": st.sampled_from([0.5, 0.75, 1.0])}),
        "quality": st.sampled_from(["none", SIGNAL]),
    }
)


def bands_of(sig8: bytes | None) -> list[bytes | None]:
    """A band is a hash of its rows; here it is those."""
    return [None] * BANDS if sig8 is None else [sig8[i * ROWS : (i + 1) * ROWS] for i in range(BANDS)]


def write_unit(files: Files, name: str, rows: list[Document], minhash: bool) -> None:
    measured = [(i, row) for i, row in enumerate(rows) if row["refined"]]
    signature = {name: [row[name] for _, row in measured] for name in ("id", "url_key", "text_key", "sig8", "n_chars")}
    signature["row"] = [i for i, _ in measured]
    signature["language"] = ["en"] * len(measured)
    signature["date"] = [row["date"] and row["date"].replace(tzinfo=UTC) for _, row in measured]
    bands = [bands_of(row["sig8"]) for _, row in measured]
    signature["bands"] = [None if one[0] is None else b"".join(band + bytes(4) for band in one) for one in bands]
    extra = pa.schema([("sig8", pa.binary(BANDS * ROWS)), ("bands", pa.binary(BANDS * 8))] if minhash else [])
    table = pa.table(signature, SIGNATURE.schema(extra=extra)) if minhash else None
    if table is None:
        columns = {name: signature[name] for name in SIGNATURE.columns.names}
        table = pa.table(columns, SIGNATURE.schema())
    write_table(files, f"signatures/{name}.parquet", SIGNATURE, table, extra=extra, row_group=4)
    verdict = {"id": [row["id"].hex() for row in rows], "keep": [row["keep"] and row["refined"] for row in rows]}
    nulls = {name: [None] * len(rows) for name in ("stage", "reason", "value", "threshold")}
    write_table(files, f"verdicts/{name}.parquet", VERDICT, pa.table(verdict | nulls, VERDICT.schema()))
    signals = pa.schema([(SIGNAL, pa.float64())])
    refined = {name: [row[name] for row in rows] for name in ("id", "refined", "n_chars")}
    refined |= {"text": [None] * len(rows), "n_bytes": refined["n_chars"], SIGNAL: [row["quality"] for row in rows]}
    schema = REFINED.schema(extra=signals)
    write_table(files, f"refined/{name}.parquet", REFINED, pa.table(refined, schema), extra=signals)


def group(elements: Iterable[grouping.Element], random: Random) -> list[tuple[int, list[bytes]]]:
    """What GroupByKey does, in an order that nobody may rely on; a bundle that is done again repeats elements."""
    groups = defaultdict(list)
    for number, payload in elements:
        groups[number].extend([payload] * random.choice([1, 1, 1, 2]))
    for payloads in groups.values():
        random.shuffle(payloads)
    return random.sample(sorted(groups.items()), len(groups))


def decide(tasks: list[Task], scratch: Scratch, random: Random) -> dict[str, list[dict[str, Any]]]:
    elements = [element for task in tasks for element in grouping.map_keys(task, scratch)]
    for name in grouping.STEPS:
        elements = [
            e for number, some in group(elements, random) for e in grouping.do_step(name, number, some, scratch)
        ]
    decided = {}
    for _, payloads in group(elements, random):
        task, parts = grouping.of_unit(payloads, scratch)
        decided[task.unit] = grouping.decisions(parts).to_pylist()
    return decided


def by_reference(rows: list[list[Document]], dedup: dict[str, Any] | None) -> dict[str, list[dict[str, Any]]]:
    """Decisions by unit, from all members at once."""
    columns = ["id"]
    url, exact, near, quality = "none", False, None, "none"
    if dedup is not None:
        url, exact, quality = dedup["url"], dedup["exact"], dedup["quality"]
        near = None if dedup["minhash"] == "none" else dedup["minhash"]["threshold"]
        columns += ["url_key"] * (url != "none") + ["text_key"] * exact + ["bands"] * (near is not None)
    members = [
        row
        | {"doc": unit << 32 | i, "priority": unit % 2, "bands": bands_of(row["sig8"])}
        | ({"quality": None} if quality == "none" else {})
        for unit, unit_rows in enumerate(rows)
        for i, row in enumerate(unit_rows)
        if row["keep"] and row["refined"]
    ]
    component = reference.raw_components(members, columns)
    members = [row | {"component": component[row["doc"]]} for row in members if row["doc"] in component]
    ids = {row["doc"]: row["id"] for row in members}
    least = {root: min(row["id"] for row in members if row["component"] == root) for root in component.values()}
    decided: dict[str, list[dict[str, Any]]] = {f"u{unit}": [] for unit in range(len(rows))}
    for row in reference.resolve(members, url, exact, near):
        unit = row["doc"] >> 32
        winner = row["duplicate_of"]
        decided[f"u{unit}"].append(
            {
                "unit": unit,
                "row": row["doc"] & 0xFFFFFFFF,
                "component": least[component[row["doc"]]],
                "duplicate_of": None if winner is None else ids[winner],
                **{name: row[name] for name in ("kind", "jaccard", "cluster_size")},
            }
        )
    return decided


@settings(deadline=None, max_examples=60)
@given(
    units,
    settings_of_dedup,
    st.sampled_from([1, 2, 64]),
    st.sampled_from([1, 2, 16]),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_decisions_are_those_of_the_plain_cascade(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[Document]],
    dedup: dict[str, Any] | None,
    key_partitions: int,
    component_partitions: int,
    shared: bool,
    random: Random,
) -> None:
    """Whatever the partitions, the way arrays travel, the order in which payloads arrive, and what comes twice."""
    files = Files(tmp_path_factory.mktemp("run"))
    shape = {"dedup": dedup, "key_partitions": key_partitions, "component_partitions": component_partitions}
    tasks = []
    for number, unit in enumerate(rows):
        write_unit(files, f"u{number}", unit, dedup is not None and dedup["minhash"] != "none")
        spec = shape | {"number": number, "priority": number % 2}
        tasks.append(Task(job="dedup", unit=f"u{number}", fingerprint="f", spec=spec))
    assert decide(random.sample(tasks, len(tasks)), Scratch(files, shared), random) == by_reference(rows, dedup)
