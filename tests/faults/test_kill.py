"""A run that is killed at any step and started again ends as if nothing had happened, and does no unit twice.

The hook of the file layer raises past every handler before and after each publish and before each delete, which is
what a kill looks like from outside. Here each job and kind of step is tried once on a run of one small unit; the
slow tests (test_kill_slow.py) try every step, with real SIGKILLs.
"""

import contextlib
from collections.abc import Iterator

import pytest

from corpusmill.pipeline.jobs import JOBS
from corpusmill.pipeline.run import run
from corpusmill.schemas import files as layer
from corpusmill.schemas.files import Files, StagedFile
from corpusmill.schemas.recipe import Recipe
from tests.corpus import prose, write_jsonl
from tests.digest import contents


class Killed(BaseException):
    """Stops the process as far as the code can tell."""


Event = tuple[str, str]


class Killer:
    """Records the steps of a run and, once it is told a step, raises from there on at every step."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.events = at, list[Event]()

    def __call__(self, step: str, name: str) -> None:
        if name == "lease.json":
            return
        self.events.append((step, name))
        if self.at is not None and len(self.events) > self.at:
            raise Killed(f"{step} {name}")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("corpus")
    texts = prose("en")[:8] + prose("zh")[:8]
    rows = [{"text": "\n".join(texts[i : i + 3]), "url": f"http://a.example/{i}"} for i in range(12)]
    write_jsonl(folder / "rows.jsonl", [*rows, rows[0], {"text": ""}])
    return Recipe.model_validate(
        {
            "sources": [{"kind": "jsonl", "name": "rows", "paths": [str(folder / "rows.jsonl")]}],
            "tokenizer": {"train": {"vocab_size": 512}},
            "shards": {"splits": {"validation": 0.2}},
        }
    )


def record(recipe: Recipe, out: str, at: int | None = None) -> list[Event]:
    """The steps of a run; with `at`, the run is killed there."""
    killer = Killer(at)
    layer.set_hook(killer)
    try:
        with closed_by_the_system():
            run(recipe, out)
        assert at is None, "the run was not killed"
    except Killed:
        pass
    finally:
        layer.set_hook(None)
    return killer.events


@contextlib.contextmanager
def closed_by_the_system() -> Iterator[None]:
    """A killed process closes nothing; its operating system does."""
    staged: list[StagedFile] = []
    stage = Files.stage

    def remember(files: Files, name: str) -> StagedFile:
        staged.append(stage(files, name))
        return staged[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "stage", remember)
        try:
            yield
        finally:
            for file in staged:
                file.close()
                file.write = lambda data: memoryview(data).nbytes  # Parquet writers want to write a footer as they go


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], dict[str, str]]:
    out = str(tmp_path_factory.mktemp("whole") / "run")
    return record(recipe, out), contents(out)


JOB_OF = {
    "raw": "fetch",
    "documents": "extract",
    "rejects": "extract",
    "refined": "refine",
    "signatures": "refine",
    "verdicts": "select",
    "tmp": "dedup",
    "duplicates": "dedup",
    "clusters": "dedup",
    "tokenizer": "tokenizer",
    "ledger": "close",
}


def kind_of(event: Event) -> tuple[str, str, str] | None:
    """(step, commit or output, job) of an event; None for the markers, which only the slow tests try one by one."""
    step, name = event
    top, _, rest = name.partition("/")
    if top == "commits":
        return step, "commit", rest.partition("/")[0]
    if top == "dataset":
        return step, "output", "shard" if rest.startswith("data/") else "manifest"
    return (step, "output", JOB_OF[top]) if top in JOB_OF else None


def test_every_job_has_its_steps(whole: tuple[list[Event], dict[str, str]]) -> None:
    kinds = {kind_of(event) for event in whole[0]}
    for job in JOBS:
        for step in ("publish", "published"):
            assert (step, "commit", job) in kinds
            assert (step, "output", job) in kinds or job == "fetch", "local files are read in place"


@pytest.mark.parametrize("number", range(2))
def test_killed_at_each_kind_of_step(
    recipe: Recipe, whole: tuple[list[Event], dict[str, str]], tmp_path_factory: pytest.TempPathFactory, number: int
) -> None:
    events, expected = whole
    first_of_kind: dict[tuple[str, str, str], int] = {}
    for position, event in enumerate(events):
        if (kind := kind_of(event)) is not None:
            first_of_kind.setdefault(kind, position)
    for kind, position in list(first_of_kind.items())[number::2]:
        out = str(tmp_path_factory.mktemp("killed") / "run")
        before = record(recipe, out, at=position)
        after = record(recipe, out)
        assert contents(out) == expected, f"killed at {kind}"
        committed = {name for step, name in before if step == "published" and name.startswith("commits/")}
        # the last event is where the process ended: what was being published then may or may not be there
        again = {name for step, name in after if step == "published" and name in committed}
        assert not again, f"killed at {kind}: done twice"
