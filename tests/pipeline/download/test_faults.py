"""Whatever a server does, in whatever order: what is downloaded in the end is one version of the file, never a mixture."""

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corpusmill.pipeline.download.client import Client
from corpusmill.pipeline.download.transfer import download, download_spans, remove_part
from corpusmill.schemas.errors import SourceError
from corpusmill.schemas.recipe import Fetch
from tests.pipeline.download.server import Answer, Server, Step, cut, status

VERSIONS = [random.Random(n).randbytes(size) for n, size in enumerate([150_000, 150_000, 40_000, 200_000])]
SPANS = [(0, 10_000), (10_000, 5), (20_000, 19_000), (39_990, 10)]

DATES = [f"Sun, 01 Nov 2026 06:00:0{n} GMT" for n in range(len(VERSIONS))]
VALIDATORS: dict[str, Callable[[int], dict[str, str | None]]] = {
    "etag": lambda n: {"etag": f'"{n}"', "modified": None},
    "date": lambda n: {"etag": 'W/"0"', "modified": DATES[n]},
    "none": lambda n: {"etag": None, "modified": None},
}


def without_condition(answer: Answer) -> None:
    del answer.headers["If-Range"]
    answer.behave()


def without_range(answer: Answer) -> None:
    answer.file = replace(answer.file, ranges=False)
    answer.behave(cut=30_000)


def another_range(answer: Answer) -> None:
    content = answer.file.content
    answer.send(206, content[7:], {"content-range": f"bytes 7-{len(content) - 1}/{len(content)}"})


FAULTS: dict[str, Step] = {
    "behaves": lambda answer: answer.behave(),
    "cut early": cut(10),
    "cut late": cut(25_000),
    "no range": status(416),
    "ignores If-Range": without_condition,
    "ignores Range": without_range,
    "sends another range": another_range,
}

scripts = st.lists(
    st.tuples(st.sampled_from([None, *range(len(VERSIONS))]), st.sampled_from(sorted(FAULTS))), min_size=3, max_size=10
).map(lambda script: [*script, *[(None, "behaves")] * 3])
"""Runs: the version that the file changes to before it, and what the server does."""


@pytest.fixture(scope="module")
def lasting() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """No try within a run follows on a failed one: each is a run of its own, or they would hide what a rerun does."""
    with Client(Fetch(requests_per_second=1000, retries=0), pause=lambda seconds: None) as client:
        yield client


@settings(max_examples=50, deadline=None)
@given(script=scripts, validators=st.sampled_from(sorted(VALIDATORS)), framing=st.sampled_from(["length", "chunked"]))
def test_a_file_is_of_one_version(
    lasting: Server, client: Client, scratch: Path, script: list[tuple[int | None, str]], validators: str, framing: str
) -> None:
    part = scratch / "a.part"
    file = lasting.add("/a", VERSIONS[0], framing=framing, **VALIDATORS[validators](0))
    for version, fault in script:
        if version is not None:
            file.content = VERSIONS[version]
            file.etag, file.modified = VALIDATORS[validators](version).values()
        file.steps = [FAULTS[fault], status(503)]  # and the run ends
        complete = False
        with contextlib.suppress(SourceError):
            complete = download(client, [lasting.url("/a")], part).n_bytes == len(file.content)
            assert part.read_bytes() == file.content
            remove_part(part)
    assert complete


@settings(max_examples=30, deadline=None)
@given(script=scripts)
def test_stretches_are_of_one_version(
    lasting: Server, client: Client, scratch: Path, script: list[tuple[int | None, str]]
) -> None:
    part = scratch / "b.part"
    wanted = [b"".join(content[offset : offset + length] for offset, length in SPANS) for content in VERSIONS]
    file = lasting.add("/b", VERSIONS[0], etag='"0"')
    for version, fault in script:
        if version is not None:
            file.content, file.etag = VERSIONS[version], f'"{version}"'
        file.steps = [FAULTS[fault], status(503)]  # and the run ends
        complete = False
        with contextlib.suppress(SourceError):
            complete = download_spans(client, [lasting.url("/b")], SPANS, part, gap=0).n_bytes > 0
            assert part.read_bytes() in wanted
            remove_part(part)
    assert complete
