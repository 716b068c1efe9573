"""What every job is made of: tasks, their outputs, and the order in which these are published.

A job turns the run so far into tasks, one a unit. A worker runs `execute(task, files)`, which knows nothing of
Beam: it counts the attempt, lets the job write its outputs, and publishes them, the commit record last. Whoever
dies at any point leaves a unit that is either committed or not there.
"""

import importlib.metadata
import json
import os
import socket
import time
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import pyarrow as pa

from corpusmill.pipeline.plan import SourceFile
from corpusmill.schemas.commits import Commit, commit_name, digest_of, read_commit
from corpusmill.schemas.files import FileInfo, Files
from corpusmill.schemas.parquet import TableWriter
from corpusmill.schemas.recipe import Recipe
from corpusmill.schemas.tables import Table

__all__ = [
    "Job",
    "LaneJob",
    "RunState",
    "Stopwatch",
    "Task",
    "UnitJob",
    "UnitOutputs",
    "attempt_name",
    "committed",
    "fingerprint",
    "require",
    "timing_name",
]

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """One unit of one job, ready to run anywhere that sees the run folder.

    Attributes:
        job: name of the job.
        unit: name of the unit.
        fingerprint: what the commit record will carry; None where only the worker can know it.
        spec: all that the job needs to know, as JSON.
        cost: estimated work in CPU seconds.
    """

    job: str
    unit: str
    fingerprint: str
    spec: dict[str, Any] = field(default_factory=dict)
    cost: float = 0.0

    def encode(self) -> bytes:
        """The task as bytes, the form in which it travels through Beam."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """The inverse of `encode`."""
        return cls(**json.loads(data))


class RunState:
    """What the driver knows: the recipe, the input files, and the commit records of the jobs done so far."""

    def __init__(self, recipe: Recipe, files: Files, inputs: Sequence[SourceFile]) -> None:
        self.recipe = recipe
        self.files = files
        self.inputs = inputs
        self.commits: dict[str, dict[str, Commit]] = {}
        """Commit records by job and unit, units in plan order."""
        self.done: dict[str, set[str]] = {}
        """Units that were done in this run, by job."""


class Job(Protocol):
    """One step from raw dumps to the dataset folder."""

    name: str
    heavy: bool
    """Whether its work is worth the start of worker processes."""
    folders: tuple[str, ...]
    """Where its outputs lie; what no commit record lists there is removed when the job ends."""

    def tasks(self, run: RunState) -> list[Task]:
        """The units of the job, in order, with their fingerprints; runs in the driver."""
        ...


@runtime_checkable
class UnitJob(Job, Protocol):
    """A job whose units know nothing of one another: all but dedup."""

    def work(self, task: Task, files: Files, watch: "Stopwatch") -> None:
        """Do one unit and commit it; runs in a worker."""
        ...


@runtime_checkable
class LaneJob(UnitJob, Protocol):
    """A job some of whose units must not be done at the same time: fetch, for the sake of the servers."""

    def lanes(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """The tasks, in lists that are each done front to back, one task at a time."""
        ...

    def lane(self) -> AbstractContextManager[None]:
        """Holds, in the thread that does a lane, what its tasks share."""
        ...


class Stopwatch:
    """CPU milliseconds by stage.

    Args:
        clock: CPU seconds; by default those of the process, so threads of libraries count.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self.milliseconds: dict[str, float] = defaultdict(float)
        self.started = time.time()
        self._clock = clock

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time of the block to a stage."""
        start = self._clock()
        try:
            yield
        finally:
            self.milliseconds[stage] += (self._clock() - start) * 1e3

    def iterate(self, stage: str, items: Iterator[_T]) -> Iterator[_T]:
        """Add to a stage the time that an iterator takes to produce its items."""
        while True:
            with self(stage):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item


def attempt_name(job: str, unit: str) -> str:
    """Name of the marker that counts how often a unit was begun without an end."""
    return f"attempts/{job}/{unit}.json"


def timing_name(job: str, unit: str) -> str:
    """Name of the file that says where, when and how fast a unit was done; never part of any digest."""
    return f"timings/{job}/{unit}.json"


class UnitOutputs:
    """The outputs of one unit: staged while it runs, published together, the commit record last."""

    def __init__(self, files: Files, job: str, unit: str, watch: Stopwatch) -> None:
        self._files, self._job, self._unit, self._watch = files, job, unit, watch
        self._writers: list[TableWriter] = []
        self._blobs: list[tuple[str, bytes]] = []

    def table(
        self,
        name: str,
        table: Table,
        *,
        extra: pa.Schema | None = None,
        metadata: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> TableWriter:
        """A writer for one table of the unit (options as for `TableWriter`)."""
        writer = TableWriter(self._files, name, table, extra=extra, metadata=metadata, **settings)
        self._writers.append(writer)
        return writer

    def blob(self, name: str, data: bytes) -> None:
        """Add a whole file."""
        self._blobs.append((name, data))

    def commit(
        self,
        fingerprint: str,
        counts: Mapping[str, int],
        detail: dict[str, Any] | None = None,
        published: Sequence[FileInfo] = (),
    ) -> Commit:
        """Publish everything.

        Args:
            fingerprint: of the unit.
            counts: for the run report.
            detail: for later jobs.
            published: files that the job has put in place itself.
        """
        name = commit_name(self._job, self._unit)
        if self._files.exists(name):
            self._files.delete(name)
        with self._watch("write"):
            outputs = [*published, *(writer.publish() for writer in self._writers)]
            outputs += [self._files.write_bytes(blob, data) for blob, data in self._blobs]
        commit = Commit(
            job=self._job,
            unit=self._unit,
            fingerprint=fingerprint,
            outputs=outputs,
            counts=dict(sorted(counts.items())),
            detail=detail or {},
        )
        timing = {
            "milliseconds": {stage: round(ms, 3) for stage, ms in sorted(self._watch.milliseconds.items())},
            "seconds": round(time.time() - self._watch.started, 3),
            "ended": round(time.time(), 3),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._files.write_bytes(timing_name(self._job, self._unit), json.dumps(timing).encode())
        commit.publish(self._files)
        return commit

    def discard(self) -> None:
        """Drop what is staged."""
        for writer in self._writers:
            writer.discard()


@contextmanager
def outputs(files: Files, job: str, unit: str, watch: Stopwatch) -> Iterator[UnitOutputs]:
    """The outputs of a unit, discarded when the block fails before `commit`."""
    out = UnitOutputs(files, job, unit, watch)
    try:
        yield out
    except (Exception, KeyboardInterrupt):
        out.discard()
        raise


def fingerprint(job: str, version: int | list[int], settings: Any, inputs: Any, libraries: Sequence[str] = ()) -> str:
    """The identity of a unit's result (DESIGN §3).

    Args:
        job: name of the job.
        version: its STAGE_VERSION and those of its stages, raised whenever the output for the same input changes.
        settings: exactly the recipe fields that it reads.
        inputs: digests of what it reads.
        libraries: distributions that shape its output.
    """
    versions = {name: importlib.metadata.version(name) for name in libraries}
    versions["unicode"] = unicodedata.unidata_version
    return digest_of([job, version, settings, inputs, versions])


def committed(task: Task, files: Files) -> Commit | None:
    """The commit record of a task; None where it is not done, or was done under another fingerprint."""
    commit = read_commit(files, task.job, task.unit)
    return commit if commit is not None and commit.fingerprint == task.fingerprint else None


def require(files: Files, job: str, unit: str) -> Commit:
    """The commit record of a unit that must be done by now. Raises FileNotFoundError."""
    commit = read_commit(files, job, unit)
    if commit is None:
        raise FileNotFoundError(f"{commit_name(job, unit)} is not there; run the job {job} first")
    return commit
